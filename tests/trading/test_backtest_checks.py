"""What the checks of a back-test catch: planted fills, leaks, torn tables; and that honest ledgers pass."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from atft_assets.reports.backtest import EQUAL, NoYardstick
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.market import Market as SandboxMarket
from atft_assets.sandbox.market import simulate
from atft_assets.sandbox.names import ORDINARY
from atft_assets.sandbox.oracle import oracle_scores
from atft_assets.trading.backtest_checks import forbidden_fills, leak, next_returns, sees_ahead
from atft_assets.trading.backtest_shown import Run, Tried, shown
from atft_assets.trading.costs import PRESETS, Costs
from atft_assets.trading.fills import Fills, Orders, fill
from atft_assets.trading.gates import HISTORY_DAYS
from atft_assets.trading.ledger import Ledger, run
from atft_assets.trading.ledger_tables import broken_identities, frames_of
from atft_assets.trading.market import Market
from atft_assets.trading.policy import BookSide, Rule
from atft_assets.trading.recorded import on_market
from atft_assets.trading.rulebook import RULES, rule_named
from atft_assets.trading.selection import evening_of
from atft_assets.trading.sweep import Case, sweep
from atft_assets.trading.yardsticks import equal_weight_returns, within_reach
from atft_model.interchange.horizons import HORIZONS
from tests.trading.made import made_market
from tests.trading.random_market import random_market, random_scores

RULE = Rule(names=4, tranches=2, name_cap=0.4, sector_band=1.0, liquid_only=False)
COSTS = PRESETS["retail_classic"]
CAPITAL = 10e6


def ledger_of(market: Market, filler: Any = fill, rule: Rule = RULE, seed: int = 3) -> tuple[Case, Ledger]:
    case = Case("made", random_scores(seed, market), rule, COSTS, CAPITAL)
    return case, run(market, case.scores, rule, COSTS, CAPITAL, strategy="made", filler=filler)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("side", list(BookSide))
def test_an_honest_ledger_passes_every_check(seed: int, side: BookSide) -> None:
    market = random_market(seed, 40, 16)
    rule = replace(RULE, side=side, decile=0.25, gross=1.0)
    case, ledger = ledger_of(market, rule=rule, seed=seed)
    assert list(broken_identities(ledger)) == [] and list(forbidden_fills(market, ledger)) == []
    assert sees_ahead(market, case) == []
    for contract, frame in frames_of(ledger).values():
        assert contract.audit(frame, "made").passed, str(contract.audit(frame, "made"))


def at_the_close(market: Market, t: int, orders: Orders, held: Any, cash: float, costs: Costs) -> Fills:
    """A filler that sees the close and trades at it."""
    return fill(replace(market, open=market.close), t, orders, held, cash, costs)


def only_winners(market: Market, t: int, orders: Orders, held: Any, cash: float, costs: Costs) -> Fills:
    """A filler that fills at the open, and only what will rise: nothing of it is at a wrong price."""
    rises = market.close[t] >= market.open[t]
    return fill(market, t, replace(orders, shares=np.where(rises, orders.shares, 0)), held, cash, costs)


def test_a_fill_that_sees_the_close_is_caught() -> None:
    market = random_market(1, 40, 16)
    case, ledger = ledger_of(market, at_the_close)
    assert any("another price than the open" in said for said in forbidden_fills(market, ledger))
    assert any("prices after its open" in said for said in sees_ahead(market, case, at_the_close))
    case, ledger = ledger_of(market, only_winners)
    assert list(forbidden_fills(market, ledger)) == [], "prices alone do not show it"
    assert len(sees_ahead(market, case, only_winners)) >= 1


def limit_taker(market: Market, t: int, orders: Orders, held: Any, cash: float, costs: Costs) -> Fills:
    """A filler that knows no limits and no lender."""
    free = replace(
        market, limit_up=market.limit_up * 2, limit_down=market.limit_down / 2,
        shortable=np.ones_like(market.shortable),
    )  # fmt: skip
    return fill(free, t, orders, held, cash, costs)


def test_fills_on_the_losing_side_of_a_limit_are_caught() -> None:
    close = np.full((8, 4), 1000.0)
    close[4:, 0] = 1300.0  # limit up at the open of the fifth day
    close[4:, 1] = 700.0
    market = made_market(close, sector=3050)
    scores = np.tile(np.array([0.0, 2.0, 1.0, -1.0], np.float32), (8, 1))
    scores[3:] = [3.0, -3.0, 1.0, -1.0]
    rule = Rule(names=2, tranches=1, buffer=1, name_cap=0.5, sector_band=1.0, turnover_cap=1.0, liquid_only=False)
    for filler, expected in ((fill, 0), (limit_taker, 2)):
        ledger = run(market, scores, rule, PRESETS["retail_zero"], CAPITAL, filler=filler)
        said = list(forbidden_fills(market, ledger))
        assert len(said) == expected, said
    assert "bought at the upper limit: 10000 on" in said[0] and "sold at the lower limit: 10010 on" in said[1]


def test_short_sales_without_a_lender_are_caught() -> None:
    market = made_market(np.full((6, 8), 1000.0), shortable=False)
    trusting = replace(market, shortable=np.ones_like(market.shortable))
    rule = Rule(side=BookSide.LONG_SHORT, decile=0.25, name_cap=0.5, tranches=1, liquid_only=False, turnover_cap=1.0)
    scores = np.tile(np.arange(8, dtype=np.float32), (6, 1))
    ledger = run(trusting, scores, rule, COSTS, CAPITAL)
    assert any("shares cannot be borrowed" in said for said in forbidden_fills(market, ledger))
    assert list(forbidden_fills(trusting, ledger)) == []


@pytest.mark.parametrize(
    ("column", "frame"), [("cash", "equity"), ("cost_impact", "equity"), ("value", "positions"), ("ret", "equity")]
)
def test_a_table_that_does_not_add_up_is_caught(column: str, frame: str) -> None:
    _, ledger = ledger_of(random_market(2, 30, 12))
    assert list(broken_identities(ledger)) == []
    changed = getattr(ledger, frame)
    amount = 0.01 if column == "ret" else 100.0
    last = pl.col("date") == changed["date"].max()
    torn = changed.with_columns(pl.when(last).then(pl.col(column) + amount).otherwise(column).alias(column))
    assert list(broken_identities(replace(ledger, **{frame: torn})))


@pytest.mark.parametrize("which", [0, 1])
def test_scores_that_are_a_label_are_caught_and_noise_is_not(which: int) -> None:
    """Pitfall 24, of a back-test: close to close, and open to open."""
    market = random_market(5, 60, 30, events=False)
    planted = next_returns(market)[which].astype(np.float32)
    assert not leak(market, planted).passed
    assert "planted" in leak(market, planted, simulated=True).sentence and leak(market, planted, True).passed
    assert leak(market, random_scores(5, market)).passed


def test_a_book_beside_a_cap_weighted_index_alone_is_refused() -> None:
    """Pitfall 33: of a table without the equal-weight universe no page is made."""
    market = random_market(4, 40, 12)
    case, ledger = ledger_of(market)
    lacking = ledger.equity.with_columns(pl.lit(None, pl.Float64).alias(EQUAL))
    with pytest.raises(NoYardstick, match="that difference is size, not skill"):
        shown(market, Run(case, replace(ledger, equity=lacking)), Tried(1), header={}, names={})


def test_next_returns_by_hand() -> None:
    close = np.array([[1000.0], [1100], [560], [600]])
    opened = np.array([[990.0], [1050], [500], [550]])
    factor = np.array([[1.0], [1], [0.5], [1]])
    market = made_market(close, open=opened, adj_factor=factor)
    closes, opens = next_returns(market)
    np.testing.assert_allclose(closes[:, 0], [0.1, 560 / 0.5 / 1100 - 1, 600 / 560 - 1, np.nan])
    np.testing.assert_allclose(opens[:, 0], [500 / 0.5 / 1050 - 1, 550 / 500 - 1, np.nan, np.nan])


def test_scores_are_set_on_the_axes_of_the_market() -> None:
    market = made_market(np.full((3, 3), 1000.0))
    frame = pl.DataFrame(
        {"date": [market.dates[1]] * 3 + [date(2000, 1, 4)], "code": ["10000", "10020", "99990", "10000"],
         **{f"score_{h}d": pl.Series([1.0, 3.0, 9.0, 9.0], dtype=pl.Float32) for h in HORIZONS}}
    )  # fmt: skip
    dense = on_market(frame, HORIZONS, market)
    assert np.isnan(dense[[0, 2]]).all()
    np.testing.assert_allclose(dense[1], [-1, np.nan, 1])


def test_the_oracle_wins_and_noise_pays_its_costs_on_the_simulated_market() -> None:
    """Prices and planted signals of the sandbox; by the default rule, but for its number of names."""
    simulated = simulate(MarketConfig(n_names=120, start=date(2022, 1, 4), end=date(2022, 12, 30), seed=3))
    market = market_of_sandbox(simulated)
    rng, days = np.random.default_rng(0), np.arange(len(market.dates))[:, None]
    known = on_market(oracle_scores(simulated, HORIZONS), HORIZONS, market)
    noise = np.where(market.eligible, rng.normal(size=known.shape), np.nan).astype(np.float32)
    rule = Rule(names=20, name_cap=0.08, sector_band=0.3, liquid_only=False)
    case = Case("oracle", np.where(days >= 25, known, np.nan).astype(np.float32), rule, PRESETS["ib"], 100e6)
    drawn = np.where(days >= 25, noise, np.nan).astype(np.float32)
    grown, costs = {}, {}
    for one, ledger in sweep(market, [case, replace(case, strategy="noise", scores=drawn)]):
        equity = ledger.equity
        grown[one.strategy] = [float((1 + equity[name].fill_null(0)).product()) for name in ("ret", "ret_gross", EQUAL)]
        costs[one.strategy] = [float(equity[f"cost_{kind}"].sum()) for kind in ("commission", "spread", "impact")]
        assert list(broken_identities(ledger)) == [] and list(forbidden_fills(market, ledger)) == []
        assert not sees_ahead(market, one)
    (ours, _, equal), (lost, before_costs, _) = grown["oracle"], grown["noise"]
    assert ours > equal > lost and before_costs > lost and min(costs["noise"]) > 0, grown


def market_of_sandbox(simulated: SandboxMarket) -> Market:
    """The ordinary shares of a simulated market."""
    columns = [n for n, kind in enumerate(simulated.names.kind) if kind == ORDINARY]
    columns.sort(key=lambda n: simulated.names.code[n])
    traded = simulated.traded[:, columns]
    opened, high, low, close = (np.where(traded, one[:, columns] / 10, np.nan) for one in simulated.ohlc)
    factor = np.ones(simulated.alive.shape)
    factor[simulated.event_day, simulated.event_name] = simulated.event_factor
    value = np.where(traded, simulated.lots[:, columns] * 100.0 * np.nan_to_num(close), 0)
    alive = simulated.alive[:, columns]
    return made_market(
        close, open=opened, high=high, low=low, value=value, adv=None, sigma=None, adj_factor=factor[:, columns],
        eligible=alive, listed=alive, sector=np.array(simulated.names.sector)[columns], first=simulated.days[0],
        codes=[simulated.names.code[n] for n in columns],
    )  # fmt: skip


def test_rules_shrink_with_the_universe_and_stand_from_a_thousand_names_on() -> None:
    assert rule_named("default") == rule_named("default", 3_700) == Rule()
    small = rule_named("default", 200)
    assert (small.names, small.name_cap, small.buffer) == (20, 0.1, 2.0)
    assert rule_named("default", 600).names == 30 and rule_named("default", 40) == small
    assert rule_named("concentrated", 200).names == 12 and rule_named("broad", 500).name_cap == 0.04
    for name in RULES:
        for eligible in (1, 50, 999):
            rule = rule_named(name, eligible)
            assert rule.name_cap * rule.names >= 1 - 1e-9


@pytest.mark.parametrize("liquid_only", [True, False])
def test_the_names_within_reach_are_those_that_the_rule_chooses_from(liquid_only: bool) -> None:
    market = random_market(6, 40, 24)
    scores = random_scores(6, market)
    scores[:, 3] = np.nan
    rule = replace(RULE, liquid_only=liquid_only)
    found = within_reach(market, scores, liquid_only)
    for t in range(len(market.dates)):
        evening = evening_of(market, t, scores[t], rule, np.zeros(24), 1e7)
        np.testing.assert_array_equal(found[t], evening.candidates)
    assert not found[:, 3].any() and found.any()


def test_a_lead_before_the_names_within_reach_is_not_charged_for_those_that_are_not() -> None:
    """The illiquid half rises by a per cent a day, the liquid one not at all: nothing is lost by not holding it."""
    close = np.full((60, 20), 1000.0)
    close[:, 10:] *= 1.01 ** np.arange(60)[:, None]
    adv = np.where(np.arange(20) < 10, 1e9, 1e7)
    market = made_market(close, adv=np.broadcast_to(adv, close.shape))
    scores = np.tile(np.arange(20, dtype=np.float32), (60, 1))
    among = within_reach(market, scores, True)
    np.testing.assert_allclose(equal_weight_returns(market, among)[1:], 0, atol=1e-7)
    np.testing.assert_allclose(equal_weight_returns(market)[1:], 0.005, atol=1e-3)


def test_a_leak_in_an_early_fold_alone_is_caught() -> None:
    """A gate of an evening asks the newest days; a back-test has to ask all of its own."""
    market = random_market(7, 2 * HISTORY_DAYS + 60, 16, events=False)
    scores = random_scores(7, market)
    assert leak(market, scores).passed
    early = slice(0, HISTORY_DAYS)
    scores[early] = next_returns(market)[0][early].astype(np.float32)
    said = leak(market, scores)
    assert not said.passed and "beyond 0.15 it is a leak" in said.sentence
