#!/usr/bin/env bash
# A PostgreSQL of one's own, without systemd and without root: deploy/postgres.sh init|start|stop|status|url
#
# ATFT_PG_CLUSTER   its folder: data, log, socket. At most 80 characters, for a socket's path is short
# ATFT_PG_PORT      its port, which names the socket too (5432)
# ATFT_PG_LISTEN    an address to listen on for other machines; by default none, the socket is enough for one machine
# ATFT_PG_PASSWORD_FILE   at init: a file with the password that clients over ATFT_PG_LISTEN give
# ATFT_PG_OS_USER   as whom the server runs when root calls this, for it refuses root (postgres)
# ATFT_PG_BIN       where initdb and pg_ctl are, if they are not found
#
# Over the socket nobody needs a password: PostgreSQL asks the kernel who calls. The role is named like whoever called
# `init`, the database atft.
set -euo pipefail

say() { echo "postgres.sh: $*" >&2; }
fail() { say "$*"; exit 2; }

command=${1:-}
case $command in init | start | stop | status | url) ;; *) fail "say what to do: init, start, stop, status or url" ;; esac

cluster=${ATFT_PG_CLUSTER:-}
[ -n "$cluster" ] || fail "ATFT_PG_CLUSTER is not set: name the folder of the cluster, e.g. /var/lib/atft/postgres"
case $cluster in /*) ;; *) fail "ATFT_PG_CLUSTER is $cluster: give the whole path" ;; esac
[ ${#cluster} -le 80 ] || fail "ATFT_PG_CLUSTER has ${#cluster} characters, and the path of a socket few more: take a shorter one"
port=${ATFT_PG_PORT:-5432}
data=$cluster/data socket=$cluster/socket role=$(id -un)

find_bin() {
    local folder
    for folder in "${ATFT_PG_BIN:-}" $(command -v initdb >/dev/null && dirname "$(command -v initdb)") \
        $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -rV); do
        if [ -n "$folder" ] && [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/createdb" ]; then
            echo "$folder"
            return
        fi
    done
    fail "no initdb: install PostgreSQL (Debian: apt-get install --no-install-recommends postgresql-15), or set ATFT_PG_BIN"
}

# PostgreSQL refuses to run as root; whoever else calls runs it as himself. Its folder is where that user may be.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        local user=${ATFT_PG_OS_USER:-postgres}
        id "$user" >/dev/null 2>&1 || fail "no user $user to run PostgreSQL as: name one in ATFT_PG_OS_USER"
        (cd "$cluster" && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@")
    else
        (cd "$cluster" && exec "$@")
    fi
}

running() { [ -d "$data" ] && as_server "$bin/pg_ctl" -D "$data" status >/dev/null 2>&1; }

start() {
    [ -f "$data/PG_VERSION" ] || fail "there is no cluster in $data: deploy/postgres.sh init"
    if running; then
        say "it runs already"
        return
    fi
    local options="-c listen_addresses='${ATFT_PG_LISTEN:-}' -c port=$port -c unix_socket_directories='$socket'"
    as_server "$bin/pg_ctl" -D "$data" -w -t 60 -l "$cluster/log" -o "$options" start >/dev/null ||
        fail "it does not start; $cluster/log says why: $(tail -n 3 "$cluster/log" 2>/dev/null | tr '\n' ' ')"
}

stop() {
    if running; then
        as_server "$bin/pg_ctl" -D "$data" -w -t 60 -m fast stop >/dev/null || fail "it does not stop; see $cluster/log"
    fi
}

init() {
    [ ! -e "$data" ] || fail "$data is there already; nothing was changed"
    mkdir -p "$socket"
    local word=()
    if [ -n "${ATFT_PG_PASSWORD_FILE:-}" ]; then
        install -m 600 "$ATFT_PG_PASSWORD_FILE" "$cluster/.password" # the server's user must be able to read it
        trap 'rm -f "$cluster/.password"' EXIT
        word=("--pwfile=$cluster/.password")
    fi
    chmod 700 "$cluster"
    if [ "$(id -u)" = 0 ]; then
        chown -R "${ATFT_PG_OS_USER:-postgres}" "$cluster" || fail "no user ${ATFT_PG_OS_USER:-postgres}: set ATFT_PG_OS_USER"
    fi
    as_server "$bin/initdb" -D "$data" -U "$role" -E UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 "${word[@]}" >/dev/null
    start
    "$bin/createdb" -h "$socket" -p "$port" atft
    stop
    say "made in $cluster; start it: deploy/postgres.sh start"
}

bin=$(find_bin)
case $command in
    init) init ;;
    start) start ;;
    stop) stop ;;
    status)
        if ! running; then
            say "it does not run"
            exit 1
        fi
        "$bin/pg_isready" -h "$socket" -p "$port"
        ;;
    url) echo "postgresql+psycopg2://$role@/atft?host=$socket&port=$port" ;;
esac
