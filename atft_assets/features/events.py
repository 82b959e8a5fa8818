"""What tables of events share: the newest record known on an evening, its age, and windows over a name's own records.

A record is something that was published: a weekly balance, a disclosure, a report. Columns are computed on the records
first, each from what was known when it came, and then carried forward to the evenings by `asof.as_known`. So a window
of 52 records is 52 weeks, however many days lie between, and nothing is filled before the first record.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from atft_assets import calendar
from atft_assets.features.asof import AVAILABLE_AT, as_known, decision
from atft_assets.features.rolling import TINY

SINCE = "_since"  # trading days from a record's first evening to the day of the row
KNOWN_AT = "_known_at"  # when a record was first known, of all its versions


def carried(records: pl.DataFrame, rows: pl.DataFrame, *, by: str, keys: Sequence[str] = ("code",)) -> pl.DataFrame:
    """The columns of the newest record that each evening knew, with `_since`, its age.

    Args:
        records: the keys, `by`, `available_at`, and the columns that are wanted; `_known_at` where a record has several
            versions and its age counts from the first.
        rows: date and the keys, one row for each row wanted.
        by: the records' own order (see `as_known`).

    Returns:
        The rows in their order with the columns of the records, and `_since` Int32: trading days, 0 on the first
        evening; null where nothing was known.
    """
    if KNOWN_AT not in records.columns:
        records = records.with_columns(pl.col(AVAILABLE_AT).alias(KNOWN_AT))
    found = as_known(records, rows, by=by, keys=keys)
    first = first_evenings(found[KNOWN_AT]).select(KNOWN_AT, pl.col("evening").alias("_first"))
    return (
        found.join(numbered(found["date"]).rename({"_day": "_today"}), on="date", how="left", maintain_order="left")
        .join(first, on=KNOWN_AT, how="left", maintain_order="left")
        .with_columns((pl.col("_today") - pl.col("_first")).alias(SINCE))
        .drop("_today", "_first", KNOWN_AT)
    )


def numbered(days: pl.Series) -> pl.DataFrame:
    """The trading days between the first and the last of some dates, with their numbers: date, `_day` Int32.

    A number counts from a fixed day, so that the difference of two is one of trading days whoever counts.
    """
    first, last = days.min(), days.max()
    schema = {"date": pl.Date, "_day": pl.Int32}
    if not isinstance(first, date) or not isinstance(last, date):
        return pl.DataFrame(schema=schema)
    known = calendar.trading_days(calendar.FIRST_DAY, last)
    frame = pl.DataFrame({"date": known, "_day": range(len(known))}, schema=schema)
    return frame.filter(pl.col("date") >= first)


def first_evenings(instants: pl.Series) -> pl.DataFrame:
    """The trading day on whose evening something that came at an instant was first known.

    Args:
        instants: Datetime, of any name.

    Returns:
        A row for each distinct instant that is not null: the instant under its own name; date; `evening`, the day's
        number (see `numbered`).
    """
    name = instants.name
    asked = instants.drop_nulls().unique().sort().to_frame()
    days = asked[name].dt.date()
    evenings = numbered(pl.concat([days, days.dt.offset_by("20d")]))  # no holidays are as long
    return asked.join_asof(
        evenings.select(decision().cast(asked.schema[name]).alias("_at"), "date", pl.col("_day").alias("evening")),
        left_on=name,
        right_on="_at",
        strategy="forward",
    ).drop("_at", strict=False)


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
