"""The simulated market: determinism, truncation, adjustment, and the facts of Tokyo it has to show."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from atft_assets import calendar
from atft_assets.sandbox import Market, MarketConfig, codes, simulate
from atft_assets.sandbox.listing import calendar_frame
from atft_assets.sandbox.names import ETF, ORDINARY

SIX = ["O", "H", "L", "C", "Vo", "Va"]
BUSY = MarketConfig(
    n_names=80, start=date(2020, 9, 1), end=date(2022, 6, 30), seed=3, listings=0.1, delistings=0.1, splits=0.3,
    consolidations=0.1, halts=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(BUSY)


@pytest.fixture(scope="module")
def quotes(market: Market) -> pl.DataFrame:
    return market.quotes()


def test_same_config_same_market_and_other_seed_other_market(market: Market, quotes: pl.DataFrame) -> None:
    assert_frame_equal(simulate(BUSY).quotes(), quotes)
    assert not simulate(replace(BUSY, seed=4)).quotes().equals(quotes)


@settings(max_examples=12, deadline=None)
@given(end=st.dates(date(2020, 9, 15), date(2022, 6, 29)), seed=st.integers(0, 10_000))
def test_an_earlier_end_is_the_beginning_of_a_later_one(end: date, seed: int) -> None:
    config = replace(BUSY, n_names=25, seed=seed)
    whole, part = simulate(config), simulate(replace(config, end=end))
    assert_frame_equal(part.quotes(), whole.quotes().filter(pl.col("date") <= end))
    day = part.days[-1]
    assert_frame_equal(part.master(day), whole.master(day))
    assert_frame_equal(part.bars(day), whole.bars(day, as_of=day))  # Adj* as they were known then
    assert_frame_equal(part.index_day(day), whole.index_day(day))


def test_bars_by_day_by_code_and_all_at_once_agree(market: Market, quotes: pl.DataFrame) -> None:
    days = market.days[::37]
    by_day = pl.concat([market.bars(day) for day in days])
    by_code = pl.concat([market.history(code) for code in market.columns_of])
    wanted = [day.isoformat() for day in days]
    assert_frame_equal(by_day.sort("Date", "Code"), by_code.filter(pl.col("Date").is_in(wanted)).sort("Date", "Code"))
    raw = by_code.sort("Date", "Code").select(pl.col("Date").str.to_date().alias("date"), pl.col("Code").alias("code"),
                                              *SIX, "AdjFactor")  # fmt: skip
    assert_frame_equal(raw, quotes)


def test_an_untraded_day_is_null_in_all_six_and_nowhere_else(market: Market) -> None:
    bars = pl.concat([market.bars(day) for day in market.days[::11]])
    nulls = bars.select(pl.sum_horizontal(pl.col(c).is_null() for c in SIX).alias("n"))["n"]
    assert set(nulls.unique()) == {0, 6}
    assert 0.003 < (nulls == 6).mean() < 0.2  # type: ignore[operator]
    adjusted = bars.select(pl.sum_horizontal(pl.col(c).is_null() for c in ("AdjO", "AdjC", "AdjVo")).alias("n"))["n"]
    assert ((nulls == 6) == (adjusted == 3)).all()
    assert bars.select("Date", "Code", "UL", "LL", "AdjFactor").null_count().sum_horizontal().item() == 0


def test_prices_are_ordered_on_a_tenth_of_a_yen_and_volumes_in_lots(quotes: pl.DataFrame) -> None:
    traded = quotes.drop_nulls("C")
    assert (traded["H"] >= traded.select(pl.max_horizontal("O", "C")).to_series()).all()
    assert (traded["L"] <= traded.select(pl.min_horizontal("O", "C")).to_series()).all()
    assert (traded["L"] > 0).all()
    assert (traded["C"] * 10 - (traded["C"] * 10).round()).abs().max() < 1e-6  # type: ignore[operator]
    assert (traded["Vo"] % 100 == 0).all() and (traded["Vo"] > 0).all()
    vwap = traded["Va"] / traded["Vo"]
    assert ((vwap >= traded["L"] - 0.1) & (vwap <= traded["H"] + 0.1)).all()


def test_adjustment_removes_the_jump_of_every_event(market: Market, quotes: pl.DataFrame) -> None:
    assert set(np.sign(market.event_factor - 1)) == {-1.0, 1.0}, "both splits and consolidations occur"
    seen = 0
    for day, column, factor in zip(market.event_day, market.event_name, market.event_factor, strict=True):
        own = quotes.filter(pl.col("code") == market.names.code[column]).drop_nulls("C")
        before, on = own.filter(pl.col("date") < market.days[day])[-1:], own.filter(pl.col("date") == market.days[day])
        if on.is_empty() or (market.days[day] - before["date"].item()).days > 5:
            continue
        seen += 1
        assert on["AdjFactor"].item() == factor
        move = on["C"].item() / (before["C"].item() * factor) - 1
        assert abs(move) < 0.17, "what is left is an ordinary day"
    assert seen > 10


def test_adjusted_history_is_raw_times_the_later_factors_known_at_that_time(market: Market) -> None:
    column = int(market.event_name[np.argmin(np.abs(market.event_day - len(market.days) // 2))])
    code = market.names.code[column]
    ex_rows = market.event_day[market.event_name == column]
    before = market.days[ex_rows[0] - 1]
    raw = market.history(code, as_of=before).drop_nulls("C")
    assert (raw["AdjC"] == raw["C"]).all(), "before its first ex-date nothing is adjusted"
    full = market.history(code).drop_nulls("C")
    product = pl.Series(
        [
            float(np.prod(market.event_factor[(market.event_name == column) & (market.event_day > market.row_of[d])]))
            for d in full["Date"].str.to_date()
        ]
    )
    assert ((full["C"] * product).round(1) - full["AdjC"]).abs().max() < 0.05  # type: ignore[operator]
    assert ((full["Vo"] / product).round() - full["AdjVo"]).abs().max() <= 1  # type: ignore[operator]
    assert full.filter(pl.col("ExRT").is_not_null()).height == full.filter(pl.col("AdjFactor") != 1).height


def test_the_day_of_the_system_halt(market: Market) -> None:
    halt = date(2020, 10, 1)
    bars = market.bars(halt)
    assert len(bars) > 70
    assert bars.select(SIX).null_count().sum_horizontal().item() == 6 * len(bars)
    indices = market.index_day(halt).join(market.index_day(date(2020, 9, 30)), on="Code", suffix="_before")
    for field in "OHLC":
        assert (indices[field] == indices["C_before"]).all()


def test_segments_change_on_the_day_of_the_reform(market: Market) -> None:
    old, new = market.master(date(2022, 4, 1)), market.master(date(2022, 4, 4))
    assert set(old["Mkt"]) == {"0101", "0102", "0104", "0106", "0107", "0109"}
    assert set(new["Mkt"]) == {"0111", "0112", "0113", "0109"}


def test_sectors_classes_and_oddities_of_the_master(market: Market) -> None:
    master = simulate(MarketConfig(n_names=200, end=date(2022, 1, 31))).master(date(2022, 1, 4))
    assert master.filter(pl.col("S33") != "9999")["S33"].n_unique() == 33
    parents = {s33: s17 for s33, _, s17, _, _ in codes.SECTORS} | {"9999": "99"}
    assert all(parents[s33] == s17 for s33, s17 in master.select("S33", "S17").rows())
    assert set(master["ScaleCat"]) == set(codes.SCALE_CATEGORIES)
    assert master["Code"].str.contains(r"^[0-9]{3}[0-9A-Z][0-9]$").all()
    assert master["Code"].str.contains("[A-Z]").sum() >= 1
    preferred = master.filter(~pl.col("Code").str.ends_with("0"))
    assert preferred["ProdCat"].to_list() == ["011"] and preferred["Code"].item()[:4] + "0" in master["Code"]
    assert master.filter(pl.col("ProdCat") == "014")["Mkt"].to_list() == ["0109"]
    assert "131A0" in simulate(MarketConfig(n_names=200)).master(date(2024, 12, 30))["Code"], "listings of 2024"


def test_names_come_and_go_and_keep_their_past(market: Market, quotes: pl.DataFrame) -> None:
    lives = quotes.group_by("code").agg(pl.col("date").min().alias("first"), pl.col("date").max().alias("last"))
    assert (lives["first"] > market.days[0]).sum() > 5
    assert (lives["last"] < market.days[-1]).sum() > 5
    gone = lives.filter(pl.col("last") < market.days[-40]).row(0, named=True)
    assert gone["code"] in market.master(gone["last"])["Code"]
    assert gone["code"] not in market.master(calendar.next_trading_day(gone["last"]))["Code"]
    rows = quotes.filter(pl.col("code") == gone["code"]).height
    assert rows == len(calendar.trading_days(gone["first"], gone["last"])), "a row on every day of its life"


def test_a_code_can_be_given_out_again() -> None:
    config = MarketConfig(
        n_names=60, start=date(2015, 1, 5), end=date(2020, 6, 30), delistings=0.2, listings=0.3, code_reuse=1.0
    )
    market = simulate(config)
    lived = market.alive.any(axis=0)
    again = [code for code, columns in market.columns_of.items() if sum(lived[columns]) == 2]
    assert again
    for code in again:
        dates = market.history(code)["Date"].str.to_date()
        gaps = [b - a for a, b in pairwise(dates)]
        assert max(gaps) > timedelta(days=365)
        assert dates.is_unique().all()


def test_indices_move_as_their_members_do(market: Market) -> None:
    close = np.where(market.traded, market.ohlc[3], np.nan)
    sector = market.names.sector
    row = codes.SECTORS[int(np.bincount(sector[sector >= 0]).argmax())]
    members = (sector == codes.SECTORS.index(row)) & (market.names.kind == ORDINARY)
    returns = close[1:] / close[:-1] - 1
    priced = np.isfinite(returns[:, members]).any(axis=1)
    quiet = [t for t in range(1, len(close)) if priced[t - 1] and t not in market.event_day]
    index = market.indices[row[4]][:, 3]
    moves = index[1:] / index[:-1] - 1
    mean = np.array([np.nanmean(returns[t - 1, members]) for t in quiet])
    assert np.corrcoef(mean, moves[np.array(quiet) - 1])[0, 1] > 0.8
    for t in quiet[::20]:
        inside = returns[t - 1, members]
        assert np.nanmin(inside) - 0.02 <= moves[t - 1] <= np.nanmax(inside) + 0.02
    for bars in market.indices.values():
        assert (bars[:, 1] >= bars[:, [0, 3]].max(axis=1)).all() and (bars[:, 2] <= bars[:, [0, 3]].min(axis=1)).all()
    etf = int(np.flatnonzero(market.names.kind == ETF)[0])
    topix = market.indices["0000"][:, 3]
    held = np.isfinite(close[:, etf])
    assert np.allclose(close[held, etf] / close[held, etf][0], topix[held] / topix[held][0], atol=2e-3)


def test_returns_are_heavy_tailed_unequally_volatile_and_correlated() -> None:
    market = simulate(MarketConfig())
    full = market.alive.all(axis=0) & (market.names.kind == ORDINARY)
    close = np.where(market.traded, market.ohlc[3], np.nan)[:, full]
    without_events = ~np.isin(np.flatnonzero(full), market.event_name)
    r = np.diff(np.log(close[:, without_events]), axis=0)
    vol = np.nanstd(r, axis=0)
    assert 0.2 < np.median(vol) * 245**0.5 < 0.5
    assert np.quantile(vol, 0.9) / np.quantile(vol, 0.1) > 1.5
    z = (r - np.nanmean(r, axis=0)) / vol
    assert np.nanmean(z**4) > 3.5
    topix = np.diff(np.log(market.indices["0000"][:, 3]))
    loadings = [np.corrcoef(topix[np.isfinite(x)], x[np.isfinite(x)])[0, 1] for x in r.T]
    assert 0.25 < np.mean(loadings) < 0.7


def test_a_split_added_later_rewrites_the_adjusted_past_only(market: Market) -> None:
    lasting = [i for i in np.flatnonzero(market.alive.all(axis=0)) if i not in market.event_name]
    code = market.names.code[lasting[0]]
    ex_date = market.days[300]
    changed = market.with_split(code, ex_date, 0.5)
    old, new = market.history(code), changed.history(code)
    past = pl.col("Date") < ex_date.isoformat()
    assert_frame_equal(old.filter(past).select(SIX), new.filter(past).select(SIX))
    ratio = (new.filter(past)["AdjC"] / old.filter(past)["AdjC"]).drop_nulls()
    assert (ratio - 0.5).abs().max() < 1e-3  # type: ignore[operator]
    raw_ratio = (new.filter(~past)["C"] / old.filter(~past)["C"]).drop_nulls()
    assert (raw_ratio - 0.5).abs().max() < 1e-3  # type: ignore[operator]
    others = pl.col("Code") != code
    assert_frame_equal(market.bars(ex_date).filter(others), changed.bars(ex_date).filter(others))


def test_calendar_has_every_day_and_tells_the_kinds_apart() -> None:
    frame = calendar_frame(date(2022, 9, 1), date(2023, 1, 31))
    assert len(frame) == 153
    kinds = dict(frame.rows())
    assert kinds["2022-09-23"] == "3" and kinds["2022-09-24"] == "0" and kinds["2022-09-26"] == "1"
    assert kinds["2023-01-02"] == "0" and kinds["2023-01-03"] == "0" and kinds["2023-01-04"] == "1"
    assert dict(calendar_frame(date(2020, 9, 30), date(2020, 10, 2)).rows())["2020-10-01"] == "1"
    assert sum(v == "1" for v in kinds.values()) == len(calendar.trading_days(date(2022, 9, 1), date(2023, 1, 31)))


def test_impossible_configs_say_what_is_wrong() -> None:
    for change, word in (({"n_names": 1}, "n_names"), ({"seed": -1}, "seed"), ({"cluster_size": 1}, "cluster_size")):
        with pytest.raises(ValueError, match=word):
            replace(BUSY, **change)
    with pytest.raises(ValueError, match="after end"):
        replace(BUSY, start=date(2023, 1, 1))
    with pytest.raises(ValueError, match="no trading day"):
        simulate(replace(BUSY, start=date(2022, 1, 1), end=date(2022, 1, 3)))
