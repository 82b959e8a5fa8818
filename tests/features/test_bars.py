"""Adjusted bars: splits, untraded days, refusals."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from atft_assets.calendar import TOKYO
from atft_assets.contracts import ContractViolation
from atft_assets.features.bars import adjusted_bars
from atft_assets.features.stock import own_features
from tests.features.synthetic import column, raw_quotes


def test_a_split_leaves_returns_and_relative_volume_unchanged():
    plain, split = raw_quotes(1, 120, seed=4), raw_quotes(1, 120, seed=4, splits=True)
    assert (split["AdjFactor"] != 1).sum() == 1
    a, b = adjusted_bars(plain), adjusted_bars(split)
    for name in ("o", "h", "l", "c", "v"):
        assert (column(a, name) / column(b, name)).std() < 1e-9
    assert a["va"].equals(b["va"])  # yen are never adjusted


def test_the_factor_of_an_untraded_ex_date_still_counts():
    quotes = raw_quotes(1, 30, seed=1).with_row_index("i")
    halved = [pl.when(pl.col("i") >= 10).then(pl.col(x) / 2).otherwise(pl.col(x)).alias(x) for x in "OHLC"]
    factor = pl.when(pl.col("i") == 10).then(0.5).otherwise(1.0).alias("AdjFactor")
    gone = [pl.when(pl.col("i") != 10).then(pl.col(x)).alias(x) for x in ("O", "H", "L", "C", "Vo", "Va")]
    bars = adjusted_bars(quotes.with_columns(*halved, factor).with_columns(*gone).drop("i"))
    assert bars.height == 29
    original = adjusted_bars(quotes.drop("i")).filter(pl.col("date").is_in(bars["date"].to_list()))
    assert (column(bars, "c") / column(original, "c")).std() < 1e-9


def test_rows_depend_on_their_past_alone():
    quotes = raw_quotes(3, 200, seed=2, splits=True, untraded=0.1)
    early = quotes.filter(pl.col("date") <= quotes["date"].unique().sort()[120])
    whole = adjusted_bars(quotes).filter(pl.col("date") <= early["date"].max())
    assert adjusted_bars(early).equals(whole)


def test_a_missing_column_is_named_before_anything_is_computed():
    with pytest.raises(ContractViolation, match="column Vo"):
        adjusted_bars(raw_quotes().drop("Vo"), "2019-01")


def test_a_bar_that_came_after_its_decision_is_refused():
    quotes = raw_quotes(1, 5)
    at = pl.col("date").cast(pl.Datetime("us")) + timedelta(hours=16, minutes=30)
    timely = quotes.with_columns(at.dt.replace_time_zone("Asia/Tokyo").alias("available_at"))
    adjusted_bars(timely)
    day = timely["date"][2]
    late = datetime(day.year, day.month, day.day, 19, tzinfo=TOKYO)
    revised = timely.with_columns(
        pl.when(pl.col("date") == day)
        .then(pl.lit(late).cast(timely.schema["available_at"]))
        .otherwise("available_at")
        .alias("available_at")
    )
    with pytest.raises(ContractViolation, match="18:30"):
        adjusted_bars(revised)


def test_a_name_that_comes_back_after_years_has_no_return_over_the_hole():
    """83030 was gone from 2023 to 2026: what its bars said before is another company's past."""
    quotes = raw_quotes(2, 900, seed=6)
    days = quotes["date"].unique().sort()
    away = (pl.col("code") == "13010") & pl.col("date").is_between(days[100], days[800])
    rows = own_features(quotes.filter(~away), pl.Series(["13010", "13020"])).filter(pl.col("code") == "13010")
    back = rows.filter(pl.col("date") > days[800])
    assert back["date"][0] == days[801] and back["returns_1d"].is_null().to_list()[:2] == [True, False]
    assert back["returns_5d"].null_count() == 5 and back["returns_20d"].null_count() == 20
