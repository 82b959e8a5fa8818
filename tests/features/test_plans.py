"""What a plan serves: tables that need a larger one are left out, and leave the others whole."""

from itertools import pairwise

import dagster as dg
import polars as pl
import pytest

from atft_assets.features.assets import definitions
from atft_assets.features.build import Builder
from atft_assets.features.catalogue import catalogue_hash, feature_set
from atft_assets.features.registry import TABLES, complete, served, table
from atft_assets.features.schemas import contract_of
from atft_assets.panel.asset import catalogued, catalogued_on
from atft_assets.settings import Plan
from atft_assets.training.phases import current_catalogue

PLANS = tuple(Plan)


def names(plan: Plan) -> list[str]:
    return [one.name for one in served(plan)]


def test_each_plan_has_what_it_serves_in_the_order_of_the_registry():
    every = [one.name for one in TABLES]
    for smaller, larger in pairwise(PLANS):
        assert set(names(smaller)) <= set(names(larger)) <= set(every)
        assert names(larger) == [name for name in every if name in names(larger)]
    assert "flow_features" in names(Plan.LIGHT) and "margin_features" not in names(Plan.LIGHT)
    assert {"margin_features", "daily_margin_features", "short_features"} <= set(names(Plan.STANDARD))
    assert "breakdown_features" not in names(Plan.STANDARD) and names(Plan.PREMIUM) == every


@pytest.mark.parametrize("plan", PLANS)
def test_core_and_stock_are_the_same_on_every_plan_and_full_is_what_is_served(plan: Plan):
    tables = served(plan)
    for name in ("core", "stock"):
        assert feature_set(name, tables) == feature_set(name)
        assert catalogued(name, plan) == catalogued(name) and current_catalogue(plan)(name) == catalogued(name)[1]
    full = feature_set("full", tables)
    assert full == tuple(f for f in feature_set("full") if f in set(full))
    assert catalogued_on(plan)("full") == (full, catalogue_hash(full))
    for one in tables:  # nothing that stays reads what is left out
        assert not set(one.reads) & ({row.name for row in TABLES} - set(names(plan)))


def test_a_full_set_of_another_plan_has_another_hash():
    hashes = {catalogued("full", plan)[1] for plan in PLANS}
    assert len(hashes) == len({tuple(names(plan)) for plan in PLANS}) > 1


def test_all_features_of_a_smaller_plan_are_the_same_values_without_the_columns_that_it_lacks(published):
    keys = published.keys[-2:-1]
    frames = {}
    for plan in (Plan.LIGHT, Plan.STANDARD, Plan.PREMIUM):
        tables = served(plan)
        row = table("all_features", tables)
        builder = Builder(published.store, frozenset(one.name for one in complete(tables)), published.keys[0],
                          published.settings().start)  # fmt: skip
        (built,) = builder.build(row, keys)
        assert contract_of(row).audit(built.frame, built.key, built.history_days).passed
        frames[plan] = built.frame
    whole = published.store.table("features", "all_features").read(keys)
    assert frames[Plan.PREMIUM].columns == whole.columns
    for frame in frames.values():
        assert frame.equals(whole.select(frame.columns), null_equal=True)
    assert "flow_smart_idx" in frames[Plan.LIGHT].columns and "margin_imbalance" not in frames[Plan.LIGHT].columns
    assert "bd_short_share" not in frames[Plan.STANDARD].columns


@pytest.mark.parametrize("plan", (Plan.LIGHT, Plan.STANDARD))
def test_the_assets_of_a_smaller_plan_need_nothing_that_it_lacks(published, plan: Plan):
    defs = definitions(published.settings(plan=plan))
    assets = [one for one in defs.assets or [] if isinstance(one, dg.AssetsDefinition)]
    found = {key.to_user_string() for one in assets for key in one.keys}
    wanted = {dep.asset_key.to_user_string() for one in assets for spec in one.specs for dep in spec.deps}
    assert found >= {*names(plan), "all_features"}
    assert not {one.name for one in TABLES} - set(names(plan)) & (found | wanted)
    lacking = {"breakdown"} | ({"margin_interest", "short_ratio"} if plan is Plan.LIGHT else set())
    assert not lacking & wanted


def test_a_month_of_a_smaller_plan_is_built_by_dagster(published, tmp_path):
    import shutil

    root = tmp_path / "data"
    shutil.copytree(published.root, root)
    for name in ("margin_interest", "margin_alert", "short_ratio", "short_sale_report", "breakdown"):
        shutil.rmtree(root / "raw" / name)  # a Light root never had them
    settings = published.settings(plan=Plan.LIGHT, data_root=str(root))
    defs = definitions(settings)
    months = [one for one in defs.assets or [] if isinstance(one, dg.AssetsDefinition) and one.partitions_def]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            months, partition_key=published.keys[-2], instance=instance, raise_on_error=False,
            resources={"store": type(published.store)(root=str(root))},
        )  # fmt: skip
    assert result.success
    frame = type(published.store)(root=str(root)).table("features", "all_features").read(published.keys[-2:-1])
    assert frame["flow_smart_idx"].drop_nulls().len() and "ss_pos_ratio" not in frame.columns
    assert frame.select(pl.col("is_flow_valid").sum()).item() > 0
