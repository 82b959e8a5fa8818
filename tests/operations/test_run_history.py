"""Retention of Dagster's history: what every page, sensor and staleness said before, they say afterwards."""

import asyncio
import json
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.calendar import days_of_month, months_between
from atft_assets.dagster_private import SqliteEventLogStorage, webserver_app
from atft_assets.operations.run_history import (
    Event,
    Ran,
    delete_run,
    give_space_back,
    going_runs,
    may_go,
    needed_events,
    orphans,
)
from atft_assets.settings import Plan, Settings
from tests.operations.test_corrections import BY_MONTH, RAW, WHOLE, Road

FIRST, LAST = "2022-02", "2022-04"
MONTHS = months_between(FIRST, LAST)
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
LATER = 60.0  # seconds after now: everything is old then


# ── which events are needed ───────────────────────────────────────────────────────────────────────────────────────

ASSETS = ("a", "b", "c")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(ASSETS),
        st.sampled_from((None, "1", "2")),
        st.lists(st.tuples(st.sampled_from(ASSETS), st.integers(0, 20)), max_size=2),
    ),
    max_size=20,
)


def history(rows: list[tuple[str, str | None, list[tuple[str, int]]]]) -> list[Event]:
    """Events in order, each of which names inputs as they stood at some earlier time."""
    return [
        Event(number, asset, partition, f"run {number}", {dep: min(at, number - 1) for dep, at in inputs})
        for number, (asset, partition, inputs) in enumerate(rows, 1)
    ]


def newest(events: list[Event], asset: str, partition: str | None, until: float = float("inf")) -> Event | None:
    """What the event log answers when it is asked for the newest event up to a place."""
    found = [e for e in events if (e.asset, e.partition) == (asset, partition) and e.storage_id <= until]
    return found[-1] if found else None


@given(EVENTS.map(history))
def test_what_is_needed_answers_every_question_that_staleness_asks(events: list[Event]) -> None:
    kept = [event for event in events if event.storage_id in needed_events(events)]
    for asset in ASSETS:
        for partition in (None, "1", "2"):
            now = newest(events, asset, partition)
            assert newest(kept, asset, partition) == now
            for dep, pointer in (now.inputs if now else {}).items():
                for part in (None, "1", "2"):
                    assert newest(kept, dep, part, pointer) == newest(events, dep, part, pointer)


@given(EVENTS.map(history))
def test_what_is_not_asked_for_is_not_needed(events: list[Event]) -> None:
    """Every kept event is the newest of something, now or at a time that a newest one names."""
    last = [newest(events, asset, part) for asset in ASSETS for part in (None, "1", "2")]
    asked = {event.storage_id for event in last if event}
    for event in filter(None, last):
        for dep, pointer in event.inputs.items():
            asked |= {found.storage_id for part in (None, "1", "2") if (found := newest(events, dep, part, pointer))}
    assert needed_events(events) == asked


def ran(number: int, **changes: Any) -> Ran:
    values = {"ended": True, "vain_correction": False, "backfill": None, "retried": (), **changes}
    return Ran(f"r{number}", "job", float(number), float(number), **values)


def test_young_unended_retried_and_newest_runs_stay_and_vain_corrections() -> None:
    runs = [
        ran(1), ran(2, ended=False), ran(3, vain_correction=True), ran(4), ran(5, retried=("r4", "gone")),
        ran(6, retried=("r5",)), ran(7), ran(8), ran(9),
    ]  # fmt: skip
    gone = [run.run_id for run in may_go(runs, {"r6", "never was"}, before=8.0, newest_runs=1)]
    assert gone == ["r1", "r7"]
    assert may_go(runs, (), before=100.0) == []  # there are fewer than stay in any case
    assert [run.run_id for run in may_go([ran(1), ran(2)], (), before=100.0, newest_runs=0)] == ["r1"]


# ── a history, before and after ───────────────────────────────────────────────────────────────────────────────────


def settings(root: Path) -> Settings:
    days = (days_of_month(FIRST)[0], days_of_month(LAST)[-1])
    return Settings(base_url=None, plan=Plan.STANDARD, data_root=str(root), start=days[0], end=days[1])


