"""The training loop: resumption, modes, ensembles, guards, early stopping."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from atft_model import checkpoint as files
from atft_model import monitor
from atft_model.config import TrainConfig, replace_fields
from atft_model.curriculum import STAGES, Stage, stage
from atft_model.losses import LossWeights
from atft_model.metrics import spearman_by_day
from atft_model.model import MODULES
from atft_model.predict import ensemble, load_run, score_block
from atft_model.train import (
    Fit,
    GuardViolation,
    Interrupted,
    InvalidRequest,
    Listener,
    Request,
    family_importances,
    train,
)
from tests.model.conftest import TINY

QUIET = Listener(line=lambda _: None)
DROPPY = replace_fields(TINY, dropout=0.2)  # dropout draws random numbers: resumption must restore them


def request(panel_directory, out, phase=0, **changes):
    return Request(panel=panel_directory, phase=phase, out=out, **{"config": DROPPY, "epochs": 2, **changes})


@pytest.fixture(scope="module")
def parents(panel_directory, tmp_path_factory):
    """Finished runs of phases 0 to 2."""
    root = tmp_path_factory.mktemp("runs")
    runs = {}
    for phase in (0, 1, 2):
        init = runs.get(phase - 1)
        train(request(panel_directory, root / f"p{phase}", phase, init=init), QUIET)
        runs[phase] = root / f"p{phase}"
    return runs


def stop_after(steps):
    left = [steps]

    def ask():
        left[0] -= 1
        return left[0] < 0

    return Listener(line=lambda _: None, should_stop=ask)


@pytest.mark.parametrize(("phase", "seeds", "cuts"), [(0, 1, (3, 9)), (3, 2, (25,))])
def test_an_interrupted_run_ends_bit_identical(panel_directory, parents, tmp_path, phase, seeds, cuts):
    init = parents.get(phase - 1)
    whole = train(request(panel_directory, tmp_path / "whole", phase, init=init, n_seeds=seeds), QUIET)
    ask = request(panel_directory, tmp_path / "cut", phase, init=init, n_seeds=seeds)
    for i, steps in enumerate(cuts):
        with pytest.raises(Interrupted):
            train(replace(ask, resume=i > 0), stop_after(steps))
        assert (tmp_path / "cut" / files.STATE).exists()
    again = train(replace(ask, resume=True), QUIET)
    assert again["checkpoint_sha256"] == whole["checkpoint_sha256"]
    assert again["validation"] == whole["validation"]
    a, b = (pq.read_table(tmp_path / d / files.METRICS).to_pylist() for d in ("whole", "cut"))
    clock = {"seconds", "epoch_seconds", "stock_days_per_s"}
    assert [{k: v for k, v in r.items() if k not in clock} for r in a] == [
        {k: v for k, v in r.items() if k not in clock} for r in b
    ]
    assert not (tmp_path / "cut" / files.STATE).exists()


def test_a_resumed_request_must_be_the_same(panel_directory, tmp_path):
    ask = request(panel_directory, tmp_path / "r")
    with pytest.raises(Interrupted):
        train(ask, stop_after(2))
    with pytest.raises(files.Mismatch, match="seed: then 0, now 1"):
        train(replace(ask, seed=1, resume=True), QUIET)
    with pytest.raises(InvalidRequest, match="--resume"):
        train(ask, QUIET)


def test_a_finished_run_is_immutable(panel_directory, parents):
    with pytest.raises(InvalidRequest, match="immutable"):
        train(request(panel_directory, parents[0]), QUIET)


def test_run_directory_is_complete(panel_directory, parents, small_panel):
    run = json.loads((parents[2] / files.RUN_JSON).read_text())
    assert run["status"] == "finished" and run["phase"] == 2 and run["name"] == "GAT"
    assert run["parent"] == {
        "run_id": "p1", "path": str(parents[1]), "phase": 1,
        "sha256": files.file_sha256(parents[1] / files.CHECKPOINT),
    }  # fmt: skip
    assert run["panel_id"] == small_panel.meta.panel_id and run["catalogue_hash"] == small_panel.meta.catalogue_hash
    assert set(run["guards"]["grad_norm"]) == set(MODULES) and run["guards"]["passed"]
    assert 0.05 < run["guards"]["alpha"] < 0.95 and 0 < run["guards"]["attention_entropy"] <= 1
    assert sum(run["feature_importance"].values()) == pytest.approx(1.0, abs=1e-4)
    assert list(run["feature_importance"]) == [f.name for f in small_panel.meta.features]
    assert sum(family_importances(run["feature_importance"], small_panel).values()) == pytest.approx(1.0, abs=1e-4)
    rows = pq.read_table(parents[2] / files.METRICS).to_pylist()
    assert [r["epoch"] for r in rows] == [1, 2]
    assert {"loss", "loss_rank_ic", "loss_ic", "loss_sharpe", "rank_ic", "rank_ic_20d", "ic_1d", "icir", "lr", "alpha",
            "stock_days_per_s", "grad_norm_gat"} <= set(rows[0])  # fmt: skip
    scores = pq.read_table(parents[2] / files.SCORES)
    assert scores.column_names == ["date", "code", "score_1d", "score_5d", "score_10d", "score_20d"]
    first, last = small_panel.meta.block("validation")
    assert scores.num_rows == int(small_panel.valid[first : last + 1].sum())
    keys = list(zip(scores["date"].to_pylist(), scores["code"].to_pylist(), strict=True))
    assert keys == sorted(keys) and len(set(keys)) == len(keys)


def test_scores_can_be_made_again_from_the_run(panel_directory, parents):
    models, panel = load_run(parents[2], panel_directory, torch.device("cpu"))
    scores = score_block(models[0], panel, "validation")
    stored = pq.read_table(parents[2] / files.SCORES)["score_5d"].to_numpy()
    first, last = panel.meta.block("validation")
    assert torch.equal(scores[1][panel.valid[first : last + 1]], torch.tensor(stored))
    assert torch.equal(scores, score_block(models[0], panel, "validation")), "evaluation must be deterministic"


def test_evaluation_ignores_dropout_and_the_number_of_chunks(panel_directory, parents):
    models, panel = load_run(parents[2], panel_directory, torch.device("cpu"))
    models[0].train()
    a = score_block(models[0], panel, "test", chunks=1)
    assert models[0].training
    assert torch.allclose(a, score_block(models[0], panel, "test", chunks=5), atol=1e-5)


def test_members_are_averaged_as_day_z_scores(panel_directory, parents, tmp_path):
    run = train(request(panel_directory, tmp_path / "e", 1, init=parents[0], n_seeds=2, epochs=1), QUIET)
    models, panel = load_run(tmp_path / "e", panel_directory, torch.device("cpu"))
    assert len(models) == 2 and len(run["members"]) == 2
    first, last = panel.meta.block("validation")
    valid = panel.valid[first : last + 1]
    members = [score_block(m, panel, "validation") for m in models]
    assert (members[0] - members[1]).abs().max() > 1e-3, "members must differ"
    joint = ensemble([members[0] * 100 + 7, members[1]], valid)
    assert torch.allclose(joint[:, valid], ensemble(members, valid)[:, valid], atol=1e-4)
    rows = pq.read_table(tmp_path / "e" / files.METRICS).to_pylist()
    assert [r["member"] for r in rows] == [0, 1]


def test_modes_learn_the_same(small_panel):
    """Same batches, and metrics within 0.005 after an epoch."""
    results = {}
    for mode in ("safe", "optimized"):
        fit = Fit(small_panel, TINY, replace(stage(1), epochs=1), mode=mode)
        orders = fit.epoch_order(1)
        for row, _ in fit.epochs():
            results[mode] = (orders, row)
    assert torch.equal(results["safe"][0], results["optimized"][0])
    assert results["safe"][1]["rank_ic"] == pytest.approx(results["optimized"][1]["rank_ic"], abs=0.005)
    assert results["safe"][1]["loss"] == pytest.approx(results["optimized"][1]["loss"], rel=0.01)


def test_same_seed_same_weights_other_seed_other_weights(small_panel):
    def weights(seed):
        fit = Fit(small_panel, DROPPY, replace(stage(0), epochs=1), seed=seed)
        for _ in fit.epochs():
            pass
        return fit.best

    a, b, c = weights(0), weights(0), weights(1)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_epochs_shuffle_with_a_random_phase(small_panel):
    fit = Fit(small_panel, TINY, stage(1))
    orders = [fit.epoch_order(e) for e in range(1, 7)]
    assert all(o.shape[1] == TINY.train.chunks_per_step for o in orders)
    assert len({int(o.flatten().sort().values[1]) % 4 for o in orders}) > 1, "every epoch tiles the block alike"
    assert not torch.equal(orders[0].flatten()[:5], orders[1].flatten()[:5])


def test_patience_stops_and_the_best_epoch_is_kept(small_panel):
    still = replace(stage(1), epochs=50, patience=2, rate=0.0, rates={"head": 1e-9}, keep_parent=False)
    fit = Fit(small_panel, TINY, still)
    ranks = [row["rank_ic"] for row, _ in fit.epochs()]
    assert fit.stopped == "patience" and len(ranks) < 10
    assert fit.best_rank_ic == max(ranks) and ranks[fit.best_epoch - 1] == max(ranks)
    assert len(ranks) - fit.best_epoch == 2


def test_a_deadline_shortens_a_run(small_panel):
    fit = Fit(small_panel, TINY, replace(stage(1), patience=None))
    assert len(list(fit.epochs(deadline=0.0))) == 1
    assert fit.stopped == "max_seconds"


def test_ema_is_what_is_evaluated_and_kept(small_panel):
    fit = Fit(small_panel, TINY, replace(STAGES[3], epochs=1, rate=1.0, ema=0.9, keep_parent=False))
    for _ in fit.epochs():
        pass
    live = fit.model.state_dict()
    assert any(not torch.equal(fit.best[k], live[k]) for k in live)
    fit.model.load_state_dict(fit.best)
    again = score_block(fit.model, small_panel, "validation")
    fit.ema = [p.detach().clone() for _, p in fit.named]
    assert torch.equal(fit.validate()[0], again)


@pytest.mark.parametrize("phase", [1, 3])
def test_a_stage_that_starts_as_its_parent_never_ends_below_it(small_panel, phase):
    fit = Fit(small_panel, TINY, replace(stage(phase), epochs=2, rate=50.0, clip=1e9))
    for _ in fit.epochs():
        pass
    start = Fit(small_panel, TINY, stage(phase), weights=None)
    assert fit.best_rank_ic >= start.validate()[1]["rank_ic"]


def test_adaptive_norm_starts_as_the_baseline(small_panel):
    """Its gates are shut and its last map is zero: epoch 0 of phase 1 is phase 0, name by name."""
    baseline = Fit(small_panel, TINY, stage(0))
    adaptive = Fit(small_panel, TINY, stage(1), weights=baseline.model.state_dict())
    assert torch.equal(baseline.validate()[0], adaptive.validate()[0])


def test_learning_rate_warms_up_and_decays(small_panel):
    fit = Fit(small_panel, TINY, replace(stage(1), warmup=0.2))
    total = fit.stage.epochs * fit.steps_per_epoch()
    rates = []
    for fit.steps in range(total + 3):
        rates.append(fit.rate())
    peak = rates.index(max(rates))
    assert 0.15 * total < peak < 0.25 * total
    assert rates[0] < 0.1 * max(rates) and rates[-1] == pytest.approx(0.1 * max(rates), rel=0.05)
    assert max(rates) <= TINY.train.learning_rate


# -- guards ----------------------------------------------------------------------------------------------------------


def test_a_step_that_is_not_finite_is_named_and_not_taken(small_panel):
    fit = Fit(small_panel, TINY, stage(0))
    fit.begin_epoch()
    fit.step(fit.epoch_order(1)[0])
    with torch.no_grad():
        fit.model.attention[0].add_norm.gate.weight[0, 0] = float("inf")
    before = {k: v.clone() for k, v in fit.model.state_dict().items()}
    fit.step(fit.epoch_order(1)[1])
    assert all(torch.equal(v, before[k]) for k, v in fit.model.state_dict().items())
    with pytest.raises(monitor.NonFinite, match=r"module attention\.0\.add_norm\.gate .*epoch 1, step 2"):
        fit.check_finite()


def test_a_collapsed_network_fails_the_run_with_sentences(panel_directory, tmp_path, monkeypatch):
    """The head's maps are cut: constant scores, no gradient. The run must end as failed, not as finished."""
    original = Fit.current

    def constant(self):
        weights = original(self)
        for key in ("head.linear.weight", "head.mix"):
            weights[key] = torch.zeros_like(weights[key])
        return weights

    monkeypatch.setattr(Fit, "current", constant)
    with pytest.raises(GuardViolation, match="almost no spread"):
        train(request(panel_directory, tmp_path / "c", epochs=1), QUIET)
    run = json.loads((tmp_path / "c" / files.RUN_JSON).read_text())
    assert run["status"] == "failed" and not run["guards"]["passed"] and run["guards"]["messages"]


