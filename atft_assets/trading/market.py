"""`Market`: what a back-test knows of every day and name, as dense arrays; `loading` fills it from stored tables."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Market:
    """Days [D] by names [N], in raw, unadjusted prices; NaN where a name did not trade.

    Attributes:
        dates: open days of the exchange, ascending, [D].
        codes: five-character codes, ascending, [N].
        open, high, low, close: JPY [D,N].
        value: turnover of the day, JPY [D,N]; 0 where untraded.
        adj_factor: 1, but on the ex-date of a split (2-for-1: 0.5) [D,N].
        dividend: JPY a share on its ex-date, else 0 [D,N]; of shares held at the close before, that is, counted as they
            were before a split on the same day.
        base: the price that the day's limits are made from, JPY [D,N]; NaN until a name has a close before the day.
        limit_up, limit_down: the day's band, JPY [D,N]; NaN where `base` is.
        adv: median turnover of the 20 days that end with the day, JPY [D,N]: known at its close.
        sigma: standard deviation of the daily returns of the 20 days that end with the day [D,N].
        eligible: in the universe of the day [D,N].
        shortable: standard margin lending is allowed, as of the day [D,N].
        fine_tick: of the TOPIX names with the fine tick table, as of the day [D,N].
        sector: sector33 code as a number (3050), as of the day [D,N]; -1 unknown.
        last_day: the last row of a name that is delisted [D,N]. Never read by what decides.
        topix: daily return of TOPIX, price index [D]; NaN unknown.
        dividends_known: whether `dividend` was filled from records; without, results are of price returns.
    """

    dates: tuple[date, ...]
    codes: tuple[str, ...]
    open: Floats32
    high: Floats32
    low: Floats32
    close: Floats32
    value: Floats64
    adj_factor: Floats32
    dividend: Floats32
    base: Floats32
    limit_up: Floats32
    limit_down: Floats32
    adv: Floats64
    sigma: Floats32
    eligible: Flags
    shortable: Flags
    fine_tick: Flags
    sector: NDArray[np.int16]
    last_day: Flags
    topix: Floats64
    dividends_known: bool
