"""Figures of a book: examples worked out by hand, oracles, units, and comparisons that are refused."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atft_assets.calendar import trading_days
from atft_assets.scoring.turnover import drifted, one_way_turnover
from atft_assets.trading import TRADING_DAYS
from atft_assets.trading.costs import PRESETS, Costs
from atft_assets.trading.inference import WrongUnit
from atft_assets.trading.ledger import Ledger, run
from atft_assets.trading.performance import (
    Capacity,
    by_month,
    cagr,
    compare,
    costs_by_year,
    drawdown,
    rolling_beta,
    sharpe,
    sortino,
    summary,
    transfer_coefficient,
    unfilled_by_reason,
    without_dividends,
    worst_drawdowns,
)
from atft_assets.trading.policy import BookSide, Rule
from atft_assets.trading.sweep import CAPITALS, Case, at_capitals, at_multiples, figures, over, sweep
from atft_assets.trading.yardsticks import (
    Kind,
    NotComparable,
    Weighting,
    Yardstick,
    equal_weight,
    equal_weight_returns,
    low_volatility_scores,
    refuse_unlike,
    topix,
)
from tests.trading.made import made_market
from tests.trading.random_market import random_market, random_scores

DAYS = trading_days(date(2020, 1, 6), date(2022, 12, 30))
RETURNS = st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=60)


def ledger_of(seed: int = 2) -> Ledger:
    market = random_market(seed, days=60)
    return run(market, random_scores(seed, market), Rule(names=5, name_cap=0.3, sector_band=1), PRESETS["ib"], 1e7)


# -- series -----------------------------------------------------------------------------------------------------------


def test_sharpe_and_sortino_by_hand() -> None:
    returns = [0.01, -0.02, 0.03, -0.01]
    assert round(sharpe(returns), 4) == 1.7648
    assert round(sortino(returns), 4) == 3.5000
    assert np.isnan(sharpe([0.01, 0.01, 0.01])) and np.isnan(sortino([0.01, 0.02]))
    assert sharpe([0.01, np.nan, -0.02, 0.03, -0.01]) == sharpe(returns)


def test_drawdown_counts_the_starting_capital() -> None:
    nav = np.array([100, 90, 99, 80, 120])
    returns = nav[1:] / nav[:-1] - 1
    assert drawdown(returns).min() == pytest.approx(-0.20)
    assert (nav[1:] / np.maximum.accumulate(nav[1:]) - 1).min() == pytest.approx(-0.1919, abs=1e-4)  # if forgotten
    worst = worst_drawdowns(DAYS[:4], returns)
    assert [(round(one.depth, 4), one.since, one.lowest, one.until, one.days) for one in worst] == [
        (-0.2, None, DAYS[2], DAYS[3], 4)
    ]


def test_the_five_worst_drawdowns_are_apart() -> None:
    steps = []
    for depth in (0.05, 0.20, 0.10, 0.02, 0.15, 0.01):
        steps += [-depth, 1 / (1 - depth) * 1.01 - 1]
    steps.append(-0.30)
    worst = worst_drawdowns(DAYS[: len(steps)], steps)
    assert [round(one.depth, 2) for one in worst] == [-0.30, -0.20, -0.15, -0.10, -0.05]
    assert worst[0].until is None and worst[0].since == DAYS[11] and worst[0].days == 1
    assert worst[1].until == DAYS[3] and worst[1].since == DAYS[1] and worst[1].days == 2


@settings(max_examples=200, deadline=None)
@given(RETURNS)
def test_drawdowns_lie_between_all_lost_and_nothing(returns: list[float]) -> None:
    found = drawdown(returns)
    wealth = np.cumprod(1 + np.array(returns))
    slow = [wealth[t] / max(1.0, wealth[: t + 1].max()) - 1 for t in range(len(wealth))]
    np.testing.assert_allclose(found, slow, atol=1e-12)
    assert ((found >= -1) & (found <= 0)).all()
    worst = worst_drawdowns(DAYS[: len(returns)], returns, count=100)
    assert min((one.depth for one in worst), default=0.0) == pytest.approx(found.min(), abs=1e-12)
    assert sum(one.days for one in worst) >= (found < -1e-12).sum()


def test_growth_a_year() -> None:
    assert cagr(np.full(TRADING_DAYS, 1.21 ** (1 / TRADING_DAYS) - 1)) == pytest.approx(0.21)
    assert cagr(np.full(2 * TRADING_DAYS, 1.21 ** (1 / (2 * TRADING_DAYS)) - 1)) == pytest.approx(0.10)
    assert cagr([-1.0]) == -1 and np.isnan(cagr([]))


def test_units_are_decimals() -> None:
    with pytest.raises(WrongUnit, match="no decimals"):
        sharpe([1.2, -0.8, 2.0, -1.5])
    of = summary(ledger_of().equity, Kind.TOTAL)
    assert -1 <= of.max_drawdown <= 0
    assert all(cost >= 0 for cost in of.cost.values()) and 0 < of.cost_share < 1


def test_rolling_beta_is_the_slope_of_each_window() -> None:
    rng = np.random.default_rng(0)
    market = rng.normal(0, 0.01, 300)
    ours = 1.3 * market + rng.normal(0, 0.005, 300)
    found = rolling_beta(ours, market, 60)
    assert np.isnan(found[:59]).all() and np.isfinite(found[59:]).all()
    for t in (59, 150, 299):
        assert found[t] == pytest.approx(stats.linregress(market[t - 59 : t + 1], ours[t - 59 : t + 1]).slope)
    assert np.isnan(rolling_beta(ours, np.zeros(300), 60)).all()
    assert np.isnan(rolling_beta(ours[:10], market[:10], 60)).all()


# -- tables -----------------------------------------------------------------------------------------------------------


def test_months_and_years_compound() -> None:
    days = [date(2020, 1, 6), date(2020, 1, 7), date(2020, 2, 3), date(2021, 2, 1)]
    found = by_month(days, [0.1, 0.1, -0.5, np.nan])
    assert found.rows() == [
        (2020, 0, pytest.approx(1.21 * 0.5 - 1)),
        (2020, 1, pytest.approx(0.21)),
        (2020, 2, pytest.approx(-0.5)),
    ]
    assert found.schema == {"year": pl.Int32, "month": pl.Int8, "ret": pl.Float64}


def test_costs_of_a_year_are_a_share_of_its_mean_value() -> None:
    equity = ledger_of().equity
    found = costs_by_year(equity)
    assert found["year"].to_list() == [2021]
    paid = equity["cost_commission"].sum() / equity["nav"].mean()
    assert found["commission"].item() == pytest.approx(paid)
    assert found["total"].item() == pytest.approx(
        equity.select(pl.sum_horizontal("^cost_.*$").sum()).item() / equity["nav"].mean()
    )


def test_what_was_not_filled_is_told_by_reason() -> None:
    trades = ledger_of().trades
    found = unfilled_by_reason(trades)
    assert found["orders"].sum() == (trades["status"] != "filled").sum() > 0
    assert found["share"].sum() == pytest.approx((1 - trades["fill_ratio"].cast(pl.Float64)).mean())
    assert found["share"].is_sorted(descending=True)


# -- a ledger in figures ----------------------------------------------------------------------------------------------


def test_figures_of_a_ledger_are_those_of_its_columns() -> None:
    equity = ledger_of().equity
    returns = equity["ret"].to_numpy()
    of = summary(equity, Kind.TOTAL)
    nav = np.r_[1e7, equity["nav"].to_numpy()]
    assert of.days == len(returns) == 59
    assert of.cagr == pytest.approx((nav[-1] / nav[0]) ** (TRADING_DAYS / 59) - 1)
    assert of.max_drawdown == pytest.approx((nav / np.maximum.accumulate(nav) - 1).min())
    assert of.calmar == pytest.approx(of.cagr / -of.max_drawdown)
    assert of.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(TRADING_DAYS))
    assert of.sharpe_low < of.sharpe < of.sharpe_high
    assert of.turnover == pytest.approx(equity["turnover"].to_numpy().mean() * TRADING_DAYS, rel=1e-6)
    assert sum(of.cost.values()) == pytest.approx(equity.select(pl.sum_horizontal("^cost_.*$").sum()).item())
    assert of.dividends == equity["dividends"].sum()
    assert np.isnan(of.break_even) and of.compared == ()


def test_the_interval_of_two_years_is_as_wide_as_it_should_be() -> None:
    """486 days of returns without skill: a standard error of 0.71 a year."""
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.01, 486)
    returns -= returns.mean()
    equity = ledger_of().equity.head(1).select(pl.all().repeat_by(486).explode())
    equity = equity.with_columns(
        pl.Series("date", DAYS[:486]), pl.Series("ret", returns), pl.Series("ret_gross", returns)
    )
    of = summary(equity, Kind.TOTAL)
    assert (of.sharpe_high - of.sharpe_low) / 2 == pytest.approx(2.06 * 0.71, rel=0.35)


def test_excess_and_break_even_are_against_the_yardstick() -> None:
    equity = ledger_of().equity
    theirs = np.linspace(-0.01, 0.012, len(equity))
    theirs[3] = np.nan
    stick = Yardstick("line", Kind.TOTAL, Weighting.EQUAL, theirs)
    of = summary(equity, Kind.TOTAL, Weighting.EQUAL, [stick])
    known = np.isfinite(theirs)
    difference = (equity["ret"].to_numpy() - theirs)[known]
    (against,) = of.compared
    assert against.excess == pytest.approx(difference.mean() * TRADING_DAYS)
    assert against.excess_sharpe == pytest.approx(sharpe(difference)) and against.days == len(equity) - 1
    assert against.beta == pytest.approx(stats.linregress(theirs[known], equity["ret"].to_numpy()[known]).slope)
    gross = (equity["ret_gross"].to_numpy() - theirs)[known].mean() * TRADING_DAYS
    assert of.break_even == pytest.approx(gross / (2 * of.turnover))


def test_turnover_is_against_drifted_weights() -> None:
    """The example by hand, and the ledger's own figure: half the absolute changes at the open, cash a holding."""
    weights, returns, wanted = np.array([0.5, 0.3, 0.2]), np.array([0.1, -0.1, 0.0]), np.array([0.4, 0.4, 0.2])
    np.testing.assert_allclose(drifted(weights, returns), [0.53922, 0.26471, 0.19608], atol=5e-6)
    assert round(one_way_turnover(weights, returns, wanted), 5) == 0.13922

    close = np.array([[1_000, 1_000], [1_000, 1_000], [1_000, 1_000]], float)
    opened = np.array([[1_000, 1_000], [1_000, 1_000], [1_100, 900]], float)
    market = made_market(close, open=opened, adv=1e12, value=1e12)
    rule = Rule(
        names=2, tranches=1, name_cap=0.6, sector_band=1, turnover_cap=1, liquid_only=False, drift_band=0.0, gross=0.9
    )
    eligible = market.eligible.copy()
    eligible[1:, 1] = False
    ledger = run(replace(market, eligible=eligible), np.ones((3, 2), np.float32), rule, Costs("free", multiple=0), 1e8)
    before = np.array([0.45, 0.45, 0.10])  # cash the last
    moved = drifted(before, np.array([0.1, -0.1, 0.0]))
    assert ledger.equity["turnover"][1] == pytest.approx(
        one_way_turnover(moved, np.zeros(3), moved * [1, 0, 0] + [0, 0, moved[1:].sum()]), rel=1e-4
    )


