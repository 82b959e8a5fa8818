"""Statistics of daily series against independent computations, and examples that can be followed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.fft import dct
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from atft_model.interchange.horizons import HORIZONS, headline, horizon_weights
from atft_model.interchange.statistics import (
    cosine_variance,
    critical_value,
    days_needed,
    degrees_of,
    holm,
    information_ratio,
    lag_of,
    mean,
    mean_by_day,
    mean_verdict,
    newey_west_t,
    paired_difference,
    spaced_t,
)

SIX_DAYS = np.array([0.02, 0.04, -0.01, 0.03, 0.00, 0.04])

series = arrays(np.float64, st.integers(3, 60), elements=st.floats(-1, 1, width=32))
p_values = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12)


def long_hand(values: np.ndarray, lag: int) -> float:
    """Newey-West by its definition: a sum over pairs."""
    n, e = len(values), values - values.mean()
    lag = min(lag, n - 2)
    variance = sum(
        max(0.0, 1 - abs(i - j) / (lag + 1)) * e[i] * e[j] for i in range(n) for j in range(n) if abs(i - j) <= lag
    )
    return values.mean() / np.sqrt(variance / n**2)


# the t of Newey and West, and what it is to exceed


@given(series, st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_newey_west_is_its_definition(values: np.ndarray, lag: int) -> None:
    t = newey_west_t(values, lag)
    if np.isfinite(t):
        np.testing.assert_allclose(t, long_hand(values, lag), rtol=1e-6, atol=1e-9)


def test_newey_west_by_hand() -> None:
    """Mean .02; autocovariances 3.667e-4, -2.5e-4, 1.667e-4."""
    assert [round(newey_west_t(SIX_DAYS, lag), 3) for lag in (0, 1, 2)] == [2.558, 4.536, 4.076]
    assert round(information_ratio(SIX_DAYS), 4) == 0.9535


def test_without_lags_it_is_students_t_but_for_one_degree() -> None:
    x = np.random.default_rng(0).normal(0.1, 1, 200)
    np.testing.assert_allclose(newey_west_t(x, 0), ttest_1samp(x, 0).statistic * np.sqrt(200 / 199))


def test_values_that_are_not_finite_are_left_out_and_few_say_nothing() -> None:
    x = np.array([0.1, np.nan, 0.2, np.inf, 0.4])
    assert newey_west_t(x, 1) == newey_west_t(np.array([0.1, 0.2, 0.4]), 1)
    assert mean(x) == pytest.approx(0.7 / 3) and information_ratio(x) == pytest.approx(
        (0.7 / 3) / np.std([0.1, 0.2, 0.4], ddof=1)
    )
    for few in ([], [0.1], [0.1, 0.2]):
        assert np.isnan(newey_west_t(few, 1)) and np.isnan(information_ratio(few)) and np.isnan(spaced_t(few, 1))
    for constant in (np.ones(30), np.full(30, 0.1)):
        assert np.isnan(newey_west_t(constant, 3)) and np.isnan(information_ratio(constant))
        assert np.isnan(spaced_t(constant, 2))
    assert np.isnan(mean([np.nan]))


def test_the_lag_reaches_beyond_the_overlap() -> None:
    assert [lag_of(h) for h in HORIZONS] == [1, 9, 19, 39]


def test_critical_values_are_those_of_fixed_b() -> None:
    """Kiefer and Vogelsang's cubic for Bartlett's weights, at lengths of a block of validation and of test."""
    found = [critical_value(days, lag_of(h)) for days, h in ((243, 20), (486, 20), (486, 5))]
    assert [round(value, 2) for value in found] == [2.46, 2.21, 2.02]
    assert critical_value(10**9, 0) == pytest.approx(1.96) and critical_value(20, 39) == pytest.approx(4.8130)
    assert math.isnan(critical_value(0, 39))


def test_every_hth_day_is_judged_by_students_t() -> None:
    x = np.random.default_rng(1).normal(0.2, 1, 230)
    x[3] = np.nan
    known = x[np.isfinite(x)]
    for h in HORIZONS:
        assert spaced_t(x, h) == pytest.approx(ttest_1samp(known[::h], 0).statistic)


# equally weighted cosines


def test_the_variance_of_cosines_by_hand() -> None:
    """Two transforms, -.00080 and .02000: t = 3.461, below the 4.303 of two degrees of freedom."""
    variance = cosine_variance(SIX_DAYS, 2)
    assert variance == pytest.approx(2.0032e-4, rel=1e-4)
    assert cosine_variance(SIX_DAYS, 1) == pytest.approx(0.0008**2, rel=0.02)
    t = SIX_DAYS.mean() / math.sqrt(variance / 6)
    assert round(t, 3) == 3.461 < student.isf(0.025, 2)


@given(arrays(np.float64, st.integers(13, 300), elements=st.floats(-1, 1, width=32)), st.sampled_from(HORIZONS))
@settings(deadline=None, max_examples=60)
def test_verdicts_are_scipys(values: np.ndarray, horizon: int) -> None:
    """By SciPy's discrete cosine transform and its distribution of Student's t."""
    verdict, n = mean_verdict(values, horizon), len(values)
    degrees = int(min(0.4 * n ** (2 / 3), n / (2 * horizon)))
    assert (verdict.degrees, verdict.days, verdict.too_short) == (degrees, n, degrees < 2)
    assert verdict.mean == pytest.approx(values.mean())
    np.testing.assert_equal(verdict.t, newey_west_t(values, 2 * horizon - 1))
    assert verdict.critical == critical_value(n, 2 * horizon - 1)
    if verdict.too_short:
        assert np.isnan([verdict.p, verdict.low, verdict.high]).all() and n < verdict.days_needed
        return
    transforms = dct(values - values.mean(), type=2, norm="ortho")[1 : degrees + 1]
    error = math.sqrt(np.mean(transforms**2) / n)
    if error > 1e-9:
        reach = student.isf(0.025, degrees) * error
        assert verdict.low == pytest.approx(values.mean() - reach, rel=1e-9, abs=1e-12)
        assert verdict.high == pytest.approx(values.mean() + reach, rel=1e-9, abs=1e-12)
        assert verdict.p == pytest.approx(2 * student.sf(abs(values.mean()) / error, degrees), rel=1e-8, abs=1e-300)
        if abs(verdict.p - 0.05) > 1e-9:
            assert (verdict.low > 0 or verdict.high < 0) == (verdict.p < 0.05)


def test_how_much_a_block_can_tell() -> None:
    assert [degrees_of(days, 20) for days in (79, 101, 243, 500)] == [1, 2, 6, 12]
    assert degrees_of(500, 1) == int(0.4 * 500 ** (2 / 3))  # of short horizons the first term is the smaller
    assert [days_needed(h) for h in HORIZONS] == [12, 20, 40, 80]
    for h in HORIZONS:
        assert degrees_of(days_needed(h), h) == 2 > degrees_of(days_needed(h) - 1, h)


@given(arrays(np.float64, 120, elements=st.floats(-1, 1, width=32)), st.floats(0.01, 100), st.sampled_from(HORIZONS))
@settings(deadline=None, max_examples=40)
def test_the_unit_does_not_matter_and_the_sign_turns_the_interval(
    values: np.ndarray, factor: float, horizon: int
) -> None:
    one, other = mean_verdict(values, horizon), mean_verdict(-factor * values, horizon)
    assert other.mean == pytest.approx(-factor * one.mean, rel=1e-9, abs=1e-12)
    if not one.too_short:
        assert other.low == pytest.approx(-factor * one.high, rel=1e-6, abs=1e-9)
        if 1e-6 < one.p < 1 - 1e-6:
            assert other.p == pytest.approx(one.p, rel=1e-6)


def test_constant_series_are_certain_and_few_days_are_not() -> None:
    zero, tenth = mean_verdict(np.zeros(100), 20), mean_verdict(np.full(100, 0.1), 20)
    assert (zero.low, zero.high, zero.p) == (0, 0, 1)
    assert tenth.low == tenth.high == pytest.approx(0.1) and tenth.p == 0
    short = mean_verdict(np.full(79, 0.1), 20)
    assert short.too_short and math.isnan(short.p) and short.days_needed == 80
    empty = mean_verdict([], 20)
    assert empty.days == 0 and math.isnan(empty.mean) and math.isnan(empty.p) and empty.too_short


# paired differences


def test_a_difference_is_paired_and_its_interval_covers() -> None:
    rng = np.random.default_rng(1)
    market = rng.normal(0, 1, 400)  # common to both: paired comparison takes it out
    ours, theirs = market + 0.05 + rng.normal(0, 0.05, 400), market + rng.normal(0, 0.05, 400)
    ours[:20] = np.nan
    found = paired_difference(ours, theirs, 20)
    assert found.days == 380 and 0.03 < found.low < 0.05 < found.high < 0.07
    assert found.p <= 1e-3 and found.t > 10
    back = paired_difference(theirs, ours, 20)
    assert (back.mean, back.p) == (-found.mean, found.p)  # two-sided: nobody said which is the better


def test_only_days_that_both_have_are_compared() -> None:
    ours, theirs = np.full(100, 0.05), np.full(100, 0.03)
    ours[:40], theirs[60:] = np.nan, np.nan
    found = paired_difference(ours, theirs, 5)
    assert found.days == 20 and found.mean == pytest.approx(0.02) and found.low == pytest.approx(0.02)
    assert found.p < 0.01
    assert paired_difference(ours, theirs, 20).too_short


@given(arrays(np.float64, st.integers(12, 60), elements=st.floats(-1, 1, width=32)))
@settings(deadline=None, max_examples=30)
def test_no_difference_is_not_significant(values: np.ndarray) -> None:
    same = paired_difference(values, values, 1)
    assert same.mean == 0 and same.low == same.high == 0 and same.p == 1.0


# many comparisons


def test_holm_by_hand() -> None:
    """.005 x 4, .01 x 3, .03 x 2, and .04 x 1, which may not fall below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1] and holm([]) == [] and holm([0.04]) == [0.04]
    with_gap = holm([0.01, math.nan, 0.02])
    assert with_gap[0] == 0.02 and with_gap[2] == 0.02 and math.isnan(with_gap[1])


