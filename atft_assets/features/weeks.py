"""Weeks of the exchange, numbered: what weekly records count by."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from atft_assets import calendar


def trading_weeks(days: pl.Series, least: int = 1) -> pl.DataFrame:
    """The ISO weeks up to the last of some dates that have a number of sessions.

    Args:
        days: dates, up to whose last the weeks are wanted.
        least: sessions of a week that counts.

    Returns:
        monday, `date` (the week's last session), `sessions`, `_week` Int32 (a number that counts such weeks from a
        fixed one on); the week of the last date is whole, for the calendar is known ahead.
    """
    last = days.max()
    schema = {"monday": pl.Date, "date": pl.Date, "sessions": pl.Int32, "_week": pl.Int32}
    if not isinstance(last, date):
        return pl.DataFrame(schema=schema)
    sessions = calendar.trading_days(calendar.FIRST_DAY, last + timedelta(days=7))
    return (
        pl.DataFrame({"date": sessions}, schema={"date": pl.Date})
        .group_by(monday("date"))
        .agg(pl.col("date").max(), pl.len().alias("sessions"))
        .filter((pl.col("sessions") >= least) & (pl.col("monday") <= last))
        .sort("monday")
        .with_row_index("_week")
        .select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    )


def monday(column: str) -> pl.Expr:
    """The Monday of a date's week."""
    day = pl.col(column)
    return (day - pl.duration(days=day.dt.weekday().cast(pl.Int64) - 1)).cast(pl.Date).alias("monday")
