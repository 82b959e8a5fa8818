"""Indices: fifteen columns of size, style and sector indices, one row a day, known at the close.

What stands beside the TOPIX: whether small names led large ones, cheap ones dear ones, growth the market, real estate
trusts; and how much the 33 sectors move apart. Index codes are a namespace of their own, and indices begin on different
days: a column is null before its index is there. Levels enter as returns.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import of_days, stored
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import TOPIX, of
from atft_assets.features.rolling import ANNUAL, TINY
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

INDICES, INDEX = "indices", "index_features"
LOOKBACK_MONTHS = 6
STALE = 1  # trading days: the day's own indices are out at 16:30; a late day is bridged
LARGE, SMALL, VALUE, GROWTH, YOUNG, TRUSTS = "0028", "002D", "8100", "8200", "0070", "0075"
SECTORS = tuple(f"{number:04X}" for number in range(0x40, 0x61))
LEAST = 20  # sectors
COLUMNS = ("date", "code", "C", AVAILABLE_AT)
HORIZONS = (1, 5, 20)

LEVELS = of(INDICES, "code", "C")
_common: dict[str, Any] = {"kind": "market", "coverage": 0.8}
_feature = family("indices", source=INDICES, reads=LEVELS, **_common)
_against = family("indices", source=f"{INDICES}, {TOPIX}", reads=(*LEVELS, *of(TOPIX, "C")), **_common)

FEATURES: tuple[Feature, ...] = (
    *(
        _feature(f"idx_size_{h}d", f"return of {h} days of TOPIX Small less that of Core30", h, h, low=-1.0)
        for h in HORIZONS
    ),
    *(
        _feature(f"idx_value_{h}d", f"return of {h} days of TOPIX Value less that of Growth", h, h, low=-1.0)
        for h in HORIZONS
    ),
    *(
        _against(f"idx_young_{h}d", f"return of {h} days of Growth Market 250 less that of the TOPIX", h, h, low=-1.0)
        for h in (5, 20)
    ),
    *(_feature(f"idx_trusts_{h}d", f"return of {h} days of the TSE REIT index", h, h, low=-1.0) for h in (5, 20)),
    _feature("idx_size_vol_20", "std(idx_size_1d, 20) sqrt(252)", 20, 21, low=0.0),
    _feature("idx_sector_spread_1d", "std of the sectors' returns of the day", 1, 1, low=0.0),
    _feature("idx_sector_spread_20d", "std of the sectors' returns of 20 days", 20, 20, low=0.0),
    _feature(
        "idx_sector_breadth_20d",
        "share of sectors that rose over 20 days",
        20,
        20,
        low=0.0,
        high=1.0,
        may_be_constant=True,  # 1 in a month of rising prices
    ),
    _feature(
        "idx_sector_together_60",
        "variance of the sectors' mean return over the mean of their variances, 60 days",
        60,
        61,
        low=0.0,
        high=1.0 + 1e-6,
    ),
)
VALIDITY = (
    _feature(
        "is_index_valid",
        "1 where the size and sector indices of the day are known",
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
    ),
)


def index_features(indices: pl.DataFrame, topix: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """The index columns.

    Args:
        indices: COLUMNS of indices, history included.
        topix: date, C, history included.
        days: date for which they are wanted, trading days.

    Returns:
        date and the features, Float32 (flags UInt8), null where no indices of the last STALE trading days are known.
    """
    used = (LARGE, SMALL, VALUE, GROWTH, YOUNG, TRUSTS, *SECTORS)
    rows = indices.select(COLUMNS).filter(pl.col("code").is_in(used) & (pl.col("C") > 0)).sort("date", "code")
    days_of = rows.group_by("date").agg(pl.col(AVAILABLE_AT).max())
    wide = rows.pivot("code", index="date", values="C").sort("date")
    wide = wide.with_columns(pl.lit(None, pl.Float64).alias(code) for code in used if code not in wide.columns)
    wide = wide.join(topix.select("date", pl.col("C").alias("_m")), on="date", how="left", maintain_order="left")
    records = wide.with_columns(
        *((_return(SMALL, h) - _return(LARGE, h)).alias(f"idx_size_{h}d") for h in HORIZONS),
        *((_return(VALUE, h) - _return(GROWTH, h)).alias(f"idx_value_{h}d") for h in HORIZONS),
        *((_return(YOUNG, h) - _return("_m", h)).alias(f"idx_young_{h}d") for h in (5, 20)),
        *(_return(TRUSTS, h).alias(f"idx_trusts_{h}d") for h in (5, 20)),
    ).with_columns((pl.col("idx_size_1d").rolling_std(20) * ANNUAL).alias("idx_size_vol_20"))
    records = records.join(_of_sectors(wide), on="date", how="left", maintain_order="left").join(days_of, on="date")
    known = pl.col("idx_size_1d").is_not_null() & pl.col("idx_sector_spread_1d").is_not_null()
    return stored(of_days(records, days, STALE), TABLE.features, known)


def _return(column: str, h: int) -> pl.Expr:
    return pl.col(column) / pl.col(column).shift(h) - 1


def _of_sectors(wide: pl.DataFrame) -> pl.DataFrame:
    """date and how far the sectors go apart, where there are LEAST of them."""
    day = wide.select("date", *(_return(code, 1).alias(code) for code in SECTORS))
    month = wide.select(_return(code, 20).alias(code) for code in SECTORS)
    own = day.select(pl.col(code).rolling_var(60) for code in SECTORS)
    parts = (
        day.select("date", _present().list.std().alias("idx_sector_spread_1d"), _present().list.mean().alias("_mean")),
        month.select(
            _present().list.std().alias("idx_sector_spread_20d"),
            _present().list.eval((pl.element() > 0).cast(pl.Float64)).list.mean().alias("idx_sector_breadth_20d"),
        ),
        own.select(_present().list.mean().alias("_own")),
    )
    found = pl.concat(parts, how="horizontal")
    common = pl.col("_mean").rolling_var(60)
    together = pl.when(pl.col("_own") > TINY**2).then(common / pl.col("_own")).clip(0, 1)
    return found.select("date", pl.col("^idx_sector_.*$"), together.alias("idx_sector_together_60"))


def _present() -> pl.Expr:
    """The values of the sectors that have one; null where they are few."""
    held = pl.concat_list(SECTORS).list.drop_nulls()
    return pl.when(held.list.len() >= LEAST).then(held)


def build(inputs: Reader) -> pl.DataFrame:
    """The index columns of a block; the days are those of the TOPIX."""
    topix = inputs.read(TOPIX, ("date", "C"))
    return index_features(inputs.read(INDICES, COLUMNS), topix, topix.select("date"))


TABLE = FeatureTable(
    name=INDEX,
    description="Fifteen columns of size, style and sector indices, one row a day. Needs the plan Standard.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={INDICES: LOOKBACK_MONTHS, TOPIX: LOOKBACK_MONTHS},
    lineage={"date": of(TOPIX, "date")},
    per="day",
    plan=Plan.STANDARD,
    needs="the size, style and sector indices",
)
