#!/usr/bin/env bash
# Installs the services, as root: deploy/systemd/install.sh [--root DIR] [--prefix DIR] [--env FILE]
#
# --root DIR     the tree to install into (/); nothing is started there
# --prefix DIR   where the repository lies on that machine (this repository, else /opt/atft)
# --env FILE     becomes /etc/atft/atft.env if there is none (deploy/atft.env.example, with the socket of Debian's PostgreSQL)
#
# May be run again, after every upgrade: units are brought up to date, the environment file and the data stay.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd -P)
root='' prefix=$(dirname -- "$(dirname -- "$here")") environment='' example=$here/../atft.env.example
debians='postgresql+psycopg2:///atft?host=/run/postgresql'
say() { echo "install.sh: $*"; }
fail() { echo "install.sh: $*" >&2; exit 2; }

while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || fail "$1 needs a value"
    case $1 in
        --root) root=${2%/} ;;
        --prefix) prefix=${2%/} ;;
        --env) environment=$2 ;;
        *) fail "$1 is unknown: --root, --prefix or --env" ;;
    esac
    shift 2
done
case $prefix in
    /home/* | /root | /root/*) fail "the services do not see $prefix (ProtectHome): let the repository lie in /opt/atft" ;;
    *[!A-Za-z0-9/._-]* | "") fail "the path of the repository, $prefix, holds more than letters, digits and /._-" ;;
esac
[ -z "$environment" ] || [ -f "$environment" ] || fail "$environment is not there: name the environment file with --env"

units=$root/etc/systemd/system
install -d "$units/atft-.service.d" "$root/usr/lib/sysusers.d"
install -d -m 0711 "$root/etc/atft" # the services find their own files in it (ray-token), and may not look around
for path in "$here"/*.service "$here"/*.timer "$here"/*.target "$here"/atft-.service.d/*.conf; do
    target=$units/${path#"$here"/}
    sed "s|/opt/atft|$prefix|g" "$path" >"$target.new"
    chmod 0644 "$target.new"
    mv "$target.new" "$target"
done
install -m 0644 "$here/atft.sysusers" "$root/usr/lib/sysusers.d/atft.conf"
systemd-sysusers ${root:+--root="$root"} atft.conf

# systemd reads it as root and hands it on: nobody else needs to see the keys.
if [ -e "$root/etc/atft/atft.env" ]; then
    chmod 0600 "$root/etc/atft/atft.env"
else
    install -m 0600 "${environment:-$example}" "$root/etc/atft/atft.env"
    [ -n "$environment" ] || sed -i "s|^ATFT_PG_URL=.*|ATFT_PG_URL=\"$debians\"|" "$root/etc/atft/atft.env"
    say "/etc/atft/atft.env is new: look through it before you start anything"
fi

# Places other than /var/lib/atft must be named to systemd, which shows the services a disk that they may only read.
value() { sed -n "s/^$1=[\"']\{0,1\}\([^\"']*\).*/\1/p" "$root/etc/atft/atft.env" | tail -n 1; }
places=
for name in DAGSTER_HOME ATFT_DATA ATFT_CACHE ATFT_LOCKS; do
    place=$(value "$name")
    case $place in
        "" | *://* | /var/lib/atft | /var/lib/atft/* | /tmp) ;;
        /home/* | /root | /root/*) fail "$name is $place, which the services do not see (ProtectHome): choose another place" ;;
        /*) places="$places $place" ;;
        *) fail "$name is $place: give the whole path" ;;
    esac
done
if [ -n "$places" ]; then
    printf '# written by install.sh, from /etc/atft/atft.env\n[Service]\nReadWritePaths=%s\n' "${places# }" \
        >"$units/atft-.service.d/places.conf"
    say "the services may write to${places}; they must be there, and user atft must own them"
else
    rm -f "$units/atft-.service.d/places.conf"
fi

if [ -n "$root" ]; then
    say "installed in $root"
elif [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    say "installed; start: systemctl enable --now atft.target"
else
    say "installed; systemd does not run here"
fi