def lived(road: Road, seed: int, steps: int = 4) -> None:
    """A first build, what may happen in any order, evenings of which only the last is needed, and one correction more.

    Corrections are carried through, or not; runs fail, or bring nothing new.
    """
    rng = random.Random(seed)
    road.run([*RAW, *BY_MONTH, *WHOLE], FIRST, LAST)
    ways = rng.sample(["evening", "correct", "correct and forget", "fail", "raw only"], steps)
    for step, what in enumerate([*ways, "evening", "evening", "fail", "correct and forget"]):
        month = rng.choice(MONTHS)
        if what == "evening":
            road.run([*RAW, *BY_MONTH, *WHOLE], LAST)
        elif what == "fail":
            vain(road, rng.choice(BY_MONTH), month)
        else:
            if what != "raw only":
                road.correct(rng.choice(RAW), month, by=1000 + step)
            road.run(RAW, month)
            if what == "correct":
                road.settle()


def vain(road: Road, name: str, month: str) -> None:
    """A run that planned its checks and its materialization, and came to neither."""

    @dg.multi_asset(
        name=name,
        specs=[road.specs[name].replace_attributes(deps=[])],
        check_specs=[dg.AssetCheckSpec("contract", asset=name)],
    )
    def table() -> Iterator[Any]:
        raise dg.Failure("no")
        yield

    run = dg.materialize([table], instance=road.instance, partition_key=month, raise_on_error=False)
    assert not run.success


def answers(road: Road) -> dict[str, Any]:
    """What pages, sensors and staleness say now."""
    instance, storage = road.instance, road.instance.event_log_storage
    keys = sorted(road.graph.materializable_asset_keys)
    loading = LoadingContextForTest(instance)
    resolver = CachingStaleStatusResolver(instance, road.graph, loading)
    checks = sorted(road.graph.asset_check_keys, key=str)
    verdicts = storage.get_latest_asset_check_execution_by_key(checks)
    road.cursor = None
    asked = road.tick()
    found: dict[str, Any] = {
        "stale months": road.stale(),
        "the sensor": asked if isinstance(asked, str) else [(one.run_key, one.asset_selection) for one in asked],
        "checks": {
            key: (one.id, one.status, asyncio.run(one.resolve_status(loading)), one.run_id)
            for key, one in verdicts.items()
        },
        "checks by partition": sorted(map(str, storage.get_asset_check_partition_info(checks))),
    }
    for record in instance.get_asset_records(keys):
        entry = record.asset_entry
        latest = entry.last_materialization_record
        found[f"page of {entry.asset_key}"] = (
            latest.storage_id if latest else None, entry.last_run_id, entry.last_planned_materialization_run_id,
            instance.get_run_by_id(entry.last_run_id or "") is not None,
        )  # fmt: skip
    for key in keys:
        partitions_def = road.graph.get(key).partitions_def
        attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        found[f"attempts of {key}"] = dict(attempts)
        if partitions_def is None:
            found[f"staleness of {key}"] = [(resolver.get_status(key), list(map(str, resolver.get_stale_causes(key))))]
            continue
        instance.wipe_asset_cached_status([key])
        status = get_and_update_asset_status_cache_value(instance, key, partitions_def)
        assert status is not None
        found[f"partitions of {key}"] = (
            sorted(status.deserialize_materialized_partition_subsets(partitions_def).get_partition_keys()),
            sorted(status.deserialize_failed_partition_subsets(partitions_def).get_partition_keys()),
        )
        found[f"staleness of {key}"] = [
            (month, resolver.get_status(key, month), list(map(str, resolver.get_stale_causes(key, month))))
            for month in MONTHS
        ]
    return found


def retire(instance: dg.DagsterInstance) -> list[str]:
    """Retention of no days: whatever may go, goes."""
    gone = [one.name for one in going_runs(instance, time.time() + LATER, set(), newest_runs=1)]
    for run_id in gone:
        delete_run(instance, run_id)
    give_space_back(instance)
    return gone


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


