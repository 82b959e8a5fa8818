"""Gates before an evening's scores are published: each looks at one thing and says what it saw.

Pure functions on arrays of one evening; who calls reads tables, keeps the history of the champion's published evenings,
and withholds the evening if a blocking gate fails. What is judged against a history is only said, not judged, while
there are fewer than `LEAST_HISTORY` evenings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atft_assets.scoring.daily import spearman_of_values
from atft_assets.scoring.limits import LEAK_ALARM
from atft_model.interchange.statistics import finite

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]

LEAST_COVERAGE = 0.95  # of the eligible names, with a score
LEAST_FRESH = 0.98  # of the listed names, with a bar of the day
HISTORY_DAYS = 250  # evenings of the champion that are looked back on
LEAST_HISTORY = 20  # evenings below which a history says nothing
TAIL = 0.001  # share of the history beyond each end of what is usual
# Of 250 evenings the 0.1st percentile is all but the lowest one, and an honest new low comes twice a year: what is
# usual reaches beyond both ends by this share of the distance between them.
LEEWAY = 0.25
LEAST_DISTINCT = 0.01  # a ranking with fewer distinct scores is none, whatever the history says
LEAST_COMMON = 20  # names without which two evenings cannot be compared
TOP = 50
SECTOR_REACH = 0.15  # of a sector's weight in the highest tenth, beyond its weight in the universe
PSI_WARN, PSI_BLOCK = 0.25, 0.5
LEAST_PSI_NAMES = 100  # below, a few names more at one value are a large share
OLDEST_DAYS = 45
CUSUM_DAYS = 20
CUSUM_LINE = float(np.log(1000))  # of a log likelihood ratio: false alarms are 1,000 days apart or more (Lorden 1971)
KILL_SWITCH = "STOP"  # a file that a person puts beside the scores

_UNBOUNDED = float("inf")


@dataclass(frozen=True)
class Gate:
    """What one gate says.

    Attributes:
        passed: the figure lies within `threshold`, or could not be judged, which the sentence then says.
        blocking: if it fails, nothing is published; else it is a warning.
        figure: what was seen; NaN where nothing could be.
        threshold: lowest and highest figure that pass, infinite where there is no such end.
    """

    name: str
    passed: bool
    blocking: bool
    figure: float
    threshold: tuple[float, float]
    sentence: str


def blocked(gates: Iterable[Gate]) -> list[Gate]:
    """The gates that forbid to publish."""
    return [gate for gate in gates if gate.blocking and not gate.passed]


def warned(gates: Iterable[Gate]) -> list[Gate]:
    """The gates that failed and do not forbid to publish."""
    return [gate for gate in gates if not gate.blocking and not gate.passed]


def coverage(scores: Scores, eligible: Flags) -> Gate:
    """Share of the eligible names [N] that have a score [N]; an evening without eligible names fails."""
    of, scored = int(eligible.sum()), int((eligible & np.isfinite(scores)).sum())
    share = scored / of if of else 0.0
    said = f"{scored} of {of} eligible names have a score ({share:.1%}; {LEAST_COVERAGE:.0%} are needed)"
    return _judged("coverage", True, share, (LEAST_COVERAGE, _UNBOUNDED), said)


def newest_bars(day: date, bars: NDArray[np.datetime64]) -> Gate:
    """Whether the day's prices are there.

    Args:
        day: the evening.
        bars: date of the newest bar of each name that is listed that day, datetime64[D] [N]; NaT where there is none.
            A name that did not trade has a bar too, of nulls.
    """
    wanted = np.datetime64(day, "D")
    fresh = int((bars == wanted).sum())
    later = int((bars > wanted).sum())
    share = fresh / len(bars) if len(bars) else 0.0
    known = bars[~np.isnat(bars)]
    newest = f", the newest is of {known.max()}" if len(known) else ""
    said = (
        f"{fresh} of {len(bars)} listed names have a bar of {day} ({share:.1%}; {LEAST_FRESH:.0%} are needed{newest})"
    )
    if later:
        said = f"{later} names have a bar of a day after {day}: the tables are ahead of the evening; {said}"
        return Gate("newest_bars", False, True, share, (LEAST_FRESH, _UNBOUNDED), said)
    return _judged("newest_bars", True, share, (LEAST_FRESH, _UNBOUNDED), said)


def spread(scores: Scores) -> float:
    """Standard deviation (ddof 1) of the finite scores [N]: what `score_spread` judges; 0 below two names."""
    values = finite(scores)
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def distinct(scores: Scores) -> float:
    """Distinct share of the finite scores [N]: what `distinct_share` judges; 0 without scores."""
    values = finite(scores)
    return len(np.unique(values)) / len(values) if len(values) else 0.0


def score_spread(scores: Scores, history: ArrayLike) -> Gate:
    """Standard deviation of the evening's raw scores [N] beside those of the champion's past evenings [K].

    Scores that are standardised have a spread of 1 by construction: give those that the model put out.
    """
    seen = spread(scores)
    if not seen > 0:
        said = "the scores of all names are equal, or there are none: the model has ranked nothing"
        return Gate("score_spread", False, True, seen, (0.0, _UNBOUNDED), said)
    return _in_history("score_spread", True, seen, history, f"the scores spread by {seen:.4g}")


def distinct_share(scores: Scores, history: ArrayLike) -> Gate:
    """Share of distinct values among the evening's scores [N] beside that of the champion's past evenings [K]."""
    seen = distinct(scores)
    what = f"{seen:.1%} of the scores are distinct"
    if seen < LEAST_DISTINCT:
        return Gate("distinct_share", False, True, seen, (LEAST_DISTINCT, _UNBOUNDED), f"{what}: hardly a ranking")
    return _in_history("distinct_share", True, seen, history, what)


def agreement(today: Scores, yesterday: Scores) -> float:
    """Spearman's correlation of two evenings over the names that both scored, [N] each; NaN where they are too few."""
    both = np.isfinite(today) & np.isfinite(yesterday)
    if both.sum() < LEAST_COMMON:
        return float("nan")
    return spearman_of_values(today[both].astype(np.float64), yesterday[both].astype(np.float64))


