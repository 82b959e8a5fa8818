"""What tables share that speak of a day or of days to come: trading days as numbers, and the newest day that was known.

`events` is for records of names; this is for tables with one row a day, whose day may be that of the evening before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache

import polars as pl

from atft_assets.calendar import DECISION_TIME, FIRST_DAY, trading_days
from atft_assets.features.asof import as_known
from atft_assets.features.feature import Feature
from atft_assets.features.rolling import TINY


@cache
def _sessions() -> pl.Series:
    return pl.Series("day", trading_days(FIRST_DAY, date.max), dtype=pl.Date)


def session_number(days: pl.Series) -> pl.Series:
    """Trading days since the first one that the calendar knows, Int32; of a closed day that of the next trading day."""
    distinct = days.drop_nulls().unique().sort()
    numbers = pl.DataFrame({"day": distinct, "number": _sessions().search_sorted(distinct, side="left").cast(pl.Int32)})
    found = days.to_frame("day").join(numbers, on="day", how="left", maintain_order="left")["number"]
    return found.alias(days.name)


def first_evening(instants: pl.Series) -> pl.Series:
    """`session_number` of the first trading day whose decision could use a record of that instant."""
    local = instants.dt.convert_time_zone("Asia/Tokyo").to_frame("at")
    late = (pl.col("at").dt.time() > DECISION_TIME).cast(pl.Int32)
    days = local.select((pl.col("at").dt.date() + pl.duration(days=late)).alias("day"))["day"]
    return session_number(days).alias(instants.name)


def of_days(records: pl.DataFrame, days: pl.DataFrame, stale: int) -> pl.DataFrame:
    """The newest day of a table of days that each evening knew.

    Args:
        records: date (unique), available_at, and the columns that are wanted.
        days: date for which they are wanted, trading days.
        stale: trading days between the two after which nothing counts as known.

    Returns:
        date, record_date and the columns; `_fresh`, false or null where nothing is known.
    """
    known = as_known(records, days.select("date").unique().sort("date"), by="date")
    age = session_number(known["date"]) - session_number(known["record_date"])
    return known.with_columns((age <= stale).alias("_fresh"))


def stored(frame: pl.DataFrame, features: Sequence[Feature], validity: pl.Expr) -> pl.DataFrame:
    """date and the columns of a table of days as they are stored: null where not fresh or not finite, one flag last.

    Args:
        frame: as of `of_days`.
        features: the columns, the validity flag last.
        validity: whether what the flag says is known.
    """
    fresh = pl.col("_fresh").fill_null(False)

    def value(name: str) -> pl.Expr:
        column = pl.col(name).cast(pl.Float64)
        return pl.when(fresh & column.is_finite()).then(column).cast(pl.Float32).alias(name)

    flag = (fresh & validity).fill_null(False).cast(pl.UInt8).alias(features[-1].name)
    return frame.select("date", *(value(f.name) for f in features[:-1]), flag)


def log_ratio(new: pl.Expr, old: pl.Expr) -> pl.Expr:
    """ln(new/old); null where either is not above zero."""
    return pl.when((new > TINY) & (old > TINY)).then((new / old).log())
