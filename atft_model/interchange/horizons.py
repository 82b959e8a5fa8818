"""What is forecast: horizons in trading days, their weights in the headline figure, and the least that a day needs.

The headline is a weighted mean over the horizons. A day has a headline figure only if every horizon has one: on the
last days of a block the longer labels are still open, and a mean over the rest would be another quantity under the same
name (the one-day figure is usually the largest). The mean of a horizon is taken over its own days.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

HORIZONS = (1, 5, 10, 20)
LABELS = ("y_cc", "y_oo")  # close to close; from the next open to the open h days after it

HORIZON_WEIGHTS: Mapping[int, float] = {1: 1.0, 5: 0.8, 10: 0.6, 20: 0.4}

MIN_NAMES = 10  # a day with fewer names has no correlation


def horizon_weights(horizons: Sequence[int]) -> NDArray[np.float64]:
    """Weights of horizons [H], summing to 1.

    A horizon that the table does not name gets the weight of the next shorter one that it names (of the shortest, below
    all): weights then still fall with the horizon, and no unknown one outweighs a known one that is shorter.
    """
    named = sorted(HORIZON_WEIGHTS)
    nearest = [max((n for n in named if n <= h), default=named[0]) for h in horizons]
    weights = np.array([HORIZON_WEIGHTS[n] for n in nearest])
    return weights / weights.sum()


def headline(by_horizon: NDArray[np.floating], horizons: Sequence[int]) -> NDArray[np.float64]:
    """The headline figure of each day [D] from daily figures [H,D]; NaN unless every horizon has one that day."""
    return horizon_weights(horizons) @ np.asarray(by_horizon, np.float64)
