"""The training loop: resumption, modes, ensembles, guards, early stopping."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from atft_model import checkpoint as files
from atft_model import device as devices
from atft_model import monitor
from atft_model.curriculum import CURRICULUM, PhasePlan, phase_plan
from atft_model.device import set_mode
from atft_model.fit import Fit, Interrupted
from atft_model.interchange.config import LossWeights, PhaseChanges, preset, replace_fields
from atft_model.interchange.errors import MEND, ConfigError, FoldError, RequestError, RunError
from atft_model.interchange.hashes import file_sha256, read_sidecar
from atft_model.interchange.records import to_plain
from atft_model.interchange.request import PredictRequest, Scoring, read_document, train_request
from atft_model.interchange.run import METRICS, REQUEST, RUN_JSON, SCORES, STATE, RunRecord, read_record
from atft_model.metrics import spearman_by_day
from atft_model.model import MODULES
from atft_model.predict import config_of, ensemble, load_run, predict, read_scores, score_days
from atft_model.record import family_importances
from atft_model.train import GuardViolation, Listener, train
from tests.model.conftest import NETWORK, QUIET, TINY, TRAINING, last_days

DROPPY_NETWORK = {**NETWORK, "dropout": 0.2}  # dropout draws random numbers: resumption must restore them
DROPPY = replace_fields(TINY, dropout=0.2)
DRAWN = {**TRAINING, "names": 20}  # so do the names of a step
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parents(ask, tmp_path_factory):
    """Finished runs of phases 0 to 2."""
    root = tmp_path_factory.mktemp("runs")
    runs = {}
    for phase in (0, 1, 2):
        train(ask(root / f"p{phase}", phase, init=runs.get(phase - 1), network=DROPPY_NETWORK), QUIET)
        runs[phase] = root / f"p{phase}"
    return runs


def stop_after(steps):
    left = [steps]

    def ask():
        left[0] -= 1
        return left[0] < 0

    return Listener(line=lambda _: None, should_stop=ask)


@pytest.mark.parametrize(("phase", "seeds", "cuts"), [(0, 1, (3, 9)), (3, 2, (25,))])
def test_an_interrupted_run_ends_bit_identical(ask, parents, tmp_path, phase, seeds, cuts):
    fields = {"init": parents.get(phase - 1), "n_seeds": seeds, "network": DROPPY_NETWORK, "training": DRAWN}
    whole = train(ask(tmp_path / "whole", phase, **fields), QUIET)
    request = ask(tmp_path / "cut", phase, **fields)
    for i, steps in enumerate(cuts):
        with pytest.raises(Interrupted):
            train(replace(request, resume=i > 0), stop_after(steps))
        assert (tmp_path / "cut" / STATE).exists() and read_record(request.out).status == "interrupted"
    state = request.out / STATE
    kept = state.read_bytes()
    for at in (40, 2000, len(kept) // 2, len(kept) - 3):  # of the header, of the weights
        state.write_bytes(kept[:at] + bytes([kept[at] ^ 4]) + kept[at + 1 :])
        with pytest.raises(RunError, match=f"state.safetensors is damaged .*{MEND}"):
            train(replace(request, resume=True), QUIET)
    state.write_bytes(kept)
    again = train(replace(request, resume=True), QUIET)
    assert again.checkpoint_sha256 == whole.checkpoint_sha256
    assert to_plain(again.validation) == to_plain(whole.validation)  # a p that there is not is NaN, unlike itself
    a, b = (pq.read_table(tmp_path / d / METRICS).to_pylist() for d in ("whole", "cut"))
    clock = {"seconds", "epoch_seconds", "stock_days_per_s"}
    assert [{k: v for k, v in r.items() if k not in clock} for r in a] == [
        {k: v for k, v in r.items() if k not in clock} for r in b
    ]
    assert not (tmp_path / "cut" / STATE).exists()


def test_a_resumed_request_must_be_the_same(ask, small_fold, tmp_path):
    request = ask(tmp_path / "r")
    with pytest.raises(Interrupted):
        train(request, stop_after(2))
    with pytest.raises(files.Mismatch, match="seed: then 0, now 1"):
        train(replace(request, seed=1, resume=True), QUIET)
    with pytest.raises(files.Mismatch, match="fold: then"):
        train(replace(request, fold=replace(small_fold, name="other"), resume=True), QUIET)
    with pytest.raises(RequestError, match="resume=true"):
        train(request, QUIET)


def test_a_finished_run_is_immutable(ask, parents):
    with pytest.raises(RequestError, match="immutable"):
        train(ask(parents[0]), QUIET)
    with pytest.raises(RequestError, match="immutable"):
        train(ask(parents[0], resume=True), QUIET)


def test_run_directory_is_complete(ask, parents, small_panel, small_fold):
    run = json.loads((parents[2] / RUN_JSON).read_text())
    assert run["status"] == "finished" and run["phase"] == 2 and run["name"] == "GAT"
    assert run["parent"] == {
        "run_id": "p1",
        "path": str(parents[1]),
        "phase": 1,
        "sha256": file_sha256(parents[1] / files.CHECKPOINT),
    }
    description = small_panel.description
    assert run["panel_id"] == description.panel_id and run["catalogue_hash"] == description.catalogue_hash
    assert run["fold"] == to_plain(small_fold) and run["format"] == 3
    assert train_request(read_document(parents[2] / REQUEST, [])) == ask(
        parents[2], 2, init=parents[1], network=DROPPY_NETWORK
    )
    assert set(run["guards"]["grad_norm"]) == set(MODULES) and run["guards"]["passed"]
    assert 0.05 < run["guards"]["alpha"] < 0.95 and 0 < run["guards"]["attention_entropy"] <= 1
    assert sum(run["feature_importance"].values()) == pytest.approx(1.0, abs=1e-4)
    assert list(run["feature_importance"]) == [f.name for f in description.features]
    assert run["sequences"] == [f.name for f in description.features if f.sequence] and len(run["sequences"]) == 6
    assert sum(family_importances(run["feature_importance"], small_panel).values()) == pytest.approx(1.0, abs=1e-4)
    rows = pq.read_table(parents[2] / METRICS).to_pylist()
    assert [r["epoch"] for r in rows] == [1, 2] and run["kept_epoch"] in (1, 2)
    assert {"loss", "loss_rank_ic", "loss_ic", "loss_sharpe", "rank_ic", "rank_ic_20d", "ic_1d", "icir", "lr", "alpha",
            "stock_days_per_s", "grad_norm_gat"} <= set(rows[0])  # fmt: skip
    scores = pq.read_table(parents[2] / SCORES)
    assert scores.column_names == ["date", "code", "score_1d", "score_5d", "score_10d", "score_20d"]
    days = small_fold.places(small_panel.dates, "validation")
    assert scores.num_rows == int(small_panel.valid_on(days).sum())
    keys = list(zip(scores["date"].to_pylist(), scores["code"].to_pylist(), strict=True))
    assert keys == sorted(keys) and len(set(keys)) == len(keys)


def test_the_record_survives_its_file(ask, parents):
    written = train(ask(parents[0].parent / "trip", n_seeds=2, curriculum=PhaseChanges(epochs=1)), QUIET)
    read = read_record(parents[0].parent / "trip")
    assert isinstance(read, RunRecord) and to_plain(read) == to_plain(written)
    assert read.status == "finished" and len(read.members) == 2 and config_of(read) == TINY


def test_scores_can_be_made_again_from_the_run(panel_directory, small_fold, parents):
    models, panel = load_run(parents[2], panel_directory, CPU)
    days = small_fold.places(panel.dates, "validation")
    scores = score_days(models[0], panel, days)
    stored = pq.read_table(parents[2] / SCORES)["score_5d"].to_numpy()
    assert torch.equal(scores[1][panel.valid_on(days)], torch.tensor(stored))
    assert torch.equal(scores, score_days(models[0], panel, days)), "evaluation must be deterministic"


def test_runs_that_score_together_score_as_they_do_alone(panel_directory, parents, tmp_path):
    together = tuple(Scoring(run, tmp_path / f"together{i}") for i, run in enumerate(parents.values()))
    first, *also = together
    said = predict(PredictRequest(panel_directory, first.run, first.out, device="cpu", exact=True, also=tuple(also)))
    assert [line.rpartition(" -> ")[2] for line in said.splitlines()] == [str(one.out) for one in together]
    for i, one in enumerate(together):
        alone = tmp_path / f"alone{i}"
        predict(PredictRequest(panel_directory, one.run, alone, device="cpu", exact=True))
        assert one.out.read_bytes() == alone.read_bytes()
        assert read_sidecar(one.out, RunError) == file_sha256(one.out)


def test_evaluation_ignores_dropout_and_the_number_of_chunks(panel_directory, small_fold, parents):
    models, panel = load_run(parents[2], panel_directory, CPU)
    days = small_fold.places(panel.dates, "test")
    models[0].train()
    a = score_days(models[0], panel, days, chunks=1)
    assert models[0].training
    assert torch.allclose(a, score_days(models[0], panel, days, chunks=5), atol=1e-5)


def test_members_are_averaged_as_day_z_scores(ask, panel_directory, small_fold, parents, tmp_path):
    one_epoch = PhaseChanges(epochs=1)
    run = train(ask(tmp_path / "e", 1, init=parents[0], n_seeds=2, curriculum=one_epoch, network=DROPPY_NETWORK), QUIET)
    models, panel = load_run(tmp_path / "e", panel_directory, CPU)
    assert len(models) == 2 and len(run.members) == 2
    days = small_fold.places(panel.dates, "validation")
    valid = panel.valid_on(days)
    members = [score_days(m, panel, days) for m in models]
    assert (members[0] - members[1]).abs().max() > 1e-3, "members must differ"
    joint = ensemble([members[0] * 100 + 7, members[1]], valid)
    assert torch.allclose(joint[:, valid], ensemble(members, valid)[:, valid], atol=1e-4)
    rows = pq.read_table(tmp_path / "e" / METRICS).to_pylist()
    assert [r["member"] for r in rows] == [0, 1]


# -- requests --------------------------------------------------------------------------------------------------------


def test_knobs_lie_over_the_preset_of_the_request_or_of_the_parent(ask, parents, tmp_path):
    stored = config_of(read_record(parents[0]))
    assert stored == DROPPY
    one = PhaseChanges(epochs=1, rate=0.05, losses={"turnover": 0.01})
    run = train(
        ask(tmp_path / "p", 1, init=parents[0], preset=None, network={"dropout": 0.0}, training={}, curriculum=one),
        QUIET,
    )
    assert config_of(run) == replace_fields(stored, dropout=0.0), "without a preset, the parent's configuration"
    assert run.curriculum["rate"] == 0.05 and run.curriculum["losses"]["turnover"] == 0.01
    rows = pq.read_table(tmp_path / "p" / METRICS).to_pylist()
    assert "loss_turnover" in rows[0]
    with pytest.raises(files.Mismatch, match="lookback: checkpoint 12, this network 60"):
        train(ask(tmp_path / "q", 1, init=parents[0], preset="small", network={}, training={}), QUIET)


def test_a_first_phase_without_a_preset_is_small(ask, tmp_path, monkeypatch):
    class Enough(Exception):
        pass

    def stop(*_, **__):
        raise Enough

    seen = []
    monkeypatch.setattr("atft_model.train.load_panel", lambda request, config: seen.append(config) or stop())
    with pytest.raises(Enough):
        train(ask(tmp_path / "r", preset=None, network={"hidden_size": 32}, training={}), QUIET)
    assert seen == [preset("small", hidden_size=32)]


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"network": {"hiden_size": 3}}, ConfigError, "unknown fields: hiden_size"),
        ({"network": {"hidden_size": 30}}, ConfigError, "hidden_size 30 is not a multiple"),
        ({"training": {"chunk_days": 0}}, ConfigError, "chunk_days is 0"),
        ({"training": {"learning_rate": "fast"}}, ConfigError, "learning_rate is 'fast'"),
        ({"training": {"keep": "first"}}, ConfigError, "keep is 'first'"),
        ({"training": {"names": -1}}, ConfigError, "names is -1: it must be at least 0"),
        (
            {"training": {"keep": "last"}, "curriculum": PhaseChanges(patience=2)},
            ConfigError,
            r"patience is 2 and training\.keep is last.*Set training\.keep to best, or the patience to 0",
        ),
        ({"curriculum": PhaseChanges(epochs=0)}, ConfigError, r"curriculum\.epochs is 0"),
        ({"curriculum": PhaseChanges(losses={"sharp": 1.0})}, ConfigError, "unknown terms: sharp"),
        ({"device": "cuda"}, ConfigError, "no usable GPU"),
    ],
)
def test_what_cannot_be_trained_is_named_and_nothing_is_written(ask, tmp_path, fields, error, words):
    if fields.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(error, match=words):
        train(ask(tmp_path / "r", **fields), QUIET)
    assert not (tmp_path / "r").exists()


def test_a_fold_of_other_days_is_refused(ask, small_fold, tmp_path):
    away = {
        block: tuple(d.replace(year=d.year + 9) for d in small_fold.span(block)) for block in ("validation", "test")
    }
    with pytest.raises(FoldError, match="holds none of the days"):
        train(ask(tmp_path / "r", fold=replace(small_fold, **away)), QUIET)


# -- parents ---------------------------------------------------------------------------------------------------------


def test_a_parent_of_another_panel_is_accepted(ask, panel_directory, small_panel, parents, tmp_path):
    last_days(panel_directory, tmp_path / "newer", small_panel.days, panel_id="newer")
    one = PhaseChanges(epochs=1)
    run = train(
        ask(tmp_path / "o", 1, panel=tmp_path / "newer", init=parents[0], curriculum=one, network=DROPPY_NETWORK), QUIET
    )
    assert run.panel_id == "newer" and run.parent.run_id == "p0" and run.status == "finished"


def test_a_parent_that_learned_from_later_days_is_refused(ask, small_panel, small_fold, parents, tmp_path):
    first, last = small_fold.places(small_panel.dates, "train")[0], small_fold.places(small_panel.dates, "train")[-1]
    earlier = replace(small_fold, name="earlier", train=(small_panel.dates[first], small_panel.dates[last - 1]))
    words = (
        f"learned from days up to {small_panel.dates[last]}, the training days of fold earlier end on "
        f"{small_panel.dates[last - 1]}.*Start from a run"
    )
    with pytest.raises(RequestError, match=words):
        train(ask(tmp_path / "o", 1, init=parents[0], fold=earlier, network=DROPPY_NETWORK), QUIET)
    begins_later = replace(small_fold, train=(small_panel.dates[first + 20], small_panel.dates[last]))
    one = PhaseChanges(epochs=1)
    train(ask(tmp_path / "p", 1, init=parents[0], fold=begins_later, curriculum=one, network=DROPPY_NETWORK), QUIET)


# -- predictions -----------------------------------------------------------------------------------------------------


def test_exact_scores_do_not_depend_on_where_the_panel_begins(panel_directory, small_panel, parents, tmp_path):
    """An evening's panel: the last days alone, long enough for the look-back before the day that is asked for."""
    last_days(panel_directory, tmp_path / "short", 16, panel_id="evening")
    tables = {}
    for name, panel in (("long", panel_directory), ("short", tmp_path / "short")):
        out = tmp_path / f"{name}.parquet"
        predict(PredictRequest(panel, parents[2], out, first=small_panel.dates[-5], exact=True, device="cpu"))
        tables[name] = pq.read_table(out)
    assert tables["long"].num_rows > 100 and set(tables["long"]["date"].to_pylist()) == set(small_panel.dates[-5:])
    assert tables["long"].select(["date", "code"]).equals(tables["short"].select(["date", "code"]))
    for h in (1, 5, 10, 20):
        a, b = (torch.tensor(tables[k][f"score_{h}d"].to_numpy()) for k in ("long", "short"))
        assert torch.equal(a, b)


