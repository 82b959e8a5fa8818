"""`earnings_date`: announced days of results, with every change of them. Every plan; the free one lags by publication.

A row a publication, name and period. `SchDate` is "" while it is undecided. A date may move, also to an earlier day,
and what was announced last counts: results have come a day before the announced one. `FYE` keeps its zero (`0331`).
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import EARNINGS_DATE
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, day_text, text
from atft_assets.raw.source import Pull, Source

CONTRACT = Contract(
    table="earnings_date",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "SchDate": day_text("Announced day of the results; empty while undecided", undecided=True),
            "FQName": text("Period"),
            "FYE": text("End of the fiscal year, MMDD", pa.Check.str_matches(r"^\d{4}$")),
            "code": code_column(),
            "CoName": text("Name"),
            "CoNameEn": text("Name in English", nullable=True),
            "available_at": available_at_column(),
        },
        unique=EARNINGS_DATE.key_columns,
    ),
    constant_ok=DATED | {"SchDate", "FQName", "FYE"},
    nullable_ok=frozenset({"CoNameEn"}),
    empty_ok=True,
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All publications of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    EARNINGS_DATE,
    CONTRACT,
    fetch,
    module=__name__,
    description="Announced days of results, with every change.",
    empty_ok=True,
)
