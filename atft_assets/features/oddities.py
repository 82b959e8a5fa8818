"""What looks odd in a month although it may be stored. Pure functions: frames in, findings out.

The limits lie beyond what nine years of the whole Tokyo market (2013 to 2021, 3,700 names) show now and then; each says
how often the real market passed it.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import SYSTEM_HALTS
from atft_assets.features.universe import eligible, members_of_days

MISSING_SHARE = 0.02  # names of the master without a bar on a day
STALE_ROWS = 10  # the same four prices and volume so many traded days in a row; 18 names in 7 months of 108
RISE, FALL = 1.0, -0.4  # a day's return that no corporate action explains; 12 rows in 10 months of 108
MOVED_SHARE = 0.02  # names that change their sector within a month
UNTRADED_SHARE = 0.25  # names without a trade on a day; two days of 2,200, both holes of the source
UNTRADED_LEAST = 3  # names without a trade that it takes on a short list
MARKET_DAYS = 15  # days that a correlation with the market needs
SHIFT_DAYS = 20  # days over which the index is held against the day before and after: no false finding in 2,200
MARKET_CORRELATION = 0.6  # over two months; the least was 0.63
DRIFT_PSI = 0.5
DRIFT_BINS = 10
DRIFT_DAYS = 20  # the newest, held against the year before them


def missing_names(quotes: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Days on which more than 2 % of the master's names have no row at all.

    Returns:
        date, listed, missing, sample (codes).
    """
    days = quotes.select(pl.col("date").unique())
    eligible_names = listed.filter(eligible(listed.columns)).select("code").unique()
    # every name on every day, as if each had a bar: the universe of the master alone
    grid = days.join(eligible_names, how="cross")
    expected = members_of_days(grid, listed).select("date", "code")
    absent = expected.join(quotes.select("date", "code"), on=["date", "code"], how="anti")
    by_day = absent.group_by("date").agg(
        pl.len().alias("missing"), pl.col("code").sort().head(5).str.join(" ").alias("sample")
    )
    counts = expected.group_by("date").agg(pl.len().alias("listed")).join(by_day, on="date")
    return counts.filter(pl.col("missing") > MISSING_SHARE * pl.col("listed")).sort("date")


def stale_prices(bars: pl.DataFrame) -> pl.DataFrame:
    """Names whose open, high, low, close and volume repeat themselves for ten traded rows.

    Args:
        bars: adjusted bars, sorted by code and date.

    Returns:
        code, date (of the tenth row), close.
    """
    same = pl.all_horizontal(pl.col(x) == pl.col(x).shift(1).over("code") for x in ("o", "h", "l", "c", "v"))
    repeated = same.fill_null(False).cast(pl.Int32).rolling_sum(STALE_ROWS - 1).over("code") == STALE_ROWS - 1
    return (
        bars.filter(repeated)
        .unique("code", keep="first", maintain_order=True)
        .select("code", "date", pl.col("c").alias("close"))
    )


def unexplained_returns(quotes: pl.DataFrame) -> pl.DataFrame:
    """Daily returns beyond +100 % or -40 % that no corporate action explains: a split that AdjFactor does not know, a
    factor without a split, or a wrong price.

    Returns:
        date, code, move, adj_factor.
    """
    # a factor that stands on an untraded day counts as well
    level = pl.col("C") / pl.col("AdjFactor").cum_prod().over("code")
    frame = quotes.sort("code", "date").with_columns(level.alias("_level")).filter(pl.col("C") > 0)
    return (
        frame.with_columns((pl.col("_level") / pl.col("_level").shift(1).over("code") - 1).alias("move"))
        .filter((pl.col("move") > RISE) | (pl.col("move") < FALL))
        .select("date", "code", "move", pl.col("AdjFactor").alias("adj_factor"))
        .sort(pl.col("move").abs(), descending=True)
    )


