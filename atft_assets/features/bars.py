"""Adjusted bars from raw prices and AdjFactor.

The API's own Adj* columns are rewritten backwards at every split and are never used. The factor here is cumulated
forwards from the first row of the frame, so a row depends on its past alone; the level is arbitrary and every
feature is a ratio.
"""

from __future__ import annotations

import polars as pl

from atft_assets.contracts import ContractViolation, Verdict, failures_frame, require_columns
from atft_assets.features.asof import AVAILABLE_AT, decision
from atft_assets.features.rolling import ENGINE, by_stock, depth, own

RAW_COLUMNS = ("date", "code", "O", "H", "L", "C", "Vo", "Va", "AdjFactor")
CODE_PATTERN = r"^[0-9A-Z]{5}$"


def adjusted_bars(quotes: pl.DataFrame, partition: str = "-", codes: pl.Series | None = None) -> pl.DataFrame:
    """Traded bars on one basis per stock.

    Args:
        quotes: rows of daily_quotes (date, code, O, H, L, C, Vo, Va raw; AdjFactor of the ex-date, applying to
            the days strictly before it; optionally available_at).
        codes: the names wanted; None for all.

    Returns:
        date, code, o, h, l, c (adjusted price), v (adjusted volume), va (yen, never adjusted), float64, and depth (own
        rows before it within the look-back); sorted by code and date, as `rolling.by_stock` does it; rows of untraded
        days are left out, but a factor that stands on one still counts.

    Raises:
        ContractViolation: a column is missing, or a bar came after the decision of its own day.
    """
    require_columns(quotes, RAW_COLUMNS, table="daily_quotes", partition=partition)
    _refuse_late(quotes, partition)
    prices = pl.col("O", "H", "L", "C", "Vo", "Va")
    quotes = quotes.select(*RAW_COLUMNS)
    if codes is not None:
        quotes = quotes.filter(pl.col("code").is_in(codes.implode()))
    return (
        by_stock(quotes)
        .lazy()
        .with_columns(prices.cast(pl.Float64), own(pl.col("AdjFactor").cast(pl.Float64).cum_prod()).alias("_f"))
        .filter(pl.all_horizontal(pl.col("O", "H", "L", "C", "Vo") > 0))
        .select(
            "date",
            "code",
            *(pl.col(name).truediv(pl.col("_f")).alias(name.lower()) for name in ("O", "H", "L", "C")),
            (pl.col("Vo") * pl.col("_f")).alias("v"),
            pl.when(pl.col("Va") > 0).then("Va").alias("va"),
        )
        .with_columns(depth())
        .collect(engine=ENGINE)
    )


def _refuse_late(quotes: pl.DataFrame, partition: str) -> None:
    """A bar that became known after its day's decision must not enter that day's row."""
    if AVAILABLE_AT not in quotes.columns:
        return
    late = quotes.filter(pl.col(AVAILABLE_AT) > decision()).select("date", "code", AVAILABLE_AT)
    if late.height:
        sample = " | ".join(str(row) for row in late.head(5).iter_rows())
        rows = [(AVAILABLE_AT, "not after 18:30 JST of its own date", late.height, sample)]
        raise ContractViolation(Verdict("daily_quotes", partition, failures_frame(rows)))
