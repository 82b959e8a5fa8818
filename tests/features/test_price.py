"""Price, volume, momentum, shape and volatility columns against direct NumPy formulas."""

import numpy as np
import pytest

from atft_assets.features import price, volatility
from atft_assets.features.rolling import EMA_MEMORY
from tests.features.synthetic import bars_of, column, ema, lagged, raw_quotes, rolling

QUOTES = raw_quotes(1, 330, seed=3, splits=True)
BARS = bars_of(QUOTES).collect()
FRAME = price.price_features(BARS.lazy()).collect()
VOL = volatility.volatility_features(BARS.lazy()).collect()
o, h, lo, c, v = (column(BARS, x) for x in "ohlcv")
va = column(BARS, "va")
pc = lagged(c, 1)
r1 = c / pc - 1
E = {w: ema(c, 2 / (w + 1), EMA_MEMORY[w]) for w in (5, 10, 20, 60, 200)}
S = {w: rolling(c, w, np.mean) for w in (5, 10, 20, 60, 120)}
V = {w: rolling(v, w, np.mean) for w in (5, 20, 60)}
lva = np.log(va)
year = np.sqrt(252)


def std(x, w):
    return rolling(x, w, lambda y: np.std(y, ddof=1))


def corr(x, y, w):
    out = np.full(len(x), np.nan)
    for i in range(w - 1, len(x)):
        out[i] = np.corrcoef(x[i - w + 1 : i + 1], y[i - w + 1 : i + 1])[0, 1]
    return out


ORACLE = {
    **{f"returns_{n}d": c / lagged(c, n) - 1 for n in (1, 5, 10, 20, 60, 120)},
    **{f"log_returns_{n}d": np.log(c / lagged(c, n)) for n in (1, 5, 10, 20)},
    **{f"volatility_{w}d": std(r1, w) * year for w in (5, 10, 20, 60)},
    "realized_volatility": np.sqrt(252 * rolling(np.log(h / lo) ** 2, 20, np.mean) / (4 * np.log(2))),
    **{f"price_to_sma_{w}": c / S[w] - 1 for w in S},
    **{f"sma_gap_{a}_{b}": S[a] / S[b] - 1 for a, b in ((5, 20), (20, 60), (60, 120))},
    **{f"price_to_ema_{w}": c / E[w] - 1 for w in (5, 10, 20, 60)},
    **{f"ema{w}_slope": E[w] / lagged(E[w], 1) - 1 for w in (5, 20, 60, 200)},
    **{f"ma_gap_{a}_{b}": E[a] / E[b] - 1 for a, b in ((5, 20), (20, 60))},
    "dist_to_200ema": c / E[200] - 1,
    "high_low_ratio": h / lo,
    "close_to_high": (h - c) / (h - lo),
    "close_to_low": (c - lo) / (h - lo),
    "volume_ma_gap_5_20": V[5] / V[20] - 1,
    "log_adv_20": np.log(rolling(va, 20, np.mean)),
    **{f"volume_ratio_{w}": v / V[w] for w in (5, 20)},
    "turnover_to_mean_60": va / rolling(va, 60, np.mean),
    "log_turnover": lva,
    "mom_240_20": lagged(c, 20) / lagged(c, 240) - 1,
    "ret_20_5": lagged(c, 5) / lagged(c, 20) - 1,
    "dist_to_high_240": c / rolling(h, 240, np.max) - 1,
    "dist_to_high_60": c / rolling(h, 60, np.max) - 1,
    "dist_to_low_60": c / rolling(lo, 60, np.min) - 1,
    "efficiency_20": np.abs(c - lagged(c, 20)) / rolling(np.abs(c - pc), 20, np.sum),
    "up_day_share_20": rolling(np.where(np.isnan(r1), np.nan, r1 > 0), 20, np.mean),
    "ret_autocorr_20": corr(r1, lagged(r1, 1), 20),
    "log_turnover_change_1d": lva - lagged(lva, 1),
    "turnover_z_60": (lva - rolling(lva, 60, np.mean)) / std(lva, 60),
    "amihud_20": np.log(rolling(np.abs(r1) / va, 20, np.mean)),
    "turnover_cv_20": std(va, 20) / rolling(va, 20, np.mean),
    "price_volume_corr_20": corr(r1, lva - lagged(lva, 1), 20),
    "signed_volume_20": rolling(np.sign(r1) * v, 20, np.sum) / rolling(v, 20, np.sum),
    "zero_return_share_20": rolling(np.where(np.isnan(r1), np.nan, r1 == 0), 20, np.mean),
    "volume_ma_gap_20_60": V[20] / V[60] - 1,
    "ret_overnight": o / pc - 1,
    "ret_intraday": c / o - 1,
    "high_to_prev_close": h / pc - 1,
    "low_to_prev_close": lo / pc - 1,
    "upper_shadow": (h - np.maximum(o, c)) / pc,
    "lower_shadow": (np.minimum(o, c) - lo) / pc,
    "body_to_range": (c - o) / (h - lo),
    "intraday_mom_5": rolling(c / o - 1, 5, np.sum),
    "intraday_mom_20": rolling(c / o - 1, 20, np.sum),
    "overnight_mom_5": rolling(o / pc - 1, 5, np.sum),
    "overnight_mom_20": rolling(o / pc - 1, 20, np.sum),
    "close_place_5": (c - rolling(lo, 5, np.min)) / (rolling(h, 5, np.max) - rolling(lo, 5, np.min)),
}

