"""THE scoring function: every model, baseline and rule is judged by it, on the same rows.

Per day the correlation over the eligible names, then the mean over days; days are never pooled. Spearman with ties
averaged; a day on which the scores do not vary has no correlation (NaN), not zero. Pure NumPy, deterministic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.statistics import newey_west_t
from atft_assets.training.ranking import average_ranks

Floats = NDArray[np.floating]

# Weights of the horizons in the headline figure, before normalisation.
HORIZON_WEIGHTS: Mapping[int, float] = {1: 1.0, 5: 0.8, 10: 0.6, 20: 0.4}

MIN_NAMES = 10  # a day with fewer eligible names has no correlation; the trainer has the same bound
BLOCK_DAYS = 20  # the longest label horizon: daily figures that far apart share no return
BOOTSTRAP_DRAWS = 2_000
VOLATILITY_WINDOW = 20


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
        rank_ic: headline, the weighted mean of the horizons' RankICs (`HORIZON_WEIGHTS`); `neutral_rank_ic` likewise.
        t, icir: of the daily headline series; t is Newey-West with the lag of the longest horizon.
        coverage: share of the eligible (day, name) pairs that have a score.
        daily, daily_neutral: headline series [D], NaN on days without a figure.
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
        fields = {k: v for k, v in asdict(self).items() if not k.startswith("daily")}
        fields["by_horizon"] = {str(h): _plain(row) for h, row in fields["by_horizon"].items()}
        return _plain(fields)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in fields.items()}


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
            (ranks, return_ranks), _ = _ranks(s, r)
            rank_ic[h, d] = _pearson(ranks, return_ranks)
            ic[h, d] = _pearson(s, r)
            spread[h, d] = _decile_spread(ranks, r)
            if volatility is not None and sectors is not None:
                s, r = (residual(v, volatility[d, rows], sectors[rows]) for v in (s, r))
                (ranks, return_ranks), _ = _ranks(s, r)
                neutral[h, d] = _pearson(ranks, return_ranks)
    rank_means, neutral_means = (np.array([_mean(row) for row in table]) for table in (rank_ic, neutral))
    weights = headline_weights(horizons)
    daily, daily_neutral = weights @ rank_ic, weights @ neutral
    lag = max(horizons) - 1
    known = (eligible[None] & np.isfinite(returns)).sum()
    return Score(
        rank_ic=float(weights @ rank_means),
        t=newey_west_t(daily, lag),
        icir=_ratio(daily),
        neutral_rank_ic=float(weights @ neutral_means),
        neutral_t=newey_west_t(daily_neutral, lag),
        days=int(np.isfinite(rank_ic).any(axis=0).sum()),
        names_a_day=float(eligible.sum(axis=1).mean()) if days else 0.0,
        coverage=float(judged.sum() / known) if known else 0.0,
        by_horizon={
            h: HorizonScore(
                rank_ic=_mean(rank_ic[i]),
                t=newey_west_t(rank_ic[i], h - 1),
                rank_icir=_ratio(rank_ic[i]),
                ic=_mean(ic[i]),
                icir=_ratio(ic[i]),
                decile_spread=_mean(spread[i]),
                neutral_rank_ic=_mean(neutral[i]),
                neutral_t=newey_west_t(neutral[i], h - 1),
            )
            for i, h in enumerate(horizons)
        },
        daily=daily,
        daily_neutral=daily_neutral,
    )


def headline_weights(horizons: Sequence[int]) -> Floats:
    """The horizons' weights, normalised; a horizon without a weight of its own counts 1."""
    weights = np.array([HORIZON_WEIGHTS.get(h, 1.0) for h in horizons])
    return weights / weights.sum()


@dataclass(frozen=True)
class Difference:
    """Mean of paired daily differences with a 95 % interval; p is two-sided, against no difference."""

    mean: float
    low: float
    high: float
    p: float
    t: float
    days: int

    def as_json(self) -> dict[str, Any]:
        return _plain(asdict(self))


