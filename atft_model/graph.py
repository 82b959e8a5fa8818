"""Neighbour tables: the fixed-K form of the stock graph, its edge-list view, and the controls used in studies.

A table is `neighbours [..., N, K]` (int, column 0 the name itself), `mask [..., N, K]` (False: unused slot) and `attr
[..., N, K, 3]` (signed correlation, same market, same sector). Correlations are computed upstream.
"""

from __future__ import annotations

import torch
from torch import Tensor


def edge_list(neighbours: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A table [D, W, K] and its mask as edges, the days stacked as one graph.

    Returns:
        edge_index [2, edges] int64, and the flat positions [edges] of the slots that are in use.

    Row 0 is the source (the neighbour), row 1 the target, as torch-geometric wants it.
    """
    days, names, k = neighbours.shape
    offset = torch.arange(days, device=neighbours.device).view(-1, 1, 1) * names
    source = (neighbours.long() + offset).flatten()
    target = (torch.arange(names, device=neighbours.device).view(1, -1, 1) + offset).expand(-1, -1, k).flatten()
    kept = mask.flatten().nonzero().squeeze(1)
    return torch.stack([source[kept], target[kept]]), kept


def shuffled(neighbours: Tensor, seed: int) -> Tensor:
    """A table [..., N, K] with every neighbour (not the self edge) replaced at random: a graph without information."""
    generator = torch.Generator().manual_seed(seed)
    names = neighbours.shape[-2]
    out = neighbours.cpu().clone()
    permutation = torch.randperm(names, generator=generator).to(out.dtype)
    out[..., 1:] = permutation[out[..., 1:].long()]
    return out.to(neighbours.device)
