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

from atft_model.curriculum import phase_plan
from atft_model.fit import Fit
from atft_model.interchange.config import NEWEST_ROW, Switches
from atft_model.interchange.errors import PanelError
from atft_model.interchange.hashes import tensor_hash
from atft_model.interchange.panel import write_description
from atft_model.metrics import spearman_by_day
from atft_model.panel import DevicePanel, Draw, excess_and_targets
from atft_model.predict import score_days
from atft_model.synthetic import Shape, synthetic, write
from tests.model.conftest import SMALL, awake, last_days, starts


def test_a_written_panel_reads_back(small_panel, panel_directory):
    loaded = DevicePanel.load(panel_directory, lookback=12, chunk_days=4)
    n = len(small_panel.description.codes)
    assert replace(loaded.description, bytes=0, hashes={}, seal="") == small_panel.description
    assert loaded.names % 16 == 0 and not loaded.valid[:, n:].any()
    assert torch.allclose(loaded.x[:, :n], small_panel.x[:, :n], atol=0.02)  # stored as bfloat16
    assert torch.allclose(loaded.sequences[..., :n], small_panel.sequences[..., :n], atol=0.02)
    assert loaded.description.sequences == tuple(range(6)) and loaded.sequences.shape[:2] == (6, 11 + loaded.days)
    for name in ("valid", "rank", "z", "excess"):
        assert torch.equal(getattr(loaded, name)[..., :n], getattr(small_panel, name)[..., :n]), name
    for name in ("neighbours", "neighbour_mask"):
        assert torch.equal(getattr(loaded, name)[:, :n], getattr(small_panel, name)[:, :n]), name


def test_the_written_bytes_are_safetensors(small_panel, panel_directory):
    """The writer is NumPy's; the format's own library reads the same tensors."""
    tensors = load_file(panel_directory / "panel.safetensors")
    n = len(small_panel.description.codes)
    assert torch.equal(tensors["x"], small_panel.x[:, :n].to(torch.bfloat16))
    assert torch.equal(tensors["valid"], small_panel.valid[:, :n])
    assert torch.equal(tensors["y_cc"].nan_to_num(9.0), small_panel.returns[..., :n].nan_to_num(9.0))
    assert torch.equal(tensors["neighbour_attr"], small_panel.neighbour_attr[:, :n])


def parts(panel, **changes):
    """The tensors of a resident panel, some of them replaced."""
    names = (
        "x", "sequences", "valid", "returns", "one_day", "neighbours", "neighbour_mask", "neighbour_attr",
        "graph_period",
    )  # fmt: skip
    return {name: getattr(panel, name) for name in names} | changes


def test_what_is_learned_may_differ_from_what_is_judged(small_panel, tmp_path):
    p = small_panel
    learned = -p.returns
    learned[:, 50, 3] = torch.nan
    panel = DevicePanel(
        replace(p.description, target="y_neutral"), parts(p, learned=learned), lookback=12, chunk_days=4
    )
    write(tmp_path, panel)
    loaded = DevicePanel.load(tmp_path, lookback=12, chunk_days=4)
    n = len(p.description.codes)
    assert torch.equal(loaded.returns[..., :n].nan_to_num(), p.returns[..., :n].nan_to_num())
    assert torch.allclose(loaded.rank[:, :50, :n], -p.rank[:, :50, :n], atol=1e-6)
    assert p.label_mask[0, 50, 3] and not loaded.label_mask[0, 50, 3]
    before = loaded.rank.clone(), loaded.returns.clone()
    loaded.permute_labels(0)
    for was, now in zip(before, (loaded.rank, loaded.returns), strict=True):
        assert not torch.equal(was.nan_to_num(), now.nan_to_num())
    known = loaded.label_mask & torch.isfinite(loaded.returns)
    assert (spearman_by_day(loaded.rank[0], loaded.returns[0], known[0]).nanmean() + 1).abs() < 0.05
    assert torch.equal(loaded.one_day[:, :n].nan_to_num(), p.returns[0, :, :n].nan_to_num()), (
        "volatility is not permuted"
    )


def test_neutral_figures_need_sectors_and_one_day_returns(small_panel):
    p = small_panel
    without = DevicePanel(
        replace(p.description, sector33=(), horizons=(2, 5, 10, 20)), parts(p), lookback=12, chunk_days=4
    )
    with pytest.raises(PanelError, match="has no sector33"):
        without.sectors()
    with pytest.raises(PanelError, match="no one-day returns"):
        without.volatility_on(range(30, 40))
    assert p.sectors().shape == (p.names,) and p.volatility_on(range(30, 40)).shape == (10, p.names)


