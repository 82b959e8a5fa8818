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
# ATFT_NETNS         folder for logs, token and the hosts' /tmp (default: /var/tmp/atft-netns); its name is that of the
#                    hosts, so that two pairs of them do not get in each other's way
# ATFT_NETNS_SHARED  paths that both hosts see as they are although they lie under /tmp, separated by colons
# ATFT_NETNS_CPUS    CPUs that each host offers (default: 1)
# ATFT_NETNS_SECONDS that Ray may take to come up (default: 180)
# ATFT_NETNS_OWNER   a process with which everything ends, however it ends; none by default
set -euo pipefail

STATE=${ATFT_NETNS:-/var/tmp/atft-netns}
SHARED=${ATFT_NETNS_SHARED:-}
CPUS=${ATFT_NETNS_CPUS:-1}
SECONDS_UP=${ATFT_NETNS_SECONDS:-180}
OWNER=${ATFT_NETNS_OWNER:-}
HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
HEAD=10.77.0.1

space() { echo "$(basename "$STATE")-$1"; }
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
    # two hosts share the cores of one machine, with whatever else it does
    RAY_worker_register_timeout_seconds=300
    RAY_agent_register_timeout_ms=300000
    RAY_DASHBOARD_STARTUP_TIMEOUT_S=300
    set +a
}

boot() {
    local host=$1 place
    place=$(address "$host")
    if [ "$host" = a ]; then
        set -- --head --port=6379 --include-dashboard=true --dashboard-host="$place" --dashboard-port=8265
    else
        set -- --address="$HEAD:6379"
    fi
    # A raylet waits 15 s for its agents to say on which ports they are, and is waited for 30 s, which no variable changes.
    # Most ports it can be told; what ends none the less is tried again, as a unit with Restart= does.
    # shellcheck disable=SC2016
    on "$host" bash -c '
        space=$1
        shift
        for _ in 1 2 3 4 5; do
            "$@" && exit
            for pid in $(ip netns pids "$space"); do [ "$pid" = $$ ] || kill -KILL "$pid" 2> /dev/null; done
            sleep 1
        done' tries "$(space "$host")" \
        ray start --block --node-ip-address="$place" --num-cpus="$CPUS" --num-gpus=0 \
        --dashboard-agent-grpc-port=52365 --dashboard-agent-listen-port=52366 --metrics-export-port=52367 \
        --runtime-env-agent-port=52368 --object-store-memory=100000000 --disable-usage-stats --resources="{\"host_$host\": 1}" "$@" \
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

# Waits until the head counts as many living hosts as are asked for. It is asked over HTTP: `ray list nodes` takes
# seconds of a core each time.
await() {
    # shellcheck disable=SC2016
    ip netns exec "$(space a)" python3 -c '
import json, os, sys, time, urllib.request
url, wanted, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
token = open(os.environ["RAY_AUTH_TOKEN_PATH"]).read().strip()
while time.monotonic() < end:
    try:
        asked = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
        nodes = json.load(urllib.request.urlopen(asked, timeout=10))["data"]["result"]["result"]
        if sum(node["state"] == "ALIVE" for node in nodes) == wanted:
            sys.exit(0)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    time.sleep(0.5)
sys.exit(1)' "http://$HEAD:8265/api/v0/nodes" "$1" "$SECONDS_UP" && return
    echo "netns.sh: Ray did not come up; its logs are $STATE/a/log and $STATE/b/log" >&2
    return 1
}

up() {
    mkdir -p "$STATE/a/tmp" "$STATE/b/tmp"
    chmod 1777 "$STATE/a/tmp" "$STATE/b/tmp"
    [ -s "$STATE/token" ] || (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$STATE/token")
    if [ -n "$OWNER" ]; then
        # shellcheck disable=SC2016
        setsid bash -c 'while kill -0 "$1" 2> /dev/null; do sleep 1; done; [ ! -d "$2" ] || exec "$3" down' \
            watch "$OWNER" "$STATE" "$HERE/netns.sh" > /dev/null 2>&1 < /dev/null &
        disown
        echo $! > "$STATE/watch"
    fi
    for host in a b; do
        ip netns add "$(space "$host")"
    done
    ip link add eth0 netns "$(space a)" type veth peer name eth0 netns "$(space b)"
    for host in a b; do
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
    if [ -s "$STATE/watch" ] && [ "$(cat "$STATE/watch")" != "$$" ]; then
        kill "$(cat "$STATE/watch")" 2> /dev/null || true
    fi
    rm -rf "$STATE"
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    run) environment && host=$2 && shift 2 && on "$host" "$@" ;;
    kill) end "$2" ;;
    boot)
        environment
        boot "$2"
        await 2
        ;;
    cut) ip -n "$(space "$2")" link set eth0 down ;;
    join) ip -n "$(space "$2")" link set eth0 up ;;
    pids) pids "$2" ;;
    *)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
