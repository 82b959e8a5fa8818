"""Daily rank correlations: of two orders, day by day, over the names that both have, as a whole or group by group."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets.scoring.ordering import Floats, Levels, levels_of, ranks_of, ranks_within
from atft_model.interchange.horizons import MIN_NAMES

ROLLING_DAYS = 60


def pearson(a: Floats, b: Floats) -> float:
    """Correlation of two series [n]; NaN if either is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    # a residual of a constant is round-off, not variation
    return float(a @ b / scale) if scale > 1e-20 and np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def spearman(a: Levels, b: Levels) -> float:
    """Rank correlation of two orders [n] that have every name; NaN if either is constant."""
    return pearson(ranks_of(a), ranks_of(b))


def spearman_of_values(a: Floats, b: Floats) -> float:
    """Rank correlation of two series [n] without NaN."""
    return spearman(levels_of(a), levels_of(b))


def daily_spearman(a: Levels, b: Levels, min_names: int = MIN_NAMES) -> NDArray[np.float64]:
    """Rank correlation of each day [D] over the names that both orders [D,N] have; NaN on days with fewer names."""
    found = np.full(len(a), np.nan)
    for d in range(len(a)):
        rows = (a[d] >= 0) & (b[d] >= 0)
        if rows.sum() >= min_names:
            found[d] = spearman(a[d, rows], b[d, rows])
    return found


def grouped_spearman(
    a: Levels, b: Levels, groups: NDArray[np.integer], count: int, min_names: int = MIN_NAMES
) -> NDArray[np.float64]:
    """Rank correlation of each day within each group [D,G], ranks taken among the names of the group.

    Args:
        a, b: orders [D,N].
        groups: [D,N], below `count`, negative where a name belongs to none.
    """
    found = np.full((len(a), count), np.nan)
    for d in range(len(a)):
        rows = (a[d] >= 0) & (b[d] >= 0) & (groups[d] >= 0)
        place = groups[d, rows]
        held = np.bincount(place, minlength=count)
        if (held < min_names).all():
            continue
        middle = ((held + 1) / 2)[place]
        x = ranks_within(a[d, rows], place, count) - middle
        y = ranks_within(b[d, rows], place, count) - middle
        xy, xx, yy = (np.bincount(place, weights=v, minlength=count) for v in (x * y, x * x, y * y))
        told = (held >= min_names) & (xx > 0) & (yy > 0)
        found[d, told] = xy[told] / np.sqrt(xx[told] * yy[told])
    return found


def rolling_mean(series: ArrayLike, days: int = ROLLING_DAYS) -> NDArray[np.float64]:
    """Mean of the last `days` days [D]; NaN before there are so many, or with less than half of them known."""
    values = np.asarray(series, np.float64)
    known = np.isfinite(values)
    total, count = (np.concatenate([[0.0], np.cumsum(v)]) for v in (np.where(known, values, 0.0), known))
    found = np.full(len(values), np.nan)
    if len(values) >= days:
        held = count[days:] - count[:-days]
        found[days - 1 :] = np.where(2 * held >= days, (total[days:] - total[:-days]) / np.maximum(held, 1), np.nan)
    return found
