"""A day's order of names, made once and used many times: levels, ranks among any of the names, deciles.

A sort is the dear part of a rank correlation. A score is judged over many sets of names (those with a one-day return,
with a twenty-day return, the liquid ones …), so its values are sorted once into levels; ranks within a set of names
follow from counting.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Levels = NDArray[np.int32]

DECILES = 10
NOWHERE = -1  # level, group or decile of a name that has none


def levels_of(values: Floats) -> Levels:
    """Place of each value among the distinct values of its row.

    Args:
        values: [..., N]; NaN is missing.

    Returns:
        [..., N]; 0 is the lowest, equal values share a level, `NOWHERE` where missing.
    """
    order = np.argsort(values, axis=-1)  # NaN last
    ordered = np.take_along_axis(values, order, axis=-1)
    steps = np.zeros(values.shape, np.int32)
    steps[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    climbed = np.cumsum(steps, axis=-1, dtype=np.int32)
    climbed[np.isnan(ordered)] = NOWHERE
    levels = np.empty(values.shape, np.int32)
    np.put_along_axis(levels, order, climbed, axis=-1)
    return levels


def ranks_of(levels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Average ranks 1..n of levels [n], none of them `NOWHERE`; a level need not occur."""
    counts = np.bincount(levels)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[levels]


def ranks_within(levels: NDArray[np.integer], groups: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Average ranks 1..n among the names of the same group.

    Args:
        levels, groups: [n], none of them `NOWHERE`; groups are below `count`.
    """
    size = int(levels.max(initial=0)) + 1
    places = groups.astype(np.int64) * size + levels
    counts = np.bincount(places, minlength=count * size)
    last = np.cumsum(counts)
    before = np.concatenate([[0], last[size - 1 :: size][:-1]])  # names of the groups before
    return (last - (counts - 1) / 2)[places] - before[groups]


def deciles_of(ranks: NDArray[np.floating], count: int = DECILES) -> NDArray[np.int8]:
    """Decile of each name by its rank, 0 the lowest.

    A name belongs by the middle of its rank, (rank - 1/2) / n. One that lies exactly between two goes to that which is
    nearer to the middle, so that the deciles of the negated score are the same ones in reverse (of an odd number of
    names the middle one alone excepted). Tied names share a decile.

    Args:
        ranks: average ranks 1..n [n].
    """
    share, whole = count * (2 * np.rint(2 * ranks).astype(np.int64) - 2), 4 * len(ranks)  # both times 4 n: exact
    found, rest = np.divmod(share, max(whole, 1))
    found -= (rest == 0) & (2 * share > count * whole)
    return found.astype(np.int8)


def spread_of(deciles: NDArray[np.integer], returns: Floats, count: int = DECILES) -> float:
    """Mean return of the highest decile minus that of the lowest, both [n]; NaN if either is empty (all tied)."""
    top, bottom = deciles == count - 1, deciles == 0
    if not top.any() or not bottom.any():
        return float("nan")
    return float(returns[top].mean() - returns[bottom].mean())


def decile_means(deciles: NDArray[np.integer], returns: Floats, count: int = DECILES) -> NDArray[np.float64]:
    """Mean return of each decile beyond the mean of all the names [count]; NaN where a decile is empty."""
    held = np.bincount(deciles, minlength=count)
    total = np.bincount(deciles, weights=returns - returns.mean(), minlength=count)
    return np.where(held > 0, total / np.maximum(held, 1), np.nan)
