"""Which Dagster runs may go, and how they go: no question that Dagster answers today is answered otherwise afterwards.

Deleting a run (`instance.delete_run`) deletes its events, and with them materializations, their data versions and what
they were built from; verdicts of checks stay, in a table of their own, but one that was only planned is read off its
run. So a run stays that holds

* the newest materialization, observation, or vain attempt of an asset, or of a partition of it;
* the event that was the newest of an input when such a materialization was made: staleness, in the UI and in the
  sensor `corrections`, compares its version with the newest one;
* the newest verdict of a check, of each partition;
* a correction that failed: its run key keeps the sensor from asking for it again;
* a training whose run directory stays, a backfill that is not over, a run that has not ended;
* the run that one of these retried.

The newest runs stay as well, whatever they hold. SQLite gives the number of the last event away again once that event
is deleted, and the sensors that watch for failed runs, which remember the last number they saw, would overlook what
bears it next.

On SQLite a run's events stand in a file of its own as well, which Dagster leaves behind; it is removed here. On other
storages (Postgres) there is nothing but `instance.delete_run`, and the database gives its own space back.
"""

import contextlib
import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from atft_assets.dagster_private import BULK_ACTION_ENDS, BulkActionsFilter, BulkActionStatus, SqliteEventLogStorage
from atft_assets.operations.corrections import CORRECTED_TAG
from atft_assets.operations.going import Going
from atft_model.interchange.disk import size_of

KIND, ORPHAN = "Dagster run", "run file"
PAGE = 200  # events of a page hold tables and pictures: some MB together
RUNS_PAGE = 500
NEWEST_RUNS = 20
BUSY_SECONDS = 20.0
WORTH_SHRINKING = 0.05  # free share of the index from which it is written anew
BACKFILL_TAG = "dagster/backfill"
CHECK_EVENTS = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


@dataclass(frozen=True)
class Event:
    """A materialization: its place in the event log, what it is of, and the newest event of each input at the time."""

    storage_id: int
    asset: str
    partition: str | None
    run_id: str
    inputs: Mapping[str, int]


@dataclass(frozen=True)
class Ran:
    """What is asked of a run. Times are seconds of the epoch."""

    run_id: str
    job: str
    created: float
    changed: float
    ended: bool
    vain_correction: bool
    backfill: str | None
    retried: tuple[str, ...]


def needed_events(events: Iterable[Event]) -> set[int]:
    """The newest event of each partition, and those of its inputs that were the newest when it was made."""
    history: dict[str, dict[str | None, list[int]]] = defaultdict(lambda: defaultdict(list))
    inputs: dict[int, Mapping[str, int]] = {}
    for event in sorted(events, key=lambda one: one.storage_id):
        history[event.asset][event.partition].append(event.storage_id)
        inputs[event.storage_id] = event.inputs
    newest = {ids[-1] for partitions in history.values() for ids in partitions.values()}
    read = {pointer for one in newest for pointer in inputs[one].items()}
    before = {
        ids[place - 1]
        for asset, pointer in read
        for ids in history.get(asset, {}).values()
        if (place := bisect_right(ids, pointer))
    }
    return newest | before


def may_go(runs: Sequence[Ran], kept: Collection[str], before: float, newest_runs: int = NEWEST_RUNS) -> list[Ran]:
    """Ended runs of before a time that are not kept, and that no run which stays was started again from.

    Args:
        before: seconds of the epoch.
        newest_runs: how many of those that changed last stay in any case; one at least.
    """
    by_id = {run.run_id: run for run in runs}
    newest = sorted(runs, key=lambda run: (run.changed, run.created))[-max(newest_runs, 1) :]
    staying = {run.run_id for run in runs if not run.ended or run.created >= before or run.vain_correction}
    staying |= {run.run_id for run in newest} | {run_id for run_id in kept if run_id in by_id}
    waiting = list(staying)
    while waiting:
        found = {one for one in by_id[waiting.pop()].retried if one in by_id} - staying
        staying |= found
        waiting += found
    return [run for run in runs if run.run_id not in staying]


def going_runs(
    instance: dg.DagsterInstance, before: float, trainings: Collection[str], newest_runs: int = NEWEST_RUNS
) -> list[Going]:
    """Ended runs, begun before a time, that hold nothing which is still asked for.

    Args:
        before: seconds of the epoch.
        trainings: how the ids of Dagster runs begin whose run directories are kept.
        newest_runs: see `may_go`.
    """
    runs = list(all_runs(instance))
    if not may_go(runs, (), before, newest_runs):
        return []
    backfills = _open_backfills(instance)
    kept = _runs_of_assets(instance)
    kept |= {run.run_id for run in runs if run.backfill in backfills or run.run_id.startswith(tuple(trainings))}
    kept |= _runs_of_checks(instance, [run.run_id for run in may_go(runs, kept, before, newest_runs)])
    return [
        Going(KIND, run.run_id, f"{run.job} has ended, nothing newest is of it", _size(instance, run.run_id))
        for run in may_go(runs, kept, before, newest_runs)
    ]


