"""Statistics of daily series against independent computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_1samp

from atft_model.interchange.horizons import HORIZONS, headline, horizon_weights
from atft_model.interchange.statistics import (
    information_ratio,
    mean,
    mean_by_day,
    newey_west_t,
    paired_difference,
)

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
    found = paired_difference(ours, theirs)
    assert found.days == 380 and 0.03 < found.low < 0.05 < found.high < 0.07
    assert found.p <= 1e-3 and found.t > 10
    back = paired_difference(theirs, ours)
    assert (back.mean, back.p) == (-found.mean, found.p)  # two-sided: nobody said which is the better


@given(series)
@settings(deadline=None, max_examples=30)
def test_no_difference_is_not_significant(values: np.ndarray) -> None:
    same = paired_difference(values, values)
    assert same.mean == 0 and same.low == same.high == 0 and same.p == 1.0


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
