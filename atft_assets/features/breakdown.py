"""Breakdown: what kinds of orders a name's turnover of the day was made of, and lately.

Cash and margin, opening and closing, short: auction trades alone, out at 18:00 of the day. A name that did not trade
has no row; codes that are no names (20000, 30000, 50000 have been seen) are in no universe. Amounts of one day are
held against each other, so that no split matters; windows count trading days.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.event_feature import event_family
from atft_assets.features.events import KNOWN_AT, SINCE, carried, numbered
from atft_assets.features.feature import Feature
from atft_assets.features.histories import histories, mean_of, placed, states, z_of
from atft_assets.features.names import BREAKDOWN, BREAKDOWN_FEATURES, UNIVERSE, of
from atft_assets.features.rolling import ratio
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 4  # sixty trading days
REACH = timedelta(days=110)
SALES = ("LongSellVa", "ShrtNoMrgnVa", "MrgnSellNewVa", "MrgnSellCloseVa")
PURCHASES = ("LongBuyVa", "MrgnBuyNewVa", "MrgnBuyCloseVa")
VOLUMES = ("LongSellVo", "ShrtNoMrgnVo", "MrgnSellNewVo")
COLUMNS = ("date", "code", *SALES, *PURCHASES, *VOLUMES, AVAILABLE_AT)

FLAG = "is_bd_valid"
KNOWN = "evening of t (out at 18:00)"
_feature = event_family(
    "breakdown",
    kind="event",
    source="breakdown",
    reads=of(BREAKDOWN, *SALES),
    availability=KNOWN,
    valid_from=date(2015, 4, 1),
    coverage=0.9,
    among=FLAG,
)
_BOUGHT = of(BREAKDOWN, *PURCHASES)

FEATURES: tuple[Feature, ...] = (
    _feature("bd_short_share", "short sales, on margin or not, over all sales of the day", low=0.0, high=1.0),
    _feature(
        "bd_short_no_margin_share",
        "short sales without margin, those of institutions, over all sales",
        low=0.0,
        high=1.0,
    ),
    _feature("bd_margin_sell_share", "short sales that open a margin position over all sales", low=0.0, high=1.0),
    _feature(
        "bd_margin_buy_share",
        "purchases that open a margin position over all purchases",
        low=0.0,
        high=1.0,
        reads=_BOUGHT,
    ),
    _feature(
        "bd_close_share",
        "sales and purchases that close a margin position over both",
        low=0.0,
        high=1.0,
        reads=of(BREAKDOWN, *SALES, *PURCHASES),
    ),
    _feature(
        "bd_net_margin_long",
        "(purchases that open a margin position - sales that close one)/purchases",
        reads=(*_BOUGHT, *of(BREAKDOWN, "MrgnSellCloseVa")),
    ),
    _feature(
        "bd_net_margin_short",
        "(short sales that open a margin position - purchases that close one)/sales",
        reads=of(BREAKDOWN, *SALES, "MrgnBuyCloseVa"),
    ),
    _feature(
        "bd_net_margin_long_5",
        "mean(bd_net_margin_long, 5), 3 at least",
        5,
        5,
        reads=(*_BOUGHT, *of(BREAKDOWN, "MrgnSellCloseVa")),
    ),
    _feature("bd_short_mom5", "bd_short_share - mean(bd_short_share, 5), 3 at least", 5, 5, low=-1.0, high=1.0),
    _feature(
        "bd_short_share_z60", "(bd_short_share - mean)/std over 60 trading days, 40 at least", 60, 65, coverage=0.7
    ),
    _feature(
        "bd_short_price_gap",
        "ln of the mean price of short sales over that of sales of owned shares",
        coverage=0.6,
        reads=of(BREAKDOWN, "LongSellVa", "ShrtNoMrgnVa", "MrgnSellNewVa", *VOLUMES),
    ),
)
VALIDITY = (
    _feature(
        FLAG,
        "1 where the turnover of the name's day is known that evening",
        1,
        1,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
        among="",
        coverage=0.7,
        reads=of(BREAKDOWN, "date", AVAILABLE_AT),
    ),
)


def breakdown_features(turnover: pl.DataFrame, rows: pl.DataFrame, partition: str = "-") -> pl.DataFrame:
    """The breakdown columns.

    Args:
        turnover: COLUMNS of breakdown, history included; JPY and shares.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; null on the days on which nothing of the name came out.

    Raises:
        ContractViolation: an input lacks a column.
    """
    require_columns(turnover, COLUMNS, table=BREAKDOWN, partition=partition)
    known = turnover.select(COLUMNS).with_columns(_of_a_day()).drop(*SALES, *PURCHASES, *VOLUMES)
    chains = placed(
        histories(known, by="date", keys=["code"], reach=REACH).join(numbered(known["date"]), on="date"), "_day"
    )
    records = states(
        chains.with_columns(
            mean_of("bd_net_margin_long", 5, 3).alias("bd_net_margin_long_5"),
            (pl.col("bd_short_share") - mean_of("bd_short_share", 5, 3)).alias("bd_short_mom5"),
            z_of("bd_short_share", 60, 40).alias("bd_short_share_z60"),
        )
    ).select("date", "code", AVAILABLE_AT, KNOWN_AT, *(pl.col(f.name).cast(pl.Float32) for f in FEATURES))
    fresh = (pl.col(SINCE) == 0).fill_null(False)
    stored = (pl.when(fresh).then(pl.col(f.name)).alias(f.name) for f in FEATURES)
    frame = carried(records, rows.select("date", "code"), by="date")
    return frame.select("date", "code", *stored, fresh.cast(pl.UInt8).alias(FLAG))


def _of_a_day() -> list[pl.Expr]:
    """The columns that one day's amounts make."""
    sold, bought = pl.sum_horizontal(SALES), pl.sum_horizontal(PURCHASES)
    no_margin, opened, closed = (pl.col(f"{name}Va") for name in ("ShrtNoMrgn", "MrgnSellNew", "MrgnSellClose"))
    buy_opened, buy_closed = pl.col("MrgnBuyNewVa"), pl.col("MrgnBuyCloseVa")
    short_price = ratio(no_margin + opened, pl.col("ShrtNoMrgnVo") + pl.col("MrgnSellNewVo"))
    own_price = ratio(pl.col("LongSellVa"), pl.col("LongSellVo"))
    gap = ratio(short_price, own_price)
    return [
        ratio(no_margin + opened, sold).alias("bd_short_share"),
        ratio(no_margin, sold).alias("bd_short_no_margin_share"),
        ratio(opened, sold).alias("bd_margin_sell_share"),
        ratio(buy_opened, bought).alias("bd_margin_buy_share"),
        ratio(closed + buy_closed, sold + bought).alias("bd_close_share"),
        ratio(buy_opened - closed, bought).alias("bd_net_margin_long"),
        ratio(opened - buy_closed, sold).alias("bd_net_margin_short"),
        pl.when(gap > 0).then(gap.log()).alias("bd_short_price_gap"),
    ]


def build(inputs: Reader) -> pl.DataFrame:
    """The breakdown columns of a block."""
    return breakdown_features(inputs.read(BREAKDOWN, COLUMNS), inputs.rows(), inputs.span)


TABLE = FeatureTable(
    name=BREAKDOWN_FEATURES,
    description="What kinds of orders a name's turnover was made of: cash, margin, short. Needs the plan Premium.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={BREAKDOWN: LOOKBACK_MONTHS, UNIVERSE: 0},
    plan=Plan.PREMIUM,
    needs="the turnover by kind of order",
)