def test_a_prediction_takes_all_days_unless_told(panel_directory, small_panel, parents, tmp_path):
    predict(PredictRequest(panel_directory, parents[0], tmp_path / "s.parquet", device="cpu"))
    whole = pq.read_table(tmp_path / "s.parquet")
    assert whole.num_rows == int(small_panel.valid.sum())
    with pytest.raises(FoldError, match="holds none of the days"):
        away = small_panel.dates[-1].replace(year=2030)
        predict(
            PredictRequest(panel_directory, parents[0], tmp_path / "t.parquet", first=away, last=away, device="cpu")
        )


def test_what_is_scored_in_the_end_is_what_chose_the_epoch(ask, panel_directory, small_fold, tmp_path, monkeypatch):
    """In bfloat16 too (here on a CPU, where a mode does not bring it by itself): run.json, scores.parquet and a later
    prediction all have the figure of the epoch that was kept.
    """
    dtype = {"safe": torch.float32, "optimized": torch.bfloat16}
    monkeypatch.setattr(devices, "compute_dtype", lambda mode, device: dtype[mode])
    set_mode("optimized", CPU)
    run = train(ask(tmp_path / "r", mode="optimized"), QUIET)
    rows = pq.read_table(tmp_path / "r" / METRICS).to_pylist()
    chosen = rows[run.kept_epoch - 1]["rank_ic"]
    assert run.validation["rank_ic"] == chosen == max(row["rank_ic"] for row in rows)

    models, panel = load_run(tmp_path / "r", panel_directory, CPU)
    assert models[0].compute_dtype == torch.bfloat16
    days = small_fold.places(panel.dates, "validation")
    valid = panel.valid_on(days)
    stored = read_scores(tmp_path / "r" / SCORES, panel, days)
    first, last = small_fold.validation
    predict(PredictRequest(panel_directory, tmp_path / "r", tmp_path / "s.parquet", first, last, device="cpu"))
    assert torch.equal(read_scores(tmp_path / "s.parquet", panel, days)[:, valid], stored[:, valid])
    # so scores that were lost can be had again, and their hash shows that they are the same
    assert file_sha256(tmp_path / "s.parquet") == run.scores_sha256 == read_sidecar(tmp_path / "s.parquet", RunError)
    assert file_sha256(tmp_path / "r" / METRICS) == run.metrics_sha256
    monkeypatch.setattr(devices, "compute_dtype", lambda mode, device: torch.float32)
    models, _ = load_run(tmp_path / "r", panel_directory, CPU)
    assert not torch.equal(score_days(models[0], panel, days)[:, valid], stored[:, valid]), "the dtype must matter"


