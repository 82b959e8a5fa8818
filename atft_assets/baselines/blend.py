"""Several sets of scores in equal parts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.scoring.trailing import Floats


def blend(parts: Sequence[Floats], eligible: NDArray[np.bool_]) -> Floats:
    """The mean of the gaussian ranks that each set gives a day's names.

    Ranks, so that a set whose scores spread more does not count for more.

    Args:
        parts: each [H,D,N], NaN where a name was not scored.
        eligible: [D,N].

    Returns:
        [H,D,N] float32; NaN where a name is not eligible or a set has no score for it.
    """
    scored = np.logical_and.reduce([np.isfinite(part) for part in parts]) & eligible
    mean = np.full(scored.shape, np.nan, np.float32)
    for h, d in np.ndindex(scored.shape[:2]):
        rows = scored[h, d]
        if rows.any():
            mean[h, d, rows] = gaussian_ranks(np.stack([part[h, d, rows] for part in parts], axis=1)).mean(axis=1)
    return mean