def test_price_returns_are_without_the_dividends() -> None:
    close = np.array([[1_000.0], [1_000], [980], [980]])
    market = made_market(close, dividend=[[0], [0], [20], [0]], dividends_known=True, adv=1e12, value=1e12)
    rule = Rule(names=1, tranches=1, name_cap=1, sector_band=1, turnover_cap=1, liquid_only=False)
    equity = run(market, np.ones((4, 1), np.float32), rule, Costs("free", multiple=0), 1e6).equity
    assert equity["ret"].to_list() == [0, 0, 0]
    assert without_dividends(equity)["ret"].to_list() == pytest.approx([0, -0.02, 0])


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_returns_with_dividends_are_not_held_against_a_price_index() -> None:
    market = random_market(1)
    index = topix(market)
    assert index.kind is Kind.PRICE and equal_weight(market).kind is Kind.TOTAL
    with pytest.raises(NotComparable, match="total returns, those of TOPIX are not"):
        refuse_unlike(Kind.TOTAL, Weighting.CAP, [index])
    with pytest.raises(NotComparable, match="price returns, those of equal-weight universe are not"):
        refuse_unlike(Kind.PRICE, Weighting.EQUAL, [equal_weight(market), index])
    equity = ledger_of().equity
    stick = Yardstick("TOPIX", Kind.PRICE, Weighting.CAP, np.zeros(len(equity)))
    with pytest.raises(NotComparable, match="take the yardstick's total-return series"):
        summary(equity, Kind.TOTAL, Weighting.CAP, [stick])