# -- the loop --------------------------------------------------------------------------------------------------------


def test_modes_learn_the_same(small_panel, small_fold):
    """Same batches, and metrics within 0.005 after an epoch."""
    results = {}
    for mode in ("safe", "optimized"):
        fit = Fit(small_panel, small_fold, TINY, replace(phase_plan(1), epochs=1), mode=mode)
        orders = fit.epoch_order(1)
        for row, _ in fit.epochs():
            results[mode] = (orders, row)
    assert torch.equal(results["safe"][0], results["optimized"][0])
    assert results["safe"][1]["rank_ic"] == pytest.approx(results["optimized"][1]["rank_ic"], abs=0.005)
    assert results["safe"][1]["loss"] == pytest.approx(results["optimized"][1]["loss"], rel=0.01)


def test_same_seed_same_weights_other_seed_other_weights(small_panel, small_fold):
    def weights(seed):
        fit = Fit(small_panel, small_fold, DROPPY, replace(phase_plan(0), epochs=1), seed=seed)
        for _ in fit.epochs():
            pass
        return fit.kept

    a, b, c = weights(0), weights(0), weights(1)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_epochs_shuffle_with_a_random_phase(small_panel, small_fold):
    fit = Fit(small_panel, small_fold, TINY, phase_plan(1))
    orders = [fit.epoch_order(e) for e in range(1, 7)]
    assert all(o.shape[1] == TINY.train.chunks_per_step for o in orders)
    assert len({int(o.flatten().sort().values[1]) % 4 for o in orders}) > 1, "every epoch tiles the block alike"
    days = Fit(small_panel, small_fold, TINY, phase_plan(0)).epoch_order(1)
    assert set(days.flatten().tolist()) == set(small_fold.places(small_panel.dates, "train")), "a chunk is a day"
    assert not torch.equal(orders[0].flatten()[:5], orders[1].flatten()[:5])


