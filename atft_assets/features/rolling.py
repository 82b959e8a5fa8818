"""Expressions that every family shares: windows over one stock's own rows, guarded division, finite-memory
averages.

All of them expect a frame sorted by code and date that holds traded rows only (`by_stock`), and compute in float64.

Nothing here depends on where the frame begins. Recursive averages (EMA, Wilder) are cut to a finite memory, so a
month computed alone and the same month computed within ten years agree; `finish` blanks values whose window
reaches further back than a month's declared look-back, which happens to names that hardly trade.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log
from typing import Final

import polars as pl

from atft_assets.features.feature import Feature
from atft_assets.partitions import LOOKBACK_MONTHS

TRADING_DAYS_A_YEAR = 252
ANNUAL = TRADING_DAYS_A_YEAR**0.5
TINY = 1e-9  # below this a relative spread is rounding, not a spread
STILL = 1e-10  # variance of a daily return below which it is rounding: a standard deviation of a tenth of a basis point
# The streaming engine hashes the keys of every window; the in-memory one takes slices of a sorted frame.
ENGINE: Final = "in-memory"


def by_stock(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame sorted by code and date, the code as an Enum flagged as sorted.

    So Polars takes each stock as a slice; strings it would hash again for every window.
    """
    if isinstance(frame.schema["code"], pl.Enum) and frame.flags["code"]["SORTED_ASC"]:
        return frame  # it comes from here
    if not frame["date"].is_sorted():
        frame = frame.sort("date", maintain_order=True)
    codes = pl.Enum(frame["code"].unique().cast(pl.String).sort())
    frame = frame.with_columns(pl.col("code").cast(codes)).sort("code", maintain_order=True)
    return frame.with_columns(pl.col("code").set_sorted())


def own(expression: pl.Expr) -> pl.Expr:
    """The expression over one stock's own rows."""
    return expression.over("code")


def lag(column: str | pl.Expr, n: int) -> pl.Expr:
    """The column n own rows earlier: a shift of the whole frame, null where it crosses into another stock."""
    x = pl.col(column) if isinstance(column, str) else column
    return pl.when(pl.col("code") == pl.col("code").shift(n)).then(x.shift(n))


def mean(column: str, w: int) -> pl.Expr:
    """Mean of the last w own rows, null before there are w."""
    return own(pl.col(column).rolling_mean(w))


def std(column: str, w: int) -> pl.Expr:
    """Sample standard deviation (ddof 1) of the last w own rows."""
    return own(pl.col(column).rolling_std(w))


def ratio(numerator: pl.Expr, denominator: pl.Expr, least: float = 0.0) -> pl.Expr:
    """Quotient; null where the denominator is not above `least`, so that no infinity is ever stored."""
    return pl.when(denominator > least).then(numerator / denominator)


def finite(expression: pl.Expr) -> pl.Expr:
    """Null instead of NaN or infinity (moments of a constant window are 0/0)."""
    return pl.when(expression.is_finite()).then(expression)


def decayed_mean(column: str | pl.Expr, alpha: float, memory: int, by: str | None = "code") -> pl.Expr:
    """Exponentially weighted mean of the last `memory` rows, weights alpha*(1-alpha)**k, normalised to sum 1.

    The recursion S[t] = alpha*x[t] + (1-alpha)*S[t-1] minus its own value `memory` rows ago, decayed, leaves
    exactly the newest `memory` terms. Needs memory + 1 rows.

    Args:
        by: column of groups; None for a single series.
    """
    x = pl.col(column) if isinstance(column, str) else column
    recursion = x.ewm_mean(alpha=alpha, adjust=False)
    q = (1 - alpha) ** memory
    if by is None:
        return (recursion - q * recursion.shift(memory)) / (1 - q)
    recursion = recursion.over(by)
    return (recursion - q * lag(recursion, memory)) / (1 - q)


# Rows of memory of an EMA: three spans (the weights left out sum to 0.25 %), the 200-row one cut at 240 to fit in
# 13 months.
EMA_MEMORY = {5: 15, 9: 27, 10: 30, 12: 36, 20: 60, 26: 78, 60: 180, 200: 240}


