"""From stored tables to arrays, and what follows from bars: bands, turnover, volatility; agreement with the flags."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import TOKYO, month_key, previous_trading_day, trading_days
from atft_assets.store import MissingTable, Store
from atft_assets.trading.agreement import agreement, touched
from atft_assets.trading.loading import MarketRefused, market_of
from atft_assets.trading.market import Market
from tests.trading.made import made_market

NAN = np.nan
HALT = date(2020, 10, 1)
START, FIRST, LAST = date(2020, 7, 1), date(2020, 9, 1), date(2020, 10, 30)
DAYS = trading_days(START, LAST)
CODES = ["10000", "20000", "30000", "40000"]
ETF = "13060"


def publish(store: Store, group: str, name: str, frame: pl.DataFrame) -> None:
    table = store.table(group, name)
    months = frame.with_columns(pl.col("date").dt.strftime("%Y-%m").alias("_key")).partition_by("_key", as_dict=True)
    for (key,), rows in months.items():
        table.publish([table.stage(str(key), rows.drop("_key"), code_version="t")])


def quotes(days: list[date] = DAYS, codes: Sequence[str] = (*CODES, ETF)) -> pl.DataFrame:
    """Bars around 1,000 yen that move a little each day; nobody trades on the day of the halt."""
    rng = np.random.default_rng(7)
    rows = pl.DataFrame({"date": days}).join(pl.DataFrame({"code": list(codes)}), how="cross")
    close = np.rint(1_000 + rng.integers(-30, 31, rows.height)).astype(float)
    frame = rows.with_columns(
        O=close - 3, H=close + 5, L=close - 6, C=close, Va=rng.integers(1, 9, rows.height) * 1e6, AdjFactor=1.0,
        UL=pl.lit("0"), LL=pl.lit("0"),
    )  # fmt: skip
    dark = pl.col("date") == HALT
    return frame.with_columns(pl.when(~dark).then(pl.col(c)).alias(c) for c in ("O", "H", "L", "C", "Va"))


def with_bar(frame: pl.DataFrame, code: str, day: date, **values: object) -> pl.DataFrame:
    this = (pl.col("code") == code) & (pl.col("date") == day)
    return frame.with_columns(pl.when(this).then(pl.lit(v)).otherwise(pl.col(c)).alias(c) for c, v in values.items())


def snapshot(day: date, codes: list[str], **columns: list[str]) -> pl.DataFrame:
    out = datetime.combine(previous_trading_day(day), datetime.min.time(), TOKYO) + timedelta(hours=17, minutes=30)
    given = {"S33": ["3050"], "ScaleCat": ["-"], "Mrgn": ["2"]} | columns
    return pl.DataFrame(
        {"date": [day] * len(codes), "code": codes, **{c: v * (len(codes) // len(v)) for c, v in given.items()}}
    ).with_columns(pl.lit(out).dt.cast_time_unit("us").dt.convert_time_zone("Asia/Tokyo").alias("available_at"))


def make_store(root: Path, bars: pl.DataFrame, listed: pl.DataFrame | None = None, index: bool = True) -> Store:
    store = Store(root=str(root))
    publish(store, "raw", "daily_quotes", bars)
    mondays = [d for d in trading_days(START, LAST) if d.isocalendar()[1] != previous_trading_day(d).isocalendar()[1]]
    listed = pl.concat(snapshot(d, CODES) for d in [START, *mondays]) if listed is None else listed
    publish(store, "raw", "listed_info", listed)
    members = bars.filter(pl.col("code") != ETF).select("date", "code")
    publish(store, "features", "universe", members)
    if index:
        level = 2_000 + np.arange(len(DAYS))
        publish(store, "raw", "topix", pl.DataFrame({"date": DAYS, "C": level.astype(float)}))
    return store


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return quotes()


@pytest.fixture(scope="module")
def market(bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Market:
    return market_of(make_store(tmp_path_factory.mktemp("market"), bars), FIRST, LAST)


def column(bars: pl.DataFrame, code: str, name: str) -> np.ndarray:
    """Of one name over all days, NaN where null."""
    return bars.filter(pl.col("code") == code).sort("date")[name].cast(pl.Float64).fill_null(NAN).to_numpy()


# -- what is read -----------------------------------------------------------------------------------------------------


def test_every_value_lands_on_its_day_and_name(market: Market, bars: pl.DataFrame) -> None:
    assert market.dates == tuple(trading_days(FIRST, LAST))
    assert market.codes == tuple(CODES)  # the fund is in no universe
    before = len(DAYS) - len(market.dates)
    for i, code in enumerate(CODES):
        for array, name in ((market.open, "O"), (market.high, "H"), (market.low, "L"), (market.close, "C")):
            assert np.array_equal(array[:, i], column(bars, code, name)[before:].astype("f4"), equal_nan=True)
        assert np.array_equal(market.value[:, i], np.nan_to_num(column(bars, code, "Va")[before:]))
    assert market.eligible.all()
    assert market.shortable.all()
    assert (market.sector == 3050).all()
    assert not market.last_day.any()
    assert not market.dividends_known
    assert np.allclose(market.topix, 1 / (2_000 + np.arange(before - 1, len(DAYS) - 1)))


def test_dtypes_are_those_that_were_promised(market: Market) -> None:
    given = {field.name: getattr(market, field.name) for field in fields(market)}
    kinds = {name: array.dtype.str for name, array in given.items() if isinstance(array, np.ndarray)}
    assert {name for name, kind in kinds.items() if kind == "<f8"} == {"value", "adv", "topix"}
    assert {name for name, kind in kinds.items() if kind == "|b1"} == {"eligible", "shortable", "fine_tick", "last_day"}
    assert kinds["sector"] == "<i2"
    assert {kinds[name] for name in ("open", "close", "base", "limit_up", "sigma", "adj_factor", "dividend")} == {"<f4"}


def test_turnover_and_volatility_against_numpy(market: Market, bars: pl.DataFrame) -> None:
    before = len(DAYS) - len(market.dates)
    for i, code in enumerate(CODES):
        close = pl.Series(column(bars, code, "C")).fill_nan(None).forward_fill().to_numpy()
        value = np.nan_to_num(column(bars, code, "Va"))
        moves = close[1:] / close[:-1] - 1
        for d in (0, 5, HALT_ROW, len(market.dates) - 1):
            t = before + d
            assert market.adv[d, i] == np.median(value[t - 19 : t + 1])
            assert market.sigma[d, i] == pytest.approx(moves[t - 20 : t].std(ddof=1), rel=1e-5)


HALT_ROW = trading_days(FIRST, LAST).index(HALT)


def test_the_day_on_which_the_exchange_stood_still_moves_nothing(market: Market) -> None:
    assert np.isnan(market.close[HALT_ROW]).all()
    assert (market.value[HALT_ROW] == 0).all()
    for row in (HALT_ROW, HALT_ROW + 1):
        assert np.array_equal(market.base[row], market.close[HALT_ROW - 1])
    assert np.array_equal(market.limit_up[HALT_ROW], market.limit_up[HALT_ROW + 1])
    assert market.eligible[HALT_ROW].all()


def test_a_name_has_no_band_before_its_first_close_and_no_turnover_before_twenty_days(
    bars: pl.DataFrame, tmp_path: Path
) -> None:
    listing = date(2020, 9, 7)
    late = bars.filter((pl.col("code") != "20000") | (pl.col("date") >= listing))
    late = with_bar(late, "20000", listing, O=None, H=None, L=None, C=None, Va=None)  # no price on its first day
    market = market_of(make_store(tmp_path, late), FIRST, LAST)
    first = market.dates.index(listing)
    assert np.isnan(market.base[: first + 2, 1]).all()
    assert np.isfinite(market.base[first + 2 :, 1]).all()
    assert np.isnan(market.adv[: first + 19, 1]).all()
    assert np.isfinite(market.adv[first + 19 :, 1]).all()
    assert np.isnan(market.sigma[: first + 21, 1]).all()
    assert np.isfinite(market.sigma[first + 21 :, 1]).all()
    assert not market.eligible[:first, 1].any()


def test_the_last_row_of_a_name_that_left(bars: pl.DataFrame, tmp_path: Path) -> None:
    left = date(2020, 10, 14)
    market = market_of(
        make_store(tmp_path, bars.filter((pl.col("code") != "30000") | (pl.col("date") <= left))), FIRST, LAST
    )
    assert np.argwhere(market.last_day).tolist() == [[market.dates.index(left), 2]]
    assert np.isnan(market.close[market.dates.index(left) + 1 :, 2]).all()


def test_the_master_of_the_evening_and_of_the_day(bars: pl.DataFrame, tmp_path: Path) -> None:
    monday = date(2020, 9, 14)
    friday = date(2020, 9, 11)
    listed = pl.concat(
        [
            snapshot(START, CODES, ScaleCat=["TOPIX Core30", "TOPIX Mid400", "-", "-"], Mrgn=["2", "1", "2", "2"]),
            snapshot(
                monday, CODES[:3], ScaleCat=["-", "TOPIX Mid400", "TOPIX Large70"], Mrgn=["1", "2", "2"], S33=["9050"]
            ),
        ]
    )
    market = market_of(make_store(tmp_path, bars, listed), FIRST, LAST)
    f, m = market.dates.index(friday), market.dates.index(monday)
    # out on Friday at 17:30: known on Friday's evening, in force on Monday
    assert market.shortable[f - 1].tolist() == [True, False, True, True]
    assert market.shortable[f].tolist() == [False, True, True, False]
    assert market.sector[f].tolist() == [9050, 9050, 9050, -1]
    assert market.fine_tick[f].tolist() == [True, False, False, False]  # the Mid400 not before 2023
    assert market.fine_tick[m].tolist() == [False, False, True, False]


def test_fine_ticks_of_the_mid400_begin_on_their_day(tmp_path: Path) -> None:
    days = trading_days(date(2023, 5, 1), date(2023, 6, 9))
    store = Store(root=str(tmp_path))
    bars = quotes(days, ["10000"])
    publish(store, "raw", "daily_quotes", bars)
    publish(store, "features", "universe", bars.select("date", "code"))
    publish(store, "raw", "listed_info", snapshot(days[0], ["10000"], ScaleCat=["TOPIX Mid400"]))
    market = market_of(store, date(2023, 6, 1), days[-1])
    assert market.fine_tick[:, 0].tolist() == [day >= date(2023, 6, 5) for day in market.dates]
    assert np.isnan(market.topix).all()  # not every plan has the index


# -- corporate actions ------------------------------------------------------------------------------------------------


def test_dividends_lower_the_base_of_their_day(bars: pl.DataFrame, tmp_path: Path) -> None:
    store = make_store(tmp_path, bars)
    ex = date(2020, 9, 29)
    paid = pl.DataFrame({"code": ["10000", "10000", "99990"], "ex_date": [ex] * 3, "dividend": [20.0, 5.0, 9.0]})
    plain, with_paid = market_of(store, FIRST, LAST), market_of(store, FIRST, LAST, dividends=paid)
    assert with_paid.dividends_known
    d = plain.dates.index(ex)
    assert with_paid.dividend[d, 0] == 25
    assert with_paid.base[d, 0] == plain.close[d - 1, 0] - 25
    assert with_paid.dividend.sum() == 25
    others = np.ones(plain.base.shape, bool)
    others[d, 0] = False
    assert np.array_equal(with_paid.base[others], plain.base[others], equal_nan=True)
    with pytest.raises(MarketRefused, match=r"10000 on 2020-09-29, -2\.0 JPY"):
        market_of(store, FIRST, LAST, dividends=paid.with_columns(dividend=-1.0))


def test_splits_and_dividends_of_untraded_days_reach_the_next_base() -> None:
    market = made_market(
        [[1_000.0], [NAN], [NAN], [480.0]], adj_factor=[[1], [0.5], [1], [1]], dividend=[[0], [0], [10], [0]]
    )
    assert market.base[:, 0].tolist()[1:] == [500, 490, 490]
    assert np.isnan(market.base[0, 0])


# -- no look ahead ----------------------------------------------------------------------------------------------------


def test_a_shorter_market_is_the_beginning_of_a_longer_one(market: Market, bars: pl.DataFrame, tmp_path: Path) -> None:
    """To the last digit, and with another warm-up; the last row of a name is the one thing that knows the end."""
    store = make_store(tmp_path, bars)
    short = market_of(store, date(2020, 9, 15), date(2020, 10, 9), warm_up=30)
    rows = slice(market.dates.index(short.dates[0]), market.dates.index(short.dates[-1]) + 1)
    for field in fields(market):
        if isinstance(array := getattr(market, field.name), np.ndarray):
            assert np.array_equal(array[rows], getattr(short, field.name), equal_nan=array.dtype.kind == "f"), (
                field.name
            )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_follow_from_earlier_bars_and_their_own_open(seed: int) -> None:
    rng = np.random.default_rng(seed)
    days, names = 30, 5
    close = np.rint(np.exp(rng.normal(6, 1, (1, names)) + np.cumsum(rng.normal(0, 0.1, (days, names)), axis=0)) + 20)
    close[rng.random(close.shape) < 0.1] = NAN
    given_bars = {"open": close + rng.integers(-3, 4, close.shape), "value": rng.uniform(1e6, 1e9, close.shape)}
    made = made_market(close, **given_bars, adv=None, sigma=None)
    t = int(rng.integers(1, days))
    other = close.copy()
    other[t:] = np.where(np.isnan(close[t:]), NAN, np.rint(rng.uniform(20, 5_000, close[t:].shape)))
    changed = made_market(other, **given_bars, adv=None, sigma=None)
    for name in ("base", "limit_up", "limit_down"):
        assert np.array_equal(getattr(made, name)[: t + 1], getattr(changed, name)[: t + 1], equal_nan=True), name
    for name in ("adv", "sigma"):
        assert np.array_equal(getattr(made, name)[:t], getattr(changed, name)[:t], equal_nan=True), name


# -- widening ---------------------------------------------------------------------------------------------------------

# a name that closes at its limit every day: 1,000, then +300, +300, +400 (from 1,600), ...
LADDER = [1_000.0, 1_300.0, 1_600.0, 2_000.0]


def ups(*closes: float, first: date, opens: dict[int, float] | None = None) -> Market:
    close = np.array([(price, 500.0) for price in closes])  # the other name trades on every day
    opened = close.copy()
    for d, price in (opens or {}).items():
        opened[d, 0] = price
    return made_market(close, open=opened, first=first)


def test_two_days_at_the_limit_widen_that_side_fourfold() -> None:
    market = ups(*LADDER[:3], 2_900, 2_950, first=date(2021, 6, 7))
    assert market.limit_up[:, 0].tolist()[1:] == [1_300, 1_600, 3_200, 3_400]
    assert market.limit_down[:, 0].tolist()[1:] == [700, 1_000, 1_200, 2_400]  # the other side stays


def test_before_august_2020_it_took_three_days_and_gave_twice() -> None:
    market = ups(*LADDER, 2_700, first=date(2020, 6, 8))
    assert market.limit_up[:, 0].tolist()[1:] == [1_300, 1_600, 2_000, 3_000]  # 2,000 and twice 500


def test_the_rule_of_the_day_counts_days_before_it() -> None:
    market = ups(*LADDER[:3], 2_900, first=date(2020, 7, 29))  # the fourth day is 2020-08-03
    assert market.dates[3] == date(2020, 8, 3)
    assert market.limit_up[3, 0] == 3_200


def test_a_widened_band_lasts_until_a_trade_off_the_limit() -> None:
    market = ups(*LADDER[:3], 3_200, 6_000, 6_100, 6_150, first=date(2021, 6, 7))
    # 1,600 + 4 x 400, 3,200 + 4 x 700, 6,000 + 4 x 1,000; then 6,100 + 1,000
    assert market.limit_up[:, 0].tolist()[3:] == [3_200, 6_000, 10_000, 7_100]


def test_an_open_at_the_ordinary_limit_is_at_the_limit() -> None:
    """Trade all day at the limit is no reason for widening, and cannot be told from one auction at the close."""
    market = ups(*LADDER, first=date(2021, 6, 7))
    assert market.limit_up[3, 0] == 2_000


def test_the_lower_side_alike() -> None:
    market = ups(2_000, 1_500, 1_100, 400, first=date(2021, 6, 7))
    assert market.limit_down[:, 0].tolist()[1:] == [1_500, 1_100, 1]  # 1,100 less four times 300, but a price
    assert market.limit_up[3, 0] == 1_400


def test_a_day_that_touched_and_left_the_limit_starts_anew() -> None:
    market = ups(*LADDER[:3], 1_990, first=date(2021, 6, 7), opens={2: 1_500})
    assert market.limit_up[3, 0] == 2_000


def test_untraded_days_go_on_with_a_row_and_begin_none() -> None:
    going_on = ups(1_000, 1_300, NAN, 2_400, first=date(2021, 6, 7))
    assert going_on.limit_up[3, 0] == 2_500  # 1,300 and four times 300
    beginning = ups(1_000, NAN, NAN, 1_200, first=date(2021, 6, 7))
    assert beginning.limit_up[3, 0] == 1_300


def test_a_day_without_the_exchange_is_no_day_of_the_row() -> None:
    """At the limit before 2020-10-01 and after it; the day itself neither counts nor ends it."""
    close = [[1_000.0], [1_300], [NAN], [1_590], [1_600]]
    assert made_market(close, first=date(2020, 9, 29)).limit_up[3, 0] == 1_600
    at_limit = [[1_000.0], [1_300], [NAN], [1_600], [2_900]]
    assert made_market(at_limit, first=date(2020, 9, 29)).limit_up[4, 0] == 3_200


# -- agreement --------------------------------------------------------------------------------------------------------


def flags(market: Market, *places: tuple[int, int]) -> np.ndarray:
    array = np.zeros(market.close.shape, bool)
    for place in places:
        array[place] = True
    return array


def test_limits_that_agree() -> None:
    market = made_market(
        [[1_000.0, 2_991.0], [1_250.0, 3_300.0]],
        high=[[1_000, 2_991], [1_300, 3_495]],
        low=[[1_000, 2_991], [1_000, 2_491]],
    )
    found = agreement(market, flags(market, (1, 0), (1, 1)), flags(market, (1, 1)))
    assert (found.rows, found.agreed, found.share, found.ordinary_share, found.outside) == (3, 3, 1.0, 1.0, 0)
    assert found.mismatches.is_empty()


def test_what_disagrees_is_listed_by_cause() -> None:
    """Seven names, each with another reason on its last day, the last of them none at all."""
    base = 1_000.0
    close = np.full((4, 7), base)
    close[:3, 0] = NAN  # listed on the day
    close[2, 1] = NAN  # no close the day before
    close[3] = [1_000, 1_250, 600, 1_250, 1_900, 1_250, 1_250]
    high = close.copy()
    high[3] = [1_500, 1_270, 650, 1_280, 1_900, 1_310, 1_300]
    factor = np.ones((4, 7))
    factor[3, 2] = 0.5  # a band of 500, whose limit is 580 …
    market = made_market(close, high=high, adj_factor=factor, first=date(2021, 6, 24))
    assert market.dates[3] == date(2021, 6, 29)  # the ex-date of who is in the register at the end of June
    ul = flags(market, *((3, n) for n in range(7)))
    market = replace(
        market, dividends_known=True, dividend=np.where(np.arange(7) == 3, [[0], [0], [0], [20]], 0).astype("f4")
    )
    found = agreement(market, ul, np.zeros_like(ul))
    assert (found.rows, found.agreed, found.ordinary_rows, found.ordinary_agreed) == (7, 1, 3, 1)
    assert (found.share, found.ordinary_share) == (1 / 7, 1 / 3)
    assert found.mismatches.select("code", "price", "limit", "cause").rows() == [
        ("10000", 1_500.0, None, "first_day"),
        ("10010", 1_270.0, 1_300.0, "no_close"),
        ("10020", 650.0, 600.0, "split"),
        ("10030", 1_280.0, 1_300.0, "ex_dividend"),
        ("10040", 1_900.0, 1_300.0, "other"),
        ("10050", 1_310.0, 1_300.0, "other"),
    ]


def test_without_dividends_the_ex_date_of_a_month_end_is_a_reason() -> None:
    market = made_market([[1_000.0], [1_250.0]], high=[[1_000], [1_280]], first=date(2021, 6, 28))
    ul = flags(market, (1, 0))
    assert agreement(market, ul, ~ul & False).mismatches["cause"].to_list() == ["ex_dividend"]
    known = replace(market, dividends_known=True)
    assert agreement(known, ul, ~ul & False).mismatches["cause"].to_list() == ["other"]
    # with the dividend itself, the limit is the one that was touched
    paid = made_market([[1_000.0], [1_250.0]], high=[[1_000], [1_280]], first=date(2021, 6, 28), dividend=[[0], [20]])
    assert paid.limit_up[1, 0] == 1_130  # of 980, a smaller band: 150
    paid = made_market([[1_020.0], [1_250.0]], high=[[1_020], [1_300]], first=date(2021, 6, 28), dividend=[[0], [20]])
    assert agreement(paid, ul, ~ul & False).agreed == 1


def test_a_widened_band_is_a_reason_whether_we_or_they_widened() -> None:
    theirs = ups(1_000, NAN, NAN, 2_200, first=date(2021, 6, 7))  # two days of quotes alone
    found = agreement(theirs, flags(theirs, (3, 0)), flags(theirs))
    assert found.mismatches["cause"].to_list() == ["no_close"]
    traded = made_market([[1_000.0], [1_000], [1_000], [2_200.0]], first=date(2021, 6, 7))
    found = agreement(traded, flags(traded, (3, 0)), flags(traded))
    assert found.mismatches["cause"].to_list() == ["widened"]
    assert found.outside == 1
    ours = ups(*LADDER[:3], 1_990, first=date(2021, 6, 7), opens={3: 1_700})
    found = agreement(
        replace(ours, high=np.where(ours.close == 1_990, np.float32(2_000), ours.high)),
        flags(ours, (3, 0)),
        flags(ours),
    )
    assert found.mismatches.select("price", "limit", "cause").rows() == [(2_000.0, 3_200.0, "widened")]


def test_prices_beyond_the_band_are_listed_although_no_limit_was_touched() -> None:
    market = made_market([[1_000.0], [690.0]], first=date(2021, 6, 7))
    found = agreement(market, flags(market), flags(market))
    assert (found.rows, found.outside) == (0, 1)
    assert np.isnan(found.share)
    assert found.mismatches.rows() == [(date(2021, 6, 8), "10000", "down", 690.0, 700.0, "other")]


def test_flags_are_read_from_the_quotes(bars: pl.DataFrame, tmp_path: Path) -> None:
    day = date(2020, 9, 10)
    before = float(column(bars, "20000", "C")[DAYS.index(day) - 1])
    limit = before + (300 if before >= 1_000 else 150)
    marked = with_bar(bars, "20000", day, H=limit, UL="1")
    marked = with_bar(marked, ETF, day, LL="1")
    store = make_store(tmp_path, marked)
    market = market_of(store, FIRST, LAST)
    ul, ll = touched(store, market)
    assert np.argwhere(ul).tolist() == [[market.dates.index(day), 1]]
    assert not ll.any()
    found = agreement(market, ul, ll)
    assert (found.rows, found.agreed, found.outside) == (1, 1, 0)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_loaded_is_said(bars: pl.DataFrame, tmp_path: Path) -> None:
    hole = date(2020, 9, 24)
    store = make_store(tmp_path / "hole", bars.filter(pl.col("date") != hole))
    with pytest.raises(MarketRefused, match=r"no row of these trading days: 2020-09-24\. Materialize daily_quotes"):
        market_of(store, FIRST, LAST)
    with pytest.raises(MarketRefused, match="no trading day from 2020-09-19 to 2020-09-22"):
        market_of(store, date(2020, 9, 19), date(2020, 9, 22))
    with pytest.raises(MissingTable, match="2020-11"):
        market_of(store, FIRST, date(2020, 11, 5))
    other = Store(root=str(tmp_path / "bare"))
    publish(other, "raw", "daily_quotes", bars)
    publish(
        other, "features", "universe", bars.clear().select("date", "code").vstack(bars.select("date", "code").head(1))
    )
    with pytest.raises(MissingTable, match="features/universe"):
        market_of(other, FIRST, LAST)


def test_a_root_that_begins_with_the_market_has_no_warm_up(bars: pl.DataFrame, tmp_path: Path) -> None:
    market = market_of(make_store(tmp_path, bars), START, LAST)
    assert market.dates[0] == DAYS[0]
    assert np.isnan(market.base[0]).all()
    assert np.isfinite(market.base[1]).all()
    assert np.isnan(market.adv[:19]).all()
    assert month_key(market.dates[0]) == "2020-07"