def test_the_last_epoch_is_kept_where_that_is_asked(ask, small_panel, small_fold, tmp_path):
    """Fixed epochs, whatever validation says on the way; lines and record say what was kept."""
    said = []
    last = {**TRAINING, "keep": "last"}
    request = ask(tmp_path / "last", training=last, curriculum=PhaseChanges(epochs=4, rate=20.0))
    run = train(request, Listener(line=said.append))
    rows = pq.read_table(tmp_path / "last" / METRICS).to_pylist()
    assert run.kept_epoch == run.epochs == 4 and run.members[0]["kept_epoch"] == 4
    assert run.validation["rank_ic"] == pytest.approx(rows[-1]["rank_ic"], abs=1e-6)
    best = train(replace(request, out=tmp_path / "best", training={**TRAINING, "keep": "best"}), QUIET)
    assert best.kept_epoch == 1 + max(range(4), key=lambda i: rows[i]["rank_ic"]), "the training itself is the same"
    fit = Fit(small_panel, small_fold, replace_fields(TINY, keep="last"), replace(phase_plan(1), epochs=1))
    for _, keeps in fit.epochs():
        assert keeps and fit.kept_epoch == 1
    with pytest.raises(ConfigError, match="keep is last"):
        Fit(small_panel, small_fold, replace_fields(TINY, keep="last"), replace(phase_plan(1), patience=1))