def opened(folder: Path, storage: str) -> Any:
    """Dagster on SQLite, a file a run; or in memory, one table for all, as on Postgres."""
    if storage == "one table":
        return dg.DagsterInstance.ephemeral()
    (folder / "home").mkdir(exist_ok=True)
    return dg.DagsterInstance.local_temp(str(folder / "home"))


@pytest.mark.parametrize(("storage", "seed"), [("SQLite", 2), ("one table", 3)])
def test_every_answer_is_the_same_afterwards(folder: Path, storage: str, seed: int) -> None:
    with opened(folder, storage) as instance:
        road = Road(instance, folder / "data", settings(folder / "data"))
        lived(road, seed)
        before, runs = answers(road), set(instance.get_run_ids())
        gone = retire(instance)
        assert gone and runs - set(gone) == set(instance.get_run_ids())
        assert answers(road) == before
        assert retire(instance) == []  # and there is no end of it that comes later
        # what comes then is found as if nothing had gone: the months that read a corrected one, and then none
        road.correct("daily_quotes", MONTHS[1], by=5)
        road.run(["daily_quotes"], MONTHS[1])
        assert MONTHS[1] in road.stale(MONTHS)["stock_features"]
        road.settle()
        assert road.stale() == {}
        assert {where: road._stored(*where) for where in road.from_scratch(MONTHS)} == road.from_scratch(MONTHS)


def test_without_what_it_keeps_staleness_would_change(folder: Path) -> None:
    """With the newest materializations alone, a correction that nobody carried through would be forgotten."""
    with opened(folder, "SQLite") as instance:
        road = Road(instance, folder / "data", settings(folder / "data"))
        road.run([*RAW, *BY_MONTH, *WHOLE], FIRST, LAST)
        road.run(RAW, FIRST, LAST)
        first = instance.get_run_ids()[0]
        road.run([*BY_MONTH, *WHOLE], FIRST, LAST)
        road.correct("daily_quotes", LAST)
        road.run(["daily_quotes"], LAST)
        stale = road.stale()
        assert stale and first not in retire(instance) and road.stale() == stale
        instance.delete_run(first)
        assert road.stale() != stale


# ── SQLite's files ────────────────────────────────────────────────────────────────────────────────────────────────


@dg.asset(check_specs=[dg.AssetCheckSpec("sound", asset="one")])
def one() -> Iterator[Any]:
    print("to the compute log")
    yield dg.MaterializeResult(asset_key="one", metadata={"text": "x" * 20_000})
    yield dg.AssetCheckResult(asset_key="one", check_name="sound", passed=True)


@pytest.fixture
def stored(folder: Path) -> Iterator[dg.DagsterInstance]:
    with opened(folder, "SQLite") as instance:
        yield instance


