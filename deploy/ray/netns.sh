#!/usr/bin/env bash
# Two hosts of a Ray cluster on one machine, for tests and for trying out: network namespaces joined by one cable, each
# host with a name and a /tmp of its own, so that nothing is shared by accident. Needs root, ip and unshare (iproute2,
# util-linux), and `ray` on PATH.
#
#   netns.sh up              make both hosts and start Ray on them; says where the Jobs API answers
#   netns.sh run HOST CMD…   run a command on a host (a or b) with Ray's environment
#   netns.sh kill HOST       power loss: SIGKILL to everything on it
#   netns.sh boot HOST       start Ray on it again
#   netns.sh cut HOST        pull the cable; `netns.sh join HOST` puts it back
#   netns.sh pids HOST       the processes on it
#   netns.sh down            end everything and remove it
#
# ATFT_NETNS       folder for logs, token and the hosts' /tmp (default: /var/tmp/atft-netns)
# ATFT_NETNS_SHARED  paths that both hosts see as they are although they lie under /tmp, separated by colons
# ATFT_NETNS_CPUS  CPUs that each host offers (default: 1)
set -euo pipefail

STATE=${ATFT_NETNS:-/var/tmp/atft-netns}
SHARED=${ATFT_NETNS_SHARED:-}
CPUS=${ATFT_NETNS_CPUS:-1}
HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
HEAD=10.77.0.1

space() { echo "atft-$1"; }
address() { [ "$1" = a ] && echo 10.77.0.1 || echo 10.77.0.2; }

# Runs a command on a host: its network, its name, its /tmp; shared paths are mounted into that /tmp again.
on() {
    local host=$1
    shift
    ip netns exec "$(space "$host")" unshare --mount --uts --propagation private bash -ec '
        state=$1 host=$2 shared=$3
        shift 3
        hostname "atft-$host"
        IFS=: read -ra paths <<< "$shared"
        for number in "${!paths[@]}"; do
            mkdir -p "$state/$host/shared/$number"
            mount --bind "${paths[number]}" "$state/$host/shared/$number"
        done
        mount --bind "$state/$host/tmp" /tmp
        for number in "${!paths[@]}"; do
            mkdir -p "${paths[number]}"
            mount --bind "$state/$host/shared/$number" "${paths[number]}"
        done
        exec "$@"' on "$STATE" "$host" "$SHARED" "$@"
}

environment() {
    set -a
    # shellcheck source=ray.env disable=SC1091
    . "$HERE/ray.env"
    RAY_AUTH_TOKEN_PATH=$STATE/token
    set +a
}

boot() {
    local host=$1 place
    place=$(address "$host")
    if [ "$host" = a ]; then
        set -- --head --port=6379 --dashboard-host="$place" --dashboard-port=8265
    else
        set -- --address="$HEAD:6379"
    fi
    on "$host" ray start --block --node-ip-address="$place" --num-cpus="$CPUS" --num-gpus=0 \
        --object-store-memory=100000000 --disable-usage-stats --resources="{\"host_$host\": 1}" "$@" \
        > "$STATE/$host/log" 2>&1 < /dev/null &
    disown
}

pids() { ip netns pids "$(space "$1")" 2> /dev/null || true; }

end() {
    local found
    while found=$(pids "$1") && [ -n "$found" ]; do
        # shellcheck disable=SC2086
        kill -KILL $found 2> /dev/null || true
        sleep 0.1
    done
}

# Waits until the head counts as many living hosts as are asked for.
await() {
    local found
    for _ in $(seq 60); do
        found=$(on a ray list nodes --address "http://$HEAD:8265" --format json --filter state=ALIVE 2> /dev/null || true)
        if [ "$(grep -o '"node_id"' <<< "$found" | wc -l)" = "$1" ]; then
            return
        fi
        sleep 1
    done
    echo "netns.sh: Ray did not come up; its logs are $STATE/a/log and $STATE/b/log" >&2
    return 1
}

up() {
    mkdir -p "$STATE/a/tmp" "$STATE/b/tmp"
    chmod 1777 "$STATE/a/tmp" "$STATE/b/tmp"
    [ -s "$STATE/token" ] || (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$STATE/token")
    for host in a b; do
        ip netns add "$(space "$host")"
    done
    ip link add atft-va type veth peer name atft-vb
    for host in a b; do
        ip link set "atft-v$host" netns "$(space "$host")"
        ip -n "$(space "$host")" link set "atft-v$host" name eth0
        ip -n "$(space "$host")" address add "$(address "$host")/24" dev eth0
        ip -n "$(space "$host")" link set lo up
        ip -n "$(space "$host")" link set eth0 up
    done
    environment
    boot a
    await 1
    boot b
    await 2
    echo "ATFT_RAY_URL=http://$HEAD:8265 ATFT_RAY_TOKEN_PATH=$STATE/token (on host a: netns.sh run a …)"
}

down() {
    for host in b a; do
        end "$host"
        ip netns delete "$(space "$host")" 2> /dev/null || true
    done
    rm -rf "$STATE"
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    run) environment && host=$2 && shift 2 && on "$host" "$@" ;;
    kill) end "$2" ;;
    boot) environment && boot "$2" && await 2 ;;
    cut) ip -n "$(space "$2")" link set eth0 down ;;
    join) ip -n "$(space "$2")" link set eth0 up ;;
    pids) pids "$2" ;;
    *)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
