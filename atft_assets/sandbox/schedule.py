"""When results are announced: every change of the announced days (`/fins/earnings-date`), and who announces next
(`/equities/earnings-calendar`).

A day is published two to nine weeks ahead, now and then as undecided or as another than it becomes; a change follows
in the last two weeks. A few come a day early all the same. The older calendar knows the next business day and fiscal
years that end in March and September alone, and says the last it knew until something new comes.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import codes as tables
from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import I64, uniform, whole
from atft_assets.sandbox.figures import fiscal
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

FIELDS = ("PubDate", "SchDate", "FQName", "FYE", "Code", "CoName", "CoNameEn")
CALENDAR_FIELDS = ("Date", "Code", "CoName", "FY", "SectorNm", "FQ", "Section")
QUARTERS = np.array(["第１四半期", "第２四半期", "第３四半期", "本決算"], dtype=object)
STALE_DAYS = 120  # how far back the last day with announcements is looked for


@dataclass(frozen=True)
class Announcements:
    """One entry a publication, name and period, by (published, name).

    Attributes:
        published: an ordinal; planned: the announced day, 0 while undecided.
        column: name; year: place in the fiscal years; quarter: 0 to 3.
        last: whether nothing newer will be published of the period.
    """

    published: I64
    planned: I64
    column: I64
    year: I64
    quarter: I64
    last: np.ndarray


@remembered(1)
def announcements(market: "Market") -> Announcements:
    """All of a market, of names while they are listed."""
    known, seed = fiscal(market), market.config.seed
    col, year, quarter = (index.ravel() for index in np.indices(known.day.shape))
    actual = known.day[col, year, quarter]
    keys = (col, known.years[year], quarter)
    kind = uniform(seed, "announced", *keys)
    changed = kind < 0.05
    undecided = kind < 0.025
    early = ~changed & (kind > 0.998)  # the results come a day before the announced one
    first = ordinals.on_or_before(actual - whole(seed, "announced ahead", 14, 64, *keys))
    moved = ordinals.on_or_after(actual + np.where(kind < 0.035, 5, -2))
    planned = np.where(undecided, 0, np.where(changed, moved, np.where(early, ordinals.shift(actual, 1), actual)))
    second = ordinals.on_or_before(actual - whole(seed, "changed ahead", 3, 11, *keys))
    parts = [
        (first, planned, np.full(len(col), True), ~changed),
        (second, actual, changed, np.full(len(col), True)),
    ]
    listed = np.array([day.toordinal() for day in market.names.listed])[col]
    gone = np.array([day.toordinal() for day in market.names.delisted])[col]
    columns: list[list[np.ndarray]] = [[] for _ in range(6)]
    for published, day, chosen, last in parts:
        use = chosen & ~known.silent[col] & (published >= listed) & (published < gone)
        for column, values in zip(columns, (published, day, col, year, quarter, last), strict=True):
            column.append(values[use])
    joined = [np.concatenate(column) for column in columns]
    order = np.lexsort((joined[2], joined[0]))
    return Announcements(*(values[order] for values in joined))


def earnings_date(
    market: "Market", newest: date, published: date | None = None, planned: date | None = None,
    columns: I64 | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Announcements published by `newest`: of one publication date, of a day as it stands by then, or of names."""
    found = announcements(market)
    use = (found.published <= newest.toordinal()) & (found.published >= market.ordinals[0])
    if published is not None:
        use &= found.published == published.toordinal()
    if planned is not None:  # what still holds of those that name the day
        use &= found.planned == planned.toordinal()
        place = np.flatnonzero(use)
        newer = np.array([_superseded(found, k, newest.toordinal()) for k in place.tolist()], np.bool_)
        use[place[newer]] = False
    if columns is not None:
        use &= np.isin(found.column, columns)
    return _rows(market, np.flatnonzero(use))


def _superseded(found: Announcements, k: int, newest: int) -> bool:
    """Whether a newer publication of the same period is out."""
    if found.last[k]:
        return False
    same = (found.column == found.column[k]) & (found.year == found.year[k]) & (found.quarter == found.quarter[k])
    return bool((same & (found.published > found.published[k]) & (found.published <= newest)).any())


def _rows(market: "Market", places: I64) -> pl.DataFrame:
    found, known = announcements(market), fiscal(market)
    col, year, planned = found.column[places], found.year[places], found.planned[places]
    end = ordinals.text(known.end[col, year, 3])
    described = market.master_fields[col.tolist()]
    text = {
        "PubDate": list(ordinals.text(found.published[places])),
        "SchDate": [
            "" if not day else shown for day, shown in zip(planned, ordinals.text(np.maximum(planned, 1)), strict=True)
        ],
        "FQName": QUARTERS[found.quarter[places]].tolist(),
        "FYE": [day[5:7] + day[8:10] for day in end],
    }
    frame = pl.DataFrame(
        {name: pl.Series(values, dtype=pl.String) for name, values in text.items()}
        | {"Code": market.codes(col), "CoName": described["CoName"], "CoNameEn": described["CoNameEn"]}
    )
    return frame.select(FIELDS).sort("PubDate", "Code", maintain_order=True)


def earnings_calendar(market: "Market", day: date) -> pl.DataFrame:
    """The older calendar as served for a business day: who announces on it, or on the last day that had somebody."""
    for ordinal in range(day.toordinal(), day.toordinal() - STALE_DAYS, -1):
        frame = _calendar_day(market, ordinal)
        if frame.height:
            return frame
    return _calendar_day(market, 1)


@remembered(32)
def _calendar_day(market: "Market", ordinal: int) -> pl.DataFrame:
    known, names = fiscal(market), market.names
    listed = np.array([day.toordinal() for day in names.listed])
    gone = np.array([day.toordinal() for day in names.delisted])
    there = ~known.silent & (listed <= ordinal) & (gone > ordinal) & np.isin(known.month, (3, 9))
    col, year, quarter = np.nonzero((known.day == ordinal) & there[:, None, None])
    order = np.argsort(np.array(names.code)[col], kind="stable") if len(col) else np.zeros(0, np.int64)
    col, year, quarter = col[order], year[order], quarter[order]
    described = market.master_fields[col.tolist()]
    day = date.fromordinal(ordinal)
    without = uniform(market.config.seed, "calendar without date", col, ordinal) < 0.01
    section = [("プライム", "スタンダード", "グロース")[segment] for segment in names.segment[col]]
    if day < tables.MARKET_REFORM:
        section = [
            "一部" if segment == 0 else "マザーズ" if segment == 2 else "ジャスダック" for segment in names.segment[col]
        ]
    text = {
        "Date": ["" if none else day.isoformat() for none in without],
        "Code": market.codes(col).to_list(), "CoName": described["CoName"].to_list(),
        "FY": [f"{month}月{30 if month == 9 else 31}日" for month in known.month[col]],
        "SectorNm": described["S33Nm"].to_list(), "FQ": QUARTERS[quarter].tolist(), "Section": section,
    }  # fmt: skip
    return pl.DataFrame(text, schema=dict.fromkeys(CALENDAR_FIELDS, pl.String))
