"""A small market by formula, without a random generator whose numbers a new version might change."""

import numpy as np
from numpy.typing import NDArray

DAYS, NAMES, EXPOSURES = 30, 50, 3
HORIZONS = (1, 5)

Floats = NDArray[np.float64]


def uniform(shape: tuple[int, ...], salt: int) -> Floats:
    """Numbers in (0, 1) that look random (the middle of a product's digits), distinct within a small array."""
    place = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64) + 0.618 * salt
    return np.modf(np.abs(np.sin(place * 12.9898 + salt * 78.233)) * 43758.5453)[0].reshape(shape)


def prices() -> Floats:
    """[DAYS + max(HORIZONS), NAMES]."""
    returns = 0.04 * (uniform((DAYS + max(HORIZONS), NAMES), 1) - 0.5)
    return 100 * np.cumprod(1 + returns, axis=0)


def factor() -> Floats:
    """Scores [DAYS,NAMES] that last for some days and know a little of the next."""
    fresh, now = uniform((DAYS, NAMES), 2), np.zeros(NAMES)
    ahead = prices()[1 : DAYS + 1] / prices()[:DAYS] - 1
    rows = []
    for d in range(DAYS):
        now = 0.8 * now + fresh[d] + 5 * ahead[d]
        rows.append(now)
    return np.stack(rows)


def forward_returns() -> Floats:
    """[H,DAYS,NAMES]."""
    p = prices()
    return np.stack([p[h : h + DAYS] / p[:DAYS] - 1 for h in HORIZONS])


def other_scores() -> Floats:
    """A second model's scores of the first day [NAMES]."""
    return factor()[0] + uniform((NAMES,), 3)


def exposures() -> Floats:
    """Of the first day [NAMES,EXPOSURES]."""
    return uniform((NAMES, EXPOSURES), 4)


def sectors() -> NDArray[np.int64]:
    """Numbers 0 … 4 [NAMES]."""
    return np.arange(NAMES) % 5
