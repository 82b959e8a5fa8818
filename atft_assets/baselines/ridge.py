"""Ridge regression by normal equations, one penalty a horizon, on all eligible names or on the liquid ones alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atft_assets.baselines.config import BaselineConfig
from atft_assets.baselines.fitted import CannotFit, Fitted
from atft_assets.baselines.samples import (
    InnerSplit,
    Judge,
    JudgedDay,
    Rows,
    day_sample,
    eligible,
    features_of,
    inner_split,
)
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel, from_bfloat16

# Relative to the number of rows: at 1 the prior weighs as much as a column of unit variance.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
NEUTRAL_PENALTY = 1.0  # where nothing can be chosen
# Least squares, and one column at a time: what lies beyond is the same fit.
LEAST, MOST = 1e-8, 1e5
DIGITS = 5  # of a RankIC: differences below are no reason to choose

LIQUID_SHARE = 1 / 3
LIQUIDITY = ("log_adv_20", "log_turnover")  # columns that order names by what they trade, the better one first


def ridge(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """Linear in the day's features, fitted on all eligible names."""
    return _fitted(panel, fold, eligible)


def ridge_liquid(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """Linear in the day's features, fitted and chosen on the most traded third of each day; scores all names.

    Raises:
        CannotFit: the panel has no column by which names could be ordered.
    """
    return _fitted(panel, fold, liquid(panel))


def liquid(panel: Panel) -> Rows:
    """The third of a day's eligible names that trades most, by the panel's own ranked column.

    Raises:
        CannotFit: there is none.
    """
    column = next((name for name in LIQUIDITY if name in panel.features), None)
    if column is None:
        raise CannotFit(f"the panel has neither of the features {' and '.join(LIQUIDITY)}")
    place = panel.features.index(column)

    def rows(panel: Panel, t: int) -> NDArray[np.bool_]:
        (names,) = np.nonzero(panel.valid[t])
        traded = from_bfloat16(panel.tensors["x"][t][names, place])
        order = np.argsort(-traded, kind="stable")
        most = np.zeros(panel.valid.shape[1], bool)
        most[names[order[: round(len(names) * LIQUID_SHARE)]]] = True
        return most

    return rows


def fit_ridge(panel: Panel, fold: Fold, rows: Rows = eligible) -> tuple[Floats, dict[str, object]]:
    """Weights of each horizon, its penalty chosen by RankIC on the tail of the train block.

    Returns:
        Weights [H, F+1], the last for the constant; and what was chosen and tried.
    """
    days, split = fold.places(panel.dates, "train"), inner_split(panel, fold)
    moments = Moments.zeros(panel)
    facts: dict[str, object] = {}
    if split is None:
        penalties = [NEUTRAL_PENALTY] * len(panel.horizons)
        facts["chosen"] = f"nothing: {len(days)} training days are too few for an inner split"
        rest: Sequence[int] = days
    else:
        moments.add(panel, split.fit, rows)
        tried = try_penalties(panel, moments, split, rows)
        penalties = [best_penalty(ics) for ics in tried]
        for horizon, penalty, ics in zip(panel.horizons, penalties, tried, strict=True):
            facts |= {f"penalty_{horizon}d": penalty, f"inner_rank_ic_{horizon}d": round(ics[penalty], DIGITS)}
            facts[f"penalties_{horizon}d"] = sorted(ics)
        rest = range(split.fit.stop, days.stop)
    moments.add(panel, rest, rows)  # the fitted days are in it already
    weights = np.stack([moments.solve(h, penalty) for h, penalty in enumerate(penalties)])
    return weights, {**facts, "rows": int(moments.rows.max()), "days": len(days)}


def try_penalties(panel: Panel, fitted: "Moments", split: InnerSplit, rows: Rows) -> list[dict[float, float]]:
    """RankIC on the tail by penalty, a table a horizon, each widened until its best lies inside."""
    judge = Judge(panel, split.tail, rows)
    tried: list[dict[float, float]] = [{} for _ in panel.horizons]
    wanted = [(h, penalty) for h in range(len(tried)) for penalty in PENALTIES]
    while wanted:
        weights = np.stack([fitted.solve(h, penalty) for h, penalty in wanted], axis=1)  # [F+1,C]

        def scores(day: JudgedDay, weights: Floats = weights) -> Floats:
            return features_of(panel, day.t, day.rows) @ weights[:-1].astype(np.float32)

        figures = judge.rank_ic(scores, [h for h, _ in wanted])
        for (h, penalty), figure in zip(wanted, figures, strict=True):
            tried[h][penalty] = float(figure)
        wanted = [(h, further) for h, ics in enumerate(tried) if (further := beyond(ics)) is not None]
    return tried


def best_penalty(ics: dict[float, float]) -> float:
    """The penalty of the highest RankIC; among equal ones that nearest to 1."""
    return max(ics, key=lambda penalty: (round(ics[penalty], DIGITS), -abs(np.log10(penalty))))


def beyond(ics: dict[float, float]) -> float | None:
    """The next penalty to try: a decade beyond the edge at which the best one lies; None where it lies inside."""
    best = best_penalty(ics)
    if best == min(ics) and best > LEAST:
        return best / 10
    if best == max(ics) and best < MOST:
        return best * 10
    return None


@dataclass
class Moments:
    """X'X [H,F+1,F+1] and X'y [H,F+1] over the rows whose label is known, and their number [H]."""

    xx: Floats
    xy: Floats
    rows: NDArray[np.int64] = field(repr=False)

    @classmethod
    def zeros(cls, panel: Panel) -> "Moments":
        heads, size = len(panel.horizons), len(panel.features) + 1
        return cls(np.zeros((heads, size, size)), np.zeros((heads, size)), np.zeros(heads, np.int64))

    def add(self, panel: Panel, days: Sequence[int], rows: Rows = eligible) -> None:
        """Add the rows of some days, one day in memory at a time."""
        for t in days:
            x, y = day_sample(panel, t, rows)
            x = np.hstack([x, np.ones((len(x), 1), np.float32)])
            known = np.isfinite(y)
            products: dict[bytes, Floats] = {}  # horizons nearly always share their rows
            for h in range(len(self.rows)):
                kept, key = x[known[:, h]], known[:, h].tobytes()
                if key not in products:
                    products[key] = kept.T @ kept
                self.xx[h] += products[key]
                self.xy[h] += kept.T @ y[known[:, h], h]
                self.rows[h] += len(kept)

    def solve(self, h: int, penalty: float) -> Floats:
        """Weights [F+1] of a horizon; the constant is not shrunk."""
        shrink = np.eye(len(self.xy[h])) * penalty * max(self.rows[h], 1)
        shrink[-1, -1] = 1e-9
        return np.linalg.solve(self.xx[h] + shrink, self.xy[h])


def _fitted(panel: Panel, fold: Fold, rows: Rows) -> Fitted:
    weights, facts = fit_ridge(panel, fold, rows)

    def predict(panel: Panel, days: range) -> Floats:
        return np.stack([panel.x(t) @ weights[:, :-1].T.astype(np.float32) for t in days]).transpose(2, 0, 1)

    return Fitted(predict, facts)
