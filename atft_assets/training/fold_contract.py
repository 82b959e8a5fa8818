"""What a fold must be on a panel: labels known where they are needed, and no feature that has seen the future."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from atft_assets.contracts import Verdict, failures_frame
from atft_assets.panel.contract import Failure
from atft_assets.scoring.limits import LEAK_ALARM
from atft_assets.scoring.ranking import gaussian_ranks
from atft_model.interchange.fold import Fold
from atft_model.interchange.horizons import LABELS
from atft_model.interchange.panel import Panel, from_bfloat16

LEAST_LABELLED = 0.8
LABELLED_BLOCKS: tuple[Literal["train", "validation"], ...] = ("train", "validation")
LEAK_EVERY = 5  # training days between two looks for a leak
LEAK_NAMES = 20  # a day with fewer has too wild a correlation


def audit_fold(panel: Panel, fold: Fold) -> Verdict:
    """Labels and leaks; the partition of the verdict is the fold's name.

    Raises:
        FoldError: the panel holds no day of a block, or the blocks lie too close together.
    """
    fold.check(panel.dates, panel.horizons)
    found = [*_label_failures(panel, fold), *_leaks(panel, fold)]
    return Verdict("folds", fold.name, failures_frame(found))


def _label_failures(panel: Panel, fold: Fold) -> Iterator[Failure]:
    for label in LABELS:
        for block in LABELLED_BLOCKS:
            days = fold.places(panel.dates, block)
            eligible = panel.valid[days.start : days.stop]
            for i, h in enumerate(panel.horizons):
                known = np.isfinite(panel.tensors[label][i, days.start : days.stop])[eligible]
                if known.size == 0 or known.mean() < LEAST_LABELLED:
                    rule = f"known for {LEAST_LABELLED:.0%} of the valid rows of the {block} block"
                    yield f"{label}_{h}d", rule, int((~known).sum()), f"{known.sum()} of {known.size} are"


def _leaks(panel: Panel, fold: Fold) -> Iterator[Failure]:
    """Features whose mean daily correlation with the rank of the next day's return is beyond belief."""
    daily = []
    for t in fold.places(panel.dates, "train")[::LEAK_EVERY]:
        y = panel.one_day_returns[t]
        rows = panel.valid[t] & np.isfinite(y)
        if rows.sum() < LEAK_NAMES:
            continue
        target = gaussian_ranks(y[rows, None])[:, 0]
        x = from_bfloat16(panel.tensors["x"][t][rows])
        x, target = x - x.mean(axis=0), target - target.mean()
        scale = np.sqrt((x * x).sum(axis=0) * (target @ target))
        daily.append(np.where(scale > 1e-6, target @ x / np.maximum(scale, 1e-6), 0))
    if len(daily) < 2:
        return
    ic, error = np.mean(daily, axis=0), np.std(daily, axis=0) / np.sqrt(len(daily))
    for i in np.flatnonzero(np.abs(ic) - 2 * error > LEAK_ALARM).tolist():  # beyond the noise of a small panel
        rule = f"|mean daily correlation with the next day's return| at most {LEAK_ALARM}; more has seen the future"
        yield panel.features[i], rule, len(daily), f"{ic[i]:+.3f} over {len(daily)} days"
