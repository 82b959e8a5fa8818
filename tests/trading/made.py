"""Small hand-made markets for the tests of the room."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import ArrayLike

from atft_assets.calendar import trading_days
from atft_assets.trading.derived import derive
from atft_assets.trading.loading import last_rows
from atft_assets.trading.market import Market

FIRST = date(2021, 6, 7)  # a Monday; no record date within three weeks


def made_market(
    close: ArrayLike,
    *,
    open: ArrayLike | None = None,
    high: ArrayLike | None = None,
    low: ArrayLike | None = None,
    value: ArrayLike = 1e9,
    adv: ArrayLike | None = 1e9,
    sigma: ArrayLike | None = 0.02,
    adj_factor: ArrayLike = 1.0,
    dividend: ArrayLike = 0.0,
    eligible: ArrayLike = True,
    shortable: ArrayLike = True,
    fine_tick: ArrayLike = False,
    sector: ArrayLike = 3050,
    listed: ArrayLike = True,
    topix: ArrayLike = 0.0,
    dividends_known: bool = False,
    first: date = FIRST,
    codes: Sequence[str] | None = None,
) -> Market:
    """A market of consecutive trading days whose bands follow from its prices.

    Args:
        close: [D,N], NaN where a name does not trade; then its other prices are NaN and its turnover 0.
        open, high, low: default: one price a day, and around what is given.
        value, ... topix: anything that broadcasts to [D,N] (topix: [D]).
        adv, sigma: None: computed from the market's own days, else given, for few days hold none.
    """
    close = np.asarray(close, np.float32)
    shape = close.shape
    dark = np.isnan(close)

    def spread(given: ArrayLike, kind: str) -> np.ndarray:
        return np.broadcast_to(np.asarray(given), shape).astype(kind)

    def prices(given: ArrayLike | None, default: np.ndarray) -> np.ndarray:
        array = default if given is None else spread(given, "f4")
        return np.where(dark, np.float32(np.nan), array).astype(np.float32)

    opened = prices(open, close)
    high = prices(high, np.maximum(opened, close))
    low = prices(low, np.minimum(opened, close))
    days = trading_days(first, first + timedelta(days=2 * shape[0] + 20))[: shape[0]]
    turnover = np.where(dark, 0.0, spread(value, "f8"))
    factor, paid, fine = spread(adj_factor, "f4"), spread(dividend, "f4"), spread(fine_tick, "?")
    rows = spread(listed, "?")
    found = derive(days, (opened, high, low, close), turnover, factor, paid, fine, rows)
    market = Market(
        dates=tuple(days),
        codes=tuple(codes or (f"{1000 + n}0" for n in range(shape[1]))),
        open=opened,
        high=high,
        low=low,
        close=close,
        value=turnover,
        adj_factor=factor,
        dividend=paid,
        base=found.base,
        limit_up=found.limit_up,
        limit_down=found.limit_down,
        adv=found.adv,
        sigma=found.sigma,
        eligible=spread(eligible, "?"),
        shortable=spread(shortable, "?"),
        fine_tick=fine,
        sector=spread(sector, "i2"),
        last_day=last_rows(rows),
        topix=np.broadcast_to(np.asarray(topix, np.float64), shape[:1]).copy(),
        dividends_known=dividends_known,
    )
    if adv is not None:
        market = replace(market, adv=spread(adv, "f8"))
    return market if sigma is None else replace(market, sigma=spread(sigma, "f4"))
