"""Gates: an honest evening passes every one, and each planted fault fails the one that is there for it."""

from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr

from atft_assets.trading import gates
from atft_assets.trading.gates import Gate

NAMES, DAY = 600, date(2024, 3, 8)


class Evenings:
    """Persistent scores [K,N] of a champion, and what its history then is."""

    def __init__(self, seed: int = 0, evenings: int = 120):
        rng = np.random.default_rng(seed)
        scores = [rng.normal(size=NAMES)]
        for _ in range(evenings):
            scores.append(0.9 * scores[-1] + np.sqrt(1 - 0.9**2) * rng.normal(size=NAMES))
        self.scores = np.array(scores, np.float32)
        past = self.scores[:-1]
        self.today, self.yesterday = self.scores[-1], self.scores[-2]
        self.spreads = [gates.spread(day) for day in past]
        self.distinct = [gates.distinct(day) for day in past]
        self.agreement = [gates.agreement(b, a) for a, b in pairwise(past)]
        self.overlap = [gates.overlap(b, a) for a, b in pairwise(past)]


@pytest.fixture(scope="module")
def evenings() -> Evenings:
    return Evenings()


def shape(found: Evenings, today: np.ndarray) -> dict[str, Gate]:
    """The gates on the shape of an evening's scores."""
    made = (
        gates.score_spread(today, found.spreads),
        gates.distinct_share(today, found.distinct),
        gates.rank_agreement(today, found.yesterday, found.agreement),
        gates.top_overlap(today, found.yesterday, found.overlap),
    )
    return {gate.name: gate for gate in made}


def failed(found: dict[str, Gate]) -> set[str]:
    return {name for name, gate in found.items() if not gate.passed}


def test_an_honest_evening_passes(evenings: Evenings) -> None:
    assert failed(shape(evenings, evenings.today)) == set()
    assert all("usual" in gate.sentence for gate in shape(evenings, evenings.today).values())


