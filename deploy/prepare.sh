#!/usr/bin/env bash
# Before the code server starts, as a service or in a container: makes Dagster's home and its tables, and lets the reaper
# look for what the last stop left behind. With ATFT_PG_URL the history is in PostgreSQL, without it in SQLite.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
python=${ATFT_PYTHON:-$root/.venv/bin/python}
fail() { echo "prepare.sh: $*" >&2; exit 2; }

for name in DAGSTER_HOME ATFT_DATA; do
    [ -n "${!name:-}" ] || fail "$name is not set; deploy/atft.env.example says what it is"
done
[ -x "$python" ] || fail "no $python: run make setup in $root, or name the interpreter in ATFT_PYTHON"
unset DAGSTER_MODULE_NAME

if [ -n "${ATFT_PG_URL:-}" ]; then
    instance=$root/deploy/dagster.postgres.yaml
else
    instance=$root/dagster.yaml
fi
umask 077 # logs and history hold what J-Quants forbids to pass on
mkdir -p "$DAGSTER_HOME" || fail "DAGSTER_HOME cannot be made; who runs the services must be able to write there"
# A link, so that an upgrade counts at once. A file of one's own stays.
if [ -L "$DAGSTER_HOME/dagster.yaml" ] || [ ! -e "$DAGSTER_HOME/dagster.yaml" ]; then
    ln -sfn "$instance" "$DAGSTER_HOME/dagster.yaml"
fi
"$python" -m dagster instance migrate >/dev/null || fail "the tables of Dagster cannot be made; what is above says why"
exec "$python" -m atft_assets.tools.reaper