def test_chunks_are_slices_of_the_panel(small_panel):
    batch = small_panel.batch(starts(30, 100))
    assert batch.windows.shape == (6, 15, 2, 48) and batch.targets.rank.shape == (4, 4, 2, 48)
    assert batch.newest.shape == (8, 48, 8)
    for g, day in enumerate((30, 100)):
        first = day  # padded row of day - 11
        assert torch.equal(batch.windows[:, :, g], small_panel.sequences[:, first : first + 15])
        assert torch.equal(batch.windows[:, 11:, g], small_panel.x[day : day + 4, :, :6].movedim(-1, 0))
        assert torch.equal(batch.newest[g::2], small_panel.x[day : day + 4])
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

    def panel() -> DevicePanel:
        p = small_panel
        changed = parts(p, valid=p.valid & members, returns=p.returns.clone())
        return DevicePanel(p.description, changed, lookback=p.lookback, chunk_days=p.chunk_days)

    narrow, wide = panel(), panel()
    assert narrow.width == 32 and wide.names == 48
    wide.width = wide.names
    return narrow, wide


def test_narrow_chunks_hold_the_eligible_names(rotating_panel):
    narrow, wide = rotating_panel
    a, b = narrow.batch(starts(18, 100)), wide.batch(starts(18, 100))
    assert a.windows.shape == (6, 15, 2, 32) and a.graph.neighbours.shape[1] == 32
    for g in range(2):
        names = a.names[g]
        assert len(set(names.tolist())) == 32
        assert set(b.valid[:, g].any(0).nonzero().squeeze(1).tolist()) <= set(names.tolist())
        assert torch.equal(a.windows[:, :, g], b.windows[:, :, g, names])
        assert torch.equal(a.newest[g::2], b.newest[g::2, names])
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
def test_the_width_of_chunks_changes_no_score(rotating_panel, small_fold, tiny, block):
    narrow, wide = rotating_panel
    model = awake(tiny, narrow)
    days = small_fold.places(narrow.dates, block)
    valid = narrow.valid_on(days)
    ours, theirs = (score_days(model, p, days)[:, valid] for p in (narrow, wide))
    assert torch.isfinite(ours).all() and torch.allclose(ours, theirs, atol=1e-6)


