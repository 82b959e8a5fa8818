"""THE scoring function: every model, baseline and rule is judged by it, on the same rows.

Per day the correlation over the eligible names, then the mean over days; days are never pooled. Spearman with ties
averaged; a day on which the scores do not vary has no correlation (NaN), not zero. What is neutral is left of the ranks
of the scores, so a monotone change of the scores changes no rank figure: residuals of the scores themselves favour thin
tails, and so a mean of several networks' ranks above each of them. Pure NumPy, deterministic.
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
from atft_model.interchange.statistics import information_ratio, mean, mean_verdict


@dataclass(frozen=True)
class HorizonScore:
    """Means over days of one horizon; ICIRs are mean / standard deviation, daily.

    Attributes:
        t, p, spaced_t, neutral_t, neutral_p: as in `MeanVerdict`, of the horizon's daily RankIC and neutral RankIC.
    """

    rank_ic: float
    t: float
    p: float
    spaced_t: float
    rank_icir: float
    ic: float
    icir: float
    decile_spread: float  # mean raw return of the highest-scored tenth minus the lowest's
    neutral_rank_ic: float  # ranks of scores, and returns, residualised per day on 20-day volatility and sector
    neutral_t: float
    neutral_p: float


@dataclass(frozen=True)
class Score:
    """How well one set of scores ranked a block.

    Attributes:
        rank_ic: headline, the weighted mean of the horizons' RankICs; `neutral_rank_ic` likewise.
        t, critical, p, low, high, spaced_t: what `mean_verdict` says of the daily headline series, with the longest
            horizon; p and the 95 % interval are NaN where the days are too few. `neutral_t`, `neutral_p` likewise.
        icir: of the daily headline series.
        coverage: share of the eligible (day, name) pairs that have a score.
        daily, daily_neutral: headline series [D], NaN on days on which a horizon has no figure.
        daily_shortest: RankIC of the shortest horizon [D], likewise.
    """

    rank_ic: float
    t: float
    critical: float
    p: float
    low: float
    high: float
    spaced_t: float
    icir: float
    neutral_rank_ic: float
    neutral_t: float
    neutral_p: float
    days: int
    names_a_day: float
    coverage: float
    by_horizon: dict[int, HorizonScore]
    daily: Floats
    daily_neutral: Floats
    daily_shortest: Floats

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
        scores: [H,D,N], the days ascending, higher is better, NaN where a name was not scored.
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
                left = residual(np.stack([ranks, r], axis=1), volatility_level(volatility[d, rows]), sectors[rows])
                neutral[h, d] = spearman_of_values(left[:, 0], left[:, 1])
    rank_means, neutral_means = (np.array([mean(row) for row in table]) for table in (rank_ic, neutral))
    weights = horizon_weights(horizons)
    daily, daily_neutral = headline(rank_ic, horizons), headline(neutral, horizons)
    longest = max(horizons)
    verdict, neutral_verdict = mean_verdict(daily, longest), mean_verdict(daily_neutral, longest)
    by_horizon = {}
    for i, h in enumerate(horizons):
        of_ranks, of_neutral = mean_verdict(rank_ic[i], h), mean_verdict(neutral[i], h)
        by_horizon[h] = HorizonScore(
            rank_ic=of_ranks.mean,
            t=of_ranks.t,
            p=of_ranks.p,
            spaced_t=of_ranks.spaced_t,
            rank_icir=information_ratio(rank_ic[i]),
            ic=mean(ic[i]),
            icir=information_ratio(ic[i]),
            decile_spread=mean(spread[i]),
            neutral_rank_ic=of_neutral.mean,
            neutral_t=of_neutral.t,
            neutral_p=of_neutral.p,
        )
    known = (eligible[None] & np.isfinite(returns)).sum()
    return Score(
        rank_ic=float(weights @ rank_means),
        t=verdict.t,
        critical=verdict.critical,
        p=verdict.p,
        low=verdict.low,
        high=verdict.high,
        spaced_t=verdict.spaced_t,
        icir=information_ratio(daily),
        neutral_rank_ic=float(weights @ neutral_means),
        neutral_t=neutral_verdict.t,
        neutral_p=neutral_verdict.p,
        days=int(np.isfinite(rank_ic).any(axis=0).sum()),
        names_a_day=float(eligible.sum(axis=1).mean()) if days else 0.0,
        coverage=float(judged.sum() / known) if known else 0.0,
        by_horizon=by_horizon,
        daily=daily,
        daily_neutral=daily_neutral,
        daily_shortest=rank_ic[int(np.argmin(horizons))],
    )
