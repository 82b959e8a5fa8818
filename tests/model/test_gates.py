"""The eleven gates: each would have caught a defect that once made a network constant, leaky or untrained."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from atft_model import monitor
from atft_model.curriculum import CURRICULUM, PhasePlan, curriculum_of, phase_plan
from atft_model.fit import Fit
from atft_model.graph_layers import Fusion, GATv2, pyg_gatv2
from atft_model.interchange.config import NEWEST_ROW, PRESETS, ModelConfig, PhaseChanges, Switches
from atft_model.interchange.errors import ConfigError, FoldError, RequestError
from atft_model.interchange.phases import PHASES, Phase
from atft_model.layers import FAN, SAN
from atft_model.metrics import spearman_by_day
from atft_model.model import ATFTGATFAN, MODULES, TEMPORAL, Sizes
from atft_model.predict import score_days
from tests.model.conftest import TINY, again, awake, starts

ENCODER = Switches(fan=False, san=False, gat=False)
NO_GRAPH = Switches(fan=True, san=True, gat=False)


# 1 -- input sensitivity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switches", [NEWEST_ROW, ENCODER, NO_GRAPH, Switches()], ids=["newest row", "encoder", "normalised", "whole"]
)
def test_every_feature_of_the_newest_day_moves_the_score(small_panel, switches):
    model = awake(TINY, small_panel, switches)
    batch = small_panel.batch(starts(100, 150))
    x, windows = batch.newest.clone().requires_grad_(), batch.windows.clone().requires_grad_()
    model(x, windows, batch.graph).scores[:, -2:].sum().backward()
    newest = x.grad[-2:]  # [G, N, F]
    assert (newest.abs().amax((0, 1)) > 1e-7).all(), "a feature of the newest day does not reach the score"
    assert (x.grad[:-2] == 0).all(), "an earlier day's row reaches the score by another way than the windows"
    if not switches.temporal:
        assert windows.grad is None
        return
    for row, what in ((-1, "the newest row"), (-12, "the oldest row")):
        assert (windows.grad[:, row].abs().amax((1, 2)) > 0).all(), f"{what} of the window does not reach the score"


def test_without_sequences_no_earlier_row_matters(small_panel):
    """Other days before each predicted one, in the windows and in the panel itself: the same scores to the last bit."""
    model = awake(TINY, small_panel, NEWEST_ROW)
    batch = small_panel.batch(starts(100))
    base = model(*batch.inputs).scores
    assert torch.equal(model(batch.newest, torch.randn_like(batch.windows)).scores, base)
    assert torch.equal(model(batch.newest).scores, base)
    days = range(100, 104)
    other = copy.copy(small_panel)
    other.x, other.sequences = torch.randn_like(small_panel.x), torch.randn_like(small_panel.sequences)
    other.x[100:104] = small_panel.x[100:104]
    assert torch.equal(score_days(model, other, days), score_days(model, small_panel, days))
    reads = awake(TINY, small_panel, NO_GRAPH)
    other.x = small_panel.x
    assert not torch.equal(score_days(reads, other, days), score_days(reads, small_panel, days))


def test_a_trunk_that_ignores_its_input_is_found(small_panel, small_fold):
    """The mutation: the first layer's weights are zero. Its states are all alike, so alone its scores are too, and with
    sequences beside it the guard of the newest day speaks.
    """
    days = small_fold.places(small_panel.dates, "validation")
    batch = small_panel.batch(starts(100, 150))
    for switches, said in ((NEWEST_ROW, "almost no spread"), (NO_GRAPH, "hardly depend on the newest day")):
        model = awake(TINY, small_panel, switches)
        found = [measured(model, batch, small_panel, days)]
        with torch.no_grad():
            model.newest.first.weight.zero_()
        found.append(measured(model, batch, small_panel, days))
        assert not [m for m in found[0] if said in m] and [m for m in found[1] if said in m], found


def measured(model, batch, panel, days):
    """What the guards say of a network."""
    guards = monitor.measure(model, batch, score_days(model, panel, days), panel.valid_on(days), {})
    return monitor.judge(guards, ()).messages


@pytest.mark.parametrize("switches", [ENCODER, NO_GRAPH], ids=["encoder", "normalised"])
def test_sequences_start_exactly_as_the_newest_row(small_panel, switches):
    """The map by which they join is zero at first, so a phase that switches them on starts from its parent's scores."""
    model = awake(TINY, small_panel, switches)
    torch.nn.init.zeros_(model.join.weight)
    batch = small_panel.batch(starts(100, 150))
    trunk = again(model, NEWEST_ROW)
    assert torch.equal(model(*batch.inputs).scores, trunk(batch.newest).scores)
    torch.nn.init.constant_(model.join.weight, 1e-3)
    assert not torch.equal(model(*batch.inputs).scores, trunk(batch.newest).scores)
    new = ATFTGATFAN(TINY.model, model.sizes)
    assert (new.join.weight == 0).all() and new.join.bias is None