def test_equal_weights_are_not_held_against_a_cap_weighted_index_alone() -> None:
    index = Yardstick("TOPIX", Kind.PRICE, Weighting.CAP, np.zeros(3))
    equal = Yardstick("equal", Kind.PRICE, Weighting.EQUAL, np.zeros(3))
    with pytest.raises(NotComparable, match="add the equal-weight universe"):
        refuse_unlike(Kind.PRICE, Weighting.EQUAL, [index])
    refuse_unlike(Kind.PRICE, Weighting.EQUAL, [index, equal])
    refuse_unlike(Kind.PRICE, Weighting.CAP, [index])
    refuse_unlike(Kind.PRICE, Weighting.EQUAL, [])


def test_tables_that_are_not_in_order_are_refused() -> None:
    equity = ledger_of().equity
    with pytest.raises(ValueError, match="must ascend"):
        summary(equity.reverse(), Kind.TOTAL)
    with pytest.raises(ValueError, match="must ascend"):
        summary(pl.concat([equity, equity]).sort("date"), Kind.TOTAL)
    with pytest.raises(ValueError, match="holds 2 strategies"):
        summary(equity.with_columns(pl.Series("strategy", ["a"] + ["b"] * 58)), Kind.TOTAL)
    with pytest.raises(ValueError, match="without a row"):
        summary(equity.clear(), Kind.TOTAL)
    with pytest.raises(ValueError, match="one return for each of the 59 rows"):
        summary(equity, Kind.TOTAL, Weighting.EQUAL, [Yardstick("short", Kind.TOTAL, Weighting.EQUAL, np.zeros(3))])


