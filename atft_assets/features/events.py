"""What tables of events share: the newest record known on an evening, its age, and windows over a name's own records.

A record is something that was published: a weekly balance, a disclosure, a report. Columns are computed on the records
first, each from what was known when it came, and then carried forward to the evenings by `asof.as_known`. So a window of 52
records is 52 weeks, however many days lie between, and nothing is filled before the first record.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT, as_known
from atft_assets.features.rolling import TINY

SINCE = "_since"  # trading days from a record's first evening to the day of the row


def carried(records: pl.DataFrame, rows: pl.DataFrame, *, by: str, keys: Sequence[str] = ("code",)) -> pl.DataFrame:
    """The columns of the newest record that each evening knew, with `_since`, its age.

    Args:
        records: the keys, `by`, `available_at`, and the columns that are wanted.
        rows: date and the keys, one row for each row wanted; every day that counts as one of age is among the dates.
        by: the records' own order (see `as_known`).

    Returns:
        The rows in their order with the columns of the records, and `_since` Int32: 0 on the first evening; null where
        nothing was known.
    """
    days = rows.select(pl.col("date").unique().sort()).with_row_index("_day")
    marked = records.with_columns(pl.col(AVAILABLE_AT).alias("_known_at"))
    found = as_known(marked, rows, by=by, keys=keys)
    first = (
        found.select("_known_at")
        .unique()
        .drop_nulls()
        .sort("_known_at")
        .join_asof(
            _evenings(days), left_on="_known_at", right_on="_evening", strategy="forward", check_sortedness=False
        )
        .rename({"_day": "_first"})
        .select("_known_at", "_first")
    )
    return (
        found.join(days, on="date", how="left", maintain_order="left")
        .join(first, on="_known_at", how="left", maintain_order="left")
        .with_columns((pl.col("_day").cast(pl.Int32) - pl.col("_first").cast(pl.Int32)).alias(SINCE))
        .drop("_day", "_first", "_known_at")
    )


def _evenings(days: pl.DataFrame) -> pl.DataFrame:
    from atft_assets.features.asof import decision

    return days.with_columns(decision().cast(pl.Datetime("us", "Asia/Tokyo")).alias("_evening")).drop("date")


def first_versions(records: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Of several versions of one record the one that came first: what a window of the past may see.

    A later correction is known to the rows after it, as their newest record; in the history of the records before it, it
    would be knowledge of the future.
    """
    return records.sort(AVAILABLE_AT, maintain_order=True).unique(keys, keep="first", maintain_order=True)


def z(column: str, window: int, least: int, by: str | None = "code") -> pl.Expr:
    """(x - mean) / std over the last records, the newest among them; null where there are too few or none moves.

    Args:
        window: records.
        least: records that must be there.
    """
    x = pl.col(column)
    mean, std = x.rolling_mean(window, min_samples=least), x.rolling_std(window, min_samples=least)
    if by is not None:
        mean, std = mean.over(by), std.over(by)
    return pl.when(std > TINY * (1 + mean.abs())).then((x - mean) / std)


def change(column: str, by: str | None = "code") -> pl.Expr:
    """The difference to the record before."""
    x = pl.col(column)
    return x - (x.shift(1) if by is None else x.shift(1).over(by))
