"""Scaling at the model's edge: market-level features are standardised over time, the others ranked within the day."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.ranking import gaussian_ranks

MARKET_WINDOW = 252  # trading days over which market-level features are standardised
MARKET_LEAST = 20  # known values without which such a feature is missing
MARKET_CLIP = 5.0


class Scaling:
    """Scales the days of a panel one after the other; it remembers the market-level values of a year.

    Attributes:
        ranked, flags, market: places of the features of each kind on the axis F.
    """

    def __init__(self, kinds: Sequence[str]):
        kind = np.array(kinds)
        self.market, self.flags = np.flatnonzero(kind == "market"), np.flatnonzero(kind == "flag")
        self.ranked = np.flatnonzero((kind != "market") & (kind != "flag"))
        self._history: list[NDArray[np.float32]] = []  # market-level values, a row a day, oldest first

    def level(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The market-level features of the next day, standardised [M], from all its names' values [n,F]."""
        if not len(self.market):
            return np.zeros(0, np.float32)
        self._history = [*self._history, first_known(values[:, self.market])][-MARKET_WINDOW:]
        return standardised(np.stack(self._history))

    def scaled(self, values: NDArray[np.float32], level: NDArray[np.float32]) -> NDArray[np.float32]:
        """The day's features [n,F] as the model gets them, NaN where missing; ranks are among these names."""
        scaled = np.empty_like(values)
        scaled[:, self.ranked] = gaussian_ranks(values[:, self.ranked])
        scaled[:, self.flags] = values[:, self.flags] - 0.5
        scaled[:, self.market] = level
        return scaled


def first_known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The value of the day of market-level columns [n,M] -> [M]: equal for all names that have it."""
    known = np.isfinite(values)
    picked = values[known.argmax(axis=0), np.arange(values.shape[1])]
    return np.where(known.any(axis=0), picked, np.nan).astype(np.float32)


def standardised(history: NDArray[np.float32]) -> NDArray[np.float32]:
    """The newest row in standard deviations from the mean of the known rows, itself among them, within ±5.

    Args:
        history: [D,F] trailing daily values, oldest first; NaN is missing.

    Returns:
        [F] float32; NaN where the newest value is missing, fewer than 20 are known, or they do not vary.
    """
    known = np.isfinite(history)
    count = known.sum(axis=0)
    values = np.where(known, history, 0).astype(np.float64)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / np.maximum(count, 1))
    usable = known[-1] & (count >= MARKET_LEAST) & (deviation > 1e-9 * np.maximum(np.abs(mean), 1e-6))
    z = (values[-1] - mean) / np.where(usable, deviation, 1)
    return np.where(usable, np.clip(z, -MARKET_CLIP, MARKET_CLIP), np.nan).astype(np.float32)
