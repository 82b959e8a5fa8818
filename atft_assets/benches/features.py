"""What the features cost: `python -m atft_assets.benches.features` (make bench-features).

Simulates a market, publishes the raw months of every table that features read (`features_raw`), then builds every
feature table from raw to `all_features`, contracts judged, at a quarter, a half and all of the names and of the days,
and refreshes the newest month. Each size is built in a process of its own, and its raw months are filled in another, so
that seconds and peak memory are the build's alone. Seconds of the processor depend less than the clock does on what
else a machine has to do.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import polars as pl

from atft_assets import calendar
from atft_assets.benches.features_raw import fill_raw, publish
from atft_assets.contracts import Built, Contract
from atft_assets.features.build import Builder
from atft_assets.features.names import ALL, GROUP, RAW
from atft_assets.features.registry import TABLES, complete
from atft_assets.features.schemas import contract_of
from atft_assets.features.table import FeatureTable
from atft_assets.sandbox import MarketConfig, simulate
from atft_assets.store import Store

NAMES, DAYS = 4484, 2450
FIRST_DAY = date(2015, 1, 5)


class Cost(NamedTuple):
    """Seconds of the clock and of the processor."""

    wall: float
    cpu: float


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    costs = list(costs)
    return Cost(sum(one.wall for one in costs), sum(one.cpu for one in costs))


def build_tables(
    store: Store, keys: list[str], start: date, tables: Iterable[FeatureTable] = TABLES, *, whole: bool = False
) -> dict[str, Cost]:
    """Build and publish the feature tables of the registry that have months, or those that have none; cost by table.

    Tables whose raw tables the store does not hold are left out, as on a plan that does not serve them.

    Raises:
        ValueError: a table broke its contract.
    """
    rows = complete(with_inputs(store, tables))
    builder = Builder(store, frozenset(row.name for row in rows), calendar.month_key(start), start)
    costs = {}
    for row in rows:
        if row.whole == whole:
            wall, cpu = time.perf_counter(), time.process_time()
            publish(store, GROUP, row.name, _audited(contract_of(row), builder.build(row, ["all"] if whole else keys)))
            costs[row.name] = Cost(time.perf_counter() - wall, time.process_time() - cpu)
    return costs


def with_inputs(store: Store, tables: Iterable[FeatureTable] = TABLES) -> tuple[FeatureTable, ...]:
    """The tables without those that read a raw table of which the store has no month, directly or not."""
    kept: list[FeatureTable] = []
    for one in tables:
        made = {table.name for table in kept}
        if all(name in made or store.table(RAW, name).keys() for name in one.reads):
            kept.append(one)
    return tuple(kept)


def _audited(contract: Contract, months: Iterator[Built]) -> Iterator[tuple[str, pl.DataFrame]]:
    for built in months:
        verdict = contract.audit(built.frame, built.key, built.history_days)
        if not verdict.passed:
            raise ValueError(str(verdict))
        yield built.key, built.frame


def fill(root: str, names: int, days: int) -> None:
    """Publish the raw months of a simulated market of a size."""
    sessions = calendar.trading_days(FIRST_DAY, FIRST_DAY + timedelta(days=days * 2))[:days]
    fill_raw(Store(root=root), simulate(MarketConfig(n_names=names, start=sessions[0], end=sessions[-1])))


def measure(root: str) -> dict[str, Any]:
    """Cost of a build from the raw months under a root, in all and by table, its rows and its peak memory (GB)."""
    store = Store(root=root)
    keys = store.table("raw", "daily_quotes").keys()
    start = store.table("raw", "topix").read(keys[:1], ["date"])["date"].item(0)
    tables = build_tables(store, keys, start)
    peak = _peak()
    newest = build_tables(store, keys[-1:], start)
    entries = store.table(GROUP, ALL).manifest().entries.values()
    built, refreshed = total(tables.values()), total(newest.values())
    return {
        "rows": sum(entry.rows for entry in entries),
        "wall_s": built.wall,
        "cpu_s": built.cpu,
        "refresh_s": refreshed.wall,
        "refresh_cpu_s": refreshed.cpu,
        "whole_s": total(build_tables(store, keys, start, whole=True).values()).wall,
        "peak_gb": peak,
        "load": os.getloadavg()[1],
        "tables": {name: {"wall_s": cost.wall, "cpu_s": cost.cpu} for name, cost in tables.items()},
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_size(names: int, days: int) -> dict[str, Any]:
    """`measure` of a size, filled and built by processes of their own."""
    with tempfile.TemporaryDirectory(prefix="atft-bench-") as root:
        _run("--fill", root, "--names", str(names), "--days", str(days))
        return {"names": names, "days": days, **json.loads(_run("--build", root).splitlines()[-1])}


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "atft_assets.benches.features", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


COLUMNS = ("names", "days", "rows", "wall s", "CPU s", "CPU us/row", "refresh s", "peak GB")
HEADER = "{:>6} {:>6} {:>11} {:>7} {:>7} {:>10} {:>9} {:>8}".format(*COLUMNS)


def line(one: Mapping[str, Any]) -> str:
    """A size as a line under HEADER."""
    return (
        f"{one['names']:>6} {one['days']:>6} {one['rows']:>11,} {one['wall_s']:>7.1f} {one['cpu_s']:>7.1f} "
        f"{_each(one):>10.1f} {one['refresh_s']:>9.1f} {one['peak_gb']:>8.1f}"
    )


def _each(one: Mapping[str, Any]) -> float:
    """CPU microseconds a row."""
    return one["cpu_s"] / one["rows"] * 1e6


def linearity(part: Mapping[str, Any], whole: Mapping[str, Any], what: str) -> str:
    """A sentence on how the cost of a row changes with a size."""
    return (
        f"{whole['rows'] / part['rows']:.1f} times the rows by more {what} cost "
        f"{whole['cpu_s'] / part['cpu_s']:.1f} times the CPU: {_each(part):.1f} us a row became "
        f"{_each(whole):.1f}, {'more than linear' if _each(whole) > 1.15 * _each(part) else 'no more than linear'}."
    )


def by_table(one: Mapping[str, Any]) -> str:
    """What each table of a size cost, and what is not counted."""
    tables = (f"{name} {cost['wall_s']:.1f} ({cost['cpu_s']:.1f})" for name, cost in one["tables"].items())
    return (
        f"wall s by table (CPU s): {', '.join(tables)}; labels, not counted, {one['whole_s']:.1f}. "
        f"The newest month took {one['refresh_cpu_s']:.1f} s of CPU; the machine's load was {one['load']:.1f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=NAMES, help="stocks (%(default)s)")
    parser.add_argument("--days", type=int, default=DAYS, help="trading days (%(default)s)")
    parser.add_argument("--one", action="store_true", help="this size only, as JSON")
    parser.add_argument("--fill", metavar="ROOT", help="only publish the raw months of this size under ROOT")
    parser.add_argument(
        "--build", metavar="ROOT", help="only build and measure from the raw months under ROOT, as JSON"
    )
    given = parser.parse_args()
    names, days = given.names, given.days
    if given.fill:
        fill(given.fill, names, days)
    elif given.build:
        print(json.dumps(measure(given.build)))
    elif given.one:
        print(json.dumps(measure_size(names, days)))
    else:
        print(HEADER, flush=True)
        sizes = [(names // 4, days), (names // 2, days), (names, days // 4), (names, days // 2), (names, days)]
        found = {}
        for size in sizes:
            found[size] = measure_size(*size)
            print(line(found[size]), flush=True)
        whole = found[names, days]
        # a quarter of the days is warm-up for the most part, so the half is compared as well
        for part, what in (((names // 4, days), "names"), ((names, days // 4), "days"), ((names, days // 2), "days")):
            print(linearity(found[part], whole, what))
        print(by_table(whole))


if __name__ == "__main__":
    main()
