"""`indices`: daily bars of every index that J-Quants serves. Standard plan; some codes Premium alone.

Index codes are a namespace of their own. They start at different dates (0500 and later ones in 2022); some have a close
alone. On the day of a system halt all stand flat at the close of the day before.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from atft_assets.jquants.endpoints import INDICES
from atft_assets.raw.index_rules import index_contract, index_jumps
from atft_assets.raw.source import Pull, Source

CONTRACT = index_contract("indices")


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All indices of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    INDICES,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily bars of every index that the plan has.",
    rules=index_jumps,
    optional=True,
)
