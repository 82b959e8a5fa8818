"""Data quality: what a person should look at before trusting a month. Asset checks that warn, and do not block.

Contracts say what may be stored; these say what looks odd although it may be stored. Each judges the newest
published month, and its text says where to look. The functions are pure: frames in, findings out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets import calendar
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.build import GROUP
from atft_assets.features.catalogue import feature_set
from atft_assets.features.universe import eligible, universe
from atft_assets.store import Store

FINDINGS_SHOWN = 20

MISSING_SHARE = 0.02  # names of the master without a bar on a day
STALE_ROWS = 10  # the same four prices so many traded days in a row
OUTLIER_RETURN = 0.6  # beyond every daily price limit but those of the cheapest shares
MOVED_SHARE = 0.02  # names that change their sector within a month
MARKET_CORRELATION = 0.7
DRIFT_PSI = 0.5
DRIFT_BINS = 10


def missing_names(quotes: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Days on which more than 2 % of the master's names have no row at all.

    Returns:
        date, listed, missing, sample (codes).
    """
    days = quotes.select(pl.col("date").unique())
    eligible_names = listed.filter(eligible(listed.columns)).select("code").unique()
    # every name on every day, as if each had a bar: the universe of the master alone
    grid = days.join(eligible_names, how="cross")
    expected = universe(grid, listed).select("date", "code")
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
    """Daily moves beyond 60 % on days without a corporate action: a split that AdjFactor does not know, or a
    wrong price.

    Returns:
        date, code, move, adj_factor.
    """
    frame = quotes.filter(pl.col("C") > 0).sort("code", "date")
    adjusted = pl.col("C") / (pl.col("C").shift(1) * pl.col("AdjFactor")).over("code") - 1
    return (
        frame.with_columns(adjusted.alias("move"))
        .filter(pl.col("move").abs() > OUTLIER_RETURN)
        .select("date", "code", "move", pl.col("AdjFactor").alias("adj_factor"))
        .sort(pl.col("move").abs(), descending=True)
    )


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


def market_against_names(phase1: pl.DataFrame, market: pl.DataFrame) -> pl.DataFrame:
    """Whether the TOPIX moves with its names: a wrong index, or dates one day off, show here.

    Args:
        phase1: date, returns_1d, log_turnover; market: date, mkt_ret_1d.

    Returns:
        days, correlation of the index with the turnover-weighted mean of the names; empty where it is above 0.7,
        or where fewer than ten days are there.
    """
    weight = pl.col("log_turnover").exp()
    mean = (
        phase1.drop_nulls()
        .group_by("date")
        .agg((pl.col("returns_1d") * weight).sum().truediv(weight.sum()).alias("names"))
    )
    both = mean.join(market.select("date", "mkt_ret_1d"), on="date").drop_nulls()
    found = both.select(pl.len().alias("days"), pl.corr("names", "mkt_ret_1d").alias("correlation"))
    return found.filter((pl.col("days") >= 10) & ~(pl.col("correlation") > MARKET_CORRELATION))


