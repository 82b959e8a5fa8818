"""Test blocks of several folds put end to end: the only scores of a walk-forward that nothing has learned from.

Pure functions: what keeps folds from being stitched, the stitched scores, and the rows on which all of them are judged.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.scoring.block import Block
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel


@dataclass(frozen=True)
class Part:
    """One fold of a walk-forward.

    Attributes:
        final: its test block is kept for the end.
        learned: by name, the fold on which each of its networks, and each that these started from, has learned.
        scores: by name, of the test block: date, code, score_<h>d.
    """

    fold: Fold
    final: bool = False
    learned: Mapping[str, Fold] = field(default_factory=dict)
    scores: Mapping[str, pl.DataFrame] = field(default_factory=dict)


def too_close(what: str, learned: Fold, test: Fold, days: Sequence[date]) -> Iterator[str]:
    """Why what learned on one fold must not be tested on another: its last day is not purged and embargoed from it.

    Args:
        what: that learned, for the sentence.
        days: of the panel, ascending.
    """
    gap = test.purge_days + test.embargo_days
    begins = test.places(days, "test").start
    for block in ("train", "validation"):
        last = learned.span(block)[1]
        between = sum(1 for day in days[:begins] if day > last)
        if last >= test.test[0] or between < gap:
            yield (
                f"the {block} block of {what} ends on {last}, {between} trading days before the test block of fold "
                f"{test.name} begins ({test.test[0]}): purge and embargo need {gap}"
            )


def audit(parts: Sequence[Part], days: Sequence[date]) -> list[str]:
    """Everything that forbids to stitch these folds: a day tested twice, scores of other days, too near a training.

    Args:
        parts: in any order.
        days: of the panel, ascending.
    """
    found = []
    for one, other in combinations(sorted(parts, key=lambda part: part.fold.test), 2):
        if one.fold.test[1] >= other.fold.test[0]:
            found.append(
                f"the test blocks of {one.fold.name} ({' to '.join(map(str, one.fold.test))}) and {other.fold.name} "
                f"({' to '.join(map(str, other.fold.test))}) overlap: a day would be judged twice"
            )
    for part in parts:
        found += too_close(f"fold {part.fold.name}", part.fold, part.fold, days)
        for what, learned in part.learned.items():
            found += too_close(what, learned, part.fold, days)
        for name, frame in part.scores.items():
            outside = frame.filter(~pl.col("date").is_between(*part.fold.test))
            if outside.height:
                found.append(
                    f"the scores of {name} on fold {part.fold.name} hold {outside.height} rows of days outside of its "
                    f"test block, {outside['date'].to_list()[0]} among them"
                )
    return found


def gaps(parts: Sequence[Part], days: Sequence[date]) -> list[str]:
    """Days of the panel between the first and the last test block that no fold tests, as sentences."""
    ordered = sorted((part.fold for part in parts), key=lambda fold: fold.test)
    found = []
    for before, after in pairwise(ordered):
        lost = days[before.places(days, "test").stop : after.places(days, "test").start]
        if lost:
            found.append(f"{lost[0]} to {lost[-1]} ({len(lost)} trading days, between {before.name} and {after.name})")
    return found


def stitched(parts: Sequence[Part], name: str) -> pl.DataFrame:
    """Scores of one name over all folds: date, code, score_<h>d, fold; sorted by date and code."""
    return in_folds(parts, [part.scores[name] for part in parts])


def in_folds(parts: Sequence[Part], frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """A frame of date, code … per fold as one, with the name of the fold; sorted by date and code."""
    named = [frame.with_columns(fold=pl.lit(part.fold.name)) for part, frame in zip(parts, frames, strict=True)]
    return pl.concat(named, how="diagonal_relaxed").sort("date", "code")


@dataclass(frozen=True)
class StitchedBlock(Block):
    """The days from the first test block to the last, and of them the rows that every name has scored.

    Attributes:
        scored: [D,N]; outside of the folds nothing is.
    """

    scored: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """[D,N]."""
        return self.panel.valid[self.rows] & self.scored

    @property
    def judged_days(self) -> NDArray[np.bool_]:
        """[D], days of which a row is judged."""
        return np.asarray(self.eligible.any(axis=1))

    @property
    def left_out(self) -> int:
        """Valid rows of the judged days that are not judged, because a name lacks a score."""
        valid = self.panel.valid[self.rows][self.judged_days]
        return int(valid.sum() - self.eligible.sum())


def stitched_block(panel: Panel, parts: Sequence[Part], frames: Mapping[str, pl.DataFrame]) -> StitchedBlock:
    """The rows on which stitched scores are judged: the same for every name.

    Args:
        frames: by name, of `stitched`.
    """
    places = [part.fold.places(panel.dates, "test") for part in parts]
    span = Block(panel, range(min(p.start for p in places), max(p.stop for p in places)))
    scored = np.ones((len(span.days), len(panel.codes)), bool)
    for frame in frames.values():
        scored &= np.isfinite(span.dense(frame)).all(axis=0)
    return StitchedBlock(panel, span.days, "stitched test", scored)


def by_fold(panel: Panel, parts: Sequence[Part], block: Block, daily: Floats) -> dict[str, float]:
    """Mean of a daily series [D] of a stitched block over the days of each fold; NaN where none has a figure."""
    found = {}
    for part in parts:
        places = part.fold.places(panel.dates, "test")
        values = daily[places.start - block.days.start : places.stop - block.days.start]
        known = values[np.isfinite(values)]
        found[part.fold.name] = float(known.mean()) if len(known) else float("nan")
    return found


def by_month(panel: Panel, block: Block, daily: Floats) -> dict[str, float]:
    """Mean of a daily series [D] of a stitched block over each calendar month, `2018-01`, that has a figure."""
    months: dict[str, list[float]] = {}
    for place, value in zip(block.days, daily, strict=True):
        if np.isfinite(value):
            months.setdefault(f"{panel.dates[place]:%Y-%m}", []).append(float(value))
    return {month: float(np.mean(values)) for month, values in months.items()}
