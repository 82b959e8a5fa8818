"""What makes a name eligible on a day, beyond its membership: how long it has been there, whether it trades, how much.

The rules themselves (least age, number of the most traded) belong to whoever selects; here are the facts of each day,
known on its evening.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import polars as pl

from atft_assets.calendar import decision_instant, trading_days
from atft_assets.features.rolling import by_stock, depth, mean
from atft_assets.partitions import LOOKBACK_MONTHS

# January of the year before a December
RANK_MONTHS = 23
TURNOVER_ROWS = 60
RANK_SCHEMA: Mapping[str, type[pl.DataType]] = {"code": pl.String, "liquidity_rank": pl.UInt32}


def aged(members: pl.DataFrame, since: date) -> pl.DataFrame:
    """How long each name has been a member.

    Args:
        members: date, code, … of the universe's rows, thirteen months before `since` included.
        since: first day wanted.

    Returns:
        The rows from `since` on with age: Int32, rows of the name in the universe since the first of the month thirteen
        months before the day's own, the day's included. Sorted by date and code.
    """
    return (
        by_stock(members)
        .with_columns((depth(LOOKBACK_MONTHS) + 1).alias("age"), pl.col("code").cast(pl.String))
        .filter(pl.col("date") >= since)
        .sort("date", "code")
    )


def with_turnover(quotes: pl.DataFrame) -> pl.DataFrame:
    """What each name traded a day, lately.

    Args:
        quotes: date, code, Va (yen, as served: no split changes it), … of daily_quotes, thirteen months before the
            first day wanted included.

    Returns:
        The rows with turnover_mean_60: Float64, yen, the mean of Va over the name's last 60 rows, this one included; a
        row without a trade counts 0; null where there are not 60 since the first of the month thirteen months before
        the day's own. Sorted by date and code.
    """
    value = by_stock(quotes).with_columns(pl.col("Va").fill_null(0.0).alias("_value"))
    known = depth(LOOKBACK_MONTHS) >= TURNOVER_ROWS - 1
    lately = pl.when(known).then(mean("_value", TURNOVER_ROWS)).alias("turnover_mean_60")
    return value.with_columns(lately, pl.col("code").cast(pl.String)).drop("_value").sort("date", "code")


def liquidity_ranks(quotes: pl.DataFrame, listed: pl.DataFrame, year: int) -> pl.DataFrame:
    """Names by how much they traded in the calendar year before, as an index is reconstituted: once a year.

    A name's figure is the median over the year's sessions of its trading value; a session without a trade, or before
    its listing, counts 0, so the median asks for half a year of trading. Of an even number of sessions it is the lower
    of the two in the middle.

    Args:
        quotes: date, code, Va (yen) of daily_quotes, all of the year before `year`.
        listed: code of the names that were eligible on the last evening of that year.

    Returns:
        code; liquidity_rank: UInt32, 1 for the most traded, ties in order of code.
    """
    sessions = sessions_before(year)
    half = len(sessions) // 2
    value = (
        quotes.lazy()
        .filter(pl.col("date").is_between(sessions[0], sessions[-1]) & pl.col("Va").is_not_null())
        .group_by("code")
        # the session in the middle of all, counted from the largest; a name with fewer trades than that has 0 there
        .agg(pl.col("Va").sort(descending=True).get(half, null_on_oob=True).alias("value"))
        .collect()
    )
    return (
        listed.select(pl.col("code").unique())
        .join(value, on="code", how="left")
        .with_columns(pl.col("value").fill_null(0.0))
        .sort("value", "code", descending=[True, False])
        .select("code", pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("liquidity_rank"))
    )


def sessions_before(year: int) -> list[date]:
    """Trading days of the calendar year before."""
    return trading_days(date(year - 1, 1, 1), date(year - 1, 12, 31))


def ranks_by_year(
    quotes: pl.DataFrame, listed: pl.DataFrame, years: Iterable[int], first: str
) -> dict[int, pl.DataFrame]:
    """`liquidity_ranks` of some years; empty where the year before is not wholly within the data.

    Args:
        quotes: date, code, Va.
        listed: date, code, available_at: snapshots of the master, eligible names alone.
        first: first month of any data.
    """
    found = {}
    for year in years:
        if first > f"{year - 1}-01":
            found[year] = pl.DataFrame(schema=RANK_SCHEMA)
            continue
        evening = decision_instant(sessions_before(year)[-1])
        known = listed.filter(pl.col("available_at") <= evening)
        newest = known.filter(pl.col("date") == pl.col("date").max())
        found[year] = liquidity_ranks(quotes, newest, year)
    return found