def healthy(**changes):
    values = {
        "grad_norm": {"vsn": 0.1, "head": 0.2}, "alpha": 0.5, "attention_entropy": 0.8, "node_cosine": 0.3,
        "score_spread": 0.4, "spread_ratio": 0.7, "distinct_share": 1.0, "newest_day_sensitivity": 0.5,
    }  # fmt: skip
    return monitor.judge(monitor.Guards(**{**values, **changes}), ("vsn", "head"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grad_norm": {"vsn": 1e-9, "head": 0.2}}, "module vsn gets no gradient"),
        ({"grad_norm": {"vsn": 1e-5, "head": 0.2}}, "module vsn gets no gradient"),
        ({"grad_norm": {"head": 0.2}}, "module vsn gets no gradient"),
        ({"grad_norm": {"vsn": math.nan, "head": 0.2}}, "vsn is not finite"),
        ({"alpha": 0.99}, "one branch is cut off"),
        ({"attention_entropy": 0.05}, "does not select"),
        ({"node_cosine": 0.97}, "over-smoothing"),
        ({"score_spread": 1e-6}, "almost no spread"),
        ({"spread_ratio": 0.05}, "collapse"),
        ({"distinct_share": 0.3}, "30% of a day's scores are distinct"),
        ({"newest_day_sensitivity": 0.01}, "hardly depend on the newest day"),
        ({"newest_day_sensitivity": math.nan}, "hardly depend on the newest day"),
    ],
)
def test_each_guard_speaks(change, words):
    assert healthy().passed
    guards = healthy(**change)
    assert not guards.passed and words in guards.messages[0]


