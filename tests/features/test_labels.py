"""Labels: on the exchange calendar, null where a price is missing."""

from datetime import date

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import SYSTEM_HALTS
from atft_assets.features.labels import CLOSE_LABELS, OPEN_LABELS, labels
from atft_assets.features.price import price_features
from atft_model.interchange.horizons import HORIZONS
from tests.features.synthetic import bars_of, column, raw_quotes


def test_labels_are_forward_returns_of_adjusted_prices():
    quotes = raw_quotes(1, 80, seed=1, splits=True)
    bars, got = bars_of(quotes).collect(), labels(quotes)
    o, c = column(bars, "o"), column(bars, "c")
    for h in HORIZONS:
        np.testing.assert_allclose(column(got, f"y_cc_{h}d")[: 80 - h], c[h:] / c[:-h] - 1, rtol=1e-4, atol=1e-6)
        assert np.isnan(column(got, f"y_cc_{h}d")[80 - h :]).all()
        expected = o[1 + h :] / o[1 : 80 - h] - 1
        np.testing.assert_allclose(column(got, f"y_oo_{h}d")[: 79 - h], expected, rtol=1e-4, atol=1e-6)
        assert np.isnan(column(got, f"y_oo_{h}d")[79 - h :]).all()


@given(seed=st.integers(0, 1000), gap=st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_the_label_of_t_is_the_return_of_t_plus_1(seed, gap):
    quotes = raw_quotes(2, 60, seed, untraded=gap / 100, splits=True)
    got = labels(quotes)
    r1 = price_features(bars_of(quotes)).collect().select("date", "code", "returns_1d")
    days = quotes["date"].unique().sort()
    after = pl.DataFrame({"date": days[:-1], "after": days[1:]})
    both = got.join(after, on="date").join(r1, left_on=["after", "code"], right_on=["date", "code"])
    both = both.filter(pl.col("y_cc_1d").is_not_null())
    assert both.height > 0
    assert ((both["y_cc_1d"] - both["returns_1d"]).abs() < 1e-6).all()


def test_an_untraded_next_day_is_no_label_rather_than_a_later_days():
    quotes = raw_quotes(1, 60, seed=2)
    day = quotes["date"][30]
    prices = ("O", "H", "L", "C", "Vo", "Va")
    missing = quotes.with_columns(pl.when(pl.col("date") != day).then(pl.col(x)).alias(x) for x in prices)
    full, got = labels(quotes), labels(missing, quotes)
    row = {name: got.row(29, named=True)[name] for name in (*CLOSE_LABELS, *OPEN_LABELS)}
    assert row["y_cc_1d"] is None
    assert row["y_cc_5d"] == full["y_cc_5d"][29]  # both its prices are there
    assert all(row[name] is None for name in OPEN_LABELS)  # the entry at the open of t+1 is not
    assert all(got[name][30] is None for name in CLOSE_LABELS)
    absent = labels(quotes.filter(pl.col("date") != day), quotes)  # a missing row is like an untraded one
    assert absent.filter(pl.col("date") != day).equals(got.filter(pl.col("date") != day))


def test_the_system_halt_is_a_day_of_the_calendar_without_a_price():
    (halt,) = SYSTEM_HALTS
    quotes = raw_quotes(1, 60, seed=3, first=date(2020, 9, 1))
    assert halt in quotes["date"].to_list()
    prices = ("O", "H", "L", "C", "Vo", "Va")
    quotes = quotes.with_columns(pl.when(pl.col("date") != halt).then(pl.col(x)).alias(x) for x in prices)
    got = labels(quotes, quotes)
    days = got["date"].to_list()
    i = days.index(halt)
    assert got["y_cc_1d"][i - 1] is None
    assert got["y_cc_5d"][i - 5] is None
    assert got["y_cc_5d"][i - 4] is not None
    assert got.row(i, named=True)["y_cc_1d"] is None


def test_a_delisted_name_has_no_label_beyond_its_last_day():
    quotes = raw_quotes(2, 60, seed=4)
    days = quotes["date"].unique().sort()
    kept = quotes.filter((pl.col("code") == "13010") | (pl.col("date") <= days[30]))
    got = labels(kept).filter(pl.col("code") == "13020")
    assert got["date"].max() == days[30]
    assert got["y_cc_1d"].null_count() == 1
    assert got["y_cc_20d"].null_count() == 20


def test_rows_are_those_of_the_universe():
    quotes = raw_quotes(3, 40, seed=5)
    members = quotes.filter(pl.col("code") != "13020").select("date", "code")
    assert labels(quotes, members).select("date", "code").equals(members.sort("date", "code"))