on, oc = np.log(o / pc), np.log(c / o)
rs = np.log(h / o) * np.log(h / c) + np.log(lo / o) * np.log(lo / c)


def yang_zhang(w):
    """Textbook form: overnight + k open-to-close + (1 - k) Rogers-Satchell."""
    k = 0.34 / (1.34 + (w + 1) / (w - 1))
    return np.sqrt(252 * (std(on, w) ** 2 + k * std(oc, w) ** 2 + (1 - k) * rolling(rs, w, np.mean)))


def skew(x):
    d = x - x.mean()
    return (d**3).mean() / (d**2).mean() ** 1.5


tr = np.maximum(h, pc) - np.minimum(lo, pc)
VOL_ORACLE = {
    "pk_vol_60": np.sqrt(252 * rolling(np.log(h / lo) ** 2, 60, np.mean) / (4 * np.log(2))),
    **{f"rs_vol_{w}": np.sqrt(252 * rolling(rs, w, np.mean)) for w in (20, 60)},
    **{f"yz_vol_{w}": yang_zhang(w) for w in (20, 60)},
    **{f"vov_{w}": std(yang_zhang(w), w) for w in (20, 60)},
    "vol_ratio_5_60": std(r1, 5) / std(r1, 60),
    "downside_share_20": rolling(np.minimum(r1, 0) ** 2, 20, np.sum) / rolling(r1**2, 20, np.sum),
    "max_ret_20": rolling(r1, 20, np.max),
    "min_ret_20": rolling(r1, 20, np.min),
    "skew_60": rolling(r1, 60, skew),
    "range_to_atr_14": tr / rolling(tr, 14, np.mean),
    "overnight_vol_share_20": std(on, 20) ** 2 / (std(on, 20) ** 2 + std(oc, 20) ** 2),
}


def check(feature, frame, expected):
    got = column(frame, feature.name)
    first = int(np.argmin(np.isnan(expected)))
    assert np.isnan(got[:first]).all(), "a value before the window is full"
    first = max(first, feature.lookback)
    np.testing.assert_allclose(got[first:250], expected[first:250], rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("feature", price.FEATURES, ids=lambda f: f.name)
def test_price_columns_equal_their_formula(feature):
    check(feature, FRAME, ORACLE[feature.name])


@pytest.mark.parametrize("feature", volatility.FEATURES, ids=lambda f: f.name)
def test_volatility_columns_equal_their_formula(feature):
    check(feature, VOL, VOL_ORACLE[feature.name])


@pytest.mark.parametrize("feature", (*price.FEATURES, *volatility.FEATURES), ids=lambda f: f.name)
def test_the_declared_look_back_is_where_values_begin(feature):
    frame = FRAME if feature in price.FEATURES else VOL
    values = column(frame, feature.name)
    first = int(np.argmin(np.isnan(values)))
    assert first == feature.lookback


def test_the_seed_systems_forty_three_columns_are_all_there():
    assert len(price.PRICE) == 43


def test_a_locked_day_has_no_place_in_its_range():
    import polars as pl

    locked = QUOTES.with_columns(
        pl.when(pl.col("date") == BARS["date"][100]).then(pl.col("C")).otherwise(pl.col(x)).alias(x) for x in "OHL"
    )
    row = price.price_features(bars_of(locked)).collect().row(100, named=True)
    assert row["close_to_high"] is row["close_to_low"] is row["body_to_range"] is None
    assert row["high_low_ratio"] == 1.0
    assert row["returns_1d"] is not None


def test_a_stock_that_does_not_move_gives_no_infinity_and_no_noise():
    import polars as pl

    still = QUOTES.with_columns(*(pl.lit(500.0).alias(x) for x in "OHLC"), pl.lit(1.0).alias("AdjFactor"))
    for family in (price.price_features, volatility.volatility_features):
        frame = family(bars_of(still)).collect()
        finite = frame.select(pl.col(pl.Float32).is_finite().all())
        assert all(x in (True, None) for x in finite.row(0))
    frame = price.price_features(bars_of(still)).collect()
    assert frame["ret_autocorr_20"].null_count() == frame.height
    assert frame["zero_return_share_20"].drop_nulls().unique().to_list() == [1.0]
