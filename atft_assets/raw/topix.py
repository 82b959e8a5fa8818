"""`topix`: the index itself, by range: one request however many months."""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED, available_at_column, date_column, highest, lowest, price
from atft_assets.raw.index_rules import index_jumps
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import Failure

CONTRACT = Contract(
    table="topix",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "O": price("Open"),
            "H": price("High", highest()),
            "L": price("Low", lowest()),
            "C": price("Close"),
            "available_at": available_at_column(),
        },
        unique=TOPIX.key_columns,
    ),
    constant_ok=DATED,
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """An index that moves by more than price limits allow any name."""
    yield from index_jumps(frame, beside)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """One range from the first day to the last; the days between come along."""
    records = pull.client.fetch(TOPIX, {"from": min(days), "to": max(days)})
    if records:
        yield pull.frame(records, f"{min(days):%Y-%m}")


SOURCE = Source(
    TOPIX,
    CONTRACT,
    fetch,
    module=__name__,
    description="TOPIX, daily bars; on 2020-10-01, when trading stood still, flat at the close of the day before.",
    at_once=True,
    rules=rules,
    needed_for="market-index features need TOPIX",
    without="run without the market-index features (stock_features needs no index)",
)
