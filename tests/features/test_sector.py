"""Sector series on the sector-date table, leave-one-out means, z-scores, target encoding."""

import numpy as np
import polars as pl
import pytest

from atft_assets.features import sector
from atft_assets.features.labels import forward_returns
from atft_assets.features.sector import sector_features
from atft_assets.features.stock import stock_features
from atft_assets.features.target_encoding import target_encoding
from tests.features.synthetic import bars_of, column, ema, lagged, members_of, raw_quotes, rolling

NAMES, DAYS = 10, 300
QUOTES = raw_quotes(NAMES, DAYS, seed=11, untraded=0.02)
MEMBERS = members_of(QUOTES, sectors=2)
STOCK = stock_features(QUOTES, MEMBERS)
BARS = bars_of(QUOTES).collect()
SECTOR = sector_features(STOCK, MEMBERS, BARS)
ROWS = STOCK.join(MEMBERS, on=["date", "code"]).filter(pl.col("is_traded") == 1)
DATES = QUOTES["date"].unique().sort()


def test_series_roll_over_days_not_over_rows():
    one = SECTOR.join(MEMBERS, on=["date", "code"]).filter(pl.col("s33") == "0").unique("date").sort("date")
    medians = [
        ROWS.filter((pl.col("date") == d) & (pl.col("s33") == "0"))["returns_1d"].cast(pl.Float64).median()
        for d in DATES[1:]
    ]
    s = np.concatenate([[np.nan], np.array(medians, dtype=float)])
    np.testing.assert_allclose(column(one, "sec_ret_1d_eq"), s, rtol=1e-5)
    np.testing.assert_allclose(column(one, "sec_mom_20")[25:], rolling(s, 20, np.sum)[25:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        column(one, "sec_vol_20")[25:], (rolling(s, 20, lambda x: np.std(x, ddof=1)) * np.sqrt(252))[25:], rtol=1e-4
    )
    index = np.concatenate([[np.nan], np.cumprod(1 + s[1:])])
    five, twenty = ema(index, 2 / 6, 15), ema(index, 2 / 21, 60)
    np.testing.assert_allclose(column(one, "sec_gap_5_20")[70:], (five / twenty - 1)[70:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(column(one, "sec_price_to_ema_20")[70:], (index / twenty - 1)[70:], rtol=1e-3, atol=1e-6)
    vol = rolling(s, 20, lambda x: np.std(x, ddof=1))
    z = (vol - rolling(vol, 252, np.mean)) / rolling(vol, 252, lambda x: np.std(x, ddof=1))
    np.testing.assert_allclose(column(one, "sec_vol_20_z")[272:], z[272:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("place", [30, 100, 250])
def test_one_day_by_hand(place):
    day = DATES[place]
    rows = ROWS.filter(pl.col("date") == day)
    got = {r["code"]: r for r in SECTOR.filter(pl.col("date") == day).iter_rows(named=True)}
    for s33 in ("0", "1"):
        group = rows.filter(pl.col("s33") == s33)
        codes = group["code"].to_list()
        r1, r5 = column(group, "returns_1d"), column(group, "returns_5d")
        for i, code in enumerate(codes):
            row = got[code]
            assert row["sec_ret_1d_eq_loo"] == pytest.approx(np.nanmean(np.delete(r1, i)), abs=1e-6)
            assert row["sec_ret_1d_eq"] == pytest.approx(np.nanmedian(r1), abs=1e-6)
            assert row["ret_1d_demeaned"] == pytest.approx(r1[i] - np.nanmean(r1), abs=1e-6)
            assert row["rel_to_sec_5d"] == pytest.approx(r5[i] - np.nanmedian(r5), abs=1e-6)
            assert row["z_in_sec_returns_5d"] == pytest.approx((r5[i] - r5.mean()) / r5.std(), abs=1e-4)
            assert row["sec_member_cnt"] == len(codes)
            assert row["sec33_daily_freq"] == pytest.approx(len(codes) / rows.height)
            assert row["is_sector_valid"] == 1
        z = np.array([got[code]["z_in_sec_ret_intraday"] for code in codes])
        assert z.mean() == pytest.approx(0, abs=1e-5)
        assert z.std() == pytest.approx(1, abs=1e-4)  # a z-score of one-stock frames would be 0


def test_beta_to_the_rest_of_the_sector():
    code = "13010"
    mine = SECTOR.filter(pl.col("code") == code)
    r1 = column(ROWS.filter(pl.col("code") == code).sort("date"), "returns_1d")
    loo = column(mine, "sec_ret_1d_eq_loo")
    for i in (70, 200):
        window = slice(i - 59, i + 1)
        beta = np.cov(r1[window], loo[window])[0, 1] / np.var(loo[window], ddof=1)
        assert mine["beta_to_sec_60"][i] == pytest.approx(beta, rel=1e-3, abs=1e-4)
        assert mine["alpha_vs_sec_1d"][i] == pytest.approx(r1[i] - beta * loo[i], abs=1e-5)


def test_a_small_or_unknown_sector():
    members = MEMBERS.with_columns(
        pl.when(pl.col("code") == "13010")
        .then(pl.lit("9"))
        .when(pl.col("code") == "13020")
        .then(pl.lit("9999"))
        .otherwise("s33")
        .alias("s33")
    )
    got = sector_features(STOCK, members, BARS)
    alone, unknown = (got.filter(pl.col("code") == code) for code in ("13010", "13020"))
    assert alone["sec_ret_1d_eq_loo"].null_count() == alone.height  # nobody else is there
    assert alone["z_in_sec_returns_5d"].null_count() == alone.height
    assert set(alone["is_sector_valid"]) == {0}
    assert alone["sec_ret_1d_eq"].drop_nulls().len() > 0
    names = [f.name for f in sector.FEATURES if f.name != "sec17_daily_freq"]
    assert all(unknown[name].null_count() == unknown.height for name in names)


def test_a_name_that_moves_belongs_to_the_new_sector_from_that_day():
    day = DATES[150]
    moved = MEMBERS.with_columns(
        pl.when((pl.col("code") == "13010") & (pl.col("date") >= day)).then(pl.lit("1")).otherwise("s33").alias("s33")
    )
    got = sector_features(STOCK, moved, BARS)
    before, after = got.filter(pl.col("date") < day), got.filter(pl.col("date") >= day)
    assert before.equals(SECTOR.filter(pl.col("date") < day))
    other = got.filter((pl.col("code") == "13040") & (pl.col("date") >= day))
    mine = after.filter(pl.col("code") == "13010").join(other, on="date", suffix="_other")
    assert mine["sec_ret_1d_eq"].equals(mine["sec_ret_1d_eq_other"].alias("sec_ret_1d_eq"))


def fold(code: str) -> int:
    return int(code[:4], 36) % 5


def test_target_encoding_by_hand():
    encoded = target_encoding(BARS, MEMBERS)
    labels = forward_returns(BARS, (5,)).join(MEMBERS, on=["date", "code"])
    place = 120
    day = DATES[place]
    realised = labels.filter((pl.col("date") <= DATES[place - 5]) & (pl.col("date") > DATES[place - 65]))
    realised = realised.drop_nulls("y_cc_5d")
    for f in range(5):
        others = realised.filter(pl.Series([fold(c) != f for c in realised["code"]]))
        here = others.filter(pl.col("s33") == "0")
        expected = (here["y_cc_5d"].sum() + 100 * others["y_cc_5d"].mean()) / (here.height + 100)
        got = encoded.filter((pl.col("date") == day) & (pl.col("s33") == "0") & (pl.col("fold") == f))
        assert got["te33_sec_target_5d"][0] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_target_encoding_never_sees_a_label_that_is_not_realised():
    """The seed system cut at one day; a label of five days is known five days later."""
    place = 200
    cut = BARS.filter(pl.col("date") <= DATES[place])
    spoiled = BARS.with_columns(
        pl.when(pl.col("date") > DATES[place]).then(pl.col(x) * 3).otherwise(pl.col(x)).alias(x) for x in ("o", "c")
    )
    known = target_encoding(BARS, MEMBERS).filter(pl.col("date") <= DATES[place]).sort("date", "s33", "fold")
    for bars in (cut, spoiled):
        got = target_encoding(bars, MEMBERS).filter(pl.col("date") <= DATES[place]).sort("date", "s33", "fold")
        assert got.equals(known)
    one_day_earlier = DATES[place - 4]  # its label is realised tomorrow: a change of it must show tomorrow, not today
    bumped = BARS.with_columns(
        pl.when(pl.col("date") == DATES[place + 1]).then(pl.col("c") * 2).otherwise(pl.col("c")).alias("c")
    )
    got = target_encoding(bumped, MEMBERS)
    assert got.filter(pl.col("date") <= DATES[place]).sort("date", "s33", "fold").equals(known)
    tomorrow = got.filter(pl.col("date") == DATES[place + 1]).sort("s33", "fold")
    plain = target_encoding(BARS, MEMBERS).filter(pl.col("date") == DATES[place + 1]).sort("s33", "fold")
    assert one_day_earlier < DATES[place] and not tomorrow.equals(plain)


def test_folds_do_not_see_their_own_stocks():
    code = "13010"
    bumped = BARS.with_columns(
        pl.when(pl.col("code") == code).then(pl.col("c") * (1 + pl.int_range(pl.len()) % 7)).otherwise("c").alias("c")
    )
    same = pl.col("fold") == fold(code)
    before, after = (target_encoding(b, MEMBERS).filter(same).sort("date", "s33") for b in (BARS, bumped))
    assert before.equals(after)


def test_declared_look_backs_hold():
    first = {
        f.name: SECTOR.filter(pl.col(f.name).is_not_null())["date"].min() for f in sector.FEATURES if f.kind != "flag"
    }
    for feature in sector.FEATURES:
        if feature.kind != "flag":
            assert first[feature.name] <= DATES[min(feature.lookback + 8, DAYS - 1)], feature.name


def test_lagged_helper_is_a_lag():
    assert lagged(np.array([1.0, 2.0]), 1)[1] == 1.0
