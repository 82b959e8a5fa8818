"""LightGBM finds what ridge cannot, on every row, and chooses its trees on the tail."""

import lightgbm as engine
import numpy as np
import pytest

from atft_assets.baselines.fitted import CannotFit
from atft_assets.baselines.ridge import fit_ridge, ridge
from atft_assets.baselines.samples import day_sample, eligible
from atft_assets.baselines.trees import EVERY, FIXED, SETTINGS, Table, lambdarank, lightgbm, reloaded
from atft_model.interchange.panel import Panel
from tests.baselines.made import QUICK, changed, made_fold, made_panel, rank_ic, validation


def test_trees_find_an_interaction_that_ridge_cannot(crossed: Panel) -> None:
    fold, days = made_fold(crossed), validation(crossed)
    trees, line = (rank_ic(crossed, fit(crossed, fold, QUICK).predict(crossed, days)) for fit in (lightgbm, ridge))
    assert trees > 0.4 and abs(line) < 0.06


def test_models_that_were_kept_score_as_those_that_were_fitted(crossed: Panel) -> None:
    days = validation(crossed)
    for fit in (lightgbm, lambdarank):
        fitted = fit(crossed, made_fold(crossed), QUICK.model_copy(update={"trees": 10, "settings": 1}))
        assert set(fitted.models) == {f"{h}d" for h in crossed.horizons}
        again = reloaded(fitted.models, crossed.horizons, threads=1)(crossed, days)
        np.testing.assert_array_equal(again, fitted.predict(crossed, days))


def test_a_model_that_was_not_kept_is_named() -> None:
    with pytest.raises(CannotFit, match="no model of LightGBM was kept for the horizon of 5 days; kept are 1d"):
        reloaded({"1d": "x", "20d": "x"}, (5,))
    with pytest.raises(CannotFit, match="for the horizon of 1 days cannot be read"):
        reloaded({"1d": "no tree"}, (1,))


def test_the_number_of_trees_is_chosen_on_the_tail(crossed: Panel) -> None:
    """Noise asks for few trees, a rule that trees can learn for many; the setting is one of those declared."""
    noise = made_panel(lambda x: 0 * x[..., 0])
    learned, nothing = (lightgbm(p, made_fold(p), QUICK).facts for p in (crossed, noise))
    for horizon in crossed.horizons:
        assert learned[f"trees_{horizon}d"] % EVERY == 0 and learned[f"inner_rank_ic_{horizon}d"] > 0.4
        setting = {name: learned[f"{name}_{horizon}d"] for name in SETTINGS[0]}
        assert setting in SETTINGS
        assert nothing[f"inner_rank_ic_{horizon}d"] < 0.1
    one = lightgbm(crossed, made_fold(crossed), QUICK.model_copy(update={"settings": 1})).facts
    assert {one[f"learning_rate_{h}d"] for h in crossed.horizons} == {SETTINGS[0]["learning_rate"]}


def test_without_a_search_the_first_setting_grows_as_many_trees_as_it_is_told(crossed: Panel) -> None:
    fold, days = made_fold(crossed), validation(crossed)
    fitted = lightgbm(crossed, fold, QUICK.model_copy(update={"trees": 37, "settings": 0}))
    assert fitted.facts["chosen"].startswith("nothing")
    for horizon in crossed.horizons:
        assert fitted.facts[f"trees_{horizon}d"] == 37
        assert {name: fitted.facts[f"{name}_{horizon}d"] for name in SETTINGS[0]} == SETTINGS[0]
    assert rank_ic(crossed, fitted.predict(crossed, days)) > 0.3


def test_every_row_is_learned_from_unless_there_are_too_many(crossed: Panel) -> None:
    fold = made_fold(crossed)
    days = fold.places(crossed.dates, "train")
    held = int(crossed.valid[days.start : days.stop].sum())
    quick = QUICK.model_copy(update={"trees": 10, "settings": 1})
    facts = lightgbm(crossed, fold, quick).facts
    assert (facts["rows"], facts["days"], facts["days_left_out"]) == (held, len(days), 0)
    facts = lightgbm(crossed, fold, quick.model_copy(update={"rows": held // 2 + 100})).facts
    assert facts["rows"] <= held // 2 + 100 and facts["days"] == -(-len(days) // 2)
    assert facts["days_left_out"] == len(days) - facts["days"]


def test_rows_read_by_day_are_those_of_one_whole(crossed: Panel) -> None:
    """The same model, to the bit, as LightGBM makes of one matrix in memory."""
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


def test_lambdarank_learns_the_order(crossed: Panel) -> None:
    quick = QUICK.model_copy(update={"trees": 30, "settings": 1})
    fitted = lambdarank(crossed, made_fold(crossed), quick)
    assert rank_ic(crossed, fitted.predict(crossed, validation(crossed))) > 0.3
    assert {f"trees_{h}d" for h in crossed.horizons} <= set(fitted.facts)
