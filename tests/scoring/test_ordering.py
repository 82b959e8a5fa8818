"""Levels, ranks and deciles: against SciPy, and what must hold of any of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr

from atft_assets.scoring.daily import daily_spearman, grouped_spearman
from atft_assets.scoring.ordering import (
    DECILES,
    NOWHERE,
    decile_means,
    deciles_of,
    levels_of,
    ranks_of,
    ranks_within,
    spread_of,
)

COARSE = st.sampled_from([-2.5, -1.0, 0.0, 0.5, 1.0, 3.0, np.inf, -np.inf, np.nan])
WHOLE = arrays(np.float64, st.integers(1, 90), elements=st.integers(-40, 40).map(float))


@settings(deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=COARSE), st.integers(0, 99))
def test_ranks_within_any_of_the_names_equal_scipys(values: np.ndarray, seed: int) -> None:
    levels = levels_of(values)
    some = np.random.default_rng(seed).random(values.shape) < 0.7
    for row, level, kept in zip(values, levels, some, strict=True):
        np.testing.assert_array_equal(level == NOWHERE, np.isnan(row))
        kept &= ~np.isnan(row)
        if kept.any():
            np.testing.assert_array_equal(ranks_of(level[kept]), rankdata(row[kept]))


@settings(deadline=None)
@given(WHOLE, st.integers(0, 99))
def test_ranks_within_groups_equal_scipys(values: np.ndarray, seed: int) -> None:
    groups = np.random.default_rng(seed).integers(0, 4, len(values))
    found = ranks_within(levels_of(values), groups, 5)
    for group in np.unique(groups):
        np.testing.assert_array_equal(found[groups == group], rankdata(values[groups == group]))


@settings(deadline=None)
@given(WHOLE)
def test_deciles_part_the_names_in_order(values: np.ndarray) -> None:
    deciles = deciles_of(ranks_of(levels_of(values)))
    assert ((deciles >= 0) & (deciles < DECILES)).all()  # every name is in exactly one
    order = np.argsort(values)
    assert (np.diff(deciles[order]) >= 0).all()
    for value in np.unique(values):
        assert len(set(deciles[values == value])) == 1


@settings(deadline=None)
@given(st.integers(10, 300), st.integers(0, 99))
def test_deciles_of_distinct_scores_are_of_even_size(names: int, seed: int) -> None:
    deciles = deciles_of(np.random.default_rng(seed).permutation(names) + 1.0)
    counts = np.bincount(deciles, minlength=DECILES)
    assert counts.sum() == names and counts.max() - counts.min() <= 2
    assert counts[0] == counts[-1] >= 1


@settings(deadline=None)
@given(WHOLE, st.integers(0, 99))
def test_the_spread_of_the_negated_score_is_the_negated_spread(values: np.ndarray, seed: int) -> None:
    returns = np.random.default_rng(seed).normal(size=len(values))
    up, down = (spread_of(deciles_of(ranks_of(levels_of(v))), returns) for v in (values, -values))
    np.testing.assert_allclose(down, -up, atol=1e-12)


def test_decile_means_by_hand() -> None:
    ranks, returns = np.arange(1.0, 21), np.arange(20) / 100
    means = decile_means(deciles_of(ranks), returns)
    np.testing.assert_allclose(means, (np.arange(10) * 2 + 0.5) / 100 - returns.mean())
    assert spread_of(deciles_of(ranks), returns) == pytest.approx(0.185 - 0.005)
    tied = deciles_of(np.full(20, 10.5))
    assert np.isnan(spread_of(tied, returns)) and np.isfinite(decile_means(tied, returns)).sum() == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.booleans())
def test_daily_and_grouped_correlations_equal_scipys(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3, 60))
    a = np.round(a) if ties else a
    a[rng.random(a.shape) < 0.2] = np.nan
    groups = rng.integers(-1, 3, a.shape)
    whole = daily_spearman(levels_of(a), levels_of(b), min_names=8)
    parts = grouped_spearman(levels_of(a), levels_of(b), groups, 4, min_names=8)
    assert np.isnan(parts[:, 3]).all()  # nobody is in it
    for d in range(3):
        known = np.isfinite(a[d])
        np.testing.assert_allclose(whole[d], spearmanr(a[d, known], b[d, known]).statistic)
        for g in range(3):
            rows = known & (groups[d] == g)
            if rows.sum() < 8:
                assert np.isnan(parts[d, g])
            else:
                np.testing.assert_allclose(parts[d, g], spearmanr(a[d, rows], b[d, rows]).statistic, atol=1e-12)
