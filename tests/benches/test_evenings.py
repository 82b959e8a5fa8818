"""The bench of evenings: what it records anew is what Dagster would have recorded, and retention bounds the home."""

import os
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atft_assets.benches.evenings import Evenings, changed, live_through, recorded, trading_days
from atft_assets.calendar import TOKYO
from atft_assets.store import Store

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
MONTHS = dg.MonthlyPartitionsDefinition("2020-01", fmt="%Y-%m")
SPAN = "dagster/asset_partition_range_"


def table(name: str, *deps: str) -> dg.AssetsDefinition:
    """A month table with a check and some metadata."""

    @dg.asset(
        name=name, deps=deps, partitions_def=MONTHS, backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("sound", asset=name)],
    )  # fmt: skip
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield dg.MaterializeResult(asset_key=name, metadata={"text": "x" * 30_000})
        yield dg.AssetCheckResult(asset_key=name, check_name="sound", passed=True)

    return build


ASSETS = [table("quotes"), table("features", "quotes")]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, dg.DagsterInstance.local_temp(folder) as instance:
        yield instance


@pytest.fixture
def evenings(instance: dg.DagsterInstance) -> Evenings:
    two = dg.materialize(ASSETS, instance=instance, tags={f"{SPAN}start": "2020-01", f"{SPAN}end": "2020-02"})
    one = dg.materialize(ASSETS, instance=instance, partition_key="2020-02")
    return Evenings(
        instance, recorded(instance, one.run_id, ["2020-02"]), recorded(instance, two.run_id, ["2020-01", "2020-02"])
    )


def test_a_run_that_is_recorded_anew_is_a_run_of_its_own(instance: dg.DagsterInstance, evenings: Evenings) -> None:
    old, at = evenings.one.run.run_id, datetime(2026, 11, 20, 18, 30, tzinfo=TOKYO)
    first = evenings.again(evenings.one, ["2026-11"], at)
    second = evenings.again(evenings.one, ["2026-11"], at)
    assert len(instance.all_logs(second)) == len(instance.all_logs(old)) > 10
    record = instance.get_run_record_by_id(second)
    assert record and record.dagster_run.is_success and record.create_timestamp.timestamp() == at.timestamp()
    quotes, features = (
        instance.fetch_materializations(dg.AssetKey(name), 1).records[0] for name in ("quotes", "features")
    )
    assert quotes.run_id == features.run_id == second and features.partition_key == "2026-11"
    said = features.asset_materialization
    made_from = dg.DataProvenance.from_tags((said.tags if said else None) or {})
    assert made_from and made_from.input_storage_ids[dg.AssetKey("quotes")] == quotes.storage_id
    key = dg.AssetCheckKey(dg.AssetKey("features"), "sound")
    verdict = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert verdict.run_id == second and verdict.evaluation and verdict.evaluation.target_materialization_data
    (entry,) = (one.asset_entry for one in instance.get_asset_records([dg.AssetKey("features")]))
    assert entry.last_run_id == second and entry.last_materialization_storage_id == features.storage_id
    assert {first, second} < set(instance.get_run_ids())


def test_with_retention_the_home_stops_growing(
    instance: dg.DagsterInstance, evenings: Evenings, tmp_path: Path
) -> None:
    """Forty evenings, of which retention keeps those of two weeks (and the newest twenty runs)."""
    days = trading_days(date(2026, 11, 20), 60)
    sizes = dict(live_through(instance, Store(root=str(tmp_path)), evenings, days, 14))
    middle = next(size for number, size in sizes.items() if number >= 30)
    assert sizes[60] < 1.25 * middle
    assert instance.get_runs_count() < 35


def test_without_it_the_home_grows_with_every_evening(
    instance: dg.DagsterInstance, evenings: Evenings, tmp_path: Path
) -> None:
    days = trading_days(date(2026, 11, 20), 30)
    sizes = dict(live_through(instance, Store(root=str(tmp_path)), evenings, days, None))
    assert sizes[30] > 1.6 * next(size for number, size in sizes.items() if number >= 14)
    assert instance.get_runs_count() == 32


def test_months_are_changed_at_once() -> None:
    assert changed("2020-01 2020-02 id", {"2020-01": "2020-02", "2020-02": "2020-03", "id": "x"}) == "2020-02 2020-03 x"


def test_trading_days_end_on_or_before_a_day() -> None:
    assert trading_days(date(2026, 11, 22), 2) == [date(2026, 11, 19), date(2026, 11, 20)]
