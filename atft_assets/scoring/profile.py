"""The profile of one set of scores: everything that is said of it beside its RankIC (records in `profiles`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets.scoring.competition import jpx_figure
from atft_assets.scoring.daily import ROLLING_DAYS, daily_spearman, grouped_spearman, spearman
from atft_assets.scoring.evaluation import Score
from atft_assets.scoring.neutral import beyond, residual
from atft_assets.scoring.ordering import (
    DECILES,
    Floats,
    Levels,
    decile_means,
    deciles_of,
    levels_of,
    ranks_of,
)
from atft_assets.scoring.profiles import (
    ExposureFigures,
    GroupFigures,
    HorizonFigures,
    Profile,
    SectorFigures,
    YearFigures,
)
from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.scoring.surroundings import DECAY_DAYS, Grouping, Surroundings
from atft_assets.scoring.turnover import break_even, half_life, held_turnover, rank_autocorrelation
from atft_model.interchange.horizons import MIN_NAMES, headline, horizon_weights
from atft_model.interchange.statistics import finite, mean

DIGITS = 6  # of stored daily series
NONE = float("nan")


def profile(name: str, scores: Floats, score: Score, around: Surroundings, lightgbm: Floats | None = None) -> Profile:
    """Judge one set of scores in every way but the first.

    Args:
        scores: [H,D,N], NaN where a name was not scored.
        score: what `evaluate` says of the same scores on the same block.
        lightgbm: scores [H,D,N] of LightGBM; None where there are none, or these are they.

    Returns:
        NaN, or nothing, where a figure could not be had; `left_out` says why.
    """
    judged = _Judged(scores, around)
    left_out = {}
    contributions = np.full(scores.shape[:2], NONE)
    if lightgbm is None:
        left_out["contribution"] = "there are no scores of LightGBM beside these"
    else:
        contributions = judged.contributions(lightgbm)
    neutral = judged.full_neutral
    one_day = [judged.spread_of_ranking(d) for d in range(len(around.dates))]
    turnover = mean([mean(held_turnover(side, around.one_day, 1)) for side in judged.tails])
    persistence = rank_autocorrelation(judged.ranking, DECAY_DAYS)
    days = len(around.dates)
    decay = [mean(daily_spearman(judged.ranking, around.one_day_levels[k : k + days])) for k in range(DECAY_DAYS)]
    jpx, sides = jpx_figure(judged.ranking, around.one_day[1 : 1 + days])
    grouping = around.segments or around.divisions
    cells = around.liquidity.times(grouping) if around.liquidity else None
    weights = horizon_weights(around.horizons)
    return Profile(
        name=name,
        rank_ic=score.rank_ic,
        neutral_rank_ic=score.neutral_rank_ic,
        full_neutral_rank_ic=float(weights @ [mean(row) for row in neutral]),
        contribution=float(weights @ [mean(row) for row in contributions]),
        spread=mean(one_day),
        spread_hit=_hit(one_day),
        turnover=turnover,
        break_even=break_even(mean(one_day), 2 * turnover),
        half_life=half_life(persistence),
        autocorrelation=_stored(persistence),
        decay=_stored(decay),
        decay_half_life=half_life(decay),
        jpx=jpx,
        jpx_names=sides,
        rolling_band=_band(score),
        daily=_stored(score.daily),
        daily_neutral=_stored(score.daily_neutral),
        by_horizon={
            str(h): judged.horizon(i, mean(neutral[i]), mean(contributions[i])) for i, h in enumerate(around.horizons)
        },
        by_year=_by_year(score, one_day, around),
        by_segment=judged.groups(around.segments),
        by_division=judged.groups(around.divisions),
        by_liquidity=judged.groups(around.liquidity),
        by_liquidity_and_group=judged.groups(cells),
        exposures={name: _exposure(daily_spearman(judged.ranking, v)) for name, v in around.exposure_levels.items()},
        sectors=judged.sectors(),
        left_out=left_out,
    )


@dataclass(frozen=True)
class _Judged:
    """Scores [H,D,N] on a block, and what several figures need of them."""

    scores: Floats
    around: Surroundings

    @cached_property
    def masked(self) -> Floats:
        """Scores of eligible names [H,D,N], float64."""
        return np.where(self.around.eligible, self.scores, np.nan).astype(np.float64)

    @cached_property
    def levels(self) -> Levels:
        """Order of the scores [H,D,N]."""
        return levels_of(self.masked)

    @cached_property
    def ranking(self) -> Levels:
        """One order a day [D,N]: weighted mean of the heads' gaussian ranks, of names that every head scores."""
        weights = horizon_weights(self.around.horizons)
        combined = np.full(self.around.eligible.shape, np.nan)
        whole = np.asarray(np.isfinite(self.masked).all(axis=0))
        for d, rows in enumerate(whole):
            if rows.sum() >= MIN_NAMES:
                # gaussian ranks are float32: what lies closer than that is equal
                combined[d, rows] = np.round(gaussian_ranks(self.masked[:, d, rows].T).astype(np.float64) @ weights, 6)
        return levels_of(combined)

    @cached_property
    def full_neutral(self) -> NDArray[np.float64]:
        """RankIC of what the full neutralisation leaves of the scores' gaussian ranks and of the returns [H,D]."""
        around = self.around
        count, days = self.levels.shape[:2]
        found = np.full((count, days), np.nan)
        for d in range(days):
            for heads, rows in _sharing(np.isfinite(self.masked[:, d]) & (around.return_levels[:, d] >= 0)):
                exposures, sectors = around.taken_out[d, rows], around.sectors[rows]
                ranked = gaussian_ranks(self.masked[heads, d][:, rows].T).astype(np.float64)
                left = levels_of(residual(ranked, exposures, sectors).T)
                for h, order in zip(heads, left, strict=True):
                    theirs = around.neutral_levels[h, d, rows]
                    if rows.sum() < (around.return_levels[h, d] >= 0).sum():  # not all are scored: among those that are
                        theirs = levels_of(residual(around.returns[h, d, rows], exposures, sectors))
                    found[h, d] = spearman(order, theirs)
        return found

    def contributions(self, lightgbm: Floats) -> NDArray[np.float64]:
        """RankIC [H,D] of what the scores' gaussian ranks have beyond those of LightGBM."""
        found = np.full(self.levels.shape[:2], np.nan)
        for h, d in np.ndindex(found.shape):
            rows = np.isfinite(self.masked[h, d]) & np.isfinite(lightgbm[h, d]) & (self.around.return_levels[h, d] >= 0)
            if rows.sum() < MIN_NAMES:
                continue
            left = beyond(self.masked[h, d, rows], lightgbm[h, d, rows])
            found[h, d] = spearman(levels_of(left), self.around.return_levels[h, d, rows])
        return found

    def horizon(self, h: int, full_neutral: float, contribution: float) -> HorizonFigures:
        """Deciles, spread, turnover and break-even cost of one head."""
        around, horizon = self.around, self.around.horizons[h]
        means = np.full((len(around.dates), DECILES), np.nan)
        for d in range(len(means)):
            rows = (self.levels[h, d] >= 0) & (around.return_levels[h, d] >= 0)
            if rows.sum() >= MIN_NAMES:
                deciles = deciles_of(ranks_of(self.levels[h, d, rows]))
                means[d] = decile_means(deciles, around.returns[h, d, rows].astype(np.float64))
        spread = means[:, -1] - means[:, 0]
        turnover = mean([mean(held_turnover(side, around.returns[h], horizon)) for side in _tails(self.levels[h])])
        return HorizonFigures(
            deciles=_stored([mean(column) for column in means.T]),
            spread=mean(spread),
            hit=_hit(spread),
            path=_stored(np.nancumsum(spread) / horizon),
            turnover=turnover,
            break_even=break_even(mean(spread), 2 * turnover),
            full_neutral_rank_ic=full_neutral,
            contribution=contribution,
        )

    @cached_property
    def tails(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Members of the ranking's highest and lowest tenth, each [D,N]."""
        return _tails(self.ranking)

    def spread_of_ranking(self, d: int) -> float:
        """One-day label return of the ranking's highest tenth less the lowest on a day."""
        rows = (self.ranking[d] >= 0) & (self.around.return_levels[0, d] >= 0)
        if rows.sum() < MIN_NAMES:
            return NONE
        means = decile_means(deciles_of(ranks_of(self.ranking[d, rows])), self.around.returns[0, d, rows].astype(float))
        return float(means[-1] - means[0])

    def groups(self, grouping: Grouping | None) -> dict[str, GroupFigures]:
        """Headline RankIC within each group that ever has enough names."""
        if grouping is None:
            return {}
        count = len(grouping.names)
        daily = np.stack(
            [
                grouped_spearman(self.levels[h], self.around.return_levels[h], grouping.places, count)
                for h in range(len(self.levels))
            ]
        )
        series = headline(daily.reshape(len(daily), -1), self.around.horizons).reshape(daily.shape[1:])
        names = [(self.around.eligible & (grouping.places == g)).sum(axis=1).mean() for g in range(count)]
        return {
            name: GroupFigures(
                rank_ic=mean(series[:, g]),
                hit=_hit(series[:, g]),
                days=len(finite(series[:, g])),
                names_a_day=float(names[g]),
            )
            for g, name in enumerate(grouping.names)
            if len(finite(series[:, g]))
        }

    def sectors(self) -> dict[str, SectorFigures]:
        """Weights of the sectors in the highest tenth of the ranking and in all of it."""
        codes, sectors = self.around.sector_codes, self.around.sectors
        shares = [
            [np.bincount(sectors[held], minlength=len(codes)) / held.sum() for held in members if held.any()]
            for members in (self.tails[0], self.ranking >= 0)
        ]
        if not shares[0]:
            return {}
        top, universe = (np.mean(days, axis=0) for days in shares)
        return {code or "unknown": SectorFigures(float(top[i]), float(universe[i])) for i, code in enumerate(codes)}


def _tails(levels: Levels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    top, bottom = np.zeros(levels.shape, bool), np.zeros(levels.shape, bool)
    for d, order in enumerate(levels):
        rows = order >= 0
        if rows.sum() >= MIN_NAMES:
            deciles = deciles_of(ranks_of(order[rows]))
            top[d, rows], bottom[d, rows] = deciles == DECILES - 1, deciles == 0
    return top, bottom


def _band(score: Score) -> float:
    """1.96 standard errors of a 60-day mean: the mean over its t is the standard error of all the days."""
    days = len(finite(score.daily))
    return float(1.96 * abs(mean(score.daily) / score.t) * np.sqrt(days / ROLLING_DAYS)) if score.t else NONE


def _by_year(score: Score, spread: Sequence[float], around: Surroundings) -> dict[str, YearFigures]:
    years = np.array([day.year for day in around.dates])
    return {
        str(year): YearFigures(
            rank_ic=mean(score.daily[years == year]),
            neutral_rank_ic=mean(score.daily_neutral[years == year]),
            spread=mean(np.asarray(spread)[years == year]),
            days=len(finite(score.daily[years == year])),
        )
        for year in np.unique(years).tolist()
    }


def _exposure(daily: NDArray[np.float64]) -> ExposureFigures:
    known = finite(daily)
    low, high = np.quantile(known, [0.1, 0.9]) if len(known) else (NONE, NONE)
    return ExposureFigures(mean(daily), float(low), float(high))


def _sharing(masks: NDArray[np.bool_], least: int = MIN_NAMES) -> Iterator[tuple[list[int], NDArray[np.bool_]]]:
    """Heads [H,N] that have the same names, together: what is solved for one is solved for all of them."""
    heads: dict[bytes, list[int]] = {}
    for h, mask in enumerate(masks):
        heads.setdefault(mask.tobytes(), []).append(h)
    for some in heads.values():
        if masks[some[0]].sum() >= least:
            yield some, masks[some[0]]


def _hit(series: ArrayLike) -> float:
    known = finite(series)
    return float((known > 0).mean()) if len(known) else NONE


def _stored(series: ArrayLike) -> tuple[float, ...]:
    return tuple(np.round(np.asarray(series, np.float64), DIGITS).tolist())
