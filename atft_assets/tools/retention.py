"""`python -m atft_assets.tools.retention`: what is old and no longer needed, and with `--yes`, away with it.

It lists Dagster runs (with their events and compute logs), run directories, sets of baselines, panels and what `mend`
put aside: a line each with the reason and the size. Without `--yes` nothing is changed. Of a data root in a bucket it
lists what tables left behind, and leaves run directories and panels alone.
"""

import argparse
import os
import sys
from pathlib import Path

import dagster as dg

from atft_assets.failures import Refusal
from atft_assets.operations.bucket_files import LEFT_ALONE
from atft_assets.operations.going import table
from atft_assets.operations.retention import COMMAND, DAYS, KEEP_RUNS, carry_out, plan
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store
from atft_model.interchange.disk import DiskError, keep_private


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 if it was done or shown, 1 if it cannot be, 2 if there is no DAGSTER_HOME."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--days", type=_days, default=DAYS, help="nothing younger goes (default: %(default)s)")
    parser.add_argument(
        "--keep-runs", type=_number, default=KEEP_RUNS,
        help="of each fold and phase, so many of the newest finished runs stay (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--history-only", action="store_true", help="Dagster's history alone, nothing of the data root")
    parser.add_argument("--yes", action="store_true", help="remove it; without this option it is only listed")
    given = parser.parse_args(arguments)
    if not os.environ.get("DAGSTER_HOME"):
        print("DAGSTER_HOME is not set, so there is no history to look at: . ./env.sh", file=sys.stderr)
        return 2
    keep_private()
    try:
        store = Store(root=Settings.from_env().data_root)
        with dg.DagsterInstance.get() as instance:
            return _run(instance, store, given)
    except (Refusal, SettingsError, DiskError, dg.DagsterError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(instance: dg.DagsterInstance, store: Store, given: argparse.Namespace) -> int:
    found = plan(instance, store, given.days, given.keep_runs, folders_go=not given.history_only)
    chosen = found.history if given.history_only else found.everything
    print("\n".join(table(chosen)))
    if store.remote and not given.history_only:
        print(f"\n{LEFT_ALONE}.")
    if not chosen:
        return 0
    if not given.yes:
        print(f"\nNothing was removed. To remove it: {' '.join([COMMAND, *_options(given), '--yes'])}")
        return 0
    gone, won = carry_out(instance, store, chosen, lambda line: print(line, file=sys.stderr))
    print(f"\n{len(gone)} of {len(chosen)} removed, {won / 1e6:.1f} MB won in {Path(instance.root_directory)} and data")
    return 0


def _options(given: argparse.Namespace) -> list[str]:
    """The options that were given, for the line that does it."""
    options = [] if given.days == DAYS else [f"--days {given.days}"]
    options += [] if given.keep_runs == KEEP_RUNS else [f"--keep-runs {given.keep_runs}"]
    return [*options, "--history-only"] if given.history_only else options


def _days(text: str) -> int:
    if (number := _number(text)) < 1:
        raise argparse.ArgumentTypeError("at least one day: what is younger may be in use")
    return number


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
