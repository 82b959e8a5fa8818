"""Turnover by kind of order (`/markets/breakdown`): which sellers owned the shares, which buyers paid in cash.

Auction trades alone. A name that did not trade has no row, and nobody has one on the day of a system halt.
"""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import F64, I64, wander
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

SALES = ("LongSell", "ShrtNoMrgn", "MrgnSellNew", "MrgnSellClose")
PURCHASES = ("LongBuy", "MrgnBuyNew", "MrgnBuyClose")
ORDERS = (*SALES, *PURCHASES)
FIELDS = ("Date", "Code", *(f"{order}Va" for order in ORDERS), *(f"{order}Vo" for order in ORDERS))
_USUAL = {"LongSell": 0.45, "ShrtNoMrgn": 0.32, "MrgnSellNew": 0.05, "MrgnSellClose": 0.18, "LongBuy": 0.72,
          "MrgnBuyNew": 0.19, "MrgnBuyClose": 0.09}  # fmt: skip


@remembered(16)
def day(market: "Market", row: int) -> pl.DataFrame:
    """All names that traded on a day, by code."""
    columns = market.listed_on(row)
    return breakdown(market, np.full(len(columns), row), columns)


def breakdown(market: "Market", rows: I64, columns: I64) -> pl.DataFrame:
    """Names on days, those that traded, in the fields of the endpoint."""
    halted = np.array([market.days[row] in calendar.SYSTEM_HALTS for row in np.unique(rows)], bool)
    open_ = ~np.isin(rows, np.unique(rows)[halted]) & market.traded[rows, columns]
    rows, columns = rows[open_], columns[open_]
    _, volume, value = market.trade(rows, columns)
    parts = _split(market, SALES, rows, columns, volume) | _split(market, PURCHASES, rows, columns, volume)
    price = value / np.maximum(volume, 1)
    data = {"Date": market.dates(rows), "Code": market.codes(columns)}
    data |= {f"{order}Vo": pl.Series(parts[order], dtype=pl.Float64) for order in ORDERS}
    data |= {f"{order}Va": pl.Series(np.rint(parts[order] * price), dtype=pl.Float64) for order in ORDERS}
    return pl.DataFrame(data).select(FIELDS)


def _split(market: "Market", orders: tuple[str, ...], rows: I64, columns: I64, volume: F64) -> dict[str, F64]:
    """Shares by order, in lots, that add up to the volume; what rounding leaves goes to the first."""
    seed, place = market.config.seed, ordinals.place(market.ordinals[rows])
    weights = np.stack(
        [_USUAL[order] * np.exp(0.4 * wander(seed, order, columns, place, (1, 5, 40))) for order in orders]
    )
    lots = np.floor(weights / weights.sum(axis=0) * volume / 100)
    lots[0] += volume / 100 - lots.sum(axis=0)
    return dict(zip(orders, lots * 100, strict=True))
