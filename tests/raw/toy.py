"""A code location with one endpoint more: all that a new table takes is a module such as this one, and one line.

The endpoint is weekly and late: its records describe a week up to its last trading day and are published on the second
trading day after. It is asked for by publication date, and most days have no records.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.build import build_defs
from atft_assets.contracts import Contract
from atft_assets.jquants.availability import Publication
from atft_assets.jquants.endpoint import Endpoint, fields
from atft_assets.raw import SOURCES
from atft_assets.raw.columns import DATED, amount, available_at_column, code_column, date_column, text
from atft_assets.raw.source import Pull, Source
from atft_assets.settings import Plan

WEEKLY = Endpoint(
    "/toy/weekly", ("published_date",), fields("S Date Code PubDate; N Balance"), Plan.FREE,
    keys=("Date", "Code"), date_field="Date", available=Publication("PubDate", "16:30"),
)  # fmt: skip

CONTRACT = Contract(
    table="toy",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            "PubDate": text("When it was published"),
            "Balance": amount("Shares", nullable=False),
            "available_at": available_at_column(),
        },
        unique=WEEKLY.key_columns,
    ),
    constant_ok=DATED | {"PubDate"},
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """One listing a publication date."""
    yield from pull.by_date(days)


TOY = Source(
    WEEKLY,
    CONTRACT,
    fetch,
    module=__name__,
    description="Weekly balances, known two trading days after the week.",
    query="published_date",
    day_field="PubDate",
    empty_ok=True,
)

defs = build_defs(sources=(*SOURCES, TOY))
