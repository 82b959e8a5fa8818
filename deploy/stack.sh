#!/usr/bin/env bash
# Dagster on a server, in the foreground: code server, webserver, a second one that can only look (/view), and daemon.
# They stand in one process group with this script and end with it: Ctrl-C or TERM ends all, so does the death of one
# (exit code 1), for whoever watches this script starts all anew. deploy/atft.env.example has the variables.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
python=${ATFT_PYTHON:-$root/.venv/bin/python}
workspace=$root/deploy/workspace.grpc.yaml
goodbye_seconds=40 # a training takes up to twenty to leave its checkpoint behind

say() { echo "stack.sh: $*" >&2; }
fail() { say "$*"; exit 2; }

[ -x "$python" ] || fail "no $python: run make setup, or name the interpreter in ATFT_PYTHON"
for name in DAGSTER_HOME ATFT_DATA ATFT_PG_URL; do
    [ -n "${!name:-}" ] || fail "$name is not set; deploy/atft.env.example says what it is"
done
# A group of its own, so that ending it ends nothing else. A terminal's shell has made one already.
if [ "$(ps -o pgid= -p $$ | tr -d ' ')" != $$ ]; then
    exec setsid "$0" "$@"
fi

export ATFT_CODE_HOST=${ATFT_CODE_HOST:-127.0.0.1} ATFT_CODE_PORT=${ATFT_CODE_PORT:-4266}
export DAGSTER_DISABLE_TELEMETRY=yes PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore:Parameter \`,ignore:Function \`,ignore:Class \`}"
module=${DAGSTER_MODULE_NAME:-atft_assets.definitions}
unset DAGSTER_MODULE_NAME # Dagster's services refuse it beside a workspace file
patience=${ATFT_PG_PATIENCE:-900}
unset ATFT_PG_PATIENCE # for the code server and its runs alone: a patient webserver would hang every browser
host=${ATFT_UI_HOST:-127.0.0.1} port=${ATFT_UI_PORT:-3000} view=${ATFT_VIEW_PORT:-3001}
export ATFT_LOG_FORMAT=${ATFT_LOG_FORMAT:-json} # our own webserver reads it
format=$ATFT_LOG_FORMAT
names=()
for name in ${ATFT_UI_NAMES:-}; do names+=(--allow-host "$name"); done

umask 077 # logs and history hold what J-Quants forbids to pass on
mkdir -p "$DAGSTER_HOME"
[ -e "$DAGSTER_HOME/dagster.yaml" ] || ln -s "$root/deploy/dagster.postgres.yaml" "$DAGSTER_HOME/dagster.yaml"
grep -q PatientPostgresStorage "$DAGSTER_HOME/dagster.yaml" ||
    fail "$DAGSTER_HOME/dagster.yaml is not of a PostgreSQL: remove it (a link to deploy/dagster.postgres.yaml is made), or take another DAGSTER_HOME"
"$python" -m dagster instance migrate >/dev/null || fail "the database cannot be made ready; what is above says why"
"$python" -m atft_assets.tools.reaper

# A script's background job ignores SIGINT, and so would everything that it starts, the trainings too.
start() { env --default-signal=INT,QUIT,TERM,HUP "$@" & }

# The processes of the group but this script, what it asks with, and zombies.
members() {
    ps -o pid=,pgid=,stat=,comm= -A |
        awk -v group=$$ '$2 == group && $1 != group && $3 !~ /^Z/ && $4 !~ /^(ps|awk|sleep|bash)$/ {print $1}'
}

finish() {
    trap '' TERM INT HUP
    local number found end=$((SECONDS + goodbye_seconds))
    for number in TERM KILL; do
        found=$(members)
        # shellcheck disable=SC2086 # words are meant
        [ -z "$found" ] || kill -"$number" $found 2>/dev/null || true
        while [ -n "$(members)" ] && [ $SECONDS -lt $end ]; do sleep 0.2; done
        end=$((SECONDS + 5))
    done
}

trap 'finish; exit 0' TERM INT HUP

start env ATFT_PG_PATIENCE="$patience" "$python" -m dagster code-server start --host "$ATFT_CODE_HOST" \
    --port "$ATFT_CODE_PORT" --module-name "$module" --location-name atft --log-format "$format" \
    --use-python-environment-entry-point --inject-env-vars-from-instance
# for runs alone, which are children of the code server
for name in JQUANTS_API_KEY ATFT_ALERT_URLS AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN; do unset "$name"; done
web=("$python" -m atft_assets.tools.webserver --workspace "$workspace" --host "$host" "${names[@]}")
start "${web[@]}" --port "$port"
start "${web[@]}" --port "$view" --read-only --path-prefix /view
start "$root/deploy/await_code.sh" "$python" -m dagster._daemon run --workspace "$workspace" --log-format "$format"
say "http://$host:$port, to look only http://$host:$view/view; Ctrl-C ends all"

ended=0
wait -n || ended=$?
say "one of the services ended (exit code $ended); ending the others"
finish
exit 1
