"""`earnings_calendar`: who announces results on the next business day, as each evening it was served. Every plan.

The older of the two calendars: fiscal years that end in March and September, no history, so what was not asked for on
its evening is lost; `earnings_date` has all of it. Stale rows are served again until something new comes, rows without
a date are left out.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import EARNINGS_CALENDAR
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, text
from atft_assets.raw.source import Pull, Released, Source

CONTRACT = Contract(
    table="earnings_calendar",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            "CoName": text("Name"),
            "FY": text("End of the fiscal year in words (3月31日); may hold a note"),
            "SectorNm": text("Name of the sector"),
            "FQ": text("Period in words, digits of full width"),
            "Section": text("Section of the market"),
            "available_at": available_at_column(),
        },
        unique=EARNINGS_CALENDAR.key_columns,
    ),
    constant_ok=DATED | {"FY", "SectorNm", "FQ", "Section"},
    empty_ok=True,
)


def choose(days: Sequence[date], released: Released) -> list[date]:
    """The newest day alone: no other is served. After 19:00 that is the next trading day."""
    newest = released.newest(1)
    return [day for day in days if [day] == newest]


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """What is served now, of the days that are asked for."""
    wanted = set(map(str, days))
    records = [record for record in pull.client.fetch(EARNINGS_CALENDAR, {}) if record.get("Date") in wanted]
    if records:
        yield pull.frame(records, f"{min(days):%Y-%m}")


SOURCE = Source(
    EARNINGS_CALENDAR,
    CONTRACT,
    fetch,
    module=__name__,
    description="Who announces results on the day, as it was served on the evening before or that day.",
    choose=choose,
    at_once=True,
    latest_only=True,
    empty_ok=True,
)
