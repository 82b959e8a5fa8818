"""Statistics of daily series, as both sides report them: t of a mean, ratio of mean to deviation, paired differences.

Series are float64 [D], one value a day; values that are not finite are left out, a comparison uses the days that both
series have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK_DAYS = 20  # the longest label horizon: daily figures that far apart share no return
BOOTSTRAP_DRAWS = 2_000


def finite(series: ArrayLike) -> NDArray[np.float64]:
    """The finite values of a series, in order."""
    values = np.asarray(series, np.float64)
    return values[np.isfinite(values)]


def mean(series: ArrayLike) -> float:
    """Mean of the finite values; NaN if there are none."""
    values = finite(series)
    return float(values.mean()) if len(values) else float("nan")


def information_ratio(series: ArrayLike) -> float:
    """Mean over standard deviation (ddof 1), daily, not annualised; NaN below three values or without variation."""
    values = finite(series)
    deviation = values.std(ddof=1) if len(values) > 2 else 0.0
    return float(values.mean() / deviation) if deviation > 1e-12 else float("nan")


def newey_west_t(series: ArrayLike, lag: int) -> float:
    """t of the mean of a serially correlated series.

    Bartlett-weighted autocovariances up to `lag` (Newey and West 1987); for an h-day label the lag is h - 1. The lag is
    cut to n - 2, weights included: beyond that an autocovariance rests on a single product.

    Returns:
        NaN below three values, or when the series is constant.
    """
    values = finite(series)
    n = len(values)
    if n < 3:
        return float("nan")
    deviations = values - values.mean()
    lag = min(lag, n - 2)
    variance = deviations @ deviations / n
    for k in range(1, lag + 1):
        variance += 2 * (1 - k / (lag + 1)) * (deviations[k:] @ deviations[:-k]) / n
    return float(values.mean() / np.sqrt(variance / n)) if variance > 1e-18 else float("nan")


@dataclass(frozen=True)
class Difference:
    """Mean of paired daily differences with a 95 % interval.

    Attributes:
        p: two-sided, against no difference: nobody says beforehand which of two will be the better.
        t: Newey-West.
        days: that both series have.
    """

    mean: float
    low: float
    high: float
    p: float
    t: float
    days: int


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, *, block: int = BLOCK_DAYS, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Difference:
    """Compare two daily series by a circular block bootstrap (Politis and Romano 1992).

    Blocks keep the dependence that overlapping labels bring into neighbouring days. With fewer than three blocks of
    days the blocks are shortened: a bootstrap of one or two blocks is a rotation of the series, whose mean never
    changes, and its interval would be far too narrow.
    """
    differences = finite(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    n = len(differences)
    if n < 3:
        return Difference(*(float("nan"),) * 5, days=n)
    block = max(1, min(block, n // 3))
    starts = np.random.default_rng(seed).integers(0, n, (draws, -(-n // block)))
    places = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, :n] % n
    means = differences[places].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * max(min((means <= 0).mean(), (means >= 0).mean()), 1 / draws))
    t = newey_west_t(differences, block - 1)
    return Difference(float(differences.mean()), float(low), float(high), float(p), t, n)


def mean_by_day(series: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Mean over several daily series [R,D] -> [D], NaN on days that none has."""
    values = np.asarray(series, np.float64)
    known = np.isfinite(values).sum(0)
    return np.where(known > 0, np.nansum(values, 0) / np.maximum(known, 1), np.nan)
