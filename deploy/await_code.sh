#!/usr/bin/env bash
# Waits until the code server answers, then becomes the command that it is given: deploy/await_code.sh COMMAND...
# The daemon starts so. It looks once at a run that the reaper has ended, in order to start it anew; while there is no
# code it cannot, and after a loss of power the evening would stay undone.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
python=${ATFT_PYTHON:-$root/.venv/bin/python}
[ $# -gt 0 ] || { echo "await_code.sh: say which command to start" >&2; exit 2; }
until "$python" -m dagster api grpc-health-check --host "${ATFT_CODE_HOST:-127.0.0.1}" \
    --port "${ATFT_CODE_PORT:-4266}" >/dev/null 2>&1; do
    sleep 1
done
exec "$@"
