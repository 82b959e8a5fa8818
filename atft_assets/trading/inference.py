"""How much of a back-test is luck: Sharpe ratios with intervals, deflated by how much was tried, and overfitting.

Everything is *a day*: returns are decimal daily returns, a Sharpe ratio is mean over standard deviation (ddof 1) of a
day, its variance over trials likewise. Only who prints multiplies by the root of `TRADING_DAYS`. A ratio that cannot be
of a day is refused, for an annual one would make everything look certain.

Long-run variances and the verdict on a mean are those of `atft_model.interchange.statistics`.

Sources: probabilistic Sharpe ratio and minimum track record length, Bailey and López de Prado, "The Sharpe Ratio
Efficient Frontier", Journal of Risk 15, 2012; deflated Sharpe ratio, the same, Journal of Portfolio Management 40,
2014; minimum back-test length, Bailey, Borwein, López de Prado and Zhu, Notices of the AMS 61, 2014; probability of
back-test overfitting, the same, Journal of Computational Finance 20, 2017.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_model.interchange.statistics import MeanVerdict, finite, mean_verdict

Floats = NDArray[np.float64]

# Half a day is 7.8 a year: beyond it a figure that is given, and not computed here of daily returns, is an annual one.
LARGEST_SHARPE = 0.5
LARGEST_DEVIATION = 0.2  # of a book's daily returns, decimals: beyond it they are per cent or basis points
FEWEST_SHARPES = 10  # trials below which their variance is taken to be the null's
DRAWS = 2000
BLOCKS = 16  # of a cross-validation of overfitting: 12,870 halves
FEWEST_BLOCKS_OF_DRAW = 6  # a series with fewer blocks than this is too short for a bootstrap

_NORMAL = NormalDist()
_EULER = 0.5772156649015329


class WrongUnit(ValueError):
    """A figure is not of a day, or not a decimal."""


@dataclass(frozen=True)
class Moments:
    """What the inference on a Sharpe ratio needs of daily returns.

    Attributes:
        sharpe: mean over standard deviation (ddof 1), a day.
        skew: third standardised moment.
        kurtosis: fourth standardised moment, 3 for normal returns.
        days: that have a return.
        measured: computed by `moments` of daily returns, so that the ratio is one of a day, however large.

    Raises:
        WrongUnit: the ratio was given and cannot be of a day, or there are no returns with these moments.
    """

    sharpe: float
    skew: float
    kurtosis: float
    days: int
    measured: bool = False

    def __post_init__(self) -> None:
        if not self.measured:
            _of_a_day(self.sharpe, "the Sharpe ratio")
        if self.kurtosis < self.skew**2 + 1 - 1e-9:
            raise WrongUnit(f"no returns have skewness {self.skew} and kurtosis {self.kurtosis}: 3 is the normal's")

    @property
    def spread(self) -> float:
        """Variance of the estimated ratio, times days - 1: 1 - skew SR + (kurtosis - 1) / 4 SR^2."""
        return 1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2


def moments(returns: ArrayLike) -> Moments:
    """Moments of daily returns [D], decimals; what is not finite is left out.

    Raises:
        WrongUnit: they are per cent or basis points.
        ValueError: fewer than three, or without variation.
    """
    values = daily_returns(returns)
    deviation = values.std() if len(values) > 2 else 0.0
    if not deviation > 1e-12:
        raise ValueError(f"{len(values)} daily returns with a deviation of {deviation:.3g} have no Sharpe ratio")
    z = (values - values.mean()) / deviation
    sharpe = float(values.mean() / values.std(ddof=1))
    return Moments(sharpe, float((z**3).mean()), float((z**4).mean()), len(values), measured=True)


def daily_returns(returns: ArrayLike) -> Floats:
    """The finite ones of daily returns.

    Raises:
        WrongUnit: they are no decimals.
    """
    values = finite(returns)
    if len(values) > 1 and (values.std() > LARGEST_DEVIATION or values.min() <= -1):
        raise WrongUnit(
            f"daily returns with a deviation of {values.std():.3g} and a least of {values.min():.3g} are no decimals: "
            "give .01 for one per cent"
        )
    return values


def probabilistic_sharpe(of: Moments, benchmark: float = 0.0) -> float:
    """Probability that the true ratio is above a benchmark (PSR).

    Args:
        benchmark: a day.

    Raises:
        WrongUnit: the benchmark cannot be of a day.
    """
    _of_a_day(benchmark, "the benchmark")
    return _NORMAL.cdf((of.sharpe - benchmark) * math.sqrt(of.days - 1) / math.sqrt(of.spread))


def bracket(trials: float) -> float:
    """Expected largest of so many independent standard normal draws; 0 of one."""
    if trials <= 1:
        return 0.0
    below, beyond = 1 - 1 / trials, 1 - 1 / (trials * math.e)
    # both quantiles fall below zero as the trials go to one, where the formula is none
    return max(0.0, (1 - _EULER) * _NORMAL.inv_cdf(below) + _EULER * _NORMAL.inv_cdf(beyond))


def expected_maximum(trials: float, variance: float) -> float:
    """Ratio a day that the best of so many trials without skill is expected to show.

    Args:
        trials: how many, or their effective number.
        variance: of the trials' ratios, a day squared.

    Raises:
        WrongUnit: the variance cannot be of ratios a day.
    """
    if not 0 <= variance <= LARGEST_SHARPE**2:
        raise WrongUnit(f"the variance of the trials' Sharpe ratios is {variance}: divide an annual one by the days")
    return math.sqrt(variance) * bracket(trials)


def deflated_sharpe(of: Moments, trials: float, variance: float) -> float:
    """Probability that the true ratio is above what the best of so many trials without skill would show (DSR)."""
    return probabilistic_sharpe(of, expected_maximum(trials, variance))


def variance_of_trials(sharpes: Sequence[float], days: int) -> float:
    """Variance (ddof 1) of the trials' ratios a day; with fewer than ten of them the null's, 1 / days.

    Raises:
        WrongUnit: a ratio cannot be of a day.
    """
    for sharpe in sharpes:
        _of_a_day(sharpe, "a trial's Sharpe ratio")
    return float(np.var(sharpes, ddof=1)) if len(sharpes) >= FEWEST_SHARPES else 1 / days


def effective_trials(trials: int, correlation: float) -> float:
    """Independent trials that so many correlated ones are worth: c + (1 - c) N; print N too.

    Args:
        correlation: mean of all pairs, see `mean_correlation`; below zero it counts as none.
    """
    c = min(1.0, max(0.0, correlation))
    return c + (1 - c) * trials


def mean_correlation(returns: Floats) -> float:
    """Mean correlation of all pairs of the daily returns [T,C] of C configurations; NaN of one, or where one is
    constant.
    """
    count = returns.shape[1]
    if count < 2 or not (returns.std(axis=0) > 0).all():
        return float("nan")
    matrix = np.corrcoef(returns, rowvar=False)
    return float((matrix.sum() - count) / (count * (count - 1)))


def minimum_track_record(of: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Days after which a ratio as high, with these moments, is shown to be above the benchmark; infinite if it is not
    above it (MinTRL).
    """
    _of_a_day(benchmark, "the benchmark")
    if of.sharpe <= benchmark:
        return math.inf
    return 1 + of.spread * (_NORMAL.inv_cdf(confidence) / (of.sharpe - benchmark)) ** 2


