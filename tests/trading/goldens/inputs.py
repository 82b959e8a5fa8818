"""Returns that both sides of the goldens are given: skewed, fat-tailed, of rules that are worth different things."""

import numpy as np
from numpy.typing import NDArray

DAYS, RULES = 480, 8  # even: where the best rule may be the middle one elsewhere, purgedcv counts it as good
BLOCKS = (4, 8, 16)
TRIALS = ((1, 1e-3), (10, 4e-4), (45, 2e-3), (1000, 1e-3))  # how many, variance of their Sharpe ratios a day
BENCHMARKS = (0.0, 0.03)
LENGTHS = ((0.08, 0.0, -0.5, 6.0), (0.05, 0.02, 0.3, 4.0))  # Sharpe ratio a day, benchmark, skew, kurtosis


def returns() -> NDArray[np.float64]:
    """Daily returns [DAYS,RULES]."""
    rng = np.random.default_rng(11)
    drawn = rng.standard_t(5, (DAYS, RULES)) + 0.4 * (rng.exponential(1.0, (DAYS, 1)) - 1)
    return 0.006 * drawn + np.linspace(-0.0006, 0.0006, RULES)
