"""The parts of the network that look at other names: graph attention and its fusion with a name's own state.

Tensors are row-major, a graph a day: states [D, W, C] and neighbour tables [D, W, K] (see `graph.py`). Letters: see
`atft_model.interchange`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from atft_model.layers import Dropout


class GATv2(nn.Module):
    """GATv2 attention (arXiv 2105.14491) over a fixed table of K neighbours; equal to PyG's GATv2Conv with those edges.

    Parameter names are PyG's, so weights move between the two. Static shapes, no scatter in the forward pass.
    """

    def __init__(self, size: int, heads: int, edge_size: int = 3, slope: float = 0.2) -> None:
        super().__init__()
        self.heads, self.head_size, self.slope = heads, size // heads, slope
        self.lin_l = nn.Linear(size, size)
        self.lin_r = nn.Linear(size, size)
        self.lin_edge = nn.Linear(edge_size, size, bias=False)
        self.att = nn.Parameter(torch.empty(1, heads, self.head_size))
        self.bias = nn.Parameter(torch.zeros(size))
        nn.init.xavier_uniform_(self.lin_l.weight)
        nn.init.xavier_uniform_(self.lin_r.weight)
        nn.init.xavier_uniform_(self.lin_edge.weight)
        nn.init.xavier_uniform_(self.att)

    def attend(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> tuple[Tensor, Tensor]:
        """(output [D, W, C], attention [D, W, K, heads]) of states x [D, W, C] and a table [D, W, K]."""
        days, names, size = x.shape
        k = neighbours.shape[-1]
        offset = torch.arange(days, device=x.device, dtype=neighbours.dtype).view(-1, 1, 1) * names
        source = fn.embedding(neighbours + offset, self.lin_l(x).view(days * names, size))  # [D, W, K, C]
        summed = source + self.lin_r(x)[:, :, None] + self.lin_edge(attr.to(x.dtype))
        active = fn.leaky_relu(summed, self.slope).view(days, names, k, self.heads, self.head_size)
        score = (active * self.att).sum(-1).float().masked_fill(~mask[..., None], float("-inf"))
        attention = torch.softmax(score, 2)
        weighted = source.view_as(active) * attention.to(source.dtype)[..., None]
        return weighted.sum(2).flatten(2) + self.bias, attention

    def forward(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> Tensor:
        """x [D, W, C], neighbours [D, W, K] int, mask [D, W, K] bool (at least one True a row), attr [D, W, K, 3]."""
        return self.attend(x, neighbours, mask, attr)[0]


def pyg_gatv2(size: int, heads: int, edge_size: int = 3, slope: float = 0.2) -> nn.Module:
    """PyG's own GATv2Conv behind the signature of `GATv2` (same parameter names). Imports torch-geometric (seconds)."""
    from torch_geometric.nn import GATv2Conv

    from atft_model.graph import edge_list

    class PygGATv2(GATv2Conv):
        def forward(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> Tensor:
            """As `GATv2.forward`."""
            edges, kept = edge_list(neighbours, mask)
            out = super().forward(x.flatten(0, 1), edges, edge_attr=attr.flatten(0, 2)[kept].to(x.dtype))
            return out.view(*x.shape[:2], -1)

    return PygGATv2(size, size // heads, heads=heads, edge_dim=edge_size, add_self_loops=False, negative_slope=slope)


class GraphAttention(nn.Module):
    """A stack of GATv2 layers with residual and LayerNorm (two layers: deeper stacks make all names alike).

    A node is a name's state, of its newest row and its sequences, plus a linear map of the newest row. The map matters:
    what is trained on a name's own return drops what says nothing of the name itself, and that may be just what says
    something of its neighbours.
    """

    def __init__(self, features: int, size: int, heads: tuple[int, ...], backend: str, dropout: float) -> None:
        super().__init__()
        self.inputs = nn.Linear(features, size, bias=False)
        nn.init.normal_(self.inputs.weight, std=0.05)
        make = GATv2 if backend == "dense" else pyg_gatv2
        self.layers = nn.ModuleList(make(size, h) for h in heads)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in heads)
        self.dropout = Dropout(dropout)

    def nodes(self, state: Tensor, newest: Tensor) -> Tensor:
        """state [D, W, C] and newest rows [D, W, F] -> node inputs [D, W, C]."""
        return state + self.inputs(newest.to(state.dtype))

    def forward(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> Tensor:
        """Node inputs x [D, W, C] and neighbour tables [D, W, K] -> [D, W, C]."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + self.dropout(fn.elu(layer(x, neighbours, mask, attr))))
        return x


GAT_COLUMN_SCALE = 3.0


class Fusion(nn.Module):
    """Joins a name's own state t and the graph's state g behind one residual gate alpha = sigmoid(0) = 0.5.

    `seed`:    alpha * W[t; g] + (1 - alpha) * g, the GAT columns of W three times their usual size.
    `highway`: alpha * (t + W[t; g]) + (1 - alpha) * g, which gives t the same identity path that g has.
    In `seed` the columns of t start at the identity divided by alpha, so the state that the head was trained on arrives
    unchanged when the graph is first switched on.
    """

    def __init__(self, size: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.project = nn.Linear(2 * size, size)
        self.gate = nn.Parameter(torch.zeros(()))
        with torch.no_grad():
            self.project.weight[:, size:] *= GAT_COLUMN_SCALE
            if kind == "seed":
                self.project.weight[:, :size] = torch.eye(size) / torch.sigmoid(self.gate)

    def alpha(self) -> Tensor:
        """The gate, a scalar in (0, 1)."""
        return torch.sigmoid(self.gate)

    def forward(self, own: Tensor, graph: Tensor) -> Tensor:
        """own and graph [D, W, C] -> [D, W, C]."""
        alpha = self.alpha().to(graph.dtype)
        joined = self.project(torch.cat([own, graph], -1))
        if self.kind == "highway":
            joined = own + joined
        return alpha * joined + (1.0 - alpha) * graph
