"""Which shares belong to the universe on a day: domestic common shares of the cash market, from the master of that day;
and what makes each of them eligible: its age, whether it traded, what it trades a day, its rank by trading value.
"""

from __future__ import annotations

from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.calendar import first_of_month, month_key, shift_month
from atft_assets.contracts import Contract, require_columns
from atft_assets.features.asof import AVAILABLE_AT, as_known
from atft_assets.features.eligibility import RANK_MONTHS, RANK_SCHEMA, aged, ranks_by_year, with_turnover
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.features.names import DAILY_QUOTES, LISTED_INFO, UNIVERSE, of
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.partitions import LOOKBACK_MONTHS

# First and second section, Mothers, JASDAQ Standard and Growth (until 2022-04-01); Prime, Standard, Growth (since
# 2022-04-04).
MARKET_CODES = ("0101", "0102", "0104", "0106", "0107", "0111", "0112", "0113")
DOMESTIC_SHARE = "011"  # ProdCat, served since 2026-05-26; older snapshots may lack it
# The Bank of Japan and the Shinkin Central Bank are served as Standard although they are listed in no segment.
EXCLUDED_CODES = ("83010", "84210")

MASTER_COLUMNS = ("date", "code", "S33", "S17", "Mkt", "ScaleCat", AVAILABLE_AT)
QUOTE_COLUMNS = ("date", "code", "C", "Va")
# ages look back thirteen months, and the snapshot of the first day of those may be of the month before
MASTER_MONTHS = LOOKBACK_MONTHS + 1

SCHEMA: dict[str, type[pl.DataType]] = {
    "date": pl.Date,
    "code": pl.String,
    **dict.fromkeys(("s33", "s17", "mkt", "scale_cat"), pl.String),
    "age": pl.Int32,
    "traded": pl.Boolean,
    "turnover_mean_60": pl.Float64,
    "liquidity_rank": pl.UInt32,
}


def universe(
    quotes: pl.DataFrame,
    listed: pl.DataFrame,
    partition: str = "-",
    *,
    since: date | None = None,
    first: str | None = None,
) -> pl.DataFrame:
    """Members of the universe by day.

    The master of day d is the newest snapshot that was available at 18:30 JST of d, never a newer one, so a name
    that was delisted later stays in its past and a sector is that of the day. Days before the first snapshot have
    no rows.

    Args:
        quotes: date, code, C, Va of daily_quotes, history included; a name without a bar has no row.
        listed: snapshots of listed_info, history included.
        since: first day wanted; default: the first of the quotes.
        first: first month of any data (default: of the quotes); a year that begins before it ranks nobody.

    Returns:
        date, code, s33, s17, mkt, scale_cat (strings), age (Int32), traded (Boolean), turnover_mean_60 (Float64,
        yen, null before the sixtieth row), liquidity_rank (UInt32, null where there is none), sorted by date and code;
        see `eligibility` for the last four.
    """
    require_columns(quotes, QUOTE_COLUMNS, table=DAILY_QUOTES, partition=partition)
    require_columns(listed, MASTER_COLUMNS, table=LISTED_INFO, partition=partition)
    if quotes.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    oldest = quotes["date"].min()
    assert isinstance(oldest, date)
    since = since or oldest
    earliest = first_of_month(shift_month(month_key(since), -LOOKBACK_MONTHS))
    recent = with_turnover(quotes.filter(pl.col("date") >= earliest).select(QUOTE_COLUMNS))
    rows = recent.select("date", "code", pl.col("C").is_not_null().alias("traded"), "turnover_mean_60")
    rows = aged(members_of_days(rows, listed), since)
    years = rows["date"].dt.year().unique().sort().to_list()
    ranks = ranks_by_year(quotes, listed.filter(eligible(listed.columns)), years, first or month_key(oldest))
    parts = [frame.with_columns(pl.lit(year, pl.Int32).alias("_year")) for year, frame in ranks.items()]
    rank = pl.concat([pl.DataFrame(schema={**RANK_SCHEMA, "_year": pl.Int32}), *parts])
    return (
        rows.with_columns(pl.col("date").dt.year().alias("_year"))
        .join(rank, on=["_year", "code"], how="left", maintain_order="left")
        .select(*SCHEMA)
    )