def test_patience_stops_and_the_best_epoch_is_kept(small_panel, small_fold):
    still = replace(phase_plan(1), epochs=50, patience=2, rate=0.0, rates={"head": 1e-9}, keep_parent=False)
    fit = Fit(small_panel, small_fold, TINY, still)
    ranks = [row["rank_ic"] for row, _ in fit.epochs()]
    assert fit.stopped == "patience" and len(ranks) < 10
    assert fit.kept_rank_ic == max(ranks) and ranks[fit.kept_epoch - 1] == max(ranks)
    assert len(ranks) - fit.kept_epoch == 2


def test_a_deadline_shortens_a_run(small_panel, small_fold):
    fit = Fit(small_panel, small_fold, TINY, replace(phase_plan(1), patience=0))
    assert len(list(fit.epochs(deadline=0.0))) == 1
    assert fit.stopped == "max_seconds"


@pytest.mark.parametrize("phase", [0, 3])
def test_what_is_kept_is_the_average_of_the_steps(small_panel, small_fold, phase):
    """By hand: w_avg <- d w_avg + (1 - d) w after every step, d rising to its value; of no step it is the start."""
    config = replace_fields(TINY, ema=0.6, keep="last")
    fit = Fit(small_panel, small_fold, config, replace(CURRICULUM[phase], epochs=1, rate=1.0, keep_parent=False))
    by_hand = {name: p.detach().double().clone() for name, p in fit.named}
    original, steps = fit.update, []

    def update(starts):
        original(starts)
        decay = min(0.6, (1 + len(steps)) / (10 + len(steps)))
        for name, p in fit.named:
            by_hand[name] = decay * by_hand[name] + (1 - decay) * p.detach().double()
        steps.append(decay)

    fit.update = update
    for _ in fit.epochs():
        pass
    assert len(steps) > 10 and steps[0] == 0.1 and steps[-1] == 0.6
    for name, expected in by_hand.items():
        assert torch.allclose(fit.kept[name].double(), expected, atol=1e-6), name
    none = Fit(small_panel, small_fold, replace_fields(TINY, ema=0.0), replace(CURRICULUM[phase], epochs=1))
    for _ in none.epochs():
        pass
    assert none.ema is None and all(torch.equal(none.current()[n], p) for n, p in none.model.state_dict().items())


