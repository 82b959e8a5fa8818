"""What a book earned, and what it cost: figures of daily returns and of a ledger's tables.

Returns are decimals, drawdowns lie from -1 to 0, costs are JPY and not negative. A figure a year is of `TRADING_DAYS`
days. Series are [D], one value a day, ascending.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from atft_assets.scoring.turnover import break_even
from atft_assets.trading.days import TRADING_DAYS
from atft_assets.trading.inference import daily_returns, sharpe_verdict
from atft_assets.trading.yardsticks import Kind, Weighting, Yardstick, refuse_unlike
from atft_model.interchange.statistics import finite, information_ratio

Floats = NDArray[np.float64]

COST_SOURCES = ("commission", "spread", "impact", "borrow")
WORST = 5  # drawdowns that are named
BETA_DAYS = 120


# -- figures of a series ----------------------------------------------------------------------------------------------


def sharpe(returns: ArrayLike) -> float:
    """Mean over standard deviation (ddof 1), a year; NaN below three values or without variation.

    Raises:
        WrongUnit: the returns are per cent or basis points.
    """
    return information_ratio(daily_returns(returns)) * math.sqrt(TRADING_DAYS)


def sortino(returns: ArrayLike) -> float:
    """Mean over the root mean square of the losses, all days counted, a year; NaN without a loss."""
    values = finite(returns)
    below = math.sqrt(float(np.mean(np.minimum(values, 0.0) ** 2))) if len(values) else 0.0
    return float(values.mean() / below * math.sqrt(TRADING_DAYS)) if below > 1e-12 else math.nan


def cagr(returns: ArrayLike) -> float:
    """Growth a year; -1 if all is lost, NaN without a day."""
    values = finite(returns)
    if not len(values):
        return math.nan
    grown = float(np.prod(1 + values))
    return grown ** (TRADING_DAYS / len(values)) - 1 if grown > 0 else -1.0


def drawdown(returns: ArrayLike) -> Floats:
    """How far below its highest value so far a unit of capital is after each day [D]; the start counts as a value."""
    wealth = np.cumprod(1 + np.nan_to_num(np.asarray(returns, np.float64)))
    return wealth / np.maximum(np.maximum.accumulate(wealth), 1.0) - 1


@dataclass(frozen=True)
class Drawdown:
    """A fall from a highest value.

    Attributes:
        depth: at its lowest, -1 to 0.
        since: last day at the highest value; None: the start.
        lowest: the day of the depth.
        until: first day at the old value again; None: not yet.
        days: from the highest value to the old value again, or to the end.
    """

    depth: float
    since: date | None
    lowest: date
    until: date | None
    days: int


def worst_drawdowns(dates: Sequence[date], returns: ArrayLike, count: int = WORST) -> list[Drawdown]:
    """The deepest falls, deepest first; each one is from a highest value until that is reached again.

    Args:
        dates: [D] of the returns.
    """
    below = drawdown(returns)
    under = np.r_[False, below < -1e-12, False]
    starts, ends = np.flatnonzero(under[1:] & ~under[:-1]), np.flatnonzero(under[:-1] & ~under[1:])
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        lowest = start + int(np.argmin(below[start:end]))
        over = end < len(below)
        found.append(
            Drawdown(
                depth=float(below[lowest]),
                since=dates[start - 1] if start else None,
                lowest=dates[lowest],
                until=dates[end] if over else None,
                days=end - start + int(over),
            )
        )
    return sorted(found, key=lambda one: one.depth)[:count]


def rolling_beta(returns: ArrayLike, benchmark: ArrayLike, days: int = BETA_DAYS) -> Floats:
    """Slope of the returns on a benchmark's over the days that end with each [D].

    NaN until there are so many, where one of them is unknown, and where the benchmark does not move.
    """
    ours, theirs = (np.asarray(x, np.float64) for x in (returns, benchmark))
    found = np.full(len(ours), np.nan)
    if len(ours) < days:
        return found
    windows = [np.lib.stride_tricks.sliding_window_view(x, days) for x in (ours, theirs)]
    centred = [window - window.mean(axis=1, keepdims=True) for window in windows]
    together, alone = (centred[0] * centred[1]).sum(axis=1), (centred[1] ** 2).sum(axis=1)
    moves = alone > 1e-18
    found[days - 1 :] = np.where(moves, together / np.where(moves, alone, 1.0), np.nan)
    return found


# -- tables -----------------------------------------------------------------------------------------------------------


def by_month(dates: Sequence[date], returns: ArrayLike) -> pl.DataFrame:
    """Compounded returns of each month and of each year.

    Returns:
        year: Int32, month: Int8 (0: the year), ret: Float64; sorted.
    """
    frame = pl.DataFrame({"date": dates, "ret": np.asarray(returns, np.float64)}).drop_nans("ret")
    frame = frame.with_columns(pl.col("date").dt.year().alias("year"), pl.col("date").dt.month().alias("month"))
    compounded = ((pl.col("ret") + 1).product() - 1).alias("ret")
    months = frame.group_by("year", "month").agg(compounded)
    years = frame.group_by("year").agg(compounded).with_columns(pl.lit(0, pl.Int8).alias("month"))
    return pl.concat([months, years.select(months.columns)]).sort("year", "month")


def costs_by_year(equity: pl.DataFrame) -> pl.DataFrame:
    """Costs by source of each year, as a share of the mean net asset value of the year.

    Returns:
        year: Int32, commission, spread, impact, borrow, total: Float64; sorted.
    """
    shares = [(pl.col(f"cost_{name}").sum() / pl.col("nav").mean()).alias(name) for name in COST_SOURCES]
    years = equity.group_by(pl.col("date").dt.year().alias("year")).agg(shares)
    return years.with_columns(pl.sum_horizontal(COST_SOURCES).alias("total")).sort("year")


def unfilled_by_reason(trades: pl.DataFrame) -> pl.DataFrame:
    """Orders that were cut, by the reason.

    Returns:
        reason, orders: UInt32, share: Float64, of all ordered shares, each order counted alike; most first.
    """
    cut = (1 - pl.col("fill_ratio").cast(pl.Float64)).sum() / max(len(trades), 1)
    found = trades.filter(pl.col("status") != "filled").group_by("reason")
    return found.agg(pl.len().alias("orders"), cut.alias("share")).sort("share", "reason", descending=[True, False])


# -- a ledger in figures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A strategy beside a yardstick, on the days that both have.

    Attributes:
        excess: mean daily difference times the days of a year.
        excess_sharpe: of the differences, a year: the information ratio.
        beta: slope on the yardstick over all days.
        cagr, sharpe, max_drawdown: of the yardstick.
    """

    name: str
    days: int
    excess: float
    excess_sharpe: float
    beta: float
    cagr: float
    sharpe: float
    max_drawdown: float


