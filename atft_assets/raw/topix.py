"""`topix`: the index itself, by range: one request however many months."""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.raw.columns import DATED, available_at_column, date_column, highest, lowest, price
from atft_assets.raw.ingest import Pull, Source

DESCRIPTION = "TOPIX, daily bars; on 2020-10-01, when trading stood still, flat at the close of the day before."
PLAN_NOTE = "market-index features need TOPIX"

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
        unique=["date"],
    ),
    constant_ok=DATED,
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """One range from the first day to the last; the days between come along."""
    records = pull.client.fetch(TOPIX, {"from": min(days), "to": max(days)})
    if records:
        yield pull.frame(records, f"{min(days):%Y-%m}")


SOURCE = Source(TOPIX, CONTRACT, fetch, at_once=True)
