#!/usr/bin/env bash
# Runs a command as the services run, with their user, variables and limits: deploy/systemd/run.sh COMMAND...
#
# As root, e.g. deploy/systemd/run.sh python -m atft_assets.tools.doctor, or deploy/systemd/run.sh dagster run list.
# Programs of .venv come first. Its exit code is the command's; Ctrl-C ends it.
set -euo pipefail

[ $# -gt 0 ] || { echo "run.sh: say what to run, e.g. python -m atft_assets.tools.doctor" >&2; exit 2; }
prefix=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." && pwd -P)
# the name begins with atft-, so that the command has what all atft-*.service have in common
options=(--quiet --wait --collect "--unit=atft-by-hand-$$" --service-type=exec)
if [ -t 0 ] && [ -t 1 ]; then options+=(--pty); else options+=(--pipe); fi
exec systemd-run "${options[@]}" /usr/bin/env "PATH=$prefix/.venv/bin:/usr/local/bin:/usr/bin:/bin" \
    "PYTHONPATH=$prefix" DAGSTER_MODULE_NAME=atft_assets.definitions "$@"
