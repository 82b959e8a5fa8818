"""Baselines, the table, the test block's ledger, and the printed report."""

import json
import os
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.training import report
from atft_assets.training.baselines import (
    BASELINES,
    BaselineConfig,
    baselines_asset,
    day_sample,
    fit_ridge,
    stored_baselines,
    training_days,
)
from atft_assets.training.block import Block
from atft_assets.training.launcher import TrainingLauncher
from atft_assets.training.panel_file import latest_panel, point_latest
from atft_assets.training.scoreboard import evaluation_asset, ledger
from atft_assets.training.scoreboard import test_evaluation_asset as make_test_evaluation

from .small_market import World
from .test_phases import failure

HERE = Path(__file__).parent
FAST = {"lightgbm_rounds": 10, "threads": 1}


@pytest.fixture(scope="module")
def instance():
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture(autouse=True)
def _trainer_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))


def road(world: World, instance, *names: str, **config):
    """Materialize some of the assets after the panel."""
    stages = [name for name in names if name.startswith("train_")]
    ops = {stage: {"config": {"allow_ephemeral_instance": True}} for stage in stages}
    ops |= {name: {"config": value} for name, value in config.items()}
    return dg.materialize(
        [
            *world.train_assets(),
            baselines_asset(),
            evaluation_asset(world.settings),
            make_test_evaluation(world.settings),
            dg.AssetSpec("training_panel"),
        ],
        selection=list(names),
        resources={"store": world.store, "launcher": TrainingLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": ops},
        instance=instance,
        raise_on_error=False,
    )


def test_ridge_is_ridge(world: World) -> None:
    """Against a direct solution over all rows stacked."""
    panel = latest_panel(world.store.local("panel"))
    weights, chosen = fit_ridge(panel)
    samples = [day_sample(panel, t) for t in training_days(panel)]
    x, y = np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples])
    for h, horizon in enumerate(panel.horizons):
        known = np.isfinite(y[:, h])
        design = np.hstack([x[known], np.ones((known.sum(), 1))]).astype(np.float64)
        penalty = np.sqrt(chosen[f"penalty_{horizon}d"] * known.sum()) * np.eye(design.shape[1])
        penalty[-1, -1] = 0
        stacked = np.vstack([design, penalty])
        expected = np.linalg.lstsq(stacked, np.append(y[known, h], np.zeros(len(penalty))), rcond=None)[0]
        np.testing.assert_allclose(weights[h], expected, atol=1e-6)
    assert np.argmax(np.abs(weights[0, :-1])) == panel.features.index("signal")


def test_baselines_use_the_train_block_only(world: World) -> None:
    """Other labels after the train block change no fitted score (the rules read past returns, that is other labels)."""
    panel = latest_panel(world.store.local("panel"))
    fitted = ("ridge", "lightgbm")

    def scores(name: str) -> np.ndarray:
        return BASELINES[name](panel, BaselineConfig(**FAST))[0](panel, panel.block("validation"))

    before = {name: scores(name) for name in fitted}
    first = panel.block("train").stop
    changed = {**panel.tensors, "y_cc": panel.tensors["y_cc"].copy()}
    changed["y_cc"][:, first:] = np.random.default_rng(0).normal(size=changed["y_cc"][:, first:].shape)
    panel.__dict__["tensors"] = changed
    for name in fitted:
        np.testing.assert_array_equal(scores(name), before[name])


def test_training_days_are_thinned_evenly(world: World) -> None:
    panel = latest_panel(world.store.local("panel"))
    days = training_days(panel, 1000)
    assert len(set(np.diff(days))) == 1 and panel.valid[days].sum() <= 1000 < panel.valid[training_days(panel)].sum()


def test_rules_read_no_future(world: World) -> None:
    panel = latest_panel(world.store.local("panel"))
    t = panel.block("validation").start
    changed = {**panel.tensors, "y_cc": panel.tensors["y_cc"].copy()}
    rules = [BASELINES[name](panel, BaselineConfig())[0] for name in ("reversal_5d", "low_volatility")]
    before = [rule(panel, range(t, t + 1)) for rule in rules]
    changed["y_cc"][:, t:] = 0.5
    panel.__dict__["tensors"] = changed
    for rule, scores in zip(rules, before, strict=True):
        np.testing.assert_array_equal(rule(panel, range(t, t + 1)), scores)
        assert np.isfinite(scores).all() and scores.std() > 0


