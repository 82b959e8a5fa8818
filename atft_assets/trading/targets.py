"""From the scores of an evening and what is held to what should be held: weights, then shares, within all caps.

Functions of one evening, which read row t of a market and no other. Arrays are [N], one value a name. Weights are
shares of the net asset value by the closes of the evening.
"""

from dataclasses import dataclass

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

    @property
    def weights(self) -> Floats:
        """Signed, by the last closes [N]."""
        return self.shares * self.unit

    @property
    def unit(self) -> Floats:
        """Weight of one share [N]; 0 without a price."""
        return np.nan_to_num(self.price) / self.nav


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
    evening = evening_of(market, t, scores, rule, book.price * LOT / book.nav, book.nav)
    wanted = target_weights(evening, scores, book, rule, due)
    shares, by_turnover, by_usual = _within_caps(evening, wanted, book, rule)
    reason = wanted.reason.copy()
    reason[by_usual & (np.abs(wanted.weights) > np.abs(book.weights))] = CAP_ADV
    if rule.fill_lots and rule.side is BookSide.LONG:
        shares = _with_further_lots(evening, wanted, shares, book, rule)
    empty = (shares == 0) & (book.shares == 0)
    unseen = empty & np.isin(reason, (ENTER,))
    too_dear = unseen & (np.abs(wanted.weights) < evening.lot)
    reason[unseen] = NO_REASON
    reason[too_dear] = LOT_ZERO
    return Decision(shares, shares * book.unit, reason, evening.rank, by_turnover | by_usual)


def target_weights(evening: Evening, scores: NDArray[np.float32], book: Book, rule: Rule, due: Flags) -> Wanted:
    """Weights that the rule wants, before lots and before what an evening may trade."""
    if rule.kappa is not None:
        return optimal_weights(evening, scores, book.weights, rule, due, rule.kappa)
    return (top_names if rule.side is BookSide.LONG else sector_deciles)(evening, book.weights, rule, due)


def target_shares(weights: Floats, book: Book) -> Shares:
    """Weights as shares: whole lots, rounded towards none.

    A weight that is that of the holding keeps its shares, odd ones included; another keeps the odd remainder, for no
    auction would take it, as long as any of the name is held.

    Returns:
        signed, int64 [N].
    """
    unit = book.unit
    wanted = np.where(unit > 0, np.abs(weights) / np.where(unit > 0, unit, 1.0), 0.0)
    held = np.where(np.sign(weights) == np.sign(book.shares), np.abs(book.shares), 0)
    odd = held % LOT
    lots = np.floor((wanted - odd) / LOT + 1e-6) * LOT + odd
    found = np.where(np.abs(wanted - held) < 0.5, held, np.where(lots > odd, lots, 0))
    return (np.sign(weights) * found).astype(np.int64)


def _within_caps(evening: Evening, wanted: Wanted, book: Book, rule: Rule) -> tuple[Shares, Flags, Flags]:
    """Shares after orders that the caps let through; which were cut by turnover, and which by the name's own turnover.

    Reductions come first: they are what further purchases are paid from.
    """
    unit, held = book.unit, np.abs(book.shares)
    side = np.where(book.shares != 0, np.sign(book.shares), np.sign(wanted.weights)).astype(np.int64)
    want = np.maximum(side * target_shares(wanted.weights, book), 0)
    usual = np.where(unit > 0, np.floor(evening.reach / np.where(unit > 0, unit, 1.0) / LOT + 1e-6) * LOT, 0)
    less, more = np.maximum(held - want, 0), np.maximum(want - held, 0)
    less_let, more_let = np.minimum(less, np.maximum(usual, LOT)), np.minimum(more, usual)
    by_usual = (less_let < less) | (more_let < more)

    left, by_turnover = [], np.zeros(len(unit), bool)
    reduced = np.zeros(len(unit))
    for sign in (1, -1):  # sales of what is held, and purchases of what was sold short
        amount = np.where(side == sign, less_let, 0)
        order = np.lexsort((-evening.rank if sign == 1 else evening.rank, ~wanted.forced))
        let = _cut_in_order(amount, unit, order[amount[order] > 0], rule.turnover_cap)
        by_turnover |= let < amount
        reduced += let
        left.append(rule.turnover_cap - float(let @ unit))
    after = held - reduced
    free = max(rule.gross - float(after @ unit), 0.0)
    if rule.side is BookSide.LONG:
        order = np.argsort(evening.rank, kind="stable")
        order = order[more_let[order] > 0]
        paid = _cut_in_order(more_let, unit, order, free)
        let = _cut_in_order(paid, unit, order, rule.turnover_cap)
        by_turnover |= let < paid
    else:
        grown = [float(np.where(side == sign, more_let, 0) @ unit) for sign in (1, -1)]
        traded = min(left[1] / max(grown[0], left[1], _ROUND_OFF), left[0] / max(grown[1], left[0], _ROUND_OFF))
        paid = more_let if sum(grown) <= free else np.floor(more_let * free / sum(grown) / LOT + 1e-6) * LOT
        let = paid if traded >= 1 else np.floor(paid * traded / LOT + 1e-6) * LOT
        by_turnover |= let < paid
    return (side * (after + let)).astype(np.int64), by_turnover, by_usual


def _cut_in_order(amount: Floats, unit: Floats, order: Shares, budget: float) -> Floats:
    """Shares of each name, in order, until the budget, a weight, is used up; what is cut is cut to whole lots."""
    let = np.zeros(len(amount))
    weight = amount[order] * unit[order]
    rest = budget - (np.cumsum(weight) - weight)
    whole = weight <= rest + _ROUND_OFF
    part = np.floor(np.maximum(rest, 0) / np.maximum(unit[order], _ROUND_OFF) / LOT) * LOT
    let[order] = np.where(whole, amount[order], np.minimum(part, amount[order]))
    return let


def _with_further_lots(evening: Evening, wanted: Wanted, shares: Shares, book: Book, rule: Rule) -> Shares:
    """Spend what rounding down left of tonight's purchases on one more lot of a name, the best ranks first.

    A name gets one where it would have none, or where that brings it nearer to its weight; never beyond a cap.
    """
    unit, shares = book.unit, shares.copy()
    bought = (wanted.weights > book.weights + _ROUND_OFF) & (evening.lot > 0)
    names = np.flatnonzero(bought)
    rest = float((wanted.weights - shares * unit)[names].sum())
    rest = min(rest, rule.gross - float(shares @ unit))
    rest = min(rest, rule.turnover_cap - float(np.maximum(shares - book.shares, 0) @ unit))
    sector_weight = np.bincount(evening.sector, shares * unit, minlength=len(evening.share))
    for i in names[np.argsort(evening.rank[names], kind="stable")]:
        lot, more = evening.lot[i], (shares[i] + LOT) * unit[i]
        allowed = (
            lot <= rest + _ROUND_OFF
            and more <= rule.name_cap + _ROUND_OFF
            and (shares[i] == 0 or more <= (1 + rule.drift_band / 2) * wanted.weights[i])
            and (shares[i] - book.shares[i] + LOT) * unit[i] <= evening.reach[i] + _ROUND_OFF
            and sector_weight[evening.sector[i]] + lot
            <= evening.share[evening.sector[i]] + rule.sector_band + _ROUND_OFF
        )
        if allowed:
            shares[i] += LOT
            rest -= lot
            sector_weight[evening.sector[i]] += lot
    return shares
