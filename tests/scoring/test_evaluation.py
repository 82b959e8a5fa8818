"""The scoring function against SciPy, pandas-free direct formulas, and cases whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr

from atft_assets.scoring.evaluation import evaluate
from atft_assets.scoring.trailing import trailing_return, trailing_volatility
from atft_model.interchange.statistics import newey_west_t, paired_difference

HORIZONS = (1, 5, 10, 20)


def block(seed: int, days: int = 6, names: int = 40, ties: bool = False):
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(4, days, names)) * 0.02
    scores = returns + rng.normal(size=returns.shape) * 0.05
    if ties:
        scores = np.round(scores * 20)
    returns[rng.random(returns.shape) < 0.1] = np.nan
    eligible = rng.random((days, names)) < 0.9
    return scores, returns, eligible


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_rank_ic_and_ic_are_the_mean_of_daily_correlations(seed: int, ties: bool) -> None:
    scores, returns, eligible = block(seed, ties=ties)
    score = evaluate(scores, returns, eligible, horizons=HORIZONS)
    for i, h in enumerate(HORIZONS):
        rank, plain = [], []
        for d in range(scores.shape[1]):
            rows = eligible[d] & np.isfinite(returns[i, d])
            rank.append(spearmanr(scores[i, d, rows], returns[i, d, rows]).statistic)
            plain.append(pearsonr(scores[i, d, rows], returns[i, d, rows]).statistic)
        assert score.by_horizon[h].rank_ic == pytest.approx(np.mean(rank), abs=1e-6)
        assert score.by_horizon[h].ic == pytest.approx(np.mean(plain), abs=1e-9)
        assert score.by_horizon[h].rank_icir == pytest.approx(np.mean(rank) / np.std(rank, ddof=1), rel=1e-4)
    means = [score.by_horizon[h].rank_ic for h in HORIZONS]
    assert score.rank_ic == pytest.approx(np.average(means, weights=[1, 0.8, 0.6, 0.4]))
    assert score.coverage == 1.0


def test_scores_without_variation_have_no_correlation() -> None:
    scores, returns, eligible = block(1)
    scores[0, :3] = 7.0  # three of six days
    scores[1] = 7.0
    score = evaluate(scores, returns, eligible, horizons=HORIZONS)
    assert np.isfinite(score.by_horizon[1].rank_ic)
    assert np.isnan(score.by_horizon[5].rank_ic) and np.isnan(score.rank_ic)
    assert score.as_json()["rank_ic"] is None  # and not zero


def test_hand_computed_day() -> None:
    returns = np.array([[[0.01, 0.02, 0.03, 0.04, 0.05]]])
    scores = np.array([[[1.0, 1.0, 3.0, 4.0, 2.0]]])
    score = evaluate(scores, returns, np.ones((1, 5), bool), horizons=(1,), min_names=5)
    # ranks 1.5 1.5 4 5 3 against 1 2 3 4 5: sum of products of deviations 6.5, squares 9.5 and 10
    assert score.rank_ic == pytest.approx(6.5 / np.sqrt(9.5 * 10))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_neutral_scores_are_residuals_of_ranks_by_least_squares(seed: int) -> None:
    scores, returns, eligible = block(seed, days=2)
    rng = np.random.default_rng(seed + 1)
    volatility, sectors = rng.lognormal(size=eligible.shape), rng.integers(0, 4, eligible.shape[1])
    score = evaluate(scores, returns, eligible, horizons=HORIZONS, volatility=volatility, sectors=sectors)
    daily = []
    for d in range(2):
        rows = eligible[d] & np.isfinite(returns[0, d])
        level = volatility[d, rows].argsort().argsort().astype(float)
        design = np.column_stack([np.eye(4)[sectors[rows]], level])
        values = (rankdata(scores[0, d, rows]), returns[0, d, rows])
        residuals = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in values]
        daily.append(spearmanr(*residuals).statistic)
    assert score.by_horizon[1].neutral_rank_ic == pytest.approx(np.mean(daily), abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([np.exp, np.cbrt, np.arctan]))
def test_a_monotone_change_of_the_scores_changes_no_rank_figure(seed: int, change) -> None:
    """Wild tails, tame tails: the order is the same, so the figure is."""
    scores, returns, eligible = block(seed, days=2)
    rng = np.random.default_rng(seed + 1)
    around = {
        "volatility": rng.lognormal(size=eligible.shape),
        "sectors": rng.integers(0, 4, eligible.shape[1]),
        "horizons": HORIZONS,
    }
    one, other = (evaluate(s, returns, eligible, **around) for s in (scores, change(scores.astype(np.float64))))
    assert other.rank_ic == pytest.approx(one.rank_ic, abs=1e-12)
    assert other.neutral_rank_ic == pytest.approx(one.neutral_rank_ic, abs=1e-12)


def test_scores_whose_ranks_are_those_of_volatility_are_worth_nothing_when_neutral() -> None:
    scores, returns, eligible = block(3)
    rng = np.random.default_rng(0)
    sectors = rng.integers(0, 4, eligible.shape[1])
    volatility = np.broadcast_to(rng.permutation(eligible.shape[1]).astype(float), eligible.shape)
    eligible, returns = np.ones_like(eligible), np.nan_to_num(returns)
    explained = np.broadcast_to(-0.3 * volatility, scores.shape)
    score = evaluate(explained, returns, eligible, horizons=HORIZONS, volatility=volatility, sectors=sectors)
    assert np.isfinite(score.rank_ic) and np.isnan(score.neutral_rank_ic)


def test_missing_scores_lower_the_coverage() -> None:
    scores, returns, eligible = block(4)
    scores[:, :, :10] = np.nan
    score = evaluate(scores, returns, eligible, horizons=HORIZONS)
    assert 0.7 < score.coverage < 0.8


def test_shapes_must_belong_together() -> None:
    scores, returns, eligible = block(5)
    with pytest.raises(ValueError, match="shapes differ"):
        evaluate(scores, returns, eligible[:, :-1], horizons=HORIZONS)


def test_newey_west_without_lag_is_the_ordinary_t() -> None:
    series = np.random.default_rng(0).normal(0.1, 1, 250)
    expected = series.mean() / (series.std(ddof=0) / np.sqrt(250))
    assert newey_west_t(series, 0) == pytest.approx(expected)
    series[::7] = np.nan
    assert newey_west_t(series, 0) == pytest.approx(newey_west_t(series[np.isfinite(series)], 0))


def test_newey_west_by_the_definition() -> None:
    series = np.convolve(np.random.default_rng(1).normal(size=300), np.ones(5), "valid")
    n, e, lag = len(series), series - series.mean(), 4
    weights = np.clip(1 - np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / (lag + 1), 0, None)
    assert newey_west_t(series, lag) == pytest.approx(series.mean() / np.sqrt(e @ weights @ e / n**2))
    assert abs(newey_west_t(series, lag)) < abs(newey_west_t(series, 0))  # overlap makes the plain t too large


def test_the_interval_covers_the_truth() -> None:
    """95 % nominal, of 400: 380 and a standard deviation of 4."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        noise = np.convolve(rng.normal(size=263), np.ones(5) / 5, "valid")
        found = paired_difference(0.02 + noise, np.zeros_like(noise), 5)
        covered += found.low <= 0.02 <= found.high
    assert 366 <= covered <= 394


def test_paired_difference_uses_common_days_only() -> None:
    ours, theirs = np.full(100, 0.05), np.full(100, 0.03)
    ours[:40], theirs[60:] = np.nan, np.nan
    found = paired_difference(ours, theirs, 5)
    assert found.days == 20 and found.mean == pytest.approx(0.02) and found.low == pytest.approx(0.02)
    assert found.p < 0.01


def test_trailing_figures_see_only_returns_that_are_known() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(60, 3)) * 0.02  # row t: from t to t+1
    changed = returns.copy()
    changed[40:] = 9.0
    days = range(30, 41)
    for figure in (lambda r: trailing_volatility(r, days), lambda r: trailing_return(r, days, 5)):
        np.testing.assert_array_equal(figure(returns), figure(changed))
    np.testing.assert_allclose(trailing_volatility(returns, days)[0], returns[10:30].std(axis=0, ddof=1))
    np.testing.assert_allclose(trailing_return(returns, days, 5)[-1], np.prod(1 + returns[35:40], axis=0) - 1)