def test_a_panel_without_sequences_trains_the_newest_row_alone(small_panel, small_fold):
    bare = copy.copy(small_panel)
    plain = tuple(replace(f, sequence=False) for f in small_panel.description.features)
    bare.description, bare.sequences = replace(small_panel.description, features=plain), small_panel.sequences[:0]
    with pytest.raises(ConfigError, match="no feature of the panel is marked as a sequence"):
        Fit(bare, small_fold, TINY, phase_plan(1))
    fit = Fit(bare, small_fold, TINY, replace(phase_plan(0), epochs=1))
    ((row, _),) = fit.epochs()
    assert math.isfinite(row["loss"]) and row["grad_norm_newest"] > 0 and row["grad_norm_lstm"] is None


def test_scores_differ_between_names_in_eval_mode(small_panel):
    model = awake(TINY, small_panel)
    batch = small_panel.batch(starts(100))
    scores = model(*batch.inputs).scores
    assert scores.std(-1).min() > 1e-3
    assert scores.dtype == torch.float32


# 2 -- the newest row is kept ----------------------------------------------------------------------------------------


def test_fan_keeps_the_newest_row():
    fan = FAN(3, (5, 10))
    x = torch.randn(3, 12, 7)
    moved = x.clone()
    moved[:, -1] += 0.5
    change = (fan(moved) - fan(x)).abs()
    assert (change[:, -1] > 1e-3).all()
    assert (change[:, :-1] == 0).all()


def test_san_reads_the_newest_row_and_all_of_the_window():
    san = SAN(4, 12, 3, 8)
    torch.nn.init.normal_(san.film.weight)
    state, rows = torch.randn(2, 5, 4), torch.randn(13, 5, 4)
    base = san(state, rows)
    for row, reached in ((12, [False, True]), (11, [True, True]), (0, [True, False])):
        moved = rows.clone()
        moved[row] += 0.5
        change = (san(state, moved) - base).abs().amax((1, 2)) > 1e-5
        assert change.tolist() == reached, f"row {row}"


@pytest.mark.parametrize("level", [0.0, 0.1, 3.0, -2.7, 1000.0])
def test_constant_series_do_not_become_noise(level):
    fan = FAN(2, (5, 10, 20))
    torch.nn.init.constant_(fan.gamma, 0.5)
    x = torch.full((2, 60, 3), level)
    exact = copy.deepcopy(fan).double()
    reference = (1 - torch.tanh(exact.gamma))[:, None, None] * x.double()  # the z-score of a constant is 0
    assert torch.isfinite(fan(x)).all()
    assert (fan(x).double() - reference).abs().max() <= 1e-5 * max(1.0, abs(level))
    san = SAN(4, 12, 3, 8)
    stats = san.statistics(torch.full((13, 3, 4), level), 2)
    expected = torch.cat([torch.full((12,), level), torch.full((12,), 1e-3)])
    assert (stats - expected).abs().max() <= 1e-5 * max(1.0, abs(level))


# 3 -- independence from the batch -----------------------------------------------------------------------------------


def test_without_graph_a_name_does_not_depend_on_other_names(small_panel):
    model = awake(TINY, small_panel, NO_GRAPH)
    batch = small_panel.batch(starts(100))
    whole = model(*batch.inputs).scores
    alone = model(batch.newest[:, 5:9].contiguous(), batch.windows[..., 5:9].contiguous()).scores
    assert torch.allclose(whole[..., 5:9], alone, atol=1e-5)


