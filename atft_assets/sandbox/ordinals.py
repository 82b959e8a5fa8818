"""Days as whole numbers (`date.toordinal`), so that thousands of records are dated at once."""

from datetime import date
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets import calendar

I64 = NDArray[np.int64]


@cache
def sessions() -> I64:
    """Every trading day of the known calendar."""
    days = calendar.trading_days(calendar.FIRST_DAY, date.max)
    return np.array([day.toordinal() for day in days])


def place(days: ArrayLike) -> I64:
    """How many trading days lie before each day: its place in the calendar, or that of the next trading day."""
    out: I64 = np.searchsorted(sessions(), np.asarray(days, np.int64))
    return out


def at(places: ArrayLike) -> I64:
    """The trading days at places of the calendar; beyond its ends the first or last."""
    known = sessions()
    return known[np.clip(np.asarray(places, np.int64), 0, len(known) - 1)]


def on_or_after(days: ArrayLike) -> I64:
    return at(place(days))


def on_or_before(days: ArrayLike) -> I64:
    return at(np.searchsorted(sessions(), np.asarray(days, np.int64), side="right") - 1)


def shift(days: ArrayLike, n: ArrayLike) -> I64:
    """The trading day `n` sessions away; a closed day counts as lying between two sessions, and n = 0 as the next."""
    days, n = np.asarray(days, np.int64), np.asarray(n, np.int64)
    ahead = np.searchsorted(sessions(), days, side="right") - 1
    return at(np.where(n > 0, ahead, place(days)) + n)


def is_open(days: ArrayLike) -> NDArray[np.bool_]:
    """Whether they are trading days."""
    out: NDArray[np.bool_] = on_or_after(days) == np.asarray(days, np.int64)
    return out


def month_end(years: ArrayLike, months: ArrayLike) -> I64:
    """The last calendar day of months, which may be counted on past twelve or back below one."""
    count = (np.asarray(years, np.int64) - 1970) * 12 + np.asarray(months, np.int64)  # of the first of the next month
    return count.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + _EPOCH - 1


_EPOCH = date(1970, 1, 1).toordinal()


def text(days: ArrayLike) -> NDArray[np.object_]:
    """`YYYY-MM-DD` of each day."""
    stamps = (np.asarray(days, np.int64) - _EPOCH).astype("datetime64[D]")
    return stamps.astype(str).astype(object)
