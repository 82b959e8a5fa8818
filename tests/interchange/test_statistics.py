"""Statistics of daily series against independent computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.fft import dct
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
from atft_model.interchange.student import two_sided_quantile

series = arrays(np.float64, st.integers(3, 60), elements=st.floats(-1, 1, width=32))


def long_hand(values: np.ndarray, lag: int) -> float:
    """Newey-West by its definition: a sum over pairs."""
    n, e = len(values), values - values.mean()
    lag = min(lag, n - 2)
    variance = sum(
        max(0.0, 1 - abs(i - j) / (lag + 1)) * e[i] * e[j] for i in range(n) for j in range(n) if abs(i - j) <= lag
    )
    return values.mean() / np.sqrt(variance / n**2)


@given(series, st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_newey_west_is_its_definition(values: np.ndarray, lag: int) -> None:
    t = newey_west_t(values, lag)
    if np.isfinite(t):
        np.testing.assert_allclose(t, long_hand(values, lag), rtol=1e-6, atol=1e-9)


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
        assert np.isnan(newey_west_t(few, 1)) and np.isnan(information_ratio(few))
    assert np.isnan(newey_west_t(np.ones(30), 3)) and np.isnan(information_ratio(np.ones(30)))
    assert np.isnan(mean([np.nan]))


def test_a_difference_is_paired_and_its_interval_covers() -> None:
    rng = np.random.default_rng(1)
    market = rng.normal(0, 1, 400)  # common to both: paired comparison takes it out
    ours, theirs = market + 0.05 + rng.normal(0, 0.05, 400), market + rng.normal(0, 0.05, 400)
    ours[:20] = np.nan
    found = paired_difference(ours, theirs, 5)
    assert found.days == 380 and 0.03 < found.low < 0.05 < found.high < 0.07
    assert found.p <= 1e-3 and found.t > 10 and found.spaced_t > 5
    back = paired_difference(theirs, ours, 5)
    assert (back.mean, back.p) == (-found.mean, found.p)  # two-sided: nobody said which is the better


@given(series)
@settings(deadline=None, max_examples=30)
def test_no_difference_is_not_significant(values: np.ndarray) -> None:
    same = paired_difference(values, values, 1)
    assert same.mean == 0
    if not same.too_short:
        assert same.low == same.high == 0 and same.p == 1.0


BY_HAND = np.array([0.02, 0.04, -0.01, 0.03, 0.00, 0.04])


def test_worked_by_hand() -> None:
    """Six days with mean .02 and autocovariances 3.667e-4, -2.5e-4, 1.667e-4."""
    assert [newey_west_t(BY_HAND, lag) for lag in (0, 1, 2)] == pytest.approx([2.558, 4.536, 4.076], abs=1e-3)
    assert information_ratio(BY_HAND) == pytest.approx(0.9535, abs=1e-4)
    variance = cosine_variance(BY_HAND, 2)
    assert variance == pytest.approx((0.0008**2 + 0.02**2) / 2, rel=2e-3)
    t = 0.02 / np.sqrt(variance / 6)
    assert t == pytest.approx(3.461, abs=1e-3) and t < two_sided_quantile(0.05, 2) == pytest.approx(4.303, abs=1e-3)
    verdict = mean_verdict(BY_HAND, 1)  # .4 * 6^(2/3) is one cosine: nothing is told
    assert verdict.degrees == 1 and verdict.too_short and np.isnan([verdict.p, verdict.low, verdict.high]).all()


@given(arrays(np.float64, st.integers(20, 80), elements=st.floats(-1, 1, width=32)), st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_cosines_are_scipys(values: np.ndarray, degrees: int) -> None:
    """Lambda_j is sqrt(2 / n) times the cosine transform of type II, whose sums SciPy doubles."""
    transforms = np.sqrt(2 / len(values)) * dct(values - values.mean(), type=2)[1 : degrees + 1] / 2
    np.testing.assert_allclose(cosine_variance(values, degrees), (transforms**2).mean(), rtol=1e-9, atol=1e-15)


def test_an_interval_and_its_p_say_the_same() -> None:
    rng = np.random.default_rng(5)
    for shift in np.linspace(-0.3, 0.3, 25):
        verdict = mean_verdict(rng.normal(shift, 1, 200), 5)
        assert (verdict.low > 0 or verdict.high < 0) == (verdict.p < 0.05)
        assert verdict.degrees == min(int(0.4 * 200 ** (2 / 3)), 20) == 13
        error = (verdict.high - verdict.mean) / stats.t.isf(0.025, 13)
        assert verdict.p == pytest.approx(2 * stats.t.sf(abs(verdict.mean / error), 13), rel=1e-6)


def test_critical_values_and_lags_are_those_of_the_paper() -> None:
    """Kiefer and Vogelsang (2005): 1.96 without lags, 4.81 at b = 1; 2.46 for 243 days of a 20-day label."""
    assert (lag_of(1), lag_of(20)) == (1, 39)
    assert critical_value(10**9, 1) == pytest.approx(1.96, abs=1e-4)
    assert critical_value(40, 39) == critical_value(10, 39) == pytest.approx(4.813)
    assert critical_value(243, lag_of(20)) == pytest.approx(2.46, abs=5e-3)
    assert critical_value(486, lag_of(20)) == pytest.approx(2.21, abs=5e-3)
    assert np.isnan(critical_value(0, 1))


@pytest.mark.parametrize("horizon", [1, 5, 10, 20])
def test_too_few_days_tell_nothing(horizon: int) -> None:
    least = days_needed(horizon)
    x = np.random.default_rng(3).normal(5, 1, least)
    assert mean_verdict(x[:-1], horizon).too_short and not mean_verdict(x, horizon).too_short
    assert degrees_of(least, horizon) == 2 and mean_verdict(x, horizon).days_needed == least


def test_every_hth_day_is_an_ordinary_t() -> None:
    x = np.random.default_rng(4).normal(0.2, 1, 101)
    assert spaced_t(x, 20) == pytest.approx(ttest_1samp(x[::20], 0).statistic)
    assert np.isnan(spaced_t(x[:40], 20)) and np.isnan(spaced_t(np.ones(100), 5))


def test_holm_by_hand() -> None:
    """.01, .02, .03, .04 of four: times 4, 3, 2, 1, none below the one before; an unknown one does not count."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, float("nan"), 0.7])[::2] == [1.0, 1.0] and np.isnan(holm([0.6, float("nan"), 0.7])[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None, max_examples=100)
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    """Against the procedure by its words: go up from the smallest, stop at the first that is too large."""
    order, rejected = sorted(range(len(p_values)), key=lambda i: p_values[i]), set()
    for step, place in enumerate(order):
        if (len(p_values) - step) * p_values[place] >= 0.05:
            break
        rejected.add(place)
    assert {i for i, p in enumerate(holm(p_values)) if p < 0.05} == rejected


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
