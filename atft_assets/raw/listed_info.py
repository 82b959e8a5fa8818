"""`listed_info`: the master of listed issues, one snapshot a week and the newest.

Snapshots are those of the first trading day of each ISO week (and of the first day of all, so that every bar has a
snapshot before it), plus the newest trading day's, which goes again when a newer one comes. The half days of 2008 and
2009 have none. A snapshot dated t is out on the trading day before at 17:30, so it is known in the evening before t.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets import calendar
from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import MASTER
from atft_assets.raw.beside import Beside, on_the_next_day, with_before
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, text
from atft_assets.raw.source import Pull, Released, Source
from atft_assets.raw.stamps import SAMPLES, Failure

# the 33 sectors of the Tokyo Stock Exchange; whatever has none (funds, trusts, foreign issues) is "other"
SECTORS33 = (
    "0050", "1050", "2050", "3050", "3100", "3150", "3200", "3250", "3300", "3350", "3400", "3450", "3500", "3550",
    "3600", "3650", "3700", "3750", "3800", "4050", "5050", "5100", "5150", "5200", "5250", "6050", "6100", "7050",
    "7100", "7150", "7200", "8050", "9050",
)  # fmt: skip
OTHER = "9999"

FEWEST = 10  # names that a share needs; below, nothing is said
LOST_SHARE = 0.1  # names of a snapshot that the next may lack; about 0.1 % leave in a week
FEW_LOST = 2  # names that may be gone from a list however short
OTHER_SHARE = 0.5  # names without a sector; about an eighth of the real list
MOVED_SHARE = 0.2  # names whose sector differs from the snapshot before; changes come one by one

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
            "S33": text("33-sector code, four digits", pa.Check.isin([*SECTORS33, OTHER])),
            "S33Nm": text("Its name"),
            "ScaleCat": text("TOPIX size class, - for none"),
            "Mkt": text("Market segment, four digits", pa.Check.str_matches(r"^\d{4}$")),
            "MktNm": text("Its name"),
            "Mrgn": text("1 margin, 2 loan, 3 other"),
            "MrgnNm": text("Its name"),
            "ProdCat": text("Product category: 011 domestic share … (served since 2026-05)", nullable=True),
            "available_at": available_at_column(),
        },
        unique=MASTER.key_columns,
    ),
    constant_ok=DATED | frozenset(_CATEGORIES),
    nullable_ok=frozenset({"CoNameEn", "ProdCat"}),  # lists of before 2026-05 may lack the category
)


def choose(days: Sequence[date], released: Released) -> list[date]:
    """First listed days of their ISO week (within the range), and the newest day of all."""
    first = [d for d in calendar.trading_days(released.start, released.last)[:2] if d not in calendar.HALF_DAYS][:1]
    newest = released.newest(1)
    return [d for d in days if d not in calendar.HALF_DAYS and (opens_week(d) or [d] in (first, newest))]


def opens_week(day: date) -> bool:
    """Whether a trading day is the first of its ISO week that has a list: half days have none."""
    before = calendar.previous_trading_day(day)
    if before in calendar.HALF_DAYS:
        before = calendar.previous_trading_day(before)
    return before.isocalendar()[:2] != day.isocalendar()[:2]


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Snapshots that lack names of the one before (lost pages), or whose sectors cannot be."""
    known = frame.select("date", "code", "S33")
    both = (
        on_the_next_day(with_before(known, beside.before))
        .rename({"S33": "was"})
        .join(known, on=["date", "code"], how="left")
        .group_by("date")
        .agg(
            pl.len().alias("names"),
            pl.col("S33").is_null().sum().alias("gone"),
            (pl.col("S33") != pl.col("was")).sum().alias("moved"),
        )
        .sort("date")
    )
    short = both.filter((pl.col("gone") > LOST_SHARE * pl.col("names")) & (pl.col("gone") > FEW_LOST))
    yield from _failure(
        "code", f"a snapshot holds the names of the one before, all but {LOST_SHARE:.0%}", short, "gone"
    )
    moved = both.filter((pl.col("names") >= FEWEST) & (pl.col("moved") > MOVED_SHARE * pl.col("names")))
    yield from _failure("S33", f"at most {MOVED_SHARE:.0%} of the names change their sector at once", moved, "moved")
    sectors = known.group_by("date").agg(pl.len().alias("names"), (pl.col("S33") == OTHER).sum().alias("other"))
    empty = sectors.filter((pl.col("names") >= FEWEST) & (pl.col("other") > OTHER_SHARE * pl.col("names")))
    yield from _failure(
        "S33", f"at most {OTHER_SHARE:.0%} of the names have no sector ({OTHER})", empty.sort("date"), "other"
    )


def _failure(column: str, rule: str, days: pl.DataFrame, count: str) -> Iterator[Failure]:
    if days.height:
        rows = days.select("date", count, "names").head(SAMPLES).iter_rows()
        yield column, rule, int(days[count].sum()), ", ".join(f"{day}: {n} of {names}" for day, n, names in rows)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """One listing a snapshot."""
    yield from pull.by_date(days)


SOURCE = Source(
    MASTER,
    CONTRACT,
    fetch,
    module=__name__,
    description="Listed issues as of the first trading day of each week and of the newest: names, sectors, segment, "
    "size.",
    choose=choose,
    rules=rules,
)