def test_ema_is_what_is_evaluated_and_kept(small_panel, small_fold):
    plan = replace(CURRICULUM[3], epochs=1, rate=1.0, keep_parent=False)
    fit = Fit(small_panel, small_fold, replace_fields(TINY, ema=0.9), plan)
    for _ in fit.epochs():
        pass
    live = fit.model.state_dict()
    assert any(not torch.equal(fit.kept[k], live[k]) for k in live)
    fit.model.load_state_dict(fit.kept)
    again = score_days(fit.model, small_panel, fit.validation_days)
    fit.ema = [p.detach().clone() for _, p in fit.named]
    assert torch.equal(fit.validate()[0], again)


@pytest.mark.parametrize("phase", [1, 3])
def test_a_phase_that_starts_as_its_parent_never_ends_below_it(small_panel, small_fold, phase):
    fit = Fit(small_panel, small_fold, TINY, replace(phase_plan(phase), epochs=2, rate=50.0, clip=1e9))
    for _ in fit.epochs():
        pass
    start = Fit(small_panel, small_fold, TINY, phase_plan(phase), weights=None)
    assert fit.kept_rank_ic >= start.validate()[1]["rank_ic"]


def test_adaptive_norm_starts_as_the_baseline(small_panel, small_fold):
    """The map by which the encoder joins is zero: epoch 0 of phase 1 is phase 0, name by name."""
    baseline = Fit(small_panel, small_fold, TINY, phase_plan(0))
    adaptive = Fit(small_panel, small_fold, TINY, phase_plan(1), weights=baseline.model.state_dict())
    assert torch.equal(baseline.validate()[0], adaptive.validate()[0])


