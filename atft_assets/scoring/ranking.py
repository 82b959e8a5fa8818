"""Ranks of one day: average ranks and their gaussian scores, vectorised over columns.

Used for the panel's features, the baselines' targets and the evaluation's Spearman correlation, so that all three mean
the same thing by a rank.
"""

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

GAUSSIAN_CLIP = 3.0
_GRID = 1 << 14


def average_ranks(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ranks 1..n along the first axis, ties averaged, NaN ranked nowhere.

    Args:
        values: [N, C]; NaN is missing.

    Returns:
        ranks [N, C] float32 with NaN where missing, and the count of present values [C]. Ranks are half-integers,
        exact in float32 up to 8 million names.
    """
    size, columns = values.shape
    order = np.argsort(values, axis=0)  # NaN last
    ordered = np.take_along_axis(values, order, axis=0)
    present = ~np.isnan(ordered)
    place = np.arange(size, dtype=np.int32)[:, None]
    starts = np.ones((size, columns), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=0)
    ends = np.ones((size, columns), bool)
    ends[:-1] = starts[1:]
    last = np.minimum.accumulate(np.where(ends, place, size)[::-1], axis=0)[::-1]
    averaged = np.where(present, (first + last) * np.float32(0.5) + np.float32(1), np.float32(np.nan))
    ranks = np.empty((size, columns), np.float32)
    np.put_along_axis(ranks, order, averaged.astype(np.float32, copy=False), axis=0)
    return ranks, present.sum(axis=0)


def gaussian_ranks(values: NDArray[np.floating], clip: float = GAUSSIAN_CLIP) -> NDArray[np.float32]:
    """Gaussian scores of the ranks along the first axis: quantile of (rank - 1/2) / n, within ±clip.

    Args:
        values: [N, C]; NaN is missing and stays NaN. A column without variation gets 0 throughout.

    Returns:
        [N, C] float32; accurate to 1e-4 of a standard deviation.
    """
    ranks, counts = average_ranks(values)
    scale = (_GRID / np.maximum(counts, 1)).astype(np.float32)
    position = (ranks - np.float32(0.5)) * scale
    missing = np.isnan(position)
    position[missing] = 0
    cell = position.astype(np.int32)
    quantiles, steps = _normal_quantiles()
    position -= cell
    scores = quantiles[cell] + steps[cell] * position
    np.clip(scores, -clip, clip, out=scores)
    scores[missing] = np.nan
    return scores


@cache
def _normal_quantiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The standard normal quantile on a grid, and its steps: linear interpolation costs a few passes over the data."""
    grid = [NormalDist().inv_cdf(i / _GRID) for i in range(1, _GRID)]
    quantiles = np.array([-10.0, *grid, 10.0])
    return quantiles.astype(np.float32), np.append(np.diff(quantiles), 0).astype(np.float32)