def test_with_graph_only_neighbours_within_two_hops_matter(small_panel):
    model = awake(TINY, small_panel)
    batch = small_panel.batch(starts(100))
    base = model(*batch.inputs).scores
    moved, windows = batch.newest.clone(), batch.windows.clone()
    moved[:, 7] += 1.0
    windows[..., 7] += 1.0
    changed = (model(moved, windows, batch.graph).scores - base).abs().amax(0) > 1e-7  # [D, N]
    names = batch.newest.shape[1]
    for day in range(changed.shape[0]):
        adjacency = torch.zeros(names, names, dtype=torch.bool)
        for k in range(batch.graph.neighbours.shape[-1]):
            kept = batch.graph.mask[day, :, k]
            adjacency[torch.arange(names)[kept], batch.graph.neighbours[day, kept, k].long()] = True
        two_hops = (adjacency.float() @ adjacency.float()) > 0
        assert not (changed[day] & ~two_hops[:, 7]).any(), "a name farther than two hops away changed"
        assert changed[day, 7] and changed[day].sum() > 1, "no neighbour heard of it"


# 4 -- causality -----------------------------------------------------------------------------------------------------


def test_later_days_do_not_change_earlier_scores(small_panel):
    model = awake(TINY, small_panel)
    batch = small_panel.batch(starts(100))
    base = model(*batch.inputs).scores
    for day in range(1, 4):
        newest, future = batch.newest.clone(), batch.windows.clone()
        newest[day:] = torch.randn_like(newest[day:])
        future[:, 12 - 1 + day :] = torch.randn_like(future[:, 12 - 1 + day :])
        scores = model(newest, future, batch.graph).scores
        assert torch.equal(scores[:, :day], base[:, :day])
        assert not torch.equal(scores[:, day:], base[:, day:])


def test_labels_enter_only_as_labels(small_panel):
    """A batch's features are those of its own days: shifting the labels by a day changes no input."""
    batch = small_panel.batch(starts(100))
    assert torch.equal(batch.newest[0], small_panel.x[100])
    assert torch.equal(batch.windows[:, -4, 0], small_panel.sequences[:, 12 - 1 + 100])
    assert torch.equal(batch.targets.rank[:, 0, 0], small_panel.rank[:, 100])
    day = small_panel.returns[0, 100]
    assert spearman_by_day(batch.targets.rank[0, 0], day[None], batch.targets.mask[0, 0]).item() == pytest.approx(1.0)


# 5 -- chunks are windows --------------------------------------------------------------------------------------------


def test_chunks_agree_with_exact_windows(small_panel, small_fold):
    """Trained for a moment, then scored by chunks of 4 days and day by day."""
    fit = Fit(small_panel, small_fold, TINY, replace(phase_plan(2), thaw={}, epochs=2))
    for _ in fit.epochs():
        pass
    days = fit.validation_days
    chunked = score_days(fit.model, small_panel, days)
    exact_panel = small_panel.in_chunks(1)
    exact = score_days(fit.model, exact_panel, days)
    valid = small_panel.valid_on(days).expand_as(chunked)
    assert spearman_by_day(chunked, exact, valid).mean() >= 0.99


def test_first_day_of_a_chunk_is_exactly_its_own_window(small_panel):
    model = awake(TINY, small_panel)
    exact_panel = small_panel.in_chunks(1)
    a, b = small_panel.batch(starts(100)), exact_panel.batch(starts(100))
    assert torch.allclose(model(*a.inputs).scores[:, 0], model(*b.inputs).scores[:, 0], atol=1e-5)


def test_a_score_does_not_depend_on_the_days_asked_for(small_panel, small_fold):
    model = awake(TINY, small_panel)
    whole = score_days(model, small_panel, range(small_panel.days))
    for block in ("train", "validation", "test"):
        days = small_fold.places(small_panel.dates, block)
        assert torch.equal(score_days(model, small_panel, days), whole[:, days.start : days.stop])


# 6 -- GATv2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_gatv2_equals_torch_geometric(small_panel, heads):
    graph = small_panel.batch(starts(100)).graph
    x = torch.randn(*graph.neighbours.shape[:2], 16)
    ours, theirs = GATv2(16, heads), pyg_gatv2(16, heads)
    theirs.load_state_dict(ours.state_dict())
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, reference = ours(a, *graph), theirs(b, *graph)
    assert torch.allclose(out, reference, atol=1e-5)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (reference * weight).sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_masked_slots_do_not_matter_and_attention_sums_to_one(small_panel):
    neighbours, mask, attr = small_panel.batch(starts(100)).graph
    assert not mask.all()
    layer = GATv2(16, 4)
    x = torch.randn(*neighbours.shape[:2], 16)
    out, attention = layer.attend(x, neighbours, mask, attr)
    assert torch.allclose(attention.sum(2), torch.ones(()), atol=1e-6)
    assert (attention[~mask] == 0).all()
    elsewhere = torch.where(mask, neighbours, torch.zeros_like(neighbours))
    assert torch.equal(out, layer(x, elsewhere, mask, attr))


