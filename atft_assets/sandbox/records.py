"""What the endpoints beside prices answer: which of the market's records are asked for, and which are public.

Rows of a family are made in its own module; here stand parameters and hours. Where the documents say one hour and the
service was seen to be later, it is the later one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, time, timedelta

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.sandbox import (
    dividends,
    fiscal,
    flow,
    futures,
    margin,
    minutes,
    options,
    orders,
    ordinals,
    schedule,
    shorts,
    statements,
    valuation,
)
from atft_assets.sandbox.draws import I64
from atft_assets.sandbox.figures import fiscal as fiscal_of
from atft_assets.sandbox.market import Market
from atft_assets.sandbox.query import Query, Refusal, published
from atft_assets.settings import Plan, plan_window

Answer = Callable[[Market, Query], pl.DataFrame]

DAY_TIME, MARGIN_TIME, ORDERS_TIME, FLOW_TIME = time(16, 30), time(16, 30), time(18, 0), time(18, 0)
REPORT_TIME = time(17, 33)  # documented 17:30
SCHEDULE_TIME, CALENDAR_TIME = time(16, 0), time(19, 0)
NIGHT = time(3, 0)  # of the next day: derivatives
FIRST_DIVIDENDS, LAST_DIVIDENDS = 12 * 3600, 19 * 3600  # hourly between
ONE_OF = "Specify exactly one of the following parameters; code, date, scheduled_date"
APART = "'published_date' cannot be combined with 'date', 'from' or 'to'."


def _rows_upto(market: Market, first: date | None, last: date | None, newest: date) -> tuple[int, int]:
    """Rows [lo, hi) of the days of a span that are out."""
    return market.row_range(first, min(last or newest, newest))


def _daily(
    hour: time, day: Callable[[Market, int], pl.DataFrame], pairs: Callable[[Market, I64, I64], pl.DataFrame]
) -> Answer:
    """An endpoint of a row a name and day, asked for by `date`, or by `code` with `from` and `to`.

    Args:
        hour: at which a day's rows appear.
        day: rows of a day; pairs: rows of names on days.
    """

    def answer(market: Market, query: Query) -> pl.DataFrame:
        query.need("date", "code")
        code, asked = query.code(), query.day("date")
        newest = published(query, hour)
        nothing = np.zeros(0, np.int64)
        if code is None:
            row = market.row_of.get(asked) if asked and asked <= newest else None
            return pairs(market, nothing, nothing) if row is None else day(market, row)
        first, last = (asked, asked) if asked else query.span()
        return pairs(market, *market.listed_between(code, *_rows_upto(market, first, last, newest)))

    return answer


def minute_bars(market: Market, query: Query) -> pl.DataFrame:
    """Minutes of all names on a day, or of one name over a span."""
    query.need("date", "code")
    code, asked = query.code(), query.day("date")
    newest = published(query, DAY_TIME)
    if code is None:
        row = market.row_of.get(asked) if asked and asked <= newest else None
        return minutes.minute_bars(market, row) if row is not None else minutes.bars(market, 0, np.zeros(0, np.int64))
    first, last = (asked, asked) if asked else query.span()
    rows, columns = market.listed_between(code, *_rows_upto(market, first, last, newest))
    frames = [minutes.bars(market, row, columns[k : k + 1]) for k, row in enumerate(rows.tolist())]
    return pl.concat(frames) if frames else minutes.bars(market, 0, np.zeros(0, np.int64))


def margin_interest(market: Market, query: Query) -> pl.DataFrame:
    """Margin balances of a date, or of those published on one, or of a name."""
    query.need("code", "date", "published_date")
    code, asked, appeared = query.code(), query.day("date"), query.day("published_date")
    if appeared and any(name in query.params for name in ("date", "from", "to")):
        raise Refusal(400, APART)
    newest = published(query, MARGIN_TIME)
    old_shape = query.today < margin.SHAPE_SINCE
    first, last = (asked, asked) if asked else query.span()
    if code is None and appeared is None and asked is None:
        raise Refusal(400, "This API requires at least 1 parameter as follows; code, date, published_date")
    lo, hi = market.row_range(first, last)
    rows = margin.balance_rows(market, lo, hi)
    rows = np.array([row for row in rows.tolist() if margin.published(market.days[row]) <= newest], np.int64)
    if appeared:  # the weekly edition has no date of publication
        daily = [row for row in rows.tolist() if market.days[row] >= margin.DAILY_SINCE]
        rows = np.array([row for row in daily if margin.published(market.days[row]) == appeared], np.int64)
    if code is not None:
        rows, columns = _of_code(market, code, rows)
        return margin.interest(market, rows, columns, old_shape)
    frames = [margin.interest_day(market, row, old_shape) for row in rows.tolist()]
    nothing = np.zeros(0, np.int64)
    return pl.concat(frames) if frames else margin.interest(market, nothing, nothing, old_shape)


def _of_code(market: Market, code: str, rows: I64) -> tuple[I64, I64]:
    """Of the rows those on which a code is listed, with its column on each."""
    columns = market.columns_of.get(code, [])
    pairs = [(row, column) for row in rows.tolist() for column in columns if market.alive[row, column]]
    return np.array([p[0] for p in pairs], np.int64), np.array([p[1] for p in pairs], np.int64)


def margin_alert(market: Market, query: Query) -> pl.DataFrame:
    """Flagged names of a publication date, or of one name over a span of them."""
    query.need("code", "date")
    code, asked = query.code(), query.day("date")
    newest = published(query, MARGIN_TIME)
    if code is None:
        row = market.row_of.get(asked) if asked and asked <= newest else None
        return margin.alerts(market, row) if row is not None else margin.alerts(market, 0)
    first, last = (asked, asked) if asked else query.span()
    columns = np.array(market.columns_of.get(code, []), np.int64)
    return margin.alerts_of(market, columns, *_rows_upto(market, first, last, newest))


def short_ratio(market: Market, query: Query) -> pl.DataFrame:
    """Turnover of short sales of a day, or of a sector over a span."""
    query.need("s33", "date")
    sector, asked = query.params.get("s33"), query.day("date")
    newest = published(query, DAY_TIME)
    if sector is None:
        row = market.row_of.get(asked) if asked and asked <= newest else None
        return shorts.short_ratio(market, row) if row is not None else shorts.short_ratio(market, 0).clear()
    first, last = (asked, asked) if asked else query.span()
    return shorts.short_ratio_of(market, sector.zfill(4), *_rows_upto(market, first, last, newest))


def short_sale_report(market: Market, query: Query) -> pl.DataFrame:
    """Reported positions of a day of disclosure, of a date of positions, or of a name."""
    query.need("code", "disc_date", "calc_date")
    code, disclosed, counted = query.code(), query.day("disc_date"), query.day("calc_date")
    newest = published(query, REPORT_TIME)
    first, last = (disclosed, disclosed) if disclosed else query.span("disc_date_from", "disc_date_to")
    if counted and not disclosed and code is None:  # whoever told of that day, up to a year later
        first, last = counted, counted + timedelta(days=400)
    columns = None if code is None else np.array(market.columns_of.get(code, []), np.int64)
    return shorts.short_sale_report(market, first, min(last or newest, newest), columns, counted)


def investor_types(market: Market, query: Query) -> pl.DataFrame:
    """Weeks published over a span."""
    first, last = query.span()
    newest = published(query, FLOW_TIME)
    return flow.investor_types(market, first, min(last or newest, newest), query.params.get("section"))


def _derivatives(make: Callable[[Market, int], pl.DataFrame]) -> Answer:
    """An endpoint of derivatives: all contracts of a day, out in the night after it."""

    def answer(market: Market, query: Query) -> pl.DataFrame:
        query.need("date")
        asked = query.day("date")
        newest = published(query, NIGHT) - timedelta(days=1)
        row = market.row_of.get(asked) if asked and asked <= newest else None
        frame = make(market, row) if row is not None else make(market, 0).clear()
        for name, column in (("category", "ProdCat"), ("code", "UndSSO"), ("contract_flag", "CCMFlag")):
            if name in query.params and column in frame.columns:
                frame = frame.filter(pl.col(column) == query.params[name])
        return frame

    return answer


def _documents(market: Market, query: Query) -> I64:
    """Documents that a request asks for and that are served: on Premium as they are disclosed, else in the batches."""
    query.need("code", "date")
    code, asked = query.code(), query.day("date")
    lower, upper = plan_window(query.plan, query.today)
    first, last = (asked, asked) if asked else (lower, upper or query.today)
    columns = None if code is None else np.array(market.columns_of.get(code, []), np.int64)
    places = statements.documents(market, first.toordinal(), last.toordinal(), columns)
    known = fiscal_of(market)
    when, clock = known.when[places], known.clock[places]
    today, second = query.today.toordinal(), query.now.hour * 3600 + query.now.minute * 60 + query.now.second
    if query.plan is Plan.PREMIUM:
        return places[(when < today) | ((when == today) & (clock <= second))]
    batch = fiscal.served_on(when, clock)
    evening = ordinals.is_open(when) & (clock >= fiscal.BATCH)  # those of the evening come half an hour after midnight
    night = evening & ((when < today - 1) | ((when == today - 1) & (second >= 1800)))
    return places[(batch < today) | ((batch == today) & (second >= fiscal.BATCH)) | night]


def fins_summary(market: Market, query: Query) -> pl.DataFrame:
    """Summaries of the documents of a day, or of a name."""
    return statements.summary(market, _documents(market, query))


def fins_details(market: Market, query: Query) -> pl.DataFrame:
    """Statements of the documents of a day, or of a name."""
    return statements.details(market, _documents(market, query))


def fins_dividend(market: Market, query: Query) -> pl.DataFrame:
    """Announcements of dividends of a day, or of a name over a span; they come hourly from noon to seven."""
    query.need("code", "date")
    code, asked = query.code(), query.day("date")
    first, last = (asked, asked) if asked else query.span()
    columns = None if code is None else np.array(market.columns_of.get(code, []), np.int64)
    places = dividends.dividends(market, first.toordinal(), (last or query.today).toordinal(), columns)
    found = dividends.events(market)
    day, second = found.day[places], found.second[places]
    hour = np.maximum((second // 3600 + 1) * 3600, FIRST_DIVIDENDS)
    same = ordinals.is_open(day) & (hour <= LAST_DIVIDENDS)
    batch_day = np.where(same, day, ordinals.shift(day, 1))
    batch_hour = np.where(same, hour, FIRST_DIVIDENDS)
    today, now = query.today.toordinal(), query.now.hour * 3600 + query.now.minute * 60
    return dividends.rows(market, places[(batch_day < today) | ((batch_day == today) & (batch_hour <= now))])


def earnings_date(market: Market, query: Query) -> pl.DataFrame:
    """Announced days, by publication date, by the day as it stands, or of a name. What lags is empty, not refused."""
    if sum(name in query.params for name in ("code", "date", "scheduled_date")) != 1:
        raise Refusal(400, ONE_OF)
    code = query.code()
    appeared, planned = query.day("date", windowed=False), query.day("scheduled_date", windowed=False)
    _, upper = plan_window(query.plan, query.today)
    newest = published(query, SCHEDULE_TIME)
    columns = None if code is None else np.array(market.columns_of.get(code, []), np.int64)
    return schedule.earnings_date(market, min(newest, upper or newest), appeared, planned, columns)


def earnings_calendar(market: Market, query: Query) -> pl.DataFrame:
    """Who announces on the next business day, as the last evening knew it."""
    day = query.today
    if not calendar.is_trading_day(day) or query.now.time() >= CALENDAR_TIME:
        day = calendar.next_trading_day(day)
    return schedule.earnings_calendar(market, day)


RECORDS: Mapping[str, Answer] = {
    "/equities/bars/minute": minute_bars,
    "/equities/earnings-calendar": earnings_calendar,
    "/equities/investor-types": investor_types,
    "/equities/valuation": _daily(DAY_TIME, valuation.day, valuation.valuation),
    "/fins/summary": fins_summary,
    "/fins/details": fins_details,
    "/fins/dividend": fins_dividend,
    "/fins/earnings-date": earnings_date,
    "/markets/breakdown": _daily(ORDERS_TIME, orders.day, orders.breakdown),
    "/markets/margin-alert": margin_alert,
    "/markets/margin-interest": margin_interest,
    "/markets/short-ratio": short_ratio,
    "/markets/short-sale-report": short_sale_report,
    "/derivatives/bars/daily/futures": _derivatives(futures.futures),
    "/derivatives/bars/daily/options": _derivatives(options.options),
    "/derivatives/bars/daily/options/225": _derivatives(options.options_225),
}
