"""From the scores of an evening and what is held to what should be held: weights, then shares, within all caps.

Functions of one evening, which read row t of a market and no other. Arrays are [N], one value a name. Weights are
shares of the net asset value by the closes of the evening.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from atft_assets.calendar import FIRST_DAY, trading_days
from atft_assets.trading.market import Market
from atft_assets.trading.optimise import optimal_weights
from atft_assets.trading.policy import (
    CAP_ADV,
    ENTER,
    LOT_ZERO,
    NO_REASON,
    BookSide,
    Rule,
    sub_books,
)
from atft_assets.trading.rules import LOT
from atft_assets.trading.selection import Evening, Flags, Floats, Wanted, evening_of, sector_deciles, top_names

Shares = NDArray[np.int64]
_ROUND_OFF = 1e-9


@dataclass(frozen=True)
class Book:
    """What is held on an evening.

    Attributes:
        shares: signed [N].
        price: last close of each name, JPY [N]; NaN of names that have none, which cannot be held.
        nav: net asset value that may be invested, JPY: without dividends that were not paid yet.
    """

    shares: Shares
    price: Floats
    nav: float

    @cached_property
    def unit(self) -> Floats:
        """Weight of one share [N]; 0 without a price."""
        return np.where(np.isfinite(self.price), self.price, 0.0) / self.nav

    @property
    def weights(self) -> Floats:
        """Signed, by the last closes [N]."""
        return self.shares * self.unit


@dataclass(frozen=True)
class Decision:
    """What an evening decided.

    Attributes:
        shares: signed, to be held after the next auction [N]; in shares of the evening, before any split of tomorrow.
        weights: of these [N].
        reason: place in `policy.REASONS` [N]; NO_REASON where a name is neither held nor wanted.
        rank: 1 + number of candidates with a better score [N]; infinite without a score.
        unfinished: what is wanted is more than caps let an evening order: tomorrow decides again [N].
    """

    shares: Shares
    weights: Floats
    reason: NDArray[np.int8]
    rank: Floats
    unfinished: Flags


def due_names(market: Market, t: int, rule: Rule, unfinished: Flags) -> Flags:
    """Names about which the evening of day t decides: the sub-book whose turn it is, and orders that were not filled.

    Args:
        unfinished: names that were not brought to what was wanted of them the evening before [N].
    """
    turn = (len(trading_days(FIRST_DAY, market.dates[t])) - 1) % rule.tranches
    return (sub_books(market.codes, rule.tranches) == turn) | unfinished


def decide(
    market: Market, t: int, scores: NDArray[np.float32], book: Book, rule: Rule, unfinished: Flags | None = None
) -> Decision:
    """What to hold after the auction of the day after t.

    Args:
        scores: higher is better, NaN for none [N].
        unfinished: names whose last order was cut or not filled whole; default: none.

    Raises:
        ValueError: shapes that do not fit the market, or a net asset value that is not positive.
    """
    names = (len(market.codes),)
    if not scores.shape == book.shares.shape == book.price.shape == names:
        raise ValueError(
            f"the market has {names[0]} names, but scores are {scores.shape}, shares {book.shares.shape} and prices "
            f"{book.price.shape}: give one value a name, in its order"
        )
    if not book.nav > 0:
        raise ValueError(f"a book of {book.nav} JPY cannot be invested")
    due = due_names(market, t, rule, np.zeros(names, bool) if unfinished is None else unfinished)
    held = book.weights
    evening = evening_of(market, t, scores, rule, book.unit, book.nav)
    wanted = target_weights(evening, scores, held, rule, due)
    trade = _Trade(evening, wanted, book, np.flatnonzero((book.shares != 0) | (wanted.weights != 0)), rule)
    shares, by_turnover, by_usual = trade.within_caps()
    if rule.fill_lots and rule.side is BookSide.LONG:
        shares = trade.with_further_lots(shares)
    reason = wanted.reason.copy()
    reason[trade.names] = trade.reasons(shares, by_usual)
    found, cut = np.zeros(names, np.int64), np.zeros(names, bool)
    found[trade.names], cut[trade.names] = shares, by_turnover | by_usual
    return Decision(found, found * book.unit, reason, evening.rank, cut)


def target_weights(evening: Evening, scores: NDArray[np.float32], held: Floats, rule: Rule, due: Flags) -> Wanted:
    """Weights that the rule wants, before lots and before what an evening may trade.

    Args:
        held: signed weights of what is held [N].
        due: names about which the evening decides [N].
    """
    if rule.kappa is not None:
        return optimal_weights(evening, scores, held, rule, due, rule.kappa)
    return (top_names if rule.side is BookSide.LONG else sector_deciles)(evening, held, rule, due)


def target_shares(weights: Floats, unit: Floats, held: Shares) -> Shares:
    """Weights as shares: whole lots, rounded towards none.

    A weight that is that of the holding keeps its shares, odd ones included; another keeps the odd remainder, for no
    auction would take it, as long as any of the name is held.

    Args:
        weights: signed [n].
        unit: weight of one share, 0 without a price [n].
        held: signed shares [n].

    Returns:
        signed, int64 [n].
    """
    wanted = np.abs(weights) * _per(unit)
    same = np.where(np.sign(weights) == np.sign(held), np.abs(held), 0)
    odd = same % LOT
    lots = np.floor((wanted - odd) / LOT + 1e-6) * LOT + odd
    found = np.where(np.abs(wanted - same) < 0.5, same, np.where(lots > odd, lots, 0))
    return (np.sign(weights) * found).astype(np.int64)


def _per(unit: Floats) -> Floats:
    """Shares that make up the whole net asset value; 0 without a price."""
    return np.where(unit > 0, 1 / np.where(unit > 0, unit, 1.0), 0.0)


class _Trade:
    """The names that are held or wanted [n], on the way from wanted weights to shares.

    Shares are counted without sign on the way; `side` has it.
    """

    def __init__(self, evening: Evening, wanted: Wanted, book: Book, names: Shares, rule: Rule):
        self.rule, self.names = rule, names
        self.unit, self.before = book.unit[names], book.shares[names]
        self.weights, self.forced, self.reason = wanted.weights[names], wanted.forced[names], wanted.reason[names]
        self.precedence, self.reach = evening.precedence[names], evening.reach[names]
        self.sector, self.highest = evening.sector[names], evening.share + rule.sector_band
        self.side = np.where(self.before != 0, np.sign(self.before), np.sign(self.weights)).astype(np.int64)

    def within_caps(self) -> tuple[Shares, Flags, Flags]:
        """Signed shares after orders that the caps let through; which were cut by turnover, which by the name's own.

        Reductions come first: they are what further purchases are paid from.
        """
        unit, held, cap = self.unit, np.abs(self.before), self.rule.turnover_cap
        want = np.maximum(self.side * target_shares(self.weights, unit, self.before), 0)
        usual = np.floor(self.reach * _per(unit) / LOT + 1e-6) * LOT
        less, more = np.maximum(held - want, 0), np.maximum(want - held, 0)
        less_let, more_let = np.minimum(less, np.maximum(usual, LOT)), np.minimum(more, usual)
        by_usual = (less_let < less) | (more_let < more)

        # sales of what is held, worst first, and purchases of what was sold short, best first
        reduced, left = np.zeros(len(unit)), []
        for sign in (1, -1):
            mine = np.flatnonzero((self.side == sign) & (less_let > 0))
            order = mine[np.lexsort((-sign * self.precedence[mine], ~self.forced[mine]))]
            let = self._cut(less_let, order, cap)
            reduced += let
            left.append(cap - float(let @ unit))
        after = held - reduced
        free = max(self.rule.gross - float(after @ unit), 0.0)
        if self.rule.side is BookSide.LONG:
            buying = np.flatnonzero(more_let > 0)
            order = buying[np.argsort(self.precedence[buying])]
            more_let = self._within_sectors(more_let, after, order)
            paid = self._cut(more_let, order, free)
            let = self._cut(paid, order, cap)
        else:
            paid, let = self._in_step(more_let, free, bought=left[1], sold=left[0])
        by_turnover = (reduced < less_let) | (let < paid)
        return (self.side * (after + let)).astype(np.int64), by_turnover, by_usual

    def _cut(self, amount: Floats, order: Shares, budget: float) -> Floats:
        """Shares of the names in `order`, until the budget, a weight, is used up; what is cut is cut to whole lots."""
        let = np.zeros(len(amount))
        weight = amount[order] * self.unit[order]
        rest = budget - (np.cumsum(weight) - weight)
        part = np.floor(np.maximum(rest, 0) * _per(self.unit[order]) / LOT + 1e-6) * LOT
        let[order] = np.where(weight <= rest + _ROUND_OFF, amount[order], np.minimum(part, amount[order]))
        return let

    def _within_sectors(self, amount: Floats, after: Floats, order: Shares) -> Floats:
        """Purchases that leave each sector within its band, whatever of it could not be sold.

        Args:
            after: shares before purchases.
        """
        room = self.highest - np.bincount(self.sector, after * self.unit, minlength=len(self.highest))
        asked = np.bincount(self.sector, amount * self.unit, minlength=len(self.highest))
        for sector in np.flatnonzero((asked > 0) & (asked > room + _ROUND_OFF)):
            mine = order[self.sector[order] == sector]
            amount = np.where(self.sector == sector, self._cut(amount, mine, float(room[sector])), amount)
        return amount

    def _in_step(self, more: Floats, free: float, bought: float, sold: float) -> tuple[Floats, Floats]:
        """Both sides of a long-short book grow alike: what may be paid for, and of that what turnover lets.

        Args:
            free: weight that may be added, bought and sold: what turnover leaves for either.
        """
        long, short = (float(np.where(self.side == sign, more, 0) @ self.unit) for sign in (1, -1))

        def scaled(amount: Floats, by: float) -> Floats:
            return amount if by >= 1 else np.floor(amount * by / LOT + 1e-6) * LOT

        paid = scaled(more, free / max(long + short, _ROUND_OFF))
        by = min(max(bought, 0) / max(long, _ROUND_OFF), max(sold, 0) / max(short, _ROUND_OFF))
        return paid, scaled(paid, by)

    def with_further_lots(self, shares: Shares) -> Shares:
        """Spend what rounding down left of tonight's purchases on one more lot of a name, the best ranks first.

        A name gets one where it would have none, or where that brings it nearer to its weight; never beyond a cap.
        """
        rule, unit, shares = self.rule, self.unit, shares.copy()
        names = np.flatnonzero((self.weights > self.before * unit + _ROUND_OFF) & (unit > 0))
        rest = min(
            float((self.weights - shares * unit)[names].sum()),
            rule.gross - float(shares @ unit),
            rule.turnover_cap - float(np.maximum(shares - self.before, 0) @ unit),
        )
        total = np.bincount(self.sector, shares * unit, minlength=len(self.highest))
        for i in names[np.argsort(self.precedence[names])]:
            lot, more, sector = LOT * unit[i], (shares[i] + LOT) * unit[i], self.sector[i]
            allowed = (
                lot <= rest + _ROUND_OFF
                and more <= rule.name_cap + _ROUND_OFF
                and (shares[i] == 0 or more <= (1 + rule.drift_band / 2) * self.weights[i])
                and more - self.before[i] * unit[i] <= self.reach[i] + _ROUND_OFF
                and total[sector] + lot <= self.highest[sector] + _ROUND_OFF
            )
            if allowed:
                shares[i] += LOT
                rest -= lot
                total[sector] += lot
        return shares

    def reasons(self, shares: Shares, by_usual: Flags) -> NDArray[np.int8]:
        """Reasons of the wanted weights, where caps and lots did not have the last word [n]."""
        reason = self.reason.copy()
        reason[by_usual & (np.abs(self.weights) > np.abs(self.before) * self.unit)] = CAP_ADV
        unseen = (shares == 0) & (self.before == 0) & (reason == ENTER)
        reason[unseen] = np.where(np.abs(self.weights[unseen]) < LOT * self.unit[unseen], LOT_ZERO, NO_REASON)
        return reason
