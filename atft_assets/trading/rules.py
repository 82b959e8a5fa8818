"""Rules of the Tokyo Stock Exchange by date: ticks, daily price limits, base prices, lots, hours, names of orders.

Pure functions over arrays; every table stands here once, with the day from which it holds. Prices are JPY. What the
exchange published is checked against its own notices in the tests; the three steps of the fine ticks were also read off
the prices of 31 names of the TOPIX100.
"""

from dataclasses import dataclass
from datetime import date, time
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets.calendar import next_trading_day, previous_trading_day, shift_trading_days

Floats = NDArray[np.float64]

KNOWN_SINCE = date(2010, 1, 4)  # tables of ticks and limits; before, others held

LOT = 100  # shares, of every domestic share
UNIFORM_LOT_SINCE = date(2018, 10, 1)  # before, some names had other lots, which J-Quants does not tell

TWO_DAY_SETTLEMENT_SINCE = date(2019, 7, 16)  # of trades; before, three days
LATER_CLOSE_SINCE = date(2024, 11, 5)

SHORT_TRIGGER = 0.9  # of the base price: a trade there or below restricts short sales until the end of the next day


# -- ticks ------------------------------------------------------------------------------------------------------------

TOPIX100 = ("TOPIX Core30", "TOPIX Large70")
TOPIX500 = (*TOPIX100, "TOPIX Mid400")
FINE_SINCE = date(2014, 1, 14)  # for the TOPIX100
FINE_FOR_500_SINCE = date(2023, 6, 5)

# upper bounds of the zones, each bound included; above the last one the last tick holds
_BOUNDS = np.array(
    [1e3, 3e3, 5e3, 1e4, 3e4, 5e4, 1e5, 3e5, 5e5, 1e6, 3e6, 5e6, 1e7, 3e7, 5e7],
)
_COARSE = np.array([1, 1, 5, 10, 10, 50, 100, 100, 500, 1e3, 1e3, 5e3, 1e4, 1e4, 5e4, 1e5])
_FINE = {  # by the day from which it holds
    FINE_SINCE: np.array([1, 1, 1, 1, 5, 5, 10, 50, 50, 100, 500, 500, 1e3, 5e3, 5e3, 1e4]),
    date(2014, 7, 22): np.array([0.1, 0.5, 0.5, 1, 5, 5, 10, 50, 50, 100, 500, 500, 1e3, 5e3, 5e3, 1e4]),
    date(2015, 9, 24): np.array([0.1, 0.5, 1, 1, 5, 10, 10, 50, 100, 100, 500, 1e3, 1e3, 5e3, 1e4, 1e4]),
}


def fine_categories(day: date) -> tuple[str, ...]:
    """Size classes (`ScaleCat` of the master) whose names have the fine ticks on a day: the first ones of TOPIX500."""
    if day < FINE_SINCE:
        return ()
    return TOPIX500 if day >= FINE_FOR_500_SINCE else TOPIX100


def tick_size(price: ArrayLike, day: date, fine: ArrayLike = False) -> Floats:
    """Distance between two prices that may be quoted, at a price.

    Args:
        price: JPY, any shape; a bound belongs to the zone below it (3,000 has the finer tick).
        day: the tables that held then.
        fine: whether the name is of the classes of `fine_categories` as of the day; same shape or scalar.

    Returns:
        JPY, float64; NaN where the price is.

    Raises:
        ValueError: the day is before 2010-01-04.
    """
    price = np.asarray(price, np.float64)
    zone = np.searchsorted(_BOUNDS, price, side="left")  # NaN sorts last
    ticks = np.where(np.asarray(fine, bool), _fine_ticks(day)[zone], _COARSE[zone])
    return np.where(np.isnan(price), np.nan, ticks)


@cache
def _fine_ticks(day: date) -> Floats:
    _known(day)
    return next((_FINE[since] for since in sorted(_FINE, reverse=True) if since <= day), _COARSE)


def _known(day: date) -> None:
    if day < KNOWN_SINCE:
        raise ValueError(
            f"ticks and price limits of {day} are not known: the tables here begin on {KNOWN_SINCE}; begin later"
        )


def as_printed(prices: NDArray[np.floating]) -> Floats:
    """Stored prices (float32) as the decimals that were printed, float64: every price is a multiple of 0.1 yen."""
    exact: Floats = prices.astype(np.float64)
    return exact.round(1)


def rounded_up(price: ArrayLike, day: date, fine: ArrayLike = False) -> Floats:
    """The lowest quotable price that is not below a price."""
    price = np.asarray(price, np.float64)
    tick = tick_size(price, day, fine)
    return as_printed(np.ceil(price / tick - 1e-6) * tick)


def rounded_down(price: ArrayLike, day: date, fine: ArrayLike = False) -> Floats:
    """The highest quotable price that is not above a price."""
    price = np.asarray(price, np.float64)
    tick = tick_size(price, day, fine)
    return as_printed(np.floor(price / tick + 1e-6) * tick)


def on_the_grid(price: ArrayLike, day: date, fine: ArrayLike = False) -> NDArray[np.bool_]:
    """Whether prices may be quoted; False for NaN."""
    return np.asarray(np.abs(rounded_up(price, day, fine) - np.asarray(price, np.float64)) < 1e-6)


# -- daily price limits -----------------------------------------------------------------------------------------------