def files_of(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [path.name for path in Path(instance.root_directory).rglob(f"*{run_id}*")]


def test_a_deleted_run_leaves_no_file_and_the_index_shrinks(stored: dg.DagsterInstance) -> None:
    ids = [dg.materialize([one], instance=stored).run_id for _ in range(12)]
    storage = stored.event_log_storage
    assert isinstance(storage, SqliteEventLogStorage)
    index = Path(storage.path_for_shard("index"))
    size = index.stat().st_size
    listed = going_runs(stored, time.time() + LATER, set(), newest_runs=1)
    assert {going.name for going in listed} == set(ids[:-1])
    assert all(going.size > 20_000 for going in listed)
    for going in listed:
        delete_run(stored, going.name)
    assert [files_of(stored, run_id) for run_id in ids[:-1]] == [[]] * 11
    won, why_not = give_space_back(stored)
    assert why_not == "" and won > 200_000 and index.stat().st_size == size - won
    assert give_space_back(stored) == (0, "")
    assert stored.fetch_materializations(one.key, limit=5).records[0].run_id == ids[-1]


def test_a_kept_training_keeps_its_run_and_a_young_run_stays(stored: dg.DagsterInstance) -> None:
    ids = [dg.materialize([one], instance=stored).run_id for _ in range(3)]
    later = time.time() + LATER
    assert [g.name for g in going_runs(stored, later, {ids[0][:8]}, newest_runs=1)] == [ids[1]]
    assert going_runs(stored, time.time() - LATER, set(), newest_runs=1) == []


def test_the_number_of_the_last_event_is_not_given_away_again(stored: dg.DagsterInstance) -> None:
    """A failed run that nothing needs is the last one: deleting it would let SQLite use its numbers once more."""

    @dg.op
    def fails() -> None:
        raise dg.Failure("no")

    @dg.job
    def job() -> None:
        fails()

    dg.materialize([one], instance=stored)
    failed = [job.execute_in_process(instance=stored, raise_on_error=False).run_id for _ in range(3)]
    changes = dg.DagsterEventType.RUN_FAILURE
    seen = stored.fetch_run_status_changes(changes, limit=1).records[0].storage_id
    assert retire(stored) == failed[1::-1]
    again = job.execute_in_process(instance=stored, raise_on_error=False).run_id
    told = stored.fetch_run_status_changes(changes, limit=5, cursor=None, ascending=True).records
    assert [(record.storage_id > seen) for record in told if record.run_id == again] == [True]


def test_a_run_that_is_writing_is_not_disturbed(stored: dg.DagsterInstance) -> None:
    for _ in range(6):
        dg.materialize([one], instance=stored)
    storage = stored.event_log_storage
    assert isinstance(storage, SqliteEventLogStorage)
    for going in going_runs(stored, time.time() + LATER, set(), newest_runs=1):
        delete_run(stored, going.name)
    path = storage.path_for_shard("index")
    size = Path(path).stat().st_size
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    won, why_not = give_space_back(stored, seconds=0.1)
    assert won == 0 and "locked" in why_not and path in why_not
    writer.execute("COMMIT")
    writer.close()
    won, why_not = give_space_back(stored)
    assert won > 0 and why_not == "" and Path(path).stat().st_size < size


def test_a_file_whose_run_is_gone_goes_once_it_is_old(stored: dg.DagsterInstance) -> None:
    run_id = dg.materialize([one], instance=stored).run_id
    stored.delete_run(run_id)  # as the UI does it
    (left,) = orphans(stored, time.time() + LATER)
    assert left.name == run_id and left.size > 0
    assert orphans(stored, time.time() - LATER) == []
    dg.materialize([one], instance=stored)
    assert [going.name for going in orphans(stored, time.time() + LATER)] == [run_id]


# ── the UI ────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGES = """{
  runsOrError { __typename ... on Runs { results { runId status stats { __typename } } } }
  assetsOrError { __typename ... on AssetConnection { nodes { key { path } assetMaterializations(limit: 9) {
    runId partition stepStats { __typename } runOrError { __typename } } } } }
  GONE: runOrError(runId: "GONE_ID") { __typename }
  logsForRun(runId: "KEPT_ID") { __typename }
}"""


def queried(instance: dg.DagsterInstance, folder: Path, document: str) -> dict[str, Any]:
    """The answer of Dagster's webserver, without a code location."""
    workspace = folder / "workspace.yaml"
    workspace.write_text("load_from: []")
    body, sent = json.dumps({"query": document}).encode(), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/graphql", "raw_path": b"/graphql", "root_path": "",
        "query_string": b"", "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    with webserver_app(instance, str(workspace)) as app:
        asyncio.run(app(scope, receive, send))
    answer = json.loads(b"".join(message.get("body", b"") for message in sent))
    assert "errors" not in answer, answer
    return answer["data"]


def test_the_pages_of_the_ui_answer_and_know_which_runs_are_gone(stored: dg.DagsterInstance, folder: Path) -> None:
    ids = [dg.materialize([one], instance=stored).run_id for _ in range(4)]
    assert set(retire(stored)) == set(ids[:-1])
    data = queried(stored, folder, PAGES.replace("GONE_ID", ids[0]).replace("KEPT_ID", ids[-1]))
    assert [run["runId"] for run in data["runsOrError"]["results"]] == [ids[-1]]
    (node,) = data["assetsOrError"]["nodes"]
    assert [(m["runId"], m["runOrError"]["__typename"]) for m in node["assetMaterializations"]] == [(ids[-1], "Run")]
    assert data["GONE"]["__typename"] == "RunNotFoundError"
    assert data["logsForRun"]["__typename"] == "EventConnection"
