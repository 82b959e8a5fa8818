"""THE scoring function: every model, baseline and rule is judged by it, on the same rows.

Per day the correlation over the eligible names, then the mean over days; days are never pooled. Spearman with ties
averaged; a day on which the scores do not vary has no correlation (NaN), not zero. Pure NumPy, deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.scoring.daily import pearson, spearman_of_values
from atft_assets.scoring.neutral import residual, volatility_level
from atft_assets.scoring.ordering import deciles_of, levels_of, ranks_of, spread_of
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.horizons import MIN_NAMES, headline, horizon_weights
from atft_model.interchange.records import to_plain
from atft_model.interchange.statistics import information_ratio, mean, newey_west_t


@dataclass(frozen=True)
class HorizonScore:
    """Means over days of one horizon; t is Newey-West with lag h - 1, ICIRs are mean / standard deviation, daily."""

    rank_ic: float
    t: float
    rank_icir: float
    ic: float
    icir: float
    decile_spread: float  # mean raw return of the highest-scored tenth minus the lowest's
    neutral_rank_ic: float  # scores and returns residualised per day on 20-day volatility and sector
    neutral_t: float


@dataclass(frozen=True)
class Score:
    """How well one set of scores ranked a block.

    Attributes:
        rank_ic: headline, the weighted mean of the horizons' RankICs; `neutral_rank_ic` likewise.
        t, icir: of the daily headline series; t is Newey-West with the lag of the longest horizon.
        coverage: share of the eligible (day, name) pairs that have a score.
        daily, daily_neutral: headline series [D], NaN on days on which a horizon has no figure.
    """

    rank_ic: float
    t: float
    icir: float
    neutral_rank_ic: float
    neutral_t: float
    days: int
    names_a_day: float
    coverage: float
    by_horizon: dict[int, HorizonScore]
    daily: Floats
    daily_neutral: Floats

    def as_json(self) -> dict[str, Any]:
        """Everything but the daily series; NaN becomes None."""
        names = [field.name for field in fields(self) if not field.name.startswith("daily")]
        return {name: to_plain(getattr(self, name)) for name in names}


def evaluate(
    scores: Floats,
    returns: Floats,
    eligible: NDArray[np.bool_],
    *,
    horizons: Sequence[int],
    volatility: Floats | None = None,
    sectors: NDArray[np.integer] | None = None,
    min_names: int = MIN_NAMES,
) -> Score:
    """Score a block.

    Args:
        scores: [H,D,N], higher is better, NaN where a name was not scored.
        returns: [H,D,N] raw forward returns, NaN where unknown.
        eligible: [D,N].
        horizons: H label horizons in trading days.
        volatility: [D,N] known on the day, for the neutral figures.
        sectors: [N] sector numbers, for the neutral figures.
        min_names: a day with fewer rows has no figures.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if scores.shape != returns.shape or scores.shape[1:] != eligible.shape or len(horizons) != len(scores):
        raise ValueError(f"scores {scores.shape}, returns {returns.shape}, eligible {eligible.shape}: shapes differ")
    heads, days = scores.shape[:2]
    rank_ic, ic, spread, neutral = (np.full((heads, days), np.nan) for _ in range(4))
    judged = np.zeros((heads, days), int)
    for d in range(days):
        for h in range(heads):
            rows = eligible[d] & np.isfinite(scores[h, d]) & np.isfinite(returns[h, d])
            judged[h, d] = rows.sum()
            if judged[h, d] < min_names:
                continue
            s, r = scores[h, d, rows].astype(np.float64), returns[h, d, rows].astype(np.float64)
            ranks = ranks_of(levels_of(s))
            rank_ic[h, d] = pearson(ranks, ranks_of(levels_of(r)))
            ic[h, d] = pearson(s, r)
            spread[h, d] = spread_of(deciles_of(ranks), r)
            if volatility is not None and sectors is not None:
                left = residual(np.stack([s, r], axis=1), volatility_level(volatility[d, rows]), sectors[rows])
                neutral[h, d] = spearman_of_values(left[:, 0], left[:, 1])
    rank_means, neutral_means = (np.array([mean(row) for row in table]) for table in (rank_ic, neutral))
    weights = horizon_weights(horizons)
    daily, daily_neutral = headline(rank_ic, horizons), headline(neutral, horizons)
    lag = max(horizons) - 1
    known = (eligible[None] & np.isfinite(returns)).sum()
    return Score(
        rank_ic=float(weights @ rank_means),
        t=newey_west_t(daily, lag),
        icir=information_ratio(daily),
        neutral_rank_ic=float(weights @ neutral_means),
        neutral_t=newey_west_t(daily_neutral, lag),
        days=int(np.isfinite(rank_ic).any(axis=0).sum()),
        names_a_day=float(eligible.sum(axis=1).mean()) if days else 0.0,
        coverage=float(judged.sum() / known) if known else 0.0,
        by_horizon={
            h: HorizonScore(
                rank_ic=mean(rank_ic[i]),
                t=newey_west_t(rank_ic[i], h - 1),
                rank_icir=information_ratio(rank_ic[i]),
                ic=mean(ic[i]),
                icir=information_ratio(ic[i]),
                decile_spread=mean(spread[i]),
                neutral_rank_ic=mean(neutral[i]),
                neutral_t=newey_west_t(neutral[i], h - 1),
            )
            for i, h in enumerate(horizons)
        },
        daily=daily,
        daily_neutral=daily_neutral,
    )
