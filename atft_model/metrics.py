"""Metrics of cross-sectional scores: per-day IC and RankIC, raw and neutral, and what they add up to.

Everything is per day first, then averaged over days; days are never pooled before correlating. A day whose scores (or
returns) have no variance, or with fewer than MIN_NAMES names, is NaN and leaves the mean. Day-wise functions run on
the device of their input in float64. They are the trainer's own, on purpose: `atft_assets.scoring` judges by a second
implementation, and `tests/test_both_sides.py` holds the two together. Horizons, weights and the statistics of daily
series are those of `interchange`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atft_model.interchange.horizons import MIN_NAMES, headline, horizon_weights
from atft_model.interchange.statistics import information_ratio, mean, mean_verdict

Array = NDArray[np.float64]

VOLATILITY_WINDOW = 20


def average_ranks(values: Tensor, mask: Tensor) -> Tensor:
    """Ranks 1..n of values [..., N] among masked entries, ties averaged; float64, meaningless outside the mask."""
    filled = torch.where(mask, values.double(), torch.inf)
    ordered = filled.sort(-1).values
    ordered, filled = ordered.contiguous(), filled.contiguous()
    low = torch.searchsorted(ordered, filled, right=False)
    high = torch.searchsorted(ordered, filled, right=True)
    return (low + high + 1).double() / 2


def pearson_by_day(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Correlation over names per day, all [..., N] -> [...] float64; NaN where it is undefined."""
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
    """Rank correlation over names per day, ties averaged; all [..., N] -> [...] float64."""
    return pearson_by_day(average_ranks(scores, mask), average_ranks(target, mask), mask)


def score_degeneracy(scores: Tensor, valid: Tensor) -> dict[str, float]:
    """Spread and distinctness of scores [H, D, N] over valid names [D, N].

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
    """Scores [H, D, N] standardised per day over valid names [D, N], NaN elsewhere: what members are averaged as."""
    s = torch.where(valid, scores.double(), 0.0)
    n = valid.sum(-1, keepdim=True).clamp_min(1)
    s = torch.where(valid, s - s.sum(-1, keepdim=True) / n, 0.0)
    sd = (s.square().sum(-1, keepdim=True) / n).sqrt().clamp_min(1e-12)
    return torch.where(valid, s / sd, torch.nan).float()


def trailing_volatility(one_day_returns: Tensor, days: range) -> Tensor:
    """Standard deviation (ddof 1) of the last VOLATILITY_WINDOW one-day returns that are known on each day.

    Args:
        one_day_returns: [T, N]; row t is the return from t to t+1, known on day t+1.
        days: places on T.

    Returns:
        [D, N] float64; NaN where fewer than half a window of returns are known.
    """
    window = VOLATILITY_WINDOW
    filled = torch.nn.functional.pad(one_day_returns.double(), (0, 0, window, 0), value=torch.nan)
    # row t of the padded series is the oldest return that day t can see, row t + window - 1 the newest
    rows = [filled[days.start + back : days.stop + back] for back in range(window)]
    known = [torch.isfinite(row) for row in rows]
    count = torch.stack(known).sum(0)
    # one row after the other, as the judge adds: equal windows then have equal volatilities on both sides
    total = torch.zeros_like(rows[0])
    for row, is_known in zip(rows, known, strict=True):
        total = total + torch.where(is_known, row, 0.0)
    average = total / count.clamp_min(1)
    square = torch.zeros_like(rows[0])
    for row, is_known in zip(rows, known, strict=True):
        square = square + torch.where(is_known, row - average, 0.0).square()
    variance = torch.where(count >= window // 2, square / (count - 1).clamp_min(1), torch.nan)
    # NumPy's root is correctly rounded; torch's can differ between two places of one tensor, and ties would be lost
    return torch.from_numpy(np.sqrt(variance.cpu().numpy())).to(variance.device)


def volatility_level(volatility: Tensor, mask: Tensor) -> Tensor:
    """Ranks of each day's volatilities among the masked names, centred; a name without one counts as average.

    Args:
        volatility: [D, N], NaN where unknown.
        mask: [D, N], the names that are judged.

    Returns:
        [D, N] float64, meaningless outside the mask.
    """
    known = mask & torch.isfinite(volatility)
    ranks = average_ranks(volatility, known)
    return torch.where(known, ranks - (known.sum(-1, keepdim=True) + 1) / 2, 0.0)


def residualise(values: Tensor, exposure: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Least-squares residual of each day's values on an exposure and group dummies (Frisch-Waugh: within groups first).

    Args:
        values, exposure: [D, N].
        group: [N], numbers from 0.
        mask: [D, N].

    Returns:
        [D, N] float64; 0 outside the mask, for a name that is alone in its group, and on days on which nothing but
        round-off is left.
    """
    groups = int(group.max()) + 1
    member = torch.nn.functional.one_hot(group.long(), groups).double()  # [N, groups]
    weight = mask.double()
    count = weight @ member

    def within(x: Tensor) -> Tensor:
        x = torch.where(mask, x.double(), 0.0)
        return (x - ((x @ member) / count.clamp_min(1.0)) @ member.T) * weight

    names = weight.sum(-1, keepdim=True).clamp_min(1.0)
    centred = torch.where(mask, values.double(), 0.0)
    centred = (centred - centred.sum(-1, keepdim=True) / names) * weight
    v, e = within(centred), within(exposure)
    power = e.square().sum(-1, keepdim=True)
    slope = torch.where(power > 1e-12, (v * e).sum(-1, keepdim=True) / power.clamp_min(1e-12), 0.0)
    residual = v - slope * e
    left = residual.square().sum(-1, keepdim=True) > 1e-20 * centred.square().sum(-1, keepdim=True)
    return torch.where(left, residual, 0.0)


