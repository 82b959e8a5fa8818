# Sourced, not run:  . ./env.sh   (bash, zsh or sh; from any folder: . /path/to/env.sh)
# Activates the virtual environment and names to Dagster its home and its code. What is already exported stays.

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

export DAGSTER_MODULE_NAME="${DAGSTER_MODULE_NAME:-atft_assets.definitions}"
export DAGSTER_DISABLE_TELEMETRY="${DAGSTER_DISABLE_TELEMETRY:-yes}"
export DAGSTER_HOME="${DAGSTER_HOME:-$_atft_root/.dagster_home}"
export ATFT_DATA="${ATFT_DATA:-$_atft_root/data}"
# Dagster announces its beta parameters and its next command line at every start; errors should be what one reads.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore:Parameter \`,ignore:Function \`,ignore:Class \`}"
mkdir -p "$DAGSTER_HOME"
# A link, so that an edit of dagster.yaml counts at once; a dagster.yaml of one's own is left alone.
[ -e "$DAGSTER_HOME/dagster.yaml" ] || ln -sf "$_atft_root/dagster.yaml" "$DAGSTER_HOME/dagster.yaml"
unset _atft_root

# `dagster dev` hands its services a workspace file, and they refuse to start when DAGSTER_MODULE_NAME names a module as
# well (they then hang without a word). The module it needs stands in pyproject.toml.
dagster() {
    if [ "${1:-}" = dev ]; then
        (unset DAGSTER_MODULE_NAME && command dagster "$@")
    else
        command dagster "$@"
    fi
}
