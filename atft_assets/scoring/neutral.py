"""What is left of a day's values once sector and volatility are taken out of them."""

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.ranking import average_ranks
from atft_assets.scoring.trailing import Floats, trailing_volatility


def residual(values: Floats, volatility: Floats, sectors: NDArray[np.integer]) -> Floats:
    """Least-squares residual of one day's values on sector dummies and volatility, all [n] (Frisch-Waugh: within
    sectors, then the slope).

    Volatility enters by its rank, so that one wild name does not set the slope; a name without it counts as average.
    """
    ranks, counts = average_ranks(volatility[:, None])
    level = np.nan_to_num((ranks[:, 0] - (counts[0] + 1) / 2).astype(np.float64))
    values = values - values.mean()
    total = values @ values
    values, level = _within(values, sectors), _within(level, sectors)
    power = level @ level
    left = values - level * (level @ values / power) if power > 1e-12 else values
    # of scores that sector and volatility explain wholly only round-off is left: that is no variation
    return left if left @ left > 1e-20 * total else np.zeros_like(left)


def neutral_returns(
    returns: NDArray[np.float32], valid: NDArray[np.bool_], sectors: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Returns without what sector and 20-day volatility explain of them on the day.

    Args:
        returns: [H,T,N] raw, the first horizon one day; NaN where unknown.
        valid: [T,N], the names that are ranked against each other.
        sectors: [N] numbers.

    Returns:
        [H,T,N] residuals, NaN where a name is not valid or its return unknown.
    """
    volatility = trailing_volatility(returns[0], range(returns.shape[1]))
    neutral = np.full_like(returns, np.nan)
    for h, t in np.ndindex(returns.shape[:2]):
        rows = valid[t] & np.isfinite(returns[h, t])
        if rows.any():
            values = returns[h, t, rows].astype(np.float64)
            neutral[h, t, rows] = residual(values, volatility[t, rows], sectors[rows])
    return neutral


def _within(values: Floats, groups: NDArray[np.integer]) -> Floats:
    count = np.bincount(groups)
    mean = np.bincount(groups, weights=values) / np.maximum(count, 1)
    return values - mean[groups]
