"""Layers against plain, slow definitions of the same thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_model.graph import edge_list, shuffled
from atft_model.layers import (
    FAN_FLOOR,
    SAN,
    Dropout,
    Heads,
    InterpretableAttention,
    NewestRow,
    VariableSelection,
    band_mask,
    trailing_z,
)
from tests.model.conftest import TINY, again, awake, starts


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 40), window=st.integers(2, 25), seed=st.integers(0, 99), level=st.floats(-50, 50))
def test_trailing_z_is_the_plain_definition(rows, window, seed, level):
    x = np.random.default_rng(seed).normal(level, 1.0, (2, rows, 3)).astype(np.float32)
    ours = trailing_z(torch.from_numpy(x), (window,))[0].numpy()
    for t in range(rows):
        part = x[:, max(0, t - window + 1) : t + 1].astype(np.float64)
        plain = (part[:, -1] - part.mean(1)) / np.maximum(part.std(1), FAN_FLOOR)
        np.testing.assert_allclose(ours[:, t], plain, atol=2e-3 if part.shape[1] < 3 else 5e-4)


def test_the_newest_row_is_two_normalised_layers():
    torch.manual_seed(0)
    part = NewestRow(5, 12, 8, 0.3).eval()
    x = torch.randn(3, 7, 5, dtype=torch.float64)
    state = x.numpy()
    for layer, norm in ((part.first, part.first_norm), (part.second, part.second_norm)):
        z = state @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + norm.eps)
        state = z / (1 + np.exp(-z))
    np.testing.assert_allclose(part.double()(x).detach().numpy(), state, atol=1e-6)
    part.train()
    assert 0.2 < (part(x) == 0).double().mean() < 0.4, "a state of training drops what dropout says"


def test_selection_is_a_loop_over_inputs():
    torch.manual_seed(0)
    vsn = VariableSelection(5, 4, 8, 16)
    x = torch.randn(5, 30)
    weights = vsn.weights(x)
    assert torch.allclose(weights.sum(0), torch.ones(30), atol=1e-6)
    parts = []
    for f in range(5):
        e = torch.nn.functional.elu(x[f][:, None] * vsn.scale[f, :, 0] + vsn.shift[f, :, 0])
        a, b = (e @ vsn.mix[f].T + vsn.mix_bias[f, :, 0]).chunk(2, -1)
        parts.append(a * torch.sigmoid(b) * weights[f][:, None] * 5)
    assert torch.allclose(vsn(x), vsn.norm(vsn.project(torch.cat(parts, -1))), atol=1e-5)


def test_attention_is_one_window_per_day():
    torch.manual_seed(0)
    attention = InterpretableAttention(16, 4)
    x = torch.randn(9, 6, 16)  # 9 rows, 6 names, the last 4 rows are days that see 6 rows each
    out, weights = attention(x, 4, 6), attention.weights(x, 4, 6)
    for day in range(4):
        rows = x[day : day + 6]
        assert torch.allclose(out[day], attention(rows, 1, 6)[0], atol=1e-6)
        values = attention.out(torch.einsum("ns,snd->nd", weights[:, day, day : day + 6], attention.value(rows)))
        assert torch.allclose(out[day], values, atol=1e-5), "the averaged weights are not what the output was made of"
        assert (weights[:, day, :day] == 0).all() and (weights[:, day, day + 6 :] == 0).all()


@pytest.mark.parametrize(("queries", "lookback"), [(4, 6), (16, 20), (40, 12), (33, 5)])
def test_attention_by_tiles_equals_the_fused_kernel(queries, lookback):
    """The CPU's path against scaled_dot_product_attention with the whole band."""
    torch.manual_seed(0)
    attention = InterpretableAttention(16, 4)
    x = torch.randn(lookback + queries - 1, 3, 16)
    q, k = attention._split(attention.query(x[-queries:])), attention._split(attention.key(x))
    v = attention.value(x).transpose(0, 1)[:, None].expand(-1, 4, -1, -1)
    mask = band_mask(queries, x.shape[0], lookback, x.device)
    whole = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).mean(1)
    assert torch.allclose(attention(x, queries, lookback), attention.out(whole).transpose(0, 1), atol=1e-5)
    all_rows = attention(x, x.shape[0], lookback)  # every row asks: the first ones see less than the lookback
    assert torch.allclose(all_rows[-queries:], attention(x, queries, lookback), atol=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_dropout_keeps_the_mean_and_its_rate(rate):
    torch.manual_seed(0)
    drop = Dropout(rate)
    x = torch.ones(400, 333)
    y = drop(x)
    assert (y == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    zero = (y == 0).float()
    assert abs(torch.corrcoef(torch.stack([zero[:, :-8].flatten(), zero[:, 8:].flatten()]))[0, 1]) < 0.02
    assert torch.equal(drop.eval()(x), x)


def test_band_mask_shape():
    mask = band_mask(3, 7, 4, torch.device("cpu"))
    assert mask.sum(1).tolist() == [4, 4, 4]
    assert mask[0].nonzero().flatten().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("lookback", "slices"), [(12, 3), (20, 3), (60, 4)])
def test_san_statistics_cover_the_window(lookback, slices):
    san = SAN(5, lookback, slices, 4)
    assert san.edges[0][0] == 0 and san.edges[-1][1] == lookback
    assert all(a[1] == b[0] for a, b in zip(san.edges[:-1], san.edges[1:], strict=True))
    rows = torch.randn(lookback + 2, 7, 5) + 3.0
    stats = san.statistics(rows, 3)
    for day in range(3):
        window = rows[day : day + lookback].double()
        mean = torch.cat([window[a:b].mean(0) for a, b in san.edges], -1)
        sd = torch.cat([window[a:b].std(0, correction=0) for a, b in san.edges], -1)
        assert torch.allclose(stats[day].double(), torch.cat([mean, sd], -1), atol=1e-4)


def test_quantiles_increase_and_cannot_pull_the_trunk():
    torch.manual_seed(0)
    heads = Heads(16, 4, 8, (0.1, 0.5, 0.9), 0.0)
    state = torch.randn(50, 16, requires_grad=True)
    scores, quantiles = heads(state)
    assert scores.shape == (4, 50) and quantiles.shape == (4, 3, 50)
    assert (quantiles[:, 1:] > quantiles[:, :-1]).all()
    quantiles.sum().backward()
    assert state.grad is None or state.grad.abs().max() == 0
    assert heads.trunk.expand.weight.grad is None or heads.trunk.expand.weight.grad.abs().max() == 0


def test_heads_stay_float32_under_autocast(small_panel):
    model = awake(TINY, small_panel)
    batch = small_panel.batch(starts(100))
    exact = model(*batch.inputs).scores
    half = again(model, compute_dtype=torch.bfloat16)
    with half.precision():
        scores = half(*batch.inputs).scores
    assert scores.dtype == torch.float32
    assert torch.corrcoef(torch.stack([scores.flatten(), exact.flatten()]))[0, 1] > 0.999
    assert len(scores[0, 0].unique()) == scores.shape[-1]


def test_edges_of_a_table():
    neighbours = torch.tensor([[[0, 1], [1, 1]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    edges, kept = edge_list(neighbours, mask)
    assert edges.tolist() == [[0, 1, 1], [0, 0, 1]] and kept.tolist() == [0, 1, 2]


def test_shuffled_edges_keep_the_self_edge_and_the_shape(small_panel):
    new = shuffled(small_panel.neighbours, 0)
    assert torch.equal(new[..., 0], small_panel.neighbours[..., 0])
    assert (new[..., 1:] != small_panel.neighbours[..., 1:]).float().mean() > 0.8
    assert torch.equal(new, shuffled(small_panel.neighbours, 0))
