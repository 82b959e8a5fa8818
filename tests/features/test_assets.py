"""The assets in Dagster: ranges, refusals with a remedy, contracts that stop the road, the point-in-time check."""

from datetime import date

import dagster as dg
import polars as pl
import pytest

from atft_assets.benches.features import build_tables
from atft_assets.calendar import SYSTEM_HALTS
from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.features import definitions
from atft_assets.features.build import Builder
from atft_assets.features.catalogue import CATALOGUE, feature_set
from atft_assets.features.feature import AFTER_CLOSE
from atft_assets.features.point_in_time import differences, judge
from atft_assets.features.registry import complete, table
from atft_assets.settings import Plan
from atft_assets.store import Store

(HALT,) = SYSTEM_HALTS

NAMES = [row.name for row in complete() if not row.whole]


def materialize(fixture, names, first=None, last=None, **settings):
    """Run assets over a month range as the CLI does; the run's result, not raising."""
    defs = definitions(fixture.settings(**settings))
    chosen = dg.AssetSelection.assets(*names)
    assets = [*defs.assets, *(defs.asset_checks or [])]
    tags = {}
    if first:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, selection=chosen, tags=tags, resources={"store": fixture.store}, instance=instance,
            raise_on_error=False,
        )  # fmt: skip
        # read before the ephemeral instance goes
        return result, {e.check_name: e for e in result.get_asset_check_evaluations()}


def text_of(result) -> str:
    return "\n".join(str(e.event_specific_data.error) for e in result.all_events if e.is_step_failure)


def test_a_range_is_built_in_one_run_and_equals_the_months_built_alone(workspace):
    keys = workspace.keys
    before = workspace.store.table("features", "all_features").read(keys[-3:])
    for name in NAMES:
        for key in keys[-3:]:
            workspace.store.table("features", name).path(key).unlink()
    result, checks = materialize(workspace, NAMES, keys[-3], keys[-1])
    assert result.success, text_of(result)
    assert {e.asset_key.to_user_string() for e in result.get_asset_check_evaluations()} >= set(NAMES)
    stored = workspace.store.table("features", "all_features")
    assert stored.keys() == keys
    assert differences(before, stored.read(keys[-3:])).is_empty()
    together = stored.read([keys[-1]])
    assert together.columns == ["date", "code", *(f.name for f in CATALOGUE)]
    assert checks["point_in_time"].passed
    again, _ = materialize(workspace, NAMES, keys[-1])
    assert again.success, text_of(again)
    alone = stored.read([keys[-1]])
    assert alone.height == together.height
    assert differences(together, alone).is_empty()


def test_block_borders_cannot_be_seen(published):
    names, start = frozenset(NAMES), published.settings().start
    whole = Builder(published.store, names, published.keys[0], start)
    in_blocks = Builder(published.store, names, published.keys[0], start, block_months=3)
    for name in ("universe", "stock_features"):
        months = {built.key: built.frame for built in whole.build(table(name), published.keys)}
        for built in in_blocks.build(table(name), published.keys):
            if name == "universe":
                assert months[built.key].equals(built.frame), built.key
            else:
                assert differences(months[built.key], built.frame).is_empty(), built.key


def test_labels_are_built_whole(workspace):
    result, checks = materialize(workspace, ["labels"])
    assert result.success, text_of(result)
    assert checks[CONTRACT_CHECK].passed
    frame = workspace.store.table("features", "labels").read()
    members = workspace.store.table("features", "universe").read()
    assert frame.height == members.height
    assert (
        frame.filter(pl.col("date") == frame["date"].max())["y_cc_1d"].null_count()
        == members.filter(pl.col("date") == members["date"].max()).height
    )


@pytest.mark.parametrize(
    ("asset", "group", "table", "month"),
    [
        ("stock_features", "raw", "daily_quotes", "2020-03"),
        ("universe", "raw", "listed_info", "2020-09"),
        ("market_features", "raw", "topix", "2020-06"),
        ("sector_features", "features", "stock_features", "2020-05"),
        ("all_features", "features", "stock_market_features", "2020-10"),
    ],
)
def test_missing_upstream_months_are_named_with_the_command(workspace, asset, group, table, month):
    folder = workspace.root / group / table
    manifest = folder / "manifest.json"
    store_table = workspace.store.table(group, table)
    content = store_table.manifest()
    del content.entries[month]
    manifest.write_text(content.model_dump_json())
    (folder / f"{month}.parquet").unlink()
    result, _ = materialize(workspace, [asset], "2020-10")
    assert not result.success
    said = text_of(result)
    assert f"{group}/{table}" in said
    assert f"dagster asset materialize --select {table} --partition {month}" in said
    before = workspace.store.table("features", asset).manifest().entries["2020-10"]
    assert before.published_at  # what was there is still there


