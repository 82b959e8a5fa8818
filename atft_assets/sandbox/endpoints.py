"""What each endpoint answers: a checked request in, the rows that are public at that instant out.

Parameters, windows of the plan and the publication clock are as documented for J-Quants API V2; pages, limits and
faults are the server's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import polars as pl

from atft_assets import calendar
from atft_assets.sandbox.market import Market, calendar_frame
from atft_assets.settings import Plan, plan_window

# When the rows of a day appear (Japanese time; https://jpx-jquants.com, data update schedule)
BARS_TIME, MORNING_TIME, MASTER_TIME = time(16, 30), time(12, 0), time(17, 30)
MORNING_END = time(6, 0)  # of the next day

MESSAGES = {
    210: "There is no content to return: outside the target time or unknown code.",
    413: "Response data is too large. Specify parameters to reduce the acquired data range.",
    429: "Too Many Requests",
    500: "Unexpected error. Please try again later.",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Endpoint request timed out",
}
NEED_DATE_OR_CODE = "This API requires at least 1 parameter as follows; date, code"
FROM_AFTER_TO = "'from' must be older than 'to'"
BAD_CODE = "'code' must be 4 or 5 digits."
BAD_INDEX_CODE = "'code' must be 4 characters."
BARS = "/equities/bars/daily"


class Refusal(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Query:
    """One checked request."""

    path: str
    plan: Plan
    now: datetime
    params: Mapping[str, str]

    @property
    def today(self) -> date:
        return self.now.date()

    def day(self, name: str) -> date | None:
        """A date parameter in either notation; 400 when it is no date or outside the plan's window."""
        text = self.params.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"\d{8}|\d{4}-\d{2}-\d{2}", text):
            raise Refusal(400, f"'{name}' must be YYYYMMDD or YYYY-MM-DD.")
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise Refusal(400, f"'{name}' is not a valid date.") from None
        first, last = plan_window(self.plan, self.today)
        if day < first or (last and day > last):
            raise Refusal(
                400,
                f"Your subscription covers the following dates: {first} ~ {last or ''}. "
                "If you want more data, please check other plans:https://jpx-jquants.com/#dataset",
            )
        return day

    def span(self) -> tuple[date | None, date | None]:
        """`from` and `to`; 400 when they are the wrong way round. Sides left out are the window's."""
        first, last = self.day("from"), self.day("to")
        if first and last and first > last:
            raise Refusal(400, FROM_AFTER_TO)
        lower, upper = plan_window(self.plan, self.today)
        return first or lower, last or upper

    def code(self) -> str | None:
        """The equity code in five characters; four mean the ordinary share."""
        code = self.params.get("code")
        if code is None:
            return None
        if not re.fullmatch(r"[0-9]{3}[0-9A-Z][0-9]?", code):
            raise Refusal(400, BAD_CODE)
        return code if len(code) == 5 else f"{code}0"


def published(query: Query, at: time) -> date:
    """Newest day whose rows, which appear at `at`, are there."""
    return query.today if query.now.time() >= at else query.today - timedelta(days=1)


def master(market: Market, query: Query) -> pl.DataFrame:
    """The list of names that applies on a day."""
    asked, code = query.day("date"), query.code()
    _, upper = plan_window(query.plan, query.today)
    day = asked or upper or query.today
    if not calendar.is_trading_day(day):
        day = calendar.next_trading_day(day)
    # the list of the next business day is out from 17:30
    newest = query.today if calendar.is_trading_day(query.today) else calendar.previous_trading_day(query.today)
    if newest != query.today or query.now.time() >= MASTER_TIME:
        newest = calendar.next_trading_day(newest)
    day = max(min(day, newest), market.days[0])
    frame = market.master(day)
    return frame.filter(pl.col("Code") == code) if code else frame


def bars(market: Market, query: Query) -> pl.DataFrame:
    """Prices of all names on a day, or of one name over a span."""
    code, day = query.code(), query.day("date")
    if code is None and day is None:
        raise Refusal(400, NEED_DATE_OR_CODE)
    newest = published(query, BARS_TIME)
    sessions = query.plan is Plan.PREMIUM
    if code is None:
        known = day if day and day <= newest else date.min
        return market.bars(known, newest, sessions)
    first, last = (day, day) if day else query.span()
    return market.history(code, first, min(last or newest, newest), newest, sessions)


def morning(market: Market, query: Query) -> pl.DataFrame:
    """Prices of the morning session, while they are offered."""
    code, now = query.code(), query.now
    day = query.today if now.time() >= MORNING_TIME else query.today - timedelta(days=1)
    open_hours = now.time() >= MORNING_TIME or now.time() < MORNING_END
    frame = market.bars(day, day, sessions=True)
    if code:
        frame = frame.filter(pl.col("Code") == code)
    if not open_hours or frame.is_empty():
        raise Refusal(210, MESSAGES[210])
    return frame.select("Date", "Code", "MO", "MH", "ML", "MC", "MVo", "MVa")


def topix(market: Market, query: Query) -> pl.DataFrame:
    """The TOPIX over a span."""
    first, last = query.span()
    newest = published(query, BARS_TIME)
    return market.index_bars("0000", first, min(last or newest, newest)).drop("Code")


def index_bars(market: Market, query: Query) -> pl.DataFrame:
    """All indices on a day, or one over a span."""
    code, day = query.params.get("code"), query.day("date")
    if code is None and day is None:
        raise Refusal(400, NEED_DATE_OR_CODE)
    if code is not None and not re.fullmatch(r"[0-9A-F]{4}", code):
        raise Refusal(400, BAD_INDEX_CODE)
    newest = published(query, BARS_TIME)
    if code is None:
        return market.index_day(day if day and day <= newest else date.min)
    first, last = (day, day) if day else query.span()
    return market.index_bars(code, first, min(last or newest, newest))


def days(market: Market, query: Query) -> pl.DataFrame:
    """Kinds of calendar days, published far ahead."""
    first, last = query.span()
    wanted = query.params.get("hol_div")
    if wanted is not None and wanted not in "0123":
        raise Refusal(400, "'hol_div' must be 0, 1, 2 or 3.")
    # published to the end of next year, as far as holidays are known here
    end = min(date(query.today.year + 1, 12, 31), date.today() + timedelta(days=364))
    frame = calendar_frame(first or end, min(last or end, end))
    return frame.filter(pl.col("HolDiv") == wanted) if wanted else frame


ENDPOINTS: Mapping[str, Callable[[Market, Query], pl.DataFrame]] = {
    "/equities/master": master,
    BARS: bars,
    "/equities/bars/daily/am": morning,
    "/indices/bars/daily/topix": topix,
    "/indices/bars/daily": index_bars,
    "/markets/calendar": days,
}
