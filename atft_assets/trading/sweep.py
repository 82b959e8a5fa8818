"""Several strategies over one market, and what their results say side by side: costs, capital, rules.

A market is read once; each strategy is a ledger of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.trading.costs import MULTIPLES, Costs
from atft_assets.trading.ledger import Ledger, run
from atft_assets.trading.market import Market
from atft_assets.trading.performance import Performance, summary
from atft_assets.trading.policy import BookSide, Rule
from atft_assets.trading.yardsticks import Weighting, equal_weight, equal_weight_returns

CAPITALS = (10e6, 30e6, 100e6, 300e6, 1e9, 3e9)  # JPY: lots bind at one end, daily turnover at the other


@dataclass(frozen=True)
class Case:
    """One strategy.

    Attributes:
        scores: [D,N], NaN for none; shared between cases, not copied.
        capital: JPY.
    """

    strategy: str
    scores: NDArray[np.float32]
    rule: Rule
    costs: Costs
    capital: float


def at_multiples(case: Case, multiples: Sequence[float] = MULTIPLES) -> list[Case]:
    """The same strategy at multiples of its costs."""
    return [
        replace(case, strategy=f"{case.strategy} {multiple:g}x", costs=case.costs.times(multiple))
        for multiple in multiples
    ]


def at_capitals(case: Case, capitals: Sequence[float] = CAPITALS) -> list[Case]:
    """The same strategy with other capital: what it earns by size is its capacity curve."""
    return [replace(case, strategy=f"{case.strategy} {capital / 1e6:,.0f}m", capital=capital) for capital in capitals]


def over(case: Case, rules: Sequence[Rule], costs: Sequence[Costs]) -> list[Case]:
    """The same scores under each pair of a rule and costs, numbered in their order."""
    return [
        replace(case, strategy=f"{case.strategy} {number}", rule=rule, costs=one)
        for number, (rule, one) in enumerate(product(rules, costs))
    ]


def sweep(market: Market, cases: Sequence[Case]) -> Iterator[tuple[Case, Ledger]]:
    """Run strategies one after another; who does not keep a ledger lets its memory go.

    Raises:
        LedgerRefused, IdentityBroken: see `ledger.run`.
    """
    equal = equal_weight_returns(market)
    for case in cases:
        ledger = run(market, case.scores, case.rule, case.costs, case.capital, strategy=case.strategy, equal=equal)
        yield case, ledger


def figures(market: Market, cases: Sequence[Case]) -> pl.DataFrame:
    """Key figures of each strategy against the equal-weight universe.

    Returns:
        strategy: String, capital, multiple: Float64 (JPY, of costs), then cagr, sharpe, sharpe_low, sharpe_high,
        max_drawdown, turnover, cost_share, excess, cash_share, unfilled_share: Float64, as in
        `performance.Performance`; unfilled_share is of the value that was ordered. One row a case, in their order.
    """
    yardstick = equal_weight(market)
    place = {day: t for t, day in enumerate(market.dates)}
    rows = []
    for case, ledger in sweep(market, cases):
        days = [place[day] for day in ledger.equity["date"]]
        weighting = Weighting.EQUAL if case.rule.side is BookSide.LONG else Weighting.CAP
        there = replace(yardstick, returns=yardstick.returns[days])
        of = summary(ledger.equity, yardstick.kind, weighting, [there])
        rows.append({"strategy": case.strategy, "capital": case.capital, "multiple": case.costs.multiple,
                     **_row(of), "unfilled_share": _unfilled(ledger)})  # fmt: skip
    return pl.DataFrame(rows)


def _row(of: Performance) -> dict[str, float]:
    names = ("cagr", "sharpe", "sharpe_low", "sharpe_high", "max_drawdown", "turnover", "cost_share", "cash_share")
    return {**{name: getattr(of, name) for name in names}, "excess": of.compared[0].excess}


def _unfilled(ledger: Ledger) -> float:
    """Share of the ordered value that was not filled."""
    missed = float(ledger.equity["unfilled_value"].sum())
    filled = float(ledger.trades["value"].sum())
    return missed / (missed + filled) if missed + filled else 0.0