def untraded_days(quotes: pl.DataFrame) -> pl.DataFrame:
    """Days on which a quarter of the names or more did not trade; known halts of the exchange are left out.

    Returns:
        date, names, untraded.
    """
    days = quotes.group_by("date").agg(pl.len().alias("names"), pl.col("C").is_null().sum().alias("untraded"))
    many = (pl.col("untraded") > UNTRADED_SHARE * pl.col("names")) & (pl.col("untraded") >= UNTRADED_LEAST)
    return days.filter(many & ~pl.col("date").is_in(sorted(SYSTEM_HALTS))).sort("date")


def sector_jumps(members: pl.DataFrame) -> pl.DataFrame:
    """Sector changes of a month, if more than 2 % of the names change: reclassifications come one by one.

    Returns:
        date, code, before, after; empty where the number is ordinary.
    """
    before = pl.col("s33").shift(1).over("code")
    moved = (
        members.sort("code", "date")
        .with_columns(before.alias("before"))
        .filter(pl.col("before") != pl.col("s33"))
        .select("date", "code", "before", pl.col("s33").alias("after"))
    )
    return moved if moved.height > MOVED_SHARE * members["code"].n_unique() else moved.clear()


def market_against_names(stock: pl.DataFrame, market: pl.DataFrame) -> pl.DataFrame:
    """Whether the TOPIX moves with its names: a wrong index, or dates one day off, show here.

    Args:
        stock: date, returns_1d, log_turnover; market: date, mkt_ret_1d.

    Returns:
        finding ("apart", "a day late", "a day early"), days, correlation of the index with the turnover-weighted mean
        of the names; empty where they move together, or where fewer than fifteen days are there.
    """
    weight = pl.col("log_turnover").exp()
    mean = (
        stock.drop_nulls()
        .group_by("date")
        .agg((pl.col("returns_1d") * weight).sum().truediv(weight.sum()).alias("names"))
    )
    both = mean.join(market.select("date", "mkt_ret_1d"), on="date").drop_nulls().sort("date")
    rows = []
    if both.height >= MARKET_DAYS:
        recent = both.tail(SHIFT_DAYS)
        whole, same = _correlation(both), _correlation(recent)
        late, early = _correlation(recent, 1), _correlation(recent, -1)
        if not whole > MARKET_CORRELATION:
            rows.append(("apart", both.height, whole))
        if max(late, early) > same:
            rows.append(("a day late" if late > early else "a day early", recent.height, same))
    schema = {"finding": pl.String, "days": pl.Int64, "correlation": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _correlation(days: pl.DataFrame, lag: int = 0) -> float:
    """Of the index with its names of `lag` days before; NaN where one of them does not move."""
    value = days.select(pl.corr(pl.col("names").shift(lag), "mkt_ret_1d")).item()
    return float("nan") if value is None else float(value)


def drift(newest: pl.DataFrame, year: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """Population stability index of each column's newest days against the trailing year, above 0.5.

    Ten bins at the year's deciles; PSI = sum (p - q) ln(p/q) over the bins.

    Returns:
        column, psi; sorted, the largest first.
    """
    rows = []
    for name in columns:
        # rounded: shares of 20 days lie on the cuts themselves
        now, then = (frame[name].drop_nulls().cast(pl.Float64).round(7).to_numpy() for frame in (newest, year))
        cuts = np.unique(np.quantile(then, np.arange(1, DRIFT_BINS) / DRIFT_BINS)) if len(then) else np.array([])
        if len(cuts) < 2 or not len(now):
            continue
        p, q = _shares(now, cuts), _shares(then, cuts)
        rows.append((name, float(((p - q) * np.log(p / q)).sum())))
    frame = pl.DataFrame(rows, schema={"column": pl.String, "psi": pl.Float64}, orient="row")
    return frame.filter(pl.col("psi") > DRIFT_PSI).sort("psi", descending=True)


def _shares(values: NDArray[np.float64], cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the values in each bin, never below 1 in 10,000."""
    counts = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=len(cuts) + 1)
    return np.maximum(counts / len(values), 1e-4)
