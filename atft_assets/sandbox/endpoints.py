"""What each endpoint answers: a checked request in, the rows that are public at that instant out.

Parameters, windows of the plan and the publication clock are as documented for J-Quants API V2; pages, limits and
faults are the server's. Here stand prices, the list of names, indices and the calendar; everything else in `records`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta

import polars as pl

from atft_assets import calendar
from atft_assets.sandbox.listing import calendar_frame
from atft_assets.sandbox.market import Market
from atft_assets.sandbox.more_indices import PREMIUM_ONLY
from atft_assets.sandbox.query import Query, Refusal, published
from atft_assets.sandbox.records import RECORDS
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
BAD_INDEX_CODE = "'code' must be 4 characters."
BARS = "/equities/bars/daily"


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
    if day in calendar.HALF_DAYS:  # served without a list
        return frame.clear()
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
        frame = market.index_day(day if day and day <= newest else date.min)
    else:
        first, last = (day, day) if day else query.span()
        frame = market.index_bars(code, first, min(last or newest, newest))
    return frame if query.plan is Plan.PREMIUM else frame.filter(~pl.col("Code").is_in(list(PREMIUM_ONLY)))


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
    **RECORDS,
}
# endpoints whose days hold so many rows that a page of them is larger: by how much
PAGE_FACTOR: Mapping[str, int] = {
    "/equities/bars/minute": 200,
    "/derivatives/bars/daily/options": 5,
    "/derivatives/bars/daily/options/225": 5,
}