def ema(column: str | pl.Expr, span: int, by: str | None = "code") -> pl.Expr:
    """EMA of the span, alpha = 2/(span+1), of finite memory."""
    return decayed_mean(column, 2 / (span + 1), EMA_MEMORY[span], by)


def wilder(column: str | pl.Expr, n: int, by: str | None = "code") -> pl.Expr:
    """Wilder's average, alpha = 1/n, of the last 5 n rows (the weights left out sum to 0.6 % at n = 14)."""
    return decayed_mean(column, 1 / n, 5 * n, by)


def parkinson(ln_high_low: str, w: int) -> pl.Expr:
    """Parkinson's volatility, annualised: sqrt(252 mean(ln(H/L)^2, w) / (4 ln 2)) (Journal of Business 53, 1980)."""
    return (own((pl.col(ln_high_low) ** 2).rolling_mean(w)) / (4 * log(2))).clip(0).sqrt() * ANNUAL


def with_moments(frame: pl.LazyFrame, name: str, x: str, y: str, w: int) -> pl.LazyFrame:
    """Adds {name}_cov, {name}_var_x, {name}_var_y: population moments over w own rows.

    Null unless both sides are present in all of them. Columns, for Polars computes a window again wherever its
    expression is repeated.
    """
    both = {"_x": _where_both(x, y), "_y": _where_both(y, x)}
    return (
        frame.with_columns(**{name + side: value for side, value in both.items()})
        .with_columns(
            *(mean(name + side, w).alias(f"{name}_mean{side}") for side in both),
            *(own(pl.col(name + side).rolling_var(w, ddof=0)).alias(f"{name}_var{side}") for side in both),
            own((pl.col(f"{name}_x") * pl.col(f"{name}_y")).rolling_mean(w)).alias(f"{name}_product"),
        )
        .with_columns(
            (pl.col(f"{name}_product") - pl.col(f"{name}_mean_x") * pl.col(f"{name}_mean_y")).alias(f"{name}_cov")
        )
    )


def correlation(name: str) -> pl.Expr:
    """Pearson correlation from the columns of `with_moments`; null where either side does not move."""
    var_x, var_y = pl.col(f"{name}_var_x"), pl.col(f"{name}_var_y")
    moves = (var_x > STILL) & (var_y > STILL)
    return pl.when(moves).then(pl.col(f"{name}_cov") / (var_x * var_y).sqrt()).clip(-1, 1)


def beta(name: str) -> pl.Expr:
    """Slope of x on y from the columns of `with_moments`; null where y does not move."""
    return ratio(pl.col(f"{name}_cov"), pl.col(f"{name}_var_y"), STILL)


def _where_both(x: str, y: str) -> pl.Expr:
    return pl.when(pl.col(y).is_not_null()).then(pl.col(x))


def depth(months: int = LOOKBACK_MONTHS) -> pl.Expr:
    """Own rows before this one that it may look back to: those since the first of the month `months` earlier."""
    month = pl.col("date").dt.year() * 12 + pl.col("date").dt.month()
    first = month.search_sorted(month - months, side="left")
    return own(pl.int_range(pl.len(), dtype=pl.Int32) - first.cast(pl.Int32)).alias("depth")


def finish(
    frame: pl.LazyFrame, features: Iterable[Feature], columns: Mapping[str, pl.Expr] | None = None
) -> pl.LazyFrame:
    """Keys and the features as Float32 (flags UInt8); time series are blank where the look-back is not covered.

    Args:
        frame: date, code, depth (see `depth`), and what the features are made of.
        columns: expressions of features that are not yet columns; given here, none is kept in Float64.
    """
    columns = columns or {}
    stored = (_stored(f, columns.get(f.name, pl.col(f.name))).alias(f.name) for f in features)
    return frame.select("date", pl.col("code").cast(pl.String), *stored)


def _stored(feature: Feature, value: pl.Expr) -> pl.Expr:
    if feature.kind == "flag":
        return value.cast(pl.UInt8)
    value = value.cast(pl.Float32)
    if feature.kind == "time_series" and feature.lookback > 0:
        return pl.when(pl.col("depth") >= feature.lookback).then(value)
    return value
