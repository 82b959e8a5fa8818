#!/usr/bin/env bash
# Puts the proxy into Debian's nginx, as root: deploy/nginx/install.sh [--root DIR] NAME CERTIFICATE KEY
#
# NAME          by which browsers reach this machine; it also belongs into ATFT_UI_NAMES of the webservers
# CERTIFICATE   file of its certificate (with those of its issuers), KEY its key: copied, the key for root alone
# --root DIR    the tree to install into (/)
#
# May be run again, after an upgrade or with a new certificate; logins stay. Debian's page of welcome is taken away.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd -P)
fail() { echo "nginx/install.sh: $*" >&2; exit 2; }

root=
if [ "${1:-}" = --root ]; then
    [ $# -gt 1 ] || fail "--root needs a value"
    root=${2%/}
    shift 2
fi
[ $# = 3 ] || fail "give a name, the file of its certificate and that of its key"
name=$1 certificate=$2 key=$3
case $name in
    *[!A-Za-z0-9.-]* | "") fail "$name is no name of a machine: letters, digits, dots and hyphens" ;;
esac
for file in "$certificate" "$key"; do
    [ -r "$file" ] || fail "$file cannot be read"
done
[ -d "$root/etc/nginx/conf.d" ] || fail "there is no $root/etc/nginx: apt-get install nginx-light"

folder=$root/etc/nginx/atft
install -d -m 0755 "$folder"
install -m 0644 "$here/proxy_params.conf" "$folder/proxy_params.conf"
sed "s/atft\.example\.org/$name/g" "$here/atft.conf" >"$folder/atft.conf.new"
chmod 0644 "$folder/atft.conf.new"
mv "$folder/atft.conf.new" "$folder/atft.conf"
install -m 0644 "$certificate" "$folder/tls.crt"
install -m 0600 "$key" "$folder/tls.key"
ln -sfn /etc/nginx/atft/atft.conf "$root/etc/nginx/conf.d/atft.conf"
rm -f "$root/etc/nginx/sites-enabled/default"

# nginx reads the logins as a user without rights; nobody else needs to see them.
for logins in operators viewers; do
    [ -e "$folder/$logins" ] || : >"$folder/$logins"
    chmod 0640 "$folder/$logins"
    ! chgrp www-data "$folder/$logins" 2>/dev/null || continue
    echo "nginx/install.sh: no group www-data: let the user of nginx read $folder/$logins" >&2
done
echo "nginx/install.sh: installed; logins: htpasswd -B $folder/operators NAME (and viewers); then: nginx -t && systemctl reload nginx"