# base prices strictly below the bound may move by the width; above the last bound the last width holds
_BASES = np.array([100, 200, 500, 700, 1e3, 1.5e3, 2e3, 3e3, 5e3, 7e3, 1e4, 1.5e4, 2e4, 3e4, 5e4, 7e4, 1e5, 1.5e5, 2e5,
                   3e5, 5e5, 7e5, 1e6, 1.5e6, 2e6, 3e6, 5e6, 7e6, 1e7, 1.5e7, 2e7, 3e7, 5e7])  # fmt: skip
_WIDTHS = np.array([30, 50, 80, 100, 150, 300, 400, 500, 700, 1e3, 1.5e3, 3e3, 4e3, 5e3, 7e3, 1e4, 1.5e4, 3e4, 4e4,
                    5e4, 7e4, 1e5, 1.5e5, 3e5, 4e5, 5e5, 7e5, 1e6, 1.5e6, 3e6, 4e6, 5e6, 7e6, 1e7])  # fmt: skip

QUICKER_WIDENING_SINCE = date(2020, 8, 3)


@dataclass(frozen=True)
class Widening:
    """After how many days at the limit in a row a side of the band is widened, and how many times."""

    days: int
    times: int


def widening(day: date) -> Widening:
    """The rule for the band of a day."""
    return Widening(2, 4) if day >= QUICKER_WIDENING_SINCE else Widening(3, 2)


def limit_width(base: ArrayLike) -> Floats:
    """How far a price may move from its base in a day, JPY, before any widening; NaN where the base is."""
    base = np.asarray(base, np.float64)
    widths = _WIDTHS[np.searchsorted(_BASES, base, side="right")]
    return np.where(np.isnan(base), np.nan, widths)


def limit_prices(
    base: ArrayLike, day: date, fine: ArrayLike = False, up_times: ArrayLike = 1, down_times: ArrayLike = 1
) -> tuple[Floats, Floats]:
    """The band of a day.

    Args:
        base: base price, JPY, any shape.
        fine: see `tick_size`.
        up_times, down_times: by how much either side is widened, 1 for an ordinary day.

    Returns:
        Highest and lowest price that may be quoted, float64, NaN where the base is. The upper one is rounded up to the
        ticks of its own zone. The lower one is on the grid where the base is; where that is not (a dividend of half a
        yen), it is rounded up as well, and never below one tick.

    Raises:
        ValueError: the day is before 2010-01-04.
    """
    base = np.asarray(base, np.float64)
    width = limit_width(base)
    up = rounded_up(base + width * np.asarray(up_times, np.float64), day, fine)
    down = base - width * np.asarray(down_times, np.float64)
    lowest = tick_size(np.where(np.isnan(base), np.nan, 1.0), day, fine)
    return up, np.maximum(rounded_up(np.maximum(down, lowest), day, fine), lowest)


def base_price(
    last: ArrayLike, adj_factor: ArrayLike, dividend: ArrayLike, day: date, fine: ArrayLike = False
) -> Floats:
    """The price that a day's band is made from.

    A special quote at the close of the day before would come first; daily bars do not hold it.

    Args:
        last: the last close before the day, or the last base where there was no trade since, JPY.
        adj_factor: 1, but on the ex-date of a split (2-for-1: 0.5).
        dividend: expected dividend a share held before the ex-date, JPY; 0 on other days.

    Returns:
        JPY, float64; after a split on the nearest quotable price. NaN where the last close is, and where the dividend
        leaves nothing.
    """
    last, factor, dividend = (np.asarray(x, np.float64) for x in (last, adj_factor, dividend))
    base = (last - dividend) * factor
    base = np.where(base > 0, base, np.nan)
    tick = tick_size(base, day, fine)
    # the factor of a 3-for-1 split is stored as 0.333…: 3,000 yen become 1,000, not 999.9…
    split = np.maximum(np.floor(base / tick + 0.5 + 1e-6) * tick, tick)
    return np.where(factor == 1, base, split)


# -- hours, dates, orders ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hours:
    """Sessions of a day, Tokyo time.

    Attributes:
        accepted_from: from when orders are taken.
        closing_call: from when orders wait for the closing auction; None: it follows the session at once.
    """

    accepted_from: time
    morning: tuple[time, time]
    afternoon: tuple[time, time]
    closing_call: time | None


def session_hours(day: date) -> Hours:
    """When the exchange trades on a day."""
    later = day >= LATER_CLOSE_SINCE
    return Hours(
        accepted_from=time(8),
        morning=(time(9), time(11, 30)),
        afternoon=(time(12, 30), time(15, 30) if later else time(15)),
        closing_call=time(15, 25) if later else None,
    )


def ex_date_of(record: date) -> date:
    """First day on which a buyer is too late for the register of a record date (a day that is closed: the one before).

    Trades settle on the second business day since 2019-07-16, before that on the third.
    """
    on = previous_trading_day(next_trading_day(record))
    two_before = shift_trading_days(on, -2)  # settles on the record date from then on, a day later before
    return two_before if two_before < TWO_DAY_SETTLEMENT_SINCE else previous_trading_day(on)


class Side(StrEnum):
    """Which way an order goes."""

    BUY = "BUY"
    SELL = "SELL"


class Effect(StrEnum):
    """What an order does to the account: cash trade, or a margin position opened or closed."""

    CASH = "CASH"
    MARGIN_OPEN = "MARGIN_OPEN"
    MARGIN_CLOSE = "MARGIN_CLOSE"


class OrderType(StrEnum):
    """Orders for the opening auction: at the market, or with a limit."""

    MOO = "MOO"
    LOO = "LOO"

    @property
    def japanese(self) -> str:
        """What a broker's screen calls it."""
        return {"MOO": "寄成", "LOO": "寄指"}[self.value]
