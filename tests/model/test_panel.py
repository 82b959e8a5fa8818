"""The panel: its file format, its chunks, its labels, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from atft_model.curriculum import stage
from atft_model.metrics import spearman_by_day
from atft_model.panel import Panel, PanelError, excess_and_targets, read_meta
from atft_model.predict import score_block
from atft_model.train import Fit
from tests.model.conftest import awake, starts


def test_a_written_panel_reads_back(small_panel, panel_directory):
    loaded = Panel.load(panel_directory, lookback=12, chunk_days=4)
    n = len(small_panel.meta.codes)
    assert loaded.meta == small_panel.meta
    assert loaded.names % 16 == 0 and not loaded.valid[:, n:].any()
    assert torch.allclose(loaded.x[..., :n], small_panel.x[..., :n], atol=0.02)  # stored as bfloat16
    for name in ("valid", "rank", "z", "excess"):
        assert torch.equal(getattr(loaded, name)[..., :n], getattr(small_panel, name)[..., :n]), name
    for name in ("neighbours", "neighbour_mask"):
        assert torch.equal(getattr(loaded, name)[:, :n], getattr(small_panel, name)[:, :n]), name


def test_what_is_learned_may_differ_from_what_is_judged(small_panel, tmp_path):
    p = small_panel
    learned = -p.returns
    learned[:, 50, 3] = torch.nan
    panel = Panel(
        replace(p.meta, target="y_neutral"), p.x, p.valid, p.returns, p.neighbours, p.neighbour_mask,
        p.neighbour_attr, p.graph_period, lookback=12, chunk_days=4, learned=learned,
    )  # fmt: skip
    panel.write(tmp_path)
    loaded = Panel.load(tmp_path, lookback=12, chunk_days=4)
    n = len(p.meta.codes)
    assert torch.equal(loaded.returns[..., :n].nan_to_num(), p.returns[..., :n].nan_to_num())
    assert torch.allclose(loaded.rank[:, :50, :n], -p.rank[:, :50, :n], atol=1e-6)
    assert p.label_mask[0, 50, 3] and not loaded.label_mask[0, 50, 3]
    before = loaded.rank.clone(), loaded.returns.clone()
    loaded.permute_labels(0)
    for was, now in zip(before, (loaded.rank, loaded.returns), strict=True):
        assert not torch.equal(was.nan_to_num(), now.nan_to_num())
    known = loaded.label_mask & torch.isfinite(loaded.returns)
    assert (spearman_by_day(loaded.rank[0], loaded.returns[0], known[0]).nanmean() + 1).abs() < 0.05


def test_chunks_are_slices_of_the_panel(small_panel):
    batch = small_panel.batch(starts(30, 100))
    assert batch.x.shape == (8, 15, 2, 48) and batch.targets.rank.shape == (4, 4, 2, 48)
    for g, day in enumerate((30, 100)):
        first = day  # padded row of day - 11
        assert torch.equal(batch.x[:, :, g], small_panel.x[:, first : first + 15])
        assert torch.equal(batch.targets.rank[:, :, g], small_panel.rank[:, day : day + 4])
        assert torch.equal(batch.valid[:, g], small_panel.valid[day : day + 4])
    period = small_panel.graph_period[30]
    assert torch.equal(batch.graph.neighbours[0], small_panel.neighbours[period])


@pytest.fixture
def rotating_panel(small_panel):
    """Half of the names are eligible at a time, others after every twenty days, as in an index that is reconstituted.

    Once with chunks of their own width, once as wide as the panel.
    """
    members = torch.zeros_like(small_panel.valid)
    generator = torch.Generator().manual_seed(0)
    for start in range(0, small_panel.days, 20):
        members[start : start + 20, torch.randperm(48, generator=generator)[:16]] = True

    def panel() -> Panel:
        p = small_panel
        return Panel(
            p.meta, p.x, p.valid & members, p.returns.clone(), p.neighbours, p.neighbour_mask, p.neighbour_attr,
            p.graph_period, lookback=p.lookback, chunk_days=p.chunk_days,
        )  # fmt: skip

    narrow, wide = panel(), panel()
    assert narrow.width == 32 and wide.names == 48
    wide.width = wide.names
    return narrow, wide


def test_narrow_chunks_hold_the_eligible_names(rotating_panel):
    narrow, wide = rotating_panel
    a, b = narrow.batch(starts(18, 100)), wide.batch(starts(18, 100))
    assert a.x.shape == (8, 15, 2, 32) and a.graph.neighbours.shape[1] == 32
    for g in range(2):
        names = a.names[g]
        assert len(set(names.tolist())) == 32
        assert set(b.valid[:, g].any(0).nonzero().squeeze(1).tolist()) <= set(names.tolist())
        assert torch.equal(a.x[:, :, g], b.x[:, :, g, names])
        assert torch.equal(a.valid[:, g], b.valid[:, g, names])
        for name in ("rank", "z", "mask"):
            assert torch.equal(getattr(a.targets, name)[:, :, g], getattr(b.targets, name)[:, :, g, names]), name
        for d in range(4):
            row = d * 2 + g  # tables are day-major
            kept = a.graph.mask[row]
            assert torch.equal(kept, b.graph.mask[row, names])
            mapped = names[a.graph.neighbours[row].long()]
            assert torch.equal(mapped[kept], b.graph.neighbours[row, names][kept].long())
            assert torch.equal(a.graph.attr[row], b.graph.attr[row, names])


@pytest.mark.parametrize("block", ["validation", "test"])
def test_the_width_of_chunks_changes_no_score(rotating_panel, tiny, block):
    narrow, wide = rotating_panel
    model = awake(tiny, narrow)
    first, last = narrow.meta.block(block)
    valid = narrow.valid[first : last + 1]
    ours, theirs = (score_block(model, p, block)[:, valid] for p in (narrow, wide))
    assert torch.isfinite(ours).all() and torch.allclose(ours, theirs, atol=1e-6)


def test_the_width_of_chunks_changes_no_gradient(rotating_panel, tiny):
    gradients = []
    for panel in rotating_panel:
        fit = Fit(panel, tiny, stage(2), seed=1)
        fit.backward(panel.batch(starts(18, 100)))
        gradients.append({n: p.grad for n, p in fit.model.named_parameters() if p.grad is not None})
    narrow, wide = gradients
    assert narrow.keys() == wide.keys()
    for name in narrow:
        assert torch.allclose(narrow[name], wide[name], rtol=1e-3, atol=1e-6), name


def test_the_ends_of_the_panel_need_no_special_case(small_panel):
    early = small_panel.batch(starts(0))
    assert (early.x[:, :11] == 0).all()
    late = small_panel.batch(starts(258))
    assert not late.valid[2:].any() and not late.targets.mask[:, 2:].any()


def test_invalid_neighbours_are_masked_and_the_self_edge_stays(small_panel):
    batch = small_panel.batch(starts(60))
    neighbours, mask, _ = batch.graph
    for day in range(4):
        valid = batch.valid[day, 0]
        assert (mask[day, :, 0]).all()
        used = mask[day, :, 1:]
        assert valid[neighbours[day, :, 1:].long()][used].all()


@settings(max_examples=30, deadline=None)
@given(shift=st.integers(0, 50))
def test_every_training_day_is_in_every_epoch(small_panel, shift):
    first, last = small_panel.meta.block("train")
    chosen = small_panel.train_starts(shift)
    assert min(chosen) >= first and max(chosen) + 3 <= last
    covered = {s + i for s in chosen for i in range(4)}
    assert covered == set(range(first, last + 1))


def test_targets_are_gaussianised_ranks_of_excess_returns():
    rng = np.random.default_rng(0)
    returns = rng.standard_t(3, size=(2, 5, 40)) * 0.02
    returns[0, 1, 3] = np.nan
    returns[1, 2, :10] = 0.01
    valid = rng.random((5, 40)) < 0.8
    rank, z, mask, excess = excess_and_targets(torch.tensor(returns, dtype=torch.float32), torch.tensor(valid))
    for h in range(2):
        for t in range(5):
            m = valid[t] & np.isfinite(returns[h, t])
            assert mask[h, t].numpy().tolist() == m.tolist()
            y = returns[h, t, m].astype(np.float32)
            plain = scipy.stats.norm.ppf((scipy.stats.rankdata(y) - 0.5) / m.sum()).clip(-3, 3)
            np.testing.assert_allclose(rank[h, t].numpy()[m], plain, atol=1e-5)
            middle = np.sort(y)[(m.sum() - 1) // 2]
            if h == 0:
                np.testing.assert_allclose(excess[t].numpy()[m], y - middle, atol=1e-7)
            assert (rank[h, t].numpy()[~m] == 0).all() and (z[h, t].numpy()[~m] == 0).all()
    assert z.abs().max() <= 3.0


def test_labels_never_become_zero_when_unknown(small_panel):
    last = small_panel.returns[3, -20:]
    assert last.isnan().all() and not small_panel.label_mask[3, -20:].any()


def test_synthetic_signals_are_there_and_only_where_planted():
    panel = Panel.synthetic(names=200, days=320, features=8, neighbours=8, lookback=12, strength=0.15, seed=1)
    mask = panel.label_mask[0]
    oracle = spearman_by_day(panel.oracle[0], panel.returns[0], mask).nanmean().item()
    assert 0.2 < oracle < 0.4
    x = panel.x[:, 11 : 11 + panel.days]
    alone = [spearman_by_day(x[f], panel.returns[0], mask).nanmean().item() for f in range(8)]
    error = 1 / math.sqrt(200 * 300)
    assert alone[0] > 10 * error, "the level signal"
    assert abs(alone[4]) < 4 * error, "a shock means nothing for the name itself"
    assert all(abs(a) < 4 * error for a in alone[5:])
    again = Panel.synthetic(names=200, days=320, features=8, neighbours=8, lookback=12, strength=0.15, seed=1)
    assert torch.equal(panel.x, again.x) and torch.equal(panel.rank, again.rank)


def test_permuted_labels_keep_each_days_returns(small_panel):
    panel = Panel.synthetic(names=48, days=260, features=8, neighbours=5, lookback=12, chunk_days=4, seed=3)
    before = panel.returns.clone()
    panel.permute_labels(0)
    t = 100
    keep = panel.valid[t]
    assert not torch.equal(panel.returns[0, t, keep], before[0, t, keep])
    assert torch.equal(panel.returns[0, t, keep].sort().values, before[0, t, keep].sort().values)


def damaged(source, target, change):
    shutil.copytree(source, target)
    tensors = load_file(target / "panel.safetensors")
    document = json.loads((target / "panel.json").read_text())
    change(tensors, document)
    save_file(tensors, target / "panel.safetensors")
    (target / "panel.json").write_text(json.dumps(document))
    return target


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, d: t.pop("valid"), "lacks valid"),
        (lambda t, d: d["codes"].append("99999"), "panel.json implies"),
        (lambda t, d: t["x"].__setitem__((50, 3, 2), float("nan")), "planted_right holds a value that is not finite"),
        (lambda t, d: t["neighbours"].__setitem__((0, 0, 1), 4000), "name indices"),
        (lambda t, d: d.update(format=2), "reads format 1"),
        (lambda t, d: d.pop("horizons"), "horizons"),
        (lambda t, d: d["split"].update(validation=["1999-01-01", "1999-02-01"]), "holds no trading day"),
        (lambda t, d: t.update(valid=t["valid"][:-1].clone()), "valid has shape"),
    ],
)
def test_a_damaged_panel_is_refused_with_the_reason(panel_directory, tmp_path, change, words):
    directory = damaged(panel_directory, tmp_path / "p", change)
    with pytest.raises(PanelError, match=words):
        Panel.load(directory, lookback=12, chunk_days=4)


def test_a_missing_panel_says_what_to_do(tmp_path):
    with pytest.raises(PanelError, match="materialize training_panel"):
        read_meta(tmp_path)