def test_names_are_drawn_by_seed_epoch_and_step(small_panel, small_fold):
    config = replace_fields(TINY, names=10)

    def drawn(seed=0, epoch=1, step=0, phase=0):
        fit = Fit(small_panel, small_fold, config, phase_plan(phase), seed=seed)
        fit.epoch = epoch
        return fit.batch_of(step, torch.tensor([100, 140])).names

    assert drawn().shape == (2, 10) and torch.equal(drawn(), drawn())
    for other in ({"seed": 1}, {"epoch": 2}, {"step": 1}):
        assert not torch.equal(drawn(**other), drawn()), other
    assert drawn(phase=1).shape == (2, 10) and not torch.equal(drawn(phase=1), drawn())
    assert not torch.equal(drawn()[0].sort().values, drawn()[1].sort().values), "each chunk has a draw of its own"
    fit = Fit(small_panel, small_fold, replace_fields(TINY, names=0), phase_plan(0))
    assert fit.batch_of(0, torch.tensor([100, 140])).newest.shape[1] == small_panel.width
    ((row, _),) = Fit(small_panel, small_fold, config, replace(phase_plan(0), epochs=1)).epochs()
    eligible = small_panel.valid_on(small_fold.places(small_panel.dates, "train")).sum(-1)
    assert len(eligible) % 2 == 0, "no step is filled up with days that were there before"
    assert row["stock_days_per_s"] * row["seconds"] == pytest.approx(int(eligible.clamp(max=10).sum())), "ten a day"


@pytest.mark.parametrize(
    ("kind", "expected"), [("equal", [0.25] * 4), ("project", [1 / 2.8, 0.8 / 2.8, 0.6 / 2.8, 0.4 / 2.8])]
)
def test_horizons_are_weighed_as_asked(small_panel, small_fold, kind, expected):
    fit = Fit(small_panel, small_fold, replace_fields(TINY, horizon_weights=kind), phase_plan(0))
    assert fit.horizon_weights.tolist() == pytest.approx(expected)


def test_learning_rate_warms_up_and_decays(small_panel, small_fold):
    fit = Fit(small_panel, small_fold, TINY, replace(phase_plan(1), warmup=0.2))
    total = fit.plan.epochs * fit.steps_per_epoch()
    rates = []
    for fit.steps in range(total + 3):
        rates.append(fit.rate())
    peak = rates.index(max(rates))
    assert 0.15 * total < peak < 0.25 * total
    assert rates[0] < 0.1 * max(rates) and rates[-1] == pytest.approx(0.1 * max(rates), rel=0.05)
    assert max(rates) <= TINY.train.learning_rate
    fit = Fit(small_panel, small_fold, replace_fields(TINY, schedule="constant"), replace(phase_plan(1), warmup=0.2))
    steady = []
    for fit.steps in range(total):
        steady.append(fit.rate())
    assert steady[: peak - 1] == rates[: peak - 1] and set(steady[peak + 1 :]) == {TINY.train.learning_rate}


# -- guards ----------------------------------------------------------------------------------------------------------


def test_a_step_that_is_not_finite_is_named_and_not_taken(small_panel, small_fold):
    fit = Fit(small_panel, small_fold, TINY, phase_plan(1))
    fit.begin_epoch()
    fit.step(fit.epoch_order(1)[0])
    with torch.no_grad():
        fit.model.attention[0].add_norm.gate.weight[0, 0] = float("inf")
    before = {k: v.clone() for k, v in fit.model.state_dict().items()}
    fit.step(fit.epoch_order(1)[1])
    assert all(torch.equal(v, before[k]) for k, v in fit.model.state_dict().items())
    with pytest.raises(monitor.NonFinite, match=r"module attention\.0\.add_norm\.gate .*epoch 1, step 2"):
        fit.check_finite()


def test_a_collapsed_network_fails_the_run_with_sentences(ask, tmp_path, monkeypatch):
    """The head's maps are cut: constant scores, no gradient. The run must end as failed, not as finished."""
    original = Fit.current

    def constant(self):
        weights = original(self)
        for key in ("head.linear.weight", "head.mix"):
            weights[key] = torch.zeros_like(weights[key])
        return weights

    monkeypatch.setattr(Fit, "current", constant)
    with pytest.raises(GuardViolation, match="almost no spread"):
        train(ask(tmp_path / "c", curriculum=PhaseChanges(epochs=1)), QUIET)
    run = json.loads((tmp_path / "c" / RUN_JSON).read_text())
    assert run["status"] == "failed" and not run["guards"]["passed"] and run["guards"]["messages"]


