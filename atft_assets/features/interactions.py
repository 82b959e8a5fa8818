"""Interactions: twenty products of a name's own columns with the market's, the sector's, its statements and events.

A product is null where a factor is. One number for all names keeps or turns a column's order within a day, so a product
with one of the market's says something only where that number changes its sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import (
    EARNINGS,
    INTERACTION,
    MARKET,
    SECTOR,
    STATEMENT,
    STOCK,
    STOCK_MARKET,
    UNIVERSE,
    of,
)
from atft_assets.features.rolling import TINY, ratio
from atft_assets.features.table import KEYS, FeatureTable, Reader
from atft_assets.settings import Plan

MOST = 20.0  # quotients are cut there
FORGOTTEN = 5  # trading days after which a surprise weighs a third
_PEAD = (*of(STATEMENT, "stmt_rev_fore_op", "stmt_progress_op", "stmt_days_since"),)
SOURCES = {
    STOCK: ("daily_quotes",),
    MARKET: ("topix",),
    STOCK_MARKET: ("daily_quotes", "topix"),
    SECTOR: ("daily_quotes", "listed_info"),
    STATEMENT: ("fins_summary",),
    EARNINGS: ("earnings_date", "fins_summary"),
}

_row = family("interactions", kind="event", coverage=0.0)


def _feature(name: str, formula: str, lookback: int, *reads: str, **own: Any) -> Feature:
    tables = dict.fromkeys(read.rpartition(".")[0] for read in reads)
    sources = dict.fromkeys(source for table in tables for source in SOURCES[table])
    return _row(name, formula, 1, lookback, reads=reads, source=", ".join(sources), **own)


_CUT = f", cut at {MOST:g}"
_RANGE: dict[str, Any] = {"low": -MOST, "high": MOST}
FEATURES: tuple[Feature, ...] = (
    _feature(
        "x_trend_intensity", "ma_gap_5_20 mkt_gap_5_20", 60, *of(STOCK, "ma_gap_5_20"), *of(MARKET, "mkt_gap_5_20"),
        coverage=0.5,
    ),
    _feature("x_rel_sec_mom", "rel_to_sec_5d sec_mom_20", 21, *of(SECTOR, "rel_to_sec_5d", "sec_mom_20"), coverage=0.5),
    _feature(
        "x_mom_sh_5", "returns_5d/volatility_20d" + _CUT, 20, *of(STOCK, "returns_5d", "volatility_20d"), coverage=0.5,
        **_RANGE,
    ),
    _feature(
        "x_mom_sh_5_mktneu", "alpha_5d/volatility_20d" + _CUT, 60, *of(STOCK_MARKET, "alpha_5d"),
        *of(STOCK, "volatility_20d"), coverage=0.5, **_RANGE,
    ),
    _feature(
        "x_rvol5_dir", "volume_ratio_5 sign(returns_1d)", 5, *of(STOCK, "volume_ratio_5", "returns_1d"), coverage=0.5
    ),
    _feature(
        "x_rvol5_bb", "volume_ratio_5 (bb_pct_b - 1/2)", 20, *of(STOCK, "volume_ratio_5", "bb_pct_b"), coverage=0.5
    ),
    _feature(
        "x_rev_gate", "max(1/2 - bb_pct_b, 0) where mkt_high_vol, else 0", 271, *of(STOCK, "bb_pct_b"),
        *of(MARKET, "mkt_high_vol"), low=0.0, may_be_constant=True,
    ),
    _feature(
        "x_bo_gate", "max(ma_gap_5_20, 0) where not mkt_high_vol, else 0", 271, *of(STOCK, "ma_gap_5_20"),
        *of(MARKET, "mkt_high_vol"), low=0.0, may_be_constant=True,
    ),
    _feature(
        "x_alpha_meanrev_stable", "-alpha_1d beta_stability_60d", 79,
        *of(STOCK_MARKET, "alpha_1d", "beta_stability_60d"), coverage=0.5,
    ),
    _feature(
        "x_tri_align", "ma_gap_5_20 where mkt_gap_5_20 > 0 and sec_mom_20 > 0, else 0", 60, *of(STOCK, "ma_gap_5_20"),
        *of(MARKET, "mkt_gap_5_20"), *of(SECTOR, "sec_mom_20"), may_be_constant=True,
    ),
    _feature(
        "x_bbpos_rvol5", "max(bb_pct_b - 1, 0) volume_ratio_5", 20, *of(STOCK, "volume_ratio_5", "bb_pct_b"), low=0.0,
        may_be_constant=True, coverage=0.5,
    ),
    _feature(
        "x_bbneg_rvol5", "max(-bb_pct_b, 0) volume_ratio_5", 20, *of(STOCK, "volume_ratio_5", "bb_pct_b"), low=0.0,
        may_be_constant=True, coverage=0.5,
    ),
    _feature(
        "x_liquidityshock_mom", "turnover/turnover[-1] - 1, cut at 1/2, x returns_5d", 5,
        *of(STOCK, "log_turnover_change_1d", "returns_5d"), coverage=0.5,
    ),
    _feature(
        "x_pead_effect", f"(stmt_rev_fore_op + stmt_progress_op) exp(-stmt_days_since/{FORGOTTEN})", 130, *_PEAD
    ),
    _feature(
        "x_pead_times_mkt", "x_pead_effect sign(mkt_gap_5_20)", 130, *_PEAD, *of(MARKET, "mkt_gap_5_20"),
    ),
    _feature(
        "x_value_mom", "stmt_earnings_yield mom_240_20", 380, *of(STATEMENT, "stmt_earnings_yield"),
        *of(STOCK, "mom_240_20"),
    ),
    _feature(
        "x_quality_calm", "stmt_roe/volatility_60d" + _CUT, 380, *of(STATEMENT, "stmt_roe"),
        *of(STOCK, "volatility_60d"), **_RANGE,
    ),
    _feature(
        "x_yield_revised", "stmt_fore_earnings_yield stmt_rev_fore_np", 130,
        *of(STATEMENT, "stmt_fore_earnings_yield", "stmt_rev_fore_np"), may_be_constant=True,
    ),
    _feature(
        "x_due_volume", "volume_ratio_5 where results are due within 5 days (e_win_pre5), else 0", 65,
        *of(EARNINGS, "e_win_pre5"), *of(STOCK, "volume_ratio_5"), low=0.0, may_be_constant=True,
    ),
    _feature(
        "x_out_alpha", "alpha_5d where results are out for 1 to 5 days (e_win_post5), else 0", 65,
        *of(EARNINGS, "e_win_post5"), *of(STOCK_MARKET, "alpha_5d"), may_be_constant=True,
    ),
)  # fmt: skip


def interaction_features(rows: pl.DataFrame) -> pl.DataFrame:
    """The products.

    Args:
        rows: date, code and the columns that FEATURES read, side by side.

    Returns:
        date, code and the features, Float32, in the order of the rows.
    """
    c = {name: pl.col(name).cast(pl.Float64) for name in rows.columns if name not in ("date", "code")}
    low_band, high_band = (0 - c["bb_pct_b"]).clip(0), (c["bb_pct_b"] - 1).clip(0)
    shock = (c["log_turnover_change_1d"].clip(-20, 20).exp() - 1).clip(-0.5, 0.5)
    surprise = (c["stmt_rev_fore_op"] + c["stmt_progress_op"]) * (-c["stmt_days_since"] / FORGOTTEN).exp()
    aligned = ((c["mkt_gap_5_20"] > 0) & (c["sec_mom_20"] > 0)).cast(pl.Float64)
    known = c["mkt_gap_5_20"].is_not_null() & c["sec_mom_20"].is_not_null()
    made = {
        "x_trend_intensity": c["ma_gap_5_20"] * c["mkt_gap_5_20"],
        "x_rel_sec_mom": c["rel_to_sec_5d"] * c["sec_mom_20"],
        "x_mom_sh_5": ratio(c["returns_5d"], c["volatility_20d"], TINY).clip(-MOST, MOST),
        "x_mom_sh_5_mktneu": ratio(c["alpha_5d"], c["volatility_20d"], TINY).clip(-MOST, MOST),
        "x_rvol5_dir": c["volume_ratio_5"] * c["returns_1d"].sign(),
        "x_rvol5_bb": c["volume_ratio_5"] * (c["bb_pct_b"] - 0.5),
        "x_rev_gate": c["mkt_high_vol"] * (0.5 - c["bb_pct_b"]).clip(0),
        "x_bo_gate": (1 - c["mkt_high_vol"]) * c["ma_gap_5_20"].clip(0),
        "x_alpha_meanrev_stable": -c["alpha_1d"] * c["beta_stability_60d"],
        "x_tri_align": pl.when(known).then(aligned * c["ma_gap_5_20"]),
        "x_bbpos_rvol5": high_band * c["volume_ratio_5"],
        "x_bbneg_rvol5": low_band * c["volume_ratio_5"],
        "x_liquidityshock_mom": shock * c["returns_5d"],
        "x_pead_effect": surprise,
        "x_pead_times_mkt": surprise * c["mkt_gap_5_20"].sign(),
        "x_value_mom": c["stmt_earnings_yield"] * c["mom_240_20"],
        "x_quality_calm": ratio(c["stmt_roe"], c["volatility_60d"], TINY).clip(-MOST, MOST),
        "x_yield_revised": c["stmt_fore_earnings_yield"] * c["stmt_rev_fore_np"],
        "x_due_volume": c["e_win_pre5"] * c["volume_ratio_5"],
        "x_out_alpha": c["e_win_post5"] * c["alpha_5d"],
    }
    return rows.select("date", "code", *(made[f.name].cast(pl.Float32).alias(f.name) for f in FEATURES))


def build(inputs: Reader) -> pl.DataFrame:
    """The products of a block: the tables have the rows of the universe, that of the market a row a day."""
    rows = declared(inputs, STOCK)
    for name in (STOCK_MARKET, SECTOR, STATEMENT, EARNINGS):
        rows = beside(rows, declared(inputs, name))
    rows = rows.join(declared(inputs, MARKET, ["date"]), on="date", how="left", maintain_order="left")
    return interaction_features(rows)


def declared(inputs: Reader, name: str, keys: Sequence[str] = KEYS) -> pl.DataFrame:
    """What products need of a table of features, and no other column of it: a few of its hundred."""
    return inputs.read(name, (*keys, *sorted(inputs.table.declared[name] - {*KEYS, AVAILABLE_AT})))


def beside(rows: pl.DataFrame, part: pl.DataFrame) -> pl.DataFrame:
    """With the columns of another table: as they are where its rows are the same, else joined."""
    keys = ["date", "code"]
    if part.select(keys).equals(rows.select(keys)):
        return rows.hstack(part.drop(keys))
    return rows.join(part, on=keys, how="left", maintain_order="left")


TABLE = FeatureTable(
    name=INTERACTION,
    description="Products of a name's own columns with the market's, the sector's, its statements and events.",
    build=build,
    features=FEATURES,
    reads={STOCK: 0, MARKET: 0, STOCK_MARKET: 0, SECTOR: 0, STATEMENT: 0, EARNINGS: 0, UNIVERSE: 0},
    plan=Plan.LIGHT,
    needs="the TOPIX",
)
