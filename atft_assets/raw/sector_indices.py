"""`sector_indices`: the 33 TSE sector indices. Standard plan; below it the asset skips, and nothing depends on it.

Their codes are consecutive hexadecimal numbers 0040 … 0060 in the order of the 33 sectors; index codes are a namespace
of their own (index 0050 is not sector 0050).
"""

from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from atft_assets.jquants.client import Query
from atft_assets.jquants.endpoints import INDICES
from atft_assets.raw.beside import Beside
from atft_assets.raw.index_rules import index_contract, index_jumps
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import Failure

SECTORS = tuple(f"{number:04X}" for number in range(0x40, 0x61))

CONTRACT = index_contract("sector_indices")


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Every day holds all 33 sectors, and none moves by more than price limits allow any name."""
    days = frame.group_by("date").len("sectors").filter(pl.col("sectors") != len(SECTORS)).sort("date")
    if days.height:
        text = ", ".join(f"{day}: {count}" for day, count in days.head(5).iter_rows())
        yield "code", f"all {len(SECTORS)} sectors on every trading day", days.height, text
    yield from index_jumps(frame, beside)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """By date, all indices at once, or by sector over the whole range: whichever takes fewer requests."""
    if len(days) <= len(SECTORS):
        yield from pull.by_date(days)
        return
    queries: list[Query] = [{"code": code, "from": min(days), "to": max(days)} for code in SECTORS]
    partition = f"{min(days):%Y-%m}"
    listings = pull.client.fetch_many(
        INDICES, queries, lambda _, records: pull.frame(records, partition) if records else None
    )
    yield from (frame for frame in listings if frame is not None)


SOURCE = Source(
    INDICES,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily bars of the 33 TSE sector indices.",
    at_once=True,
    only=pl.col("code").is_in(SECTORS),
    rules=rules,
    optional=True,
)