def test_frame_and_dense_are_inverse(world: World) -> None:
    block = Block(latest_panel(world.store.local("panel")), "validation")
    scores = np.random.default_rng(0).normal(size=(4, len(block.days), len(block.panel.codes))).astype(np.float32)
    again = block.dense(block.frame(scores).sample(fraction=1.0, shuffle=True, seed=1))
    np.testing.assert_array_equal(again[:, block.eligible], scores[:, block.eligible])
    assert np.isnan(again[:, ~block.eligible]).all()


def test_the_whole_comparison(world: World, instance, capsys: pytest.CaptureFixture[str]) -> None:
    result = road(world, instance, "train_phase0", "train_phase1", "baselines", "evaluation", baselines=FAST)
    assert result.success
    agreement = result.get_asset_check_evaluations()[-1]
    assert agreement.check_name == "agreement" and agreement.passed and agreement.metadata["compared"].value == 2
    board = json.loads((world.root / "evaluation" / "validation.json").read_text())
    rows = {row["name"]: row for row in board["rows"]}
    assert list(rows) == ["train_phase0", "train_phase1", "ridge", "lightgbm", "reversal_5d", "low_volatility"]
    assert all(row["coverage"] == 1.0 for row in rows.values())  # the same rows for everybody
    assert rows["ridge"]["rank_ic"] > 0.03
    pair = rows["train_phase1"]["against"]["train_phase0"]
    assert pair["mean"] == pytest.approx(rows["train_phase1"]["rank_ic"] - rows["train_phase0"]["rank_ic"], abs=1e-6)
    assert rows["train_phase0"]["previous"] is None and set(rows["train_phase0"]["against"]) == set(BASELINES)
    metadata = result.asset_materializations_for_node("evaluation")[0].metadata
    assert metadata["ridge/rank_ic"].value == pytest.approx(rows["ridge"]["rank_ic"])
    assert metadata["table"].value.count("\n| ") == 6

    text = report.render(board)
    lines = text.splitlines()
    assert len({len(line.rstrip()) for line in lines[3:4]}) == 1
    assert "train_phase1 Adaptive Norm" in text and "One seed and" in lines[-1]
    assert f"{rows['train_phase1']['rank_ic']:.4f}" in text and "simulated" not in text
    assert report.main([str(world.root / "evaluation" / "validation.json")]) == 0
    assert capsys.readouterr().out.strip() == text
    assert report.main([str(world.root / "none.json")]) == 1
    assert "--select evaluation" in capsys.readouterr().err


def test_a_trainer_whose_own_figure_differs_is_caught(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "wrong_ic")
    result = road(world, instance, "train_phase0", "evaluation")
    (verdict,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "agreement"]
    assert not verdict.passed and verdict.description.startswith("train_phase0 reports 0.")


def test_the_test_block_is_scored_once(world: World, instance) -> None:
    assert road(world, instance, "train_phase0", "baselines", "test_evaluation", baselines=FAST).success
    board = json.loads((world.root / "evaluation" / "test.json").read_text())
    assert board["block"] == "test" and board["scorings"] == 1
    assert [row["name"] for row in board["rows"]][:2] == ["train_phase0", "ridge"]
    refused = road(world, instance, "test_evaluation")
    assert "a second look would make it a validation block" in failure(refused)
    assert road(world, instance, "test_evaluation", test_evaluation={"score_again": True}).success
    assert [entry["again"] for entry in ledger(world.root / "evaluation")] == [False, True]
    # another run is another model
    assert road(world, instance, "train_phase0", "test_evaluation").success


def test_runs_of_another_panel_are_not_judged(world: World, instance) -> None:
    assert failure(road(world, instance, "evaluation")).endswith("--select train_phase0")
    assert road(world, instance, "train_phase0").success
    point_latest(world.store.local("panel"), world.panel(purge_days=25).panel.panel_id)
    assert "no stage has a finished run on panel" in failure(road(world, instance, "evaluation"))


def test_baselines_are_stored_for_both_blocks(world: World, instance) -> None:
    assert stored_baselines(world.store.local("runs")) is None
    assert road(world, instance, "baselines", baselines=FAST).success
    stored = stored_baselines(world.store.local("runs"))
    assert stored.names() == list(BASELINES)
    panel = latest_panel(world.store.local("panel"))
    for block in ("validation", "test"):
        frame = stored.scores("lightgbm", block)
        assert frame.columns == ["date", "code", "score_1d", "score_5d", "score_10d", "score_20d"]
        assert frame.height == Block(panel, block).eligible.sum() and frame["date"].dtype == pl.Date
    assert not list((world.root / "runs" / "baselines").glob(".*"))
