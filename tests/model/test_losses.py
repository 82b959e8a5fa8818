"""Losses: known optima, gradients against finite differences, invariances, the cap."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_model import losses
from atft_model.interchange.config import LossWeights
from atft_model.losses import Targets

W = torch.tensor([0.6, 0.4])


def problem(seed=0, days=3, chunks=2, names=40):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, days, chunks, names, generator=g)
    rank = torch.randn(2, days, chunks, names, generator=g)
    mask = torch.rand(2, days, chunks, names, generator=g) > 0.2
    excess = 0.02 * torch.randn(days, chunks, names, generator=g)
    known = mask[0]
    return scores, Targets(rank * mask, rank.clamp(-2, 2) * mask, mask, excess * known, known)


def test_correlation_loss_has_its_optimum_at_the_target():
    _, t = problem()
    assert losses.correlation_loss(3.0 * t.rank + 5.0, t.rank, t.mask, W).item() == pytest.approx(0.0, abs=1e-4)
    assert losses.correlation_loss(-t.rank, t.rank, t.mask, W).item() == pytest.approx(2.0, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_ranking_terms_ignore_level_and_scale_the_anchor_does_not(seed, scale, shift):
    s, t = problem(seed)
    base = losses.correlation_loss(s, t.rank, t.mask, W)
    assert losses.correlation_loss(s * scale + shift, t.rank, t.mask, W).item() == pytest.approx(base.item(), abs=1e-3)
    assert losses.anchor_loss(s + 3.0, t.rank, t.mask, W) > losses.anchor_loss(s, t.rank, t.mask, W)


def test_correlation_is_torchs_own_on_the_masked_names():
    s, t = problem()
    ours, counts = losses.day_correlation(s, t.rank, t.mask)
    assert counts.all()
    for z in range(2):
        for b in range(3):
            for g in range(2):
                m = t.mask[z, b, g]
                plain = torch.corrcoef(torch.stack([s[z, b, g, m], t.rank[z, b, g, m]]))[0, 1]
                assert ours[z, b, g].item() == pytest.approx(plain.item(), abs=1e-5)


def test_masked_names_and_thin_days_do_not_count():
    s, t = problem()
    moved = torch.where(t.mask, s, torch.full_like(s, 100.0))
    assert torch.equal(losses.correlation_loss(moved, t.rank, t.mask, W), losses.correlation_loss(s, t.rank, t.mask, W))
    thin = t.mask.clone()
    thin[:, 0] = False
    thin[:, 0, :, :5] = True
    without = losses.correlation_loss(s[:, 1:], t.rank[:, 1:], t.mask[:, 1:], W)
    assert losses.correlation_loss(s, t.rank, thin, W).item() == pytest.approx(without.item(), abs=1e-6)


def test_positions_are_long_short():
    s, t = problem()
    w = losses.positions(s[0], t.known)
    assert torch.allclose(w.sum(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(w.abs().sum(-1), torch.ones(()), atol=1e-5)
    assert (w[~t.known] == 0).all()


def test_sharpe_loss_prefers_the_future_and_its_differential_form_points_the_same_way():
    s, t = problem(names=200, days=12)
    good = losses.portfolio_returns(t.excess, t.excess, t.known)
    poor = losses.portfolio_returns(s[0], t.excess, t.known)
    assert losses.sharpe_loss(good) < losses.sharpe_loss(poor)
    r = (0.01 * torch.randn(400) + 0.002).requires_grad_()
    moments = torch.stack([r.detach().mean(), r.detach().square().mean(), torch.tensor(1.0)])
    (direct,) = torch.autograd.grad(losses.sharpe_loss(r), r)
    (differential,) = torch.autograd.grad(losses.differential_sharpe_loss(r, moments[:2]), r)
    assert torch.nn.functional.cosine_similarity(direct, differential, dim=0) > 0.999


def test_every_term_has_a_gradient_that_matches_finite_differences():
    s, t = problem(days=2, chunks=1, names=12)
    s = s.double()
    t = Targets(t.rank.double(), t.z.double(), torch.ones_like(t.mask), t.excess.double(), torch.ones_like(t.known))
    w = W.double()
    moments = torch.tensor([0.001, 0.0002], dtype=torch.float64)
    terms = {
        "rank": lambda p: losses.correlation_loss(p, t.rank, t.mask, w),
        "anchor": lambda p: losses.anchor_loss(p, t.rank, t.mask, w),
        "sharpe": lambda p: losses.sharpe_loss(losses.portfolio_returns(p[0], t.excess, t.known)),
        "differential": lambda p: losses.differential_sharpe_loss(
            losses.portfolio_returns(p[0], t.excess, t.known), moments
        ),
        "turnover": lambda p: losses.turnover(p[0], t.known),
    }
    for term in terms.values():
        assert torch.autograd.gradcheck(term, s.clone().requires_grad_(), atol=1e-4, rtol=1e-3)


def test_sharpe_share_of_the_gradient_is_capped():
    s, t = problem(days=8, names=100)
    moments = torch.zeros(3)
    plain, _, _ = losses.score_gradients(s, None, t, LossWeights(sharpe=0.0), W, (), moments)
    for weight in (0.1, 1e6):
        both, terms, new = losses.score_gradients(s, None, t, LossWeights(sharpe=weight), W, (), moments)
        extra = both[0] - plain[0]
        assert extra.norm() > 0
        assert extra.norm() <= 0.2501 / (1 - 0.2) * plain[0].norm()
        assert {"rank_ic", "ic", "sharpe"} == set(terms) and new[2] == 1


def test_weights_are_obeyed():
    """Halving a weight halves the term; a term with weight 0 is absent."""
    s, t = problem()
    _, full, _ = losses.score_gradients(s, None, t, LossWeights(anchor=0.4), W, (), torch.zeros(3))
    _, half, _ = losses.score_gradients(s, None, t, LossWeights(anchor=0.2, ic=0.0, sharpe=0.0), W, (), torch.zeros(3))
    assert half["anchor"].item() == pytest.approx(full["anchor"].item() / 2)
    assert set(half) == {"rank_ic", "anchor"}
    with pytest.raises(ValueError, match="no ranking term"):
        losses.score_gradients(s, None, t, LossWeights(rank_ic=0, ic=0), W, (), torch.zeros(3))


def test_pinball_is_minimised_at_the_quantile():
    torch.manual_seed(0)
    target = torch.randn(1, 1, 1, 20000)
    mask = torch.ones_like(target, dtype=torch.bool)
    at = [
        losses.pinball_loss(torch.full((1, 1, 1, 1, 20000), q), target, mask, (0.9,), torch.ones(1))
        for q in (1.0, 1.2816, 1.6)
    ]
    assert at[1] < at[0] and at[1] < at[2]
