"""What a plan does not serve is not there: the other columns are the same in the same order, and nothing reads it."""

from itertools import pairwise

import polars as pl
import pytest

from atft_assets.benches.features import with_inputs
from atft_assets.features import definitions
from atft_assets.features.catalogue import catalogue_hash, feature_set
from atft_assets.features.point_in_time import judge, telling
from atft_assets.features.registry import TABLES, complete, served, table
from atft_assets.panel.asset import catalogued
from atft_assets.settings import Plan

# the tables that there were before those of this page, and what models were trained on
CORE = {"universe", "stock_features", "market_features", "stock_market_features", "sector_features", "labels"}


def test_a_larger_plan_adds_columns_and_changes_none() -> None:
    sets = {plan: [f.name for f in feature_set("full", served(plan))] for plan in Plan}
    for small, large in pairwise(Plan):
        assert [name for name in sets[large] if name in set(sets[small])] == sets[small]
    assert len(sets[Plan.PREMIUM]) >= 240
    for name in ("core", "stock"):
        of_each = {catalogue_hash(feature_set(name, served(plan)), served(plan)) for plan in Plan}
        assert of_each == {catalogue_hash(feature_set(name))}, "the small sets know nothing of plans"


def test_no_table_of_a_plan_reads_one_that_the_plan_lacks() -> None:
    names = {one.name for one in TABLES}
    for plan in Plan:
        there = served(plan)
        assert {one.name for one in there} >= CORE
        for one in there:
            assert {source for source in one.reads if source in names} <= {other.name for other in there}, one.name


@pytest.mark.parametrize("plan", Plan)
def test_the_assets_and_the_panel_of_a_plan_are_those_of_its_tables(published, plan: Plan) -> None:
    settings = published.settings(plan=plan)
    assets = {one.key.to_user_string(): one for one in definitions(settings).assets or []}
    assert set(assets) - {"feature_report"} == {one.name for one in complete(served(plan))}
    read = {dep.asset_key.to_user_string() for spec in assets["all_features"].specs for dep in spec.deps}
    assert read == {one.name for one in served(plan) if one.features} | {"universe"}
    features, digest = catalogued("full", plan)
    assert [f.name for f in features] == [f.name for f in feature_set("full", served(plan))]
    assert digest == catalogue_hash(feature_set("full", served(plan)), served(plan))


def test_tables_without_their_raw_tables_are_left_out_of_a_bench(published, tmp_path) -> None:
    assert with_inputs(published.store) == TABLES
    bare = type(published.store)(root=str(tmp_path))
    for name in ("daily_quotes", "topix", "listed_info"):
        target, source = bare.table("raw", name), published.store.table("raw", name)
        target.publish(target.stage_all([(k, source.read([k])) for k in published.keys[:1]], code_version="test"))
    assert {one.name for one in with_inputs(bare)} == CORE


def test_every_raw_table_that_is_late_is_joined_as_it_was_known(published) -> None:
    """An evening on which a record was dated and not out, of each table that has such: no stored row knew it."""
    key, first = published.keys[-2], published.keys[0]
    found = telling(published.store, key)
    assert set(found) >= {"fins_summary", "options_225", "futures"}
    for days in found.values():
        rows, differing = judge(published.store, first, days[len(days) // 2])
        assert rows > 0 and differing.is_empty(), differing


def test_a_table_that_joins_options_by_their_date_is_found_out(published) -> None:
    """The seed system stamped them on the afternoon of their own day."""
    from dataclasses import replace

    from atft_assets.features.build import Builder, month_frames
    from atft_assets.features.options import TABLE
    from atft_assets.features.point_in_time import Evening
    from atft_assets.features.table import Reader

    def too_early(inputs: Reader) -> pl.DataFrame:
        seen = Reader(inputs.table, inputs.months, inputs.first, early(inputs.fetch))
        return TABLE.build(seen)  # type: ignore[return-value]

    def early(fetch):
        def fetched(name, months, columns):
            frame = fetch(name, months, columns)
            if name != "options_225":
                return frame
            return frame.with_columns((pl.col("available_at") - pl.duration(hours=12)).alias("available_at"))

        return fetched

    key = published.keys[-2]
    names = frozenset(row.name for row in complete())
    day = telling(published.store, key)["options_225"][10]
    for build, wrong in ((TABLE.build, False), (too_early, True)):
        row = replace(table("option_features"), build=build)
        builder = Builder(published.store, names, published.keys[0], published.settings().start)
        (made,) = builder.build(row, [key])
        evening = Evening(published.store, names, day)
        ((_, then, _),) = month_frames(row, Reader(row, (key,), published.keys[0], evening.fetch))
        upto = pl.col("date") <= day
        assert made.frame.filter(upto).equals(then.filter(upto)) != wrong


def test_a_month_of_a_larger_plan_is_judged_by_the_columns_that_are_left(published) -> None:
    key, smaller = published.keys[-2], served(Plan.LIGHT)
    day = telling(published.store, key, smaller)["fins_summary"][0]
    rows, differing = judge(published.store, published.keys[0], day, smaller)
    assert rows > 0 and differing.is_empty(), differing