@dataclass(frozen=True)
class Performance:
    """Figures of a strategy, net of costs.

    Attributes:
        sharpe, sharpe_low, sharpe_high: a year, with the 95 % interval; NaN where the days are too few.
        max_drawdown: -1 to 0.
        calmar: CAGR over the depth of the largest drawdown; NaN without one.
        turnover: one-way, a year.
        cost: by source, JPY; `cost_share` is all of it, a year, of the mean net asset value.
        gross_return: mean daily return before costs times the days of a year.
        break_even: cost of a traded yen at which nothing is left of the return before costs in excess of the first
            yardstick; NaN without a yardstick.
        cash_share, names: means over days.
        dividends: JPY.
    """

    days: int
    cagr: float
    volatility: float
    sharpe: float
    sharpe_low: float
    sharpe_high: float
    sortino: float
    max_drawdown: float
    calmar: float
    turnover: float
    cost: dict[str, float]
    cost_share: float
    gross_return: float
    break_even: float
    cash_share: float
    names: float
    dividends: float
    compared: tuple[Compared, ...] = ()


def summary(
    equity: pl.DataFrame,
    kind: Kind,
    weighting: Weighting = Weighting.EQUAL,
    yardsticks: Sequence[Yardstick] = (),
    horizon: int = 1,
) -> Performance:
    """Figures of a ledger's table of equity.

    Args:
        equity: of one strategy.
        kind: whether its returns hold dividends (`yardsticks.kind_of` the market).
        weighting: of its names.
        yardsticks: what it is compared with, the first for the break-even cost; one return a row of `equity`.
        horizon: days over which returns are thought to be dependent, for the interval of the Sharpe ratio.

    Raises:
        NotComparable: a yardstick is of another kind.
        ValueError: no row, several strategies, days that do not ascend, or a yardstick of another length.
    """
    _refuse_unsorted(equity)
    refuse_unlike(kind, weighting, yardsticks)
    returns, gross = (equity[name].to_numpy() for name in ("ret", "ret_gross"))
    if bad := [one.name for one in yardsticks if len(one.returns) != len(returns)]:
        raise ValueError(f"{', '.join(bad)}: give one return for each of the {len(returns)} rows of equity")
    turnover = float(equity["turnover"].cast(pl.Float64).mean()) * TRADING_DAYS  # type: ignore[arg-type]
    cost = {name: float(equity[f"cost_{name}"].sum()) for name in COST_SOURCES}
    nav = float(equity["nav"].mean())  # type: ignore[arg-type]
    growth, deepest = cagr(returns), float(drawdown(returns).min())
    low, high = sharpe_interval(returns, horizon)
    active = math.nan
    if yardsticks:
        active = float(np.nanmean(gross - yardsticks[0].returns)) * TRADING_DAYS
    return Performance(
        days=len(returns),
        cagr=growth,
        volatility=float(returns.std(ddof=1)) * math.sqrt(TRADING_DAYS) if len(returns) > 1 else math.nan,
        sharpe=sharpe(returns),
        sharpe_low=low,
        sharpe_high=high,
        sortino=sortino(returns),
        max_drawdown=deepest,
        calmar=growth / -deepest if deepest < 0 else math.nan,
        turnover=turnover,
        cost=cost,
        cost_share=sum(cost.values()) / nav / len(returns) * TRADING_DAYS,
        gross_return=float(gross.mean()) * TRADING_DAYS,
        break_even=break_even(active, turnover) if yardsticks else math.nan,
        cash_share=float((equity["cash"] / equity["nav"]).mean()),  # type: ignore[arg-type]
        names=float(equity["names"].mean()),  # type: ignore[arg-type]
        dividends=float(equity["dividends"].sum()),
        compared=tuple(compare(returns, one) for one in yardsticks),
    )