def test_the_width_of_chunks_changes_no_gradient(rotating_panel, small_fold, tiny):
    gradients = []
    for panel in rotating_panel:
        fit = Fit(panel, small_fold, tiny, phase_plan(2), seed=1)
        fit.backward(panel.batch(starts(18, 100)))
        gradients.append({n: p.grad for n, p in fit.model.named_parameters() if p.grad is not None})
    narrow, wide = gradients
    assert narrow.keys() == wide.keys()
    for name in narrow:
        assert torch.allclose(narrow[name], wide[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("windows", [True, False])
def test_a_draw_is_of_the_eligible_names_and_always_the_same(small_panel, windows):
    panel = small_panel if windows else small_panel.newest_rows()
    whole = panel.batch(starts(60, 100))
    drawn = panel.batch(starts(60, 100), Draw(20, 7))
    assert torch.equal(drawn.names, panel.batch(starts(60, 100), Draw(20, 7)).names)
    assert not torch.equal(drawn.names, panel.batch(starts(60, 100), Draw(20, 8)).names)
    assert drawn.newest.shape == (len(whole.newest), 20, 8) and drawn.graph.mask.shape[1] == 20
    assert (drawn.windows is not None) == windows
    for g in range(2):
        names = drawn.names[g]
        assert len(set(names.tolist())) == 20 and whole.valid[:, g, names].any(0).all()
        assert torch.equal(drawn.newest[g::2], whole.newest[g::2, names])
        if windows:
            assert torch.equal(drawn.windows[:, :, g], whole.windows[:, :, g, names])
        for d in range(panel.chunk_days):
            mask, neighbours = drawn.graph.mask[2 * d + g], drawn.graph.neighbours[2 * d + g]
            theirs, eligible = whole.graph.neighbours[2 * d + g, names], whole.graph.mask[2 * d + g, names]
            present = torch.isin(theirs, names.to(theirs.dtype)) & eligible
            present[:, 0] = True
            assert torch.equal(mask, present), "a neighbour counts where it is eligible and drawn"
            assert torch.equal(names[neighbours.long()][mask], theirs[mask].long())
    assert panel.batch(starts(60), Draw(48, 7)).newest.shape[1] == 48, "there are no more to draw"


def test_every_eligible_name_is_as_likely_to_be_drawn(small_panel):
    panel = small_panel.newest_rows()
    eligible = panel.valid[100].nonzero().squeeze(1)
    counts = torch.zeros(panel.names)
    for seed in range(600):
        counts[panel.batch(starts(100), Draw(10, seed)).names[0]] += 1
    share = counts[eligible] / 600
    assert counts.sum() == counts[eligible].sum() == 6000
    assert (share - 10 / len(eligible)).abs().max() < 5 * math.sqrt(0.25 / 600)


def test_fewer_eligible_names_than_are_drawn_are_filled_up_with_others(rotating_panel):
    narrow, _ = rotating_panel
    batch = narrow.batch(starts(101), Draw(24, 0))
    eligible = narrow.valid[101:105].any(0).nonzero().squeeze(1)
    assert len(eligible) < 24 and set(eligible.tolist()) <= set(batch.names[0].tolist())
    assert int(batch.valid.sum()) == int(narrow.valid[101:105].sum())


def test_the_newest_rows_are_those_of_the_windows_reader(small_panel, tiny):
    """Without windows, a day a chunk: the same rows, and the same scores of a network that reads no sequence."""
    alone = small_panel.newest_rows()
    assert alone.batch(starts(100)).windows is None and alone.chunk_days == 1 and small_panel.chunk_days == 4
    both = small_panel.batch(starts(100))
    single = alone.batch(starts(100, 101, 102, 103))
    assert torch.equal(both.newest, single.newest)
    assert torch.equal(both.targets.rank[:, :, 0], single.targets.rank[:, 0])
    model = awake(tiny, small_panel, NEWEST_ROW)
    assert torch.equal(model(*both.inputs).scores, model(*single.inputs).scores)
    assert small_panel.read_by(NEWEST_ROW, tiny.train).windows is False
    assert small_panel.read_by(Switches(), tiny.train).chunk_days == tiny.train.chunk_days


def test_the_ends_of_the_panel_need_no_special_case(small_panel):
    early = small_panel.batch(starts(0))
    assert (early.windows[:, :11] == 0).all()
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
def test_every_training_day_is_in_every_epoch(small_panel, small_fold, shift):
    days = small_fold.places(small_panel.dates, "train")
    chosen = small_panel.train_starts(days, shift)
    assert min(chosen) >= days[0] and max(chosen) + 3 <= days[-1]
    covered = {s + i for s in chosen for i in range(4)}
    assert covered == set(days)


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
    shape = Shape(names=200, days=320, features=8, neighbours=8, strength=0.15)
    panel, _ = synthetic(shape, lookback=12, seed=1)
    mask = panel.label_mask[0]
    oracle = spearman_by_day(panel.oracle[0], panel.returns[0], mask).nanmean().item()
    assert 0.2 < oracle < 0.4
    x = panel.x
    alone = [spearman_by_day(x[..., f], panel.returns[0], mask).nanmean().item() for f in range(8)]
    error = 1 / math.sqrt(200 * 300)
    assert alone[0] > 10 * error, "the level signal"
    assert abs(alone[4]) < 4 * error, "a shock means nothing for the name itself"
    assert all(abs(a) < 4 * error for a in alone[5:])
    again, _ = synthetic(shape, lookback=12, seed=1)
    assert torch.equal(panel.x, again.x) and torch.equal(panel.rank, again.rank)


def test_permuted_labels_keep_each_days_returns(small_panel):
    panel, _ = synthetic(SMALL, lookback=12, chunk_days=4, seed=3)
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
    document["bytes"] = (target / "panel.safetensors").stat().st_size
    hashes = {name: tensor_hash(tensor.contiguous().view(torch.uint8).numpy()) for name, tensor in tensors.items()}
    write_description(target, {**document, "hashes": hashes})
    return target


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, d: t.pop("valid"), "lacks valid"),
        (lambda t, d: d["codes"].append("99999"), "panel.json implies"),
        (lambda t, d: t["x"].__setitem__((50, 3, 2), float("nan")), "planted_right holds a value that is not finite"),
        (lambda t, d: t["neighbours"].__setitem__((0, 0, 1), 4000), "name indices"),
        (lambda t, d: t["graph_period"].__setitem__(3, 99), "graph_period must lie in"),
        (lambda t, d: d.update(format=2), "has format 2, this version reads 3"),
        (lambda t, d: d.pop("horizons"), "horizons"),
        (lambda t, d: d.update(split={}), "unknown fields: split"),
        (lambda t, d: t.update(valid=t["valid"][:-1].clone()), "valid is BOOL"),
        (lambda t, d: t.update(y_cc=t["y_cc"].double()), "y_cc is F64"),
    ],
)
def test_a_damaged_panel_is_refused_with_the_reason(panel_directory, tmp_path, change, words):
    directory = damaged(panel_directory, tmp_path / "p", change)
    with pytest.raises(PanelError, match=words):
        DevicePanel.load(directory, lookback=12, chunk_days=4)


def test_a_missing_or_cut_panel_says_what_to_do(panel_directory, tmp_path):
    with pytest.raises(PanelError, match="materialize --select training_panel"):
        DevicePanel.load(tmp_path, lookback=12, chunk_days=4)
    shutil.copytree(panel_directory, tmp_path / "cut")
    with (tmp_path / "cut" / "panel.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(PanelError, match="has 1000 bytes instead of"):
        DevicePanel.load(tmp_path / "cut", lookback=12, chunk_days=4)


def test_a_panel_too_short_for_any_fold_can_be_loaded_and_scored(small_panel, panel_directory, tiny, tmp_path):
    last_days(panel_directory, tmp_path / "short", 15)
    short = DevicePanel.load(tmp_path / "short", lookback=12, chunk_days=4)
    scores = score_days(awake(tiny, short), short, short.description.places())
    assert scores.shape == (4, 15, 48) and torch.isfinite(scores[:, short.valid]).all()
