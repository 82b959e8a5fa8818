"""What is left of a day's values once groups and exposures are taken out of them."""

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.ranking import average_ranks, gaussian_ranks
from atft_assets.scoring.trailing import Floats, trailing_volatility

CONSTANT = 1e-12  # share of its power within groups below which an exposure is constant there
COLLINEAR = 1e-8  # eigenvalue of the exposures' correlations below which one of them says what others say


def residual(values: Floats, exposures: Floats, groups: NDArray[np.integer]) -> Floats:
    """Least-squares residual of one day's values on group dummies and exposures (Frisch-Waugh: within the groups, then
    the slopes).

    Args:
        values: [n], or [n,C] for several series at once.
        exposures: [n,K] without NaN; one that is constant within the groups, or follows from the others, takes nothing
            out.
        groups: numbers [n], of the sector for example; one group stands for a constant.

    Returns:
        As `values`, float64; zeros where nothing but round-off is left.
    """
    centred = np.asarray(values, np.float64) - np.mean(values, axis=0, dtype=np.float64)
    total = (centred * centred).sum(axis=0)
    left: Floats = _within(centred, groups)
    level: Floats = np.asarray(exposures, np.float64) - np.mean(exposures, axis=0, dtype=np.float64)
    before = (level * level).sum(axis=0)
    level = _within(level, groups)
    power = (level * level).sum(axis=0)
    kept = power > CONSTANT * np.maximum(before, 1e-300)
    if kept.any():
        level = level[:, kept] / np.sqrt(power[kept])
        left = left - level @ (np.linalg.pinv(level.T @ level, rcond=COLLINEAR, hermitian=True) @ (level.T @ left))
    # of scores that groups and exposures explain wholly only round-off is left: that is no variation
    return np.where((left * left).sum(axis=0) > 1e-20 * total, left, 0.0)


def beyond(scores: Floats, others: Floats) -> Floats:
    """What the gaussian ranks of some scores have beyond those of others, all [n] without NaN; numerai's contribution
    is its correlation with the return.
    """
    ranked = gaussian_ranks(np.stack([scores, others], axis=1))
    return residual(ranked[:, 0], ranked[:, 1:], np.zeros(len(ranked), np.int8))


def volatility_level(volatility: Floats) -> Floats:
    """20-day volatility as an exposure [n,1]: its rank about the middle, so that one wild name does not set the slope;
    a name without it counts as average.
    """
    ranks, counts = average_ranks(volatility[:, None])
    return np.nan_to_num((ranks - (counts[0] + 1) / 2).astype(np.float64))


def neutral_returns(
    returns: NDArray[np.float32],
    one_day: NDArray[np.float32],
    valid: NDArray[np.bool_],
    sectors: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Returns without what sector and 20-day volatility explain of them on the day.

    Args:
        returns: [H,T,N] raw, NaN where unknown.
        one_day: [T,N] close-to-close returns, of which the volatility is; row t is known on t+1.
        valid: [T,N], the names that are ranked against each other.
        sectors: [N] numbers.

    Returns:
        [H,T,N] residuals, NaN where a name is not valid or its return unknown.
    """
    volatility = trailing_volatility(one_day, range(len(one_day)))
    neutral = np.full_like(returns, np.nan)
    for h, t in np.ndindex(returns.shape[:2]):
        rows = valid[t] & np.isfinite(returns[h, t])
        if rows.any():
            values = returns[h, t, rows].astype(np.float64)
            neutral[h, t, rows] = residual(values, volatility_level(volatility[t, rows]), sectors[rows])
    return neutral


def _within(values: Floats, groups: NDArray[np.integer]) -> Floats:
    """Values [n] or [n,C] less the mean of their group."""
    count = np.maximum(np.bincount(groups), 1)
    columns = values.reshape(len(values), -1)
    means = [np.bincount(groups, weights=column) / count for column in columns.T]
    return (columns - np.stack(means, axis=1)[groups]).reshape(values.shape)