def test_a_score_blind_to_the_newest_day_is_found(small_panel):
    """A network whose newest row is overwritten by the day before it has sensitivity 0."""
    fit = Fit(small_panel, TINY, stage(0))
    batch = small_panel.batch(torch.tensor([100, 140]))
    seeing = monitor.newest_day_sensitivity(fit.model.eval(), batch)
    front = fit.model.front

    def blind(x):
        x = x.clone()
        x[:, -1] = x[:, -2]
        return front(x)

    fit.model.regions = (blind, fit.model.back)
    assert monitor.newest_day_sensitivity(fit.model, batch) == pytest.approx(0.0, abs=1e-9)
    assert seeing > 0.01


def test_stage_weights_reach_the_loss(small_panel):
    """Configured loss weights are the effective ones: a stage with only the RankIC term logs only that."""
    only = Stage(phase=0, name="x", on=STAGES[0].on, epochs=1, losses=LossWeights(ic=0.0, sharpe=0.0))
    (row, _), *_ = list(Fit(small_panel, TINY, only).epochs())
    assert {k for k in row if k.startswith("loss")} == {"loss", "loss_rank_ic"}


def test_quantile_heads_train(small_panel):
    config = replace_fields(TINY, quantiles=(0.1, 0.5, 0.9))
    fit = Fit(small_panel, config, replace(stage(0), epochs=1, losses=LossWeights(pinball=1.0)))
    before = fit.model.head.quantile.weight.detach().clone()
    (row, _), *_ = list(fit.epochs())
    assert row["loss_pinball"] > 0
    assert not torch.equal(fit.model.head.quantile.weight, before)


def test_exact_mode_trains(small_panel):
    import copy

    panel = copy.copy(small_panel)
    panel.chunk_days = 1
    fit = Fit(panel, replace_fields(TINY, chunk_days=1, chunks_per_step=8), replace(stage(0), epochs=1))
    (row, _), *_ = list(fit.epochs())
    assert math.isfinite(row["loss"]) and TrainConfig(chunk_days=1).chunk_days == 1


def test_rank_correlation_helper_sees_perfect_agreement():
    x = torch.randn(3, 20)
    assert spearman_by_day(x, x.exp(), torch.ones(3, 20, dtype=torch.bool)).tolist() == pytest.approx([1.0] * 3)
