"""What happens when in a training: the order of the days, the seeds of a step, the learning rate. Pure functions.

Everything follows from seed, phase, epoch and step, so a training that was cut goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

FINAL_RATE = 0.1
"""Learning rate at the end of a cosine schedule, as a share of its peak."""


def mixed_seed(*parts: int) -> int:
    """One 63-bit seed from several small integers, so phases, members, epochs and steps draw independent numbers."""
    value = 0x9E3779B97F4A7C15
    for part in parts:
        value = (value ^ (part + 0x7F4A7C15)) * 0xBF58476D1CE4E5B9 % 2**64
        value ^= value >> 31
    return value % 2**63


def random_shift(generator: torch.Generator, chunk_days: int) -> int:
    """By how many days an epoch's chunks are shifted: 0 to B - 1."""
    return int(torch.randint(chunk_days, (1,), generator=generator))


def in_steps(starts: Sequence[int], chunks: int, generator: torch.Generator) -> Tensor:
    """Chunk starts in random order, [steps, G] int64, the last step filled from the front."""
    order = torch.tensor(starts)[torch.randperm(len(starts), generator=generator)]
    if extra := -len(order) % chunks:
        order = torch.cat([order, order.repeat(-(-extra // len(order)))[:extra]])
    return order.view(-1, chunks)


def rate_share(step: int, total: int, warmup: float, schedule: str) -> float:
    """Learning rate of a step (0-based) of `total`, as a share of its peak.

    Args:
        warmup: share of the steps over which it rises linearly.
        schedule: constant after that, or a cosine down to FINAL_RATE.
    """
    warm = warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warm) / max(1.0, total - warm))
    return FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))


def average_decay(decay: float, step: int) -> float:
    """Decay of the averaged weights at a step (0-based): short at first, so that random weights are soon forgotten."""
    return min(decay, (1.0 + step) / (10.0 + step))


def loss_weights_of_horizons(kind: str, project: Sequence[float]) -> list[float]:
    """Weights of the horizons in the loss, summing to 1.

    Args:
        kind: equal, or project: those of the headline figure.
        project: the latter, summing to 1.
    """
    return [1.0 / len(project)] * len(project) if kind == "equal" else list(project)
