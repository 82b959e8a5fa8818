"""`futures`: every listed future: indices, government bonds, commodities, currencies. Premium plan.

Out at 03:00 of the next day. What is traded on a holiday belongs to the trading day around it.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import FEWEST_ROWS, Contract
from atft_assets.jquants.endpoints import FUTURES
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED
from atft_assets.raw.derivative_rules import (
    LATE,
    contract_columns,
    expired,
    product_columns,
    session,
)
from atft_assets.raw.short_ratio import choose
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import Failure

CONTRACT = Contract(
    table="futures",
    schema=pa.DataFrameSchema(
        {
            **contract_columns(),
            **product_columns(),
            **session("", marked=False),
            **session("M", marked=True),
            **session("E", marked=True),
            **session("A", marked=False),
        },
        unique=FUTURES.key_columns,
    ),
    constant_ok=DATED | {"EmMrgnTrgDiv", "MO", "MH", "ML", "MC"},
    nullable_ok=frozenset({*LATE, "CCMFlag"}),
    fewest=FEWEST_ROWS,  # an excerpt of a day that nobody traded in: all prices are equal
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Contracts that have expired."""
    yield from expired(frame)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All contracts of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    FUTURES,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily bars and settlement of every listed future: indices, government bonds, commodities, currencies.",
    choose=choose,
    rules=rules,
    optional=True,
)
