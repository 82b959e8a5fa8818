"""Indicators against TA-Lib, and against the weights of the finite memory."""

import numpy as np
import polars as pl
import pytest
import talib

from atft_assets.features import technical
from atft_assets.features.rolling import ema, lag, own, wilder
from tests.features.synthetic import bars_of, column, lagged, raw_quotes
from tests.features.synthetic import ema as weighted

BARS = bars_of(raw_quotes(1, 900, seed=5)).collect()
FRAME = technical.technical_features(BARS.lazy()).collect()
o, h, lo, c = (column(BARS, x) for x in "ohlc")
LATE = slice(600, 840)  # TA-Lib's recursions have forgotten their seed


def long_memory(expression: pl.Expr) -> np.ndarray:
    frame = BARS.with_columns(
        (pl.col("c") - lag("c", 1)).alias("_change"), technical.true_range().alias("tr")
    ).with_columns(
        pl.when((h_up() > l_down()) & (h_up() > 0)).then(h_up()).otherwise(0.0).alias("_plus_dm"),
        pl.when((l_down() > h_up()) & (l_down() > 0)).then(l_down()).otherwise(0.0).alias("_minus_dm"),
        (ema("c", 12, 250) - ema("c", 26, 250)).alias("_macd"),
    )
    return column(frame.select(expression.alias("x")), "x")


def h_up():
    return pl.col("h") - lag("h", 1)


def l_down():
    return lag("l", 1) - pl.col("l")


def test_rsi_is_talibs():
    for n in (2, 14):
        np.testing.assert_allclose(
            long_memory(technical.rsi("_change", n, 300))[LATE], talib.RSI(c, n)[LATE], rtol=1e-6, atol=1e-6
        )


def test_adx_is_talibs():
    np.testing.assert_allclose(long_memory(technical.adx(14, 250))[LATE], talib.ADX(h, lo, c, 14)[LATE], rtol=1e-4)


def test_atr_is_talibs():
    np.testing.assert_allclose(
        long_memory(wilder("tr", 14, 300) / pl.col("c"))[LATE], (talib.ATR(h, lo, c, 14) / c)[LATE], rtol=1e-6
    )


def test_macd_is_talibs():
    line, signal, _ = talib.MACD(c, 12, 26, 9)
    np.testing.assert_allclose(long_memory(pl.col("_macd"))[LATE], line[LATE], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(long_memory(ema("_macd", 9, 200))[LATE], signal[LATE], rtol=1e-4, atol=1e-6)


def test_bollinger_bands_and_stochastic_are_talibs():
    upper, middle, lower = talib.BBANDS(c, 20, 2, 2)
    np.testing.assert_allclose(
        column(FRAME, "bb_pct_b")[30:260], ((c - lower) / (upper - lower))[30:260], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(column(FRAME, "bb_bw")[30:260], ((upper - lower) / middle)[30:260], rtol=1e-4)
    slow_k, _ = talib.STOCH(h, lo, c, 14, 3, 0, 3, 0)
    np.testing.assert_allclose(column(FRAME, "stoch_k")[30:260], slow_k[30:260], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "reference", "tolerance"),
    [
        ("rsi_2", lambda: talib.RSI(c, 2), 1.0),
        ("rsi_14", lambda: talib.RSI(c, 14), 1.0),
        ("natr_14", lambda: talib.NATR(h, lo, c, 14) / 100, 5e-4),
        ("adx_14", lambda: talib.ADX(h, lo, c, 14), 2.0),
        ("macd", lambda: talib.MACD(c, 12, 26, 9)[0] / c, 1e-3),
        ("macd_hist", lambda: talib.MACD(c, 12, 26, 9)[2] / c, 1e-3),
    ],
)
def test_the_stored_column_is_talibs_up_to_its_finite_memory(name, reference, tolerance):
    got, expected = column(FRAME, name)[LATE], reference()[LATE]
    assert np.corrcoef(got, expected)[0, 1] > 0.995
    assert np.abs(got - expected).max() < tolerance


def test_finite_memory_is_exactly_its_weights():
    got = column(BARS.select(ema("c", 20).alias("x")), "x")
    np.testing.assert_allclose(got[61:], weighted(c, 2 / 21, 60)[61:], rtol=1e-10)
    change = lagged(c, 0) - lagged(c, 1)
    got = column(BARS.select(own(pl.col("c") - lag("c", 1)).alias("d"), "code").select(wilder("d", 14).alias("x")), "x")
    np.testing.assert_allclose(got[80:], weighted(change, 1 / 14, 70)[80:], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("feature", technical.FEATURES, ids=lambda f: f.name)
def test_the_declared_look_back_is_where_values_begin(feature):
    assert int(np.argmin(np.isnan(column(FRAME, feature.name)))) == feature.lookback


def test_rsi_of_a_price_that_only_rises_is_100_and_of_one_that_rests_is_unknown():
    quotes = raw_quotes(1, 200, seed=1)
    rising = quotes.with_columns((100.0 + pl.int_range(pl.len())).alias(x) for x in "OHLC")
    assert technical.technical_features(bars_of(rising)).collect()["rsi_14"].drop_nulls().min() == 100.0
    still = quotes.with_columns(pl.lit(100.0).alias(x) for x in "OHLC")
    frame = technical.technical_features(bars_of(still)).collect()
    assert frame["rsi_14"].null_count() == frame.height
    assert frame["bb_pct_b"].null_count() == frame.height
    assert frame["adx_14"].drop_nulls().unique().to_list() == [0.0]
