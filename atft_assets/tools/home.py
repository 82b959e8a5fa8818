"""The first use of a Dagster home: `python -m atft_assets.tools.home`, as `bin/dagster`, the reaper and the UI do it.

Two first commands at once would both create the tables of SQLite, and one of them would die of it. So they are created
here, by one process at a time, before anything else opens the home; and the data root it belongs to is noted.

With `--adopt OLD` a home of before, which lay in the repository whatever the data root was, goes to the data root.
"""

import argparse
import os
import sys
from pathlib import Path

import dagster as dg
import psutil
from filelock import FileLock

from atft_assets.home import MARKER, VARIABLE, check_home, opened, owner
from atft_assets.settings import SettingsError, data_root_of
from atft_model.interchange.disk import DiskError, keep_private, writing
from atft_model.interchange.records import write_text

LOCK = ".first_use.lock"
CALENDAR = dg.AssetKey("trading_calendar")  # the first table of every root; its materializations name the folder
TABLE = "/raw/trading_calendar"
REFUSED, NOT_NOW = 2, 3


def claim(data_root: str) -> None:
    """Make the storage of DAGSTER_HOME and note the data root it belongs to, if that was not done; else check it.

    Raises:
        SettingsError: it belongs to another root.
        DiskFull, Unwritable: it cannot be made.
        dagster.DagsterError: the variable is not set, or names no absolute path.
    """
    check_home(data_root)
    home = Path(os.environ.get(VARIABLE, ""))
    if owner(home) == data_root:
        return
    if not home.is_absolute():
        with dg.DagsterInstance.get():  # says what is wrong with the variable
            return
    with writing(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(home / LOCK, mode=0o600):
            check_home(data_root)  # again: another process may have been first
            if owner(home) is None:
                with dg.DagsterInstance.get():
                    pass
            write_text(home / MARKER, f"{data_root}\n")  # also where the root was moved, and its home in it


def adopt(old: Path, new: Path, data_root: str) -> int:
    """Move a home of before to the data root of whose tables it tells; the exit code for env.sh.

    Returns:
        0: it was moved, or is not of this root; NOT_NOW: it is, but cannot be moved now: env.sh goes on with it there.
    """
    with opened(old) as instance:
        told = instance.fetch_materializations(CALENDAR, limit=1000).records
    tables = [one.asset_materialization.metadata.get("path") for one in told if one.asset_materialization]
    roots = {str(path.value).removesuffix(TABLE) for path in tables if path is not None}
    if data_root not in roots:
        return 0
    if others := sorted(roots - {data_root}):
        say(
            f"Dagster's history of before, in {old}, is of several data roots ({', '.join(others)} and this one): "
            f"it stays there until you remove it, and this root begins a new one in {new}"
        )
        return 0
    if users := [f"process {pid} ({name})" for pid, name in using(old)]:
        say(
            f"Dagster's home {old} belongs into its data root, but is in use: {', '.join(users)}. "
            "It is used where it is; end them, and source env.sh again: it is moved then"
        )
        return NOT_NOW
    try:
        old.chmod(0o700)
        new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old.rename(new)
    except OSError as error:
        say(
            f"Dagster's home {old} belongs into its data root, but cannot be moved ({error.strerror}). "
            f"It is used where it is; when nothing of Dagster runs: mv {old} {new}"
        )
        return NOT_NOW
    write_text(new / MARKER, f"{data_root}\n")
    say(f"Dagster's home, with its history, was moved into its data root: {old} is {new} now")
    return 0


def using(home: Path) -> list[tuple[int, str]]:
    """Processes of this user that work with a home: id and command; not those that asked."""
    asking = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            ours = process.pid not in asking and process.uids().real == os.getuid()
            if ours and ("dagster" in words or "atft_" in words):
                given = process.environ().get(VARIABLE, "")
                if given and Path(given).resolve() == home.resolve():
                    found.append((process.pid, process.name()))
        except psutil.Error:
            continue  # it ended meanwhile, or does not let itself be asked
    return found


def say(sentence: str) -> None:
    """A line for whoever sources env.sh."""
    print(f"env.sh: {sentence}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the home can be used, 2 when not; for `--adopt`, see `adopt`."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.home", description=__doc__.split("\n\n")[0])
    parser.add_argument("--adopt", type=Path, metavar="OLD", help="move a home of before into the data root")
    given = parser.parse_args(arguments)
    keep_private()
    try:
        data_root = data_root_of(os.environ)
        if given.adopt:
            return adopt(given.adopt, Path(os.environ[VARIABLE]), data_root)
        claim(data_root)
    except (SettingsError, DiskError, dg.DagsterError) as error:
        print(f"home: {error}".strip().splitlines()[0], file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
