"""Pressure: eight products of what is held on margin, sold short and bought by whom with a name's own moves.

A product is null where a factor is; of alerts and short positions few names have one. The flow of a week is equal for
all names of a section: it turns the sign of what it multiplies, and so can say whether a reversal is to be expected.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from atft_assets.features.event_feature import event_family
from atft_assets.features.feature import Feature
from atft_assets.features.interactions import beside, declared
from atft_assets.features.names import (
    ALERT,
    FLOW,
    INVESTOR_TYPES,
    MARGIN,
    MARGIN_ALERT,
    MARGIN_INTEREST,
    SECTOR,
    SHORT,
    SHORT_SALE_REPORT,
    STOCK,
    STOCK_MARKET,
    UNIVERSE,
    of,
)
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

PRESSURE = "pressure_features"
RAW = {
    STOCK: ("daily_quotes",),
    STOCK_MARKET: ("daily_quotes", "topix"),
    SECTOR: ("daily_quotes", "listed_info"),
    FLOW: (INVESTOR_TYPES,),
    MARGIN: (MARGIN_INTEREST,),
    ALERT: (MARGIN_ALERT,),
    SHORT: (SHORT_SALE_REPORT,),
}
_row = event_family("pressure", kind="event", coverage=0.0, may_be_constant=True)


def _feature(name: str, formula: str, lookback: int, *reads: str, **own: Any) -> Feature:
    tables = dict.fromkeys(read.rpartition(".")[0] for read in reads)
    sources = dict.fromkeys(source for table in tables for source in RAW[table])
    return _row(name, formula, 1, lookback, reads=reads, source=", ".join(sources), **own)


FEATURES: tuple[Feature, ...] = (
    _feature(
        "x_flow_smart_rel", "flow_smart_idx rel_strength_5d", 275, *of(FLOW, "flow_smart_idx"),
        *of(STOCK_MARKET, "rel_strength_5d"),
    ),
    _feature(
        "x_foreign_relsec", "flow_foreign_net_z rel_to_sec_5d", 275, *of(FLOW, "flow_foreign_net_z"),
        *of(SECTOR, "rel_to_sec_5d"),
    ),
    _feature(
        "x_flow_reversal", "flow_foreign_net_z (1/2 - bb_pct_b)", 275, *of(FLOW, "flow_foreign_net_z"),
        *of(STOCK, "bb_pct_b"),
    ),
    _feature(
        "x_squeeze_pressure", "margin_short_to_adv20 max(returns_5d, 0)", 30, *of(MARGIN, "margin_short_to_adv20"),
        *of(STOCK, "returns_5d"),
    ),
    _feature(
        "x_credit_rev_bias", "max(margin_imbalance, 0) max(1/2 - bb_pct_b, 0)", 30, *of(MARGIN, "margin_imbalance"),
        *of(STOCK, "bb_pct_b"), low=0.0,
    ),
    _feature(
        "x_alert_dir", "returns_1d where dmi_on_list, else 0", 5, *of(ALERT, "dmi_on_list"), *of(STOCK, "returns_1d"),
        may_be_absent=True,
    ),
    _feature(
        "x_alert_squeeze", "dmi_short_to_adv20 max(returns_5d, 0)", 400, *of(ALERT, "dmi_short_to_adv20"),
        *of(STOCK, "returns_5d"), may_be_absent=True,
    ),
    _feature(
        "x_cover_push", "ss_pos_days_to_cover max(returns_5d, 0)", 130, *of(SHORT, "ss_pos_days_to_cover"),
        *of(STOCK, "returns_5d"), may_be_absent=True,
    ),
)  # fmt: skip


def pressure_features(rows: pl.DataFrame) -> pl.DataFrame:
    """The products.

    Args:
        rows: date, code and the columns that FEATURES read, side by side.

    Returns:
        date, code and the features, Float32, in the order of the rows.
    """
    c = {name: pl.col(name).cast(pl.Float64) for name in rows.columns if name not in ("date", "code")}
    below, rise = 0.5 - c["bb_pct_b"], c["returns_5d"].clip(0)
    made = {
        "x_flow_smart_rel": c["flow_smart_idx"] * c["rel_strength_5d"],
        "x_foreign_relsec": c["flow_foreign_net_z"] * c["rel_to_sec_5d"],
        "x_flow_reversal": c["flow_foreign_net_z"] * below,
        "x_squeeze_pressure": c["margin_short_to_adv20"] * rise,
        "x_credit_rev_bias": c["margin_imbalance"].clip(0) * below.clip(0),
        "x_alert_dir": c["dmi_on_list"] * c["returns_1d"],
        "x_alert_squeeze": c["dmi_short_to_adv20"] * rise,
        "x_cover_push": c["ss_pos_days_to_cover"] * rise,
    }
    return rows.select("date", "code", *(made[f.name].cast(pl.Float32).alias(f.name) for f in FEATURES))


def build(inputs: Reader) -> pl.DataFrame:
    """The products of a block."""
    rows = declared(inputs, STOCK)
    for name in (STOCK_MARKET, SECTOR, FLOW, MARGIN, ALERT, SHORT):
        rows = beside(rows, declared(inputs, name))
    return pressure_features(rows)


TABLE = FeatureTable(
    name=PRESSURE,
    description="Products of flow, margin, alerts and short positions with a stock's own moves. Needs Standard.",
    build=build,
    features=FEATURES,
    reads={STOCK: 0, STOCK_MARKET: 0, SECTOR: 0, FLOW: 0, MARGIN: 0, ALERT: 0, SHORT: 0, UNIVERSE: 0},
    plan=Plan.STANDARD,
    needs="margin, short positions and flow",
)
