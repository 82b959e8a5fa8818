"""Synthetic panels with one planted signal for each part of the network, made on the device, and the oracle's scores.

The 1-day return is 2 % times (strength * (newest row + sequences + graph) + noise, t with 4 degrees of freedom), each
signal of unit variance:

newest row: (x0 + x1 x2) / sqrt 2, a persistent level and an interaction;
sequences, FAN: the fast part of x3, hidden under each name's own slow level and scale: the deviation from its mean;
graph: the neighbours' mean of x4, which is white and means nothing for the name itself.

All other features are noise of various persistence. The planted ones and the first of these are marked as sequences.
Longer labels are sums of 1-day returns.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atft_model.interchange.errors import ConfigError
from atft_model.interchange.fold import Fold, cut
from atft_model.interchange.panel import FORMAT, PanelDescription, PanelFeature, write_panel
from atft_model.loading import padded, sequences_of
from atft_model.panel import PAD_CPU, PAD_GPU, DevicePanel

PERIOD_DAYS = 20  # days that share a graph
LEVEL, PRODUCT, FAST = 0.9, 0.8, 0.5  # day-to-day persistence of the planted signals
PLANTED = ("level", "left", "right", "own_mean", "shock")
SEQUENCES = 6  # features that are marked as sequences: the planted ones and a noise


@dataclass(frozen=True)
class Shape:
    """Sizes of a synthetic panel and the strength of what is planted in it."""

    names: int = 200
    days: int = 500
    features: int = 40
    neighbours: int = 8
    strength: float = 0.15
    horizons: tuple[int, ...] = (1, 5, 10, 20)

    def __post_init__(self) -> None:
        if self.features < 6 or self.neighbours < 3:
            raise ConfigError("a synthetic panel needs at least 6 features and 3 neighbours")

    @property
    def cluster(self) -> int:
        """Names that are each other's possible neighbours; a cluster is a sector."""
        return min(2 * self.neighbours, self.names)


def synthetic(
    shape: Shape, *, lookback: int = 20, chunk_days: int = 8, seed: int = 0, device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None, pad_names: int | None = None,
) -> tuple[DevicePanel, Fold]:  # fmt: skip
    """A panel with planted signals, whose `oracle` [H, T, N] holds the best attainable scores, and its fold.

    Args:
        lookback, chunk_days: L and B of the chunks that it will be read in.
        dtype, pad_names: as `DevicePanel.load` has them.

    Raises:
        ConfigError: too few features or neighbours for what is planted.
        FoldError: too few days for three blocks.
    """
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    dtype = dtype or (torch.bfloat16 if on_gpu else torch.float32)
    maker = _Maker(shape, padded(shape.names, pad_names or (PAD_GPU if on_gpu else PAD_CPU)), device, seed)
    x, deviations = maker.features(dtype)
    graph = maker.graph()
    body = x[..., :5].movedim(-1, 0).float()
    returns, oracle = maker.returns_and_oracle(body, deviations, graph)
    sequences = sequences_of(x, range(SEQUENCES), lookback)
    tensors = {"x": x, "sequences": sequences, "valid": maker.eligibility(lookback), "returns": returns, **graph}
    tensors["neighbour_attr"] = graph["neighbour_attr"].to(dtype)
    tensors["neighbours"] = graph["neighbours"].to(torch.int32)
    one_day = (
        returns[shape.horizons.index(1)].clone() if 1 in shape.horizons else torch.full_like(returns[0], torch.nan)
    )
    description = describe(shape, seed)
    fold = cut(description.dates, "synthetic", purge_days=max(shape.horizons), embargo_days=max(shape.horizons))
    panel = DevicePanel(
        description, tensors | {"one_day": one_day}, lookback=lookback, chunk_days=chunk_days, oracle=oracle
    )
    return panel, fold


