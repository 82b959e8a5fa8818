#!/usr/bin/env bash
# Builds the images and runs them as compose.yaml does: read-only, without capabilities, as a user with a number, beside a
# PostgreSQL outside that asks for a password. deploy/image_test.sh [TARGET...]    (app and trainer)
#
# ATFT_IMAGE_BASE   an image to build upon, e.g. docker.io/library/python:3.11-slim-bookworm; without it a Debian 12 is
#                   made with debootstrap, so that only the package registries are asked
# ATFT_IMAGE_ROOT   instead, a folder for such a Debian: made if it is not there, and kept for the next time
#
# How this machine reaches its package index is handed to the build alone: pip's configuration and certificates, PIP_…
#
# Exit code 77: not tried, with the reason. Needs root and .venv; Debian: apt-get install buildah podman runc debootstrap
# catatonit postgresql-15
set -euo pipefail

say() { printf 'image_test.sh: %4ss  %s\n' "$SECONDS" "$*"; }
skip() { echo "image_test.sh: skipped: $*"; exit 77; }
fail() { echo "image_test.sh: FAILED: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "only root can make a Debian and mount its layers"
for program in buildah podman runc; do
    command -v $program >/dev/null || skip "no $program (Debian: apt-get install buildah podman runc debootstrap catatonit)"
done
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || skip "no PostgreSQL (Debian: apt-get install postgresql-15)"
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
python=${ATFT_PYTHON:-$root/.venv/bin/python} # asks from outside
[ -x "$python" ] || skip "no $python (make setup)"
targets=("$@")
[ $# -gt 0 ] || targets=(app trainer)

work=$(mktemp -d /var/tmp/atft-image-XXXXXX)
places=(--root "$work/storage" --runroot "$work/run" --storage-driver overlay)
export ATFT_PG_CLUSTER=$work/pg ATFT_PG_LISTEN=127.0.0.1 ATFT_PG_PASSWORD_FILE=$work/secrets/password
containers=()
finish() {
    status=$?
    [ ${#containers[@]} = 0 ] || podman "${places[@]}" --runtime runc --cgroup-manager cgroupfs rm -f -t 5 "${containers[@]}" >/dev/null 2>&1 || true
    [ ! -d "$work/pg/data" ] || "$root/deploy/postgres.sh" stop || true
    buildah "${places[@]}" rmi --all --force >/dev/null 2>&1 || true
    umount "$work/storage/overlay" 2>/dev/null || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

# ── the base ─────────────────────────────────────────────────────────────────────────────────────────────────────
base=${ATFT_IMAGE_BASE:-}
if [ -z "$base" ]; then
    tree=${ATFT_IMAGE_ROOT:-$work/tree}
    if [ ! -e "$tree/usr/bin/python3" ]; then
        command -v debootstrap >/dev/null || skip "no debootstrap, and ATFT_IMAGE_BASE names no image"
        # one of the two files is there
        mirror=$({ sed -n 's/^URIs: *//p; s/^deb \(\[.*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | head -n 1)
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,libgomp1 bookworm "$tree" \
            ${mirror:+"$mirror"} >"$work/log" 2>&1 || fail "no Debian could be made: $(tail -n 5 "$work/log")"
        rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
        say "a Debian 12 by debootstrap"
    fi
    mkdir "$work/context"
    tar -C "$tree" --exclude='./opt/atft/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -cf "$work/context/base.tar" .
    printf 'FROM scratch\nADD base.tar /\n' >"$work/context/Containerfile"
    buildah "${places[@]}" bud --isolation chroot --format docker -q -t localhost/atft-base "$work/context" >"$work/log" 2>&1 ||
        fail "the base: $(tail -n 5 "$work/log")"
    rm -r "$work/context"
    base=localhost/atft-base
    say "the base image"
fi

# How this machine reaches its package index: mounted for the build alone, so none of it stays in the image.
index=()
for path in /etc/pip.conf "${PIP_CERT:-}" "${PIP_FIND_LINKS:-}"; do
    [ ! -e "$path" ] || index+=(--volume "$path:$path:ro")
done
settings=
for name in CERT INDEX_URL EXTRA_INDEX_URL DEFAULT_TIMEOUT TRUSTED_HOST; do
    variable=PIP_$name
    [ -z "${!variable:-}" ] || settings+="$(tr 'A-Z_' 'a-z-' <<<"$name" | sed 's/^default-//') = ${!variable}"$'\n'
done
pip_conf=${PIP_CONFIG_FILE:-$HOME/.config/pip/pip.conf}
if [ -n "$settings" ]; then
    printf '[global]\n%s' "$settings" >"$work/pip.conf"
    pip_conf=$work/pip.conf
fi
[ ! -f "$pip_conf" ] || index+=(--volume "$pip_conf:/root/.config/pip/pip.conf:ro")
[ -z "${PIP_FIND_LINKS:-}" ] || index+=(--build-arg "TORCH_WHEELS=$PIP_FIND_LINKS")

# ── how a container is run ───────────────────────────────────────────────────────────────────────────────────────
init=() # compose.yaml wants one; podman takes catatonit for it
[ ! -x /usr/libexec/podman/catatonit ] || init=(--init)
engine() { podman "${places[@]}" --runtime runc --cgroup-manager cgroupfs "$@"; }
hardened=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --no-healthcheck --read-only --tmpfs /tmp --cap-drop all
    --security-opt no-new-privileges)
alone() { engine run --rm "${hardened[@]}" --network none "$@"; }
free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
grpc_health() { "$python" -W ignore -m dagster api grpc-health-check --host 127.0.0.1 --port "$code_port" >/dev/null 2>&1; }
answers() { "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=10)' "$1" >/dev/null 2>&1; }
daemon_lives() { engine exec "$1" /opt/atft/deploy/entrypoint.sh python -W ignore -m dagster._daemon liveness-check >/dev/null 2>&1; }
await() { # await NAME CONTAINER COMMAND...
    local what=$1 container=$2 end=$((SECONDS + 400))
    shift 2
    until "$@"; do
        [ "$(engine inspect --format '{{.State.Running}}' "$container")" = true ] && [ $SECONDS -lt $end ] ||
            fail "$target: $what did not answer: $(engine logs "$container" 2>&1 | tail -n 20)"
        sleep 1
    done
}

# Starts what its name says, as compose.yaml does but on this machine's loopback; sets `started`.
begin() {
    started=$(engine run -d "${init[@]}" "${hardened[@]}" --network host --shm-size 256m --volume "$state:/var/lib/atft" \
        --volume "$work/secrets:/run/secrets:ro" --env PGPASSWORD_FILE=/run/secrets/password \
        --env ATFT_PG_URL="postgresql+psycopg2://root@127.0.0.1:$ATFT_PG_PORT/$database" --env ATFT_HOST=image-test \
        --env ATFT_CODE_PORT="$code_port" --env ATFT_START=2022-01-04 --env ATFT_END=2022-02-28 "$@")
    containers+=("$started")
}

# ── a PostgreSQL outside ─────────────────────────────────────────────────────────────────────────────────────────
chmod 755 "$work"
mkdir -m 755 "$work/secrets"
key=sentinel-key-$RANDOM$RANDOM$RANDOM password=sentinel-word-$RANDOM$RANDOM$RANDOM # no real ones
printf '%s\n' "$key" >"$work/secrets/key"
printf '%s\n' "$password" >"$work/secrets/password"
chmod 644 "$work"/secrets/*
ATFT_PG_PORT=$(free_port)
export ATFT_PG_PORT
"$root/deploy/postgres.sh" init 2>"$work/log" && "$root/deploy/postgres.sh" start 2>"$work/log" || fail "PostgreSQL: $(<"$work/log")"
sql() { "$(compgen -G '/usr/lib/postgresql/*/bin/psql' | sort -rV | head -n 1)" -q -At -h "$work/pg/socket" -p "$ATFT_PG_PORT" -d "${2:-postgres}" -c "$1"; }

for target in "${targets[@]}"; do
    image=localhost/atft-$target
    buildah "${places[@]}" bud --isolation chroot --format docker --layers --target "$target" --build-arg BASE="$base" \
        "${index[@]}" -t "$image" -f "$root/deploy/Containerfile" "$root" >"$work/log" 2>&1 ||
        fail "$target: $(tail -n 15 "$work/log")"
    size=$(engine image inspect --format '{{.Size}}' "$image")
    say "$target is built: $((size / 1000000)) MB"
    engine image inspect "$image" >"$work/told" && engine history --no-trunc "$image" >>"$work/told"
    ! grep -q -i -e PIP_ -e index-url "$work/told" || fail "$target: the way to the package index is in the image"

    seen=$(alone "$image" bash -c 'id -u; grep -e CapEff -e CapBnd /proc/self/status; touch /opt/atft/x 2>&1 || true') ||
        fail "$target: $seen"
    grep -qx 10001 <<<"$seen" || fail "$target runs as $seen"
    [ "$(grep -c ':.*0000000000000000' <<<"$seen")" = 2 ] || fail "$target has capabilities: $seen"
    grep -q 'Read-only file system' <<<"$seen" || fail "$target can be written to: $seen"
    torch=$(alone "$image" python -c 'from importlib.util import find_spec; print(bool(find_spec("torch")))')
    case $target:$torch in
        app:False | trainer:True) ;;
        *) fail "torch in $target: $torch" ;;
    esac
    say "$target: user 10001, no capability, read-only, torch: $torch"

    if [ "$target" = trainer ]; then
        alone "$image" python -m atft_model bench --no-compare --names 64 --steps 1 --device cpu --threads 2 >"$work/log" 2>&1 ||
            fail "$target: no step of a training: $(tail -n 10 "$work/log")"
        say "$target: trains a step on a synthetic panel"
        mkdir -p "$work/runs"
        alone --volume "$work/runs:/runs:ro" "$image" python -m atft_model info /runs >"$work/log" 2>&1 || status=$?
        grep -q "/runs" "$work/log" || fail "$target: python -m atft_model info: $(tail -n 5 "$work/log")"
    fi

    database=of_$target state=$work/state-$target code_port=$(free_port)
    sql "CREATE DATABASE $database"
    install -d -o 10001 -g 10001 -m 0700 "$state"
    begin --env JQUANTS_BASE_URL= --env JQUANTS_API_KEY_FILE=/run/secrets/key --env ATFT_PG_PATIENCE=900 "$image" code
    code=$started
    await "the code server" "$code" grpc_health
    say "$target: the code server answers gRPC from outside; PostgreSQL took its password from a file"

    if [ "$target" = app ]; then
        ui_port=$(free_port)
        begin --env ATFT_UI_PORT="$ui_port" "$image" webserver
        await webserver "$started" answers "http://127.0.0.1:$ui_port/server_info"
        view_port=$(free_port)
        begin --env ATFT_VIEW_PORT="$view_port" "$image" view
        await view "$started" answers "http://127.0.0.1:$view_port/view/server_info"
        metrics_port=$(free_port)
        begin --env ATFT_METRICS_PORT="$metrics_port" "$image" metrics
        await metrics "$started" answers "http://127.0.0.1:$metrics_port/metrics"
        begin "$image" daemon
        await "the daemon" "$started" daemon_lives "$started"
        say "$target: webserver, view, metrics and daemon answer"
    fi

    for container in "${containers[@]}"; do
        engine inspect "$container" >"$work/told"
        engine logs "$container" >>"$work/told" 2>&1
        ! grep -q -e "$key" -e "$password" "$work/told" || fail "$target: a secret is in what the engine tells of $container"
    done
    ! grep -rqs -e "$key" -e "$password" "$state" || fail "$target: a secret is in $state"
    say "$target: no secret in inspect, logs or state"
    for container in "${containers[@]}"; do
        began=$SECONDS
        engine stop -t 90 "$container" >/dev/null
        took=$((SECONDS - began)) role=$(engine inspect --format '{{index .Config.Cmd 0}}' "$container")
        [ $took -lt 60 ] || fail "$target: $role took $took s to stop, so the signal does not reach it"
        say "$target: $role stopped in $took s"
        engine rm -f "$container" >/dev/null
    done
    containers=()
done
say "passed: ${targets[*]}"