@given(p_values, st.floats(0.001, 0.999))
@settings(deadline=None)
def test_holm_rejects_as_its_procedure_does(given_p: list[float], level: float) -> None:
    """Step down: go on from the smallest p as long as it is at most level / (hypotheses left)."""
    known = sorted((p, place) for place, p in enumerate(given_p) if not math.isnan(p))
    rejected = set()
    for step, (p, place) in enumerate(known):
        if p * (len(known) - step) > level:
            break
        rejected.add(place)
    adjusted = holm(given_p)
    assert {place for place, p in enumerate(adjusted) if p <= level} == rejected
    for before, after in zip(given_p, adjusted, strict=True):
        assert math.isnan(after) if math.isnan(before) else before <= after <= 1


# headlines


def test_mean_over_runs_by_day() -> None:
    np.testing.assert_array_equal(mean_by_day([[1, np.nan, 3], [3, np.nan, np.nan]]), [2, np.nan, 3])


def test_a_headline_needs_every_horizon() -> None:
    daily = np.array([[0.1, 0.2, np.nan], [0.1, np.nan, np.nan], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    assert np.isfinite(headline(daily, HORIZONS)).tolist() == [True, False, False]
    assert headline(daily, HORIZONS)[0] == pytest.approx(0.1)


def test_weights_fall_with_the_horizon_and_unknown_ones_fit_in() -> None:
    np.testing.assert_allclose(horizon_weights(HORIZONS), np.array([1, 0.8, 0.6, 0.4]) / 2.8)
    wide = horizon_weights((1, 2, 5, 7, 10, 20, 60))
    assert (np.diff(wide) <= 0).all() and wide[-1] == wide[-2] and wide[1] == wide[0]
    assert wide.sum() == pytest.approx(1)
