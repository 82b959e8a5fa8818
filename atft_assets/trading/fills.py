"""Orders for an opening auction, and what of them is filled.

Decided on the evening of day t, filled at the open of t+1. Of t+1 the open and the band decide; what comes after the
open can only take away from a fill: the day's turnover by its cap, and a day of one price close to the limit, which
fills nothing on the losing side.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.trading.costs import Costs
from atft_assets.trading.market import Market
from atft_assets.trading.rules import LOT, SHORT_TRIGGER, as_printed, tick_size

REASONS = (
    "ok",
    "untraded",
    "limit_up",
    "limit_down",
    "locked",
    "volume_cap",
    "cash",
    "not_shortable",
    "short_restricted",
    "delisted",
)
OK, UNTRADED, LIMIT_UP, LIMIT_DOWN, LOCKED, VOLUME_CAP, CASH, NOT_SHORTABLE, SHORT_RESTRICTED, DELISTED = range(
    len(REASONS)
)

# a day of one price that is so far on its way to the limit is a locked one: bases of ex-dividend days, and those from a
# special quote, are not known to the yen
LOCKED_WAY = 0.8

Shares = NDArray[np.int64]
Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Orders:
    """What is ordered for an opening auction.

    Attributes:
        shares: signed change [N], int64; in shares after the split where the day of the auction is an ex-date.
        rank: priority of purchases when cash is short, 1 first [N]; equal ones by code, NaN last.
    """

    shares: Shares
    rank: NDArray[np.generic]


@dataclass(frozen=True)
class Fills:
    """What was filled, all [N]; zero where nothing was ordered or filled.

    Attributes:
        shares: signed, int64.
        price: JPY, the open; NaN where the name did not trade.
        value: shares x price, JPY, not negative.
        commission, half_spread, impact: JPY, not negative.
        reason: place in REASONS of the last that took from the order; `ok` where nothing did but the rounding to lots.
    """

    shares: Shares
    price: Floats
    value: Floats
    commission: Floats
    half_spread: Floats
    impact: Floats
    reason: Codes

    @property
    def costs(self) -> Floats:
        """All costs of each name, JPY [N]."""
        return self.commission + self.half_spread + self.impact

    @property
    def paid(self) -> float:
        """What purchases took from the account, costs included, JPY."""
        bought = self.shares > 0
        return math.fsum((self.value + self.costs)[bought])

    @property
    def received(self) -> float:
        """What sales brought, after costs, JPY."""
        sold = self.shares < 0
        return math.fsum((self.value - self.costs)[sold])

    def intraday_low(self, cash: float) -> float:
        """Cash if every purchase were paid before any sale: what the broker must bear for a moment, JPY."""
        return cash - self.paid


def fill(market: Market, t_fill: int, orders: Orders, holdings: Shares, cash: float, costs: Costs) -> Fills:
    """Fill the orders of an evening at the open of the next day.

    Sales come first and their proceeds, those of short sales too, count as cash for purchases in the same auction; then
    purchases in order of rank, each as many lots as the rest of the cash pays for with its costs. Fills are whole lots
    of 100 shares, but a whole holding may be sold, or a whole short position bought back, whatever its number. An order
    beyond the holding closes it and opens the rest.

    An order is cut to a share of the turnover that was usual on the evening, and of the day's own. To close a position
    one lot is small enough for the first of them, or a name that dried up could never be left.

    Args:
        t_fill: row of the auction in `market.dates`, 1 or later.
        holdings: signed shares before the auction [N], in shares after the split as well.
        cash: JPY.

    Raises:
        ValueError: shapes or the row do not fit the market.
    """
    _refuse_misfits(market, t_fill, orders, holdings)
    chosen = np.flatnonzero(orders.shares)
    auction = _Auction(market, t_fill, chosen, orders.shares[chosen], holdings[chosen], costs)
    filled, reason = auction.without_cash()
    filled, reason = auction.within_cash(filled, reason, orders.rank[chosen], cash)
    commission, half_spread, impact = auction.costs_of(filled)

    def of_all(values: NDArray[Any]) -> NDArray[Any]:
        array = np.zeros(len(market.codes), values.dtype)
        array[chosen] = values
        return array

    return Fills(
        shares=of_all(np.sign(auction.want) * filled),
        price=as_printed(market.open[t_fill]),
        value=of_all(auction.value_of(filled)),
        commission=of_all(commission),
        half_spread=of_all(half_spread),
        impact=of_all(impact),
        reason=of_all(reason),
    )


def _refuse_misfits(market: Market, t_fill: int, orders: Orders, holdings: Shares) -> None:
    names = (len(market.codes),)
    shapes = {"orders.shares": orders.shares.shape, "orders.rank": orders.rank.shape, "holdings": holdings.shape}
    if bad := {name: shape for name, shape in shapes.items() if shape != names}:
        raise ValueError(f"the market has {names[0]} names, but {bad}: give one value a name, in its order")
    if not 1 <= t_fill < len(market.dates):
        raise ValueError(
            f"t_fill is {t_fill}: orders are filled on a day from 1 to {len(market.dates) - 1}, after an evening that "
            "the market knows"
        )
    if not (np.issubdtype(orders.shares.dtype, np.integer) and np.issubdtype(holdings.dtype, np.integer)):
        raise ValueError("orders.shares and holdings are numbers of shares: give whole numbers (int64)")


class _Auction:
    """The ordered names [n] of one opening auction; shares are counted without sign, `want` has it."""

    def __init__(self, market: Market, t: int, chosen: Shares, want: Shares, held: Shares, costs: Costs):
        self.market, self.t, self.chosen, self.want, self.costs = market, t, chosen, want, costs
        self.buying = want > 0
        self.price = as_printed(market.open[t, chosen])
        self.adv = market.adv[t - 1, chosen]
        self.sigma = market.sigma[t - 1, chosen].astype(np.float64)
        self.tick = tick_size(self.price, market.dates[t], market.fine_tick[t, chosen])
        self.opposite = np.where(np.sign(held) == -np.sign(want), np.abs(held), 0)  # that the order would close
        self.closing = np.minimum(np.abs(want), self.opposite)
        self.opening = np.abs(want) - self.closing

    def value_of(self, shares: Shares, which: NDArray | slice = slice(None)) -> Floats:
        """JPY of so many shares at the open; 0 for none."""
        return np.where(shares > 0, shares * np.nan_to_num(self.price[which]), 0.0)

    def costs_of(self, shares: Shares, which: NDArray | slice = slice(None)) -> tuple[Floats, Floats, Floats]:
        """Commission, half-spread and impact of so many shares."""
        value = self.value_of(shares, which)
        return (
            self.costs.commission(value),
            self.costs.half_spread(value, self.price[which], self.tick[which], self.adv[which]),
            self.costs.market_impact(value, self.adv[which], self.sigma[which]),
        )

    def without_cash(self) -> tuple[Shares, Codes]:
        """Shares that the auction, the short-sale rules and the caps let through, with the reason for the rest."""
        blocked = self._blocked()
        let = np.where(blocked == OK, 1.0, 0.0)
        at_limit = np.isin(blocked, (LIMIT_UP, LIMIT_DOWN, LOCKED))
        let[at_limit] = self.costs.limit_fill
        closing, opening = np.floor(self.closing * let + 1e-9), np.floor(self.opening * let + 1e-9)
        refused = np.where(self.buying | (opening < LOT), OK, self._short_refusal())
        opening = np.where(refused == OK, opening, 0)
        free = self._in_lots(closing, opening)

        price = np.where(np.isfinite(self.price), self.price, 1.0)
        usual = np.nan_to_num(self.adv) * self.costs.participation_cap_adv / price
        day = self.market.value[self.t, self.chosen] * self.costs.participation_cap_day / price
        closing = np.minimum(closing, np.minimum(np.maximum(usual, LOT), day))
        opening = np.minimum(opening, np.maximum(np.minimum(usual, day) - closing, 0))
        filled = self._in_lots(closing, opening)

        reason = np.where(blocked != OK, blocked, refused)
        return filled, np.where(filled < free, VOLUME_CAP, reason).astype(np.uint8)

    def _in_lots(self, closing: Floats, opening: Floats) -> Shares:
        """Whole lots, and whole positions; nothing is opened before all is closed."""
        whole = closing >= self.opposite
        closed = np.where(whole, closing, np.floor(closing / LOT) * LOT)
        opened = np.where(whole, np.floor(opening / LOT) * LOT, 0)
        return (closed + opened).astype(np.int64)

    def _blocked(self) -> Codes:
        """Why nothing can be had at the open, as a place in REASONS; OK where it can."""
        market, t, n = self.market, self.t, self.chosen
        up, down, base = (as_printed(array[t, n]) for array in (market.limit_up, market.limit_down, market.base))
        one_price = (market.open[t, n] == market.close[t, n]) & (market.high[t, n] == market.low[t, n])
        at_limit = np.where(self.buying, self.price >= up, self.price <= down)
        moved, room = np.where(self.buying, (self.price - base, up - base), (base - self.price, base - down))
        reason = np.where(at_limit, np.where(self.buying, LIMIT_UP, LIMIT_DOWN), OK)
        reason[one_price & (moved >= LOCKED_WAY * room)] = LOCKED
        # without a base there is no band: the first day of a name, whose first price is made by other rules
        dark = np.flatnonzero(~np.isfinite(self.price) | ~np.isfinite(up))
        gone = market.last_day[:t, n[dark]].any(axis=0)
        reason[dark] = np.where(gone, DELISTED, UNTRADED)
        return reason.astype(np.uint8)

    def _short_refusal(self) -> Codes:
        """Why a name may not be sold short at the open; OK where it may."""
        market, evening, n = self.market, self.t - 1, self.chosen
        fell = as_printed(market.low[evening, n]) <= as_printed(market.base[evening, n]) * SHORT_TRIGGER + 1e-6
        # before the first price of a session an order is held against the base, the last close but for ex-dates
        restricted = fell & ~(self.price > as_printed(market.base[self.t, n]))
        return np.where(
            ~market.shortable[evening, n], NOT_SHORTABLE, np.where(restricted, SHORT_RESTRICTED, OK)
        ).astype(np.uint8)

    def within_cash(self, filled: Shares, reason: Codes, rank: NDArray, cash: float) -> tuple[Shares, Codes]:
        """The same with purchases cut to what the cash and the sales pay for, worst ranks first."""
        price = self.value_of(filled)
        costs = sum(self.costs_of(filled))
        sold = ~self.buying & (filled > 0)
        left = cash + math.fsum((price - costs)[sold])
        buyers = np.flatnonzero(self.buying & (filled > 0))
        codes = np.array([self.market.codes[place] for place in self.chosen[buyers]], dtype=str)
        buyers = buyers[np.lexsort((codes, rank[buyers]))]
        total = (price + costs)[buyers]
        filled, reason = filled.copy(), reason.copy()
        fits = int(np.searchsorted(np.cumsum(total), left, side="right"))
        left -= float(np.cumsum(total)[fits - 1]) if fits else 0.0
        for i, whole in zip(buyers[fits:], total[fits:], strict=True):
            if whole <= left:
                left -= whole
                continue
            filled[i], spent = self._affordable(int(i), int(filled[i]), left)
            reason[i] = CASH
            left -= spent
        return filled, reason

    def _affordable(self, i: int, most: int, left: float) -> tuple[int, float]:
        """The most shares of a name, in lots, that the cash pays for with its costs, and what they take."""
        if left < self.price[i] * min(LOT, self.opposite[i] or LOT):
            return 0, 0.0
        close = int(min(self.opposite[i], most))
        steps = np.concatenate([np.arange(0, close, LOT), close + np.arange(0, most - close + 1, LOT)]).astype(np.int64)
        at = np.full(len(steps), i)
        total = self.value_of(steps, at) + sum(self.costs_of(steps, at))
        place = int(np.searchsorted(total, left, side="right")) - 1
        return (int(steps[place]), float(total[place])) if place >= 0 else (0, 0.0)
