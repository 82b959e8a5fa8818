"""Regimes: exposures against NumPy, row by row; nothing from later."""

import math
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.features import regimes
from atft_assets.features.regimes import regime_features
from tests.features.synthetic import sessions

DAYS = sessions(260)


@cache
def world(seed: int) -> tuple[pl.DataFrame, ...]:
    rng = np.random.default_rng(seed)

    def column(n: int, gone: float = 0.0) -> pl.Series:
        values = rng.normal(0, 1, n).astype(np.float32)
        return pl.Series(values).set(pl.Series(rng.random(n) < gone), None)

    days = pl.DataFrame({"date": DAYS})
    grid = days.join(pl.DataFrame({"code": ["13010", "13020"]}), how="cross")
    n, d = grid.height, len(DAYS)
    traded = pl.Series((rng.random(n) > 0.05).astype(np.uint8))
    stock = grid.with_columns(
        traded.alias("is_traded"),
        *(column(n, 0.01).alias(c) for c in ("volatility_60d", "bb_pct_b", "returns_5d")),
    )
    pair = grid.with_columns(column(n, 0.002).alias("beta_60d"), column(n, 0.002).alias("alpha_1d"))
    options = days.with_columns(column(d, 0.1).alias(c) for c in regimes.OPTION_COLUMNS[1:])
    indices = days.with_columns(column(d, 0.002).alias(c) for c in regimes.INDEX_COLUMNS[1:])
    return stock, pair, options, indices


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 20), places=st.lists(st.integers(0, 480), min_size=20, max_size=20))
def test_exposures_are_slopes_over_a_names_own_rows(seed: int, places: list[int]) -> None:
    stock, pair, options, indices = world(seed)
    made = regime_features(stock, pair, options, indices)
    joined = (
        stock.filter(pl.col("is_traded") == 1)
        .join(pair, on=["date", "code"])
        .join(options, on="date")
        .join(indices, on="date")
        .sort("code", "date")
    )
    assert made.select("code", "date").equals(joined.select("code", "date"))
    for place in (place for place in places if place < made.height):
        row = joined.row(place, named=True)
        past = joined[: place + 1].filter(pl.col("code") == row["code"])
        c = {name: math.nan if value is None else value for name, value in row.items() if name not in ("date", "code")}
        expected = {
            "x_iv_beta": (c["beta_60d"] * c["opt_iv_shock"], 60),
            "x_term_vol": (c["volatility_60d"] * c["opt_term_slope_30_60"], 60),
            "x_vrp_rev": ((0.5 - c["bb_pct_b"]) * c["opt_vrp"], 22),
            "x_pcr_mom": (c["returns_5d"] * c["opt_pcr_mom5"], 6),
        }
        for name in regimes.SPREADS:
            x, s = (
                past[c].tail(60).cast(pl.Float64).fill_null(math.nan).to_numpy() for c in ("alpha_1d", f"idx_{name}_1d")
            )
            slope = float(np.cov(x, s)[0, 1] / np.var(s, ddof=1)) if len(x) == 60 else math.nan
            expected |= {f"x_{name}_beta": (slope, 120), f"x_{name}_push": (slope * c[f"idx_{name}_5d"], 120)}
        for name, (value, least) in expected.items():
            want = value if past.height > least else math.nan  # not before its look-back is there
            got = made[name][place]
            assert (math.nan if got is None else got) == pytest.approx(want, rel=1e-3, abs=1e-4, nan_ok=True), name


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 20), place=st.integers(125, len(DAYS) - 2))
def test_later_rows_change_nothing(seed: int, place: int) -> None:
    frames = world(seed)
    upto = pl.col("date") <= DAYS[place]
    whole = regime_features(*frames).filter(upto)
    assert regime_features(*(frame.filter(upto) for frame in frames)).equals(whole)
    spoiled = [
        frame.with_columns(
            pl.when(upto).then(pl.col(c)).otherwise(pl.col(c) * -7).alias(c)
            for c in frame.columns
            if frame.schema[c] == pl.Float32
        )
        for frame in frames
    ]
    assert regime_features(*spoiled).filter(upto).equals(whole)


def test_an_exposure_is_found_where_one_was_planted() -> None:
    stock, pair, options, indices = world(1)
    planted = pair.join(indices, on="date").with_columns(
        (pl.col("idx_size_1d") * 0.7 + pl.col("alpha_1d") * 0.1).alias("alpha_1d")
    )
    made = regime_features(stock, planted.select(pair.columns), options, indices)
    assert made["x_size_beta"].drop_nulls().mean() == pytest.approx(0.7, abs=0.03)
    assert abs(made["x_value_beta"].drop_nulls().mean()) < 0.1