def judged(scores: Tensor, returns: Tensor, valid: Tensor) -> Tensor:
    """Which (horizon, day, name) figures are made of: eligible, scored, and with a known return; [H, D, N] bool."""
    return valid & torch.isfinite(returns) & torch.isfinite(scores)


def daily_series(scores: Tensor, returns: Tensor, valid: Tensor) -> dict[str, Array]:
    """Per-day figures of scores.

    Args:
        scores, returns: [H, D, N], NaN where unknown.
        valid: [D, N].

    Returns:
        `rank_ic` and `ic`, each [H, D] float64.
    """
    mask = judged(scores, returns, valid)
    rank, pearson = [], []
    for own, outcome, rows in zip(scores, returns, mask, strict=True):
        rank.append(spearman_by_day(own, outcome, rows))
        pearson.append(pearson_by_day(own, outcome, rows))
    return {"rank_ic": torch.stack(rank).cpu().numpy(), "ic": torch.stack(pearson).cpu().numpy()}


def neutral_series(
    scores: Tensor, returns: Tensor, valid: Tensor, volatility: Tensor, sectors: Tensor
) -> dict[str, Array]:
    """As `daily_series`, after sector and the rank of volatility have been taken out of the scores' ranks and of the
    returns, per day.

    Args:
        volatility: [D, N], known on the day (`trailing_volatility`).
        sectors: [N], numbers from 0.
    """
    mask = judged(scores, returns, valid)
    own, outcome = (
        torch.zeros_like(scores, dtype=torch.float64),
        torch.full_like(returns, torch.nan, dtype=torch.float64),
    )
    for h, rows in enumerate(mask):
        level = volatility_level(volatility, rows)
        own[h] = residualise(average_ranks(scores[h], rows), level, sectors, rows)
        outcome[h] = torch.where(rows, residualise(returns[h], level, sectors, rows), torch.nan)
    return daily_series(own, outcome, valid)


def summarise(series: Mapping[str, Array], horizons: Sequence[int]) -> dict[str, Any]:
    """Means, t statistics, p values and ICIR by horizon, and the headline RankIC, of `daily_series`, whose days ascend;
    `validation` in run.json.
    """
    verdicts = [mean_verdict(row, h) for row, h in zip(series["rank_ic"], horizons, strict=True)]
    by_horizon = {
        "rank_ic_by_horizon": [verdict.mean for verdict in verdicts],
        "t_newey_west_by_horizon": [verdict.t for verdict in verdicts],
        "p_by_horizon": [verdict.p for verdict in verdicts],
        "ic_by_horizon": [mean(row) for row in series["ic"]],
        "icir_by_horizon": [information_ratio(row) for row in series["rank_ic"]],
    }
    weights = horizon_weights(horizons).tolist()
    return {
        "rank_ic": sum(w * m for w, m in zip(weights, by_horizon["rank_ic_by_horizon"], strict=True)),
        **{key: {str(h): v for h, v in zip(horizons, values, strict=True)} for key, values in by_horizon.items()},
        "days": int(np.isfinite(series["rank_ic"]).any(0).sum()),
    }


def headline_series(series: Mapping[str, Array], horizons: Sequence[int]) -> Array:
    """Headline RankIC of each day [D], NaN unless every horizon has a figure that day: what is paired."""
    return headline(series["rank_ic"], horizons)
