"""Residuals: by hand, against least squares, and what must be gone from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from atft_assets.scoring.neutral import beyond, residual
from atft_assets.scoring.trailing import trailing_beta


def test_one_exposure_by_hand() -> None:
    values, exposure = np.array([4.0, 2, 3, 1, 5]), np.arange(1.0, 6)[:, None]
    left = residual(values, exposure, np.zeros(5, int))
    np.testing.assert_allclose(left, [1.2, -0.9, 0.0, -2.1, 1.8], atol=1e-12)  # slope .1


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 9999), st.integers(1, 4), st.integers(1, 4))
def test_nothing_of_what_was_removed_is_left(seed: int, exposures: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    values, level = rng.normal(size=(40, 2)), rng.normal(size=(40, exposures)) * 10.0 ** rng.integers(-4, 5, exposures)
    group = rng.integers(0, groups, 40)
    left = residual(values, level, group)
    design = np.column_stack([np.eye(groups)[group], level / np.linalg.norm(level, axis=0)])
    np.testing.assert_allclose(left, values - design @ np.linalg.lstsq(design, values, rcond=None)[0], atol=1e-9)
    for column in range(2):
        for k in range(exposures):
            assert abs(pearsonr(left[:, column], level[:, k]).statistic) < 1e-8
        for g in np.unique(group):
            assert abs(left[group == g, column].mean()) < 1e-12
    np.testing.assert_allclose(left[:, 0], residual(values[:, 0], level, group), atol=1e-12)  # one by one is the same


def test_exposures_that_say_nothing_take_nothing_out() -> None:
    rng = np.random.default_rng(1)
    values, level, group = rng.normal(size=30), rng.normal(size=(30, 1)), np.arange(30) % 3
    once = residual(values, level, group)
    for useless in (level * 2 + 1, np.full((30, 1), 7.0), group[:, None].astype(float)):
        np.testing.assert_allclose(residual(values, np.hstack([level, useless]), group), once, atol=1e-9)


def test_what_is_explained_wholly_has_no_variation_left() -> None:
    level, group = np.random.default_rng(2).normal(size=(30, 2)), np.arange(30) % 3
    left = residual(level @ [3.0, -0.1] + 5.0 * group, level, group)
    np.testing.assert_array_equal(left, np.zeros(30))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9999))
def test_what_lies_beyond_others_is_not_in_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    others = rng.normal(size=60)
    mine = others + rng.normal(size=60)
    left = beyond(mine, others)
    assert pearsonr(left, mine).statistic > 0
    np.testing.assert_array_equal(beyond(np.exp(mine), others**3), left)  # only the order counts
    np.testing.assert_array_equal(beyond(others, others), np.zeros(60))


def test_beta_is_the_slope_on_the_market() -> None:
    rng = np.random.default_rng(3)
    returns = 0.01 * rng.normal(size=(90, 1)) * np.linspace(0.5, 1.5, 20) + 0.01 * rng.normal(size=(90, 20))
    returns[40:75, 4] = np.nan  # less than half of the window is known on day 80
    returns[30, 7] = np.nan
    market = np.nanmean(returns, axis=1)
    found = trailing_beta(returns, range(78, 81))
    for row, t in zip(found, range(78, 81), strict=True):
        for n in (0, 7, 19):
            known = np.isfinite(returns[t - 60 : t, n])
            slope = np.polyfit(market[t - 60 : t][known], returns[t - 60 : t, n][known], 1)[0]
            assert row[n] == pytest.approx(slope)
    assert np.isnan(found[:, 4]).all()
    changed = returns.copy()
    changed[80:] = 9.0
    np.testing.assert_array_equal(trailing_beta(changed, range(78, 81)), found)  # nothing of the future
    assert np.isnan(trailing_beta(returns, range(0, 20))).all()  # too early
