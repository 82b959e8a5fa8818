"""The ledger: an example by hand to the yen, books kept a second time, and everything that a back-test gets wrong."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.trading.account import DIVIDEND_PAID_AFTER
from atft_assets.trading.costs import PRESETS, Costs
from atft_assets.trading.fills import Fills, fill
from atft_assets.trading.journal import EQUITY, POSITIONS, TRADES
from atft_assets.trading.ledger import IdentityBroken, Ledger, LedgerRefused, run
from atft_assets.trading.market import Market
from atft_assets.trading.policy import BookSide, Rule
from tests.trading.made import made_market
from tests.trading.random_market import books_by_hand, changed_after, random_market, random_scores, reordered

FREE = Costs("free", multiple=0)
NAN = np.nan
# as many places as names, nothing in the way
OPEN = Rule(names=1, buffer=1, tranches=1, name_cap=1, sector_band=1, adv_share=1, turnover_cap=1, liquid_only=False)


def scores(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def one_name(close: list[float], **given: Any) -> Market:
    """A market of one name to hold, and a second one that keeps the days alive."""

    def both(values: Any, rest: float) -> Any:
        return np.column_stack([values, np.full(len(close), rest)])

    named = {key: both(value, {"adj_factor": 1, "dividend": 0, "listed": 1, "open": 500, "high": 500, "low": 500,
                               "shortable": 1, "eligible": 0}[key]) for key, value in given.items()}  # fmt: skip
    return made_market(both(close, 500), **({"eligible": [1, 0], "dividends_known": True} | named))


def held(ledger: Ledger, day: date, code: str = "10000") -> int:
    found = ledger.positions.filter((pl.col("date") == day) & (pl.col("code") == code))["shares"]
    return int(found[0]) if len(found) else 0


def deep(market: Market) -> Market:
    """The same market with more turnover than anyone could want."""
    much = np.full(market.value.shape, 1e13)
    return replace(market, value=much, adv=much)


def always(market: Market, score: float = 1.0) -> np.ndarray:
    """The first name is wanted every evening."""
    found = np.full((len(market.dates), len(market.codes)), np.nan, np.float32)
    found[:, 0] = score
    return found


# -- by hand ----------------------------------------------------------------------------------------------------------


def by_hand() -> tuple[Market, np.ndarray, Rule, Costs]:
    """Two names at 50 %, and a third one without a price whose score, the only one of the third evening, sells both."""
    market = made_market(
        [[1_180, 640, 100], [1_190, 660, 100], [1_175, NAN, NAN], [1_185, 710, 100]],
        open=[[1_180, 640, 100], [1_200, 650, 100], [1_180, NAN, NAN], [1_180, 700, 100]],
        adv=[200e6, 50e6, 1e6],
        dividend=[[0, 0, 0], [0, 0, 0], [20, 0, 0], [0, 0, 0]],
        eligible=[[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]],
        dividends_known=True,
    )
    rule = replace(OPEN, names=2, name_cap=0.5, adv_share=0.05)
    wanted = scores([2, 1, NAN], [NAN] * 3, [NAN, NAN, 1], [NAN] * 3)
    return market, wanted, rule, Costs("by hand", half_spread_bp=(0.0,) * 6)


def test_the_ledger_by_hand_to_the_yen() -> None:
    market, wanted, rule, costs = by_hand()
    ledger = run(market, wanted, rule, costs, 1_000_000)
    equity = ledger.equity
    assert equity["cash"].round(2).to_list() == [63_379.29, 63_379.29, 1_023_686.30]
    assert equity["nav"].round(2).to_list() == [1_001_379.29, 1_003_379.29, 1_031_686.30]
    assert equity["receivable"].to_list() == [0, 8_000, 8_000]
    assert equity["turnover"][0] == pytest.approx(0.935)
    assert equity["dividends"].to_list() == [0, 8_000, 0]
    paid = equity.select(pl.sum_horizontal("^cost_.*$").sum()).item()
    assert round(paid, 2) == 3_313.70
    assert round(equity["nav"][-1] + paid - 1_000_000, 2) == 35_000
    trades = ledger.trades.select("code", "side", "shares", "price", "half_spread", pl.col("impact").round(2))
    assert trades.rows() == [
        ("10000", "BUY", 400, 1_200.0, 200.0, 376.24),
        ("10010", "BUY", 700, 650.0, 350.0, 694.47),
        ("10000", "SELL", 400, 1_180.0, 200.0, 366.87),
        ("10010", "SELL", 700, 700.0, 350.0, 776.12),
    ]
    stale = ledger.positions.filter(pl.col("code") == "10010").select("price", "stale_days").rows()
    assert stale == [(660.0, 0), (660.0, 1)]


def test_tables_have_their_columns_and_types() -> None:
    market, wanted, rule, costs = by_hand()
    ledger = run(market, wanted, rule, costs, 1_000_000, strategy="by hand")
    assert dict(ledger.equity.schema) == EQUITY
    assert dict(ledger.trades.schema) == TRADES
    assert dict(ledger.positions.schema) == POSITIONS
    assert ledger.equity["strategy"].unique().to_list() == ["by hand"]
    assert ledger.equity["date"].to_list() == list(market.dates[1:])
    idle = run(replace(market, eligible=np.zeros_like(market.eligible)), wanted, rule, costs, 1_000_000)
    assert dict(idle.trades.schema) == TRADES and len(idle.trades) == len(idle.positions) == 0
    assert dict(idle.positions.schema) == POSITIONS
    assert idle.equity["nav"].to_list() == [1_000_000] * 3


# -- every yen, every day ---------------------------------------------------------------------------------------------


RULES = st.builds(
    Rule,
    names=st.integers(1, 6),
    buffer=st.sampled_from([1.0, 2.0]),
    tranches=st.integers(1, 3),
    name_cap=st.sampled_from([0.2, 0.5, 1.0]),
    sector_band=st.sampled_from([0.1, 1.0]),
    adv_share=st.sampled_from([0.01, 1.0]),
    turnover_cap=st.sampled_from([0.2, 1.0]),
    side=st.sampled_from(BookSide),
    liquid_only=st.booleans(),
    decile=st.sampled_from([0.2, 0.5]),
    fill_lots=st.booleans(),
)
EVERYTHING = Costs("all", rate=0.001, minimum=80.0, participation_cap_adv=0.05)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), RULES, st.sampled_from([3e5, 3e6, 1e8]))
def test_books_kept_a_second_time_agree(seed: int, rule: Rule, capital: float) -> None:
    """Days with splits, dividends, halts, delistings, shorts: 60 x 24 of them, after the ledger's own check of each."""
    market = random_market(seed)
    ledger = run(market, random_scores(seed, market), rule, EVERYTHING, capital)
    equity = ledger.equity
    borrow = dict(zip(equity["date"], equity["cost_borrow"], strict=True))
    by_hand = books_by_hand(market, ledger.trades, borrow, capital)
    np.testing.assert_allclose(equity["nav"].to_numpy(), by_hand[1:], rtol=1e-9, atol=1e-6)

    values = ledger.positions.group_by("date").agg(pl.col("value").sum(), pl.col("value").abs().sum().alias("all"))
    found = equity.join(values, on="date", how="left").with_columns(pl.col("value", "all").fill_null(0.0))
    nav = found["cash"] + found["receivable"] + found["value"]
    np.testing.assert_allclose(nav.to_numpy(), found["nav"].to_numpy(), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(
        (found["all"] / found["nav"]).to_numpy(), found["gross"].to_numpy(), rtol=1e-5, atol=1e-6
    )
    grown = capital * np.cumprod(1 + equity["ret"].to_numpy())
    np.testing.assert_allclose(grown, equity["nav"].to_numpy(), rtol=1e-9)
    assert (equity.select("^cost_.*$").to_numpy() >= 0).all()
    assert (equity["ret_gross"] >= equity["ret"] - 1e-15).all()
    costs = ledger.trades.select(pl.col("commission", "half_spread", "impact").sum()).row(0)
    booked = equity.select(pl.col("cost_commission", "cost_spread", "cost_impact").sum()).row(0)
    assert booked == pytest.approx(costs)
    if rule.side is BookSide.LONG:
        assert (equity["cash"] >= -1e-6).all()
        assert (ledger.positions["shares"] > 0).all()


@pytest.mark.parametrize("side", list(BookSide))
def test_positions_know_what_was_paid_for_them_and_since_when(side: BookSide) -> None:
    """Mean cost, kept by hand: a sale takes its part of it along."""
    market = random_market(6, days=40, events=False)
    rule = Rule(names=4, tranches=1, name_cap=0.5, sector_band=1, side=side, decile=0.3)
    ledger = run(market, random_scores(6, market), rule, EVERYTHING, 1e7)
    shares: dict[str, int] = {}
    basis: dict[str, float] = {}
    since: dict[str, date] = {}
    orders = ledger.trades.filter(pl.col("shares") > 0).partition_by("date", as_dict=True)
    expected = []
    for day in market.dates[1:]:
        for row in orders.get((day,), ledger.trades.clear()).iter_rows(named=True):
            sign, code = 1 if row["side"] == "BUY" else -1, row["code"]
            before, paid = shares.get(code, 0), row["commission"] + row["half_spread"] + row["impact"]
            if before * sign < 0:
                basis[code] *= 1 - row["shares"] / abs(before)
            else:
                basis[code] = basis.get(code, 0.0) + sign * row["value"] + paid
                since[code] = since[code] if before else day
            shares[code] = before + sign * row["shares"]
        expected += [(day, code, since[code], basis[code]) for code, held in sorted(shares.items()) if held]
    found = ledger.positions.select("date", "code", "entry_date", "cost_basis").rows()
    assert [row[:3] for row in found] == [row[:3] for row in expected] and len(found) > 50
    np.testing.assert_allclose([row[3] for row in found], [row[3] for row in expected], rtol=1e-9)
    assert ((ledger.positions["cost_basis"] > 0) == (ledger.positions["shares"] > 0)).all()


def test_a_day_that_does_not_add_up_ends_the_run() -> None:
    market, wanted, rule, costs = by_hand()

    def too_much(*given: Any) -> Fills:
        fills = fill(*given)
        return replace(fills, value=fills.value * 1.0001)

    with pytest.raises(IdentityBroken, match=r"2021-06-08: the net asset value went from 1,000,000.00 to 1,001,285.79"):
        run(market, wanted, rule, costs, 1_000_000, filler=too_much)


# -- causality --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), RULES, st.integers(2, 22))
def test_orders_know_nothing_of_tomorrow(seed: int, rule: Rule, t: int) -> None:
    """Everything after day t at random: the orders of its evening and all before stay, and so do the days before."""
    market = random_market(seed)
    wanted = random_scores(seed, market)
    before = run(market, wanted, rule, EVERYTHING, 1e7)
    # how many shares an order is of, and what is held, follows a split of tomorrow, which is announced
    other = changed_after(market, t, seed, keep=("adj_factor", "dividend"))
    other = replace(other, adj_factor=np.where(np.arange(25)[:, None] > t + 1, np.float32(1), other.adj_factor))
    shuffled = wanted.copy()
    shuffled[t + 1 :] = np.random.default_rng(seed).normal(size=shuffled[t + 1 :].shape)
    try:
        after = run(other, shuffled, rule, EVERYTHING, 1e7)
    except LedgerRefused:  # random prices may take all there is
        return
    today, tomorrow = market.dates[t], market.dates[t + 1]
    for name in ("equity", "trades", "positions"):
        old, new = (getattr(one, name).filter(pl.col("date") <= today) for one in (before, after))
        assert old.drop("^bench.*$", strict=False).equals(new.drop("^bench.*$", strict=False)), name
    keys = ["code", "side", "shares_ordered"]
    old, new = (
        one.trades.filter((pl.col("date") == tomorrow) & (pl.col("reason") != "delisted")).select(keys)
        for one in (before, after)
    )
    gone = set(old["code"]) ^ set(new["code"])
    flagged = {
        code for n, code in enumerate(market.codes) if market.last_day[: t + 2, n].any() | other.last_day[t + 1, n]
    }
    assert gone <= flagged  # rows of a delisting aside
    assert old.filter(~pl.col("code").is_in(flagged)).equals(new.filter(~pl.col("code").is_in(flagged)))


def test_high_low_and_close_of_the_day_do_not_reach_its_fills() -> None:
    market = random_market(5, events=False)
    wanted = random_scores(5, market)
    rule = replace(OPEN, names=4, tranches=2)
    before = run(market, wanted, rule, EVERYTHING, 1e7)
    rng = np.random.default_rng(0)
    arrays = {name: getattr(market, name).copy() for name in ("high", "low", "close")}
    for array in arrays.values():
        array[-1] = rng.uniform(700, 1_300, array.shape[1])
    after = run(replace(market, **arrays), wanted, rule, EVERYTHING, 1e7)
    assert before.trades.filter(pl.col("date") == market.dates[-1]).height > 0
    assert before.trades.equals(after.trades)
    assert before.equity["nav"][-1] != after.equity["nav"][-1]


def test_a_fill_that_sees_the_close_is_seen() -> None:
    """A planted leak: whoever fills at the close of a day whose orders went in before its open is caught by the check.

    Prices of trades are opens; a fill at the close changes when the close does.
    """
    market = random_market(7, events=False)
    wanted = random_scores(7, market)

    def peeking(market: Market, t: int, *given: Any) -> Fills:
        return fill(replace(market, open=market.close), t, *given)

    close = market.close.copy()
    close[-1] += 10
    rule = replace(OPEN, names=4)
    honest, leaking = (
        [run(one, wanted, rule, FREE, 1e7, filler=filler).trades for one in (market, replace(market, close=close))]
        for filler in (fill, peeking)
    )
    assert honest[0].equals(honest[1])
    assert not leaking[0].equals(leaking[1])


def test_shares_are_those_of_the_evening_whatever_the_open() -> None:
    close = [1_000.0, 1_000.0, 1_000.0]
    calm, wild = (one_name(close, open=[1_000, opened, 1_000]) for opened in (1_000, 1_200))
    small, large = (run(market, always(market), replace(OPEN, gross=0.5), FREE, 1e6) for market in (calm, wild))
    assert small.trades["shares"].to_list() == large.trades["shares"].to_list() == [500]
    assert large.trades["value"][0] == 1.2 * small.trades["value"][0]
    short = run(wild, always(wild), OPEN, FREE, 1e6).trades.row(0, named=True)  # not enough cash: said, not hidden
    assert (short["shares_ordered"], short["shares"], short["reason"], short["status"]) == (
        1_000,
        800,
        "cash",
        "partial",
    )


# -- what happens to names --------------------------------------------------------------------------------------------


def test_a_split_doubles_the_shares_and_leaves_the_value() -> None:
    market = one_name([1_000, 1_000, 500, 500], adj_factor=[1, 1, 0.5, 1])
    ledger = run(market, always(market), replace(OPEN, gross=0.6), FREE, 1e6)
    assert [held(ledger, day) for day in market.dates[1:]] == [600, 1_200, 1_200]
    assert ledger.equity["nav"].to_list() == [1e6] * 3
    assert ledger.trades.height == 1


def test_an_order_of_the_eve_of_a_split_is_executed_in_new_shares() -> None:
    market = one_name([1_000, 500, 500], adj_factor=[1, 0.5, 1])
    ledger = run(market, always(market), replace(OPEN, gross=0.6), FREE, 1e6)
    assert ledger.trades.select("shares_ordered", "shares", "price").rows() == [(1_200, 1_200, 500.0)]


@pytest.mark.parametrize(
    ("factor", "lots", "after"), [(0.666667, 300, 450), (0.333333, 300, 900), (10.0, 300, 30), (0.952381, 300, 315)]
)
def test_odd_lots_of_a_split_are_kept_until_all_is_sold(factor: float, lots: int, after: int) -> None:
    price = np.rint(1_000 * factor)
    market = one_name([1_000, 1_000, price, price, price], adj_factor=[1, 1, factor, 1, 1])
    wanted = always(market)
    eligible = market.eligible.copy()
    eligible[3:, 0], eligible[3:, 1] = False, True
    market = replace(market, eligible=eligible)
    wanted[3] = [NAN, 1]
    rule = replace(OPEN, gross=0.3)
    ledger = run(market, wanted, rule, FREE, 1e6)
    assert [held(ledger, day) for day in market.dates[1:4]] == [lots, after, after]
    sold = ledger.trades.filter(pl.col("side") == "SELL")
    assert sold.select("shares", "status").rows() == [(after, "filled")]


def test_fractions_of_a_share_are_paid_in_cash() -> None:
    market = one_name([1_000, 1_000, 1_333, 13_330], adj_factor=[1, 1, 1.333333, 10.0])
    ledger = run(market, always(market), replace(OPEN, gross=0.1, drift_band=0.9), FREE, 1e6)
    assert [held(ledger, day) for day in market.dates[1:]] == [100, 75, 7]
    cash = ledger.equity["cash"].to_list()
    assert cash[1] == cash[0]
    assert cash[2] - cash[1] == pytest.approx(0.5 * 13_330)
    assert ledger.equity["nav"][2] == pytest.approx(cash[2] + 7 * 13_330)


def test_dividends_are_credited_to_who_held_on_the_eve_and_paid_later() -> None:
    days = DIVIDEND_PAID_AFTER + 6
    dividend = np.zeros(days)
    dividend[3] = 20
    close = np.where(np.arange(days) < 3, 1_000.0, 980.0)
    market = one_name(list(close), dividend=dividend)
    ledger = run(market, always(market), replace(OPEN, gross=0.5, drift_band=0.9), FREE, 1e6)
    equity = ledger.equity
    assert equity["nav"].to_list() == [1e6] * (days - 1)
    assert equity["receivable"].to_list() == [0] * 2 + [10_000] * DIVIDEND_PAID_AFTER + [0] * (
        days - 3 - DIVIDEND_PAID_AFTER
    )
    assert equity["cash"][-1] == 510_000
    late = run(market, np.where(np.arange(days)[:, None] < 2, NAN, always(market)).astype(np.float32), OPEN, FREE, 1e6)
    assert late.equity["dividends"].sum() == 0  # bought on the ex-date


def test_a_name_that_does_not_trade_is_marked_at_its_last_price() -> None:
    market = one_name([1_000, 1_010, NAN, NAN, 1_100], dividend=[0, 0, 0, 10, 0])
    ledger = run(market, always(market), replace(OPEN, gross=0.5, drift_band=0.9), FREE, 1e6)
    assert ledger.positions["stale_days"].to_list() == [0, 1, 2, 0]
    assert ledger.positions["price"].to_list() == [1_010, 1_010, 1_000, 1_100]  # the ex-date takes the dividend off
    assert ledger.equity["ret"][1] == 0 and ledger.equity["ret"][2] == pytest.approx(0)


def test_the_day_on_which_the_exchange_stood_still_moves_nothing() -> None:
    market = made_market([[1_000, 500], [1_010, 505], [NAN, NAN], [1_020, 490]], first=date(2020, 9, 29), eligible=True)
    assert market.dates[2] == date(2020, 10, 1)
    wanted = scores([2, 1], [1, 2], [2, 1], [2, 1])
    ledger = run(market, wanted, replace(OPEN, names=1), FREE, 1e6)
    still = ledger.trades.filter(pl.col("date") == date(2020, 10, 1))
    assert set(still["reason"]) == {"untraded"} and still["shares"].sum() == 0
    assert ledger.equity.filter(pl.col("date") == date(2020, 10, 1))["ret"].item() == 0
    assert held(ledger, date(2020, 10, 1)) == held(ledger, date(2020, 9, 30)) == 900


def test_a_delisted_name_leaves_at_its_last_close() -> None:
    close = [1_000, 1_000, 990, 900, NAN, NAN]
    market = one_name(close, listed=[1, 1, 1, 1, 0, 0])
    ledger = run(market, always(market), replace(OPEN, gross=0.5, drift_band=0.9), PRESETS["institution"], 1e6)
    # the evening of the last day orders it anew, for nobody knows, and gets nothing
    (row,) = ledger.trades.filter((pl.col("reason") == "delisted") & (pl.col("shares") > 0)).iter_rows(named=True)
    assert (row["date"], row["side"], row["shares"], row["price"], row["commission"]) == (
        market.dates[3],
        "SELL",
        500,
        900,
        0,
    )
    assert held(ledger, market.dates[3]) == 0
    assert ledger.equity["names"].to_list() == [1, 1, 0, 0, 0]
    worst = run(market, always(market), replace(OPEN, gross=0.5, drift_band=0.9), FREE, 1e6, delisting_haircut=1.0)
    assert worst.equity["nav"][-1] == 500_000


def test_an_order_that_was_cut_on_the_last_day_is_one_row_with_the_delisting() -> None:
    market = one_name([1_000, 1_000, 990, 900, NAN], listed=[1, 1, 1, 1, 0], eligible=[1, 1, 0, 0, 0])
    market = replace(market, value=np.where(np.arange(5)[:, None] == 3, 1e6, market.value))
    ledger = run(market, always(market), replace(OPEN, gross=0.5), FREE, 1e6, filler=_half)
    rows = ledger.trades.filter(pl.col("side") == "SELL")
    assert rows.select("date", "code", "side").is_duplicated().sum() == 0
    assert rows["shares"].sum() == ledger.trades.filter(pl.col("side") == "BUY")["shares"].sum()
    assert rows["reason"].to_list()[-1] == "delisted" and rows["value"].sum() == pytest.approx(
        (rows["shares"] * rows["price"]).sum()
    )


def _half(market: Market, t: int, orders: Any, held: np.ndarray, cash: float, costs: Costs) -> Fills:
    """Fills half of a sale."""
    shares = np.where(orders.shares < -100, orders.shares // 200 * 100, orders.shares)
    return fill(market, t, replace(orders, shares=shares), held, cash, costs)


def test_what_comes_after_a_delisting_changes_nothing_before() -> None:
    market = random_market(11)
    assert market.last_day.any()
    wanted = random_scores(11, market)
    rule = replace(OPEN, names=5)
    first = int(np.flatnonzero(market.last_day.any(axis=1))[0])
    unflagged = replace(market, last_day=np.zeros_like(market.last_day))
    with_flags, without = (run(one, wanted, rule, EVERYTHING, 1e7) for one in (market, unflagged))
    until = pl.col("date") < market.dates[first]
    assert with_flags.trades.filter(until).equals(without.trades.filter(until))


# -- turnover, cost, cash ---------------------------------------------------------------------------------------------


def test_who_buys_and_holds_has_no_turnover() -> None:
    market = deep(random_market(3, days=60, events=False))
    market = replace(market, eligible=np.ones_like(market.eligible))
    wanted = np.tile(np.arange(12, dtype=np.float32), (60, 1))
    rule = replace(OPEN, names=4, tranches=1, drift_band=0.9)
    ledger = run(market, wanted, rule, PRESETS["institution"], 1e8)
    assert ledger.equity["turnover"][0] > 0.9
    assert ledger.equity["turnover"][1:].sum() == 0
    assert ledger.trades["date"].unique().to_list() == [market.dates[1]]


def test_a_full_rotation_costs_what_it_must() -> None:
    market = deep(made_market(np.full((11, 2), 1_000.0)))
    wanted = np.array([[1, 2] if t % 2 else [2, 1] for t in range(11)], np.float32)
    costs = Costs("flat", rate=0.001, half_spread_bp=(0.0,) * 6, impact=0)
    ledger = run(market, wanted, replace(OPEN, gross=0.9), costs, 1e9)
    # half a tick of one yen on 1,000 is 5 bp beside the commission of 10
    share = 0.001 + 0.0005
    equity = ledger.equity
    traded = ledger.trades.group_by("date").agg(pl.col("value").sum()).sort("date")["value"].to_numpy()
    paid = equity.select(pl.sum_horizontal("^cost_.*$")).to_series().to_numpy()
    np.testing.assert_allclose(paid, share * traded, rtol=1e-12)
    np.testing.assert_allclose(equity["turnover"].to_numpy(), 0.9, atol=3e-3)
    np.testing.assert_allclose(1e9 - equity["nav"][-1], share * traded.sum(), rtol=1e-9)
    expected = np.prod([1 - share * 0.9] + [1 - 2 * share * 0.9] * 9)
    assert equity["nav"][-1] / 1e9 == pytest.approx(expected, rel=1e-4)


def test_sales_pay_for_purchases_and_cash_is_never_negative() -> None:
    market = deep(random_market(17, days=40, events=False))
    wanted = random_scores(17, market, memory=0.0)
    ledger = run(market, wanted, replace(OPEN, names=3), EVERYTHING, 1e7)
    assert (ledger.equity["cash"] >= 0).all()
    assert ledger.equity["turnover"][1:].mean() > 0.5  # which no cash at hand would have paid
    assert ledger.trades.filter(pl.col("reason") == "cash").height > 0


# -- short sales ------------------------------------------------------------------------------------------------------


def short_market(**given: Any) -> Market:
    """Two names of one sector, the first to be sold short."""
    return made_market(np.full((6, 2), 1_000.0), sector=50, **given)


SHORT = replace(OPEN, side=BookSide.LONG_SHORT, decile=0.5)


def test_short_sales_accrue_borrow_on_calendar_days_and_pay_dividends() -> None:
    dividend = np.zeros((6, 2))
    dividend[4, 0] = 20
    close = np.full((6, 2), 1_000.0)
    close[4:, 0] = 980
    market = made_market(close, sector=50, dividend=dividend, dividends_known=True)
    assert [day.weekday() for day in market.dates] == [0, 1, 2, 3, 4, 0]
    wanted = np.tile(np.array([1, 2], np.float32), (6, 1))
    costs = Costs("borrow", half_spread_bp=(0.0,) * 6, impact=0)
    free = replace(costs, multiple=1.0)
    ledger = run(market, wanted, replace(SHORT, drift_band=0.9), free, 1e7)
    assert [held(ledger, market.dates[1], code) for code in ("10000", "10010")] == [-5_000, 5_000]
    fee = 5e6 * 0.0115 / 365
    borrow = ledger.equity["cost_borrow"].to_list()
    assert borrow == pytest.approx([0, fee, fee, fee, 3 * fee * 0.98])  # over the weekend, at the mark of Friday
    assert ledger.equity["dividends"].to_list() == [0, 0, 0, -100_000, 0]
    assert ledger.equity["receivable"][-1] == -100_000


def test_borrow_fees_stand_with_the_trade_that_ends_them() -> None:
    market = short_market()
    wanted = np.tile(np.array([1, 2], np.float32), (6, 1))
    wanted[3:] = [2, 1]
    ledger = run(market, wanted, replace(SHORT, buffer=1), PRESETS["retail_zero"], 1e7)
    covers = ledger.trades.filter(pl.col("borrow") > 0)
    assert covers.select("date", "code", "side").rows() == [(market.dates[4], "10000", "BUY")]
    assert covers["borrow"].sum() == pytest.approx(ledger.equity["cost_borrow"][:4].sum())


def test_only_what_can_be_borrowed_is_sold_short() -> None:
    wanted = np.tile(np.array([1, 2], np.float32), (6, 1))
    none = run(short_market(shortable=[0, 0]), wanted, SHORT, FREE, 1e7)
    assert none.trades.height == 0  # nor is the other side held alone
    late = np.zeros((6, 2), bool)
    late[2:] = True
    some = run(short_market(shortable=late), wanted, SHORT, FREE, 1e7)
    assert some.trades["date"].min() == short_market().dates[3]


# -- invariance -------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), RULES)
def test_the_order_of_names_does_not_matter(seed: int, rule: Rule) -> None:
    market = random_market(seed)
    wanted = np.round(random_scores(seed, market))  # with ties
    places = np.random.default_rng(seed).permutation(12)
    before = run(market, wanted, rule, EVERYTHING, 1e7)
    after = run(reordered(market, places), wanted[:, places], rule, EVERYTHING, 1e7)
    assert before.trades.equals(after.trades)
    exact = ["date", "code", "shares", "stale_days", "entry_date"]
    assert before.positions.select(exact).equals(after.positions.select(exact))
    np.testing.assert_allclose(before.equity["nav"].to_numpy(), after.equity["nav"].to_numpy(), rtol=1e-12)


def test_a_run_is_repeatable() -> None:
    market = random_market(1)
    one, two = (run(market, random_scores(1, market), Rule(names=5), EVERYTHING, 1e7) for _ in range(2))
    assert one.equity.equals(two.equity) and one.trades.equals(two.trades) and one.positions.equals(two.positions)


# -- signals that know nothing, and one that knows all ----------------------------------------------------------------


def quiet_market(seed: int, days: int, names: int) -> Market:
    """A random walk whose lots are small against the capital, open to everyone."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.01, (2 * days, names))
    path = np.rint(3_000 * np.exp(np.cumsum(steps - 0.5 * 0.01**2, axis=0)))
    return made_market(path[1::2], open=path[::2], high=path[1::2] + 30, low=path[::2] - 30, value=1e13, adv=1e13)


def zero_signal(seeds: int, days: int, names: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean daily excess before costs, mean daily net return, and mean daily cost of each seed."""
    rule = Rule(names=20, tranches=1, buffer=1, name_cap=0.1, sector_band=1, turnover_cap=1, liquid_only=False)
    found = []
    for seed in range(seeds):
        market = quiet_market(seed, days, names)
        wanted = np.random.default_rng(seed + 10_000).normal(size=(days, names)).astype(np.float32)
        equity = run(market, wanted, rule, PRESETS["institution"], 1e10).equity[1:]
        cost = equity["ret_gross"] - equity["ret"]
        found.append(((equity["ret_gross"] - equity["bench_equal"]).mean(), equity["ret"].mean(), cost.mean()))
    excess, net, cost = np.array(found).T
    return excess, net, cost


def judge_zero_signal(seeds: int, days: int, names: int) -> None:
    excess, net, cost = zero_signal(seeds, days, names)
    error = excess.std(ddof=1) / np.sqrt(seeds)
    assert abs(excess.mean()) < 2 * error
    assert net.mean() < 0
    assert abs(net.mean() + cost.mean()) < 3 * net.std(ddof=1) / np.sqrt(seeds)
    assert cost.mean() > 0.0005


def test_scores_that_know_nothing_lose_their_costs() -> None:
    judge_zero_signal(20, 60, 60)


def test_scores_that_know_nothing_lose_their_costs_over_two_hundred_markets() -> None:
    judge_zero_signal(200, 250, 60)


def test_scores_that_know_all_earn_what_their_names_earn() -> None:
    """The best ten by the return from the next open to the one after: each day's growth is their mean."""
    days, names, k = 40, 50, 10
    market = quiet_market(0, days, names)
    opened = np.round(market.open.astype(np.float64), 1)
    y_oo = np.full((days, names), np.nan)
    y_oo[:-2] = opened[2:] / opened[1:-1] - 1  # of evening t: from the open of t+1 to that of t+2
    rule = Rule(names=k, tranches=1, buffer=1, name_cap=0.2, sector_band=1, turnover_cap=1, adv_share=1,
                liquid_only=False, drift_band=0.0)  # fmt: skip
    ledger = run(market, y_oo.astype(np.float32), rule, replace(FREE, participation_cap_adv=1), 1e12)
    shares = np.zeros((days, names))
    place = {code: n for n, code in enumerate(market.codes)}
    row = {day: t for t, day in enumerate(market.dates)}
    for one in ledger.positions.iter_rows(named=True):
        shares[row[one["date"]], place[one["code"]]] = one["shares"]
    cash = dict(zip(ledger.equity["date"], ledger.equity["cash"], strict=True))
    for t in range(days - 3):
        best = np.argsort(-y_oo[t])[:k]
        assert set(np.flatnonzero(shares[t + 1])) == set(best)
        invested = shares[t + 1] @ opened[t + 1]
        grown = (cash[market.dates[t + 1]] + shares[t + 1] @ opened[t + 2]) / (cash[market.dates[t + 1]] + invested)
        weights = shares[t + 1] * opened[t + 1] / (invested + cash[market.dates[t + 1]])
        assert grown - 1 == pytest.approx(float(weights @ np.nan_to_num(y_oo[t])), rel=1e-9)
        assert grown - 1 == pytest.approx(y_oo[t, best].mean(), rel=0.05)  # of weights set the evening before
    assert ledger.equity["nav"][-1] > 1.3e12


def test_a_book_by_linear_programme_keeps_its_books() -> None:
    market = random_market(21)
    rule = Rule(names=4, tranches=1, name_cap=0.3, sector_band=1, kappa=0.5)
    ledger = run(market, random_scores(21, market), rule, EVERYTHING, 1e7)
    assert ledger.trades.height > 20 and ledger.positions["weight"].max() < 0.35
    eager = run(market, random_scores(21, market), replace(rule, kappa=0.0), EVERYTHING, 1e7)
    assert eager.equity["turnover"].sum() > ledger.equity["turnover"].sum()


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    market = one_name([1_000.0] * 3)
    with pytest.raises(LedgerRefused, match=r"scores are \(2, 2\), the market is \(3, 2\)"):
        run(market, np.zeros((2, 2), np.float32), OPEN, FREE, 1e6)
    with pytest.raises(LedgerRefused, match="no evening before the last day"):
        run(market, np.full((3, 2), NAN, np.float32), OPEN, FREE, 1e6)
    with pytest.raises(LedgerRefused, match="a capital of 0"):
        run(market, always(market), OPEN, FREE, 0)
    with pytest.raises(LedgerRefused, match="a haircut of 2"):
        run(market, always(market), OPEN, FREE, 1e6, delisting_haircut=2)


def test_a_book_that_lost_all_ends_with_the_figures() -> None:
    """Short of a name that rises from limit to limit."""
    climb = [1_000.0, 1_000.0]
    for _ in range(9):
        climb.append(climb[-1] * 1.28 // 1)
    close = np.column_stack([climb, np.full(len(climb), 1_000.0)])
    market = made_market(close, open=close, low=close - 1, sector=50)
    wanted = np.tile(np.array([1, 2], np.float32), (len(climb), 1))
    rule = replace(SHORT, gross=2.0, drift_band=0.99, name_cap=1)
    never_covers = wanted.copy()
    never_covers[1:-2] = NAN
    with pytest.raises(LedgerRefused, match=r"JPY are left of 10,000,000 on the evening of"):
        run(market, never_covers, rule, FREE, 1e7)
