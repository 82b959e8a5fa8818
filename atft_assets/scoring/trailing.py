"""What a name did lately, by returns that are known on the day: volatility, return and beta over a trailing window."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

VOLATILITY_WINDOW = 20
BETA_WINDOW = 60


def trailing_volatility(one_day_returns: Floats, days: range, window: int = VOLATILITY_WINDOW) -> Floats:
    """Standard deviation of the last `window` known daily returns.

    Args:
        one_day_returns: [T,N]; row t is the return from t to t+1, known on day t+1.
        days: rows of the answer.

    Returns:
        [len(days), N]; NaN with fewer than half a window of returns.
    """
    return np.stack([_window_std(one_day_returns[max(0, t - window) : t], window // 2) for t in days])


def trailing_return(one_day_returns: Floats, days: range, window: int) -> Floats:
    """Compound return of the last `window` days [len(days), N], by the same convention; NaN if a day is missing."""
    rows = []
    for t in days:
        past = one_day_returns[max(0, t - window) : t].astype(np.float64)
        whole = np.prod(1 + past, axis=0) - 1
        rows.append(whole if len(past) == window else np.full(past.shape[1], np.nan))
    return np.stack(rows)


def trailing_beta(one_day_returns: Floats, days: range, window: int = BETA_WINDOW) -> Floats:
    """Slope of a name's last `window` daily returns on those of the market, the equal-weighted mean of all names.

    Args:
        one_day_returns: [T,N]; row t is the return from t to t+1, known on day t+1.
        days: rows of the answer.

    Returns:
        [len(days), N]; NaN with fewer than half a window of returns, or where the market did not move.
    """
    first = max(0, days.start - window)
    past = one_day_returns[first : days.stop].astype(np.float64)
    known = np.isfinite(past)
    own = np.where(known, past, 0)
    market = np.where(known, (own.sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None], 0)
    count, x, y, xy, xx = (
        np.vstack([np.zeros((1, past.shape[1])), np.cumsum(v, axis=0)])
        for v in (known, market, own, market * own, market * market)
    )
    last = np.asarray(days) - first
    begin = np.maximum(last - window, 0)
    n, sx, sy, sxy, sxx = (v[last] - v[begin] for v in (count, x, y, xy, xx))
    covariance, variance = sxy * n - sx * sy, sxx * n - sx * sx
    told = (n >= window // 2) & (variance > 1e-12 * np.maximum(sxx * n, 1e-300))
    return np.where(told, covariance / np.where(told, variance, 1), np.nan)


def _window_std(past: Floats, least: int) -> Floats:
    known = np.isfinite(past)
    count = known.sum(axis=0)
    filled = np.where(known, past, 0).astype(np.float64)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    square = (np.where(known, filled - mean, 0) ** 2).sum(axis=0)
    return np.where(count >= max(least, 2), np.sqrt(square / np.maximum(count - 1, 1)), np.nan)
