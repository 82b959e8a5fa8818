"""What a strategy is held against: the equal-weight universe and TOPIX, each with what it may be compared with.

A strategy whose returns hold dividends is not compared with a price index, nor one that weights its names alike with a
cap-weighted index alone: either difference is worth percents a year that have nothing to do with the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from atft_assets.failures import Refusal
from atft_assets.trading.market import Market

Floats = NDArray[np.float64]
_CHUNK = 64  # days at a time, which keeps temporary arrays small


class Kind(StrEnum):
    """Whether returns hold dividends."""

    PRICE = "price"
    TOTAL = "total"


class Weighting(StrEnum):
    """How the names of a portfolio are weighted."""

    EQUAL = "equal"
    CAP = "cap"


class NotComparable(Refusal):
    """A strategy and its yardsticks differ in kind; the text says how to mend it."""


@dataclass(frozen=True)
class Yardstick:
    """Daily returns of something to compare with.

    Attributes:
        returns: decimal, one a day of what it is compared with [D]; NaN unknown.
    """

    name: str
    kind: Kind
    weighting: Weighting
    returns: Floats


def kind_of(market: Market) -> Kind:
    """What a ledger over a market returns."""
    return Kind.TOTAL if market.dividends_known else Kind.PRICE


def equal_weight_returns(market: Market, among: NDArray[np.bool_] | None = None) -> Floats:
    """Mean return of each day over the names that were in the universe the evening before [D]; NaN on the first.

    From close to close, dividends included where they are known; a name that does not trade stands still, and one that
    is delisted leaves at its last close.

    Args:
        among: other names of each evening [D,N]; default: the universe.
    """
    days, among = len(market.dates), market.eligible if among is None else among
    returns = np.full(days, np.nan)
    for start in range(1, days, _CHUNK):
        rows = slice(start, min(start + _CHUNK, days))
        factor, paid = (array[rows].astype(np.float64) for array in (market.adj_factor, market.dividend))
        last = market.base[rows] / factor + paid  # the last close before the day, in its own shares
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = (market.close[rows] / factor + paid) / last - 1
        held = among[start - 1 : rows.stop - 1]
        moved = np.where(held & np.isfinite(moved), moved, 0.0)
        count = held.sum(axis=1)
        returns[rows] = np.where(count > 0, moved.sum(axis=1) / np.maximum(count, 1), np.nan)
    return returns


def equal_weight(market: Market, equal: Floats | None = None) -> Yardstick:
    """The equal-weight universe, rebalanced every day and free of costs."""
    returns = equal_weight_returns(market) if equal is None else equal
    return Yardstick("equal-weight universe", kind_of(market), Weighting.EQUAL, returns)


def within_reach(market: Market, scores: NDArray[np.float32], liquid_only: bool) -> NDArray[np.bool_]:
    """The names that a rule may choose from on each evening [D,N], as `selection.evening_of` has them.

    Names that trade little earn more on paper, at closes at which nobody could have bought them all; against the whole
    universe a rule that leaves them out is charged for them.

    Args:
        scores: [D,N], NaN for none.
        liquid_only: of the rule.
    """
    found = market.eligible & np.isfinite(scores) & np.isfinite(market.close)
    if liquid_only:
        for t in range(len(found)):
            known = market.adv[t, market.eligible[t] & np.isfinite(market.adv[t])]
            found[t] &= market.adv[t] >= (np.median(known) if known.size else np.inf)  # False where NaN
    return found


def topix(market: Market) -> Yardstick:
    """TOPIX, the price index."""
    return Yardstick("TOPIX", Kind.PRICE, Weighting.CAP, market.topix)


def low_volatility_scores(market: Market) -> NDArray[np.float32]:
    """The rule that prefers what moves little: scores [D,N], NaN outside of the universe."""
    return np.where(market.eligible, -market.sigma, np.float32(np.nan)).astype(np.float32)


def refuse_unlike(kind: Kind, weighting: Weighting, yardsticks: Sequence[Yardstick]) -> None:
    """Refuse to compare what differs in kind.

    Args:
        kind, weighting: of the strategy.

    Raises:
        NotComparable: a yardstick is of the other kind, or all of them are cap-weighted beside a strategy that is not.
    """
    other = [one.name for one in yardsticks if one.kind is not kind]
    if other:
        raise NotComparable(
            f"the strategy's returns are {kind} returns, those of {', '.join(other)} are not: take the yardstick's "
            f"{kind}-return series, or the strategy's returns without dividends"
        )
    if weighting is Weighting.EQUAL and yardsticks and all(one.weighting is Weighting.CAP for one in yardsticks):
        raise NotComparable(
            "a strategy that weights its names alike is held against cap-weighted indices only: the difference in "
            "weighting alone is worth percents a year; add the equal-weight universe"
        )
