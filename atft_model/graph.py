"""Neighbour tables: the fixed-K form of the stock graph, its edge-list view, and the controls used in studies.

A table is `neighbours [.., N, K]` (int, column 0 the name itself), `mask [.., N, K]` (False: unused slot) and `attr
[.., N, K, 3]` (signed correlation, same market, same sector). Correlations from market data are computed upstream;
`from_correlation` is the same selection for matrices that are already in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor


def edge_list(neighbours: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(edge_index [2, E] of int64, flat positions [E] of the kept slots) of a table [D, N, K], days stacked as one
    graph.

    Row 0 is the source (the neighbour), row 1 the target, as torch-geometric wants it.
    """
    days, names, k = neighbours.shape
    offset = torch.arange(days, device=neighbours.device).view(-1, 1, 1) * names
    source = (neighbours.long() + offset).flatten()
    target = (torch.arange(names, device=neighbours.device).view(1, -1, 1) + offset).expand(-1, -1, k).flatten()
    kept = mask.flatten().nonzero().squeeze(1)
    return torch.stack([source[kept], target[kept]]), kept


def from_correlation(
    correlation: Tensor, market: Tensor, sector: Tensor, k: int, threshold: float = 0.0, sector_bonus: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The k-1 strongest |correlation| partners of each name, after a self edge.

    correlation [N, N] (NaN: unknown), market and sector [N] integer codes -> neighbours [N, k] int32, mask [N, k] bool,
    attr [N, k, 3] float32. Slots below `threshold` are unused and point to the name itself.
    """
    names = correlation.shape[0]
    same_sector = sector[:, None] == sector[None]
    same_market = market[:, None] == market[None]
    known = torch.nan_to_num(correlation, nan=0.0)
    strength = known.abs() + sector_bonus * same_sector
    strength = strength.masked_fill(torch.isnan(correlation) | (known.abs() < threshold), -1.0)
    strength.fill_diagonal_(-1.0)
    value, index = strength.topk(min(k - 1, names - 1), dim=1)
    own = torch.arange(names, device=correlation.device)[:, None]
    mask = value > -1.0
    index = torch.where(mask, index, own)
    rows = own.expand_as(index)
    attr = torch.stack([known[rows, index], same_market[rows, index].float(), same_sector[rows, index].float()], -1)
    neighbours = torch.cat([own, index], 1)
    mask = torch.cat([torch.ones_like(own, dtype=torch.bool), mask], 1)
    attr = torch.cat([torch.ones_like(attr[:, :1]), torch.where(mask[:, 1:, None], attr, torch.ones_like(attr))], 1)
    return neighbours.to(torch.int32), mask, attr.float()


def shuffled(neighbours: Tensor, seed: int) -> Tensor:
    """The same table with every neighbour (not the self edge) replaced at random: a graph without information."""
    generator = torch.Generator().manual_seed(seed)
    names = neighbours.shape[-2]
    out = neighbours.cpu().clone()
    permutation = torch.randperm(names, generator=generator).to(out.dtype)
    out[..., 1:] = permutation[out[..., 1:].long()]
    return out.to(neighbours.device)


def density(neighbours: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean number of neighbours other than oneself, and the share of names without any."""
    own = torch.arange(neighbours.shape[-2], device=neighbours.device).view(-1, 1)
    others = (mask & (neighbours != own)).sum(-1).float()
    return {"mean_degree": others.mean().item(), "isolated_share": (others == 0).float().mean().item()}