def rank_agreement(today: Scores, yesterday: Scores | None, history: ArrayLike) -> Gate:
    """Spearman's correlation with the evening before, beside those of the champion's past evenings [K].

    Args:
        today, yesterday: scores [N] on the same names; None on the champion's first evening.
    """
    name, bounds = "rank_agreement", (-1.0, 1.0)
    if yesterday is None:
        return Gate(name, True, True, float("nan"), bounds, "the champion's first evening: nothing to compare with")
    seen = agreement(today, yesterday)
    if np.isnan(seen):
        said = f"fewer than {LEAST_COMMON} names are scored on both evenings, or one evening ranks nothing"
        return Gate(name, False, True, seen, bounds, said)
    return _in_history(name, True, seen, history, f"the rank correlation with the evening before is {seen:.3f}")


def overlap(today: Scores, yesterday: Scores, top: int = TOP) -> float:
    """Share of the day's `top` highest names that were among the highest of the evening before; NaN without names."""
    first, second = _highest(today, top), _highest(yesterday, top)
    count = min(len(first), len(second))
    return len(first & second) / count if count else float("nan")


def top_overlap(today: Scores, yesterday: Scores | None, history: ArrayLike, top: int = TOP) -> Gate:
    """Share of the highest names that stay, beside that of the champion's past evenings [K]; a warning."""
    if yesterday is None:
        said = "the champion's first evening: nothing to compare with"
        return Gate("top_overlap", True, False, float("nan"), (0.0, 1.0), said)
    seen = overlap(today, yesterday, top)
    return _in_history("top_overlap", False, seen, history, f"{seen:.0%} of the {top} highest names were there before")


