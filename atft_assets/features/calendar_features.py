"""Calendar features: the exchange's calendar is known in advance, so they may speak of days to come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.features.feature import KNOWN_AHEAD, Feature, family
from atft_assets.features.names import UNIVERSE, of

_feature = family(
    "calendar",
    kind="market",
    source="trading_calendar",
    reads=of(UNIVERSE, "date"),  # the exchange's calendar is no table: the day says it all
    availability=KNOWN_AHEAD,
    low=-1.001,
    high=1.001,
    coverage=1.0,
)

FEATURES = (
    _feature("cal_weekday_sin", "sin(2 pi weekday/5), Monday = 0"),
    _feature("cal_weekday_cos", "cos(2 pi weekday/5)"),
    _feature("cal_year_sin", "sin(2 pi day of year/365.25)"),
    _feature("cal_year_cos", "cos(2 pi day of year/365.25)"),
    _feature("cal_month_end", "1 on the last three trading days of a month", kind="flag"),
    _feature("cal_month_start", "1 on the first three trading days of a month", kind="flag"),
    _feature("cal_before_holiday", "1 where the next trading day is more than three days away", kind="flag"),
    _feature("cal_after_holiday", "1 where the previous trading day is more than three days back", kind="flag"),
    _feature("cal_sq_week", "1 in the week of the second Friday (settlement of options and futures)", kind="flag"),
)


def calendar_features(days: Sequence[date]) -> pl.DataFrame:
    """One row a trading day.

    Args:
        days: trading days to describe; the days around them are taken from the exchange calendar.

    Returns:
        date and the features, Float32 (flags UInt8).
    """
    if not days:
        return pl.DataFrame(schema={"date": pl.Date, **{f.name: _dtype(f) for f in FEATURES}})
    known = trading_days(min(days).replace(day=1) - timedelta(days=40), max(days) + timedelta(days=70))
    day, month = pl.col("date"), pl.col("date").dt.strftime("%Y-%m")
    turn = 2 * np.pi * (day.dt.weekday() - 1) / 5  # Polars counts from Monday = 1
    year = 2 * np.pi * day.dt.ordinal_day() / 365.25
    second_friday = day.dt.month_start().dt.offset_by("7d")
    second_friday = second_friday + pl.duration(days=(5 - second_friday.dt.weekday()) % 7)
    frame = pl.DataFrame({"date": known}).with_columns(
        turn.sin().alias("cal_weekday_sin"),
        turn.cos().alias("cal_weekday_cos"),
        year.sin().alias("cal_year_sin"),
        year.cos().alias("cal_year_cos"),
        (day.rank("ordinal", descending=True).over(month) <= 3).alias("cal_month_end"),
        (day.rank("ordinal").over(month) <= 3).alias("cal_month_start"),
        ((day.shift(-1) - day).dt.total_days() > 3).alias("cal_before_holiday"),
        ((day - day.shift(1)).dt.total_days() > 3).alias("cal_after_holiday"),
        (day.dt.truncate("1w") == second_friday.dt.truncate("1w")).alias("cal_sq_week"),
    )
    frame = frame.select("date", *(pl.col(f.name).cast(_dtype(f)) for f in FEATURES))
    return frame.filter(day.is_in(list(days)))


def _dtype(feature: Feature) -> type[pl.DataType]:
    return pl.UInt8 if feature.kind == "flag" else pl.Float32
