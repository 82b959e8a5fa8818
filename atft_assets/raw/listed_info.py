"""`listed_info`: the master of listed issues, one snapshot a week and the newest.

Snapshots are those of the first trading day of each ISO week (and of the first day of all, so that every bar has a
snapshot before it), plus the newest trading day's, which goes again when a newer one comes. A snapshot dated t is out
on the trading day before at 17:30, so it is known in the evening before t.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
import pandera.polars as pa
import polars as pl

from atft_assets import calendar
from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import MASTER
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, text
from atft_assets.raw.ingest import Calendar, Pull, Source
from atft_assets.raw.records import Failure

DESCRIPTION = "Listed issues as of the first trading day of each week and of the newest: names, sectors, segment, size."

_CATEGORIES = ("S17", "S17Nm", "S33", "S33Nm", "ScaleCat", "Mkt", "MktNm", "Mrgn", "MrgnNm", "ProdCat")

CONTRACT = Contract(
    table="listed_info",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            "CoName": text("Name"),
            "CoNameEn": text("English name", nullable=True),
            "S17": text("TOPIX-17 sector, 1 … 17, 99", pa.Check.str_matches(r"^\d{1,2}$")),
            "S17Nm": text("Its name"),
            "S33": text("33-sector code, four digits", pa.Check.str_matches(r"^\d{4}$")),
            "S33Nm": text("Its name"),
            "ScaleCat": text("TOPIX size class, - for none"),
            "Mkt": text("Market segment, four digits", pa.Check.str_matches(r"^\d{4}$")),
            "MktNm": text("Its name"),
            "Mrgn": text("1 margin, 2 loan, 3 other"),
            "MrgnNm": text("Its name"),
            "ProdCat": text("Product category: 011 domestic share … (served since 2026-05)", nullable=True),
            "available_at": available_at_column(),
        },
        unique=["date", "code"],
    ),
    constant_ok=DATED | frozenset(_CATEGORIES),
    nullable_ok=frozenset({"CoNameEn"}),
)


def choose(days: Sequence[date], out: Calendar) -> list[date]:
    """First trading days of their ISO week (within the range), and the newest day of all."""
    first, newest = calendar.trading_days(out.start, out.last)[:1], out.newest(1)
    return [d for d in days if opens_week(d) or [d] in (first, newest)]


def opens_week(day: date) -> bool:
    """Whether a trading day is the first of its ISO week."""
    return calendar.previous_trading_day(day).isocalendar()[:2] != day.isocalendar()[:2]


def rules(frame: pl.DataFrame) -> Iterator[Failure]:
    """A snapshot that is far smaller than the others lost pages."""
    sizes = frame.group_by("date").len("names").sort("date")
    usual = float(np.median(sizes["names"]))
    short = sizes.filter(pl.col("names") < 0.5 * usual)
    if short.height:
        text = ", ".join(f"{day}: {names}" for day, names in short.head(5).iter_rows())
        yield "code", f"a snapshot holds at least half of the usual {usual:.0f} names", short.height, text


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """One listing a snapshot."""
    yield from pull.by_date(days)


SOURCE = Source(MASTER, CONTRACT, fetch, choose=choose, rules=rules)
