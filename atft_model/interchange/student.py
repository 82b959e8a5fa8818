"""Student's t: tail probability and quantile, with the standard library alone; tests hold both to SciPy."""

import math
from functools import lru_cache

_TINY = 1e-300


def two_sided_p(t: float, degrees: float) -> float:
    """Probability of a |T| at least as large as |t|, T being Student's with `degrees` degrees of freedom.

    P(|T| >= t) = I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + t^2), I the regularised incomplete beta function;
    so a small probability keeps its digits.

    Returns:
        NaN for a t that is NaN, 0 for an infinite one.

    Raises:
        ValueError: fewer than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError(f"Student's t with {degrees} degrees of freedom: one is the least")
    if math.isnan(t):
        return math.nan
    if math.isinf(t):
        return 0.0
    square = t * t
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square))


@lru_cache(maxsize=1024)
def two_sided_quantile(level: float, degrees: float) -> float:
    """The t that |T| exceeds with probability `level`: 2.571 at .05 and five degrees of freedom.

    Raises:
        ValueError: a level outside (0, 1), or fewer than one degree of freedom.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of a quantile is {level}: it lies between 0 and 1, both excluded")
    low, high = 0.0, 1.0
    while two_sided_p(high, degrees) > level:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if two_sided_p(middle, degrees) > level else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b); `rest` is 1 - x, given apart so that it keeps its digits where x is nearly 1."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest))
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast; beyond, by symmetry
        return scale * _fraction(a, b, x) / a
    return 1.0 - scale * _fraction(b, a, rest) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
