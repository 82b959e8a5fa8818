"""Which shares belong to the universe on a day: domestic common shares of the cash market, from the master of
that day.
"""

from __future__ import annotations

import polars as pl

from atft_assets.calendar import DECISION_TIME
from atft_assets.contracts import require_columns

# First and second section, Mothers, JASDAQ Standard and Growth (until 2022-04-01); Prime, Standard, Growth (since
# 2022-04-04).
MARKET_CODES = ("0101", "0102", "0104", "0106", "0107", "0111", "0112", "0113")
DOMESTIC_SHARE = "011"  # ProdCat, served since 2026-05-26; older snapshots may lack it
# The Bank of Japan and the Shinkin Central Bank are served as Standard although they are listed in no segment.
EXCLUDED_CODES = ("83010", "84210")

MASTER_COLUMNS = ("date", "code", "S33", "S17", "Mkt", "ScaleCat", "available_at")


def universe(quotes: pl.DataFrame, listed: pl.DataFrame, partition: str = "-") -> pl.DataFrame:
    """Members of the universe by day.

    The master of day d is the newest snapshot that was available at 18:30 JST of d, never a newer one, so a name
    that was delisted later stays in its past and a sector is that of the day. Days before the first snapshot have
    no rows.

    Args:
        quotes: date, code of daily_quotes; a name without a bar has no row.
        listed: snapshots of listed_info.

    Returns:
        date, code, s33, s17, mkt, scale_cat (strings), sorted by date and code.
    """
    require_columns(quotes, ("date", "code"), table="daily_quotes", partition=partition)
    require_columns(listed, MASTER_COLUMNS, table="listed_info", partition=partition)
    snapshots = (
        listed.group_by(pl.col("date").alias("snapshot"))
        .agg(pl.col("available_at").max())
        .sort("available_at", "snapshot")
    )
    instant = (
        pl.col("date")
        .dt.combine(DECISION_TIME)
        .dt.replace_time_zone("Asia/Tokyo")
        .cast(snapshots.schema["available_at"])
    )
    days = (
        quotes.select(pl.col("date").unique())
        .with_columns(instant.alias("decision"))
        .sort("decision")
        .join_asof(snapshots, left_on="decision", right_on="available_at")
        .select("date", "snapshot")
    )
    members = listed.filter(eligible(listed.columns)).select(
        pl.col("date").alias("snapshot"),
        "code",
        pl.col("S33").alias("s33"),
        pl.col("S17").alias("s17"),
        pl.col("Mkt").alias("mkt"),
        pl.col("ScaleCat").alias("scale_cat"),
    )
    return (
        quotes.select("date", "code")
        .join(days, on="date")
        .join(members, on=["snapshot", "code"])
        .select("date", "code", "s33", "s17", "mkt", "scale_cat")
        .sort("date", "code")
    )


def eligible(columns: list[str]) -> pl.Expr:
    """Rows of the master that are domestic common shares of the cash market.

    The fifth character tells preferred shares and other classes (25935) from common ones (25930).
    """
    kept = pl.col("Mkt").is_in(MARKET_CODES) & pl.col("code").str.ends_with("0") & ~pl.col("code").is_in(EXCLUDED_CODES)
    if "ProdCat" in columns:
        kept &= pl.col("ProdCat").is_null() | pl.col("ProdCat").is_in([DOMESTIC_SHARE, ""])
    return kept
