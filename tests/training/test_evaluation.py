"""Baselines, the table, the test block's ledger, and the printed table."""

import json
import logging
import multiprocessing
import os
import signal
from datetime import date

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.baselines.blend import blend
from atft_assets.baselines.registry import BASELINES
from atft_assets.reports import closing_table as report
from atft_assets.scoring.block import Block
from atft_assets.scoring.profiles import Profiles
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.baselines import baselines_asset, stored_baselines
from atft_assets.training.evaluation import CLOSED, evaluation_asset
from atft_assets.training.evaluation import test_evaluation_asset as make_test_evaluation
from atft_assets.training.folds import FoldRow
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.looks import ledger, looked_at
from atft_assets.training.runs import latest_run
from atft_assets.trials.ledger import count
from atft_model.interchange.errors import MEND
from atft_model.interchange.records import from_plain
from atft_model.interchange.run import CHECKPOINT, SCORES
from tests.training.small_market import END, START, World

from .test_phases import failure

pytestmark = pytest.mark.usefixtures("trainer_on_path")
FAST = {"trees": 10, "settings": 1, "threads": 1}
FITTED = [name for name in BASELINES if name != "ridge_liquid"]  # the small market has no column of liquidity


def road(world: World, instance, *names: str, **config):
    """Materialize some of the assets after the panel."""
    phases = [name for name in names if name.startswith("train_")]
    ops = {phase: {"config": {"allow_ephemeral_instance": True}} for phase in phases}
    ops |= {name: {"config": value} for name, value in config.items()}
    return dg.materialize(
        [
            *world.phase_assets(),
            baselines_asset(world.settings),
            evaluation_asset(world.settings),
            make_test_evaluation(world.settings),
            dg.AssetSpec("training_panel"),
            dg.AssetSpec("folds"),
        ],
        selection=list(names),
        resources={"store": world.store, "launcher": LocalLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": ops},
        instance=instance,
        raise_on_error=False,
    )


def test_frame_and_dense_are_inverse(world: World) -> None:
    block = Block.of(world.newest(), world.fold(), "validation")
    scores = np.random.default_rng(0).normal(size=(4, len(block.days), len(block.panel.codes))).astype(np.float32)
    again = block.dense(block.frame(scores).sample(fraction=1.0, shuffle=True, seed=1))
    np.testing.assert_array_equal(again[:, block.eligible], scores[:, block.eligible])
    assert np.isnan(again[:, ~block.eligible]).all()


def test_the_whole_comparison(world: World, instance, capsys: pytest.CaptureFixture[str]) -> None:
    result = road(world, instance, "train_phase0", "train_phase1", "baselines", "evaluation", baselines=FAST)
    assert result.success
    agreement = result.get_asset_check_evaluations()[-1]
    assert agreement.check_name == "agreement" and agreement.passed and agreement.metadata["compared"].value == 2
    assert count(world.root).by_study == {"trainings": 2, "baselines": len(FITTED), "blends": 1}
    board = json.loads((world.root / "evaluation" / "main" / "validation.json").read_text())
    assert board["fold"] == "main" and {row["kind"] for row in board["rows"]} == {"phase", "baseline", "blend"}
    rows = {row["name"]: row for row in board["rows"]}
    assert list(rows) == ["train_phase0", "train_phase1", *FITTED, "blend"]
    assert all(row["coverage"] == 1.0 for row in rows.values())  # the same rows for everybody
    assert rows["ridge"]["rank_ic"] > 0.03
    pair = rows["train_phase1"]["against"]["train_phase0"]
    assert pair["mean"] == pytest.approx(rows["train_phase1"]["rank_ic"] - rows["train_phase0"]["rank_ic"], abs=1e-6)
    assert rows["train_phase0"]["previous"] is None and set(rows["train_phase0"]["against"]) == set(FITTED)
    metadata = result.asset_materializations_for_node("evaluation")[0].metadata
    assert metadata["ridge/rank_ic"].value == round(rows["ridge"]["rank_ic"], 4)
    assert list(metadata)[:2] == ["outcome", "table"]  # what a person reads comes first
    shown = {record.data[""]: record.data for record in metadata["table"].records}
    assert len(shown) == 8 and {"Δ before", "Δ ridge", "Δ lightgbm"} <= set(shown["ridge"])
    against = rows["train_phase1"]["against"]["lightgbm"]
    # both phases with every baseline, one with the phase before, the blend with its two parts
    assert board["comparisons"] == 2 * len(FITTED) + 1 + 2
    assert against["p"] < 0.05 < against["p_holm"]  # on 90 days beyond chance alone, but not among so many
    assert shown["train_phase1 Adaptive Norm"]["Δ lightgbm"] == f"{against['mean']:+.4f}"
    against = rows["train_phase0"]["against"]["ridge"]
    assert against["p"] < against["p_holm"] < 0.05
    assert shown["train_phase0 Baseline"]["Δ ridge"] == f"{against['mean']:+.4f}*"
    fitted = result.asset_materializations_for_node("baselines")[0].metadata
    assert fitted["lightgbm/rank_ic"].value == round(rows["lightgbm"]["rank_ic"], 4)
    assert fitted["left out: ridge_liquid"].value.startswith("the panel has neither of the features log_adv_20 and")
    assert [record.data["validation"] for record in fitted["scores"].records] == FITTED

    profiles = from_plain(Profiles, board["profiles"], "profiles")
    assert [one.name for one in profiles.scores] == list(rows) and len(profiles.dates) == board["days"]
    assert all(one.rank_ic == pytest.approx(rows[one.name]["rank_ic"]) for one in profiles.scores)
    said = {one.name: one for one in profiles.scores}
    ridge = said["ridge"]
    assert ridge.spread > 0 and np.isfinite([ridge.contribution, ridge.turnover, ridge.jpx]).all()
    assert said["low_volatility"].half_life > 5  # a mean of twenty days; the planted signal is new every day
    assert set(ridge.by_segment) == {"Prime", "Standard"}  # as the universe has them
    assert {"trading_value", "by_liquidity"} <= set(profiles.left_out)  # this small panel has no such column
    assert {"volatility", "beta", "size"} <= set(ridge.exposures)
    ranked = [record.data for record in metadata["rankings"].records]
    assert [line[""].split()[0] for line in ranked] == list(rows)
    page = world.root / "reports" / "evaluation.html"
    assert metadata["page"].value == str(page)
    assert str(world.root) not in page.read_text() and ranked[0]["break-even, bp"] in page.read_text()

    text = report.render(board)
    lines = text.splitlines()
    assert len({len(line.rstrip()) for line in lines[3:4]}) == 1
    assert "train_phase1 Adaptive Norm" in text and "One seed and" in lines[-1]
    assert f"{rows['train_phase1']['rank_ic']:.4f}" in text and "simulated" not in text
    assert report.main([str(world.root / "evaluation" / "main" / "validation.json")]) == 0
    assert capsys.readouterr().out.strip() == text
    assert report.main([str(world.root / "none.json")]) == 1
    assert "--select evaluation" in capsys.readouterr().err


def test_the_blend_is_the_last_phase_and_lightgbm_in_equal_parts(world: World, instance) -> None:
    assert road(world, instance, "train_phase0", "train_phase1", "baselines", "evaluation", baselines=FAST).success
    board = json.loads((world.root / "evaluation" / "main" / "validation.json").read_text())
    row = board["rows"][-1]
    block = Block.of(world.newest(), world.fold(), "validation")
    stored = stored_baselines(world.store.local("runs", "main", "baselines"))
    network, trees = latest_run(world.runs(1)).scores(), stored.scores("lightgbm", "validation")
    expected = block.score_dense(blend((block.dense(network), block.dense(trees)), block.eligible))
    assert (row["name"], row["kind"], row["previous"]) == ("blend", "blend", "train_phase1")
    assert row["rank_ic"] == pytest.approx(expected.rank_ic) and row["coverage"] == 1.0
    assert set(row["against"]) == {"train_phase1", "lightgbm"}
    figures = {one["name"]: one["rank_ic"] for one in board["rows"]}
    for name, pair in row["against"].items():
        assert pair["mean"] == pytest.approx(row["rank_ic"] - figures[name], abs=1e-6)


def test_a_killed_or_failed_fit_leaves_the_set_before(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a set nor its directory; what a killed process left goes with the next fit."""
    assert road(world, instance, "baselines", baselines=FAST).success
    sets = world.store.local("runs", "main", "baselines")
    before = stored_baselines(sets).folder
    killed = multiprocessing.get_context("spawn").Process(target=fit_until_killed, args=(str(world.root),))
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    (left,) = sets.glob(".*")
    assert [path.name for path in left.iterdir()] and stored_baselines(sets).folder == before

    def fails(panel, fold, config):
        raise ValueError("no more")

    with monkeypatch.context() as broken:
        broken.setattr("atft_assets.baselines.registry.BASELINES", {**BASELINES, "momentum_12_1": fails})
        assert not road(world, instance, "baselines", baselines={**FAST, "seed": 1}).success
    assert not list(sets.glob(".*")) and [path.name for path in sets.iterdir() if path.is_dir()] == [before.name]
    assert stored_baselines(sets).folder == before


def fit_until_killed(root: str) -> None:
    """Fit another set in a process of its own, which is gone once the first scores are written."""
    from atft_assets.training import baselines

    def write(path, frame):
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    baselines._write = write
    settings = Settings(base_url="http://127.0.0.1:9/v2", plan=Plan.STANDARD, data_root=root, start=START, end=END)
    dg.materialize(
        [baselines.baselines_asset(settings), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")],
        selection=["baselines"],
        resources={"store": Store(root=root)},
        run_config={"ops": {"baselines": {"config": {**FAST, "seed": 2}}}},
    )


def test_a_trainer_whose_own_figure_differs_is_caught(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "wrong_ic")
    result = road(world, instance, "train_phase0", "evaluation")
    (verdict,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "agreement"]
    assert not verdict.passed and verdict.description.startswith("train_phase0 reports 0.")


def test_damaged_scores_are_not_judged(world: World, instance) -> None:
    """Of a run or of a baseline, nor is a run whose checkpoint is not its own."""
    assert road(world, instance, "train_phase0", "baselines", baselines=FAST).success
    run = latest_run(world.runs(0)).folder
    ridge = next((world.root / "runs" / "main" / "baselines").glob("*/ridge.validation.parquet"))
    for path in (run / SCORES, ridge, run / CHECKPOINT):
        whole = path.read_bytes()
        half = len(whole) // 2
        path.write_bytes(whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :])
        said = failure(road(world, instance, "evaluation"))
        assert said.startswith("evaluation cannot start: ") and f"{path} is damaged" in said and MEND in said
        path.write_bytes(whole)
    assert not (world.root / "evaluation").exists()


def test_the_test_block_is_scored_once(world: World, instance) -> None:
    opened = {"test_evaluation": {"open_test": True}}
    assert road(world, instance, "train_phase0", "baselines", "test_evaluation", baselines=FAST, **opened).success
    board = json.loads((world.root / "evaluation" / "main" / "test.json").read_text())
    assert board["block"] == "test" and board["scorings"] == 1
    assert [row["name"] for row in board["rows"]][:2] == ["train_phase0", "ridge"]
    first, last = map(str, world.fold().test)
    assert (board["first"], board["last"]) == (first, last)
    assert not list((world.root / "evaluation" / "main" / "scores").glob(".*"))  # the request is gone
    refused = failure(road(world, instance, "test_evaluation", **opened))
    assert refused.startswith(
        f"test_evaluation cannot start: days of the test block, {first} to {last}, were scored on"
    )
    assert "a second look would make it a validation block" in refused
    # a network that was trained anew does not open it again
    before = latest_run(world.runs(0)).run_id
    again = road(world, instance, "train_phase0", "test_evaluation", **opened)
    assert latest_run(world.runs(0)).run_id != before and "a second look" in failure(again)
    assert road(world, instance, "test_evaluation", test_evaluation={"score_again": True}).success
    entries = ledger(world.root / "evaluation")
    assert [entry["again"] for entry in entries] == [False, True]
    assert {(entry["fold"], entry["first"], entry["last"]) for entry in entries} == {("main", first, last)}
    assert [entry["runs"]["train_phase0"] for entry in entries] == [before, latest_run(world.runs(0)).run_id]
    # nor does another panel whose test block has a day in common, whatever it is called
    world.cut(world.panel(end="2020-05-29").panel)
    assert world.fold().test[1] < date.fromisoformat(last) and str(world.fold().test[1]) > first
    assert road(world, instance, "train_phase0").success
    assert "a second look" in failure(road(world, instance, "test_evaluation", **opened))
    # days that nobody has looked at are open
    world.cut(world.panel(end="2020-03-31").panel)
    assert str(world.fold().test[1]) < first
    assert road(world, instance, "train_phase0", "test_evaluation", **opened).success


def test_a_run_over_everything_does_not_open_the_test_block(world: World, instance) -> None:
    """*Materialize all* gives no config: the run ends well, nothing is scored, and the asset says why."""
    result = road(world, instance, "train_phase0", "test_evaluation")
    assert result.success and not result.asset_materializations_for_node("test_evaluation")
    observed = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    said = [e.asset_observation_data.asset_observation.metadata.get("test_block") for e in observed]
    assert [one.value for one in said if one] == [CLOSED] and "open_test: true" in CLOSED
    assert not (world.root / "evaluation").exists()


def test_ledger_lines_without_days_cover_all(world: World) -> None:
    fold = world.fold()
    first, last = map(str, fold.test)
    lines = [
        {"first": first, "last": first},
        {"first": "2019-01-04", "last": "2019-03-29"},
        {"at": "of an older version"},
    ]
    assert looked_at(lines, fold) == [lines[0], lines[2]]
    assert looked_at([{"first": last, "last": "2030-01-01"}], fold)


def test_runs_of_other_days_are_not_judged(world: World, instance) -> None:
    assert failure(road(world, instance, "evaluation")).endswith("--select train_phase0")
    assert road(world, instance, "train_phase0", "train_phase1", "baselines", baselines=FAST).success
    learned = world.fold().train
    world.cut(world.newest(), [FoldRow("main", embargo_days=25)])
    said = failure(road(world, instance, "evaluation"))
    assert "no phase has a finished run on the days of the fold main" in said and said.endswith("--select train_phase0")
    assert f"was trained with the train block {learned[0]} to {learned[1]}, not" in said
    assert "the baselines, which were fitted on another panel or on other days" in said
    assert road(world, instance, "train_phase0").success
    result = road(world, instance, "evaluation")
    assert result.success
    board = json.loads((world.root / "evaluation" / "main" / "validation.json").read_text())
    assert [row["name"] for row in board["rows"]] == ["train_phase0"]
    warnings = [
        record.user_message
        for record in instance.all_logs(result.run_id)
        if record.level == logging.WARNING and "left out" in record.user_message
    ]
    assert ["train_phase1" in warnings[0], "baselines" in warnings[1], "the blend" in warnings[2]] == [True] * 3
    assert len(warnings) == 3


def test_a_rebuilt_panel_with_the_same_days_serves_the_same_runs(world: World, instance) -> None:
    """The days decide, not the panel; the trainer's own figure is of its own panel, and is not held against ours."""
    assert road(world, instance, "train_phase0").success
    labels = world.store.table("features", "labels").read()
    world.publish("features", "labels", labels.with_columns(y_cc_1d=pl.col("y_cc_1d") * 1.5))
    days = world.fold()
    world.cut(world.panel().panel)
    assert world.fold() == days
    result = road(world, instance, "evaluation")
    (verdict,) = result.get_asset_check_evaluations()
    assert verdict.passed and verdict.metadata["compared"].value == 0


def test_baselines_are_stored_for_both_blocks(world: World, instance) -> None:
    assert stored_baselines(world.store.local("runs", "main", "baselines")) is None
    assert road(world, instance, "baselines", baselines=FAST).success
    stored = stored_baselines(world.store.local("runs", "main", "baselines"))
    assert stored.names() == FITTED and list(stored.left_out()) == ["ridge_liquid"]
    chosen = stored.record["baselines"]["lightgbm"]
    days = len(world.fold().places(world.newest().dates, "train"))
    assert chosen["trees_1d"] <= 10 and (chosen["days"], chosen["days_left_out"]) == (days, 0)
    panel, fold = world.newest(), world.fold()
    for block in ("validation", "test"):
        frame = stored.scores("lightgbm", block)
        assert frame.columns == ["date", "code", "score_1d", "score_5d", "score_10d", "score_20d"]
        assert frame.height == Block.of(panel, fold, block).eligible.sum() and frame["date"].dtype == pl.Date
    assert not list((world.root / "runs" / "main" / "baselines").glob(".*"))
