"""Half-lives, turnover and break-even costs: examples worked out by hand, and series whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.scoring.ordering import levels_of
from atft_assets.scoring.turnover import (
    break_even,
    drifted,
    half_life,
    held_turnover,
    one_way_turnover,
    rank_autocorrelation,
)


def test_turnover_is_against_drifted_weights() -> None:
    weights, returns, wanted = np.array([0.5, 0.3, 0.2]), np.array([0.1, -0.1, 0.0]), np.array([0.4, 0.4, 0.2])
    np.testing.assert_allclose(drifted(weights, returns), [0.53922, 0.26471, 0.19608], atol=5e-6)
    assert one_way_turnover(weights, returns, wanted) == pytest.approx(0.13922, abs=5e-6)
    assert one_way_turnover(weights, np.zeros(3), wanted) == pytest.approx(0.10)  # as if nothing had moved


@settings(deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=8))
def test_a_book_that_is_left_alone_has_no_turnover(returns: list[float]) -> None:
    weights, moved = np.full(len(returns), 1 / len(returns)), np.array(returns)
    left_alone = drifted(weights, moved)
    assert left_alone.sum() == pytest.approx(1)
    assert one_way_turnover(weights, moved, left_alone) == pytest.approx(0, abs=1e-12)
    assert 0 <= one_way_turnover(weights, moved, np.eye(len(returns))[0]) <= 1


def test_a_constant_ranking_has_no_turnover_and_a_full_rotation_has_all() -> None:
    same = np.tile(np.arange(10) < 3, (6, 1))
    np.testing.assert_array_equal(held_turnover(same, np.zeros((6, 10)), 1), np.zeros(5))
    np.testing.assert_array_equal(held_turnover(same, np.full((6, 10), np.nan), 2), np.zeros(4))  # prices are kept
    np.testing.assert_allclose(held_turnover(same, np.full((6, 10), 0.07), 1), 0, atol=1e-15)  # all moved alike
    turned = np.array([np.arange(10) < 5, np.arange(10) >= 5] * 3)
    np.testing.assert_array_equal(held_turnover(turned, np.zeros((6, 10)), 1), np.ones(5))
    np.testing.assert_array_equal(held_turnover(turned, np.zeros((6, 10)), 2), np.zeros(4))
    nobody = same & (np.arange(6) != 2)[:, None]
    np.testing.assert_array_equal(np.isnan(held_turnover(nobody, np.zeros((6, 10)), 1)), [0, 1, 1, 0, 0])
    assert len(held_turnover(same, np.zeros((6, 10)), 20)) == 0


def test_break_even_cost() -> None:
    assert break_even(0.10, 10) == pytest.approx(0.005)  # ten per cent a year, turned over ten times: 50 basis points
    assert np.isnan(break_even(0.10, 0))


@pytest.mark.parametrize(("ratio", "days"), [(0.8, 3.11), (0.9, 6.58), (0.95, 13.5)])
def test_half_life_of_a_known_decay(ratio: float, days: float) -> None:
    curve = 0.02 * ratio ** np.arange(20)
    assert half_life(curve) == pytest.approx(days, rel=2e-3)
    curve[[4, 7]] = np.nan, -0.001  # a day without a figure, and one without a logarithm
    assert half_life(curve) == pytest.approx(days, rel=2e-3)


def test_half_life_of_two_values_and_of_less() -> None:
    assert half_life([0.020, 0.016]) == pytest.approx(3.106, abs=1e-3)  # a ratio of 0.8
    assert half_life([0.02, 0.02, 0.02]) == np.inf and half_life([0.01, 0.02]) == np.inf
    assert np.isnan(half_life([0.02, -0.01])) and np.isnan(half_life([np.nan] * 5))


@pytest.mark.parametrize("rho", [0.8, 0.95])
def test_the_half_life_of_a_planted_ranking_is_found(rho: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.empty((250, 400))
    scores[0] = rng.normal(size=400)
    for d in range(1, 250):
        scores[d] = rho * scores[d - 1] + np.sqrt(1 - rho**2) * rng.normal(size=400)
    scores[rng.random(scores.shape) < 0.05] = np.nan
    found = rank_autocorrelation(levels_of(scores), 8)
    np.testing.assert_allclose(found, 6 / np.pi * np.arcsin(rho ** np.arange(1, 9) / 2), atol=0.02)  # of gaussian ranks
    assert half_life(found) == pytest.approx(np.log(0.5) / np.log(rho), rel=0.06)


def test_autocorrelation_beyond_the_days_is_not_known() -> None:
    levels = levels_of(np.tile(np.arange(20.0), (4, 1)))
    np.testing.assert_array_equal(rank_autocorrelation(levels, 5), [1, 1, 1, np.nan, np.nan])
