"""Ridge against its oracle and a direct solution; its grid of penalties; the liquid names alone."""

import numpy as np
import pytest

from atft_assets.baselines.fitted import CannotFit
from atft_assets.baselines.ridge import LEAST, MOST, best_penalty, beyond, fit_ridge, liquid, ridge, ridge_liquid
from atft_assets.baselines.samples import Judge, day_sample
from atft_model.interchange.panel import Panel
from tests.baselines.made import QUICK, linear, made_fold, made_panel, rank_ic, validation


def test_ridge_finds_a_planted_line_as_well_as_its_oracle(planted: Panel) -> None:
    fitted = ridge(planted, made_fold(planted), QUICK)
    weights, _ = fit_ridge(planted, made_fold(planted))
    assert (np.sign(weights[:, :3]) == [1, -1, 1]).all()
    assert (np.abs(weights[:, 3:6]) < np.abs(weights[:, 2:3])).all()
    days = validation(planted)
    oracle = np.broadcast_to(linear(np.stack([planted.x(t) for t in days])), (4, len(days), 60))
    attained, attainable = rank_ic(planted, fitted.predict(planted, days)), rank_ic(planted, oracle)
    assert attainable > 0.3 and attained > 0.95 * attainable


def test_ridge_is_ridge(planted: Panel) -> None:
    """Against a direct solution over all rows stacked."""
    fold = made_fold(planted)
    weights, facts = fit_ridge(planted, fold)
    samples = [day_sample(planted, t) for t in fold.places(planted.dates, "train")]
    x, y = np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples])
    for h, horizon in enumerate(planted.horizons):
        known = np.isfinite(y[:, h])
        design = np.hstack([x[known], np.ones((known.sum(), 1))]).astype(np.float64)
        penalty = np.sqrt(facts[f"penalty_{horizon}d"] * known.sum()) * np.eye(design.shape[1])
        penalty[-1, -1] = 0
        stacked = np.vstack([design, penalty])
        expected = np.linalg.lstsq(stacked, np.append(y[known, h], np.zeros(len(penalty))), rcond=None)[0]
        np.testing.assert_allclose(weights[h], expected, atol=1e-6)


def strong(x: np.ndarray) -> np.ndarray:
    return 3 * x[..., 0]


def many_weak(x: np.ndarray) -> np.ndarray:
    return 0.03 * x.sum(axis=-1)


@pytest.mark.parametrize(("signal", "features"), [(strong, 6), (many_weak, 60), (lambda x: 0 * x[..., 0], 30)])
def test_the_grid_of_penalties_ends_with_its_best_inside(signal, features: int) -> None:
    panel = made_panel(signal, features=features, noise=3.0, names=40)
    _, facts = fit_ridge(panel, made_fold(panel))
    for horizon in panel.horizons:
        grid, best = facts[f"penalties_{horizon}d"], facts[f"penalty_{horizon}d"]
        assert grid[0] < best < grid[-1] or best in (pytest.approx(LEAST), pytest.approx(MOST))
        np.testing.assert_allclose(np.diff(np.log10(grid)), 1)  # without a hole


def test_the_grid_widens_decade_by_decade() -> None:
    def widened(figure) -> dict[float, float]:
        tried = {penalty: figure(penalty) for penalty in (0.1, 1.0, 10.0)}
        while (further := beyond(tried)) is not None:
            tried[further] = figure(further)
        return tried

    inside = widened(lambda p: -((np.log10(p) - 3.2) ** 2))
    assert best_penalty(inside) == pytest.approx(1e3) and max(inside) == pytest.approx(1e4) and min(inside) == 0.1
    below = widened(lambda p: -((np.log10(p) + 2.9) ** 2))
    assert best_penalty(below) == pytest.approx(1e-3) and min(below) == pytest.approx(1e-4) and max(below) == 10
    # beyond a point all are the same fit: the nearest of them is taken, and the search ends
    flat = widened(lambda p: 0.05 if p >= 10 else 0.01)
    assert best_penalty(flat) == 10 and max(flat) == 100
    endless = widened(lambda p: float(np.log10(p)))
    assert best_penalty(endless) == max(endless) == pytest.approx(MOST)
    assert best_penalty({1.0: float("-inf"), 10.0: float("-inf")}) == 1.0


def test_ridge_liquid_is_fitted_on_the_most_traded_third_and_scores_all() -> None:
    """What is planted differs between the names that trade much and the others."""

    def signal(x: np.ndarray) -> np.ndarray:
        return np.where(x[..., 0] > 0.43, 2.0, -2.0) * x[..., 1]  # 0.43: the upper third of a normal variable

    panel = made_panel(signal, named=("log_turnover",), noise=1.0, names=90)
    fold, days = made_fold(panel), validation(panel)
    scores = ridge_liquid(panel, fold, QUICK).predict(panel, days)
    assert np.isfinite(scores[:, panel.valid[days.start : days.stop]]).all()
    rows = liquid(panel)
    judge = Judge(panel, days, rows)
    place = {t: d for d, t in enumerate(days)}
    figures = judge.rank_ic(lambda day: scores[:, place[day.t], day.rows].T, range(4))
    assert (figures > 0.5).all() and rank_ic(panel, scores) < 0.2
    everybody = ridge(panel, fold, QUICK).predict(panel, days)
    assert (judge.rank_ic(lambda day: everybody[:, place[day.t], day.rows].T, range(4)) < 0).all()
    for t in (0, 100):
        traded = np.where(panel.valid[t], panel.x(t)[:, 0], -np.inf)
        assert rows(panel, t).sum() == round(panel.valid[t].sum() / 3) and rows(panel, t)[traded.argmax()]
        assert traded[rows(panel, t)].min() >= traded[panel.valid[t] & ~rows(panel, t)].max()


def test_ridge_liquid_prefers_the_mean_of_trading_and_says_what_it_lacks(planted: Panel) -> None:
    panel = made_panel(linear, named=("log_turnover", "log_adv_20"))
    t = 7
    order = panel.x(t)[:, 1]
    assert order[liquid(panel)(panel, t)].min() >= order[panel.valid[t] & ~liquid(panel)(panel, t)].max()
    with pytest.raises(CannotFit, match="neither of the features log_adv_20 and log_turnover"):
        ridge_liquid(planted, made_fold(planted), QUICK)
