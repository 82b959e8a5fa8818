"""A year of quotes by monthly file against by day: `python -m atft_assets.benches.bulk` (make bench-bulk).

A sandbox in a process of its own serves a simulated market; the asset `daily_quotes` is materialized twice from
nothing, as a run of a person does it: by day, and by file. Seconds are those of the whole run (requests, typing,
contract, publication), without any limit of requests; beside them stands how long the requests alone take at the limit
of each plan, which is what a person waits for at the real service. Files lie ready there; so they do here, since the
list is asked for once before the clock starts. The two tables must be the same to the last byte, or the exit code is 1.
"""

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg

from atft_assets.calendar import months_between
from atft_assets.jquants.bulk import monthly_files
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.endpoints import DAILY_BARS
from atft_assets.jquants.plans import own_rate
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.raw import SOURCES
from atft_assets.raw.assets import month_asset
from atft_assets.settings import CACHE_VARIABLE, Plan, Settings
from atft_assets.store import Store

TABLE = "daily_quotes"
NOW = "{year}-06-30T19:00"  # of the year after: every month is over
PLANS = (Plan.LIGHT, Plan.STANDARD, Plan.PREMIUM)


@dataclass(frozen=True)
class Taken:
    """What one way took.

    Attributes:
        seconds: of the whole run.
        cpu: seconds of processor of this process alone, which a busy machine changes less.
        requests: to the API; downloads are none.
        by_file: months that came so.
        hashes: of each month's file.
    """

    seconds: float
    cpu: float
    requests: int
    rows: int
    by_file: int
    hashes: Mapping[str, str]


@contextmanager
def sandbox(names: int, year: int) -> Iterator[dict[str, str]]:
    """A sandbox of that many names over a year, in a process of its own: its address and key."""
    command = [
        sys.executable,
        "-m",
        "atft_assets.sandbox",
        "serve",
        "--names",
        str(names),
        "--plan",
        str(Plan.STANDARD),
    ]
    span = ["--start", f"{year}-01-01", "--end", f"{year}-12-31", "--now", NOW.format(year=year + 1)]
    with subprocess.Popen([*command, *span], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline().removeprefix("ready "))
        finally:
            process.terminate()


def taken(server: Mapping[str, str], root: Path, year: int, files: str) -> Taken:
    """Materialize the year from nothing in one run.

    Raises:
        SystemExit: the run failed; Dagster has said why.
    """
    start, end = date(year, 1, 1), date(year, 12, 31)
    settings = Settings(base_url=server["base_url"], plan=Plan.STANDARD, data_root=str(root), start=start, end=end)
    source = next(source for source in SOURCES if source.name == TABLE)
    jquants = JQuantsResource(
        api_key=server["api_key"], base_url=server["base_url"], plan=str(Plan.STANDARD), requests_per_minute=0,
        now=NOW.format(year=year + 1),
    )  # fmt: skip
    span = "dagster/asset_partition_range_"
    began, cpu = time.perf_counter(), time.process_time()
    result = dg.materialize(
        [month_asset(source, settings, ())], resources={"store": Store(root=str(root)), "jquants": jquants},
        tags={f"{span}start": f"{year}-01", f"{span}end": f"{year}-12"}, raise_on_error=False,
        run_config={"ops": {TABLE: {"config": {"files": files}}}},
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if not result.success:
        raise SystemExit(f"the run with files={files} failed")
    events = [event.materialization.metadata for event in result.get_asset_materialization_events()]
    last = {name: value.value for name, value in events[-1].items()}
    rows = sum(int(str(one["dagster/row_count"].value)) for one in events)
    paths = sorted((root / "raw" / TABLE).glob("*.parquet"))
    hashes = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return Taken(seconds, cpu, int(str(last["requests"])), rows, int(str(last["months_by_file"])), hashes)


def table(found: Mapping[str, Taken]) -> list[str]:
    """A line a way, and how many times faster files are."""
    head = "".join(f"{plan:>12}" for plan in PLANS)
    lines = [
        f"{'':<10}{'rows':>10}{'seconds':>9}{'CPU':>8}{'requests':>10}{head}  minutes of requests at each plan's rate"
    ]
    for name, one in found.items():
        waits = [one.requests / own_rate(plan) for plan in PLANS]
        lines.append(
            f"{name:<10}{one.rows:>10,}{one.seconds:>9.1f}{one.cpu:>8.1f}{one.requests:>10}"
            + "".join(f"{w:>12.2f}" for w in waits)
        )
    day, file = found["by day"], found["by file"]
    fewer = day.requests / file.requests
    ratios = "".join(f"{fewer:>12.1f}" for _ in PLANS)
    lines.append(
        f"{'ratio':<10}{'':>10}{day.seconds / file.seconds:>9.1f}{day.cpu / file.cpu:>8.1f}{fewer:>10.1f}{ratios}"
    )
    return lines


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.bulk", description=__doc__.split("\n\n")[0])
    parser.add_argument("--names", type=int, default=1_000, help="names of the market (default: %(default)s)")
    parser.add_argument("--year", type=int, default=2024, help="its year (default: %(default)s)")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # Dagster's own lines
    months = months_between(f"{given.year}-01", f"{given.year}-12")
    with sandbox(given.names, given.year) as server, tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
        with JQuantsClient(server["base_url"], server["api_key"], Plan.STANDARD, requests_per_minute=0) as client:
            size = sum(file.size for file in monthly_files(client, DAILY_BARS, months).values())
        found = {
            name: taken(server, Path(folder) / files, given.year, files)
            for name, files in (("by day", "never"), ("by file", "always"))
        }
    print("\n".join(table(found)))
    print(f"{found['by file'].by_file} files, {size / 1e6:.1f} MB")
    same = found["by day"].hashes == found["by file"].hashes
    print(f"tables: {'the same to the last byte' if same else 'DIFFERENT'} ({len(found['by day'].hashes)} months)")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
