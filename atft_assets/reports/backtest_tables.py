"""Sums over the frames of a back-test that its page shows: by year and month, costs, unfilled orders, rolling beta."""

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from atft_assets.reports.backtest import COSTS

Floats = NDArray[np.float64]


def grown(returns: ArrayLike) -> Floats:
    """Value of one yen by day [D + 1], the first before any return; a day without a return leaves it as it is."""
    values = np.nan_to_num(np.asarray(returns, np.float64))
    return np.concatenate([[1.0], np.cumprod(1 + values)])


def by_month(equity: pl.DataFrame, column: str = "ret") -> pl.DataFrame:
    """year, month, ret: compounded returns of the calendar months that the days are of."""
    return _compounded(
        equity, column, [pl.col("date").dt.year().alias("year"), pl.col("date").dt.month().alias("month")]
    )


def by_year(equity: pl.DataFrame, column: str = "ret") -> pl.DataFrame:
    """year, ret: compounded returns of the calendar years that the days are of; null where no day is known."""
    return _compounded(equity, column, [pl.col("date").dt.year().alias("year")])


def _compounded(equity: pl.DataFrame, column: str, keys: list[pl.Expr]) -> pl.DataFrame:
    known = pl.col(column).fill_nan(None)
    value = pl.when(known.is_not_null().any()).then((1 + known.fill_null(0)).product() - 1)
    return equity.group_by(keys).agg(value.alias("ret")).sort(pl.all().exclude("ret"))


def costs_by_year(equity: pl.DataFrame) -> pl.DataFrame:
    """year, and each source of cost in basis points of the year's mean nav."""
    mean = pl.col("nav").mean()
    return (
        equity.group_by(pl.col("date").dt.year().alias("year"))
        .agg(*((1e4 * pl.col(name).sum() / mean).alias(name) for name in COSTS))
        .sort("year")
    )


def unfilled_by_reason(trades: pl.DataFrame) -> pl.DataFrame:
    """reason, orders, share: orders of which something was not filled, and their part of what was ordered, in yen.

    The yen of an order are at the price of the day; one in a name that did not trade has none, and its share is null.
    """
    if not trades.height:
        return pl.DataFrame(schema={"reason": pl.String, "orders": pl.UInt32, "share": pl.Float64})
    price = pl.col("price").fill_nan(None)
    ordered = (pl.col("shares_ordered").abs() * price).fill_null(0.0).sum()
    total = float(trades.select(ordered).item()) or float("nan")
    short = trades.filter(pl.col("shares").abs() < pl.col("shares_ordered").abs())
    lost = ((pl.col("shares_ordered").abs() - pl.col("shares").abs()) * price).sum()
    return (
        short.group_by(pl.col("reason").cast(pl.String))
        .agg(pl.len().alias("orders"), pl.when(price.is_not_null().any()).then(lost / total).alias("share"))
        .sort(["orders", "reason"], descending=[True, False])
    )


def rolling_beta(returns: ArrayLike, index: ArrayLike, days: int) -> Floats:
    """Slope on an index over the last `days` days, those where both are known [D]; NaN before there are as many."""
    ours, theirs = np.asarray(returns, np.float64), np.asarray(index, np.float64)
    out = np.full(len(ours), np.nan)
    for t in range(days - 1, len(ours)):
        x, y = theirs[t - days + 1 : t + 1], ours[t - days + 1 : t + 1]
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() >= days // 2 and x[known].std() > 0:
            out[t] = np.cov(x[known], y[known])[0, 1] / x[known].var(ddof=1)
    return out


def extremes(trips: pl.DataFrame, count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The round trips that earned most, and that lost most, in yen; none stands in both."""
    ordered = trips.sort(["profit", "code", "entry"], descending=[True, False, False])
    best = ordered.head(min(count, (ordered.height + 1) // 2))
    worst = ordered.tail(min(count, ordered.height // 2)).reverse()
    return best, worst
