"""How large Dagster's home grows: `python -m atft_assets.benches.evenings` (make bench-evenings).

The embedded sandbox is fetched and carried to features and graph, then the job `nightly_refresh` runs as on the last
evenings of it: over one month, and over two as at the beginning of a month. These are real runs. Their events and
compute logs are then recorded anew for each trading day of a year, under ids, days and months of their own, pointers to
the newest inputs included; every Sunday retention does what the schedule does. Once without retention, once with.

Ticks are not simulated: dagster.yaml prunes them, and they are a constant (see docs/operations.md).
"""

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets.build import build_defs
from atft_assets.calendar import TOKYO, days_of_month, is_trading_day, month_key, shift_month
from atft_assets.dagster_private import SqliteEventLogStorage
from atft_assets.operations.disk import DISK_ASSET
from atft_assets.operations.retention import DAYS, KEEP_RUNS, carry_out, plan
from atft_assets.partitions import CORRECTION_DAYS
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_model.interchange.disk import size_of

FIRST, LAST = date(2020, 12, 1), date(2022, 3, 31)
EVENINGS, LIMIT_MB = 250, 300
SPAN = "dagster/asset_partition_range_"
POINTER = "dagster/input_event_pointer/"
READINGS_A_DAY = 4


@dataclass(frozen=True)
class Recorded:
    """A run as it was recorded, to be recorded again, and the months that it was over."""

    run: dg.DagsterRun
    months: tuple[str, ...]


