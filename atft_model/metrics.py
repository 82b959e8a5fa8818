"""Metrics of cross-sectional scores: per-day IC and RankIC, their means, t statistics and paired comparisons.

Everything is per day first, then averaged over days; days are never pooled before correlating. A day whose scores (or
returns) have no variance, or with fewer than MIN_NAMES names, is NaN and leaves the mean. Day-wise functions run on
the device of their input in float64; statistics over days are numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atft_model.config import horizon_weights
from atft_model.losses import MIN_NAMES

Array = NDArray[np.float64]


def average_ranks(values: Tensor, mask: Tensor) -> Tensor:
    """Ranks 1..n over the last dimension among masked entries, ties averaged; float64, meaningless outside the mask."""
    filled = torch.where(mask, values.double(), torch.inf)
    ordered = filled.sort(-1).values
    ordered, filled = ordered.contiguous(), filled.contiguous()
    low = torch.searchsorted(ordered, filled, right=False)
    high = torch.searchsorted(ordered, filled, right=True)
    return (low + high + 1).double() / 2


def pearson_by_day(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Correlation over names per day, [..., N] -> [...] float64; NaN where it is undefined."""
    weight = mask.double()
    count = weight.sum(-1, keepdim=True)

    def centred(values: Tensor) -> Tensor:
        values = torch.where(mask, values.double(), 0.0)
        return (values - values.sum(-1, keepdim=True) / count.clamp_min(1)) * weight

    a, b = centred(scores), centred(target)
    aa, bb = a.square().sum(-1), b.square().sum(-1)
    # a constant row leaves rounding noise of about 1e-32 of its squared level
    floor = 1e-24 * torch.where(mask, scores.double(), 0.0).square().sum(-1)
    defined = (count.squeeze(-1) >= MIN_NAMES) & (aa > floor) & (bb > 0)
    return torch.where(defined, (a * b).sum(-1) / (aa * bb).sqrt(), torch.nan)