def describe(shape: Shape, seed: int) -> PanelDescription:
    """What the axes of a synthetic panel mean; equal shapes and seeds have equal ids."""
    labels = [f"planted_{name}" for name in PLANTED] + [f"noise_{i}" for i in range(5, shape.features)]
    features = tuple(
        PanelFeature(name, f"family_{i % 5}", "time_series", i < SEQUENCES) for i, name in enumerate(labels)
    )
    return PanelDescription(
        format=FORMAT,
        panel_id=f"synthetic-{hashlib.sha256(repr((shape, seed)).encode()).hexdigest()[:12]}",
        dates=weekdays(date(2015, 1, 5), shape.days),
        codes=tuple(f"{10000 + i}" for i in range(shape.names)),
        features=features,
        catalogue_hash=hashlib.sha256(repr(features).encode()).hexdigest()[:16],
        horizons=shape.horizons,
        feature_set="synthetic",
        sector33=tuple(str(i // shape.cluster) for i in range(shape.names)),
    )


def weekdays(first: date, count: int) -> tuple[date, ...]:
    """The first days from Monday to Friday, beginning with one."""
    days = (first + timedelta(days=step) for step in range(2 * count + 7))
    return tuple([day for day in days if day.weekday() < 5][:count])


def write(directory: Path, panel: DevicePanel) -> None:
    """Write the resident panel as a panel directory, for tests and benches; real panels are built upstream."""
    names = len(panel.description.codes)

    def plain(tensor: Tensor) -> NDArray[Any]:
        array: NDArray[Any] = tensor.cpu().contiguous().numpy()
        return array

    x = panel.x[:, :names].to(torch.bfloat16)
    returns = plain(panel.returns[:, :, :names])
    tensors = {
        "x": plain(x.view(torch.int16)).view(np.uint16),
        "valid": plain(panel.valid[:, :names]),
        "y_cc": returns,
        "y_oo": returns,
        "neighbours": plain(panel.neighbours[:, :names]),
        "neighbour_attr": plain(panel.neighbour_attr[:, :names].float()),
        "neighbour_mask": plain(panel.neighbour_mask[:, :names]),
        "graph_period": plain(panel.graph_period.to(torch.int32)),
    }
    if panel.learned is not panel.returns:
        tensors[panel.description.target] = plain(panel.learned[:, :, :names])
    write_panel(directory, tensors, panel.description)


class _Maker:
    """Draws the parts of a panel in a fixed order from one generator, so that a seed always gives the same panel."""

    def __init__(self, shape: Shape, wide: int, device: torch.device, seed: int) -> None:
        """wide: N, the number of names with padding."""
        self.shape, self.wide, self.device = shape, wide, device
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.generator, device=self.device)

    def uniform(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self.generator, device=self.device)

    def features(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(x [T, N, F], the planted deviations from the own mean [T, N])."""
        shape, wide, device = self.shape, self.wide, self.device
        persistence = torch.linspace(0.0, 0.98, shape.features, device=device)
        persistence[:5] = torch.tensor([LEVEL, PRODUCT, PRODUCT, 0.995, 0.0], device=device)
        rho = persistence[:, None]
        x = torch.zeros(shape.days, wide, shape.features, dtype=dtype, device=device)
        own_scale = 0.15 + 0.35 * self.uniform(wide)
        deviation = self.normal(wide)
        deviations = torch.zeros(shape.days, wide, device=device)
        state = self.normal(shape.features, wide)
        for t in range(shape.days):
            state = rho * state + (1 - rho**2).sqrt() * self.normal(shape.features, wide)
            deviation = FAST * deviation + math.sqrt(1 - FAST**2) * self.normal(wide)
            deviations[t] = deviation
            today = state.clone()
            today[3] = (1 - own_scale**2).sqrt() * state[3] + own_scale * deviation
            x[t] = today.clamp(-3, 3).to(dtype).t()
        x[:, shape.names :] = 0
        return x, deviations

    def graph(self) -> dict[str, Tensor]:
        """Neighbour tables [P, N, K] and each day's period [T]: a period draws its neighbours anew from the cluster."""
        shape, wide, device = self.shape, self.wide, self.device
        k, periods = shape.neighbours, -(-shape.days // PERIOD_DAYS)
        member = torch.arange(wide, device=device).clamp(max=shape.names - 1) // shape.cluster * shape.cluster
        width = torch.minimum(torch.full_like(member, shape.cluster), shape.names - member)
        draw = self.uniform(periods, wide, k - 1)
        drawn = member[None, :, None] + (draw * width[None, :, None]).long()
        own = torch.arange(wide, device=device).view(1, -1, 1).expand(periods, -1, 1)
        table = torch.cat([own, torch.where(own < shape.names, drawn, own)], 2)
        mask = (table != own) & (own < shape.names)
        mask[..., 0] = True
        attr = torch.ones(periods, wide, k, 3, device=device)
        attr[..., 1:, 0] = 0.3 + 0.6 * self.uniform(periods, wide, k - 1)
        attr[..., 1:, 1] = (self.uniform(periods, wide, k - 1) < 0.5).float()
        period = torch.arange(shape.days, device=device) // PERIOD_DAYS
        return {"neighbours": table, "neighbour_mask": mask, "neighbour_attr": attr, "graph_period": period}

    def returns_and_oracle(self, x: Tensor, deviations: Tensor, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Raw returns, NaN where they reach beyond the panel, and the best scores, both [H, T, N].

        x: the planted features [5, T, N].
        """
        shape, days, wide, device = self.shape, self.shape.days, self.wide, self.device
        parts = [x[0] / math.sqrt(2), x[1] * x[2] / math.sqrt(2), deviations, self._lead(x[4], graph)]
        decay = [LEVEL, PRODUCT**2, FAST, 0.0]
        noise = self.normal(days, wide) / (self.normal(4, days, wide).square().mean(0) * 2).sqrt()
        market = 0.01 * self.normal(days, 1)
        tomorrow = market + 0.02 * (shape.strength * sum(parts) + noise)
        total = torch.cat([torch.zeros(1, wide, device=device, dtype=torch.float64), tomorrow.double().cumsum(0)])
        returns = torch.full((len(shape.horizons), days, wide), torch.nan, device=device)
        oracle = torch.zeros(len(shape.horizons), days, wide, device=device)
        for place, h in enumerate(shape.horizons):
            if days > h:
                returns[place, : days - h] = (total[h:days] - total[: days - h]).float()
            for part, d in zip(parts, decay, strict=True):
                oracle[place] += part * sum(d**j for j in range(h))
        return returns, oracle

    def _lead(self, shock: Tensor, graph: dict[str, Tensor]) -> Tensor:
        """The neighbours' mean of a feature, scaled to unit variance; both [T, N]."""
        others = graph["neighbour_mask"].clone()
        others[..., 0] = False
        lead = torch.empty_like(shock)
        for t in range(self.shape.days):
            p = t // PERIOD_DAYS
            near = shock[t][graph["neighbours"][p]] * others[p]
            lead[t] = near.sum(-1) / others[p].sum(-1).clamp_min(1).sqrt()
        return lead

    def eligibility(self, lookback: int) -> Tensor:
        """[T, N]: absent on some days, three in ten names listed later, nobody before a look-back has passed."""
        shape = self.shape
        valid = self.uniform(shape.days, self.wide) < 0.98
        listed = (self.uniform(self.wide) - 0.7).clamp_min(0) * shape.days
        valid &= torch.arange(shape.days, device=self.device)[:, None] >= listed
        valid[: min(lookback, shape.days)] = False
        valid[:, shape.names :] = False
        return valid
