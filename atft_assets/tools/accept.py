"""The command by which a person accepts what looks odd in a month: `python -m atft_assets.tools.accept --help`."""

import argparse
import sys
from collections.abc import Sequence

import dagster as dg

from atft_assets.contracts.acceptance import accept_findings, accepted_findings
from atft_assets.features.quality import CHECKS, STOPPING, Quality, open_findings
from atft_assets.settings import Settings
from atft_assets.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Accept, or list; 0 if it was done, 2 if it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m atft_assets.tools.accept",
        description="Accept what a check found in a month of a table, so that the month is released. It is recorded in "
        "Dagster's history of the check, with your name. The same finding does not stop again; another one does.",
    )
    parser.add_argument("table", nargs="?", help=f"one of {', '.join(sorted({one.asset for one in CHECKS}))}")
    parser.add_argument("month", nargs="?", help="YYYY-MM")
    parser.add_argument("--check", choices=[one.name for one in CHECKS], help="this check alone; default: every one")
    parser.add_argument("--reason", help="why the data are right; shown beside your name")
    parser.add_argument("--list", action="store_true", help="only list what is open and what was accepted")
    given = parser.parse_args(arguments)
    checks = [one for one in STOPPING if given.table in (None, one.asset) and given.check in (None, one.name)]
    if not checks:
        print(f"no check of {given.table} stops a release; tables with such checks: {_tables()}", file=sys.stderr)
        return 2
    store = Store(root=Settings.from_env().data_root)
    with dg.DagsterInstance.get() as instance:
        if given.list:
            return _list(store, instance, checks, given.month)
        if not (given.table and given.month and (given.reason or "").strip()):
            print("say which table, which month and why: TABLE MONTH --reason TEXT (or --list)", file=sys.stderr)
            return 2
        return _accept(store, instance, checks, given.month, given.reason.strip())


def _accept(store: Store, instance: dg.DagsterInstance, checks: Sequence[Quality], month: str, reason: str) -> int:
    found = open_findings(store, instance, [month], checks)
    for one in found:
        acceptance = accept_findings(instance, one.quality.key, month, one.prints, reason)
        print(f"{one}\n  {acceptance}")
    if found:
        print(f"go on with: dagster asset materialize --select data_release --partition {month}")
    else:
        names = ", ".join(one.name for one in checks)
        print(f"{checks[0].asset} {month}: nothing is open ({names}); nothing was recorded")
    return 0


def _list(store: Store, instance: dg.DagsterInstance, checks: Sequence[Quality], month: str | None) -> int:
    for quality in checks:
        months = [month] if month else store.table(quality.group, quality.asset).keys()
        for one in open_findings(store, instance, months, [quality]):
            print(f"open      {one}\n          {quality.accept(one.month)}")
        for acceptance in sorted(set(accepted_findings(instance, quality.key).values()), key=lambda a: a.at):
            if month in (None, acceptance.month):
                print(f"accepted  {quality.name} of {quality.asset} {acceptance}")
    return 0


def _tables() -> str:
    return ", ".join(sorted({one.asset for one in STOPPING}))


if __name__ == "__main__":
    sys.exit(main())
