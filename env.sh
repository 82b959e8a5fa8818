# Sourced, not run:  . ./env.sh   (bash, zsh or sh; from any folder: . /path/to/env.sh)
# Activates the virtual environment and names to Dagster its home and its code. What a person exported stays.

# Where this file is: each shell has its own way to say it; dash has none, so ask the kernel which file it is reading.
if [ -n "${BASH_VERSION:-}" ]; then
    _atft_file=${BASH_SOURCE}
elif [ -n "${ZSH_VERSION:-}" ]; then
    eval '_atft_file=${(%):-%x}'
else
    _atft_file=./env.sh
    if [ -r /proc/self/stat ]; then
        read -r _atft_pid _atft_rest < /proc/self/stat
        for _atft_fd in /proc/"$_atft_pid"/fd/*; do
            case $(readlink "$_atft_fd" 2>/dev/null) in */env.sh) _atft_file=$(readlink "$_atft_fd") ;; esac
        done
        unset _atft_pid _atft_rest _atft_fd
    fi
fi
_atft_root=$(CDPATH='' cd -- "$(dirname -- "$_atft_file")" && pwd -P)
unset _atft_file

if [ ! -f "$_atft_root/dagster.yaml" ]; then
    echo "env.sh: cannot tell where the repository is; source it from its folder: cd <repository> && . ./env.sh" >&2
    unset _atft_root
    return 1
fi
if [ ! -f "$_atft_root/.venv/bin/activate" ]; then
    echo "env.sh: no virtual environment in $_atft_root/.venv; run 'make setup' there first" >&2
    unset _atft_root
    return 1
fi
case "${VIRTUAL_ENV:-}:$PATH:" in
    "$_atft_root/.venv:"*":$_atft_root/.venv/bin:"* | "$_atft_root/.venv:$_atft_root/.venv/bin:"*) ;;
    *) . "$_atft_root/.venv/bin/activate" ;;
esac

# The `dagster` of bin/ stands before the environment's own.
case "$PATH:" in
    "$_atft_root/bin:"*) ;;
    *) export PATH="$_atft_root/bin:$PATH" ;;
esac

export DAGSTER_MODULE_NAME="${DAGSTER_MODULE_NAME:-atft_assets.definitions}"
export DAGSTER_DISABLE_TELEMETRY="${DAGSTER_DISABLE_TELEMETRY:-yes}"
# Dagster announces its beta parameters and its next command line at every start; errors should be what one reads.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore:Parameter \`,ignore:Function \`,ignore:Class \`}"
export ATFT_DATA="${ATFT_DATA:-$_atft_root/data}"
case "$ATFT_DATA" in
    *://* | /*) ;;
    "~/"*) ATFT_DATA="$HOME/${ATFT_DATA#*/}" ;;
    *) ATFT_DATA="$PWD/$ATFT_DATA" ;; # it stays the same root when the folder is changed
esac

# Dagster's history tells of the tables of one data root, so its home lies in that root, or, as SQLite needs a disk, beside
# the code for a bucket. A home that was exported stays; one that this file derived follows ATFT_DATA.
case "${DAGSTER_HOME:-}" in
    "" | "${ATFT_DERIVED_HOME:-}" | "$_atft_root/.dagster_home") _atft_derive=yes ;;
    *) _atft_derive= ;;
esac
if [ -n "$_atft_derive" ]; then
    case "$ATFT_DATA" in
        file://*) DAGSTER_HOME="${ATFT_DATA#file://}" && DAGSTER_HOME="${DAGSTER_HOME%/}/.dagster_home" ;;
        *://*) DAGSTER_HOME="$_atft_root/.dagster_homes/$(printf %s "$ATFT_DATA" | tr -c 'A-Za-z0-9.-' _)" ;;
        *) DAGSTER_HOME="${ATFT_DATA%/}/.dagster_home" ;;
    esac
    export DAGSTER_HOME
    # Until version 0.2 it lay in the repository, whatever the data root: it is moved once, unless something uses it.
    if [ -d "$_atft_root/.dagster_home/history" ] && [ ! -e "$DAGSTER_HOME" ]; then
        (cd "$_atft_root" && .venv/bin/python -m atft_assets.tools.home --adopt "$_atft_root/.dagster_home") ||
            DAGSTER_HOME="$_atft_root/.dagster_home"
    fi
    export ATFT_DERIVED_HOME="$DAGSTER_HOME"
fi
# What cannot be made is said by the first command; reading a data root needs no home.
if (umask 077 && mkdir -p "$DAGSTER_HOME") 2>/dev/null && [ ! -e "$DAGSTER_HOME/dagster.yaml" ]; then
    # A link, so that an edit of dagster.yaml counts at once; a dagster.yaml of one's own is left alone.
    ln -sf "$_atft_root/dagster.yaml" "$DAGSTER_HOME/dagster.yaml" 2>/dev/null || :
fi
unset _atft_root _atft_derive
