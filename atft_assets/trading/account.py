"""An account: cash, shares, dividends that are still to come, and what each event of a day does to them.

Raw prices, so a split changes the shares that are held and nothing else. Amounts are JPY. Arrays are [N], one a name.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from atft_assets.trading.costs import Costs
from atft_assets.trading.fills import Fills
from atft_assets.trading.market import Market
from atft_assets.trading.rules import LOT, as_printed

Floats = NDArray[np.float64]
Shares = NDArray[np.int64]

DIVIDEND_PAID_AFTER = 60  # trading days after the ex-date: of a record date at the end of March, late in June
_LARGEST_TERM = 1000  # of a split's ratio: stored factors have six digits


def split_ratio(adj_factor: float) -> Fraction:
    """Old shares to one new one, exactly: the factor of a 3-for-1 split is stored as 0.333333."""
    return Fraction(float(adj_factor)).limit_denominator(_LARGEST_TERM)


def whole_after_split(shares: int, ratio: Fraction) -> int:
    """Shares after a split, the fraction cut off; signed."""
    new = abs(shares) * ratio.denominator // ratio.numerator
    return new if shares >= 0 else -new


def orders_after_split(target: Shares, held: Shares, ratios: dict[int, Fraction], held_after: Shares) -> Shares:
    """Orders of an evening in the shares of the auction.

    Args:
        target, held: signed, in shares of the evening [N].
        ratios: of the names whose split is on the day of the auction, by place.
        held_after: holdings after the splits [N].

    Returns:
        Signed change [N]; of a name that is split whole lots, or the whole holding.
    """
    orders = target - held
    for i, ratio in ratios.items():
        if target[i] == 0:
            orders[i] = -held_after[i]
        elif target[i] != held[i]:
            change = whole_after_split(int(target[i]), ratio) - int(held_after[i])
            orders[i] = int(change / LOT) * LOT
    return orders


class Account:
    """State at a moment of a day.

    Attributes:
        shares: signed, int64.
        mark: last close of each name, brought to today's shares; NaN before the first.
        stale: days since the name traded, 0 for today.
        entry: row of the day on which the position was opened.
        basis: what was paid for what is held, costs included; of shares sold short what they brought, below zero.
        borrowed: fees so far of shares sold short.
        cash, receivable: JPY; of a short position the dividends are owed.
    """

    def __init__(self, names: int, cash: float):
        self.shares = np.zeros(names, np.int64)
        self.mark = np.full(names, np.nan)
        self.stale = np.zeros(names, np.uint16)
        self.entry = np.zeros(names, np.int64)
        self.basis, self.borrowed = np.zeros(names), np.zeros(names)
        self.cash, self.receivable = cash, 0.0
        self._to_come: dict[int, float] = {}

    @property
    def held(self) -> Shares:
        """Places of the names that are held."""
        return np.flatnonzero(self.shares)

    def value(self) -> float:
        """Of all shares by their marks."""
        held = self.held
        return math.fsum(self.shares[held] * self.mark[held])

    @property
    def nav(self) -> float:
        return self.cash + self.receivable + self.value()

    def take_dividends(self, dividend: NDArray[np.float32], t: int) -> float:
        """Credit dividends of an ex-date to what was held the evening before, and pay out those that are due.

        A price from before the ex-date is worth the dividend less.
        """
        paid = self._to_come.pop(t, 0.0)
        self.cash += paid
        self.receivable -= paid
        going = np.flatnonzero(dividend)
        amount = dividend[going].astype(np.float64)
        total = math.fsum(self.shares[going] * amount)
        self.mark[going] = np.maximum(self.mark[going] - amount, 0.0)
        if total:
            self.receivable += total
            self._to_come[t + DIVIDEND_PAID_AFTER] = total
        return total

    def split(self, adj_factor: NDArray[np.float32]) -> tuple[dict[int, Fraction], float]:
        """Bring shares and marks to those of an ex-date; fractions of a share are paid in cash, at the last price.

        Returns:
            the ratios by place, and what was paid for fractions.
        """
        ratios = {int(i): split_ratio(adj_factor[i]) for i in np.flatnonzero(adj_factor != 1)}
        fractions = 0.0
        for i, ratio in ratios.items():
            old, mark = int(self.shares[i]), self.mark[i]
            self.mark[i] = mark * ratio.numerator / ratio.denominator
            if old:
                self.shares[i] = whole_after_split(old, ratio)
                fractions += old * mark - int(self.shares[i]) * self.mark[i]
        self.cash += fractions
        return ratios, fractions

    def pay_borrow(self, costs: Costs, days: int) -> float:
        """Pay the fee for what was sold short over calendar days that have passed, by the marks of their first."""
        short = np.flatnonzero(self.shares < 0)
        if not len(short):
            return 0.0
        fees = costs.borrow(-self.shares[short] * self.mark[short], days)
        self.borrowed[short] += fees
        total = math.fsum(fees)
        self.cash -= total
        return total

    def settle(self, fills: Fills, t: int) -> Floats:
        """Book the fills of an auction; the borrow fees that belong to the shares bought back [N]."""
        traded = np.flatnonzero(fills.shares)
        change, before = fills.shares[traded], self.shares[traded]
        signed = np.sign(change) * fills.value[traded]
        self.cash -= math.fsum(signed + fills.costs[traded])
        fees = self._rebase(traded, change, signed + fills.costs[traded], t)
        self.shares[traded] = before + change
        return fees

    def _rebase(self, names: Shares, change: Shares, paid: Floats, t: int) -> Floats:
        """Carry basis, entry and borrow fees over a change of shares; the fees of what was bought back [N]."""
        before = self.shares[names]
        after = before + change
        closing = np.where(np.sign(before) == -np.sign(change), np.minimum(np.abs(before), np.abs(change)), 0)
        kept = 1 - closing / np.maximum(np.abs(before), 1)
        opening = 1 - closing / np.abs(change)
        fees = np.zeros(len(self.shares))
        fees[names] = self.borrowed[names] * (1 - kept)
        self.borrowed[names] *= kept
        self.basis[names] = self.basis[names] * kept + paid * opening
        opened = (before == 0) | (np.sign(after) == -np.sign(before))
        self.entry[names[opened]] = t
        return fees

    def mark_at(self, close: NDArray[np.float32]) -> None:
        """Take over the closes of the day; what did not trade keeps its mark."""
        traded = np.isfinite(close)
        self.mark = np.where(traded, as_printed(close), self.mark)
        self.stale = np.where(traded, 0, np.minimum(self.stale, 65_534) + 1).astype(np.uint16)

    def leave(self, names: Shares, haircut: float, t: int) -> Floats:
        """Leave names that are delisted at their last mark less a haircut; the borrow fees of those bought back [N]."""
        value = self.shares[names] * self.mark[names] * (1 - haircut)
        self.cash += math.fsum(value)
        fees = self._rebase(names, -self.shares[names], -value, t)
        self.shares[names] = 0
        return fees


def forced_exits(market: Market, t: int, account: Account) -> Shares:
    """Places of the names that are held and have their last row today."""
    return np.flatnonzero(market.last_day[t] & (account.shares != 0))