def test_one_constant_annualises() -> None:
    """No number of days a year stands anywhere else in the room, nor one of another exchange."""
    room = Path(__file__).parents[2] / "atft_assets" / "trading"
    assert TRADING_DAYS == 245
    found = {path.name: re.findall(r"(?<![\w.])(?:238|245|252|260)(?![\w.])", path.read_text())
             for path in room.glob("*.py")}  # fmt: skip
    assert {name: numbers for name, numbers in found.items() if numbers} == {"days.py": ["245"]}


# -- transfer coefficient and capacity --------------------------------------------------------------------------------


def test_transfer_coefficient_by_hand() -> None:
    alpha, sigma = np.array([3, 1, -1, -3]) / 100, np.array([2, 2, 4, 4]) / 100
    assert round(transfer_coefficient([0.35, 0.15, -0.25, -0.25], alpha, sigma), 4) == 0.9466
    assert round(transfer_coefficient([0.25, 0.25, -0.25, -0.25], alpha, sigma), 4) == 0.8847
    assert transfer_coefficient(alpha / sigma**2, alpha, sigma) == pytest.approx(1)
    assert np.isnan(transfer_coefficient(np.zeros(4), alpha, sigma))
    padded = transfer_coefficient([0.35, 0.15, -0.25, -0.25, 9], [*alpha, np.nan], [*sigma, 0.02])
    assert round(padded, 4) == 0.9466


def test_capacity_by_hand() -> None:
    of = Capacity(gross=0.10, turnover=10, cost=0.001, impact=0.8, sigma=0.02, adv=200e6, names=50)
    assert round(of.break_even / 1e6) == 625 and round(of.most_profit / 1e6) == 278
    assert of.net(of.break_even) == pytest.approx(0, abs=1e-12)
    sizes = np.linspace(1e6, 700e6, 2_000)
    profits = [size * of.net(size) for size in sizes]
    assert sizes[int(np.argmax(profits))] == pytest.approx(of.most_profit, rel=2e-3)
    assert replace(of, cost=0.01).break_even == 0


# -- yardsticks and sweeps --------------------------------------------------------------------------------------------