def compare(returns: Floats, yardstick: Yardstick) -> Compared:
    """Returns beside those of a yardstick of the same kind, on the days that both have."""
    both = np.isfinite(returns) & np.isfinite(yardstick.returns)
    ours, theirs = returns[both], yardstick.returns[both]
    beta = rolling_beta(ours, theirs, len(ours))[-1] if len(ours) > 1 else math.nan
    return Compared(
        name=yardstick.name,
        days=len(ours),
        excess=float((ours - theirs).mean()) * TRADING_DAYS if len(ours) else math.nan,
        excess_sharpe=sharpe(ours - theirs),
        beta=float(beta),
        cagr=cagr(theirs),
        sharpe=sharpe(theirs),
        max_drawdown=float(drawdown(theirs).min(initial=0.0)),
    )


def without_dividends(equity: pl.DataFrame) -> pl.DataFrame:
    """The same with `ret` and `ret_gross` as price returns, for a yardstick that is a price index.

    What was earned is less the dividends; prices have fallen by them on their ex-dates already.
    """
    before = pl.col("nav") / (1 + pl.col("ret"))
    return equity.with_columns(pl.col(name) - pl.col("dividends") / before for name in ("ret", "ret_gross"))


def sharpe_interval(returns: Floats, horizon: int) -> tuple[float, float]:
    """95 % interval of the Sharpe ratio a year; NaN where there is none."""
    values = finite(returns)
    if math.isnan(sharpe(values)):
        return math.nan, math.nan
    verdict = sharpe_verdict(values, horizon)
    return verdict.low * math.sqrt(TRADING_DAYS), verdict.high * math.sqrt(TRADING_DAYS)


def _refuse_unsorted(equity: pl.DataFrame) -> None:
    if not len(equity):
        raise ValueError("a table of equity without a row has no figures")
    if (count := equity["strategy"].n_unique()) != 1:
        raise ValueError(f"the table of equity holds {count} strategies: give one at a time")
    if not equity["date"].is_sorted() or equity["date"].has_nulls() or equity["date"].n_unique() != len(equity):
        raise ValueError("the days of a table of equity must ascend, each one once: sort it by date")


# -- what a rule makes of the scores, and how much money it bears -----------------------------------------------------


def transfer_coefficient(active: ArrayLike, alpha: ArrayLike, sigma: ArrayLike) -> float:
    """How much of the scores reaches the book: correlation of risk-weighted active weights with scores over risk.

    1 of the book that one would hold without caps, lots and the rule not to sell short (Clarke, de Silva and Thorley,
    Financial Analysts Journal 58, 2002).

    Args:
        active: weights less those of the yardstick, alpha: expected returns, sigma: volatilities, all [N]; names with
            one unknown are left out.

    Returns:
        NaN where one side does not vary.
    """
    active, alpha, sigma = (np.asarray(x, np.float64) for x in (active, alpha, sigma))
    known = np.isfinite(active) & np.isfinite(alpha) & (sigma > 0)
    held, wanted = active[known] * sigma[known], alpha[known] / sigma[known]
    if known.sum() < 2 or not (held.std() > 1e-15 and wanted.std() > 1e-15):
        return math.nan
    return float(np.corrcoef(held, wanted)[0, 1])


@dataclass(frozen=True)
class Capacity:
    """Closed form of how much money a strategy bears, with a square-root impact and equal positions.

    Attributes:
        gross: return a year before costs, decimal.
        turnover: one-way, a year.
        cost: of a traded yen that does not depend on size, decimal.
        impact: c of c x sigma x sqrt(order / daily turnover).
        sigma: daily volatility of a name.
        adv: daily turnover of a name, JPY.
        names: how many are held.
    """

    gross: float
    turnover: float
    cost: float
    impact: float
    sigma: float
    adv: float
    names: int

    def net(self, capital: float) -> float:
        """Return a year after costs at a capital in JPY."""
        size = math.sqrt(capital / (self.names * self.adv))
        return self.gross - 2 * self.turnover * (self.cost + self.impact * self.sigma * size)

    @property
    def break_even(self) -> float:
        """Capital at which nothing is left, JPY; 0 where nothing is left of any."""
        margin = max(self.gross - 2 * self.turnover * self.cost, 0.0)
        return self.names * self.adv * (margin / (2 * self.turnover * self.impact * self.sigma)) ** 2

    @property
    def most_profit(self) -> float:
        """Capital at which the profit in yen is largest, JPY."""
        return self.break_even / 2.25
