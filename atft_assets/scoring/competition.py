"""The figure of the JPX Tokyo Stock Exchange Prediction competition (Kaggle, 2022), which people in Tokyo know."""

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.ordering import Floats, Levels
from atft_model.interchange.horizons import MIN_NAMES

NAMES = 200  # on each side


def jpx_spread(scores: NDArray[np.number], returns: Floats, names: int = NAMES) -> float:
    """A day's spread: the highest names less the lowest, weights falling from 2 to 1 and divided by their mean.

    Args:
        scores, returns: [n], without NaN; equal scores count in the order in which they stand. The returns run from the
            close of t+1 to that of t+2.
        names: on each side.
    """
    weights = np.linspace(2, 1, names)
    best = np.argsort(-scores, kind="stable")
    long, short = returns[best[:names]], returns[best[::-1][:names]]
    return float((weights @ long - weights @ short) / weights.mean())


def jpx_figure(ranking: Levels, day_after_next: Floats, names: int = NAMES) -> tuple[float, int]:
    """Mean over standard deviation (ddof 1) of the daily spreads, not annualised, and the names on each side.

    Args:
        ranking: [D,N].
        day_after_next: [D,N] returns from t+1 to t+2, NaN where unknown.
        names: on each side; half of a day's names where it has fewer than twice as many.

    Returns:
        NaN below three days, or without variation. Of the names the fewest of a day; 0 without a day.
    """
    spreads, sides = [], []
    for order, returns in zip(ranking, day_after_next, strict=True):
        rows = (order >= 0) & np.isfinite(returns)
        if rows.sum() >= MIN_NAMES:
            sides.append(min(names, int(rows.sum()) // 2))
            spreads.append(jpx_spread(order[rows], returns[rows].astype(np.float64), sides[-1]))
    deviation = float(np.std(spreads, ddof=1)) if len(spreads) > 2 else 0.0
    return (float(np.mean(spreads)) / deviation if deviation > 1e-12 else float("nan")), min(sides, default=0)
