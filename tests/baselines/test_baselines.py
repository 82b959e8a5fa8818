"""Baselines find what is planted, choose within the train block alone, and do so twice in the same way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata, spearmanr

from atft_assets.baselines.blend import blend
from atft_assets.baselines.config import SANDBOX_TREES, TREES, BaselineConfig, for_source
from atft_assets.baselines.fitted import CannotFit
from atft_assets.baselines.registry import BASELINES, OPTIONAL, chosen
from atft_assets.baselines.ridge import (
    LEAST,
    MOST,
    best_penalty,
    beyond,
    fit_ridge,
    liquid,
    ridge,
    ridge_liquid,
)
from atft_assets.baselines.rules import MOMENTUM_DAYS, momentum_return
from atft_assets.baselines.samples import Judge, day_sample, eligible, features_of, inner_split
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_model.interchange.fold import cut
from atft_model.interchange.panel import Panel
from tests.baselines.made import changed, made_fold, made_panel

QUICK = BaselineConfig(trees=120, threads=1)
WEIGHTS = np.array([1.0, -0.6, 0.3, 0, 0, 0])


def linear(x: np.ndarray) -> np.ndarray:
    return x @ WEIGHTS


def interaction(x: np.ndarray) -> np.ndarray:
    return 1.5 * np.sign(x[..., 0] * x[..., 1])


def rank_ic(panel: Panel, scores: np.ndarray) -> float:
    return Block.of(panel, made_fold(panel), "validation").score_dense(scores).rank_ic


def validation(panel: Panel) -> range:
    return made_fold(panel).places(panel.dates, "validation")


@pytest.fixture(scope="module")
def planted() -> Panel:
    return made_panel(linear, noise=3.0)


@pytest.fixture(scope="module")
def crossed() -> Panel:
    return made_panel(interaction, noise=2.0)


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


def test_trees_find_an_interaction_that_ridge_cannot(crossed: Panel) -> None:
    fold, days = made_fold(crossed), validation(crossed)
    found = {name: rank_ic(crossed, BASELINES[name](crossed, fold, QUICK).predict(crossed, days)) for name in
             ("ridge", "lightgbm")}  # fmt: skip
    assert found["lightgbm"] > 0.4 and abs(found["ridge"]) < 0.06


def test_the_number_of_trees_is_chosen_on_the_tail(crossed: Panel) -> None:
    """Noise asks for few trees, a rule that trees can learn for many; the setting is one of those declared."""
    from atft_assets.baselines.trees import EVERY, SETTINGS

    noise = made_panel(lambda x: 0 * x[..., 0])
    learned, nothing = (BASELINES["lightgbm"](p, made_fold(p), QUICK).facts for p in (crossed, noise))
    for horizon in crossed.horizons:
        assert learned[f"trees_{horizon}d"] % EVERY == 0 and learned[f"inner_rank_ic_{horizon}d"] > 0.4
        setting = {name: learned[f"{name}_{horizon}d"] for name in SETTINGS[0]}
        assert setting in SETTINGS
        assert nothing[f"inner_rank_ic_{horizon}d"] < 0.1
    one = BASELINES["lightgbm"](crossed, made_fold(crossed), QUICK.model_copy(update={"settings": 1})).facts
    assert {one[f"learning_rate_{h}d"] for h in crossed.horizons} == {SETTINGS[0]["learning_rate"]}


def test_every_row_is_learned_from_unless_there_are_too_many(crossed: Panel) -> None:
    fold = made_fold(crossed)
    days = fold.places(crossed.dates, "train")
    held = int(crossed.valid[days.start : days.stop].sum())
    quick = QUICK.model_copy(update={"trees": 10, "settings": 1})
    facts = BASELINES["lightgbm"](crossed, fold, quick).facts
    assert (facts["rows"], facts["days"], facts["days_left_out"]) == (held, len(days), 0)
    facts = BASELINES["lightgbm"](crossed, fold, quick.model_copy(update={"rows": held // 2 + 100})).facts
    assert facts["rows"] <= held // 2 + 100 and facts["days"] == -(-len(days) // 2)
    assert facts["days_left_out"] == len(days) - facts["days"]


def test_rows_read_by_day_are_those_of_one_whole(crossed: Panel) -> None:
    """The same model, to the bit, as LightGBM makes of one matrix in memory."""
    import lightgbm as engine

    from atft_assets.baselines.trees import FIXED, Table

    parameters = {**FIXED, "objective": "regression", "num_threads": 1, "seed": 0}
    days = range(0, 100)
    table = Table.of(crossed, days, eligible, parameters)
    samples = [day_sample(crossed, t) for t in days]
    x, y = np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples])
    np.testing.assert_array_equal(table.targets, y)
    known = np.isfinite(y[:, 2])
    whole = engine.Dataset(x, np.where(known, y[:, 2], 0), weight=known.astype(np.float32), params=parameters)
    ours, theirs = (engine.train(parameters, data, 20) for data in (table.learning(2), whole))
    assert ours.model_to_string() == theirs.model_to_string()


def test_a_row_without_a_target_teaches_nothing(crossed: Panel) -> None:
    """Ridge leaves it out; to LightGBM, which reads the rows once for all horizons, it weighs nothing."""
    from atft_assets.baselines.trees import FIXED, Table

    y, x = crossed.y.copy(), crossed.tensors["x"].copy()
    y[:, :, 5] = np.nan
    without = changed(crossed, y_cc=y)
    x[:, 5] = x[::-1, 5]
    otherwise = changed(without, x=x)
    np.testing.assert_array_equal(*(fit_ridge(panel, made_fold(panel))[0] for panel in (without, otherwise)))
    table = Table.of(without, range(50), eligible, {**FIXED, "objective": "regression"})
    for h in (0, 3):
        data = table.learning(h)
        known = np.concatenate([np.isfinite(without.y[h, t, without.valid[t]]) for t in range(50)])
        np.testing.assert_array_equal(data.get_weight(), known)
        assert 0.8 < known.mean() < 0.95 and np.isfinite(data.get_label()).all()


def test_lambdarank_learns_the_order_and_is_off_by_default(crossed: Panel) -> None:
    assert list(chosen(BaselineConfig())) == list(BASELINES)
    assert list(chosen(BaselineConfig(lambdarank=True))) == [*BASELINES, *OPTIONAL]
    quick = QUICK.model_copy(update={"trees": 30, "settings": 1})
    fitted = OPTIONAL["lambdarank"](crossed, made_fold(crossed), quick)
    assert rank_ic(crossed, fitted.predict(crossed, validation(crossed))) > 0.3
    assert {f"trees_{h}d" for h in crossed.horizons} <= set(fitted.facts)


@pytest.mark.parametrize("name", ["ridge", "ridge_liquid", "lightgbm", "lambdarank"])
def test_nothing_beyond_the_train_block_reaches_choices_or_scores(name: str) -> None:
    """Every label after the train block is poisoned."""
    panel = made_panel(linear, named=("log_turnover",), noise=2.0, days=240, names=30)
    fold = made_fold(panel)
    after = fold.places(panel.dates, "train").stop
    y = panel.y.copy()
    y[:, after:] = np.random.default_rng(9).normal(size=y[:, after:].shape)
    poisoned = changed(panel, y_cc=y)
    quick = QUICK.model_copy(update={"trees": 10, "settings": 2})
    fit = {**BASELINES, **OPTIONAL}[name]
    whole, spoiled = fit(panel, fold, quick), fit(poisoned, fold, quick)
    assert whole.facts == spoiled.facts
    days = validation(panel)
    np.testing.assert_array_equal(whole.predict(panel, days), spoiled.predict(panel, days))


@pytest.mark.parametrize("name", ["ridge", "lightgbm"])
def test_two_fits_are_one(name: str, crossed: Panel) -> None:
    quick = QUICK.model_copy(update={"trees": 40})
    first, second = (BASELINES[name](crossed, made_fold(crossed), quick) for _ in range(2))
    assert first.facts == second.facts
    days = validation(crossed)
    np.testing.assert_array_equal(first.predict(crossed, days), second.predict(crossed, days))


@pytest.mark.parametrize("name", ["ridge", "lightgbm"])
def test_a_block_too_short_to_choose_in_is_fitted_all_the_same(name: str) -> None:
    panel = made_panel(linear, days=130)
    fold = cut(panel.dates, "short", purge_days=20, embargo_days=0)
    assert inner_split(panel, fold) is None
    fitted = BASELINES[name](panel, fold, QUICK)
    assert fitted.facts["chosen"].startswith("nothing: ") and "too few for an inner split" in fitted.facts["chosen"]
    days = fold.places(panel.dates, "validation")
    assert Block.of(panel, fold, "validation").score_dense(fitted.predict(panel, days)).rank_ic > 0.3


def test_the_inner_split_keeps_the_folds_own_distance(planted: Panel) -> None:
    fold = made_fold(planted)
    split, days = inner_split(planted, fold), fold.places(planted.dates, "train")
    assert split.fit.start == days.start and split.tail.stop == days.stop
    assert split.tail.start - split.fit.stop == fold.purge_days + fold.embargo_days
    assert len(split.tail) == round(len(days) / 5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_the_judge_is_the_mean_of_daily_spearman_correlations(seed: int, ties: bool) -> None:
    panel = made_panel(linear, days=100, names=30, seed=seed)
    rng = np.random.default_rng(seed)
    days = range(3, 9)
    scores = rng.normal(size=(100, 30, 2))
    scores = np.round(scores) if ties else scores
    scores[4, :, 0] = 1.0  # a day without variation
    found = Judge(panel, days).rank_ic(lambda day: scores[day.t, day.rows], [1, 3])
    for column, h in enumerate((1, 3)):
        daily = []
        for t in days:
            known = panel.valid[t] & np.isfinite(panel.y[h, t])
            if np.ptp(scores[t, known, column]) > 0:
                daily.append(spearmanr(scores[t, known, column], panel.y[h, t, known]).statistic)
        assert found[column] == pytest.approx(np.mean(daily), abs=1e-6)


def test_rules_read_no_future() -> None:
    panel = made_panel(linear, days=400)
    t = 300
    rules = ("reversal_5d", "low_volatility", "momentum_12_1")
    y = panel.y.copy()
    y[:, t:] = 0.5
    later = changed(panel, y_cc=y)
    for name in rules:
        rule = BASELINES[name](panel, made_fold(panel), QUICK)
        before, after = (rule.predict(p, range(t, t + 1)) for p in (panel, later))
        np.testing.assert_array_equal(before, after)
        assert np.isfinite(before).all() and before.std() > 0
        assert not np.array_equal(rule.predict(panel, range(t + 1, t + 30)), rule.predict(later, range(t + 1, t + 30)))


def test_momentum_by_hand() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(300, 5)) * 0.02
    returns[100:110, 1] = np.nan  # a few days without a trade
    returns[50:260, 2] = np.nan  # most of the year
    found = momentum_return(returns, range(235, 262))
    assert np.isnan(found[: MOMENTUM_DAYS - 235]).all()  # the panel does not reach back
    for d, t in enumerate(range(235, 262)):
        if t >= MOMENTUM_DAYS:
            for n in (0, 3, 4):
                expected = np.prod(1 + returns[t - 240 : t - 20, n]) - 1
                assert found[d, n] == pytest.approx(expected)
            past = returns[t - 240 : t - 20, 1]
            assert found[d, 1] == pytest.approx(np.prod(1 + past[np.isfinite(past)]) - 1)
            assert np.isnan(found[d, 2])
    # whatever days are asked for together
    np.testing.assert_allclose(momentum_return(returns, range(255, 256))[0], found[20], rtol=1e-9)


def test_the_blend_is_the_mean_of_gaussian_ranks() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 20)), 1000 * rng.lognormal(size=(2, 3, 20))
    eligible = rng.random((3, 20)) < 0.8
    first[0, 1, 4] = np.nan
    found = blend((first, second), eligible)
    for h in range(2):
        for d in range(3):
            rows = eligible[d] & np.isfinite(first[h, d])
            scores = [norm.ppf((rankdata(part[h, d, rows]) - 0.5) / rows.sum()) for part in (first, second)]
            np.testing.assert_allclose(found[h, d, rows], np.mean(scores, axis=0), atol=1e-3)
            assert np.isnan(found[h, d, ~rows]).all()


def test_features_of_some_names_are_those_of_the_panel(planted: Panel) -> None:
    rows = planted.valid[3]
    np.testing.assert_array_equal(features_of(planted, 3, rows), planted.x(3)[rows])


def test_the_search_is_short_on_the_sandbox() -> None:
    sandbox, real = Settings.from_env({}), Settings.from_env({"JQUANTS_BASE_URL": "http://127.0.0.1:9/v2"})
    demo, tokyo = for_source(BaselineConfig(), sandbox), for_source(BaselineConfig(), real)
    assert (demo.trees, demo.settings) == (SANDBOX_TREES, 1) and (tokyo.trees, tokyo.settings) == (TREES, None)
    assert for_source(BaselineConfig(trees=7, settings=2), sandbox).trees == 7
