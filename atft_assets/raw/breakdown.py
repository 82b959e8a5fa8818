"""`breakdown`: turnover of each name by kind of order, a row a name and day. Premium plan.

Auction trades alone, unadjusted. A name that did not trade has no row; on the day of a system halt there are none.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import BREAKDOWN
from atft_assets.raw.columns import DATED, amount, available_at_column, code_column, date_column
from atft_assets.raw.short_ratio import choose
from atft_assets.raw.source import Pull, Source

ORDERS = {
    "LongSell": "sales of shares that are owned",
    "ShrtNoMrgn": "short sales without margin",
    "MrgnSellNew": "short sales that open a margin position",
    "MrgnSellClose": "sales that close a margin position",
    "LongBuy": "purchases in cash",
    "MrgnBuyNew": "purchases that open a margin position",
    "MrgnBuyClose": "purchases that close a margin position",
}
UNITS = {"Va": "JPY", "Vo": "shares"}

CONTRACT = Contract(
    table="breakdown",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            **{
                order + suffix: amount(f"{what[0].upper()}{what[1:]}, {unit}", nullable=False)
                for suffix, unit in UNITS.items()
                for order, what in ORDERS.items()
            },
            "available_at": available_at_column(),
        },
        unique=BREAKDOWN.key_columns,
    ),
    constant_ok=DATED,
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All names of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    BREAKDOWN,
    CONTRACT,
    fetch,
    module=__name__,
    description="Turnover and volume of each name by kind of order: cash and margin, opening and closing, short.",
    choose=choose,
    optional=True,
)
