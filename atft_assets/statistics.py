"""Statistics of daily series that more than one room needs."""

import numpy as np
from numpy.typing import NDArray


def newey_west_t(series: NDArray[np.float64], lag: int) -> float:
    """t of the mean of a serially correlated series.

    Bartlett-weighted autocovariances up to `lag` (Newey and West 1987); for an h-day label the lag is h - 1.

    Args:
        series: float64 [days]; values that are not finite are left out.

    Returns:
        NaN below three values, or when the series is constant.
    """
    values = series[np.isfinite(series)]
    n = len(values)
    if n < 3:
        return float("nan")
    deviations = values - values.mean()
    lag = min(lag, n - 2)
    variance = deviations @ deviations / n
    for k in range(1, lag + 1):
        variance += 2 * (1 - k / (lag + 1)) * (deviations[k:] @ deviations[:-k]) / n
    return float(values.mean() / np.sqrt(variance / n)) if variance > 1e-18 else float("nan")
