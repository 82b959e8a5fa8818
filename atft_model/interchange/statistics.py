"""Statistics of daily series, as both sides report them: is a mean, or a paired difference, more than chance?

Series are float64 [D], one value a day, the days in ascending order: every figure but the mean reads neighbours, so who
calls sorts. Values that are not finite are left out; a comparison uses the days that both series have.

Daily figures of an h-day label share days with their neighbours, and scores persist; so they are serially correlated,
and an ordinary t, Newey-West with lag h - 1 against 1.96, and a percentile block bootstrap reject a true null in 10 to
60 % of cases where they promise 5 %. Here:

* *p and the interval* rest on the equal-weighted cosine estimate of the long-run variance (EWC): a mean of a few cosine
  transforms, which makes its t Student's with as many degrees of freedom. Lazarus, Lewis, Stock and Watson, "HAR
  Inference: Recommendations for Practice", Journal of Business & Economic Statistics 36, 2018.
* *t* is Newey and West's (Econometrica 55, 1987) with lag 2h - 1; what it is to exceed is not 1.96 but the fixed-b
  value of Kiefer and Vogelsang (Econometric Theory 21, 2005), which knows that the variance was estimated.
* *t of every h-th day* needs no model of the dependence, as those days share no return; it stands beside the others,
  and where it disagrees that is a finding.
* *Several comparisons* are read after Holm (Scandinavian Journal of Statistics 6, 1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_model.interchange.student import two_sided_p, two_sided_quantile

LEVEL = 0.05  # of every verdict and interval
LEAST_DEGREES = 2  # below, the variance rests on a single cosine, and no effect of any size would be seen
_ROUND_OFF = 1e-24  # a variance below this share of the mean square is round-off of a constant


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


def lag_of(horizon: int) -> int:
    """Lag of the Newey-West t for labels of `horizon` days: 2h - 1.

    Overlap reaches h - 1 days; Bartlett's weights halve what lies there, and with that lag a t would be a fifth too
    large.
    """
    return 2 * horizon - 1


def newey_west_t(series: ArrayLike, lag: int) -> float:
    """t of the mean of a serially correlated series; judged against `critical_value`, not against 1.96.

    Bartlett-weighted autocovariances up to `lag`. It is cut to n - 2, weights included: beyond that an autocovariance
    rests on a single product.

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
    return float(values.mean() / np.sqrt(variance / n)) if _varies(variance, values) else float("nan")


def critical_value(days: int, lag: int) -> float:
    """What |t| of `newey_west_t` exceeds by chance in 5 % of cases (Kiefer and Vogelsang 2005, Bartlett's weights).

    1.96 where the lag is nothing beside the days, 4.81 where it is all of them. NaN without days.
    """
    if days < 1:
        return float("nan")
    b = min(1.0, (lag + 1) / days)
    return 1.96 + 2.9694 * b + 0.416 * b**2 - 0.5324 * b**3


def spaced_t(series: ArrayLike, horizon: int) -> float:
    """Student's t of every h-th of the finite values, from the first on; NaN below three, or without variation."""
    values = finite(series)[::horizon]
    deviation = values.std(ddof=1) if len(values) > 2 else 0.0
    return float(values.mean() / deviation * np.sqrt(len(values))) if _varies(deviation**2, values) else float("nan")


def cosine_variance(values: NDArray[np.float64], degrees: int) -> float:
    """Long-run variance of a series [n] without gaps: the mean square of its first `degrees` cosine transforms.

    A transform is sqrt(2 / n) * sum over t = 1 ... n of cos(pi * j * (t - 1/2) / n) * (x_t - mean), j = 1 ... degrees.
    """
    n = len(values)
    angles = np.pi / n * np.outer(np.arange(1, degrees + 1), np.arange(n) + 0.5)
    transforms = np.sqrt(2 / n) * (np.cos(angles) @ (values - values.mean()))
    return float(np.mean(transforms**2))


