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

from atft_model.graph_layers import GATv2
from atft_model.interchange.statistics import mean
from atft_model.metrics import score_degeneracy, spearman_by_day
from atft_model.model import ATFTGATFAN
from atft_model.panel import Batch

MIN_GRADIENT = 1e-6
MIN_GRADIENT_SHARE = 1e-4
ALPHA = (0.05, 0.95)
# attention entropy over log K; 1 is the mean over neighbours, and learned attention comes near it where all matter
ENTROPY = (0.1, 0.9999)
MAX_COSINE = 0.95
MIN_DIFFERENCE_KEPT = 0.25  # of 1 - cosine, from before the graph to after it
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
    node_cosine_before: float | None = None
    score_spread: float = math.nan
    spread_ratio: float = math.nan
    distinct_share: float = math.nan
    newest_day_sensitivity: float = math.nan
    messages: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no limit is violated."""
        return not self.messages

    def to_json(self) -> dict[str, Any]:
        """The measurements with the verdict, as run.json has them."""
        return {**asdict(self), "passed": self.passed}


def smoothed(guards: Guards) -> bool:
    """Whether the graph has made the names alike: what the heads read is, and little is left of how they differed.

    Being alike is not enough: what all names of a day share, the state of the market, is in every state, and between
    2,000 names it can outweigh what is their own. Nor is a graph that says the same of everybody: it adds a constant,
    which is no harm, and the check `gain` tells that it is no use.
    """
    after, before = guards.node_cosine, guards.node_cosine_before
    if after is None or before is None:
        return False
    return not (after < MAX_COSINE or 1 - after >= MIN_DIFFERENCE_KEPT * (1 - before))


def judge(guards: Guards, trained: tuple[str, ...]) -> Guards:
    """Compare the measurements with the limits and write a sentence for each that is violated.

    trained: the module groups that are switched on and not frozen for the whole phase; each must have received
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
    if smoothed(guards):
        say(
            f"names are alike once the graph is joined (mean pairwise cosine {guards.node_cosine:.3f} >= {MAX_COSINE}) "
            f"and were not before ({guards.node_cosine_before:.3f}): over-smoothing"
        )
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
    """What the newest row of features decides: 1 - mean rank correlation of each chunk's newest scores with and without
    that row shuffled across the eligible names. The windows stay as they are, so that nothing stands in for the row.
    """
    chunks, names = batch.names.shape
    order = torch.arange(names, device=batch.newest.device).repeat(chunks, 1)
    generator = torch.Generator().manual_seed(seed)
    for g in range(chunks):
        keep = batch.valid[-1, g].nonzero().squeeze(1)
        order[g, keep] = keep[torch.randperm(len(keep), generator=generator).to(keep.device)]
    shuffled = batch.newest.clone()  # [D, W, F], the newest day of each chunk last
    last = batch.newest[-chunks:]
    shuffled[-chunks:] = last.gather(1, order[..., None].expand_as(last))
    with model.precision():
        before = model.forward(*batch.inputs).scores[:, -chunks:]
        after = model.forward(shuffled, batch.windows, batch.graph).scores[:, -chunks:]
    mask = batch.valid[-1].expand(before.shape[0], -1, -1)
    return 1.0 - mean(spearman_by_day(before, after, mask).flatten().cpu().numpy())


@torch.no_grad()
def graph_health(model: ATFTGATFAN, batch: Batch) -> tuple[float, float, float, float]:
    """What the graph branch does on a batch.

    Returns:
        alpha; attention entropy over the log of the neighbours present (NaN where the backend keeps its attention to
        itself); mean pairwise cosine of the states that the graph has been joined to, and of a name's own before that.
    """
    seen: dict[str, Any] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            seen[name] = (inputs, output)

        return hook

    handles = [
        module.register_forward_hook(watch(name)) for name, module in (("gat", model.gat), ("fusion", model.fusion))
    ]
    try:
        with model.precision():
            model.forward(*batch.inputs)
            share = _attention_entropy(model.gat.layers[0], seen["gat"][0], batch.valid.flatten(0, 1))
    finally:
        for handle in handles:
            handle.remove()
    (own, _), joined = seen["fusion"]
    kept = batch.valid.flatten(0, 1)
    return model.fusion.alpha().item(), share, _alike(joined, kept), _alike(own, kept)


def _alike(states: Tensor, valid: Tensor) -> float:
    """Mean pairwise cosine of the states [D, W, C] of the names of a day that count [D, W]."""
    nodes = nn.functional.normalize(states.double(), dim=-1) * valid[..., None]
    n = valid.sum(-1).clamp_min(2).double()
    return ((nodes.sum(1).square().sum(-1) - valid.sum(-1)) / (n * (n - 1))).mean().item()


def _attention_entropy(layer: nn.Module, inputs: tuple[Tensor, ...], valid: Tensor) -> float:
    """Entropy of a layer's attention over the log of the neighbours present, mean over eligible names with neighbours.

    Args:
        inputs: node states [D, W, C] and the three tables [D, W, K, ...].
        valid: [D, W].
    """
    if not isinstance(layer, GATv2):
        return math.nan  # torch-geometric keeps its attention to itself; the dense backend reports it
    nodes, neighbours, mask, attr = inputs
    weights = layer.attend(nodes, neighbours, mask, attr)[1].double()  # [D, W, K, heads]
    entropy = -(weights * weights.clamp_min(1e-30).log()).sum(2).mean(-1)
    present = mask.sum(-1)
    shared = (present > 1) & valid
    return (entropy / present.clamp_min(2).log())[shared].mean().item() if bool(shared.any()) else math.nan


def measure(model: ATFTGATFAN, batch: Batch, scores: Tensor, valid: Tensor, grad_norm: Mapping[str, float]) -> Guards:
    """All measurements on the final weights.

    Args:
        batch: for the probes.
        scores, valid: [H, D, N] and [D, N] of the validation block, for the spread.
        grad_norm: mean gradient norm of each module group in the last epoch.
    """
    was_training = model.training
    model.eval()
    guards = Guards(grad_norm=dict(grad_norm), newest_day_sensitivity=newest_day_sensitivity(model, batch))
    for key, value in score_degeneracy(scores, valid).items():
        setattr(guards, key, value)
    if model.switches.gat:
        guards.alpha, entropy, guards.node_cosine, guards.node_cosine_before = graph_health(model, batch)
        guards.attention_entropy = None if math.isnan(entropy) else entropy
    model.train(was_training)
    return guards


def first_non_finite(model: ATFTGATFAN, batch: Batch) -> str:
    """Name of the first module whose output is not finite on `batch`, or where else to look."""
    if not torch.isfinite(batch.newest).all() or (
        batch.windows is not None and not torch.isfinite(batch.windows).all()
    ):
        return "the input features"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            tensors = [t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor)]
            if not found and any(not torch.isfinite(t).all() for t in tensors):
                found.append(name)

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n]
    try:
        with torch.no_grad(), model.precision():
            model.forward(*batch.inputs)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return f"module {found[0]}"
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    return f"the gradient of {bad[0]}" if bad else "the loss or its gradient"