def healthy(**changes):
    values = {
        "grad_norm": {"vsn": 0.1, "head": 0.2}, "alpha": 0.5, "attention_entropy": 0.8, "node_cosine": 0.3,
        "node_cosine_before": 0.3,
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


def test_states_that_were_alike_before_the_graph_are_not_its_fault():
    """What all names of a day share is in every node; only what the graph took of their differences counts."""
    assert healthy(node_cosine=0.97, node_cosine_before=0.96).passed
    assert healthy(node_cosine=0.97, node_cosine_before=0.88).passed  # a quarter of the difference is left
    assert not healthy(node_cosine=0.995, node_cosine_before=0.96).passed


@pytest.mark.parametrize(("module", "said"), [("gat", False), ("fusion", True)])
def test_a_constant_graph_is_no_harm_and_a_constant_state_is(small_panel, small_fold, module, said):
    fit = Fit(small_panel, small_fold, TINY, phase_plan(2))
    batch = small_panel.batch(torch.tensor([100, 140]))
    part = getattr(fit.model.eval(), module)
    part.register_forward_hook(lambda _, __, output: torch.ones_like(output))
    guards = monitor.Guards()
    guards.alpha, _, guards.node_cosine, guards.node_cosine_before = monitor.graph_health(fit.model, batch)
    assert guards.node_cosine_before < 0.9 and monitor.smoothed(guards) == said


def test_the_cosine_is_that_of_all_pairs(small_panel):
    states, valid = torch.randn(3, 9, 4), torch.rand(3, 9) < 0.7
    pairs = []
    for day, rows in zip(states, valid, strict=True):
        names = day[rows]
        found = [
            torch.cosine_similarity(a, b, dim=0) for i, a in enumerate(names) for j, b in enumerate(names) if i != j
        ]
        pairs.append(torch.stack(found).double().mean())
    assert monitor._alike(states, valid) == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-6)


def test_a_score_blind_to_the_newest_day_is_found(small_panel, small_fold):
    """A network whose newest rows are overwritten by those of the day before has sensitivity 0."""
    fit = Fit(small_panel, small_fold, TINY, phase_plan(1))
    batch = small_panel.batch(torch.tensor([100, 140]))
    seeing = monitor.newest_day_sensitivity(fit.model.eval(), batch)

    def blind(_, inputs):
        x = inputs[0].clone()  # [D, W, F]
        x[-2:] = x[-4:-2]
        return (x,)

    fit.model.newest.register_forward_pre_hook(blind)
    assert monitor.newest_day_sensitivity(fit.model, batch) == pytest.approx(0.0, abs=1e-9)
    assert seeing > 0.01


def test_loss_weights_reach_the_loss(small_panel, small_fold):
    """Configured loss weights are the effective ones: a phase with only the RankIC term logs only that."""
    only = PhasePlan(on=CURRICULUM[0].on, epochs=1, losses=LossWeights(ic=0.0, sharpe=0.0))
    assert only.losses != CURRICULUM[0].losses
    (row, _), *_ = list(Fit(small_panel, small_fold, TINY, only).epochs())
    assert {k for k in row if k.startswith("loss")} == {"loss", "loss_rank_ic"}


def test_quantile_heads_train(small_panel, small_fold):
    config = replace_fields(TINY, quantiles=(0.1, 0.5, 0.9))
    fit = Fit(small_panel, small_fold, config, replace(phase_plan(0), epochs=1, losses=LossWeights(pinball=1.0)))
    before = fit.model.head.quantile.weight.detach().clone()
    (row, _), *_ = list(fit.epochs())
    assert row["loss_pinball"] > 0
    assert not torch.equal(fit.model.head.quantile.weight, before)


def test_exact_mode_trains(small_panel, small_fold):
    one_day = replace_fields(TINY, chunk_days=1, chunks_per_step=8)
    fit = Fit(small_panel, small_fold, one_day, replace(phase_plan(1), epochs=1))
    assert fit.panel.chunk_days == 1 and fit.panel.windows
    (row, _), *_ = list(fit.epochs())
    assert math.isfinite(row["loss"])


def test_rank_correlation_helper_sees_perfect_agreement():
    x = torch.randn(3, 20)
    assert spearman_by_day(x, x.exp(), torch.ones(3, 20, dtype=torch.bool)).tolist() == pytest.approx([1.0] * 3)
