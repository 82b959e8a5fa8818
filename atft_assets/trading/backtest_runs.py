"""Every ledger of a back-test: one market, the rule in use, what it is measured by, and how it bears costs and size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import next_trading_day
from atft_assets.failures import Refusal
from atft_assets.features.names import DAILY_QUOTES, RAW
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.trading import tried
from atft_assets.trading.backtest_shown import Run
from atft_assets.trading.champion import LIGHTGBM
from atft_assets.trading.costs import MULTIPLES, PRESETS
from atft_assets.trading.loading import market_of
from atft_assets.trading.market import Market
from atft_assets.trading.recorded import MOMENTUM, Recorded, on_market
from atft_assets.trading.rulebook import rule_named
from atft_assets.trading.sweep import CAPITALS, Case, at_capitals, at_multiples, sweep
from atft_assets.trading.yardsticks import low_volatility_scores
from atft_assets.trials.ledger import Trial
from atft_assets.trials.recipes import recipe_of

LOW_VOLATILITY, ORACLE, NOISE = "low_volatility", "oracle", "noise"
SEED = 0  # of the scores that know nothing


LEAST_EVENINGS = 20  # below, a Sharpe ratio has no interval worth the name


class CannotTrade(Refusal):
    """There is nothing that a back-test could run on."""


class TooShort(CannotTrade):
    """The record of scores is too short to be judged yet."""


@dataclass(frozen=True)
class Asked:
    """What is to be run.

    Attributes:
        rule: name of the rule in use; `sweep`: further ones.
        costs: name of a preset.
        capital: JPY; `capacity`: run again with others.
        first, last: of the market; None: as far as there are scores.
    """

    rule: str
    sweep: Sequence[str]
    costs: str
    capital: float
    capacity: bool = True
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True)
class Tested:
    """Everything that was run.

    Attributes:
        main: the rule in use at modelled cost.
        others: other scores by the same rule.
        by_rule: each swept rule at modelled and at twice modelled cost; the one in use is the first.
    """

    market: Market
    main: Run
    at_costs: list[Run]
    at_capital: list[Run]
    others: list[Run]
    by_rule: dict[str, tuple[Run, Run]]

    @property
    def every(self) -> list[Run]:
        """Everything that is shown."""
        return [*self.at_costs, *self.at_capital, *self.others]

    @property
    def swept(self) -> pl.DataFrame:
        """date, rule, ret, ret_twice: daily returns of each rule at one and two times the costs."""
        parts = []
        for rule, (once, twice) in self.by_rule.items():
            double = twice.ledger.equity.select("date", ret_twice="ret")
            both = once.ledger.equity.select("date", "ret").join(double, on="date")
            parts.append(both.select("date", pl.lit(rule).alias("rule"), "ret", "ret_twice"))
        return pl.concat(parts).sort("rule", "date")


def run_all(settings: Settings, store: Store, given: Recorded, asked: Asked) -> Tested:
    """Load the market of the scores and run every ledger.

    Raises:
        CannotTrade: the span is empty, the costs are unknown, or the capital buys nothing.
        TooShort: the scores are of a few evenings only.
        UnknownRule, MarketRefused, MissingTable, LedgerRefused: see there.
    """
    if asked.costs not in PRESETS:
        raise CannotTrade(f"there are no costs {asked.costs!r}; there are {', '.join(PRESETS)}")
    named = dict.fromkeys((asked.rule, *asked.sweep))
    for name in named:
        rule_named(name)  # before a market is loaded
    low, high = given.span
    first, last = max(asked.first or low, low), min(asked.last or next_trading_day(high), newest_day(store))
    if first >= last:
        raise CannotTrade(f"no evening lies between {first} and {last}: the scores are of {low} to {high}")
    market = market_of(store, first, last)
    rules = {name: rule_named(name, int(market.eligible[0].sum())) for name in named}
    case = Case(
        given.name, on_market(given.scores, given.horizons, market), rules[asked.rule], PRESETS[asked.costs],
        asked.capital,
    )  # fmt: skip
    evenings = int(np.isfinite(case.scores[:-1]).any(axis=1).sum())
    if evenings < LEAST_EVENINGS:
        raise TooShort(
            f"{given.name} has scores of {evenings} evenings from {first} to {last}, and a back-test "
            f"needs {LEAST_EVENINGS} of them: give a longer span"
        )
    costs = [case, *at_multiples(case, MULTIPLES[1:])]
    capitals = at_capitals(case, CAPITALS) if asked.capacity else []
    others = [replace(case, strategy=name, scores=one) for name, one in other_scores(settings, given, market, case)]
    further = [
        replace(case, strategy=name, rule=rule, costs=case.costs.times(multiple))
        for name, rule in rules.items()
        for multiple in (1, 2)
        if name != asked.rule
    ]
    runs = iter([Run(one, ledger) for one, ledger in sweep(market, [*costs, *capitals, *others, *further])])
    at_costs, at_capital, beside = ([next(runs) for _ in part] for part in (costs, capitals, others))
    if not at_costs[0].ledger.trades["shares"].sum():
        raise CannotTrade(
            f"with {asked.capital:,.0f} JPY the rule {asked.rule} bought nothing from {first} to {last}: a lot is 100 "
            "shares; give a larger capital, or a rule of fewer names"
        )
    by_rule = {asked.rule: (at_costs[0], at_costs[1])}
    for once, twice in zip(runs, runs, strict=True):
        by_rule[once.case.strategy] = (once, twice)
    return Tested(market, Run(case, at_costs[0].ledger), at_costs, at_capital, beside, by_rule)


def other_scores(
    settings: Settings, given: Recorded, market: Market, case: Case
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Other scores by their names, on the evenings that have scores [D,N]."""
    evenings = np.isfinite(case.scores).any(axis=1, keepdims=True)

    def there(scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(evenings, scores, np.float32(np.nan))

    if given.lightgbm is not None:
        yield LIGHTGBM, there(on_market(given.lightgbm[0], given.horizons, market))
    yield LOW_VOLATILITY, there(low_volatility_scores(market))
    if given.momentum is not None:
        yield MOMENTUM, there(on_market(given.momentum, given.horizons, market))
    if settings.sandbox and settings.end is not None:
        from atft_assets.sandbox.market import demo_config, simulate
        from atft_assets.sandbox.oracle import oracle_scores

        known = oracle_scores(simulate(demo_config(settings.start, settings.end)), given.horizons)
        yield ORACLE, there(on_market(known, given.horizons, market))
        drawn = np.random.default_rng(SEED).normal(size=case.scores.shape).astype(np.float32)
        yield NOISE, there(np.where(market.eligible, drawn, np.float32(np.nan)))


def newest_day(store: Store) -> date:
    """The last day that has quotes.

    Raises:
        CannotTrade: there is none.
    """
    days = [entry.through_date for entry in store.table(RAW, DAILY_QUOTES).manifest().entries.values()]
    if not (known := [day for day in days if day]):
        raise CannotTrade("raw/daily_quotes holds no day: materialize it first (make road)")
    return max(known)


def trials_of(given: Recorded, tested: Tested) -> list[Trial]:
    """Every rule and every other score that somebody will see, one line of the ledger of trials each."""
    case, found = tested.main.case, []
    for name, (once, _) in tested.by_rule.items():
        found.append(tried.backtest(name, given.recipe, once.case.rule, once.ledger.equity["ret"]))
    rules = {name: recipe_of(name) for name in (LOW_VOLATILITY, MOMENTUM)}
    recipes = {**rules, LIGHTGBM: given.lightgbm[1] if given.lightgbm else ""}
    for one in tested.others:
        if one.case.strategy in recipes:  # of the sandbox's oracle and noise nobody makes a choice
            name = f"{one.case.strategy} by the same rule"
            found.append(tried.backtest(name, recipes[one.case.strategy], case.rule, one.ledger.equity["ret"]))
    return found
