"""Rows to learn from, the inner split by which a baseline is chosen, and the figure it is chosen by.

Features and targets of a day are what the network gets: features as the panel holds them, targets the gaussian ranks of
the panel's target among the day's eligible names, so that a market-wide move changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.ranking import average_ranks, gaussian_ranks
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.fold import MIN_BLOCK_DAYS, Fold
from atft_model.interchange.horizons import MIN_NAMES
from atft_model.interchange.panel import Panel, from_bfloat16

TAIL = 0.2  # newest share of the training days, on which everything is chosen

Rows = Callable[[Panel, int], NDArray[np.bool_]]  # names of a day that are learned from [N]


def eligible(panel: Panel, t: int) -> NDArray[np.bool_]:
    """All that may be learned from."""
    return panel.valid[t]


def features_of(panel: Panel, t: int, rows: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Features [n,F] of some names of a day, finite; a missing one is 0."""
    return from_bfloat16(panel.tensors["x"][t][rows])


def targets_of(panel: Panel, t: int, rows: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Targets [n,H] of some names of a day, ranked among all its eligible ones; NaN where one is unknown."""
    every = panel.valid[t]
    return gaussian_ranks(panel.target[:, t, every].T)[rows[every]]


def day_sample(panel: Panel, t: int, rows: Rows = eligible) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [n,F] and targets [n,H] of a day."""
    chosen = rows(panel, t) & panel.valid[t]
    return features_of(panel, t, chosen), targets_of(panel, t, chosen)


@dataclass(frozen=True)
class InnerSplit:
    """The train block cut once more: what is fitted, and what is chosen by. The days between serve neither."""

    fit: range
    tail: range


def inner_split(panel: Panel, fold: Fold) -> InnerSplit | None:
    """The newest fifth of the training days, and the days before it and a gap of the fold's purge and embargo; days at
    the start on which no name is eligible yet do not count.

    So no label that was fitted reaches into the tail, and nothing of the validation block is looked at.

    Returns:
        None if either side would have fewer than 20 days: then nothing can be chosen.
    """
    days = fold.places(panel.dates, "train")
    eligible_days = np.flatnonzero(panel.valid[days.start : days.stop].any(axis=1))
    days = range(days.start + (int(eligible_days[0]) if len(eligible_days) else 0), days.stop)
    first = days.stop - round(len(days) * TAIL)
    split = InnerSplit(range(days.start, first - fold.purge_days - fold.embargo_days), range(first, days.stop))
    return split if min(len(split.fit), len(split.tail)) >= MIN_BLOCK_DAYS else None


def rows_held(panel: Panel, days: range) -> int:
    """Eligible rows of some days in a row."""
    return int(panel.valid[days.start : days.stop].sum())


@dataclass(frozen=True)
class JudgedDay:
    """A day of the tail: its rows [N], and of their targets the known ones [n,H] and ranks of unit length [n,H]."""

    t: int
    rows: NDArray[np.bool_]
    known: NDArray[np.bool_]
    ranks: Floats


class Judge:
    """Mean daily RankIC with the targets, over some days and rows.

    Attributes:
        days: those that have enough rows.
    """

    def __init__(self, panel: Panel, days: Sequence[int], rows: Rows = eligible):
        self.days = [self._judged(panel, t, rows(panel, t) & panel.valid[t]) for t in days]

    @staticmethod
    def _judged(panel: Panel, t: int, rows: NDArray[np.bool_]) -> JudgedDay:
        targets = targets_of(panel, t, rows)
        return JudgedDay(t, rows, np.isfinite(targets), _unit_ranks(targets))

    def rank_ic(self, scores: Callable[[JudgedDay], Floats], heads: Sequence[int]) -> Floats:
        """RankIC of several sets of scores.

        Args:
            scores: of a day, [n,C].
            heads: the horizon, by its place, that each of the C columns is held against.

        Returns:
            [C]; -inf where no day has a figure. A day on which fewer than ten names have a target, or on which scores
            do not vary, has none.
        """
        places = np.asarray(heads)
        total, count = np.zeros(len(places)), np.zeros(len(places), int)
        for day in self.days:
            columns = scores(day)
            for h in np.unique(places):
                known, (mine,) = day.known[:, h], np.nonzero(places == h)
                if known.sum() < MIN_NAMES:
                    continue
                ranks = _unit_ranks(columns[known][:, mine])
                figures = day.ranks[known, h] @ ranks
                varies = ranks.any(axis=0) & day.ranks[known, h].any()
                total[mine] += np.where(varies, figures, 0)
                count[mine] += varies
        return np.where(count > 0, total / np.maximum(count, 1), -np.inf)


def _unit_ranks(values: Floats) -> Floats:
    """Average ranks of columns [n,C], centred and of unit length; 0 where a value is NaN, or a column does not vary."""
    ranks, counts = average_ranks(values)
    centred = np.nan_to_num(ranks.astype(np.float64) - (counts + 1) / 2)
    length = np.sqrt((centred * centred).sum(axis=0))
    return centred / np.where(length > 0, length, 1)