class Evenings:
    """A Dagster home on SQLite, over which days go by."""

    def __init__(self, instance: dg.DagsterInstance, one: Recorded, two: Recorded):
        """
        Args:
            one, two: runs over one month and over two.
        """
        storage = instance.event_log_storage
        assert isinstance(storage, SqliteEventLogStorage)
        self.instance, self.storage, self.one, self.two = instance, storage, one, two
        self.newest: dict[str, int] = {}

    def pass_by(self, day: date) -> None:
        """The refresh of a trading day, and what the sensor of the disk reads on it."""
        evening = datetime(day.year, day.month, day.day, 18, 30, tzinfo=TOKYO)
        month = month_key(day)
        early = day in days_of_month(month)[:CORRECTION_DAYS]
        self.again(self.two if early else self.one, [shift_month(month, -1), month] if early else [month], evening)
        for _ in range(READINGS_A_DAY):
            values = {f"{name}_{what}": 12.345 for name in ("data", "home") for what in ("used_percent", "free_gb")}
            self.instance.report_runless_asset_event(dg.AssetObservation(DISK_ASSET, metadata=values))

    def again(self, recorded: Recorded, months: Sequence[str], at: datetime) -> str:
        """Record a run anew; its id. Rows are copied: to store each event again would take seconds an evening."""
        old, new = recorded.run.run_id, str(uuid.uuid4())
        changes = {old: new, **dict(zip(recorded.months, months, strict=True))}
        run = dg.deserialize_value(changed(dg.serialize_value(recorded.run), changes), dg.DagsterRun)
        self.instance.run_storage.add_historical_run(run, at.astimezone(UTC))
        with closing(sqlite3.connect(self.storage.path_for_shard(old))) as source, source:
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(self.storage.path_for_shard(old), self.storage.path_for_shard(new))
        with closing(sqlite3.connect(self.storage.path_for_shard(new))) as shard, shard:
            shard.create_function("changed", 1, lambda text: text and changed(text, changes))
            shard.execute(
                "UPDATE event_logs SET run_id = ?, event = changed(event), partition = changed(partition)", [new]
            )
        with closing(sqlite3.connect(self.storage.path_for_shard("index"), timeout=60)) as index, index:
            self._copy_rows(index, old, changes, at.astimezone(UTC))
        if (logs := Path(self.instance.storage_directory(), old)).is_dir():
            shutil.copytree(logs, logs.with_name(new))
        return new

    def _copy_rows(self, index: sqlite3.Connection, old: str, changes: dict[str, str], at: datetime) -> None:
        """The rows of a run in the index once more: events, tags, verdicts, and the newest events of assets."""
        ids: dict[int, int] = {}
        for row in rows(index, "event_logs", "run_id", old):
            document = json.loads(changed(row["event"], changes))
            document["timestamp"] = at.timestamp()
            asset = self._point_at_newest(document)
            fresh = {**row, "event": json.dumps(document), "run_id": changes[old], "timestamp": written(at),
                     "partition": row["partition"] and changed(row["partition"], changes)}  # fmt: skip
            ids[row["id"]] = insert(index, "event_logs", fresh)
            for tag in rows(index, "asset_event_tags", "event_id", row["id"]):
                insert(index, "asset_event_tags", {**tag, "event_id": ids[row["id"]], "event_timestamp": written(at)})
            if asset:
                self.newest[asset] = ids[row["id"]]
                newest = {"__class__": "EventLogRecord", "event_log_entry": document, "storage_id": ids[row["id"]]}
                index.execute(
                    "UPDATE asset_keys SET last_materialization = ?, last_run_id = ?, "
                    "last_materialization_timestamp = ? WHERE asset_key = ?",
                    [json.dumps(newest), fresh["run_id"], fresh["timestamp"], row["asset_key"]],
                )
        for row in rows(index, "asset_check_executions", "run_id", old):
            texts = {name: row[name] and changed(row[name], changes) for name in ("evaluation_event", "partition")}
            places = {name: ids.get(row[name], row[name])
                      for name in ("evaluation_event_storage_id", "materialization_event_storage_id")}  # fmt: skip
            times = dict.fromkeys(("evaluation_event_timestamp", "create_timestamp"), written(at))
            insert(index, "asset_check_executions", {**row, "run_id": changes[old], **texts, **places, **times})

    def _point_at_newest(self, document: dict[str, Any]) -> str | None:
        """Let a materialization name the newest events of its inputs; the asset, if it is one."""
        event = document.get("dagster_event") or {}
        if event.get("event_type_value") != dg.DagsterEventType.ASSET_MATERIALIZATION.value:
            return None
        said = event["event_specific_data"]["materialization"]
        for name in [name for name in said["tags"] or {} if name.startswith(POINTER)]:
            dep = name.removeprefix(POINTER)
            if dep in self.newest:
                said["tags"][name] = str(self.newest[dep])
        return "/".join(said["asset_key"]["path"])


def changed(text: str, changes: dict[str, str]) -> str:
    """All at once, so that a month that was put in is not taken for another."""
    for number, old in enumerate(changes):
        text = text.replace(old, f"<<{number}>>")
    for number, new in enumerate(changes.values()):
        text = text.replace(f"<<{number}>>", new)
    return text


def written(at: datetime) -> str:
    """A time as Dagster's columns hold it."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def rows(index: sqlite3.Connection, table: str, column: str, value: object) -> list[dict[str, Any]]:
    """Rows of a table in order, by name of column."""
    found = index.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY id", [value])
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def insert(index: sqlite3.Connection, table: str, row: dict[str, Any]) -> int:
    """A row under an id of its own, which is returned."""
    given = {name: value for name, value in row.items() if name != "id"}
    places = ", ".join("?" * len(given))
    cursor = index.execute(f"INSERT INTO {table} ({', '.join(given)}) VALUES ({places})", list(given.values()))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def recorded(instance: dg.DagsterInstance, run_id: str, months: Sequence[str]) -> Recorded:
    """A run that has ended."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return Recorded(run, tuple(months))


def trading_days(last: date, count: int) -> list[date]:
    """So many trading days, the last of them on or before a day."""
    found: list[date] = []
    while len(found) < count:
        if is_trading_day(last):
            found.append(last)
        last -= timedelta(days=1)
    return found[::-1]


