"""The target encoding of sectors: the mean of realised five-day labels, outside the stock's own fold.

Labels are realised, and dated, when their last price is known, so that no row averages what its evening did not know;
and a stock's own returns never enter its own encoding.
"""

from __future__ import annotations

import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.features.labels import first_and_last, forward_returns
from atft_assets.features.rolling import ENGINE

UNKNOWN_SECTOR = "9999"
ENCODING_FOLDS = 5
ENCODING_HORIZON = 5
ENCODING_WINDOW = 60
ENCODING_PRIOR = 100.0


def target_encoding(bars: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """date, s33, fold, te33_sec_target_5d: the mean of realised labels of the sector's other folds.

    A label of day u is known at the close of u + 5 trading days and is dated there, so a row of t averages labels
    with u + 5 <= t and nothing newer.
    """
    empty = pl.DataFrame(schema={"date": pl.Date, "s33": pl.String, "fold": pl.Int64, "te33_sec_target_5d": pl.Float64})
    if bars.is_empty():
        return empty
    days = trading_days(*first_and_last(bars))
    realised = pl.DataFrame(
        {"date": days[:-ENCODING_HORIZON], "realised": days[ENCODING_HORIZON:]},
        schema={"date": pl.Date, "realised": pl.Date},
    )
    label = f"y_cc_{ENCODING_HORIZON}d"
    names = pl.Enum(members["code"].unique().sort())
    sectors = members.lazy().filter(pl.col("s33").is_not_null() & (pl.col("s33") != UNKNOWN_SECTOR))
    day = (
        forward_returns(bars, (ENCODING_HORIZON,))
        .lazy()
        .filter(pl.col(label).is_not_null())
        .with_columns(_row(names))
        .join(sectors.select(_row(names), pl.col("s33").cast(pl.Categorical)), on="row")
        .group_by("date", "s33", fold().alias("fold"))
        .agg(pl.col(label).cast(pl.Float64).sum().alias("sum"), pl.len().cast(pl.Float64).alias("n"))
        .join(realised.lazy(), on="date")
        .select(pl.col("realised").alias("date"), pl.col("s33").cast(pl.String), "fold", "sum", "n")
        .collect(engine=ENGINE)
    )
    if day.is_empty():
        return empty
    grid = (
        pl.DataFrame({"date": days})
        .join(day.select("s33").unique(), how="cross")
        .join(pl.DataFrame({"fold": range(ENCODING_FOLDS)}, schema={"fold": pl.Int64}), how="cross")
    )
    rolled = (
        grid.join(day, on=["date", "s33", "fold"], how="left")
        .with_columns(pl.col("sum", "n").fill_null(0.0))
        .sort("s33", "fold", "date")
        .with_columns(
            pl.col("sum", "n").rolling_sum(ENCODING_WINDOW).over("s33", "fold"),
            # the first labels are realised after 5 days; before the window is full of them there is no encoding
            (pl.col("date").cum_count().over("s33", "fold") >= ENCODING_WINDOW + ENCODING_HORIZON).alias("full"),
        )
        .with_columns((pl.col(c).sum().over("date", "s33") - pl.col(c)).alias(f"sector_{c}") for c in ("sum", "n"))
        .with_columns(
            (pl.col(c).sum().over("date") - pl.col(c).sum().over("date", "fold")).alias(f"all_{c}")
            for c in ("sum", "n")
        )
    )
    prior = pl.col("all_sum") / pl.col("all_n")
    encoded = (pl.col("sector_sum") + ENCODING_PRIOR * prior) / (pl.col("sector_n") + ENCODING_PRIOR)
    known = pl.col("full") & (pl.col("all_n") > 0.5)
    return rolled.select("date", "s33", "fold", pl.when(known).then(encoded).alias("te33_sec_target_5d"))


def _row(names: pl.Enum) -> pl.Expr:
    """One number for a name and a day, null for other names: quicker to join by than two columns."""
    code = pl.col("code").cast(names, strict=False).to_physical().cast(pl.Int64)
    return (code * 2**32 + pl.col("date").to_physical()).alias("row")


def fold() -> pl.Expr:
    """Fold of a code, 0 to 4: the four leading characters read in base 36, modulo 5 (letters occur)."""
    return pl.col("code").str.head(4).str.to_integer(base=36, strict=True) % ENCODING_FOLDS