def degrees_of(days: int, horizon: int) -> int:
    """How many cosine transforms a verdict on so many days of an h-day label rests on: min(0.4 n^(2/3), n / 2h).

    More of them would reach into the frequencies of the overlap, where the series looks calmer than its mean is.
    """
    return int(min(0.4 * days ** (2 / 3), days / (2 * horizon)))


@dataclass(frozen=True)
class MeanVerdict:
    """Mean of a daily series, or of paired daily differences, and whether it is more than chance.

    Attributes:
        low, high: 95 % interval of the mean.
        p: two-sided, against a mean of zero: nobody says beforehand which of two will be the better.
        degrees: of freedom of the interval and of p. With fewer than two the days are too few to tell anything, and p
            and the interval are NaN: 4h days are the least.
        t, critical: Newey-West with lag 2h - 1, and what |t| exceeds by chance in 5 % of cases.
        spaced_t: Student's t of every h-th day.
        days: that have a value.
        days_needed: fewer tell nothing.
    """

    mean: float
    low: float
    high: float
    p: float
    degrees: int
    t: float
    critical: float
    spaced_t: float
    days: int
    days_needed: int

    @property
    def too_short(self) -> bool:
        """Whether the days are too few for an interval or a p."""
        return self.degrees < LEAST_DEGREES


def days_needed(horizon: int) -> int:
    """The least number of days of an h-day label on which anything can be told."""
    days = LEAST_DEGREES * 2 * horizon
    while degrees_of(days, horizon) < LEAST_DEGREES:  # of the shortest horizons
        days += 1
    return days


def mean_verdict(series: ArrayLike, horizon: int) -> MeanVerdict:
    """Judge the mean of a daily series.

    Args:
        series: [D], ascending days; what is not finite is left out.
        horizon: of the label in trading days, the longest one where the series mixes several.

    Returns:
        a constant series has an interval of no width, and a p of 1 if it is zero throughout, else of 0.
    """
    values = finite(series)
    n = len(values)
    centre, degrees, lag = mean(values), degrees_of(n, horizon), lag_of(horizon)
    low = high = p = float("nan")
    if degrees >= LEAST_DEGREES:
        variance = cosine_variance(values, degrees)
        error = math.sqrt(variance / n) if _varies(variance, values) else 0.0
        reach = two_sided_quantile(LEVEL, degrees) * error
        low, high = centre - reach, centre + reach
        p = two_sided_p(centre / error, degrees) if error else float(centre == 0)
    return MeanVerdict(
        mean=centre,
        low=low,
        high=high,
        p=p,
        degrees=degrees,
        t=newey_west_t(values, lag),
        critical=critical_value(n, lag),
        spaced_t=spaced_t(values, horizon),
        days=n,
        days_needed=days_needed(horizon),
    )


def paired_difference(ours: ArrayLike, theirs: ArrayLike, horizon: int) -> MeanVerdict:
    """Judge the mean of the daily differences of two series on the days that both have; positive: ours is higher.

    Args:
        ours, theirs: [D], the same ascending days.
        horizon: as in `mean_verdict`; of headlines the longest of the run.
    """
    return mean_verdict(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), horizon)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of a family of comparisons, adjusted so that one below 5 % is chance in 5 % of whole families.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below the one before it, none exceeds
    1. NaN stays NaN and does not count.
    """
    known = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mean_by_day(series: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Mean over several daily series [R,D] -> [D], NaN on days that none has."""
    values = np.asarray(series, np.float64)
    known = np.isfinite(values).sum(0)
    return np.where(known > 0, np.nansum(values, 0) / np.maximum(known, 1), np.nan)


def _varies(variance: float, values: NDArray[np.float64]) -> bool:
    """Whether a variance is more than the round-off of a constant."""
    return len(values) > 0 and bool(variance > _ROUND_OFF * (values @ values) / len(values))
