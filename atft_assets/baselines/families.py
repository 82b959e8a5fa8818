"""What families of features are worth to a model: it is fitted without one of them, and with one of them beside a base.

Nothing is fitted or chosen outside the train block, and one block is scored, whose days the caller names. Two sets of
columns are compared day by day on the same rows; the same columns are fitted once, whatever question they answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Literal

import numpy as np

from atft_assets.baselines.config import BaselineConfig
from atft_assets.baselines.narrowed import NarrowedPanel, narrowed
from atft_assets.baselines.ridge import NEUTRAL_PENALTY, Moments, best_penalty, try_penalties
from atft_assets.baselines.samples import eligible, inner_split
from atft_assets.scoring.block import Block
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel

RIDGE, LIGHTGBM = "ridge", "lightgbm"
MODELS = (RIDGE, LIGHTGBM)
FULL, BASE = "full", "price set"

Change = Literal["left out", "added"]
Scorer = Callable[[NarrowedPanel, range, int], Floats]  # columns, days, seed: scores [H,len(days),N]


@dataclass(frozen=True)
class Question:
    """Whether a family is worth its place: two sets of families that differ in it alone.

    Attributes:
        family: the one that is asked about.
        change: left out of all, or added to the base.
        with_it, without_it: the families of the two sets.
    """

    family: str
    change: Change
    with_it: frozenset[str]
    without_it: frozenset[str]

    @property
    def against(self) -> str:
        """What the changed set is held against."""
        return FULL if self.change == "left out" else BASE


def families_of(panel: Panel) -> dict[str, int]:
    """Number of columns by family, in the panel's order."""
    found: dict[str, int] = {}
    for feature in panel.description.features:
        found[feature.family] = found.get(feature.family, 0) + 1
    return found


def questions(every: Sequence[str], base: Sequence[str], asked: Sequence[str]) -> list[Question]:
    """Each family left out of all, and each that is not of the base added to it.

    A question with an empty side is not asked: of no columns nothing is learned.

    Args:
        every: families of the panel.
        base: those of the price set; what the panel lacks of them does not count.
        asked: families that are asked about, of `every`.
    """
    all_of_them, price = frozenset(every), frozenset(base) & frozenset(every)
    left = [Question(one, "left out", all_of_them, all_of_them - {one}) for one in asked]
    added = [Question(one, "added", price | {one}, price) for one in asked if one not in price]
    return [one for one in (*left, *added) if one.without_it]


@dataclass(frozen=True)
class Judged:
    """How well a model ranked the block on a set of families.

    Attributes:
        rank_ic, neutral_rank_ic: headlines, means over the seeds.
        by_horizon: RankIC by horizon in trading days, a mean over the seeds.
        daily, daily_neutral: headline series [D], means over the seeds; daily_shortest: RankIC of the shortest horizon.
        seconds: of fitting and scoring all seeds.
    """

    model: str
    families: frozenset[str]
    columns: int
    rank_ic: float
    neutral_rank_ic: float
    by_horizon: dict[int, float]
    daily: Floats
    daily_neutral: Floats
    daily_shortest: Floats
    seconds: float


class RidgeByFamilies:
    """`ridge.fit_ridge` on many sets of columns of one panel: X'X of all is made once, and cut for each."""

    def __init__(self, panel: Panel, fold: Fold):
        self._panel, self._fold = panel, fold

    @cached_property
    def _moments(self) -> tuple[Moments | None, Moments]:
        """Of the days that are fitted while the penalty is chosen, if it can be, and of the whole train block."""
        days, split = self._fold.places(self._panel.dates, "train"), inner_split(self._panel, self._fold)
        every = Moments.zeros(self._panel)
        if split is None:
            every.add(self._panel, days)
            return None, every
        every.add(self._panel, split.fit)
        fitted = Moments(every.xx.copy(), every.xy.copy(), every.rows.copy())
        every.add(self._panel, range(split.fit.stop, days.stop))
        return fitted, every

    def weights(self, panel: NarrowedPanel) -> Floats:
        """Weights [H,F+1] on the columns of a narrowed panel."""
        fitted, every = self._moments
        split = inner_split(panel, self._fold)
        if fitted is None or split is None:
            penalties = [NEUTRAL_PENALTY] * len(panel.horizons)
        else:
            tried = try_penalties(panel, _cut(fitted, panel), split, eligible)
            penalties = [best_penalty(ics) for ics in tried]
        mine = _cut(every, panel)
        return np.stack([mine.solve(h, penalty) for h, penalty in enumerate(penalties)])

    def __call__(self, panel: NarrowedPanel, days: range, seed: int) -> Floats:
        """Scores [H,len(days),N]; nothing of it is drawn, so the seed does not matter."""
        weights = self.weights(panel)
        return np.stack([panel.x(t) @ weights[:, :-1].T.astype(np.float32) for t in days]).transpose(2, 0, 1)


def _cut(moments: Moments, panel: NarrowedPanel) -> Moments:
    """The moments of a panel's columns and of the constant, which stands last."""
    kept = np.array([*panel.places, moments.xy.shape[1] - 1])
    return Moments(moments.xx[:, kept[:, None], kept], moments.xy[:, kept], moments.rows)


def lightgbm_by_families(fold: Fold, config: BaselineConfig) -> Scorer:
    """`trees.lightgbm`, fitted anew for each set of columns and each seed."""

    def score(panel: NarrowedPanel, days: range, seed: int) -> Floats:
        from atft_assets.baselines import trees  # 1 s to import

        return trees.lightgbm(panel, fold, config.model_copy(update={"seed": seed})).predict(panel, days)

    return score


def scorers(panel: Panel, fold: Fold, models: Sequence[str], config: BaselineConfig) -> dict[str, Scorer]:
    """The models by name."""
    made: dict[str, Callable[[], Scorer]] = {
        RIDGE: lambda: RidgeByFamilies(panel, fold),
        LIGHTGBM: lambda: lightgbm_by_families(fold, config),
    }
    return {name: made[name]() for name in models}


def sets_of(asked: Sequence[Question]) -> list[frozenset[str]]:
    """The distinct sets of families of some questions, in their order."""
    return list(dict.fromkeys(side for one in asked for side in (one.with_it, one.without_it)))


def judge_sets(
    block: Block, sets: Sequence[frozenset[str]], models: dict[str, Scorer], seeds: Sequence[int]
) -> Iterator[Judged]:
    """Fit and judge every model on every set of families, one after the other.

    Args:
        block: the days that are scored, of the whole panel.
        seeds: of models that draw; ridge is fitted once.
    """
    for name, scorer in models.items():
        for families in sets:
            started = monotonic()
            columns = narrowed(block.panel, families)
            drawn = seeds[:1] if name == RIDGE else seeds
            scores = [block.score_dense(scorer(columns, block.days, seed)) for seed in drawn]
            yield Judged(
                name,
                families,
                len(columns.places),
                rank_ic=float(np.mean([one.rank_ic for one in scores])),
                neutral_rank_ic=float(np.mean([one.neutral_rank_ic for one in scores])),
                by_horizon={
                    h: float(np.mean([one.by_horizon[h].rank_ic for one in scores])) for h in block.panel.horizons
                },
                daily=np.mean([one.daily for one in scores], axis=0),
                daily_neutral=np.mean([one.daily_neutral for one in scores], axis=0),
                daily_shortest=np.mean([one.daily_shortest for one in scores], axis=0),
                seconds=monotonic() - started,
            )
