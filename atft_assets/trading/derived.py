"""What follows from the bars of a day and of those before it: base price, band, usual turnover, volatility.

One pass over the days. Each row reads earlier bars and its own, of which the band takes no more than the open; so a
longer or a shorter market gives the same rows to the last digit.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from atft_assets.trading.market import Flags, Floats32, Floats64
from atft_assets.trading.rules import as_printed, base_price, limit_prices, widening

TRAILING = 20  # days of turnover and of returns
_MIDDLE = slice(TRAILING // 2 - 1, TRAILING // 2 + 1)  # places of the two whose mean is the median

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Derived:
    """Arrays [D,N] of `Market`, where their meaning stands."""

    base: Floats32
    limit_up: Floats32
    limit_down: Floats32
    adv: Floats64
    sigma: Floats32


def derive(
    dates: Sequence[date],
    prices: Sequence[Floats32],
    value: Floats64,
    adj_factor: Floats32,
    dividend: Floats32,
    fine_tick: Flags,
    listed: Flags,
) -> Derived:
    """Base prices, bands, turnover and volatility of every day and name.

    Args:
        dates: [D] ascending.
        prices: open, high, low, close [D,N]; NaN where a name did not trade.
        value, adj_factor, dividend, fine_tick: as in `Market` [D,N].
        listed: the name has a row, traded or not [D,N]; turnover counts from the first.

    Returns:
        base and limits NaN until a name has a close before the day; adv and sigma NaN before there are 20 days.
    """
    days, names = value.shape
    base, limit_up, limit_down, sigma = (np.full((days, names), np.nan, np.float32) for _ in range(4))
    adv = np.full((days, names), np.nan)
    last = np.full(names, np.nan)  # close of the newest trade, or what ex-dates have left of it
    runs = (np.zeros(names, np.int64), np.zeros(names, np.int64))
    listed_days, known_days = np.zeros(names, np.int64), np.zeros(names, np.int64)
    turnover = np.zeros((names, TRAILING))
    moves: deque[Floats64] = deque(maxlen=TRAILING)
    for d, day in enumerate(dates):
        bar = np.stack([as_printed(series[d]) for series in prices])
        traded = np.isfinite(bar[3])
        base[d] = today = base_price(last, adj_factor[d], dividend[d], day, fine_tick[d])
        limit_up[d], limit_down[d], runs = _band(day, today, fine_tick[d], bar, runs)

        # the base without its rounding: what a share of the last close is worth today if nothing happens
        level = np.where(np.isfinite(today), (last - dividend[d]) * adj_factor[d], np.nan)
        known = np.isfinite(level)
        moves.append(np.where(traded & known, bar[3] / level - 1, 0.0))
        turnover[:, d % TRAILING] = value[d]
        listed_days = np.where(listed[d] | (listed_days > 0), listed_days + 1, 0)
        known_days = np.where(known, known_days + 1, 0)
        if (enough := listed_days >= TRAILING).any():
            middle = np.sort(turnover, axis=1)[:, _MIDDLE].mean(axis=1)  # a quarter of np.partition's time, so few rows
            adv[d] = np.where(enough, middle, np.nan)
        if (enough := known_days >= TRAILING).any():
            sigma[d] = np.where(enough, np.std(np.stack(moves), axis=0, ddof=1), np.nan)
        last = np.where(traded, bar[3], level)
    return Derived(base, limit_up, limit_down, adv, sigma)


def _band(
    day: date, base: Floats64, fine: Flags, bar: Floats64, runs: tuple[Counts, Counts]
) -> tuple[Floats64, Floats64, tuple[Counts, Counts]]:
    """The limits of a day [N], and for how many days in a row names are at each of them after it.

    A day counts if all its trades were at the limit, or, after such a day, if there was none. Whether that was trade
    all day or one auction at the close, daily bars do not tell: a side is taken as widened after so many days, unless
    the open stands exactly at the ordinary limit. That errs towards orders that are not filled.

    Args:
        bar: open, high, low, close [4,N].
        runs: days in a row at the upper and at the lower limit before the day, each [N].
    """
    limits = limit_prices(base, day, fine)
    rule = widening(day)
    if (candidates := np.flatnonzero((runs[0] >= rule.days) | (runs[1] >= rule.days))).size:
        wide = limit_prices(base[candidates], day, fine[candidates], rule.times, rule.times)
        for limit, wider, run in zip(limits, wide, runs, strict=True):
            widened = (run[candidates] >= rule.days) & (bar[0, candidates] != limit[candidates])
            limit[candidates] = np.where(widened, wider, limit[candidates])
    traded = np.isfinite(bar[3])
    if not traded.any():  # the exchange itself stood still
        return *limits, runs
    one_price = (bar[0] == bar[3]) & (bar[1] == bar[2])
    up, down = (
        np.where(traded, np.where(one_price & (bar[3] == limit), run + 1, 0), np.where(run > 0, run + 1, 0))
        for limit, run in zip(limits, runs, strict=True)
    )
    return *limits, (up, down)