def all_runs(instance: dg.DagsterInstance) -> Iterator[Ran]:
    """Every run, the newest first, a page at a time."""
    cursor = None
    while page := instance.get_run_records(limit=RUNS_PAGE, cursor=cursor):
        for record in page:
            run = record.dagster_run
            yield Ran(
                run.run_id,
                run.job_name,
                record.create_timestamp.timestamp(),
                record.update_timestamp.timestamp(),
                run.is_finished,
                CORRECTED_TAG in run.tags and run.is_finished and not run.is_success,
                run.tags.get(BACKFILL_TAG),
                tuple(one for one in (run.parent_run_id, run.root_run_id) if one),
            )
        cursor = page[-1].dagster_run.run_id


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete an ended run: its record, its events, its compute logs and, on SQLite, its file."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    # first what `delete_run` deletes last: if this process dies between, the run is still there to be deleted again
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)
    delete_files(instance, run_id)


def delete_files(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove what SQLite holds of a run that is gone."""
    for file in _files(instance, run_id):
        file.unlink(missing_ok=True)


def orphans(instance: dg.DagsterInstance, before: float) -> list[Going]:
    """Old files of SQLite whose run is gone: Dagster makes one when somebody follows a link to such a run."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return []
    found = []
    for run_id in sorted(storage.get_all_run_ids()):
        files = [file for file in _files(instance, run_id) if file.exists()]
        if not instance.has_run(run_id) and max((file.stat().st_mtime for file in files), default=before) < before:
            found.append(Going(ORPHAN, run_id, "its run is gone", sum(map(size_of, files))))
    return found


def give_space_back(instance: dg.DagsterInstance, seconds: float = BUSY_SECONDS) -> tuple[int, str]:
    """Shrink SQLite's index to what is in it; on another storage the database sees to that itself.

    Args:
        seconds: how long to wait for a run that is writing.

    Returns:
        Bytes won, and a sentence where it was left as it is.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return 0, ""
    path = Path(storage.path_for_shard("index"))
    before = size_of(path)
    with contextlib.closing(sqlite3.connect(path, timeout=seconds, isolation_level=None)) as index:
        pages, free = (index.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        if free < WORTH_SHRINKING * pages:
            return 0, ""
        try:
            index.execute("VACUUM")
            index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:  # locked by a writer, or no room for the copy that VACUUM makes
            return 0, f"{path} keeps its size, its free pages are used again: {error}"
    return max(before - size_of(path), 0), ""


def _runs_of_assets(instance: dg.DagsterInstance) -> set[str]:
    """Runs that hold what the pages of assets, and staleness, are made of."""
    keys = sorted(instance.get_asset_keys())
    holders: dict[int, str] = {}

    def events() -> Iterator[Event]:
        for key in keys:
            for event in _materializations(instance, key):
                holders[event.storage_id] = event.run_id
                yield event

    found = {holders[one] for one in needed_events(events())}
    for record in instance.get_asset_records(keys):
        entry = record.asset_entry
        found |= {run_id for run_id in (entry.last_run_id, entry.last_planned_materialization_run_id) if run_id}
    attempts: Callable[[dg.AssetKey], Mapping[str, tuple[str, int]]] = (
        instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations
    )
    for key in keys:
        found |= {run_id for run_id, _ in attempts(key).values()} | _observers(instance, key)
    return found


def _materializations(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[Event]:
    cursor = None
    while True:
        page = instance.fetch_materializations(key, limit=PAGE, cursor=cursor)
        for record in page.records:
            said = record.asset_materialization
            made_from = dg.DataProvenance.from_tags((said.tags if said else None) or {})
            inputs = {
                dep.to_user_string(): pointer
                for dep, pointer in (made_from.input_storage_ids if made_from else {}).items()
                if pointer is not None
            }
            yield Event(record.storage_id, key.to_user_string(), record.partition_key, record.run_id, inputs)
        if not page.has_more:
            return
        cursor = page.cursor


def _observers(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str]:
    """Runs of the newest observations."""
    newest = list(instance.fetch_observations(key, limit=1).records)
    by_partition = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_OBSERVATION
    )
    if by_partition:
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=list(by_partition.values()))
        newest += instance.fetch_observations(wanted, limit=len(by_partition)).records
    return {record.run_id for record in newest}


def _runs_of_checks(instance: dg.DagsterInstance, candidates: Collection[str]) -> set[str]:
    """Runs of the newest verdicts of the checks that candidates planned or judged."""
    judged: set[dg.AssetCheckKey] = set()
    for run_id in candidates:
        for entry in instance.all_logs(run_id, of_type=CHECK_EVENTS):
            said = entry.get_dagster_event().event_specific_data
            judged.add(dg.AssetCheckKey(said.asset_key, said.check_name))  # type: ignore[union-attr]
    keys = sorted(judged, key=str)
    storage = instance.event_log_storage
    newest = storage.get_latest_asset_check_execution_by_key(keys)
    found = {record.run_id for record in newest.values()}
    return found | {info.latest_planned_run_id for info in storage.get_asset_check_partition_info(keys)}


def _open_backfills(instance: dg.DagsterInstance) -> set[str | None]:
    states = [state for state in BulkActionStatus if state not in BULK_ACTION_ENDS]
    return {one.backfill_id for one in instance.get_backfills(BulkActionsFilter(statuses=states))}


def _files(instance: dg.DagsterInstance, run_id: str) -> Sequence[Path]:
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return ()
    path = storage.path_for_shard(run_id)
    return tuple(Path(path + end) for end in ("", "-wal", "-shm"))


def _size(instance: dg.DagsterInstance, run_id: str) -> int:
    """Bytes of the run's file and of its compute logs, where these stand on this machine's disk."""
    logs = 0 if instance.is_ephemeral else size_of(Path(instance.storage_directory(), run_id))
    return sum(map(size_of, _files(instance, run_id))) + logs
