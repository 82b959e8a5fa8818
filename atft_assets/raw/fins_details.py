"""`fins_details`: the statements behind each disclosure, a row a document. Premium plan.

`FS` is a JSON object of XBRL labels and values as text; labels differ between standards, and an item that a company
has not is no key. In bulk files the cell is a dict in single quotes; it is stored as JSON all the same.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import FINS_DETAILS
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, text
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import SAMPLES, Failure

CONTRACT = Contract(
    table="fins_details",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "DiscTime": text("Time of the disclosure, HH:MM:SS"),
            "code": code_column(),
            "DiscNo": text("Number of the document", pa.Check.str_matches(r"^\S+$")),
            "DocType": text("Type of the document"),
            "FS": text("Statement: a JSON object of labels and values"),
            "available_at": available_at_column(),
        },
        unique=FINS_DETAILS.key_columns,
    ),
    constant_ok=DATED | {"DiscTime", "DocType"},
    empty_ok=True,
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Statements that are no JSON objects."""
    bad = [number for number, cell in frame.select("DiscNo", "FS").iter_rows() if not _is_object(cell)]
    if bad:
        yield "FS", "a JSON object", len(bad), ", ".join(bad[:SAMPLES])


def _is_object(cell: str | None) -> bool:
    try:
        return isinstance(json.loads(cell or ""), dict)
    except ValueError:
        return False


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All documents of each day; there are some on Saturdays."""
    yield from pull.by_date(days)


SOURCE = Source(
    FINS_DETAILS,
    CONTRACT,
    fetch,
    module=__name__,
    description="Balance sheet, income and cash flow statements of each disclosed document, as JSON.",
    empty_ok=True,
    closed_days=True,
    rules=rules,
    optional=True,
)
