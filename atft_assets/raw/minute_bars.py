"""`minute_bars`: bars of a minute. An add-on of the Light plan and above, with a rate limit of its own.

A minute without a trade has no row. Unadjusted. The last auction prints at 15:30 (15:00 until 2024-11-01). Millions of
rows a month: nothing of the daily road reads it.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import MINUTE_BARS
from atft_assets.raw.columns import (
    DATED,
    amount,
    available_at_column,
    code_column,
    date_column,
    highest,
    lowest,
    price,
    text,
)
from atft_assets.raw.short_ratio import choose
from atft_assets.raw.source import Pull, Source

CONTRACT = Contract(
    table="minute_bars",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "Time": text("Start of the minute, HH:MM or HH:MM:SS", pa.Check.str_matches(r"^\d{2}:\d{2}(:\d{2})?$")),
            "code": code_column(),
            "O": price("Open, JPY, unadjusted"),
            "H": price("High, JPY, unadjusted", highest()),
            "L": price("Low, JPY, unadjusted", lowest()),
            "C": price("Close, JPY, unadjusted"),
            "Vo": amount("Shares traded, unadjusted", nullable=False),
            "Va": amount("Turnover, JPY", nullable=False),
            "available_at": available_at_column(),
        },
        unique=MINUTE_BARS.key_columns,
    ),
    constant_ok=DATED,
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All names of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    MINUTE_BARS,
    CONTRACT,
    fetch,
    module=__name__,
    description="Bars of a minute of every name (add-on of the subscription).",
    choose=choose,
    optional=True,
)
