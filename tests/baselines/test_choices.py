"""What every fitted baseline keeps to: nothing beyond the train block, the same twice, and short blocks."""

import numpy as np
import pytest

from atft_assets.baselines.config import SANDBOX_TREES, TREES, BaselineConfig, for_source
from atft_assets.baselines.registry import BASELINES, OPTIONAL, chosen
from atft_assets.baselines.samples import inner_split
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_model.interchange.fold import cut
from atft_model.interchange.panel import Panel
from tests.baselines.made import QUICK, changed, linear, made_fold, made_panel, validation


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


def test_the_search_is_short_on_the_sandbox() -> None:
    sandbox, real = Settings.from_env({}), Settings.from_env({"JQUANTS_BASE_URL": "http://127.0.0.1:9/v2"})
    demo, tokyo = for_source(BaselineConfig(), sandbox), for_source(BaselineConfig(), real)
    assert (demo.trees, demo.settings) == (SANDBOX_TREES, 1) and (tokyo.trees, tokyo.settings) == (TREES, None)
    assert for_source(BaselineConfig(trees=7, settings=2), sandbox).trees == 7


def test_the_ranking_objective_is_fitted_when_it_is_asked_for() -> None:
    assert list(chosen(BaselineConfig())) == list(BASELINES)
    assert list(chosen(BaselineConfig(lambdarank=True))) == [*BASELINES, *OPTIONAL]
