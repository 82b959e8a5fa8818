"""How long a ranking lasts: its autocorrelation and half-life, what of a book must be traded, what a trade may cost."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets.scoring.daily import daily_spearman
from atft_assets.scoring.ordering import Floats, Levels


def drifted(weights: Floats, returns: Floats) -> Floats:
    """Weights of a book after its names have moved, w (1 + r) / (1 + sum of w r), both [n]."""
    return weights * (1 + returns) / (1 + weights @ returns)


def one_way_turnover(weights: Floats, returns: Floats, wanted: Floats) -> float:
    """Share of a book that must be sold, and as much bought, to come from where it drifted to what is wanted, all [n].

    Half the sum of the absolute differences. Against weights that did not drift it would be another, wrong figure.
    """
    return float(np.abs(wanted - drifted(weights, returns)).sum() / 2)


def held_turnover(members: NDArray[np.bool_], returns: Floats, days: int) -> NDArray[np.float64]:
    """One-way turnover of equal weights in the members when they are chosen anew after some days.

    Args:
        members: [D,N].
        returns: [D,N] of the `days` days after each day; a name without one keeps its price.

    Returns:
        [D - days]; NaN where there was nobody to hold.
    """
    found = np.full(max(len(members) - days, 0), np.nan)
    for d in range(len(found)):
        old, new = members[d], members[d + days]
        if old.any() and new.any():
            found[d] = one_way_turnover(old / old.sum(), np.nan_to_num(returns[d].astype(np.float64)), new / new.sum())
    return found


def break_even(gross: float, turnover: float) -> float:
    """Cost per traded yen at which nothing is left of a gross return; all sold is bought again, hence twice.

    Args:
        gross, turnover: return, and one-way turnover, of the same span of time.
    """
    return gross / (2 * turnover) if turnover > 0 else float("nan")


def half_life(series: ArrayLike) -> float:
    """Lags in which a decaying series [K] of the lags 1..K halves, by a straight line through the logarithms.

    Values that are not positive have no logarithm and are left out.

    Returns:
        NaN with fewer than two positive values; infinity if it does not fall.
    """
    values = np.asarray(series, np.float64)
    lags = np.flatnonzero(values > 0) + 1  # False where NaN
    if len(lags) < 2:
        return float("nan")
    slope = np.polyfit(lags, np.log(values[lags - 1]), 1)[0]
    return float(np.log(0.5) / slope) if slope < -1e-12 else float("inf")


def rank_autocorrelation(levels: Levels, lags: int) -> NDArray[np.float64]:
    """Mean rank correlation of a day's order [D,N] with that of 1..lags days later, over their common names [lags]."""
    found = np.full(lags, np.nan)
    for k in range(1, min(lags, len(levels) - 1) + 1):
        daily = daily_spearman(levels[:-k], levels[k:])
        if np.isfinite(daily).any():
            found[k - 1] = np.nanmean(daily)
    return found
