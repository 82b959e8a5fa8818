"""Guards: measurements that tell a network that learns from one that only looks so, and the limits that fail a run.

Nothing here changes the network. A violated limit becomes a sentence in `Guards.messages`, and the run ends with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from atft_model.layers import GATv2
from atft_model.metrics import nan_mean, score_degeneracy, spearman_by_day
from atft_model.model import ATFTGATFAN
from atft_model.panel import Batch

MIN_GRADIENT = 1e-6
MIN_GRADIENT_SHARE = 1e-4
ALPHA = (0.05, 0.95)
ENTROPY = (0.1, 0.9999)
"""Attention entropy over log K. 1 is the mean over neighbours: learned attention comes near it where all of them
matter.
"""
MAX_COSINE = 0.95
MIN_SPREAD, MIN_SPREAD_RATIO, MIN_DISTINCT = 1e-4, 0.1, 0.5
MAX_SHUFFLED_CORRELATION = 0.9


class NonFinite(RuntimeError):
    """A value that is not finite appeared in training; the message names the first module that made one."""


@dataclass
class Guards:
    """Measurements of one run; `None` where a module is off."""

    grad_norm: dict[str, float] = field(default_factory=dict)
    alpha: float | None = None
    attention_entropy: float | None = None
    node_cosine: float | None = None
    score_spread: float = math.nan
    spread_ratio: float = math.nan
    distinct_share: float = math.nan
    newest_day_sensitivity: float = math.nan
    messages: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.messages

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def judge(guards: Guards, trained: tuple[str, ...]) -> Guards:
    """Compares the measurements with the limits and writes a sentence for each that is violated.

    trained: the module groups that are switched on and not frozen for the whole stage; each must have received
    gradient.
    """
    say = guards.messages.append
    norms = {m: guards.grad_norm.get(m, 0.0) for m in trained}
    largest = max(norms.values(), default=0.0)
    for module, norm in norms.items():
        if not math.isfinite(norm):
            say(f"the gradient of module {module} is not finite")
        elif norm <= MIN_GRADIENT or norm <= MIN_GRADIENT_SHARE * largest:
            say(
                f"module {module} gets no gradient to speak of: norm {norm:.1e}, limits {MIN_GRADIENT:.0e} and "
                f"{MIN_GRADIENT_SHARE:.0e} of the largest ({largest:.1e}); it is switched on but does not learn"
            )
    if guards.alpha is not None and not ALPHA[0] < guards.alpha < ALPHA[1]:
        say(f"the fusion gate alpha is {guards.alpha:.3f}, outside {ALPHA}: one branch is cut off")
    if guards.attention_entropy is not None and not ENTROPY[0] < guards.attention_entropy < ENTROPY[1]:
        say(
            f"the graph attention's entropy is {guards.attention_entropy:.4f} of log K, outside {ENTROPY}: "
            "it does not select"
        )
    if guards.node_cosine is not None and not guards.node_cosine < MAX_COSINE:
        say(f"node states are alike (mean pairwise cosine {guards.node_cosine:.3f} >= {MAX_COSINE}): over-smoothing")
    if not guards.score_spread >= MIN_SPREAD:
        say(
            f"scores have almost no spread across names (standard deviation {guards.score_spread:.1e}, "
            f"limit {MIN_SPREAD:.0e})"
        )
    elif not guards.spread_ratio >= MIN_SPREAD_RATIO:
        say(f"on some day the spread of the scores falls to {guards.spread_ratio:.2f} of its median: collapse")
    if not guards.distinct_share >= MIN_DISTINCT:
        say(f"only {guards.distinct_share:.0%} of a day's scores are distinct (limit {MIN_DISTINCT:.0%})")
    if not guards.newest_day_sensitivity >= 1.0 - MAX_SHUFFLED_CORRELATION:
        say(
            "the scores hardly depend on the newest day: with its features shuffled across names they still "
            f"rank-correlate {1.0 - guards.newest_day_sensitivity:.3f} (limit {MAX_SHUFFLED_CORRELATION})"
        )
    return guards


@torch.no_grad()
def newest_day_sensitivity(model: ATFTGATFAN, batch: Batch, seed: int = 0) -> float:
    """1 - mean rank correlation of each chunk's newest scores with and without the newest row shuffled across valid
    names.
    """
    names = batch.x.shape[-1]
    chunks = batch.x.shape[2]
    order = torch.arange(names, device=batch.x.device).repeat(chunks, 1)
    generator = torch.Generator().manual_seed(seed)
    for g in range(chunks):
        keep = batch.valid[-1, g].nonzero().squeeze(1)
        order[g, keep] = keep[torch.randperm(len(keep), generator=generator).to(keep.device)]
    shuffled = batch.x.clone()
    shuffled[:, -1] = batch.x[:, -1].gather(2, order.expand(batch.x.shape[0], -1, -1))
    before = model(batch.x, batch.graph).scores[:, -chunks:]
    after = model(shuffled, batch.graph).scores[:, -chunks:]
    mask = batch.valid[-1].expand(before.shape[0], -1, -1)
    return 1.0 - nan_mean(spearman_by_day(before, after, mask).flatten().cpu().numpy())


@torch.no_grad()
def graph_health(model: ATFTGATFAN, batch: Batch) -> tuple[float, float, float]:
    """(alpha, attention entropy over the log of the neighbours present, mean pairwise cosine of the graph's node
    states).
    """
    embedded = model.front(batch.x.flatten(2))
    recurrent = model.recurrent(embedded)
    newest = model.newest(batch.x)
    state = model.gat.nodes(model.states(embedded, recurrent, newest), newest)
    neighbours, mask, attr = batch.graph
    first = model.gat.layers[0]
    if isinstance(first, GATv2):
        weights = first.attend(state, neighbours, mask, attr)[1].double()  # [D, N, K, heads]
        entropy = -(weights * weights.clamp_min(1e-30).log()).sum(2).mean(-1)
        present = mask.sum(-1)
        shared = (present > 1) & batch.valid.flatten(0, 1)
        share = (entropy / present.clamp_min(2).log())[shared].mean().item() if bool(shared.any()) else math.nan
    else:
        share = math.nan  # torch-geometric keeps its attention to itself; the dense backend reports it
    nodes = nn.functional.normalize(model.gat(state, neighbours, mask, attr).double(), dim=-1)
    kept = batch.valid.flatten(0, 1)
    nodes = nodes * kept[..., None]
    n = kept.sum(-1).clamp_min(2).double()
    cosine = (nodes.sum(1).square().sum(-1) - kept.sum(-1)) / (n * (n - 1))
    return model.fusion.alpha().item(), share, cosine.mean().item()


def measure(model: ATFTGATFAN, batch: Batch, scores: Tensor, valid: Tensor, grad_norm: Mapping[str, float]) -> Guards:
    """All measurements on the final weights: `batch` for the probes, `scores` [Z, D, N] of the validation block for
    the spread.
    """
    was_training = model.training
    model.eval()
    guards = Guards(grad_norm=dict(grad_norm), newest_day_sensitivity=newest_day_sensitivity(model, batch))
    for key, value in score_degeneracy(scores, valid).items():
        setattr(guards, key, value)
    if model.switches.gat:
        guards.alpha, entropy, guards.node_cosine = graph_health(model, batch)
        guards.attention_entropy = None if math.isnan(entropy) else entropy
    model.train(was_training)
    return guards


def first_non_finite(model: ATFTGATFAN, batch: Batch) -> str:
    """Name of the first module whose output is not finite on `batch`, or where else to look."""
    if not torch.isfinite(batch.x).all():
        return "the input features"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            tensors = [t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor)]
            if not found and any(not torch.isfinite(t).all() for t in tensors):
                found.append(name)

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n]
    regions, model.regions = model.regions, (model.front, model.back)
    try:
        with torch.no_grad():
            model(batch.x, batch.graph)
    finally:
        model.regions = regions
        for handle in handles:
            handle.remove()
    if found:
        return f"module {found[0]}"
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    return f"the gradient of {bad[0]}" if bad else "the loss or its gradient"
