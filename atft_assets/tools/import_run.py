"""Runs that were trained elsewhere become materializations of their phases: `python -m atft_assets.tools.import_run`.

It only finds out of which phase each directory is, and starts the ordinary Dagster command with `import_run` in the
config of those assets; what is checked, copied and published is theirs (`atft_assets.training.importing`).
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from atft_assets.failures import Refusal
from atft_assets.training.lanes import lane_of
from atft_model.interchange.errors import InterchangeError, RunError
from atft_model.interchange.phases import PHASES
from atft_model.interchange.pointers import resolve
from atft_model.interchange.run import read_finished

MODULE = "DAGSTER_MODULE_NAME"


class Twice(Refusal):
    """Two directories of one phase and fold."""


def commands(directories: Sequence[Path]) -> Iterator[list[str]]:
    """A Dagster command a fold; its phases are imported in the order of the curriculum.

    Raises:
        RunError: a directory holds no finished run.
        Twice: only one run of a phase can be the newest.
    """
    folds: dict[str, dict[int, Path]] = {}
    for given in directories:
        folder = resolve(given.expanduser().absolute())
        record = read_finished(folder)
        if record.phase not in range(len(PHASES)):
            raise RunError(f"{folder} is of phase {record.phase}, which there is not")
        before = folds.setdefault(record.fold.name, {}).setdefault(record.phase, folder)
        if before != folder:
            raise Twice(
                f"{before} and {folder} are both of phase {record.phase} of the fold {record.fold.name}, and one of "
                "them can be its newest: import the other one first, by a command of its own"
            )
    for fold, found in folds.items():
        lane = lane_of(fold)
        assets = {lane.phase(PHASES[phase]): folder for phase, folder in sorted(found.items())}
        config = {"ops": {asset: {"config": {"import_run": str(folder)}} for asset, folder in assets.items()}}
        module = [] if os.environ.get(MODULE) else ["--module-name", "atft_assets.definitions"]
        yield [*shlex.split(lane.command(list(assets), fold)), *module, "--config-json", json.dumps(config)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Import them; 0 if all were published, 2 if a directory is no finished run, else Dagster's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m atft_assets.tools.import_run",
        description="Take in runs that were trained elsewhere: each is checked as one that was trained here, copied to "
        "ATFT_DATA/runs, published and recorded as a materialization of its phase. Twice is harmless.",
    )
    parser.add_argument("run", type=Path, nargs="+", help="directory of a finished run; parents may be given along")
    parser.add_argument("--print-commands", action="store_true", help="only print the Dagster commands")
    given = parser.parse_args(arguments)
    try:
        todo = list(commands(given.run))
    except (Refusal, InterchangeError) as error:
        print(f"import_run: {error}", file=sys.stderr)
        return 2
    for command in todo:
        print(f"$ {shlex.join(command)}", flush=True)
        if given.print_commands:
            continue
        if code := subprocess.run([sys.executable, "-m", *command], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
