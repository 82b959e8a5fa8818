"""From a ledger to the page of a back-test: round trips add up to what was earned, and the page holds its figures."""

from dataclasses import replace
from math import isnan, nan

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.reports import backtest_page
from atft_assets.reports.backtest import INDEX, UNIVERSE
from atft_assets.trading.backtest_shown import Run, Tried, exposures, luck, sector_weights, shown
from atft_assets.trading.costs import PRESETS
from atft_assets.trading.ledger import run
from atft_assets.trading.market import Market
from atft_assets.trading.performance import sharpe
from atft_assets.trading.policy import Rule
from atft_assets.trading.round_trips import round_trips
from atft_assets.trading.sweep import Case, at_capitals, at_multiples
from tests.reports.page import checked
from tests.trading.made import made_market

DAYS, NAMES, CAPITAL = 260, 40, 20e6
RULE = Rule(names=10, tranches=2, name_cap=0.2, sector_band=1.0, liquid_only=False)
COSTS = PRESETS["retail_classic"]


def market_of(seed: int = 0, days: int = DAYS, *, dividends: bool = True, splits: bool = True) -> Market:
    """Random walks from 300 to 3,000 yen; names that pause, a dividend and a split each for some of them."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0003, 0.015, (days, NAMES)).cumsum(axis=0)
    close = np.round(rng.uniform(300, 3000, NAMES) * np.exp(steps))
    factor, paid = np.ones((days, NAMES)), np.zeros((days, NAMES))
    for n in range(0, NAMES, 4) if splits else ():
        t = int(rng.integers(20, days - 5))
        factor[t, n] = rng.choice([0.5, 0.666667, 0.9])
        close[t:, n] = np.round(close[t:, n] * factor[t, n])
    for n in range(1, NAMES, 3) if dividends else ():
        paid[int(rng.integers(20, days - 5)), n] = 12.0
    close[rng.random((days, NAMES)) < 0.01] = np.nan
    return made_market(
        close, adj_factor=factor, dividend=paid, dividends_known=dividends, topix=rng.normal(0, 0.01, days),
        sector=np.array([3050, 3650, 5250, 6050])[np.arange(NAMES) % 4],
    )  # fmt: skip


def case_of(market: Market, seed: int = 1, strategy: str = "phase3") -> Case:
    noise = np.random.default_rng(seed).normal(size=(len(market.dates), NAMES)).cumsum(axis=0)
    return Case(strategy, noise.astype(np.float32), RULE, COSTS, CAPITAL)


def ran(market: Market, case: Case) -> Run:
    return Run(case, run(market, case.scores, case.rule, case.costs, case.capital, strategy=case.strategy))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1_000))
def test_round_trips_add_up_to_what_the_book_earned(seed: int) -> None:
    """To the yen, through splits with fractions, dividends and halts; no trip is counted twice."""
    market = market_of(seed, 120)
    one = ran(market, case_of(market, seed + 1))
    trips = round_trips(market, one.ledger.trades, one.ledger.positions)
    earned = one.ledger.equity["nav"][-1] - CAPITAL
    assert trips["profit"].sum() == pytest.approx(earned, abs=5)  # marks are kept as floats of 32 bits
    assert trips["days"].sum() == one.ledger.positions.height
    assert trips["exit"].null_count() == one.ledger.equity["names"][-1]
    assert trips.select("code", "entry").is_duplicated().sum() == 0


def test_a_round_trip_by_hand() -> None:
    """Bought at 1,000, a split 1 to 2, a dividend of 5, sold; then bought again, and held."""
    close = np.array([[1000.0], [1000], [1010], [505], [510], [520], [500], [500]])
    factor, paid = np.ones((8, 1)), np.zeros((8, 1))
    factor[3], paid[4] = 0.5, 5.0
    market = made_market(close, adj_factor=factor, dividend=paid, dividends_known=True)
    trades = pl.DataFrame(
        {"date": [market.dates[t] for t in (1, 5, 7)], "strategy": "s", "code": "10000", "side": ["BUY", "SELL", "BUY"],
         "shares_ordered": [100, 200, 100], "shares": [100, 200, 100], "price": [1000.0, 520.0, 500.0],
         "value": [100_000.0, 104_000.0, 50_000.0], "commission": [55.0, 55.0, 0.0], "half_spread": 10.0, "impact": 0.0,
         "borrow": 0.0, "reason": ["ok", "volume_cap", "ok"]}
    )  # fmt: skip
    positions = pl.DataFrame(
        {"date": [market.dates[t] for t in (1, 2, 3, 4, 7)], "strategy": "s", "code": "10000",
         "shares": [100, 100, 200, 200, 100], "price": [1000.0, 1010, 505, 510, 500], "stale_days": [0, 0, 1, 0, 0],
         "value": [100_000.0, 101_000, 101_000, 102_000, 50_000]}
    )  # fmt: skip
    first, second = round_trips(market, trades, positions).iter_rows(named=True)
    assert first["profit"] == pytest.approx(104_000 - 100_000 - 130 + 200 * 5)
    assert first["ret"] == pytest.approx(first["profit"] / 100_000)
    assert (first["entry"], first["exit"], first["days"]) == (market.dates[1], market.dates[5], 4)
    assert (first["entry_price"], first["exit_price"]) == (1000.0, 520.0)
    assert first["note"] == f"split 0.5 on {market.dates[3]}; 1 dividends; 1 days without a trade; volume cap"
    assert second["exit"] is None and second["profit"] == pytest.approx(-10) and second["exit_price"] == 500


def test_a_strategy_that_never_traded_has_no_trips() -> None:
    market = market_of(days=40)
    one = ran(market, case_of(market))
    assert round_trips(market, one.ledger.trades.clear(), one.ledger.positions.clear()).height == 0


@pytest.fixture(scope="module", params=[False, True], ids=["price", "total"])
def page(request: pytest.FixtureRequest) -> tuple[Market, Run, str]:
    market = market_of(dividends=request.param)
    case = case_of(market)
    told = shown(
        market, ran(market, case), Tried(12, (0.01,) * 12, 0.4),
        header={"scores": "made"}, names={"10000": "会社"},
        others=[ran(market, case_of(market, 9, "lightgbm"))],
        at_costs=[ran(market, one) for one in at_multiples(case)],
        at_capital=[ran(market, one) for one in at_capitals(case, (5e6, 20e6))],
    )  # fmt: skip
    return market, ran(market, case), backtest_page.render(told)


def test_a_real_ledger_has_a_whole_page(page: tuple[Market, Run, str]) -> None:
    market, one, text = page
    plain = checked(text)
    assert f"One yen became {one.ledger.equity['nav'][-1] / CAPITAL:.2f}" in plain
    assert f"{sharpe(one.ledger.equity['ret']):.2f}" in plain and "lightgbm" in plain
    all_filled = (one.ledger.trades["status"] == "filled").all()
    assert plain.count("<img") == (12 if all_filled else 13)
    assert ("TOPIX of the same return type (bench_topix_tr) is not known" in plain) == market.dividends_known
    assert ("before TOPIX, dividends left out of both" in plain) == market.dividends_known
    assert ("12 trials" in plain) and "¥5m" in plain and "3 ×" in plain


def test_betas_and_leads_are_of_what_may_be_compared() -> None:
    for dividends in (False, True):
        market = market_of(dividends=dividends)
        told = shown(market, ran(market, case_of(market)), Tried(1), header={}, names={})
        assert set(told.betas) == ({UNIVERSE} if dividends else {UNIVERSE, INDEX})
        assert told.equal.lead_low < told.equal.lead < told.equal.lead_high
        ahead = told.equity["ret"].to_numpy() - told.equity["bench_equal"].to_numpy()
        assert told.equal.lead == pytest.approx(245 * np.nanmean(ahead))
        assert isnan(told.figures.lead) and told.drawdowns[0].depth == pytest.approx(told.figures.max_drawdown)


def test_luck_is_annual_on_the_page_and_falls_with_trials() -> None:
    returns = np.random.default_rng(0).normal(0.0008, 0.01, 500)
    alone, many = luck(returns, Tried(1)), luck(returns, Tried(100, tuple(np.linspace(-0.05, 0.05, 20)), 0.5))
    assert alone.sharpe == pytest.approx(sharpe(returns)) and alone.low < alone.sharpe < alone.high
    assert alone.dsr == pytest.approx(alone.psr) and alone.expected_maximum == 0
    assert many.effective_trials == pytest.approx(50.5) and many.dsr < alone.dsr
    assert many.variance == pytest.approx(245 * np.var(np.linspace(-0.05, 0.05, 20), ddof=1))
    assert luck(returns, Tried(100, (), nan)).effective_trials == 100


def test_sector_weights_and_exposures_by_hand() -> None:
    close = np.full((6, 4), 1000.0)
    market = made_market(close, sector=np.array([3050, 3050, 3650, -1]), sigma=np.array([0.01, 0.02, 0.03, 0.04]),
                         adv=np.array([1e9, 2e9, 3e9, 4e9]))  # fmt: skip
    day = market.dates[4]
    positions = pl.DataFrame({"date": [day, day], "code": ["10000", "10020"], "weight": [0.6, 0.2]})
    weights = sector_weights(market, positions, market.dates)
    assert weights["sector33"].to_list() == ["3050", "3650"]
    np.testing.assert_allclose(weights["book"], [0.75, 0.25])
    np.testing.assert_allclose(weights["universe"], [0.5, 0.25])
    scores = np.tile(np.array([2.0, -1.0, 1.0, -2.0], np.float32), (6, 1))
    (row,) = exposures(market, scores, positions, market.dates).iter_rows(named=True)
    assert row["date"] == day
    assert row["turnover rank"] == pytest.approx(0.75 * 0.0 + 0.25 * 0.5)
    assert row["volatility rank"] == pytest.approx(0.75 * 0.0 + 0.25 * 0.5)
    sigma, active = np.array([0.01, 0.02, 0.03, 0.04]), np.array([0.6, 0, 0.2, 0]) - 0.2
    assert row["transfer coefficient"] == pytest.approx(np.corrcoef(active * sigma, [2, -1, 1, -2])[0, 1], abs=1e-6)
    nothing = replace(market, sector=np.full_like(market.sector, -1))
    assert sector_weights(nothing, positions, market.dates).height == 0