def paired_difference(
    ours: Floats, theirs: Floats, *, block: int = BLOCK_DAYS, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Difference:
    """Compare two daily series on the days that both have, by a circular block bootstrap (Politis & Romano 1992).

    Blocks keep the dependence that overlapping labels bring into neighbouring days; with fewer than three blocks of
    days the blocks are shortened, and the interval is then too narrow rather than absent.
    """
    differences = (ours - theirs)[np.isfinite(ours) & np.isfinite(theirs)]
    n = len(differences)
    if n < 3:
        return Difference(*(float("nan"),) * 5, days=n)
    block = max(1, min(block, n // 3))
    starts = np.random.default_rng(seed).integers(0, n, (draws, -(-n // block)))
    places = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, :n] % n
    means = differences[places].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * max(min((means <= 0).mean(), (means >= 0).mean()), 1 / draws))
    t = newey_west_t(differences, block - 1)
    return Difference(float(differences.mean()), float(low), float(high), float(p), t, n)


def trailing_volatility(one_day_returns: Floats, days: range, window: int = VOLATILITY_WINDOW) -> Floats:
    """Standard deviation of the last `window` known daily returns.

    Args:
        one_day_returns: [T,N]; row t is the return from t to t+1, known on day t+1.
        days: rows of the answer.

    Returns:
        [len(days), N]; NaN with fewer than half a window of returns.
    """
    return np.stack([_window_std(one_day_returns[max(0, t - window) : t], window // 2) for t in days])


def trailing_return(one_day_returns: Floats, days: range, window: int) -> Floats:
    """Compound return of the last `window` days [len(days), N], by the same convention; NaN if a day is missing."""
    rows = []
    for t in days:
        past = one_day_returns[max(0, t - window) : t].astype(np.float64)
        whole = np.prod(1 + past, axis=0) - 1
        rows.append(whole if len(past) == window else np.full(past.shape[1], np.nan))
    return np.stack(rows)


def _window_std(past: Floats, least: int) -> Floats:
    known = np.isfinite(past)
    count = known.sum(axis=0)
    filled = np.where(known, past, 0).astype(np.float64)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    square = (np.where(known, filled - mean, 0) ** 2).sum(axis=0)
    return np.where(count >= max(least, 2), np.sqrt(square / np.maximum(count - 1, 1)), np.nan)


def _ranks(*columns: Floats) -> tuple[Floats, NDArray[np.int64]]:
    ranks, counts = average_ranks(np.stack(columns, axis=1))
    return ranks.T.astype(np.float64), counts


def _pearson(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    # a residual of a constant is round-off, not variation
    return float(a @ b / scale) if scale > 1e-20 and np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def _decile_spread(ranks: Floats, returns: Floats) -> float:
    n = len(ranks)
    top, bottom = ranks > 0.9 * n, ranks <= 0.1 * n
    if not top.any() or not bottom.any():  # everything tied
        return float("nan")
    return float(returns[top].mean() - returns[bottom].mean())


def residual(values: Floats, volatility: Floats, sectors: NDArray[np.integer]) -> Floats:
    """Least-squares residual of one day's values on sector dummies and volatility, all [n] (Frisch-Waugh: within
    sectors, then the slope).

    Volatility enters by its rank, so that one wild name does not set the slope; a name without it counts as average.
    """
    ranks, counts = average_ranks(volatility[:, None])
    level = np.nan_to_num((ranks[:, 0] - (counts[0] + 1) / 2).astype(np.float64))
    values = values - values.mean()
    total = values @ values
    values, level = _within(values, sectors), _within(level, sectors)
    power = level @ level
    residual = values - level * (level @ values / power) if power > 1e-12 else values
    # of scores that sector and volatility explain wholly only round-off is left: that is no variation
    return residual if residual @ residual > 1e-20 * total else np.zeros_like(residual)


def _within(values: Floats, groups: NDArray[np.integer]) -> Floats:
    count = np.bincount(groups)
    mean = np.bincount(groups, weights=values) / np.maximum(count, 1)
    return values - mean[groups]


def _mean(series: Floats) -> float:
    known = series[np.isfinite(series)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(series: Floats) -> float:
    known = series[np.isfinite(series)]
    deviation = known.std(ddof=1) if len(known) > 2 else 0.0
    return float(known.mean() / deviation) if deviation > 1e-12 else float("nan")