def test_an_isolated_name_attends_to_itself():
    own = torch.arange(6, dtype=torch.int32).view(1, 6, 1).expand(1, 6, 3).contiguous()
    mask = torch.zeros(1, 6, 3, dtype=torch.bool)
    mask[..., 0] = True
    layer = GATv2(8, 2)
    x = torch.randn(1, 6, 8)
    assert torch.allclose(layer(x, own, mask, torch.ones(1, 6, 3, 3)), layer.lin_l(x) + layer.bias, atol=1e-6)


def test_whole_network_runs_on_torch_geometric(small_panel):
    dense = awake(TINY, small_panel)
    pyg = ATFTGATFAN(replace(TINY.model, gat_backend="pyg"), dense.sizes).eval()
    pyg.load_state_dict(dense.state_dict())
    batch = small_panel.batch(starts(100, 140))
    assert torch.allclose(dense(*batch.inputs).scores, pyg(*batch.inputs).scores, atol=1e-5)


# 7 -- fusion --------------------------------------------------------------------------------------------------------


def test_seed_fusion_starts_as_stated():
    torch.manual_seed(5)
    plain = torch.nn.Linear(128, 64).weight.detach()
    torch.manual_seed(5)
    fusion = Fusion(64, "seed")
    assert fusion.alpha().item() == 0.5
    assert torch.equal(fusion.project.weight[:, 64:], 3.0 * plain[:, 64:])
    assert torch.equal(fusion.project.weight[:, :64], 2.0 * torch.eye(64))


@pytest.mark.parametrize("kind", ["seed", "highway"])
def test_both_branches_get_their_share_of_the_gradient(kind):
    shares = []
    for seed in range(10):
        torch.manual_seed(seed)
        fusion = Fusion(64, kind)
        t, g = torch.randn(500, 64, requires_grad=True), torch.randn(500, 64, requires_grad=True)
        upstream = torch.randn(500, 64)
        fusion(t, g).backward(upstream)
        shares.append((g.grad.norm() / upstream.norm()).item())
        assert t.grad.norm() / upstream.norm() > 0.3
    assert 0.7 < sum(shares) / len(shares) < 0.9


def test_gat_gets_gradient_after_twenty_steps_and_none_when_off(small_panel, small_fold):
    fit = Fit(small_panel, small_fold, TINY, replace(phase_plan(2), thaw={}))
    fit.begin_epoch()
    order = fit.epoch_order(1)
    for i in range(20):
        fit.step(order[i % len(order)])
    norms = dict(zip(MODULES, (fit.norm_sums / 20).tolist(), strict=True))
    assert norms["gat"] > 1e-6 and norms["fusion"] > 1e-6
    off = Fit(small_panel, small_fold, TINY, phase_plan(1))
    off.begin_epoch()
    off.backward(off.batch_of(0, off.epoch_order(1)[0]))
    assert all(p.grad is None for n, p in off.model.named_parameters() if n.startswith(("gat.", "fusion.")))
    read = ("newest.", "fan.", "san.film", "join.", "vsn.", "lstm.")
    assert all(p.grad is not None for n, p in off.model.named_parameters() if n.startswith(read))
    alone = Fit(small_panel, small_fold, TINY, phase_plan(0))
    alone.begin_epoch()
    alone.backward(alone.batch_of(0, alone.epoch_order(1)[0]))
    got = {alone.model.module_of(n) for n, p in alone.model.named_parameters() if p.grad is not None}
    assert got == {"newest", "head"}, "the newest row alone trains nothing else"


# 8 -- phases really toggle ------------------------------------------------------------------------------------------


def test_each_phase_changes_the_computation(small_panel):
    model = awake(TINY, small_panel)
    batch = small_panel.batch(starts(100))
    outputs = [again(model, plan.on)(*batch.inputs).scores for plan in CURRICULUM[:3]]
    assert (outputs[1] - outputs[0]).abs().max() > 1e-3
    assert (outputs[2] - outputs[1]).abs().max() > 1e-3
    for part in ("fan", "san"):
        without = again(model, replace(CURRICULUM[1].on, **{part: False}))
        assert (without(*batch.inputs).scores - outputs[1]).abs().max() > 1e-4, part
    with pytest.raises(ConfigError, match="parts of the temporal encoder"):
        Switches(temporal=False)


