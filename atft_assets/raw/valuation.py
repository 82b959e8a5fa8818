"""`valuation`: multiples of each name and day as J-Quants computes them. Standard plan.

A disclosure counts from the next business day, whatever its hour. ETFs have rows without a value, REITs a
capitalisation alone; rows before 2011 are mostly empty.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import VALUATION
from atft_assets.raw.columns import DATED, amount, available_at_column, code_column, date_column, number
from atft_assets.raw.source import Pull, Source

FIGURES = {
    "EPS": "Earnings per share of the last four quarters, JPY",
    "FwdEPS": "Earnings per share that the company forecasts for this fiscal year, JPY",
    "BPS": "Book value per share, JPY",
    "ROE": "Return on equity, a fraction",
    "FwdROE": "Return on equity by the forecast, a fraction",
    "PER": "Price to earnings",
    "FwdPER": "Price to forecast earnings",
    "PBR": "Price to book value",
}

CONTRACT = Contract(
    table="valuation",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            **{name: number(what) for name, what in FIGURES.items()},
            "MktCap": amount("Market capitalisation, million JPY"),
            "available_at": available_at_column(),
        },
        unique=VALUATION.key_columns,
    ),
    constant_ok=DATED,
    nullable_ok=frozenset(FIGURES),  # the first years
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All names of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    VALUATION,
    CONTRACT,
    fetch,
    module=__name__,
    description="Earnings, book value, their multiples and market value of each name, as J-Quants computes them.",
    optional=True,
)
