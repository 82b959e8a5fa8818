"""Market, stock x market and calendar columns against NumPy, TA-Lib and the days themselves."""

from datetime import date

import numpy as np
import polars as pl
import pytest
import talib

from atft_assets.calendar import trading_days
from atft_assets.contracts import ContractViolation
from atft_assets.features import market
from atft_assets.features.calendar_features import calendar_features
from atft_assets.features.market import market_features
from atft_assets.features.stock import stock_features
from atft_assets.features.stock_market import stock_market_features
from tests.features.synthetic import column, ema, lagged, members_of, raw_quotes, rolling, topix

DAYS = 420
TOPIX = topix(DAYS)
MARKET = market_features(TOPIX)
o, h, lo, c = (column(TOPIX, x) for x in "OHLC")
m1 = c / lagged(c, 1) - 1
E = {w: ema(c, 2 / (w + 1), m) for w, m in ((5, 15), (20, 60), (60, 180), (200, 240))}
mean20, std20 = rolling(c, 20, np.mean), rolling(c, 20, np.std)
vol = rolling(m1, 20, lambda x: np.std(x, ddof=1)) * np.sqrt(252)
true_range = np.maximum(h, lagged(c, 1)) - np.minimum(lo, lagged(c, 1))
atr = ema(true_range, 1 / 14, 70)


def z(x):
    return (x - rolling(x, 252, np.mean)) / rolling(x, 252, lambda y: np.std(y, ddof=1))


ORACLE = {
    **{f"mkt_ret_{n}d": c / lagged(c, n) - 1 for n in (1, 5, 10, 20)},
    **{f"mkt_price_to_ema_{w}": c / E[w] - 1 for w in (5, 60, 200)},
    "mkt_gap_20_60": E[20] / E[60] - 1,
    "mkt_dev_20": c / E[20] - 1,
    "mkt_gap_5_20": E[5] / E[20] - 1,
    "mkt_ema20_slope_3": E[20] / lagged(E[20], 3) - 1,
    "mkt_vol_20d": vol,
    "mkt_atr_14_to_60": atr / rolling(true_range, 60, np.mean),
    "mkt_natr_14": atr / c,
    "mkt_bb_pct_b": np.clip((c - mean20 + 2 * std20) / (4 * std20), 0, 1),
    "mkt_bb_bw": 4 * std20 / mean20,
    "mkt_dd_from_peak": c / rolling(c, 252, np.max) - 1,
    "mkt_ret_1d_z": z(m1),
    "mkt_vol_20d_z": z(vol),
    "mkt_bb_bw_z": z(4 * std20 / mean20),
    "mkt_dd_from_peak_z": z(c / rolling(c, 40, np.max) - 1),
}


@pytest.mark.parametrize("feature", [f for f in market.FEATURES if f.kind == "market"], ids=lambda f: f.name)
def test_market_columns_equal_their_formula(feature):
    got, expected = column(MARKET, feature.name), ORACLE[feature.name]
    assert int(np.argmin(np.isnan(got))) == feature.lookback
    np.testing.assert_allclose(got[feature.lookback :], expected[feature.lookback :], rtol=1e-4, atol=1e-5)


def test_the_flags_follow_from_the_columns():
    frame = MARKET.slice(300)
    std60 = rolling(m1, 60, lambda x: np.std(x, ddof=1))
    expected = {
        "mkt_big_move_flag": (np.abs(m1) >= 2 * std60)[300:],
        "mkt_bull_200": (c > E[200])[300:],
        "mkt_trend_up": ORACLE["mkt_gap_5_20"][300:] > 0,
        "mkt_high_vol": ORACLE["mkt_vol_20d_z"][300:] > 1,
        "mkt_squeeze": ORACLE["mkt_bb_bw_z"][300:] < -1,
    }
    assert set(expected) == {f.name for f in market.FEATURES if f.kind == "flag"}
    for name, values in expected.items():
        assert frame[name].cast(pl.Boolean).to_list() == values.tolist(), name
    assert len(market.FEATURES) == 26


def test_the_markets_bands_are_talibs():
    upper, middle, lower = talib.BBANDS(c, 20, 2, 2)
    np.testing.assert_allclose(column(MARKET, "mkt_bb_bw")[20:], ((upper - lower) / middle)[20:], rtol=1e-4)


def stock(quotes: pl.DataFrame) -> pl.DataFrame:
    rows = stock_features(quotes, members_of(quotes))
    return stock_market_features(rows, MARKET, TOPIX)


