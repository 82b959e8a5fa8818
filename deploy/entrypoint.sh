#!/usr/bin/env bash
# What a container does: entrypoint.sh code|webserver|view|daemon|metrics, or any command.
#
# Secrets come as files (JQUANTS_API_KEY_FILE=/run/secrets/…), for an environment shows in `inspect`; Dagster and libpq
# read the environment alone, so the content is exported here, to this process and its children.
set -euo pipefail

fail() { echo "entrypoint.sh: $*" >&2; exit 2; }

for name in JQUANTS_API_KEY ATFT_ALERT_URLS ATFT_SANDBOX_KEY PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    file=${name}_FILE
    [ -n "${!file:-}" ] || continue
    [ -z "${!name:-}" ] || fail "both $name and $file are set: take one away"
    [ -r "${!file}" ] || fail "$file names ${!file}, which user $(id -u) cannot read"
    value=$(<"${!file}") # without the line end
    export "$name=$value"
    unset value "$file"
done

root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
export ATFT_PYTHON=${ATFT_PYTHON:-$root/.venv/bin/python}
export ATFT_CODE_HOST=${ATFT_CODE_HOST:-127.0.0.1} ATFT_CODE_PORT=${ATFT_CODE_PORT:-4266}
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore:Parameter \`,ignore:Function \`,ignore:Class \`}"
export ATFT_LOG_FORMAT=${ATFT_LOG_FORMAT:-json}
host=${ATFT_UI_HOST:-127.0.0.1} format=$ATFT_LOG_FORMAT role=${1:-}
workspace=$root/deploy/workspace.grpc.yaml
umask 077

case $role in
    code) ;;
    *) unset ATFT_PG_PATIENCE ;; # for runs alone: a patient webserver would hang every browser
esac
case $role in
    code | webserver | view | daemon | metrics) unset DAGSTER_MODULE_NAME ;; # refused beside a workspace file
esac
# the webserver may be up before the code server has prepared the home
instance() {
    mkdir -p "$DAGSTER_HOME"
    [ -e "$DAGSTER_HOME/dagster.yaml" ] ||
        ln -sfn "$root/$([ -n "${ATFT_PG_URL:-}" ] && echo deploy/dagster.postgres.yaml || echo dagster.yaml)" "$DAGSTER_HOME/dagster.yaml"
}
# Numbers of processes mean nothing outside this container, so the reaper looks from inside, every five minutes.
reaping() {
    while sleep 300; do "$ATFT_PYTHON" -m atft_assets.tools.reaper || true; done
}

case $role in
    code)
        "$root/deploy/prepare.sh"
        reaping &
        exec "$ATFT_PYTHON" -m dagster code-server start --host "$ATFT_CODE_HOST" --port "$ATFT_CODE_PORT" \
            --module-name atft_assets.definitions --location-name atft --log-format "$format" \
            --use-python-environment-entry-point --inject-env-vars-from-instance
        ;;
    webserver | view)
        instance
        options=(--port "${ATFT_UI_PORT:-3000}")
        [ "$role" = webserver ] || options=(--port "${ATFT_VIEW_PORT:-3001}" --read-only --path-prefix /view)
        # shellcheck disable=SC2086 # one word a name
        exec "$ATFT_PYTHON" -m atft_assets.tools.webserver --workspace "$workspace" --host "$host" "${options[@]}" \
            --allow-host ${ATFT_UI_NAMES:-}
        ;;
    daemon)
        instance
        exec "$root/deploy/await_code.sh" "$ATFT_PYTHON" -m dagster._daemon run --workspace "$workspace" \
            --log-format "$format"
        ;;
    metrics)
        instance
        exec "$ATFT_PYTHON" -m atft_assets.operations.metrics --host "$host" --port "${ATFT_METRICS_PORT:-9464}"
        ;;
    "") fail "say what to do: code, webserver, view, daemon, metrics, or a command" ;;
    *) exec "$@" ;;
esac