def minimum_backtest_years(trials: float, sharpe_a_year: float = 1.0) -> float:
    """Years of a back-test below which the best of so many trials without skill is expected to reach a ratio a year
    (MinBTL); the one figure here that is of years.
    """
    return (bracket(trials) / sharpe_a_year) ** 2


def standard_error(sharpe: float, days: int) -> float:
    """Of a ratio a day of independent normal returns: the root of (1 + SR^2 / 2) / n."""
    _of_a_day(sharpe, "the Sharpe ratio")
    return math.sqrt((1 + sharpe**2 / 2) / days)


def sharpe_verdict(returns: ArrayLike, horizon: int = 1) -> MeanVerdict:
    """The ratio a day with its interval and p, right for returns that are neither normal nor independent.

    Each day's influence on the ratio, z - SR (z^2 - 1) / 2 with z the standardised return, is a series whose mean
    errs as the ratio does; it is judged as any mean of a daily series.

    Args:
        returns: daily [D], ascending.
        horizon: days over which returns are thought to be dependent.
    """
    values = daily_returns(returns)
    of = moments(values)
    z = (values - values.mean()) / values.std()
    return mean_verdict(of.sharpe + z - of.sharpe / 2 * (z**2 - 1), horizon)


def circular_blocks(starts: ArrayLike, block: int, days: int) -> NDArray[np.int64]:
    """Places of a circular block bootstrap: each start and the days after it, around the end, cut to `days`.

    Args:
        starts: [..., B], enough of them that B * block >= days.

    Returns:
        [..., days].
    """
    first = np.asarray(starts, np.int64)
    places = (first[..., None] + np.arange(block)) % days
    return places.reshape(*first.shape[:-1], -1)[..., :days]