def test_the_equal_weight_universe_by_hand() -> None:
    """A dividend, a split, a day without a trade, a name that comes and one that leaves the universe."""
    nan = np.nan
    close = [[1_000, 400, 300, nan], [1_100, 400, 300, nan], [1_090, 202, nan, 500], [1_090, 202, 330, 550]]
    market = made_market(
        close,
        adj_factor=[[1] * 4, [1] * 4, [1, 0.5, 1, 1], [1] * 4],
        dividend=[[0] * 4, [0] * 4, [10, 0, 0, 0], [0] * 4],
        eligible=[[1, 1, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 1]],
        dividends_known=True,
    )
    found = equal_weight_returns(market)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [0.1 / 3, (0.0 + 0.01 + 0.0) / 3, (0.0 + 0.1 + 0.1) / 3], rtol=1e-6)


def test_the_equal_weight_universe_is_what_a_ledger_of_all_names_earns() -> None:
    market = random_market(4, days=80, names=30, events=False)
    market = replace(market, eligible=np.ones_like(market.eligible), open=market.close, adv=np.full((80, 30), 1e13),
                     value=np.full((80, 30), 1e13), limit_up=market.limit_up * 2)  # fmt: skip
    rule = Rule(names=30, tranches=1, name_cap=0.2, sector_band=1, turnover_cap=1, liquid_only=False, drift_band=0.0)
    equity = run(market, np.ones((80, 30), np.float32), rule, Costs("free", multiple=0), 1e11).equity
    np.testing.assert_allclose(equity["ret"][1:], equity["bench_equal"][1:], atol=2e-3)
    assert np.corrcoef(equity["ret"][1:], equity["bench_equal"][1:])[0, 1] > 0.99


def test_scores_of_low_volatility() -> None:
    market = random_market(1)
    found = low_volatility_scores(market)
    assert found.dtype == np.float32 and (np.isnan(found) == ~market.eligible).all()
    assert (found[market.eligible] == -market.sigma[market.eligible]).all()


def test_a_sweep_is_its_runs() -> None:
    market = random_market(8, days=40)
    case = Case("base", random_scores(8, market), Rule(names=4, name_cap=0.3, sector_band=1), PRESETS["ib"], 1e7)
    cases = [case, *at_multiples(case), *at_capitals(case), *over(case, [case.rule, Rule(names=2)], [case.costs])]
    assert [one.strategy for one in cases] == [
        "base", "base 1x", "base 2x", "base 3x", *(f"base {c / 1e6:,.0f}m" for c in CAPITALS), "base 0", "base 1",
    ]  # fmt: skip
    found = dict((one.strategy, ledger) for one, ledger in sweep(market, cases))
    alone = run(market, case.scores, case.rule, case.costs, case.capital, strategy="base")
    assert found["base"].equity.equals(alone.equity) and found["base"].trades.equals(alone.trades)
    once, thrice = (found[f"base {k}x"].equity for k in (1, 3))
    assert thrice["nav"][-1] < once["nav"][-1]
    table = figures(market, cases[:4])
    assert table["strategy"].to_list() == [one.strategy for one in cases[:4]]
    assert table["multiple"].to_list() == [1, 1, 2, 3]
    of = summary(alone.equity, Kind.TOTAL)
    assert table["sharpe"][0] == of.sharpe and table["cagr"][0] == of.cagr
    assert (table["unfilled_share"] >= 0).all() and table["excess"].is_not_nan().all()
    both = figures(market, [replace(case, rule=Rule(side=BookSide.LONG_SHORT, decile=0.5))])
    assert both.height == 1


def test_more_capital_fills_less() -> None:
    market = random_market(8, days=40)
    case = Case("size", random_scores(8, market), Rule(names=4, name_cap=0.3, sector_band=1), PRESETS["ib"], 1e7)
    table = figures(market, at_capitals(case, (1e6, 1e8, 1e10)))
    assert table["cash_share"][2] > 0.9 > table["cash_share"][0]
    assert table["turnover"][2] < table["turnover"][0]


def test_comparisons_use_the_days_that_both_have() -> None:
    ours = np.array([0.01, np.nan, 0.02, -0.01])
    stick = Yardstick("x", Kind.PRICE, Weighting.EQUAL, np.array([0.0, 0.01, np.nan, 0.01]))
    found = compare(ours, stick)
    assert found.days == 2 and found.excess == pytest.approx((0.01 - 0.02) / 2 * TRADING_DAYS)