def test_switches_and_dtype_are_fixed_at_construction(small_panel):
    model = awake(TINY, small_panel)
    for name in ("switches", "compute_dtype"):
        with pytest.raises(AttributeError):
            setattr(model, name, getattr(model, name))


def test_an_off_module_is_not_computed(small_panel):
    batch = small_panel.batch(starts(100))
    for switches, names in ((ENCODER, ("fan", "san", "gat", "fusion")), (NEWEST_ROW, (*TEMPORAL, "gat", "fusion"))):
        model = awake(TINY, small_panel, switches)
        base = model(*batch.inputs).scores
        with torch.no_grad():
            for name in names:
                for parameter in getattr(model, name).parameters():
                    parameter.fill_(float("nan"))
        assert torch.equal(model(*batch.inputs).scores, base)
        assert set(model.active_modules()) == set(MODULES) - set(names)


def test_closed_gates_are_identities(small_panel):
    model = awake(TINY, small_panel, ENCODER)
    batch = small_panel.batch(starts(100))
    base = model(*batch.inputs).scores
    with torch.no_grad():
        model.fan.gamma.zero_()
        model.san.film.weight.zero_()
    assert torch.allclose(again(model, NO_GRAPH)(*batch.inputs).scores, base, atol=1e-6)


def test_switching_a_module_on_without_a_graph_is_an_error(small_panel):
    model = awake(TINY, small_panel)
    batch = small_panel.batch(starts(100))
    with pytest.raises(ValueError, match="no neighbour table"):
        model(batch.newest, batch.windows)
    with pytest.raises(ValueError, match="no windows were given"):
        model(batch.newest, None, batch.graph)


def test_groups_freeze_and_thaw_as_declared(small_panel, small_fold):
    declared = replace(phase_plan(2), epochs=2, thaw={"vsn": 1, "lstm": 1}, rates={"gat": 1.0, "attention": 0.0})
    fit = Fit(small_panel, small_fold, TINY, declared)
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    moved = []
    for _ in fit.epochs():
        now = fit.model.named_parameters()
        moved.append({fit.model.module_of(n) for n, p in now if not torch.equal(p, before[n])})
    assert moved[0] == {"newest", "fan", "san", "join", "gat", "fusion", "head"}
    assert moved[1] == {"newest", "fan", "san", "join", "gat", "fusion", "head", "vsn", "lstm"}


def test_curriculum_is_the_declared_one():
    assert [p.epochs for p in CURRICULUM] == [10, 7, 6, 5]
    assert not any(p.patience for p in CURRICULUM), "a phase has a fixed number of epochs"
    assert [(p.on.temporal, p.on.fan, p.on.san, p.on.gat) for p in CURRICULUM] == [
        (False, False, False, False), (True, True, True, False), (True, True, True, True), (True, True, True, True),
    ]  # fmt: skip
    assert [(p.phase, p.name) for p in CURRICULUM] == [(p.index, p.name) for p in PHASES]


def test_a_fifth_phase_is_one_row_here_and_one_there(small_panel, small_fold):
    row = PhasePlan(on=Switches(), epochs=1, rate=0.01, keep_parent=True)
    with pytest.raises(ValueError, match="argument"):
        curriculum_of((*PHASES, Phase(4, "Polishing", "even less")), CURRICULUM)
    plans = curriculum_of((*PHASES, Phase(4, "Polishing", "even less")), (*CURRICULUM, row))
    fit = Fit(small_panel, small_fold, TINY, plans[-1])
    ((first, _),) = fit.epochs()
    assert first["phase"] == 4 and plans[-1].name == "Polishing"