def rewrite(fixture, group, table, key, change):
    """Publish a month that somebody changed."""
    target = fixture.store.table(group, table)
    target.publish([target.stage(key, change(target.read([key])), code_version="test")])


@pytest.mark.parametrize(
    ("change", "column", "first"),
    [
        (lambda f: f.rename({"C": "Close"}), "C", "universe"),
        (lambda f: f.drop("AdjFactor"), "AdjFactor", "stock_features"),
    ],
)
def test_a_column_that_is_gone_stops_the_road_before_anything_is_computed(workspace, change, column, first):
    rewrite(workspace, "raw", "daily_quotes", "2020-10", change)
    before = workspace.store.table("features", "stock_features").manifest()
    result, _ = materialize(workspace, NAMES, "2020-10")
    assert not result.success
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    names = [e.asset_key.to_user_string() for e in failed]  # tables that read the same and nothing of each other
    reading = {"margin_features", "statement_features", "dividend_features"}
    assert first in names and set(names) <= {first, *reading}
    shown = failed[names.index(first)].metadata["failures"].records
    assert any(record.data["column"] == column for record in shown)
    assert "2020-10" in text_of(result)
    built = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert not built & {"margin_features", "stock_features", "stock_market_features", "sector_features", "all_features"}
    assert workspace.store.table("features", "stock_features").manifest() == before


def test_prices_that_are_null_throughout_break_the_contract_of_what_is_built_from_them(workspace):
    def without_close(frame):
        return frame.with_columns(pl.lit(None, pl.Float64).alias("C"))

    # one month of nulls is a market that stood still as far as bars can tell; the raw contract refuses it before.
    # Here the nulls sit in the history as well, so that the month has no feature left.
    for key in workspace.keys[-3:-1]:
        rewrite(workspace, "raw", "daily_quotes", key, without_close)
    result, _ = materialize(workspace, ["stock_features"], workspace.keys[-1])
    assert not result.success
    assert "present in at least" in text_of(result) or "not null throughout" in text_of(result)


def test_on_the_free_plan_the_market_says_what_it_lacks(workspace):
    result, _ = materialize(workspace, ["market_features"], "2020-10", plan=Plan.FREE)
    assert not result.success
    assert "plan Light" in text_of(result)
    fine, _ = materialize(workspace, ["stock_features"], "2020-10", plan=Plan.FREE)
    assert fine.success


def test_the_evening_of_the_system_halt_is_no_failure(published, tmp_path):
    """October 2020 on its first evening: one day, no trade, no column that could be judged."""
    store = Store(root=str(tmp_path))
    keys = ["2020-08", "2020-09", "2020-10"]
    for name in published.raw:
        source, target = published.store.table("raw", name), store.table("raw", name)
        frames = ((k, source.read([k])) for k in keys)
        only = pl.col("date") <= HALT
        cut = [(k, f.filter(only) if k == "2020-10" else f) for k, f in frames]
        target.publish([target.stage(k, f, code_version="test") for k, f in cut])
    build_tables(store, keys, date(2020, 8, 3))
    frame = store.table("features", "all_features").read(["2020-10"])
    assert frame["date"].unique().to_list() == [HALT]
    assert frame["is_traded"].sum() == 0
    assert frame["returns_1d"].null_count() == frame.height


def test_the_point_in_time_check_finds_a_planted_leak(workspace):
    day = workspace_day(workspace)
    assert judge(workspace.store, workspace.keys[0], day)[1].is_empty()
    for key in workspace.keys[-4:]:
        rewrite(
            workspace, "features", "all_features", key,
            lambda f: f.with_columns(pl.col("returns_1d").shift(-1).over("code").fill_null(0.1)),
        )  # fmt: skip
    rows, found = judge(workspace.store, workspace.keys[0], day)
    assert rows > 500
    assert found["column"].to_list() == ["returns_1d"]


def workspace_day(fixture):
    """A day in the middle of the newest complete month."""
    frame = fixture.store.table("features", "all_features").read([fixture.keys[-2]], ["date"])
    return frame["date"].unique().sort()[10]


def test_columns_are_described_in_the_ui(workspace):
    result, _ = materialize(workspace, ["stock_features"], "2020-10")
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    schema = {c.name: c for c in metadata["dagster/column_schema"].value.columns}
    for feature in feature_set("stock"):
        described = schema[feature.name].description
        assert described.startswith(feature.formula)
        # said once for the table; a column speaks of it only where it differs
        assert (feature.availability in described) == (feature.availability != AFTER_CLOSE)
    assert metadata["columns_known"].value == AFTER_CLOSE
    assert metadata["through_date"].value == "2020-10-30"
    assert metadata["dagster/row_count"].value > 2000
    assert "returns" in metadata["least_covered_columns"].value or "mom_240" in metadata["least_covered_columns"].value
