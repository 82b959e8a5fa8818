"""Metrics against scipy and numpy, hand-made cases, and their undefined cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_model import metrics
from atft_model.interchange import statistics


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), names=st.integers(12, 60), ties=st.booleans())
def test_rank_and_linear_correlation_equal_scipy(seed, names, ties):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(3, names)), rng.normal(size=(3, names))
    if ties:
        a, b = a.round(0), b.round(1)
    mask = rng.random((3, names)) < 0.95
    mask[:, :11] = True
    rank = metrics.spearman_by_day(torch.tensor(a), torch.tensor(b), torch.tensor(mask)).numpy()
    linear = metrics.pearson_by_day(torch.tensor(a), torch.tensor(b), torch.tensor(mask)).numpy()
    for t in range(3):
        x, y = a[t, mask[t]], b[t, mask[t]]
        if len(np.unique(x)) > 1 and len(np.unique(y)) > 1:
            assert rank[t] == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-10)
            assert linear[t] == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-10)


def test_average_ranks_by_hand():
    ranks = metrics.average_ranks(
        torch.tensor([[3.0, 1.0, 3.0, -2.0, 9.0]]), torch.tensor([[True, True, True, True, False]])
    )
    assert ranks[0, :4].tolist() == [3.5, 2.0, 3.5, 1.0]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_scores_are_undefined(value):
    returns = torch.randn(2, 50)
    mask = torch.ones(2, 50, dtype=torch.bool)
    assert metrics.spearman_by_day(torch.full((2, 50), value), returns, mask).isnan().all()
    assert metrics.pearson_by_day(torch.full((2, 50), value), returns, mask).isnan().all()
    assert metrics.spearman_by_day(returns, returns, mask[:, :50] & (torch.arange(50) < 5)).isnan().all()


def test_newey_west_against_its_definition():
    rng = np.random.default_rng(0)
    x = rng.normal(0.05, 1, 500)
    x = np.convolve(x, np.ones(5) / 5, mode="valid")
    n, e = len(x), x - x.mean()
    gamma = [e[k:] @ e[: n - k] / n for k in range(5)]
    variance = gamma[0] + 2 * sum((1 - k / 5) * gamma[k] for k in range(1, 5))
    assert statistics.newey_west_t(x, 4) == pytest.approx(x.mean() / math.sqrt(variance / n))
    plain = x.mean() / (x.std() / math.sqrt(n))
    assert statistics.newey_west_t(x, 0) == pytest.approx(plain)
    assert abs(statistics.newey_west_t(x, 4)) < abs(plain), "overlap must widen the error"
    assert math.isnan(statistics.newey_west_t([1.0], 0))


def test_icir_by_hand():
    known = [0.1, 0.3, 0.4]
    ratio = statistics.information_ratio([*known, float("nan")])
    assert ratio == pytest.approx(np.mean(known) / np.std(known, ddof=1))
    assert math.isnan(statistics.information_ratio([0.1, 0.1, 0.1]))


def test_a_paired_difference_is_found_and_a_nothing_is_not():
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.1, 250)
    better = base + 0.01 + rng.normal(0, 0.02, 250)
    same = base + rng.normal(0, 0.02, 250) * np.tile([1, -1], 125)
    found = statistics.paired_difference(better, base, 5)
    assert found.p <= 0.001 and found.low < 0.01 < found.high + 0.005
    assert statistics.paired_difference(same - (same - base).mean(), base, 5).p > 0.2
    worse = statistics.paired_difference(base, better, 5)
    assert worse.p == found.p and worse.mean == -found.mean, "two-sided: the worse of the two is as sure"


def test_p_is_calibrated():
    """With no difference and days that overlap by nine, p < 0.1 happens about one time in ten: 20 of 200."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        d = np.convolve(rng.normal(0, 1, 259), np.ones(10) / 10, mode="valid")
        hits += statistics.paired_difference(d, np.zeros_like(d), 10).p < 0.1
    assert 10 <= hits <= 32