def test_beta_is_the_slope_on_the_same_days_market():
    quotes = raw_quotes(1, 200, seed=8)
    quotes = quotes.with_columns((pl.col(x) * pl.Series(c[:200] / c[0]) ** 1.5).alias(x) for x in "OHLC")
    price = column(quotes, "C")
    r1 = price / lagged(price, 1) - 1
    got = stock(quotes)
    for i in (60, 61, 130, 199):
        window = slice(i - 59, i + 1)
        beta = np.cov(r1[window], m1[window])[0, 1] / np.var(m1[window], ddof=1)
        assert got["beta_60d"][i] == pytest.approx(beta, rel=1e-4)
        assert got["alpha_1d"][i] == pytest.approx(r1[i] - beta * m1[i], abs=1e-6)
        assert got["idio_share_60"][i] == pytest.approx(1 - np.corrcoef(r1[window], m1[window])[0, 1] ** 2, abs=1e-5)
        lagging = np.cov(r1[window], lagged(m1, 1)[window])[0, 1] / np.var(lagged(m1, 1)[window], ddof=1)
        if i > 60:
            assert abs(got["beta_60d"][i] - lagging) > 0.05  # the seed system's lagged market is another number
    assert got["beta_60d"][:60].null_count() == 60
    betas = column(got, "beta_60d")
    np.testing.assert_allclose(got["beta_stability_60d"][150], -np.log(np.std(betas[131:151], ddof=1)), rtol=1e-3)
    np.testing.assert_allclose(got["alpha_mom_20"][150], column(got, "alpha_1d")[131:151].sum(), rtol=1e-3)
    ret5 = price / lagged(price, 5) - 1
    m5 = c / lagged(c, 5) - 1
    assert got["alpha_5d"][150] == pytest.approx(ret5[150] - betas[150] * m5[150], abs=1e-5)
    assert got["rel_strength_5d"][150] == pytest.approx(ret5[150] - m5[150], abs=1e-5)
    own_vol = np.std(r1[131:151], ddof=1) / np.std(m1[131:151], ddof=1)
    assert got["idio_vol_ratio"][150] == pytest.approx(own_vol, rel=1e-3)


def test_over_an_untraded_day_the_market_is_measured_from_the_stocks_last_price():
    quotes = raw_quotes(1, 150, seed=9)
    follower = quotes.with_columns(pl.Series(x, c[:150]) for x in "OHLC")  # the market itself: beta 1, alpha 0
    day = quotes["date"][100]
    names = ("O", "H", "L", "C", "Vo", "Va")
    gappy = follower.with_columns(pl.when(pl.col("date") != day).then(pl.col(x)).alias(x) for x in names)
    got = stock(gappy).filter(pl.col("date") > day)
    assert ((got["beta_60d"] - 1).abs() < 1e-4).all()
    assert (got["alpha_1d"].abs() < 1e-6).all()


def test_inputs_are_checked_before_they_are_used():
    rows = pl.DataFrame({"date": [date(2020, 1, 6)], "code": ["13010"]})
    with pytest.raises(ContractViolation, match="column is_traded"):
        stock_market_features(rows, MARKET, TOPIX)
    with pytest.raises(ContractViolation, match="topix"):
        market_features(TOPIX.drop("H"))


def test_calendar_flags_of_known_days():
    frame = {
        r["date"]: r
        for r in calendar_features(trading_days(date(2019, 1, 4), date(2020, 12, 30))).iter_rows(named=True)
    }
    assert frame[date(2019, 4, 26)]["cal_before_holiday"] == 1  # ten days of Golden Week 2019
    assert frame[date(2019, 5, 7)]["cal_after_holiday"] == 1
    assert frame[date(2019, 6, 7)]["cal_before_holiday"] == 0  # an ordinary Friday
    assert frame[date(2020, 3, 31)]["cal_month_end"] == 1
    assert frame[date(2020, 3, 26)]["cal_month_end"] == 0
    assert frame[date(2020, 4, 1)]["cal_month_start"] == 1
    assert frame[date(2020, 3, 13)]["cal_sq_week"] == 1  # second Friday of March 2020
    assert frame[date(2020, 3, 9)]["cal_sq_week"] == 1
    assert frame[date(2020, 3, 16)]["cal_sq_week"] == 0
    monday, friday = frame[date(2020, 3, 9)], frame[date(2020, 3, 13)]
    assert monday["cal_weekday_sin"] == pytest.approx(0)
    assert friday["cal_weekday_cos"] == pytest.approx(np.cos(2 * np.pi * 4 / 5), abs=1e-6)
    assert frame[date(2020, 10, 1)]["cal_month_start"] == 1  # the day of the system halt is a day


def test_calendar_features_do_not_depend_on_which_days_are_asked_for():
    days = trading_days(date(2020, 1, 1), date(2020, 12, 30))
    whole = calendar_features(days)
    for i in (3, 60, 177):
        assert calendar_features(days[i : i + 1]).equals(whole[i])