def live_through(
    instance: dg.DagsterInstance, store: Store, evenings: Evenings, days: Sequence[date], keep_days: int | None
) -> Iterator[tuple[int, int]]:
    """Let days go by; after each week the evenings so far, and the bytes of the home.

    Args:
        keep_days: the days of retention; None for none.
    """
    for number, day in enumerate(days, 1):
        evenings.pass_by(day)
        if number < len(days) and days[number].isocalendar()[:2] == day.isocalendar()[:2]:
            continue
        if keep_days is not None:
            sunday = datetime(day.year, day.month, day.day, 6, tzinfo=TOKYO) + timedelta(days=7 - day.isoweekday())
            found = plan(instance, store, keep_days, KEEP_RUNS, folders_go=False, clock=sunday.timestamp)
            carry_out(instance, store, found.history, print)
        yield number, size_of(Path(instance.root_directory))


def real_evenings(home: Path, store: Store) -> tuple[str, str]:
    """Build the sandbox's months, then two real evenings; ids of the runs over one month and over two."""
    settings = Settings(base_url=None, plan=Plan.STANDARD, data_root=store.root, start=FIRST, end=LAST)
    job = build_defs(settings).resolve_job_def("nightly_refresh")
    last, before = month_key(LAST), shift_month(month_key(LAST), -1)
    ids = []
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        for first, to in ((month_key(FIRST), before), (last, last), (last, last), (before, last)):
            tags = {f"{SPAN}start": first, f"{SPAN}end": to} if first != to else {"dagster/partition": last}
            result = job.execute_in_process(instance=instance, tags=tags)
            ids.append(result.run_id)
            print(f"a real run over {first} to {to}: home {size_of(home) / 1e6:.1f} MB", flush=True)
    return ids[2], ids[3]


def measure(home: Path, ids: tuple[str, str], count: int, keep_days: int | None) -> int:
    """Let so many evenings go by over a copy of a home; its bytes at the end."""
    name = f"retention of {keep_days} days" if keep_days else "without retention"
    last, before = month_key(LAST), shift_month(month_key(LAST), -1)
    began, size = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(home, Path(folder, "home"))
        with dg.DagsterInstance.local_temp(str(Path(folder, "home"))) as instance:
            one, two = recorded(instance, ids[0], [last]), recorded(instance, ids[1], [before, last])
            evenings, days = Evenings(instance, one, two), trading_days(datetime.now(TOKYO).date(), count)
            for number, size in live_through(
                instance, Store(root=str(Path(folder, "data"))), evenings, days, keep_days
            ):
                print(f"{name}: {number:>4} evenings {size / 1e6:8.1f} MB", flush=True)
            runs = instance.get_runs_count()
    seconds = time.perf_counter() - began
    print(
        f"{name}: {count} evenings, {runs} runs left, home {size / 1e6:.1f} MB ({seconds:.0f} s to simulate)",
        flush=True,
    )
    return size


def main() -> int:
    """Measure and print; 1 if the home is larger than it may be."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.evenings", description=__doc__)
    parser.add_argument(
        "--evenings", type=int, default=EVENINGS, help="trading days to simulate (default: %(default)s)"
    )
    parser.add_argument("--days", type=int, default=DAYS, help="days that retention keeps (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        home = Path(folder, "home")
        home.mkdir()
        ids = real_evenings(home, Store(root=str(Path(folder, "data"))))
        without = processes.submit(measure, home, ids, given.evenings, None)
        kept = processes.submit(measure, home, ids, given.evenings, given.days)
        sizes = without.result(), kept.result()
    print(f"\n{given.evenings} evenings: {sizes[0] / 1e6:.1f} MB without retention, {sizes[1] / 1e6:.1f} MB with it")
    return int(sizes[1] > LIMIT_MB * 1e6)


if __name__ == "__main__":
    sys.exit(main())
