"""Counts of shares of different days on one basis: what a split did between them, undone.

Margin positions and reported short positions come in shares of their day and are never adjusted. A count over the basis
of its day is in shares of the frame's first day; every feature is a ratio of two such counts, so which day that is does
not matter.
"""

from __future__ import annotations

import polars as pl

from atft_assets.contracts import ContractViolation, Verdict, failures_frame, require_columns
from atft_assets.features.asof import AVAILABLE_AT, decision
from atft_assets.features.names import DAILY_QUOTES
from atft_assets.features.rolling import by_stock, depth, mean, own
from atft_assets.partitions import LOOKBACK_MONTHS

QUOTE_COLUMNS = ("date", "code", "Vo", "AdjFactor")
VOLUME_ROWS = 20


def with_basis(quotes: pl.DataFrame, months: int = LOOKBACK_MONTHS, partition: str = "-") -> pl.DataFrame:
    """How many shares of each day one share of the first day has become, and what trades a day.

    Args:
        quotes: QUOTE_COLUMNS of daily_quotes, history included, optionally available_at; `AdjFactor` of an ex-date is
            1/2 for a split of 1 into 2.
        months: how far back a row may look.

    Returns:
        date, code (String), `_basis` (shares of the day for one of the first; 1 on the days before a first split),
        `_adv20` (mean of Vo over the name's last 20 rows, a row without a trade counting 0, on the first day's basis;
        null before there are 20 since the first of the month `months` earlier); sorted by code and date.

    Raises:
        ContractViolation: a column is missing, or a bar came after the decision of its own day.
    """
    require_columns(quotes, QUOTE_COLUMNS, table=DAILY_QUOTES, partition=partition)
    _refuse_late(quotes, partition)
    return (
        by_stock(quotes.select(QUOTE_COLUMNS))
        .with_columns((1 / own(pl.col("AdjFactor").fill_null(1.0).cum_prod())).alias("_basis"))
        .with_columns((pl.col("Vo").fill_null(0.0) / pl.col("_basis")).alias("_v"), depth(months))
        .with_columns(pl.when(pl.col("depth") >= VOLUME_ROWS - 1).then(mean("_v", VOLUME_ROWS)).alias("_adv20"))
        .select("date", pl.col("code").cast(pl.String), "_basis", "_adv20")
    )


def _refuse_late(quotes: pl.DataFrame, partition: str) -> None:
    """As of `bars`: what was known after its day's decision must not enter that day's row."""
    if AVAILABLE_AT not in quotes.columns:
        return
    late = quotes.filter(pl.col(AVAILABLE_AT) > decision()).select("date", "code", AVAILABLE_AT)
    if late.height:
        sample = " | ".join(str(row) for row in late.head(5).iter_rows())
        rows = [(AVAILABLE_AT, "not after 18:30 JST of its own date", late.height, sample)]
        raise ContractViolation(Verdict(DAILY_QUOTES, partition, failures_frame(rows)))


def on_basis(records: pl.DataFrame, traded: pl.DataFrame, day: str = "date") -> pl.DataFrame:
    """The records with `_basis` of their day: that of the name's newest row up to it; 1 before the first.

    Args:
        records: code, `day` (Date, which may be no trading day), … in any order.
        traded: as `with_basis` makes it.

    Returns:
        The records in another order.
    """
    basis = traded.select("code", pl.col("date").alias("_on"), "_basis").sort("_on")
    found = records.sort(day).join_asof(
        basis, left_on=day, right_on="_on", by="code", strategy="backward", check_sortedness=False
    )
    return found.drop("_on", strict=False).with_columns(pl.col("_basis").fill_null(1.0))
