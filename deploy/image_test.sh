#!/usr/bin/env bash
# Builds the images and runs them as compose.yaml does: read-only, without capabilities, as a user with a number.
# deploy/image_test.sh [TARGET...]    (app and trainer)
#
# ATFT_IMAGE_BASE   an image to build upon, e.g. docker.io/library/python:3.11-slim-bookworm; without it a Debian 12 is
#                   made with debootstrap, so that only the package registries are asked
# ATFT_IMAGE_ROOT   instead, a folder with such a Debian, from an earlier run
#
# Exit code 77: not tried, with the reason. Needs root; Debian: apt-get install buildah podman runc debootstrap catatonit
set -euo pipefail

say() { printf 'image_test.sh: %4ss  %s\n' "$SECONDS" "$*"; }
skip() { echo "image_test.sh: skipped: $*"; exit 77; }
fail() { echo "image_test.sh: FAILED: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "only root can make a Debian and mount its layers"
for program in buildah podman runc; do
    command -v $program >/dev/null || skip "no $program (Debian: apt-get install buildah podman runc debootstrap)"
done
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
targets=("$@")
[ $# -gt 0 ] || targets=(app trainer)

work=$(mktemp -d /var/tmp/atft-image-XXXXXX)
places=(--root "$work/storage" --runroot "$work/run" --storage-driver overlay)
running=
finish() {
    [ -z "$running" ] || podman "${places[@]}" rm -f -t 5 "$running" >/dev/null 2>&1 || true
    buildah "${places[@]}" rmi --all --force >/dev/null 2>&1 || true
    umount "$work/storage/overlay" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

base=${ATFT_IMAGE_BASE:-}
if [ -z "$base" ]; then
    tree=${ATFT_IMAGE_ROOT:-$work/tree}
    if [ ! -d "$tree" ]; then
        command -v debootstrap >/dev/null || skip "no debootstrap, and ATFT_IMAGE_BASE names no image"
        mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[.*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,libgomp1 bookworm "$tree" "$mirror" >"$work/log" ||
            fail "no Debian could be made: $(tail -n 5 "$work/log")"
        say "a Debian 12 by debootstrap"
    fi
    mkdir "$work/context"
    tar -C "$tree" --exclude=./opt/atft --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -cf "$work/context/base.tar" .
    printf 'FROM scratch\nADD base.tar /\n' >"$work/context/Containerfile"
    buildah "${places[@]}" bud --isolation chroot --format docker -q -t localhost/atft-base "$work/context" >"$work/log" 2>&1 ||
        fail "the base: $(tail -n 5 "$work/log")"
    base=localhost/atft-base
    say "the base image"
fi

# How this machine reaches its package index, for the build alone.
index=()
for file in /etc/pip.conf "${PIP_CERT:-}"; do
    [ -z "$file" ] || [ ! -f "$file" ] || index+=(--volume "$file:$file:ro")
done
for name in PIP_CERT PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    [ -z "${!name:-}" ] || index+=(--env "$name=${!name}")
done

init=() # compose.yaml wants one; podman takes catatonit for it
[ ! -x /usr/libexec/podman/catatonit ] || init=(--init)

contained() { # options of `podman run` that compose.yaml gives as well
    podman "${places[@]}" --runtime runc --cgroup-manager cgroupfs run --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
        --no-healthcheck --read-only --tmpfs /tmp --cap-drop all --security-opt no-new-privileges --network none "$@"
}

for target in "${targets[@]}"; do
    image=localhost/atft-$target
    buildah "${places[@]}" bud --isolation chroot --format docker --layers --target "$target" --build-arg BASE="$base" \
        "${index[@]}" -t "$image" -f "$root/deploy/Containerfile" "$root" >"$work/log" 2>&1 ||
        fail "$target: $(tail -n 15 "$work/log")"
    size=$(podman "${places[@]}" image inspect --format '{{.Size}}' "$image")
    say "$target is built: $((size / 1000000)) MB"

    seen=$(contained --rm "$image" bash -c 'id -u; grep CapEff /proc/self/status; touch /opt/atft/x 2>&1 || true') || fail "$target: $seen"
    grep -qx 10001 <<<"$seen" || fail "$target runs as $seen"
    grep -q 'CapEff:.*0000000000000000' <<<"$seen" || fail "$target has capabilities: $seen"
    grep -q 'Read-only file system' <<<"$seen" || fail "$target can be written to: $seen"
    torch=$(contained --rm "$image" python -c 'from importlib.util import find_spec; print(bool(find_spec("torch")))')
    case $target:$torch in
        app:False | trainer:True) ;;
        *) fail "torch in $target: $torch" ;;
    esac
    say "$target: user 10001, no capability, read-only, torch: $torch"

    key=sentinel-$RANDOM$RANDOM # no real one
    printf '%s\n' "$key" >"$work/key"
    chmod 0644 "$work/key"
    running=$(contained -d "${init[@]}" --tmpfs /var/lib/atft:rw,mode=1777 --volume "$work/key:/run/secrets/key:ro" \
        --env JQUANTS_API_KEY_FILE=/run/secrets/key "$image" code)
    answered=
    for _ in $(seq 60); do
        if podman "${places[@]}" --runtime runc --cgroup-manager cgroupfs exec "$running" \
            python -m dagster api grpc-health-check --port 4266 --host 127.0.0.1 >/dev/null 2>&1; then
            answered=yes
            break
        fi
        [ "$(podman "${places[@]}" inspect --format '{{.State.Running}}' "$running")" = true ] || break
        sleep 1
    done
    [ -n "$answered" ] || fail "$target: the code server did not answer: $(podman "${places[@]}" logs "$running" 2>&1 | tail -n 20)"
    if podman "${places[@]}" inspect "$running" | grep -q "$key" || podman "${places[@]}" logs "$running" 2>&1 | grep -q "$key"; then
        fail "$target: the key is in what the engine tells of the container"
    fi
    say "$target: the code server answers; the key is in neither inspect nor logs"
    began=$SECONDS
    podman "${places[@]}" stop -t 90 "$running" >/dev/null
    [ $((SECONDS - began)) -lt 60 ] || fail "$target: the stop took $((SECONDS - began)) s, so the signal does not reach it"
    podman "${places[@]}" rm -f "$running" >/dev/null
    running=
    say "$target: stopped in $((SECONDS - began)) s"
done
say "passed: ${targets[*]}"
