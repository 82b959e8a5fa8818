"""May it be promoted? A rule for each kind of change, on figures that others have gathered. Pure functions.

A *refit*, the same recipe on newer days, need not be better: it must not be worse than a margin, and must rank much as
before. Another *recipe* must be shown to be better on test blocks that nothing learned from, among all that were
compared there. A *portfolio rule* must be more than the luck of so many tries. Beside every difference stands the
smallest one that so many days could have shown: most honest decisions read "not shown".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets.trading import inference
from atft_assets.trading.days import TRADING_DAYS
from atft_assets.trading.gates import Gate, blocked
from atft_model.interchange.statistics import LEVEL, MeanVerdict, finite, holm, mean, mean_verdict, paired_difference
from atft_model.interchange.student import two_sided_quantile

MARGIN = 0.01  # of daily RankIC, by which a refit may be worse
LEAST_REFITS = 8  # past refits below which their agreement says nothing
FOLDS_SHARE = 2 / 3  # of the folds must say what all days together say
TURNOVER_FACTOR = 1.2  # of the champion's
COST = 0.001  # per traded yen, of net decile spreads: ten basis points
LEAST_DSR, LARGEST_PBO = 0.95, 0.3
POWER = 2.8  # standard errors that are shown at 5 % in 80 % of cases: 1.96 + 0.84

_UNBOUNDED = float("inf")


@dataclass(frozen=True)
class Decision:
    """What a rule says.

    Attributes:
        rule: first, refit, recipe or portfolio.
        statistic: mean difference to the champion, or a ratio a day of a portfolio rule; NaN where nothing is compared.
        low, high: its 95 % interval.
        p: two-sided, adjusted after Holm where several were compared; `p_alone` before that.
        margin: that the statistic may fall below zero.
        detectable: smallest difference that so many days show in 80 % of cases.
        days: on which both are known.
        parts: what was asked, each with its figure; all must pass.
    """

    rule: str
    statistic: float
    low: float
    high: float
    p: float
    p_alone: float
    margin: float
    detectable: float
    days: int
    parts: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        return not blocked(self.parts)

    @property
    def sentence(self) -> str:
        """The outcome, and what stood against it."""
        against = "; ".join(gate.sentence for gate in blocked(self.parts))
        return f"{self.rule}: {'shown' if self.passed else 'not shown: ' + against}"


def standard_error(verdict: MeanVerdict) -> float:
    """Of a mean, as its interval has it; NaN where the days are too few."""
    return (verdict.high - verdict.low) / 2 / two_sided_quantile(LEVEL, max(verdict.degrees, 1))


def first(name: str, others: Mapping[str, float], figure: float) -> Decision:
    """The first champion: there is nothing to be better than, so what won its evaluation is taken.

    Args:
        others: figures of what else was judged, by name.
        figure: the winner's.
    """
    beside = ", ".join(f"{other} {value:+.4f}" for other, value in others.items()) or "nothing else"
    said = f"{name} won its evaluation with a neutral RankIC of {figure:+.4f}; beside it {beside}"
    won = all(figure >= value for value in others.values())
    part = Gate("won", won, False, figure, (-_UNBOUNDED, _UNBOUNDED), said)
    nothing = float("nan")
    return Decision("first", figure, nothing, nothing, nothing, nothing, 0.0, nothing, 0, (part,))


def not_judged(rule: str, why: str) -> Decision:
    """What there is nothing to judge by; it never passes."""
    nothing = float("nan")
    part = Gate("evidence", False, True, nothing, (-_UNBOUNDED, _UNBOUNDED), why)
    return Decision(rule, nothing, nothing, nothing, nothing, nothing, 0.0, nothing, 0, (part,))


def refit(
    ours: ArrayLike, theirs: ArrayLike, agreement: ArrayLike, past: ArrayLike, horizon: int, gates: Sequence[Gate] = ()
) -> Decision:
    """The same recipe, trained on newer days.

    Args:
        ours, theirs: daily RankIC of the refit and of the champion on the same ascending days [D].
        agreement: rank correlation of their scores, day by day [D].
        past: mean agreement of each refit that was promoted before [K].
        horizon: the longest of the labels, in trading days.
        gates: what the gates before publication say of the refit's scores.
    """
    verdict = paired_difference(ours, theirs, horizon)
    error = standard_error(verdict)
    bound = verdict.mean - two_sided_quantile(2 * LEVEL, max(verdict.degrees, 1)) * error
    said = f"RankIC {verdict.mean:+.4f} beside the champion's on {verdict.days} common days"
    if verdict.too_short:
        said = f"{said}: {verdict.days_needed} are the least on which anything is told"
        part = Gate("not_worse", False, True, float("nan"), (-MARGIN, _UNBOUNDED), said)
    else:
        said = f"{said}; with 95 % certainty not below {bound:+.4f} (the margin is {-MARGIN})"
        part = Gate("not_worse", bound > -MARGIN, True, bound, (-MARGIN, _UNBOUNDED), said)
    parts = (part, _agreement(mean(agreement), finite(past)), *gates)
    interval = (verdict.low, verdict.high, verdict.p, verdict.p)
    return Decision("refit", verdict.mean, *interval, MARGIN, POWER * error, verdict.days, parts)


def recipe(
    ours: ArrayLike,
    theirs: ArrayLike,
    folds: Mapping[str, NDArray[np.bool_]],
    others: Sequence[float],
    turnover: tuple[float, float],
    spread: tuple[float, float],
    horizon: int,
) -> Decision:
    """Another recipe, judged by the stitched walk-forward.

    Args:
        ours, theirs: daily neutral RankIC of the challenger and of the champion on the same ascending days [D].
        folds: the days of each fold [D].
        others: p of the other comparisons with this champion, on this board and on boards before.
        turnover: one-way, a day, of the challenger's and the champion's highest tenth.
        spread: a day, of the challenger's and the champion's tenths, before costs.
        horizon: the longest of the labels, in trading days.
    """
    verdict = paired_difference(ours, theirs, horizon)
    adjusted = holm([verdict.p, *others])[0]
    better = verdict.mean > 0 and adjusted < LEVEL
    error = standard_error(verdict)
    said = (
        f"neutral RankIC {verdict.mean:+.4f} beside the champion's on {verdict.days} days, p {adjusted:.3f} after Holm "
        f"of {1 + sum(np.isfinite(others))} comparisons; a difference of {POWER * error:.4f} would be seen"
    )
    if verdict.too_short:
        said = f"{verdict.days} common days: {verdict.days_needed} are the least on which anything is told"
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    by_fold = {name: mean(difference[days]) for name, days in folds.items()}
    known = {name: value for name, value in by_fold.items() if np.isfinite(value)}
    # of a single fold nothing is said that the p has not said
    share = sum(value > 0 for value in known.values()) / len(known) if len(known) > 1 else 0.0
    listed = ", ".join(f"{name} {value:+.4f}" for name, value in known.items()) or "no fold has both"
    in_folds = f"above the champion in {share:.0%} of the folds ({listed})"
    if len(known) < 2:
        in_folds = f"the walk-forward has too few folds for the same sign in two of three ({listed})"
    net = [s - 2 * t * COST for s, t in zip(spread, turnover, strict=True)]
    parts = (
        Gate("better", better, True, adjusted, (0.0, LEVEL), said),
        _at_least("in_folds", share, FOLDS_SHARE, in_folds),
        _at_most(
            "turnover",
            turnover[0] / turnover[1] if turnover[1] else float("nan"),
            TURNOVER_FACTOR,
            f"turnover {turnover[0]:.3f} a day, the champion's {turnover[1]:.3f} ({TURNOVER_FACTOR} times is allowed)",
        ),
        _at_least(
            "net_spread",
            net[0] - net[1],
            0.0,
            f"spread of the tenths after costs {net[0] * 1e4:+.1f} bp a day, the champion's {net[1] * 1e4:+.1f}",
        ),
    )
    interval = (verdict.low, verdict.high, adjusted, verdict.p)
    return Decision("recipe", verdict.mean, *interval, 0.0, POWER * error, verdict.days, parts)


def portfolio(
    returns: ArrayLike, at_twice: ArrayLike, swept: NDArray[np.float64], trials: int, sharpes: Sequence[float]
) -> Decision:
    """Another portfolio rule, judged by its back-test.

    Args:
        returns, at_twice: daily returns at modelled and at twice modelled cost, ascending [D].
        swept: daily returns of all rules that were swept [D,C], this one among them.
        trials: how much was tried in all: the rows of the ledger.
        sharpes: a day, of those trials that have one.
    """
    values = finite(returns)
    of = inference.moments(values)
    variance = inference.variance_of_trials(sharpes, of.days)
    deflated = inference.deflated_sharpe(of, trials, variance)
    year = math.sqrt(TRADING_DAYS)
    verdict = inference.sharpe_verdict(values)
    twice = inference.moments(at_twice).sharpe
    said = (
        f"deflated Sharpe ratio {deflated:.3f} of {of.sharpe * year:.2f} a year, of {trials} trials whose ratios vary "
        f"by {math.sqrt(variance) * year:.2f} ({LEAST_DSR} is needed)"
    )
    parts = [_at_least("deflated_sharpe", deflated, LEAST_DSR, said)]
    if swept.shape[1] < 2:
        said = "a single rule was swept: whether it is overfitted cannot be told"
        parts.append(Gate("overfitting", False, True, float("nan"), (0.0, LARGEST_PBO), said))
    else:
        pbo = inference.overfitting(swept)
        said = f"probability of overfitting {pbo:.2f} of {swept.shape[1]} rules ({LARGEST_PBO} is allowed)"
        parts.append(_at_most("overfitting", pbo, LARGEST_PBO, said))
    said = f"Sharpe ratio {twice * year:.2f} a year at twice the costs"
    parts.append(Gate("twice_the_costs", twice > 0, True, twice, (0.0, _UNBOUNDED), said))
    detectable = POWER * standard_error(verdict)
    interval = (verdict.low, verdict.high, verdict.p, verdict.p)
    return Decision("portfolio", of.sharpe, *interval, 0.0, detectable, of.days, tuple(parts))


def p_of(ours: ArrayLike, theirs: ArrayLike, horizon: int) -> float:
    """p of another comparison with the champion, for the family; NaN where the days are too few."""
    return mean_verdict(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), horizon).p


def _agreement(seen: float, past: NDArray[np.float64]) -> Gate:
    said = f"the refit's scores agree with the champion's by {seen:.3f}"
    if len(past) < LEAST_REFITS:
        said = f"{said}; {len(past)} past refits are too few to say what is usual"
        return Gate("agreement", True, False, seen, (-1.0, 1.0), said)
    low = float(np.quantile(past, 0.01))
    return Gate("agreement", seen >= low, True, seen, (low, 1.0), f"{said}; {low:.3f} is the least of past refits")


def _at_least(name: str, figure: float, least: float, said: str) -> Gate:
    # a third of three folds is a float a little below another
    return Gate(name, figure >= least - 1e-12, True, figure, (least, _UNBOUNDED), said)


def _at_most(name: str, figure: float, most: float, said: str) -> Gate:
    return Gate(name, figure <= most, True, figure, (-_UNBOUNDED, most), said)
