"""The indicators as they are stored: against the weights of their finite memory, and against TA-Lib's endless one.

A finite average F of the newest m terms and TA-Lib's endless one A belong together by A[t] = (1 - q) F[t] + q A[t - m],
with q = (1 - alpha)^m the weight that F leaves out. For averages that are stored, this identity is tested itself. For
ratios of averages (RSI, ADX) it bounds how far the two can be apart, row by row.
"""

import numpy as np
import polars as pl
import pytest
import talib

from atft_assets.features import technical
from atft_assets.features.rolling import EMA_MEMORY, TINY, ema, lag, own, wilder
from tests.features.synthetic import bars_of, column, lagged, raw_quotes
from tests.features.synthetic import ema as weighted

BARS = bars_of(raw_quotes(1, 900, seed=5)).collect()
FRAME = technical.technical_features(BARS.lazy()).collect()
o, h, lo, c = (column(BARS, x) for x in "ohlc")
LATE = slice(600, 900)  # TA-Lib's recursions have forgotten their seed
MEMORY = 70
Q = (13 / 14) ** MEMORY


def average(x: np.ndarray, n: int) -> np.ndarray:
    """Wilder's average of the newest 5 n values, weight by weight."""
    return weighted(x, 1 / n, 5 * n)


def endless(x: np.ndarray, n: int) -> np.ndarray:
    """Wilder's average of all values, as TA-Lib has it once its seed is forgotten."""
    out = np.zeros(len(x))
    for i in range(1, len(x)):
        out[i] = out[i - 1] + (np.nan_to_num(x[i]) - out[i - 1]) / n
    return out


def rsi(n: int) -> np.ndarray:
    change = c - lagged(c, 1)
    gain, loss = average(np.maximum(change, 0), n), average(np.maximum(-change, 0), n)
    return 100 * gain / (gain + loss)


