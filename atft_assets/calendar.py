"""Tokyo trading days: the only place that knows what the next business day is.

The days come from exchange-calendars (XTKS), so that partitions, schedules and labels exist before anything was
fetched; `trading_calendar` checks them against the exchange's own `/markets/calendar`.
"""

from bisect import bisect_left, bisect_right
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

TOKYO = ZoneInfo("Asia/Tokyo")
DECISION_TIME = time(18, 30)

# Open days on which nothing traded. J-Quants serves them as business days with null prices; exchange-calendars
# has them as closed. 2020-10-01: the exchange's trading system stood still all day.
SYSTEM_HALTS = frozenset({date(2020, 10, 1)})

# The last sessions of half a day, since lists of names are served: days of the market (HolDiv 2) without a list.
HALF_DAYS = frozenset({date(2008, 12, 30), date(2009, 1, 5)})

FIRST_DAY = date(2007, 1, 1)


@cache
def _sessions() -> tuple[date, ...]:
    import exchange_calendars  # 0.4 s of pandas: paid on first use, not when the code location loads

    # exchange-calendars refuses ends more than about a year ahead of its holiday tables
    last = date.today() + timedelta(days=365)
    calendar = exchange_calendars.get_calendar("XTKS", start=FIRST_DAY.isoformat(), end=last.isoformat())
    return tuple(sorted({session.date() for session in calendar.sessions} | SYSTEM_HALTS))


def _known(day: date) -> None:
    sessions = _sessions()
    if not FIRST_DAY <= day <= sessions[-1]:
        raise ValueError(f"{day} is outside the trading calendar ({FIRST_DAY} to {sessions[-1]})")


def trading_days(start: date, end: date) -> list[date]:
    """Trading days from `start` to `end`, both inclusive."""
    sessions = _sessions()
    return list(sessions[bisect_left(sessions, start) : bisect_right(sessions, end)])


def is_trading_day(day: date) -> bool:
    """Whether Tokyo's cash equities market is open on `day`."""
    return trading_days(day, day) == [day]


def next_trading_day(day: date) -> date:
    """The first trading day strictly after `day`."""
    return shift_trading_days(day, 1)


def previous_trading_day(day: date) -> date:
    """The last trading day strictly before `day`."""
    return shift_trading_days(day, -1)


def shift_trading_days(day: date, n: int) -> date:
    """The trading day `n` sessions away from `day`; a closed day counts as lying between two sessions.

    Raises:
        ValueError: the answer lies outside the calendar.
    """
    _known(day)
    sessions = _sessions()
    if n == 0:
        place = bisect_left(sessions, day)
        if sessions[place] != day:
            raise ValueError(f"{day} is not a trading day")
        return day
    place = bisect_right(sessions, day) - 1 + n if n > 0 else bisect_left(sessions, day) + n
    if not 0 <= place < len(sessions):
        raise ValueError(f"{n} trading days from {day} lie outside the trading calendar")
    return sessions[place]


def month_key(day: date) -> str:
    """Partition key of a day's month, `YYYY-MM`."""
    return f"{day:%Y-%m}"


def first_of_month(key: str) -> date:
    """First calendar day of a month key."""
    return date.fromisoformat(f"{key}-01")


def shift_month(key: str, n: int) -> str:
    """The month key `n` months after `key`."""
    year, month = divmod(int(key[:4]) * 12 + int(key[5:7]) - 1 + n, 12)
    return f"{year:04d}-{month + 1:02d}"


def months_between(first: str, last: str) -> list[str]:
    """Month keys from `first` to `last`, both inclusive."""
    keys = []
    while first <= last:
        keys.append(first)
        first = shift_month(first, 1)
    return keys


def days_of_month(key: str) -> list[date]:
    """Trading days of a month."""
    return trading_days(first_of_month(key), first_of_month(shift_month(key, 1)) - timedelta(days=1))


def decision_instant(day: date) -> datetime:
    """The evening of `day` at which a value must be known to enter its row: 18:30 in Tokyo."""
    return datetime.combine(day, DECISION_TIME, TOKYO)
