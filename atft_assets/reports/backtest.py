"""What the page of a back-test is made of: the frames of a ledger, and the figures that were computed from them.

Plain values: who runs the ledger fills them in. Returns are decimals, a day; figures named *a year* are annual; money
is JPY. NaN, or an empty frame, is what could not be had: the page says so in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import nan
from typing import Protocol

import polars as pl

from atft_assets.failures import Refusal

TOPIX, TOPIX_TR, EQUAL = "bench_topix", "bench_topix_tr", "bench_equal"  # columns of `equity`
COSTS: Mapping[str, str] = {  # columns of `costs`
    "commission": "commission",
    "spread": "half-spread",
    "impact": "impact",
    "borrow": "borrowing",
}
OURS, INDEX, UNIVERSE = "strategy", "TOPIX", "universe"  # whose months, whose beta


class NoYardstick(Refusal):
    """A book is shown beside something it must not be measured by, or beside nothing."""


def refuse_without_equal(strategy: str, equity: pl.DataFrame) -> None:
    """Refuse a book that could be held against a capitalisation-weighted index alone.

    Raises:
        NoYardstick: `equity` has no return of the equal-weight universe.
    """
    if equity[EQUAL].null_count() + equity[EQUAL].is_nan().sum() == equity.height:
        raise NoYardstick(
            f"{strategy} is shown beside a capitalisation-weighted index alone: that difference is size, not skill. "
            "Give the daily return of the equal-weight eligible universe too (bench_equal)"
        )


@dataclass(frozen=True)
class Figures:
    """What a series of daily returns came to.

    Attributes:
        name: of the book or index.
        cagr, volatility: a year.
        sharpe, sharpe_low, sharpe_high: a year, with its 95 % interval.
        sortino, calmar: a year.
        max_drawdown: in [-1, 0], of the starting capital too.
        lead, lead_low, lead_high: of the strategy before this one, mean daily difference times the days of a year, with
            its 95 % interval; NaN for the strategy itself.
        beta: of the strategy to this one.
    """

    name: str
    cagr: float
    volatility: float
    sharpe: float
    sharpe_low: float = nan
    sharpe_high: float = nan
    sortino: float = nan
    calmar: float = nan
    max_drawdown: float = nan
    lead: float = nan
    lead_low: float = nan
    lead_high: float = nan
    beta: float = nan


class Fall(Protocol):
    """A fall from a highest value and the way back: see `trading.performance.Drawdown`."""

    @property
    def depth(self) -> float: ...
    @property
    def since(self) -> date | None: ...
    @property
    def lowest(self) -> date: ...
    @property
    def until(self) -> date | None: ...
    @property
    def days(self) -> int: ...


@dataclass(frozen=True)
class AtCost:
    """The same scores and rule, run again with all costs multiplied.

    Attributes:
        nav: by day, in the order of `equity`.
    """

    multiple: float
    cagr: float
    sharpe: float
    nav: Sequence[float]


@dataclass(frozen=True)
class AtCapital:
    """The same scores and rule, run again with another capital.

    Attributes:
        capital: JPY at the start.
        cagr, sharpe: net, a year.
        unfilled: share of what was ordered that was not filled.
        invested: mean share of the book in shares.
    """

    capital: float
    cagr: float
    sharpe: float
    unfilled: float = nan
    invested: float = nan


@dataclass(frozen=True)
class Luck:
    """How much of the Sharpe ratio may be chance; ratios a year.

    Attributes:
        sharpe, low, high: with its 95 % interval.
        p: that the mean return is not zero, two-sided.
        psr: probability that the true ratio is above zero.
        dsr: that it is above what the best of the trials would show without skill.
        trials: rows of the ledger of trials.
        effective_trials: independent ones that they are worth.
        variance: of the trials' ratios, a year squared.
        expected_maximum: what the best of them would show without skill.
        days, days_needed: there are, and are needed for 95 % (MinTRL); infinite if never.
        years_needed: below which the best of so many trials is expected to reach a ratio of one (MinBTL).
        pbo: probability of overfitting over the rules that were tried; NaN for a single one.
    """

    sharpe: float
    low: float
    high: float
    p: float
    psr: float
    dsr: float
    trials: int
    effective_trials: float
    variance: float
    expected_maximum: float
    days: int
    days_needed: float
    years_needed: float
    pbo: float = nan


@dataclass(frozen=True)
class Backtest:
    """A back-test as it is shown.

    Attributes:
        strategy: its name; on all pages the same.
        header: what a reader must know before any figure: run ids, panel, universe, rule, cost preset, capital, number
            of trials. By name.
        equity: one row a day, ascending: date, nav, cash, ret, ret_gross, turnover, names, and the daily returns
            bench_topix, bench_topix_tr, bench_equal, null where not known; `trading.journal` has all columns.
        months: year, month (0: the whole year), ret: compounded net returns; by OURS, UNIVERSE and, where it may stand
            beside them, INDEX.
        costs: year and, as shares of the year's mean nav, COSTS and total.
        orders: how many there were.
        unfilled: reason, orders, share: those that were not wholly filled, and what was cut as a share of all orders,
            most first.
        capital: JPY at the start, before the first row.
        total_return: dividends are credited; the index must then hold them too.
        figures: of the strategy, net.
        topix: of TOPIX of the same return type; None where that is not known.
        equal: of the equal-weight eligible universe.
        others: of other portfolios by the same rule, with their daily nav by name in `others_nav` (starting at 1).
        drawdowns: the five worst.
        at_costs, at_capital: re-runs, ascending.
        betas: rolling beta to UNIVERSE and, where it may be compared, INDEX, one value a row of `equity`, NaN before.
        beta_days: over which.
        sectors: sector33, book, universe: mean weights; empty where not known.
        exposures: one row a day or rebalance: date, and named figures such as size or transfer coefficient.
        trips: round trips: code, name, entry, exit (null: still held), days, entry_price, exit_price, profit, ret, and
            `note`: limits, splits, dividends, halts on the way.
        facts: further figures with their names, such as the break-even cost.
        caveats: sentences without which no figure may be read.
    """

    strategy: str
    header: Mapping[str, str]
    equity: pl.DataFrame
    months: Mapping[str, pl.DataFrame]
    costs: pl.DataFrame
    orders: int
    unfilled: pl.DataFrame
    capital: float
    total_return: bool
    figures: Figures
    topix: Figures | None
    equal: Figures
    luck: Luck
    others: Sequence[Figures] = ()
    others_nav: Mapping[str, Sequence[float]] = field(default_factory=dict)
    drawdowns: Sequence[Fall] = ()
    at_costs: Sequence[AtCost] = ()
    at_capital: Sequence[AtCapital] = ()
    betas: Mapping[str, Sequence[float]] = field(default_factory=dict)
    beta_days: int = 0
    sectors: pl.DataFrame = field(default_factory=pl.DataFrame)
    exposures: pl.DataFrame = field(default_factory=pl.DataFrame)
    trips: pl.DataFrame = field(default_factory=pl.DataFrame)
    facts: Mapping[str, str] = field(default_factory=dict)
    caveats: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse yardsticks that mislead.

        Raises:
            NoYardstick: there is no equal-weight universe, or the index is of another return type.
        """
        if not self.equity.height:
            raise NoYardstick(f"{self.strategy}: the ledger has no day to show")
        refuse_without_equal(self.strategy, self.equity)
        if self.topix is not None and not self.equity[self.index].is_finite().any():
            kind = "credits dividends, TOPIX is given without them" if self.total_return else "has no dividends in it"
            raise NoYardstick(
                f"{self.strategy} {kind}: measure it by the same return type ({self.index}), or by none (topix: None)"
            )

    @property
    def index(self) -> str:
        """The column of TOPIX that is of the strategy's return type."""
        return TOPIX_TR if self.total_return else TOPIX