def sector_weights(scores: Scores, sectors: NDArray[np.integer], names: Sequence[str] = ()) -> Gate:
    """Largest distance of a sector's weight in the highest tenth from its weight among all scored names; a warning.

    Args:
        scores: [N].
        sectors: number of each name's sector [N], negative where unknown.
        names: of the sectors by number, for the sentence.
    """
    name, bounds = "sector_weights", (-_UNBOUNDED, SECTOR_REACH)
    known = np.flatnonzero(np.isfinite(scores) & (sectors >= 0))
    if len(known) < LEAST_COMMON:
        said = f"only {len(known)} names have a score and a sector: weights say nothing"
        return Gate(name, True, False, float("nan"), bounds, said)
    tenth = known[np.argsort(-scores[known], kind="stable")[: max(1, len(known) // 10)]]
    count = int(sectors.max()) + 1
    apart = np.bincount(sectors[tenth], minlength=count) / len(tenth)
    apart = apart - np.bincount(sectors[known], minlength=count) / len(known)
    furthest = int(np.abs(apart).argmax())
    which = names[furthest] if furthest < len(names) else f"number {furthest}"
    said = (
        f"the sector {which} has {apart[furthest] * 100:+.1f} points of the highest tenth beyond its share of the "
        f"universe ({SECTOR_REACH * 100:.0f} are usual)"
    )
    return _judged(name, False, float(np.abs(apart).max()), bounds, said)


def ties(values: Scores) -> NDArray[np.float64]:
    """How the names share the values of each feature: missing, at the most common value, and elsewhere [F,3].

    Shares are Jeffreys', so that none is zero.

    Args:
        values: of an evening [N,F], NaN for missing.
    """
    n, width = values.shape
    ordered = np.sort(values, axis=0)  # NaN last
    found = np.zeros((width, 3))
    found[:, 0] = np.isnan(values).sum(axis=0)
    for f in range(width):
        known = ordered[: n - int(found[f, 0]), f]
        ends = np.flatnonzero(np.append(known[1:] != known[:-1], True)) if len(known) else np.empty(0, np.int64)
        found[f, 1] = np.diff(ends, prepend=-1).max(initial=0)
    found[:, 2] = n - found[:, 0] - found[:, 1]
    return (found + 0.5) / (n + 1.5)


def stability(reference: NDArray[np.float64], current: NDArray[np.float64]) -> NDArray[np.float64]:
    """Population stability index: sum over the last axis of (p - q) ln(p / q).

    Args:
        reference, current: shares q and p, above 0 and of sum 1 [...,B].
    """
    return ((current - reference) * np.log(current / reference)).sum(axis=-1)


def feature_drift(past: Sequence[Scores], current: Scores, names: Sequence[str]) -> Gate:
    """The largest population stability index of the features: from .25 on a warning, from .5 on it blocks.

    The features are ranks of their evening. Whatever happens to the values, a rank shows it in two ways only: names
    have none, or many share one; so the index is that of `ties`, and a feature that was mixed up among the names is
    not seen. Some are full of ties, and on some evenings fuller: each is compared with that one of the past evenings
    which is most like tonight's.

    Args:
        past: features of past evenings, [M,F] each.
        current: features of the evening [N,F].
        names: of the F features. Those of the market as a whole do not belong among them: of an evening they have one
            value.
    """
    name, bounds = "feature_drift", (0.0, PSI_WARN)
    enough = [evening for evening in past if len(evening) >= LEAST_PSI_NAMES]
    if not enough or len(current) < LEAST_PSI_NAMES or not names:
        said = f"fewer than {LEAST_PSI_NAMES} names, or no past evenings: the drift of features is not judged"
        return Gate(name, True, False, float("nan"), bounds, said)
    found = stability(np.stack([ties(evening) for evening in enough]), ties(current)).min(axis=0)  # [F]
    order = [f for f in np.argsort(-found, kind="stable") if found[f] >= PSI_WARN]
    largest = float(found.max())
    moved = ", ".join(f"{names[f]} {found[f]:.2f}" for f in order[:5]) or names[int(found.argmax())]
    said = (
        f"the largest population stability index is {largest:.3f} ({moved}); {len(order)} of {len(names)} features "
        f"moved by {PSI_WARN} or more ({PSI_BLOCK} blocks)"
    )
    return Gate(name, largest < PSI_WARN, largest >= PSI_BLOCK, largest, bounds, said)


def catalogue_equal(champion: str, current: str) -> Gate:
    """Whether the features of the evening are computed as those that the champion learned from."""
    same = champion == current
    said = (
        f"the features are those that the champion learned from (catalogue {current})"
        if same
        else f"the champion learned from the catalogue {champion}, the features of the evening are of {current}: train "
        "and promote on the new ones, or go back to the code of the old"
    )
    return Gate("catalogue", same, True, float(same), (1.0, 1.0), said)


def champion_age(trained: date, day: date) -> Gate:
    """Days since the champion was trained; a warning."""
    days = (day - trained).days
    said = f"the champion was trained {days} days ago, on {trained} ({OLDEST_DAYS} are usual)"
    return _judged("champion_age", False, float(days), (-_UNBOUNDED, float(OLDEST_DAYS)), said)


def matured_rank_ic(daily: ArrayLike, expected: float, deviation: float) -> Gate:
    """Whether the RankIC of evenings whose returns are known has fallen to nothing; a warning.

    Page's one-sided cumulative sum of the log likelihood ratio of "no skill" against "as in the evaluation", never
    below zero. The 20-day mean is below its line where the sum is above ln 1000.

    Args:
        daily: matured RankIC of published evenings, ascending [K].
        expected: mean RankIC of the champion's evaluation.
        deviation: long-run standard deviation of its daily RankIC there (standard error of the mean times the root of
            the days): neighbouring days share returns, and the daily one would promise too much.
    """
    values = finite(daily)
    name, bounds = "matured_rank_ic", (-_UNBOUNDED, CUSUM_LINE)
    if len(values) < CUSUM_DAYS:
        said = f"{len(values)} evenings have matured, {CUSUM_DAYS} are the least: not judged"
        return Gate(name, True, False, float("nan"), bounds, said)
    if not (expected > 0 and deviation > 0):
        said = "the evaluation of the champion expects no skill: there is nothing to fall from"
        return Gate(name, True, False, float("nan"), bounds, said)
    total = 0.0
    for step in expected * (expected / 2 - values) / deviation**2:
        total = max(0.0, total + float(step))
    mean = float(values[-CUSUM_DAYS:].mean())
    said = (
        f"mean RankIC of the last {CUSUM_DAYS} matured evenings {mean:+.4f}, expected {expected:+.4f}; the cumulative "
        f"sum against it stands at {total:.1f}, its line is at {CUSUM_LINE:.1f}"
    )
    return _judged(name, False, total, bounds, said)


def leak_alarm(daily: ArrayLike) -> Gate:
    """Whether scores rank the next day's returns as only scores that have seen them can; it blocks.

    Args:
        daily: RankIC with the one-day label of the evenings whose returns are known [K], ascending.
    """
    values = finite(daily)[-HISTORY_DAYS:]
    name, bounds = "leak", (-LEAK_ALARM, LEAK_ALARM)
    if len(values) < CUSUM_DAYS:
        said = f"{len(values)} evenings have matured, {CUSUM_DAYS} are the least: not judged"
        return Gate(name, True, True, float("nan"), bounds, said)
    mean = float(values.mean())
    said = f"the mean RankIC with the next day's return is {mean:+.3f}; beyond {LEAK_ALARM} it is a leak"
    return _judged(name, True, mean, bounds, said)


def kill_switch(folder: Path) -> Gate:
    """Whether a person has stopped publication by a file `STOP` in a folder; its first line is the reason."""
    path = folder / KILL_SWITCH
    there = path.exists()
    said = f"no file {path}"
    if there:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        reason = f" ({lines[0].strip()[:200]})" if lines and lines[0].strip() else ""
        said = f"a person has stopped publication{reason}: remove {path} to go on"
    return Gate("kill_switch", not there, True, float(there), (0.0, 0.0), said)


def _judged(name: str, blocking: bool, figure: float, threshold: tuple[float, float], said: str) -> Gate:
    return Gate(name, threshold[0] <= figure <= threshold[1], blocking, figure, threshold, said)


def _in_history(name: str, blocking: bool, figure: float, history: ArrayLike, said: str) -> Gate:
    """Judge a figure by what was usual on past evenings [K], the newest last."""
    past = finite(history)[-HISTORY_DAYS:]
    if len(past) < LEAST_HISTORY:
        few = f"{said}; {len(past)} past evenings are too few to say what is usual ({LEAST_HISTORY} are the least)"
        return Gate(name, True, blocking, figure, (-_UNBOUNDED, _UNBOUNDED), few)
    low, high = (float(end) for end in np.quantile(past, (TAIL, 1 - TAIL)))
    reach = LEEWAY * (high - low)
    # a figure that never moved, as the distinct share of continuous scores, may move by round-off
    reach = max(reach, 1e-6 * max(abs(low), abs(high)))
    low, high = low - reach, high + reach
    return _judged(name, blocking, figure, (low, high), f"{said}; {low:.4g} to {high:.4g} is usual")


def _highest(scores: Scores, top: int) -> set[int]:
    """Places of the highest finite scores [N]; equal ones by their place, as ranks are."""
    known = np.flatnonzero(np.isfinite(scores))
    return set(known[np.argsort(-scores[known], kind="stable")[:top]].tolist())
