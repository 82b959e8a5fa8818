"""Ranks against SciPy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, rankdata

from atft_assets.scoring.ranking import average_ranks, gaussian_ranks

COARSE = st.sampled_from([-2.5, -1.0, 0.0, 0.5, 1.0, 3.0, np.inf, -np.inf, np.nan])


@settings(deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(0, 30), st.integers(1, 4)), elements=COARSE))
def test_average_ranks_equal_scipy(values: np.ndarray) -> None:
    ranks, counts = average_ranks(values)
    for column in range(values.shape[1]):
        known = ~np.isnan(values[:, column])
        assert counts[column] == known.sum()
        assert np.isnan(ranks[~known, column]).all()
        np.testing.assert_array_equal(ranks[known, column], rankdata(values[known, column]))


@settings(deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(2, 200), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)))
def test_gaussian_ranks_equal_the_normal_quantile(values: np.ndarray) -> None:
    expected = np.stack([norm.ppf((rankdata(c) - 0.5) / len(c)) for c in values.T], axis=1)
    np.testing.assert_allclose(gaussian_ranks(values), np.clip(expected, -3, 3), atol=1e-4)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_only_the_order_counts(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(50, 1))
    np.testing.assert_array_equal(gaussian_ranks(values), gaussian_ranks(np.exp(3 * values)))


def test_a_column_without_variation_is_zero() -> None:
    np.testing.assert_array_equal(gaussian_ranks(np.full((7, 1), 4.2)), np.zeros((7, 1)))