def test_residuals_are_those_of_least_squares():
    rng = np.random.default_rng(3)
    values, exposure = rng.normal(size=(2, 40)), rng.normal(size=(2, 40))
    group = rng.integers(0, 4, 40)
    mask = rng.random((2, 40)) < 0.8
    ours = metrics.residualise(*map(torch.tensor, (values, exposure, group, mask))).numpy()
    for t in range(2):
        m = mask[t]
        design = np.column_stack([exposure[t, m], np.eye(4)[group[m]]])
        plain = values[t, m] - design @ np.linalg.lstsq(design, values[t, m], rcond=None)[0]
        np.testing.assert_allclose(ours[t, m], plain, atol=1e-9)
        assert (ours[t, ~m] == 0).all()


def test_a_residual_of_what_is_explained_is_nothing():
    group = torch.arange(40) % 4
    mask = torch.ones(1, 40, dtype=torch.bool)
    exposure = torch.randn(1, 40)
    explained = 0.1 + group.double()[None] * 1e3
    assert (metrics.residualise(explained, exposure, group, mask) == 0).all()


def test_trailing_volatility_by_hand():
    rng = np.random.default_rng(4)
    returns = rng.normal(0, 0.02, (60, 3))
    returns[30:41, 1] = np.nan  # eleven of the twenty days before day 45 are unknown
    returns[:, 2] = np.nan
    days = range(5, 50)
    ours = metrics.trailing_volatility(torch.tensor(returns), days).numpy()
    for place, t in enumerate(days):
        past = returns[max(0, t - 20) : t, 0]
        if t < 10:
            assert np.isnan(ours[place, 0]), "fewer than ten returns are known"
        else:
            assert ours[place, 0] == pytest.approx(past.std(ddof=1), rel=1e-12)
    assert np.isnan(ours[45 - 5, 1]) and np.isfinite(ours[30 - 5, 1]) and np.isnan(ours[:, 2]).all()


def test_volatility_enters_by_its_rank_and_a_missing_one_as_average():
    level = metrics.volatility_level(
        torch.tensor([[0.3, torch.nan, 0.1, 9.0, 0.1]]), torch.tensor([[True, True, True, True, True]])
    )
    assert level[0].tolist() == [0.5, 0.0, -1.0, 1.5, -1.0]


def test_degeneracy_measures():
    valid = torch.ones(3, 100, dtype=torch.bool)
    scores = torch.randn(2, 3, 100)
    fine = metrics.score_degeneracy(scores, valid)
    assert fine["score_spread"] == pytest.approx(1.0, abs=0.2) and fine["distinct_share"] == 1.0
    scores[:, 1] *= 0.01
    assert metrics.score_degeneracy(scores, valid)["spread_ratio"] < 0.02
    scores[:, 2] = scores[:, 2].round(decimals=0)
    assert metrics.score_degeneracy(scores, valid)["distinct_share"] < 0.1


def test_headline_is_the_weighted_mean_of_horizons():
    returns = torch.randn(4, 6, 30)
    scores = returns + torch.randn(4, 6, 30)
    valid = torch.ones(6, 30, dtype=torch.bool)
    series = metrics.daily_series(scores, returns, valid)
    summary = metrics.summarise(series, (1, 5, 10, 20))
    by = [summary["rank_ic_by_horizon"][h] for h in ("1", "5", "10", "20")]
    assert summary["rank_ic"] == pytest.approx(np.average(by, weights=[1, 0.8, 0.6, 0.4]))
    assert metrics.headline_series(series, (1, 5, 10, 20)).mean() == pytest.approx(summary["rank_ic"])
    assert summary["days"] == 6


def test_a_day_has_a_headline_only_if_every_horizon_has_a_figure():
    returns = torch.randn(4, 30, 40)
    returns[3, -20:] = torch.nan
    series = metrics.daily_series(returns + torch.randn(4, 30, 40), returns, torch.ones(30, 40, dtype=torch.bool))
    assert np.isfinite(metrics.headline_series(series, (1, 5, 10, 20))).sum() == 10
    assert metrics.summarise(series, (1, 5, 10, 20))["days"] == 30