def test_a_request_changes_the_row_of_its_phase():
    plan = phase_plan(0, PhaseChanges(epochs=9, warmup=0.5, patience=2, losses={"ic": 0.2, "turnover": 0.1}))
    assert (plan.epochs, plan.warmup, plan.patience, plan.rate) == (9, 0.5, 2, CURRICULUM[0].rate)
    assert (plan.losses.ic, plan.losses.turnover, plan.losses.anchor) == (0.2, 0.1, CURRICULUM[0].losses.anchor)
    assert phase_plan(2, PhaseChanges(warmup=0.0)).warmup == 0, "0 switches off, only None keeps"
    assert phase_plan(0) == CURRICULUM[0] == phase_plan(0, PhaseChanges())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (PhaseChanges(epochs=0), "curriculum.epochs is 0: it must be at least 1"),
        (PhaseChanges(clip=0.0), r"curriculum.clip is 0.0"),
        (PhaseChanges(warmup=2.0), r"curriculum.warmup is 2.0"),
        (
            PhaseChanges(losses={"sharp": 1.0}),
            "curriculum.losses has unknown terms: sharp; it knows rank_ic, ic",
        ),
        (PhaseChanges(losses={"rank_ic": 0, "ic": 0, "anchor": 0}), "curriculum.losses has no ranking term"),
    ],
)
def test_what_a_row_cannot_be_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        phase_plan(0, changes)
    with pytest.raises(RequestError, match=r"there is no phase 7; the phases are 0 \(Baseline\)"):
        phase_plan(7)


# 10 -- no graph break (planted and null tests, gate 9, are in test_learning) ----------------------------------------


@pytest.mark.parametrize(
    ("switches", "expected_graphs"),
    [(NEWEST_ROW, 1), (ENCODER, 2), (Switches(), 2)],
    ids=["newest", "encoder", "whole"],
)
def test_a_compiled_network_is_two_graphs(small_panel, switches, expected_graphs):
    """One break, around the recurrent cell: one graph before it, one after it, and the same scores; without it, one."""
    model = awake(TINY, small_panel, switches)
    batch = small_panel.batch(starts(100))
    expected = model(*batch.inputs).scores
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    model.compile_around_the_lstm(backend=count)
    assert torch.allclose(model(*batch.inputs).scores, expected, atol=1e-6)
    assert len(graphs) == expected_graphs
    assert torch.equal(model.forward(*batch.inputs).scores, expected) and len(graphs) == expected_graphs
    torch._dynamo.reset()


# 11 -- splits and statistics ----------------------------------------------------------------------------------------


def test_a_fold_without_embargo_is_refused(small_panel, small_fold):
    dates = small_panel.dates
    small_fold.check(dates, small_panel.horizons)
    first = small_fold.places(dates, "validation").start
    close = replace(small_fold, train=(dates[0], dates[first - 20]))
    with pytest.raises(FoldError, match="20 trading days apart"):
        Fit(small_panel, close, TINY, phase_plan(0))
    replace(small_fold, train=(dates[0], dates[first - 21])).check(dates, small_panel.horizons)


def test_training_reads_nothing_of_later_blocks(small_panel, small_fold):
    """Weights after an epoch are bit-identical whatever the rows after the last training label hold."""
    last = small_fold.places(small_panel.dates, "train")[-1]
    other = copy.copy(small_panel)
    other.x, other.sequences = small_panel.x.clone(), small_panel.sequences.clone()
    other.x[last + 1 :] = 1.0
    other.sequences[:, 12 - 1 + last + 1 :] = 1.0
    for name in ("rank", "z"):
        changed = getattr(small_panel, name).clone()
        changed[:, last + 1 :] = 0.5
        setattr(other, name, changed)
    other.excess = small_panel.excess.clone()
    other.excess[last + 1 :] = 0.1
    weights = []
    for panel in (small_panel, other):
        fit = Fit(panel, small_fold, TINY, replace(phase_plan(2), epochs=1, thaw={}))
        for _ in fit.epochs():
            pass
        weights.append(fit.model.state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


# sizes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features", "low", "high"), [("seed64", 99, 1.4e6, 1.6e6), ("wide256", 150, 5.3e6, 5.9e6)]
)
def test_presets_have_the_sizes_they_are_named_for(name, features, low, high):
    with torch.device("meta"):
        model = ATFTGATFAN(PRESETS[name].model, Sizes(features, 13, 4))
    assert low < sum(model.parameter_counts().values()) < high


def test_hidden_size_is_one_knob():
    counts = []
    for size in (16, 32, 64):
        with torch.device("meta"):
            model = ATFTGATFAN(ModelConfig(hidden_size=size), Sizes(40, 13, 4))
            counts.append(sum(model.parameter_counts().values()))
    assert counts[0] < counts[1] < counts[2]
