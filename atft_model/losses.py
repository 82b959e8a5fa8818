"""Losses on the scores of a step, each named for what it computes; pure functions, masked, float32.

Scores and targets are [H, B, G, W]: horizons, consecutive days, chunks, names. A (day, horizon) with fewer than
MIN_NAMES valid names does not count. Horizons are weighted as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from atft_model.interchange.config import LossWeights
from atft_model.interchange.horizons import MIN_NAMES

EPS = 1e-6
SHARPE_SHARE = 0.2  # of the gradient norm at the scores, at most, for the Sharpe and turnover terms: the noisiest
MOMENT_DECAY = 0.98
SHORT_STEP = 32  # days of a step below which its own variance is no estimate


def masked_standardise(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(values [..., W] with mean 0, variance 1 over masked names and 0 elsewhere, whether enough are there [...])."""
    weight = mask.to(values.dtype)
    count = weight.sum(-1, keepdim=True)
    mean = (values * weight).sum(-1, keepdim=True) / count.clamp_min(1.0)
    centred = (values - mean) * weight
    variance = centred.square().sum(-1, keepdim=True) / count.clamp_min(1.0)
    return centred * torch.rsqrt(variance + EPS), count.squeeze(-1) >= MIN_NAMES


def day_correlation(scores: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(Pearson correlation over names per day, whether the day counts); all [..., W] -> [...]."""
    z, counts = masked_standardise(scores, mask)
    t, _ = masked_standardise(target, mask)
    return (z * t).sum(-1) / mask.sum(-1).clamp_min(1), counts


def over_days(values: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """Mean over the counting days of each horizon ([H, ...] -> [H]), then the horizon-weighted sum; a scalar."""
    values, kept = values.flatten(1), counts.flatten(1).to(values.dtype)
    return ((values * kept).sum(1) / kept.sum(1).clamp_min(1.0) * weights).sum()


def correlation_loss(scores: Tensor, target: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """1 - mean per-day Pearson correlation; scores, target, mask [H, B, G, W], weights [H]; a scalar.

    With gaussianised ranks as target it is the RankIC term, with z-scores the IC.
    """
    correlation, counts = day_correlation(scores, target, mask)
    return over_days(1.0 - correlation, counts, weights)


def anchor_loss(scores: Tensor, target: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error per day against the gaussianised rank; the only term that sees the scale of the scores."""
    error = (scores - target).square() * mask
    return over_days(error.sum(-1) / mask.sum(-1).clamp_min(1), mask.sum(-1) >= MIN_NAMES, weights)


def positions(scores: Tensor, mask: Tensor) -> Tensor:
    """Long-short weights per day from scores [..., W]: tanh(z/2), demeaned, summing to 1 in absolute value."""
    z, _ = masked_standardise(scores, mask)
    raw = torch.tanh(z / 2) * mask
    raw = (raw - raw.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp_min(1)) * mask
    return raw / raw.abs().sum(-1, keepdim=True).clamp_min(EPS)


def portfolio_returns(scores: Tensor, excess: Tensor, mask: Tensor) -> Tensor:
    """Per-day return of `positions` on 1-day market-excess returns; all [B, G, W] -> [B, G]."""
    return (positions(scores, mask) * excess * mask).sum(-1)


def sharpe_loss(returns: Tensor) -> Tensor:
    """Minus mean over standard deviation of the days' portfolio returns [B, G] (not annualised); a scalar."""
    return -returns.mean() * torch.rsqrt(returns.var(correction=0) + 1e-12)


def differential_sharpe_loss(returns: Tensor, moments: Tensor) -> Tensor:
    """Moody and Saffell's differential Sharpe ratio around running moments (mean, mean square), for short steps.

    The gradient with respect to a day's return is that of the long-run Sharpe ratio, so 16 days do not have to
    estimate a variance of their own. returns [B, G]; moments [2] carries no gradient.
    """
    mean, square = moments.detach().unbind()
    variance = (square - mean.square()).clamp_min(1e-12)
    return -((square * returns - 0.5 * mean * returns.square()) * variance.pow(-1.5)).mean()


def turnover(scores: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute change of the positions from one day to the next inside a chunk; [B, G, W], 0 if B is 1."""
    weights = positions(scores, mask)
    if weights.shape[0] < 2:
        return weights.sum() * 0.0
    return (weights[1:] - weights[:-1]).abs().sum(-1).mean()


def pinball_loss(quantiles: Tensor, target: Tensor, mask: Tensor, levels: Sequence[float], weights: Tensor) -> Tensor:
    """Quantile loss, mean over levels; quantiles [H, Q, ...], target and mask [H, ...]."""
    parts = [
        torch.maximum(level * (target - q), (level - 1.0) * (target - q))
        for level, q in zip(levels, quantiles.unbind(1), strict=True)
    ]
    loss = torch.stack(parts).mean(0) * mask
    return over_days(loss.sum(-1) / mask.sum(-1).clamp_min(1), mask.sum(-1) >= MIN_NAMES, weights)


@dataclass(frozen=True)
class Targets:
    """What a step's scores are compared with; all [H, B, G, W] but excess and known, [B, G, W]."""

    rank: Tensor
    z: Tensor
    mask: Tensor
    excess: Tensor  # 1-day market-excess return, 0 where unknown
    known: Tensor  # where excess is known


def score_gradients(
    scores: Tensor, quantiles: Tensor | None, targets: Targets, loss: LossWeights, weights: Tensor,
    levels: Sequence[float], moments: Tensor,
) -> tuple[list[Tensor], Mapping[str, Tensor], Tensor]:  # fmt: skip
    """Gradients with respect to scores (and quantiles), the value of each term, and the updated portfolio moments.

    Args:
        scores: [H, B, G, W].
        quantiles: [H, Q, B, G, W] at `levels`, or None.
        weights: [H] of the horizons, summing to 1.
        moments: [3]: mean, mean square, number of steps seen.

    The terms meet at the scores, so the cap on the Sharpe share is applied there, and the network itself is
    differentiated once.
    """
    p = scores.detach().float().requires_grad_()
    terms: dict[str, Tensor] = {}
    if loss.rank_ic:
        terms["rank_ic"] = loss.rank_ic * correlation_loss(p, targets.rank, targets.mask, weights)
    if loss.ic:
        terms["ic"] = loss.ic * correlation_loss(p, targets.z, targets.mask, weights)
    if loss.anchor:
        terms["anchor"] = loss.anchor * anchor_loss(p, targets.rank, targets.mask, weights)
    noisy: dict[str, Tensor] = {}
    # the step's own ratio is what is logged: the differential form has the right gradient, not a readable value
    shown: dict[str, Tensor] = {}
    if loss.sharpe:
        returns = portfolio_returns(p[0], targets.excess, targets.known)
        seen = torch.stack([returns.mean(), returns.square().mean()]).detach()
        keep = torch.where(moments[2] > 0, MOMENT_DECAY, 0.0)
        moments = torch.cat([keep * moments[:2] + (1.0 - keep) * seen, moments[2:] + 1.0])
        short = returns.numel() < SHORT_STEP
        term = differential_sharpe_loss(returns, moments[:2]) if short else sharpe_loss(returns)
        noisy["sharpe"] = loss.sharpe * term
        shown["sharpe"] = loss.sharpe * sharpe_loss(returns)
    if loss.turnover:
        noisy["turnover"] = loss.turnover * turnover(p[0], targets.known)
    if not terms:
        raise ValueError(f"the loss has no ranking term: {asdict(loss)}")
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), p)
    if noisy:
        (extra,) = torch.autograd.grad(torch.stack(list(noisy.values())).sum(), p)
        allowed = SHARPE_SHARE / (1.0 - SHARPE_SHARE) * gradient.norm()
        gradient = gradient + extra * (allowed / extra.norm().clamp_min(1e-12)).clamp(max=1.0)
    gradients = [gradient]
    values = {name: value.detach() for name, value in (terms | noisy | shown).items()}
    if quantiles is not None:
        q = quantiles.detach().requires_grad_()
        term = loss.pinball * pinball_loss(q, targets.rank, targets.mask, levels, weights)
        gradients.append(torch.autograd.grad(term, q)[0])
        values["pinball"] = term.detach()
    return gradients, values, moments


def gaussianise(ranks: Tensor, counts: Tensor) -> Tensor:
    """Standard normal quantile of ranks 1..n (ties averaged), clipped to +-3; counts broadcasts against ranks."""
    share = ((ranks - 0.5) / counts.clamp_min(1)).clamp(1e-6, 1 - 1e-6)
    return torch.special.ndtri(share).clamp(-3.0, 3.0)
