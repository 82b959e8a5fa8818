"""`indices`: daily bars of every index that J-Quants serves. Standard plan; some codes Premium alone.

Index codes are a namespace of their own. They start at different dates (0500 and later ones in 2022); some have a close
alone. On the day of a system halt all stand flat at the close of the day before.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import INDICES
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import (
    DATED,
    INDEX_CODE,
    available_at_column,
    code_column,
    date_column,
    highest,
    lowest,
    price,
)
from atft_assets.raw.index_rules import index_jumps
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import Failure

CONTRACT = Contract(
    table="indices",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(INDEX_CODE, "Index code, four characters"),
            "O": price("Open", nullable=True),
            "H": price("High", highest(), nullable=True),
            "L": price("Low", lowest(), nullable=True),
            "C": price("Close"),
            "available_at": available_at_column(),
        },
        unique=INDICES.key_columns,
    ),
    constant_ok=DATED,
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """No index moves by more than price limits allow any name."""
    yield from index_jumps(frame, beside)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All indices of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    INDICES,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily bars of every index that the plan has.",
    rules=rules,
    optional=True,
)