def movements(h: np.ndarray, lo: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilder's directional movements: the larger of the two if it is positive; of a tie, neither."""
    up, down = h - lagged(h, 1), lagged(lo, 1) - lo
    plus = np.where((up - down > TINY * c) & (up > 0), up, 0.0)
    minus = np.where((down - up > TINY * c) & (down > 0), down, 0.0)
    return plus, minus


def adx(h: np.ndarray, lo: np.ndarray, c: np.ndarray) -> np.ndarray:
    plus, minus = (average(x, 14) for x in movements(h, lo, c))
    return average(100 * np.abs(plus - minus) / (plus + minus), 14)


true_range = np.maximum(h, lagged(c, 1)) - np.minimum(lo, lagged(c, 1))
macd = weighted(c, 2 / 13, EMA_MEMORY[12]) - weighted(c, 2 / 27, EMA_MEMORY[26])
signal = weighted(macd, 2 / 10, EMA_MEMORY[9])
ORACLE = {
    "rsi_2": rsi(2),
    "rsi_14": rsi(14),
    "rsi_delta": rsi(14) - lagged(rsi(14), 1),
    "macd": macd / c,
    "macd_signal": signal / c,
    "macd_hist": (macd - signal) / c,
    "natr_14": average(true_range, 14) / c,
    "adx_14": adx(h, lo, c),
}


@pytest.mark.parametrize("name", ORACLE)
def test_the_stored_column_is_exactly_its_finite_memory(name: str) -> None:
    # Float32 holds seven digits; of a hundred points, 1e-5
    np.testing.assert_allclose(column(FRAME, name)[150:], ORACLE[name][150:], rtol=2e-5, atol=2e-5)


def test_the_stored_rsi_is_talibs_as_far_as_the_weights_left_out_can_tell() -> None:
    """With G and L endless, RSI = G/(G + L) is a mean of the finite RSI and of one in [0, 100], the latter with the
    weight q S[t - m]/S[t] of the moves that the finite one has forgotten, S = G + L."""
    for n, name in ((2, "rsi_2"), (14, "rsi_14")):
        q, memory = (1 - 1 / n) ** (5 * n), 5 * n
        moves = endless(np.abs(c - lagged(c, 1)), n)
        bound = 100 * q * lagged(moves, memory) / moves
        difference = np.abs(column(FRAME, name) - talib.RSI(c, n))
        assert (difference[LATE] <= bound[LATE] + 1e-4).all()
        assert np.median(bound[LATE]) < 0.7  # it says something: less than a point of a hundred


def test_the_stored_adx_is_talibs_as_far_as_the_weights_left_out_can_tell() -> None:
    """The RSI's bound twice: of the index, which lies in [-1, 1] before its sign goes, and of its average."""
    plus, minus = movements(h, lo, c)
    moves = endless(plus + minus, 14)
    index = 200 * Q * lagged(moves, MEMORY) / moves
    bound = average(index, 14) + 100 * Q
    difference = np.abs(column(FRAME, "adx_14") - talib.ADX(h, lo, c, 14))
    assert (difference[LATE] <= bound[LATE] + 1e-4).all()
    assert np.median(bound[LATE]) < 2


def test_the_stored_atr_and_talibs_belong_together() -> None:
    full = talib.ATR(h, lo, c, 14)
    got = (1 - Q) * column(FRAME, "natr_14") * c + Q * lagged(full, MEMORY)
    np.testing.assert_allclose(got[LATE], full[LATE], rtol=1e-6)


def test_the_stored_macd_and_talibs_belong_together() -> None:
    """The line is a difference of two averages with memories of their own: what each leaves out is added to it."""
    line = talib.MACD(c, 12, 26, 9)[0]
    missing = 0.0
    for span, sign in ((12, 1), (26, -1)):
        memory = EMA_MEMORY[span]
        q = (1 - 2 / (span + 1)) ** memory
        finite = weighted(c, 2 / (span + 1), memory)
        missing = missing + sign * q * (lagged(talib.EMA(c, span), memory) - finite)
    np.testing.assert_allclose((column(FRAME, "macd") * c + missing)[LATE], line[LATE], rtol=1e-4, atol=2e-4)


def test_of_a_tie_of_the_two_movements_neither_counts_whatever_the_prices_are_adjusted_to() -> None:
    """Prices in whole yen have many ties. Divided by a factor, rounding would decide them one way or the other."""
    rng = np.random.default_rng(3)
    middle = 1000 + np.cumsum(rng.choice([-1, 0, 0, 0, 1], 400))
    half = rng.integers(3, 9, 400)  # a range that widens on both sides at once is a tie
    quotes = raw_quotes(1, 400, seed=1).with_columns(
        pl.Series("H", middle + half, dtype=pl.Float64),
        pl.Series("L", middle - half, dtype=pl.Float64),
        *(pl.Series(x, middle, dtype=pl.Float64) for x in "OC"),
    )
    high, low, close = (column(quotes, x) for x in "HLC")
    up, down = high - lagged(high, 1), lagged(low, 1) - low
    assert ((up == down) & (up > 0)).sum() > 20
    expected = adx(high, low, close)
    first = pl.col("date") == pl.col("date").min()
    for factor in (1.0, 1 / 3, 0.7):
        moved = quotes.with_columns(pl.when(first).then(factor).otherwise(pl.col("AdjFactor")).alias("AdjFactor"))
        got = technical.technical_features(bars_of(moved)).collect()
        np.testing.assert_allclose(column(got, "adx_14")[141:], expected[141:], rtol=2e-5)


def test_bollinger_bands_and_stochastic_are_talibs() -> None:
    upper, middle, lower = talib.BBANDS(c, 20, 2, 2)
    np.testing.assert_allclose(
        column(FRAME, "bb_pct_b")[30:260], ((c - lower) / (upper - lower))[30:260], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(column(FRAME, "bb_bw")[30:260], ((upper - lower) / middle)[30:260], rtol=1e-4)
    slow_k, _ = talib.STOCH(h, lo, c, 14, 3, 0, 3, 0)
    np.testing.assert_allclose(column(FRAME, "stoch_k")[30:260], slow_k[30:260], rtol=1e-4, atol=1e-4)


def test_finite_memory_is_exactly_its_weights() -> None:
    got = column(BARS.select(ema("c", 20).alias("x")), "x")
    np.testing.assert_allclose(got[61:], weighted(c, 2 / 21, 60)[61:], rtol=1e-10)
    change = lagged(c, 0) - lagged(c, 1)
    got = column(BARS.select(own(pl.col("c") - lag("c", 1)).alias("d"), "code").select(wilder("d", 14).alias("x")), "x")
    np.testing.assert_allclose(got[80:], weighted(change, 1 / 14, 70)[80:], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("feature", technical.FEATURES, ids=lambda f: f.name)
def test_the_declared_look_back_is_where_values_begin(feature) -> None:
    assert int(np.argmin(np.isnan(column(FRAME, feature.name)))) == feature.lookback


def test_rsi_of_a_price_that_only_rises_is_100_and_of_one_that_rests_is_unknown() -> None:
    quotes = raw_quotes(1, 200, seed=1)
    rising = quotes.with_columns((100.0 + pl.int_range(pl.len())).alias(x) for x in "OHLC")
    assert technical.technical_features(bars_of(rising)).collect()["rsi_14"].drop_nulls().min() == 100.0
    still = quotes.with_columns(pl.lit(100.0).alias(x) for x in "OHLC")
    frame = technical.technical_features(bars_of(still)).collect()
    assert frame["rsi_14"].null_count() == frame.height
    assert frame["bb_pct_b"].null_count() == frame.height
    assert frame["adx_14"].drop_nulls().unique().to_list() == [0.0]