def members_of_days(rows: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """The rows (date, code, …) whose name the master of their day lists as eligible, with s33, s17, mkt, scale_cat."""
    snapshots = listed.group_by("date").agg(pl.col(AVAILABLE_AT).max()).with_columns(pl.col("date").alias("snapshot"))
    days = as_known(snapshots, rows.select(pl.col("date").unique())).select("date", "snapshot")
    members = listed.filter(eligible(listed.columns)).select(
        pl.col("date").alias("snapshot"),
        "code",
        pl.col("S33").alias("s33"),
        pl.col("S17").alias("s17"),
        pl.col("Mkt").alias("mkt"),
        pl.col("ScaleCat").alias("scale_cat"),
    )
    return rows.join(days, on="date").join(members, on=["snapshot", "code"])


def eligible(columns: list[str]) -> pl.Expr:
    """Rows of the master that are domestic common shares of the cash market.

    The fifth character tells preferred shares and other classes (25935) from common ones (25930).
    """
    kept = pl.col("Mkt").is_in(MARKET_CODES) & pl.col("code").str.ends_with("0") & ~pl.col("code").is_in(EXCLUDED_CODES)
    if "ProdCat" in columns:
        kept &= pl.col("ProdCat").is_null() | pl.col("ProdCat").is_in([DOMESTIC_SHARE, ""])
    return kept


CONTRACT = Contract(
    table=UNIVERSE,
    schema=pa.DataFrameSchema(
        {
            "date": DATE,
            "code": CODE,
            "s33": pa.Column(pl.String, nullable=False, description="33-sector code as of the date (S33)"),
            "s17": pa.Column(pl.String, nullable=False, description="17-sector code as of the date (S17)"),
            "mkt": pa.Column(
                pl.String, pa.Check.isin(MARKET_CODES), nullable=False, description="Market code as of the date (Mkt)"
            ),
            "scale_cat": pa.Column(pl.String, nullable=True, description="TOPIX size class as of the date (ScaleCat)"),
            "age": pa.Column(
                pl.Int32,
                pa.Check.ge(1),
                nullable=False,
                description="Rows of the name in the universe within the trailing thirteen months and up to the day",
            ),
            "traded": pa.Column(pl.Boolean, nullable=False, description="Whether the name has a close that day"),
            "turnover_mean_60": pa.Column(
                pl.Float64,
                pa.Check.ge(0),
                nullable=True,
                description="Yen: mean trading value of the name's last 60 rows of daily_quotes, the day's included, a "
                "row without a trade counting 0; null before there are 60",
            ),
            "liquidity_rank": pa.Column(
                pl.UInt32,
                pa.Check.ge(1),
                nullable=True,
                description="Rank by median daily trading value of the calendar year before, 1 the most traded, "
                "among the names eligible on its last evening; null for others, and where that year is not wholly in "
                "the data",
            ),
        },
        strict=True,
        unique=["date", "code"],
        ordered=True,
    ),
    constant_ok=frozenset(SCHEMA),
    nullable_ok=frozenset({"scale_cat", "turnover_mean_60", "liquidity_rank"}),
)


def build(inputs: Reader) -> pl.DataFrame:
    """The members of a block's days."""
    quotes = inputs.read(DAILY_QUOTES, QUOTE_COLUMNS)
    listed = inputs.read(LISTED_INFO)  # an older snapshot may lack the product category
    return universe(quotes, listed, inputs.span, since=inputs.since, first=inputs.first)


_MASTER = of(LISTED_INFO, "code", "Mkt", "ProdCat")

TABLE = FeatureTable(
    name=UNIVERSE,
    description="Which names belong to the universe on each day, with sector, market, age and liquidity of that day.",
    build=build,
    reads={DAILY_QUOTES: RANK_MONTHS, LISTED_INFO: MASTER_MONTHS},
    lineage={
        "date": of(DAILY_QUOTES, "date"),
        "code": (*of(DAILY_QUOTES, "code"), *_MASTER),
        "s33": of(LISTED_INFO, "S33"),
        "s17": of(LISTED_INFO, "S17"),
        "mkt": of(LISTED_INFO, "Mkt"),
        "scale_cat": of(LISTED_INFO, "ScaleCat"),
        "age": (*of(DAILY_QUOTES, "date", "code"), *_MASTER),
        "traded": of(DAILY_QUOTES, "C"),
        "turnover_mean_60": of(DAILY_QUOTES, "Va", "date", "code"),
        "liquidity_rank": (*of(DAILY_QUOTES, "Va", "date"), *_MASTER),
    },
    contract=CONTRACT,
)
