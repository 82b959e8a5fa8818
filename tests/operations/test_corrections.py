"""Corrections on the platform's own asset graph: which months become stale, what is asked for, and when nothing is.

The graph, its look-backs and the store are the real ones; a table's month holds one number, the sum of its inputs'
months, so that a change shows in everything that reads it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandera.polars as pa
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from atft_assets import code_version, features, raw
from atft_assets.calendar import TOKYO, days_of_month, months_between, shift_month
from atft_assets.contracts import Built, Contract, contract_check, write_audit_publish
from atft_assets.features import TABLES, FeatureTable
from atft_assets.features.registry import served
from atft_assets.graph.asset import graph_asset
from atft_assets.groups import FEATURES, GRAPH
from atft_assets.operations.corrections import corrections_sensor, stale_months
from atft_assets.operations.jobs import corrections_job
from atft_assets.settings import Plan, Settings
from atft_assets.store import UNPARTITIONED, Store, Table
from tests.operations.helpers import live_settings

FIRST, LAST = "2020-01", "2022-04"
MONTHS = months_between(FIRST, LAST)
SPAN = "dagster/asset_partition_range_"
BY_MONTH = ["universe", "stock_features", "market_features", "stock_market_features", "sector_features",
            "all_features", "correlation_graph"]  # fmt: skip
WHOLE = ["labels", "feature_report"]
RAW = ["listed_info", "daily_quotes", "topix", "sector_indices"]
PRICES = tuple(table for table in TABLES if table.name in BY_MONTH)  # tables of events hang on raw tables as these do


class Road:
    """The platform's assets with planted numbers, and a daemon's memory of one sensor.

    Attributes:
        planted: own number of a table's month; what has none has 1.
        hiding: tables whose numbers do not show their inputs.
    """

    def __init__(
        self, instance: dg.DagsterInstance, root: Path, settings: Settings, now: datetime | None = None,
        tables: Sequence[FeatureTable] = PRICES,
    ):  # fmt: skip
        self.instance, self.settings, self.store = instance, settings, Store(root=str(root))
        self.planted: dict[tuple[str, str], int] = {}
        self.hiding: set[str] = set()
        assets = [*(raw.definitions(settings).assets or []), *(features.definitions(settings, tables).assets or [])]
        specs = [spec for one in [*assets, graph_asset(settings)] for spec in one.specs]
        here = {"trading_calendar", *RAW, *BY_MONTH, *WHOLE}
        self.specs = {name: spec for spec in specs if (name := spec.key.to_user_string()) in here}
        self.assets = [self._asset(name, spec) for name, spec in self.specs.items()]
        job = corrections_job()
        self.sensor = corrections_sensor(settings, job, *([lambda: now] if now else []))
        self.defs = dg.Definitions(
            assets=self.assets, jobs=[job], sensors=[self.sensor], resources={"store": self.store},
            executor=dg.in_process_executor,
        )  # fmt: skip
        self.graph = self.defs.resolve_asset_graph()
        self.cursor: str | None = None

    def table(self, name: str) -> Table:
        return self.store.table(self.specs[name].group_name or "", name)

    def _asset(self, name: str, spec: dg.AssetSpec) -> dg.AssetsDefinition:
        contract = Contract(name, pa.DataFrameSchema({"date": pa.Column(pl.Date), "x": pa.Column(pl.Int64)}),
                            constant_ok=frozenset({"date", "x"}))  # fmt: skip

        def build(keys: list[str]) -> Iterator[Built]:
            for key in keys:
                day = days_of_month(key)[-1] if key != UNPARTITIONED else date(2020, 1, 6)
                yield Built(key, pl.DataFrame({"date": [day], "x": [self.number(name, key, self._stored)]}))

        @dg.multi_asset(
            name=name, specs=[spec], check_specs=[contract_check(name)], backfill_policy=dg.BackfillPolicy.single_run()
        )  # fmt: skip
        def table(context: dg.AssetExecutionContext) -> Iterator[Any]:
            yield from write_audit_publish(
                context, self.table(name), contract, build, code_version=spec.code_version or "",
                content_versions=name != "trading_calendar",
            )  # fmt: skip

        return table

    def _stored(self, name: str, key: str) -> int:
        return int(self.table(name).read([key])["x"].item())

    def number(self, name: str, key: str, look_up: Any) -> int:
        """A table's number from those of its inputs."""
        total = self.planted.get((name, key), 1)
        if name in self.hiding:
            return total
        for dep in self.specs[name].deps:
            source = dep.asset_key.to_user_string()
            if source not in [*RAW, *BY_MONTH, *WHOLE]:
                continue
            back = getattr(dep.partition_mapping, "start_offset", 0)
            if source in WHOLE:
                keys = [UNPARTITIONED]
            elif key == UNPARTITIONED:
                keys = self.table(source).keys()
            else:
                keys = months_between(max(f"{self.settings.start:%Y-%m}", shift_month(key, back)), key)
            total += sum(look_up(source, one) for one in keys)
        return total % 2**60

    def from_scratch(self, months: list[str]) -> dict[tuple[str, str], int]:
        """Every number as a first build today would have it."""
        found: dict[tuple[str, str], int] = {}
        for name in [*RAW, *BY_MONTH, *WHOLE]:
            for key in [UNPARTITIONED] if name in WHOLE else months:
                found[name, key] = self.number(name, key, lambda *where: found[where])
        return found

    def run(self, names: list[str], first: str = "", last: str = "") -> None:
        """A run as the command line starts it."""
        tags = {f"{SPAN}start": first, f"{SPAN}end": last or first} if first else {}
        assert dg.materialize(self.assets, selection=names, instance=self.instance, tags=tags).success

    def correct(self, name: str, *keys: str, by: int = 1000) -> None:
        for key in keys:
            self.planted[name, key] = self.planted.get((name, key), 1) + by

    def stale(self, held_against: Sequence[str] = ()) -> dict[str, list[str]]:
        """Stale months by table, as the sensor finds them; at the given months held against what Dagster shows."""
        found: dict[str, set[str]] = {}
        for one in stale_months(self.instance, self.graph, [dg.AssetKey(name) for name in [*BY_MONTH, *WHOLE]]):
            found.setdefault(one.asset.to_user_string(), set()).add(one.month or UNPARTITIONED)
        resolver = CachingStaleStatusResolver(self.instance, self.graph, LoadingContextForTest(self.instance))
        for name in BY_MONTH:
            for key in held_against:
                shown = resolver.get_status(dg.AssetKey(name), key).value
                assert shown == ("STALE" if key in found.get(name, ()) else "FRESH"), (name, key)
        return {name: sorted(keys) for name, keys in found.items()}

    def tick(self) -> list[dg.RunRequest] | str:
        """One look of the sensor: what it asks for, or why it does not."""
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.defs, resources={"store": self.store}
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return list(data.run_requests or []) or str(data.skip_message)

    def launch(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_job_def("corrections")
        return job.execute_in_process(
            instance=self.instance, asset_selection=list(request.asset_selection or ()), tags=dict(request.tags)
        )

    def settle(self) -> int:
        """Let the sensor and its runs go on until there is nothing to do; the number of runs."""
        runs = 0
        while not isinstance(requests := self.tick(), str):
            for request in requests:
                assert self.launch(request).success
                runs += 1
            assert runs < 10
        return runs


def asked(request: dg.RunRequest) -> tuple[str, str, set[str]]:
    """First and last month, and the assets, of a request."""
    assert request.tags["atft/kind"] == "refresh"
    chosen = {key.to_user_string() for key in request.asset_selection or ()}
    return request.tags.get(f"{SPAN}start", ""), request.tags.get(f"{SPAN}end", ""), chosen


def settings(root: Path) -> Settings:
    days = (days_of_month(FIRST)[0], days_of_month(LAST)[-1])
    return Settings(base_url=None, plan=Plan.STANDARD, data_root=str(root), start=days[0], end=days[1])


# SQLite waits for the disk at every event: where the machine has a folder in memory, that is Dagster's home
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(scope="module")
def history() -> Iterator[Path]:
    """Twenty-eight months, built by one run over all of them: the data, and Dagster's home on SQLite."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        root = Path(folder)
        (root / "home").mkdir()
        with dg.DagsterInstance.local_temp(str(root / "home")) as instance:
            Road(instance, root / "data", settings(root / "data")).run([*RAW, *BY_MONTH, *WHOLE], FIRST, LAST)
        yield root


@pytest.fixture
def road(history: Path) -> Iterator[Road]:
    """A copy of the history that a test may change."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        root = Path(folder)
        shutil.copytree(history, root, dirs_exist_ok=True)
        with dg.DagsterInstance.local_temp(str(root / "home")) as instance:
            yield Road(instance, root / "data", settings(root / "data"))


DIRECTLY = {  # what reads daily_quotes of 2020-03, by the declared look-backs of 13, 15 and 23 months
    "universe": months_between("2020-03", "2022-02"),
    "stock_features": months_between("2020-03", "2021-04"),
    "sector_features": months_between("2020-03", "2021-06"),
    "correlation_graph": months_between("2020-03", "2021-04"),
    "labels": ["all"],
}
BORDERS = ["2020-02", "2020-03", "2021-04", "2021-05", "2021-06", "2021-07", "2022-02", "2022-03"]
REBUILT = {*BY_MONTH, *WHOLE} - {"market_features"}  # the index does not read prices of names


def test_a_corrected_month_is_carried_through_what_reads_it_and_nothing_else(road: Road) -> None:
    assert road.stale() == {} and "no month" in road.tick()
    road.correct("daily_quotes", "2020-03")
    road.run(["daily_quotes"], "2020-03")  # what a person does: materialize the raw month
    assert road.stale(BORDERS) == DIRECTLY
    (request,) = road.tick()
    assert asked(request) == ("2020-03", "2022-02", REBUILT)
    assert request.tags["atft/corrected"] == "daily_quotes 2020-03"
    assert road.launch(request).success
    # the months that read the rewritten feature months, and no raw month, come next
    later = ["2022-03", "2022-04"]
    assert road.stale(BORDERS[-2:]) == dict.fromkeys(
        ("stock_market_features", "sector_features", "correlation_graph"), later
    )
    (request,) = road.tick()
    reached = {"stock_market_features", "sector_features", "correlation_graph", "all_features", "feature_report"}
    assert asked(request) == (*later, reached)
    assert road.launch(request).success
    assert road.stale(BORDERS[1::4]) == {} and "no month" in road.tick()
    stored = {where: road._stored(*where) for where in road.from_scratch(MONTHS)}
    assert stored == road.from_scratch(MONTHS)


def test_the_same_where_months_were_built_alone_and_the_correction_came_with_a_range(road: Road) -> None:
    for key in ("2020-03", "2020-04"):
        road.run(RAW, key)
        road.run([*BY_MONTH, *WHOLE], key)
    assert road.stale() == {} and "no month" in road.tick()
    road.correct("daily_quotes", "2020-03")
    road.run(["daily_quotes"], "2020-01", "2020-06")
    assert road.stale(BORDERS[1:4]) == DIRECTLY
    assert asked(road.tick()[0]) == ("2020-03", "2022-02", REBUILT)


def test_unchanged_bytes_ask_for_nothing(road: Road) -> None:
    road.tick()
    road.run(["daily_quotes"], "2020-03")
    road.run(RAW, FIRST, LAST)
    assert road.stale() == {}
    assert road.tick() == "no month's inputs or code changed"
    assert road.tick() == "nothing was materialized since the last look"


def test_a_month_that_comes_out_as_it_was_ends_the_correction(road: Road) -> None:
    """As after a split: the server's own adjusted columns are rewritten, and no feature reads them."""
    road.hiding = {"universe", "stock_features", "sector_features", "correlation_graph", "labels"}
    for name in road.hiding:
        road.planted |= {(name, key): road._stored(name, key) for key in road.table(name).manifest().entries}
    road.correct("daily_quotes", "2020-03")
    road.run(["daily_quotes"], "2020-03")
    before = road.table("all_features").path("2020-03").stat().st_ino
    assert road.settle() == 1
    assert road.stale() == {}
    assert road.table("all_features").path("2020-03").stat().st_ino == before


def test_corrections_far_apart_are_runs_of_their_own_and_whole_tables_are_built_once(road: Road) -> None:
    road.correct("listed_info", "2020-01", "2021-06")
    road.run(["listed_info"], FIRST, LAST)
    earlier, later = road.tick()
    assert asked(earlier) == ("2020-01", "2021-03", REBUILT - set(WHOLE))  # the universe looks back fourteen months
    assert asked(later) == ("2021-06", LAST, REBUILT)
    assert earlier.run_key != later.run_key


def test_a_request_is_made_once_and_not_again_after_a_restart_or_a_failure(road: Road) -> None:
    road.tick()
    road.correct("daily_quotes", "2020-03")
    road.run(["daily_quotes"], "2020-03")
    before = road.cursor
    (request,) = road.tick()
    assert road.tick() == "nothing was materialized since the last look"
    for cursor in (before, None, "of another version"):  # died before the cursor was stored; a new daemon; an upgrade
        road.cursor = cursor
        (again,) = road.tick()
        assert again.run_key == request.run_key  # which Dagster launches once


def test_a_tick_during_a_refresh_waits_for_it(road: Road) -> None:
    road.tick()
    road.correct("daily_quotes", "2020-03")
    road.run(["daily_quotes"], "2020-03")
    nightly = road.instance.add_run(
        dg.DagsterRun("nightly_refresh", status=dg.DagsterRunStatus.STARTED, tags={"atft/kind": "refresh"})
    )
    assert f"run {nightly.run_id[:8]} is not finished" in road.tick()
    road.instance.report_run_failed(nightly)
    by_hand = road.instance.add_run(
        dg.DagsterRun(
            "__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, asset_selection=frozenset({dg.AssetKey("universe")})
        )
    )
    assert "is not finished" in road.tick()
    road.instance.report_run_canceled(by_hand)
    training = dg.DagsterRun(
        "__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, asset_selection=frozenset({dg.AssetKey("train_phase2")})
    )
    road.instance.add_run(training)
    assert len(road.tick()) == 1


def test_a_first_build_asks_for_nothing(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        road = Road(instance, tmp_path, settings(tmp_path))
        assert isinstance(road.tick(), str)
        road.run(["trading_calendar"])
        half = "2020-10"
        road.run(RAW, FIRST, half)
        assert isinstance(road.tick(), str)
        road.run(BY_MONTH, FIRST, half)
        assert isinstance(road.tick(), str)
        road.run(WHOLE)
        road.run(RAW, shift_month(half, 1), LAST)  # new months are growth: `make road` builds what follows
        assert isinstance(road.tick(), str)
        road.run(BY_MONTH, shift_month(half, 1), LAST)
        assert isinstance(road.tick(), str)


def test_the_evening_leaves_nothing_to_correct_and_tonight_is_left_to_it(tmp_path: Path) -> None:
    evening = datetime(2026, 11, 20, 19, tzinfo=TOKYO)
    current = "2026-11"
    months = months_between(shift_month(current, -16), current)
    with dg.DagsterInstance.ephemeral() as instance:
        given = live_settings(tmp_path, start=date.fromisoformat(f"{months[0]}-01"))
        road = Road(instance, tmp_path, given, now=evening.astimezone(UTC))
        road.run([*RAW, *BY_MONTH, *WHOLE], months[0], months[-1])
        road.tick()
        for name in RAW:
            road.correct(name, current)
        road.run([*RAW, *BY_MONTH, *WHOLE], current)  # the nightly run
        assert road.stale() == {} and isinstance(road.tick(), str)
        road.correct("daily_quotes", current)
        road.run(["daily_quotes"], current)  # a person was faster than the evening
        assert road.stale()["stock_features"] == [current]
        assert "2026-11 are left to nightly_refresh" in road.tick()
        road.correct("daily_quotes", "2026-02")
        road.run(["daily_quotes"], "2026-02")
        (request,) = road.tick()
        assert asked(request) == ("2026-02", "2026-10", REBUILT)


def test_labels_alone_follow(road: Road) -> None:
    """Someone rebuilt the months by hand and forgot the table without months."""
    road.correct("daily_quotes", LAST)
    road.run(["daily_quotes"], LAST)
    road.run(BY_MONTH, LAST)
    (request,) = road.tick()
    assert asked(request) == ("", "", set(WHOLE))
    assert road.launch(request).success
    assert road.stale() == {}


def edited(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> tuple[FeatureTable, ...]:
    """The registry as it would be loaded after an edit of features/technical.py."""
    text = code_version.source("atft_assets.features.technical")
    assert text.count(old) == 1
    original = code_version.source
    monkeypatch.setattr(
        code_version, "source", lambda name: text.replace(old, new) if name.endswith(".technical") else original(name)
    )
    return tuple(replace(table) for table in PRICES)


ADX = 'wilder("_dx", 14)'
BY_STOCK = {"stock_features", "stock_market_features", "sector_features", "all_features", "feature_report"}


def test_a_changed_expression_rebuilds_its_table_and_what_reads_it(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ADX was mended once and nothing noticed: old and new values stood in one table."""
    assert isinstance(road.tick(), str)
    root, given = Path(road.store.root), road.settings
    mended = Road(road.instance, root, given, tables=edited(monkeypatch, ADX, 'wilder("_dx", 15)'))
    mended.cursor = road.cursor
    assert mended.stale(["2020-01", "2021-03", LAST]) == {"stock_features": MONTHS}  # and so does Dagster show it
    (request,) = mended.tick()
    assert asked(request) == (FIRST, LAST, BY_STOCK)
    assert request.tags["atft/corrected"] == "code of stock_features"
    assert mended.tick() == "nothing was materialized since the last look"
    assert mended.launch(request).success
    assert mended.stale(["2020-01", LAST]) == {} and isinstance(mended.tick(), str)
    entries = mended.table("stock_features").manifest().entries
    assert {entry.code_version for entry in entries.values()} == {mended.specs["stock_features"].code_version}


def test_months_that_were_built_again_by_hand_are_left_out_of_the_ranges(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = edited(monkeypatch, ADX, 'wilder("_dx", 15)')
    mended = Road(road.instance, Path(road.store.root), road.settings, tables=tables)
    mended.run(["stock_features"], "2021-01", "2021-02")
    earlier, later = mended.tick()
    assert asked(earlier) == (FIRST, "2020-12", BY_STOCK - set(WHOLE))
    assert asked(later) == ("2021-03", LAST, BY_STOCK)


def test_words_about_an_expression_rebuild_nothing(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    docstring = '"""100 |plus - minus|/(plus + minus); 0 where'
    reworded = edited(monkeypatch, docstring, '"""The directional index; 0 where')
    assert [t.code_version for t in reworded] == [t.code_version for t in PRICES]
    again = Road(road.instance, Path(road.store.root), road.settings, tables=reworded)
    assert again.stale() == {} and isinstance(again.tick(), str)


def test_a_changed_expression_of_tonights_month_is_left_to_the_evening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evening = datetime(2026, 11, 20, 19, tzinfo=TOKYO).astimezone(UTC)
    months = months_between("2026-08", "2026-11")
    with dg.DagsterInstance.ephemeral() as instance:
        given = live_settings(tmp_path, start=date.fromisoformat(f"{months[0]}-01"))
        Road(instance, tmp_path, given, now=evening).run([*RAW, *BY_MONTH, *WHOLE], months[0], months[-1])
        tables = edited(monkeypatch, ADX, 'wilder("_dx", 15)')
        (request,) = Road(instance, tmp_path, given, now=evening, tables=tables).tick()
        assert asked(request) == ("2026-08", "2026-10", BY_STOCK)


def test_no_training_and_no_panel_is_in_the_job(tmp_path: Path) -> None:
    from atft_assets.build import build_defs

    defs = build_defs(settings(tmp_path))
    job = defs.resolve_job_def("corrections")
    graph = defs.resolve_asset_graph()
    groups = {key: graph.get(key).group_name for key in graph.materializable_asset_keys}
    assert job.asset_layer.selected_asset_keys == {key for key, name in groups.items() if name in (FEATURES, GRAPH)}
    names = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    assert {*BY_MONTH, *WHOLE, *(table.name for table in served(Plan.STANDARD))} == names
    sensor = defs.resolve_sensor_def("corrections")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