def drift(month: pl.DataFrame, year: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """Population stability index of each column against the trailing year, above 0.5.

    Ten bins at the year's deciles; PSI = sum (p - q) ln(p/q) over the bins.

    Returns:
        column, psi; sorted, the largest first.
    """
    rows = []
    for name in columns:
        # rounded: shares of 20 days lie on the cuts themselves
        now, then = (frame[name].drop_nulls().cast(pl.Float64).round(7).to_numpy() for frame in (month, year))
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


@dataclass(frozen=True)
class Quality:
    """One check: the table it belongs to, what it finds in the newest month, and what to do about it."""

    name: str
    asset: str
    group: str
    find: Callable[[Store, str, list[str]], pl.DataFrame]
    advice: str
    description: str


def _table(
    store: Store, group: str, name: str, keys: list[str], columns: tuple[str, ...] | None = None
) -> pl.DataFrame:
    table = store.table(group, name)
    published = set(table.keys())
    return table.read([k for k in keys if k in published], columns)


def _recent(key: str, keys: list[str], months: int) -> list[str]:
    return [k for k in keys if calendar.shift_month(key, -months) <= k <= key]


def _find_missing(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    quotes = _table(store, "raw", "daily_quotes", [key], ("date", "code"))
    return missing_names(quotes, _table(store, "raw", "listed_info", _recent(key, keys, 1)))


def _find_stale(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    quotes = _table(store, "raw", "daily_quotes", _recent(key, keys, 1), RAW_COLUMNS)
    return stale_prices(adjusted_bars(quotes, key)).filter(pl.col("date") >= calendar.first_of_month(key))


def _find_outliers(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    quotes = _table(store, "raw", "daily_quotes", _recent(key, keys, 1), ("date", "code", "C", "AdjFactor"))
    return unexplained_returns(quotes).filter(pl.col("date") >= calendar.first_of_month(key))


def _find_jumps(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    members = _table(store, GROUP, "universe", _recent(key, keys, 1), ("date", "code", "s33"))
    return sector_jumps(members).filter(pl.col("date") >= calendar.first_of_month(key))


def _find_market(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    columns = ("date", "returns_1d", "log_turnover", "mkt_ret_1d")
    frame = _table(store, GROUP, "phase2_features", _recent(key, keys, 1), columns)
    return market_against_names(frame.select(columns[:3]), frame.select("date", "mkt_ret_1d").unique("date"))


def _find_drift(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    # What all names of a day share moves with the market: the day's median is taken off. Columns with windows of months
    # have few independent values in one, and a leave-one-out mean has one a sector: both are left out.
    slow = 20
    columns = [
        f.name
        for f in feature_set("phase2")
        if f.kind in ("time_series", "cross_section") and f.lookback <= slow and not f.name.endswith("_eq_loo")
    ]
    past = [k for k in _recent(key, keys, 12) if k != key]
    if len(past) < 6:
        return pl.DataFrame(schema={"column": pl.String, "psi": pl.Float64})

    def against_the_day(k: str) -> pl.DataFrame:
        frame = _table(store, GROUP, "phase2_features", [k], ("date", *columns))
        return frame.select(pl.col(c) - pl.col(c).median().over("date") for c in columns)

    year = pl.concat(against_the_day(k).gather_every(10) for k in past)
    return drift(against_the_day(key), year, columns)


CHECKS = (
    Quality(
        "missing_names",
        "universe",
        GROUP,
        _find_missing,
        "fetch these days of daily_quotes again (refetch: true); if the rows stay away, compare listed_info with the "
        "exchange's own list",
        "On every day of the newest month at least 98 % of the master's names have a row.",
    ),
    Quality(
        "stale_prices",
        "daily_quotes",
        "raw",
        _find_stale,
        "look the names up: a suspended name should have null prices, not repeated ones",
        "No name repeats its prices and volume for ten traded days.",
    ),
    Quality(
        "unexplained_returns",
        "daily_quotes",
        "raw",
        _find_outliers,
        "look for a split or consolidation on the date whose AdjFactor is missing, else for a wrong price",
        "No move beyond 60 % without a corporate action.",
    ),
    Quality(
        "sector_jumps",
        "universe",
        GROUP,
        _find_jumps,
        "compare the two snapshots of listed_info around the dates: so many names do not change their sector at once",
        "At most 2 % of the names change their sector within a month.",
    ),
    Quality(
        "market_against_names",
        "phase2_features",
        GROUP,
        _find_market,
        "compare the dates of topix and daily_quotes: an index shifted by a day is the usual cause",
        "The TOPIX moves with the turnover-weighted mean of its names (correlation above 0.7 over two months).",
    ),
    Quality(
        "drift",
        "phase2_features",
        GROUP,
        _find_drift,
        "look at the columns' formulas and their raw inputs of the month; after a market shock this passes by itself",
        "No column's distribution leaves that of the trailing year (population stability index at most 0.5).",
    ),
)


def quality_checks() -> list[dg.AssetChecksDefinition]:
    """The asset checks."""
    return [_asset_check(quality) for quality in CHECKS]


def _asset_check(quality: Quality) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=quality.asset, name=quality.name, blocking=False, description=quality.description)
    def check(store: Store) -> dg.AssetCheckResult:
        keys = store.table(quality.group, quality.asset).keys()
        found = quality.find(store, keys[-1], keys)
        rows = [
            dg.TableRecord({k: str(v) for k, v in r.items()}) for r in found.head(FINDINGS_SHOWN).iter_rows(named=True)
        ]
        return dg.AssetCheckResult(
            passed=found.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            description=(
                f"{keys[-1]}: nothing found"
                if found.is_empty()
                else f"{quality.asset} {keys[-1]}: {found.height} findings, first {found.row(0)}; {quality.advice}"
            ),
            metadata={
                "partition": keys[-1],
                "findings": found.height,
                **({"sample": dg.MetadataValue.table(rows)} if rows else {}),
            },
        )

    return check