def bootstrap_p(series: ArrayLike, horizon: int, draws: int = DRAWS, seed: int = 0) -> float:
    """p of a mean of zero by the circular block bootstrap, blocks of max(2h, 20) days.

    It takes chance for skill more often than it promises (9 to 14 % where 5 % are promised), so it stands beside the
    cosine p and decides nothing; where they disagree, that is a finding.

    Args:
        series: daily [D], ascending.

    Returns:
        (1 + draws whose centred mean is as far from zero) / (draws + 1); NaN on fewer days than six blocks.
    """
    values = finite(series)
    days, block = len(values), max(2 * horizon, 20)
    if days < FEWEST_BLOCKS_OF_DRAW * block:
        return float("nan")
    starts = np.random.default_rng(seed).integers(days, size=(draws, -(-days // block)))
    means = values[circular_blocks(starts, block, days)].mean(axis=1)
    centre = values.mean()
    return float((1 + (np.abs(means - centre) >= abs(centre)).sum()) / (draws + 1))


def overfitting(
    pnl: Floats, blocks: int = BLOCKS, *, horizon: int = 1, by: Literal["sharpe", "mean"] = "sharpe"
) -> float:
    """Probability of back-test overfitting by combinatorially symmetric cross-validation (PBO).

    The days are cut into even blocks. For each half of them the best configuration is looked up in the other half; the
    share of halves in which it is not above the middle there.

    Args:
        pnl: daily returns [T,C] of C configurations, ascending days, no gaps.
        blocks: even; the oldest days that do not fill a block are left out.
        horizon: a block has two of them at least.
        by: what the best is the best by.

    Raises:
        ValueError: fewer than two configurations, an odd number of blocks, blocks that are too short, or gaps.
    """
    days, count = pnl.shape
    length = days // blocks
    if count < 2 or blocks < 2 or blocks % 2:
        raise ValueError(f"{count} configurations in {blocks} blocks: two are the least, and blocks are even in number")
    if length < max(1, 2 * horizon if horizon > 1 else 1):
        raise ValueError(f"{days} days in {blocks} blocks are {length} a block; {2 * horizon} are the least")
    if not np.isfinite(pnl).all():
        raise ValueError("a configuration has days without a return: give the days that all have")
    cut = pnl[days - length * blocks :].reshape(blocks, length, count)
    sums, squares = cut.sum(axis=1), (cut**2).sum(axis=1)  # [S,C]
    halves = np.array(list(combinations(range(blocks), blocks // 2)))
    member = np.zeros((len(halves), blocks))
    np.put_along_axis(member, halves, 1.0, axis=1)
    n = length * blocks // 2
    inside = _figure(member @ sums, member @ squares, n, by)  # [halves,C]
    outside = _figure((1 - member) @ sums, (1 - member) @ squares, n, by)
    theirs = np.take_along_axis(outside, inside.argmax(axis=1)[:, None], axis=1)
    rank = (outside < theirs).sum(axis=1) + ((outside == theirs).sum(axis=1) + 1) / 2  # 1 the worst, ties averaged
    share = rank / (count + 1)
    return float((np.log(share / (1 - share)) <= 1e-12).mean())


def _figure(total: Floats, squares: Floats, n: int, by: str) -> Floats:
    mean = total / n
    if by == "mean":
        return mean
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 1e-24))
    return mean / deviation


def _of_a_day(sharpe: float, what: str) -> None:
    if not abs(sharpe) <= LARGEST_SHARPE:
        raise WrongUnit(
            f"{what} is {sharpe:.4g}, which cannot be of a day: divide an annual one by the root of its days a year"
        )