FAULTS: dict[str, tuple[Callable[[Evenings], np.ndarray], set[str]]] = {
    "all equal": (
        lambda e: np.ones(NAMES, np.float32),
        {"score_spread", "distinct_share", "rank_agreement", "top_overlap"},
    ),
    "collapsed": (lambda e: e.today * np.float32(0.01), {"score_spread"}),
    "blown up": (lambda e: e.today * np.float32(50), {"score_spread"}),
    "five values": (lambda e: np.round(e.today), {"distinct_share"}),
    "turned over": (lambda e: -e.today, {"rank_agreement", "top_overlap"}),
    "names mixed up": (lambda e: np.random.default_rng(1).permutation(e.today), {"rank_agreement", "top_overlap"}),
    "yesterday's again": (lambda e: e.yesterday, {"rank_agreement", "top_overlap"}),
    "unknown": (
        lambda e: np.full(NAMES, np.nan, np.float32),
        {"score_spread", "distinct_share", "rank_agreement", "top_overlap"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_its_gate(evenings: Evenings, fault: str) -> None:
    plant, expected = FAULTS[fault]
    found = shape(evenings, plant(evenings))
    assert expected <= failed(found), {name: gate.sentence for name, gate in found.items()}
    assert gates.blocked(found.values()) and {gate.name for gate in gates.warned(found.values())} <= {"top_overlap"}


def test_an_honest_new_low_does_not_stop_an_evening() -> None:
    """Of 300 evenings after a history of 250, at most a handful lie beyond what is usual, of each kind."""
    found = Evenings(seed=3, evenings=550)
    stopped = dict.fromkeys(("score_spread", "rank_agreement"), 0)
    for t in range(251, 550):
        past, today = slice(t - 250, t), found.scores[t]
        stopped["score_spread"] += not gates.score_spread(today, found.spreads[past]).passed
        made = gates.rank_agreement(today, found.scores[t - 1], found.agreement[past])
        stopped["rank_agreement"] += not made.passed
    assert max(stopped.values()) <= 2, stopped


def test_a_short_history_is_said_and_does_not_block(evenings: Evenings) -> None:
    few = evenings.spreads[: gates.LEAST_HISTORY - 1]
    gate = gates.score_spread(evenings.today * np.float32(50), few)
    assert gate.passed and "19 past evenings are too few" in gate.sentence
    assert not gates.score_spread(evenings.today * np.float32(50), [*few, evenings.spreads[20]]).passed
    first = gates.rank_agreement(evenings.today, None, [])
    assert first.passed and "first evening" in first.sentence and gates.top_overlap(evenings.today, None, []).passed
    # what is broken whatever the history says is broken on the first evening too
    assert not gates.score_spread(np.ones(NAMES), []).passed and not gates.distinct_share(np.ones(NAMES), []).passed


def test_coverage() -> None:
    eligible = np.arange(100) < 80
    scores = np.where(np.arange(100) < 76, 1.0, np.nan)
    gate = gates.coverage(scores, eligible)
    assert gate.passed and gate.figure == 0.95 and "76 of 80" in gate.sentence
    scores[75] = np.nan
    assert not gates.coverage(scores, eligible).passed and gates.coverage(scores, eligible).blocking
    scores[90:] = 1.0  # names that are not eligible do not make up for it
    assert gates.coverage(scores, eligible).figure == 75 / 80
    assert not gates.coverage(scores, np.zeros(100, bool)).passed


def test_bars_of_the_day_must_be_there() -> None:
    bars = np.full(200, np.datetime64(DAY, "D"))
    assert gates.newest_bars(DAY, bars).passed
    bars[:4] = np.datetime64("NaT")
    assert gates.newest_bars(DAY, bars).figure == 0.98 and gates.newest_bars(DAY, bars).passed
    bars[4] = np.datetime64(DAY - timedelta(days=1))
    assert not gates.newest_bars(DAY, bars).passed
    stale = gates.newest_bars(DAY + timedelta(days=3), bars)
    assert not stale.passed and stale.figure == 0 and str(DAY) in stale.sentence and stale.blocking
    ahead = gates.newest_bars(DAY, np.full(200, np.datetime64(DAY + timedelta(days=1))))
    assert not ahead.passed and "ahead" in ahead.sentence
    assert not gates.newest_bars(DAY, np.array([], "datetime64[D]")).passed


def test_a_sector_that_fills_the_highest_tenth_is_a_warning() -> None:
    rng = np.random.default_rng(2)
    sectors, scores = np.arange(NAMES) % 10, rng.normal(size=NAMES)
    sectors[0] = -1
    assert gates.sector_weights(scores, sectors).passed
    gate = gates.sector_weights(scores + 9 * (sectors == 7), sectors, [f"s{i}" for i in range(10)])
    assert not gate.passed and not gate.blocking and "sector s7" in gate.sentence
    assert gate.figure == pytest.approx(0.9, abs=0.05)  # all of the tenth, of a tenth of the names
    assert gates.sector_weights(scores[:10], sectors[:10]).passed  # too few: said, not judged


def ranks(values: np.ndarray) -> np.ndarray:
    """Of each column, as inputs of the model are [N,F]: ties share a rank, and missing stays missing."""
    return rankdata(values, axis=0, nan_policy="omit") / len(values)


def test_drift_of_features() -> None:
    rng = np.random.default_rng(4)
    names = ["a", "flag", "sector", "crowded"]
    sector = rng.integers(0, 33, NAMES)

    def evening() -> np.ndarray:
        """A feature; a flag of a few names; one value a sector, in another order each evening; a heap that breathes."""
        values = np.column_stack(
            [rng.normal(size=NAMES), rng.random(NAMES) < 0.05, rng.normal(size=33)[sector], rng.normal(size=NAMES)]
        )
        values[rng.random(NAMES) < rng.uniform(0.2, 0.4), 3] = 9.0
        return values

    past = [ranks(evening()) for _ in range(20)]
    for _ in range(50):
        honest = gates.feature_drift(past, ranks(evening()), names)
        assert honest.passed and honest.figure < 0.1
    heaped = evening()
    heaped[: NAMES // 5, 0] = 0.0
    gate = gates.feature_drift(past, ranks(heaped), names)
    assert gate.blocking and "a 0.9" in gate.sentence
    flagged = evening()
    flagged[:, 1] = rng.random(NAMES) < 0.35
    gate = gates.feature_drift(past, ranks(flagged), names)
    assert gate.blocking and "flag" in gate.sentence
    merged = evening()
    merged[:, 2] = np.where(sector < 11, 0.0, merged[:, 2])  # a third of the sectors has one value
    gate = gates.feature_drift(past, ranks(merged), names)
    assert not gate.passed and "sector" in gate.sentence
    broken = evening()
    broken[: NAMES // 2, 0] = np.nan
    gate = gates.feature_drift(past, ranks(broken), names)
    assert gate.blocking and not gate.passed and "a " in gate.sentence
    for column in (0, 2, 3):  # that a rare flag is up for nobody is an evening like others
        dead = evening()
        dead[:, column] = 0.0
        gate = gates.feature_drift(past, ranks(dead), names)
        assert gate.blocking and names[column] in gate.sentence
    few = gates.feature_drift(past, ranks(evening())[:99], names)
    assert few.passed and not few.blocking and np.isnan(few.figure)
    assert np.isnan(gates.feature_drift([past[0][:99]], ranks(evening()), names).figure)
    assert gates.feature_drift([past[0][:100]], ranks(evening()), names).figure < 0.25


def test_stability_is_its_formula() -> None:
    """.5 and .5 that become .8 and .2: .3 ln 1.6 + (-.3) ln .4 = .416."""
    of = gates.stability(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.8, 0.2], [0.9, 0.1]]))
    np.testing.assert_allclose(of, [0.3 * np.log(1.6) - 0.3 * np.log(0.4), 0])


def test_ties_are_what_is_missing_what_is_most_common_and_the_rest() -> None:
    values = np.array([[1, np.nan, 2], [1, np.nan, 3], [1, 5, 3], [2, 5, 4], [np.nan, 6, 5]], np.float32)
    np.testing.assert_allclose(gates.ties(values) * 6.5 - 0.5, [[1, 3, 1], [2, 2, 1], [0, 2, 3]])
    gone = gates.ties(np.full((5, 1), np.nan))
    np.testing.assert_allclose(gone * 6.5 - 0.5, [[5, 0, 0]], atol=1e-12)


@given(arrays(np.float32, (60, 2), elements=st.sampled_from([0, 1, 2, np.nan])), st.permutations(range(60)))
@settings(deadline=None, max_examples=50)
def test_ties_are_those_of_counting_whatever_the_order_of_names(values: np.ndarray, order: list[int]) -> None:
    found = gates.ties(values)
    np.testing.assert_array_equal(found, gates.ties(values[order]))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for f in range(2):
        known = values[np.isfinite(values[:, f]), f].tolist()
        most = max(map(known.count, known), default=0)
        np.testing.assert_allclose(found[f] * 61.5 - 0.5, [60 - len(known), most, len(known) - most], atol=1e-9)
        assert gates.stability(found[f], found[f]) == 0


def test_catalogue_age_and_switch(tmp_path: Path) -> None:
    assert gates.catalogue_equal("a", "a").passed
    other = gates.catalogue_equal("a", "b")
    assert not other.passed and other.blocking and "catalogue a" in other.sentence and "of b" in other.sentence
    assert gates.champion_age(DAY - timedelta(days=45), DAY).passed
    old = gates.champion_age(DAY - timedelta(days=46), DAY)
    assert not old.passed and not old.blocking and old.figure == 46
    assert gates.kill_switch(tmp_path).passed
    (tmp_path / gates.KILL_SWITCH).write_text("broker is down\nsecond line\n")
    gate = gates.kill_switch(tmp_path)
    assert not gate.passed and gate.blocking and "(broker is down)" in gate.sentence and str(tmp_path) in gate.sentence
    (tmp_path / gates.KILL_SWITCH).write_text("")
    assert not gates.kill_switch(tmp_path).passed


def test_skill_that_is_gone_is_noticed_and_skill_that_is_there_is_not_doubted() -> None:
    alarms, honest = [], 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        kept = rng.normal(0.05, 0.08, 500)
        honest += not gates.matured_rank_ic(kept, 0.05, 0.08).passed
        lost = np.concatenate([kept[:100], rng.normal(0, 0.08, 120)])
        alarms.append(not gates.matured_rank_ic(lost, 0.05, 0.08).passed)
    assert honest <= 2 and np.mean(alarms) > 0.75, (honest, np.mean(alarms))
    few = gates.matured_rank_ic([-0.5] * 19, 0.05, 0.08)
    assert few.passed and "19 evenings" in few.sentence
    gate = gates.matured_rank_ic(np.full(60, -0.05) + np.random.default_rng(0).normal(0, 0.08, 60), 0.05, 0.08)
    assert not gate.passed and not gate.blocking
    assert gates.matured_rank_ic(np.zeros(60), 0.0, 0.08).passed


def test_the_sum_is_pages_by_hand() -> None:
    """20 days of x = -.02 with m = .04 and s = .1: each adds .04 (.02 + .02) / .01 = .16; 3.2 in all."""
    gate = gates.matured_rank_ic([-0.02] * 20, 0.04, 0.1)
    assert gate.figure == pytest.approx(3.2) and gate.passed
    assert gates.matured_rank_ic([-0.02] * 20 + [0.06] * 10, 0.04, 0.1).figure == pytest.approx(3.2 - 1.6)


def test_a_leak_blocks() -> None:
    assert gates.leak_alarm([]).passed and gates.leak_alarm([0.4] * 19).passed
    leak = gates.leak_alarm([0.4] * 20)
    assert not leak.passed and leak.blocking and not gates.leak_alarm([-0.4] * 20).passed
    assert gates.leak_alarm([0.05] * 20).passed


@given(arrays(np.float32, 60, elements=st.floats(-5, 5, width=16)), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_agreement_is_scipys(today: np.ndarray, seed: int) -> None:
    yesterday = np.random.default_rng(seed).normal(size=60).astype(np.float32)
    yesterday[:7] = np.nan
    ours = gates.agreement(today, yesterday)
    if np.isfinite(ours):
        assert ours == pytest.approx(spearmanr(today[7:], yesterday[7:]).statistic, abs=1e-9)


def test_a_figure_within_its_threshold_passes_and_one_beyond_does_not(evenings: Evenings) -> None:
    """The record is its own proof, for whoever reads it later."""
    for plant in [lambda e: e.today, *(plant for plant, _ in FAULTS.values())]:
        for gate in shape(evenings, plant(evenings)).values():
            if gate.name != "score_spread" and np.isfinite(gate.figure):
                assert gate.passed == (gate.threshold[0] <= gate.figure <= gate.threshold[1]), gate