def spearman_by_day(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Rank correlation over names per day, ties averaged; [..., N] -> [...]."""
    return pearson_by_day(average_ranks(scores, mask), average_ranks(target, mask), mask)


def newey_west_t(series: Sequence[float] | Array, lag: int) -> float:
    """t statistic of the mean of a daily series with Bartlett weights up to `lag` (h - 1 for an h-day label)."""
    x = np.asarray(series, dtype=np.float64)
    x = x[np.isfinite(x)]
    n = len(x)
    if n < 2:
        return float("nan")
    e = x - x.mean()
    variance = float(e @ e) / n
    for k in range(1, min(lag, n - 1) + 1):
        variance += 2.0 * (1.0 - k / (lag + 1)) * float(e[k:] @ e[:-k]) / n
    return float(x.mean() / np.sqrt(variance / n)) if variance > 0 else float("nan")


def icir(series: Sequence[float] | Array) -> float:
    """Mean over standard deviation (ddof 1) of a daily series, not annualised."""
    x = np.asarray(series, dtype=np.float64)
    x = x[np.isfinite(x)]
    return float(x.mean() / x.std(ddof=1)) if len(x) > 1 and x.std() > 0 else float("nan")


def nan_mean(series: Array) -> float:
    finite = series[np.isfinite(series)]
    return float(finite.mean()) if len(finite) else float("nan")


def paired_difference(
    ours: Sequence[float] | Array, theirs: Sequence[float] | Array, block: int = 20, draws: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Mean daily difference, its 95 % interval and a one-sided p for "not larger": circular block bootstrap."""
    d = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    d = d[np.isfinite(d)]
    n = len(d)
    if n < 2:
        return {"difference": float("nan"), "low": float("nan"), "high": float("nan"), "p": float("nan"), "days": n}
    block = max(1, min(block, n))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, n, size=(draws, -(-n // block)))
    index = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, :n] % n
    means = d[index].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    p = (1 + int((means - d.mean() >= d.mean()).sum())) / (draws + 1)
    return {"difference": float(d.mean()), "low": float(low), "high": float(high), "p": p, "days": n}


def score_degeneracy(scores: Tensor, valid: Tensor) -> dict[str, float]:
    """Spread and distinctness of scores [Z, D, N] over valid names [D, N].

    score_spread: median over days and horizons of the cross-sectional standard deviation; spread_ratio: the smallest
    over the median; distinct_share: the smallest share of distinct values on a day.
    """
    enough = valid.sum(-1) >= MIN_NAMES
    s, v = scores[:, enough].double(), valid[enough].expand(scores.shape[0], -1, -1)
    if not s.numel():
        nan = float("nan")
        return {"score_spread": nan, "spread_ratio": nan, "distinct_share": nan}
    n = v.sum(-1)
    mean = torch.where(v, s, 0.0).sum(-1, keepdim=True) / n[..., None]
    sd = (torch.where(v, s - mean, 0.0).square().sum(-1) / n).sqrt()
    ordered = torch.where(v, s, torch.inf).sort(-1).values
    distinct = ((ordered[..., 1:] != ordered[..., :-1]) & torch.isfinite(ordered[..., 1:])).sum(-1) + 1
    median = sd.median()
    return {
        "score_spread": median.item(),
        "spread_ratio": (sd.min() / median.clamp_min(1e-30)).item(),
        "distinct_share": (distinct / n).min().item(),
    }


def day_zscore(scores: Tensor, valid: Tensor) -> Tensor:
    """Scores standardised per day over valid names, NaN elsewhere: what ensemble members are averaged as."""
    s = torch.where(valid, scores.double(), 0.0)
    n = valid.sum(-1, keepdim=True).clamp_min(1)
    s = torch.where(valid, s - s.sum(-1, keepdim=True) / n, 0.0)
    sd = (s.square().sum(-1, keepdim=True) / n).sqrt().clamp_min(1e-12)
    return torch.where(valid, s / sd, torch.nan).float()


def residualise(values: Tensor, exposure: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Per-day residual of values [D, N] on one exposure [D, N] and group dummies [N] (Frisch-Waugh: demean by group
    first).

    A group with a single name that day has residual 0. Outside the mask the result is 0.
    """
    groups = int(group.max()) + 1
    onehot = torch.nn.functional.one_hot(group.long(), groups).double()  # [N, C]
    weight = mask.double()
    count = (weight @ onehot).clamp_min(1.0)

    def within(x: Tensor) -> Tensor:
        x = torch.where(mask, x.double(), 0.0)
        return (x - ((x @ onehot) / count) @ onehot.T) * weight

    v, e = within(values), within(exposure)
    slope = (v * e).sum(-1, keepdim=True) / e.square().sum(-1, keepdim=True).clamp_min(1e-12)
    return v - slope * e


def daily_series(scores: Tensor, returns: Tensor, valid: Tensor) -> dict[str, Array]:
    """Per-day RankIC and IC of scores and raw returns [Z, D, N] over valid names [D, N]; arrays [Z, D]."""
    mask = valid & torch.isfinite(returns) & torch.isfinite(scores)
    rank, pearson = [], []
    for z in range(scores.shape[0]):
        rank.append(spearman_by_day(scores[z], returns[z], mask[z]))
        pearson.append(pearson_by_day(scores[z], returns[z], mask[z]))
    return {"rank_ic": torch.stack(rank).cpu().numpy(), "ic": torch.stack(pearson).cpu().numpy()}


def summarise(series: dict[str, Array], horizons: tuple[int, ...]) -> dict[str, Any]:
    """Means, t statistics and ICIR by horizon, and the headline RankIC, of `daily_series`; keys as in run.json."""
    by_horizon = {
        "rank_ic_by_horizon": [nan_mean(row) for row in series["rank_ic"]],
        "t_newey_west_by_horizon": [newey_west_t(r, h - 1) for r, h in zip(series["rank_ic"], horizons, strict=True)],
        "ic_by_horizon": [nan_mean(row) for row in series["ic"]],
        "icir_by_horizon": [icir(row) for row in series["rank_ic"]],
    }
    headline = sum(w * m for w, m in zip(horizon_weights(horizons), by_horizon["rank_ic_by_horizon"], strict=True))
    return {
        "rank_ic": headline,
        **{key: {str(h): v for h, v in zip(horizons, values, strict=True)} for key, values in by_horizon.items()},
        "days": int(np.isfinite(series["rank_ic"]).any(0).sum()),
    }


def headline_series(series: dict[str, Array], horizons: tuple[int, ...]) -> Array:
    """Horizon-weighted RankIC of each day (weights renormalised over the horizons defined that day): what is paired."""
    weights = np.asarray(horizon_weights(horizons))[:, None] * np.isfinite(series["rank_ic"])
    total = weights.sum(0)
    values = (np.nan_to_num(series["rank_ic"]) * weights).sum(0)
    return np.where(total > 0, values / np.where(total > 0, total, 1.0), np.nan)
