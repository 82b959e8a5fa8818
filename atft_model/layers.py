"""The parts of the network, each a small module with its tensor shapes in the docstring.

Letters used everywhere: F features, S = L + B - 1 rows of a chunk, L lookback, B predicted days of a chunk, G chunks
of a step, N names (padded), M = S * G * N positions, H hidden size, d feature size, K neighbours, Z horizons. The
input side is feature-major ([F, M]): each feature is one contiguous row, so the per-feature work is a batched matrix
product and long vector loops, and the sum over features is one GEMM. From the first hidden state on it is row-major
([M, H]).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

FAN_FLOOR = 0.05
"""Smallest standard deviation a FAN window is divided by; inputs have unit cross-sectional scale."""
SAN_FLOOR = 1e-3
TILE = 16
"""Queries that attend together on a CPU: long chunks are cut so that little outside the band is computed."""


class Dropout(nn.Module):
    """Dropout whose CPU mask takes one random byte per value (torch's own draws one number each, serially).

    On a CPU the rate is therefore a multiple of 1/256; the kept values are scaled by the rate that is really used.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.cut = round(rate * 256)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.cut == 0:
            return x
        if x.device.type != "cpu":
            return fn.dropout(x, self.rate)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.cut
        return x * (kept * (256.0 / (256 - self.cut))).to(x.dtype)


def trailing_z(x: Tensor, windows: tuple[int, ...]) -> list[Tensor]:
    """z-score of each value over its own last `w` rows, for every w.

    x [F, S, M] float32 -> one [F, S, M] per window. Row s uses rows max(0, s-w+1)..s: causal, edges use what there is.
    The two running sums start from the series' first value subtracted, so a constant series gives exactly 0 and large
    levels cost no digits; zeros in front of them make every window one difference of two views.
    """
    rows, front = x.shape[1], max(windows)
    centred = x - x[:, :1]
    first = fn.pad(centred.cumsum(1), (0, 0, front, 0))
    second = fn.pad(centred.square().cumsum(1), (0, 0, front, 0))
    row = torch.arange(1, rows + 1, device=x.device, dtype=x.dtype)[:, None]
    out = []
    for w in windows:
        share = 1.0 / row.clamp(max=w)
        mean = (first[:, front:] - first[:, front - w : front - w + rows]) * share
        square = (second[:, front:] - second[:, front - w : front - w + rows]) * share
        variance = torch.addcmul(square, mean, mean, value=-1.0)
        out.append((centred - mean) * variance.clamp_min(FAN_FLOOR**2).rsqrt())
    return out


class FAN(nn.Module):
    """Frequency-adaptive normalisation of the input features, causal and per feature.

    y = (1 - g_f) x + g_f * sum_w a_{f,w} z_w(x): a mixture of high-pass filters whose cut-off (a, softmax over
    windows) and strength (g, tanh) every feature learns. A gate near 0 keeps the level, which is often the signal
    itself; all start there, as an identity. Below 0 the level is raised over what is fast.
    """

    def __init__(self, features: int, windows: tuple[int, ...]) -> None:
        super().__init__()
        self.windows = windows
        self.logits = nn.Parameter(torch.zeros(features, len(windows)))
        self.gamma = nn.Parameter(torch.zeros(features))

    def coefficients(self) -> Tensor:
        """[F, 1+W]: weight of the raw value, then of each window's z-score; rows sum to 1."""
        gate = torch.tanh(self.gamma)[:, None]
        return torch.cat([1.0 - gate, gate * torch.softmax(self.logits, 1)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [F, S, M] -> [F, S, M] float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            parts = torch.stack([x, *trailing_z(x, self.windows)], 1)  # [F, 1+W, S, M]
            return torch.bmm(self.coefficients()[:, None], parts.flatten(2)).view_as(x)


class GatedAddNorm(nn.Module):
    """LayerNorm(skip + GLU(W x)): the gate can close a block completely (TFT, arXiv 1912.09363)."""

    def __init__(self, size: int, inner: int | None = None) -> None:
        super().__init__()
        self.gate = nn.Linear(inner or size, 2 * size)
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.norm(skip + fn.glu(self.gate(x), -1))


class GRN(nn.Module):
    """Gated residual network: LayerNorm(x + GLU(W2 dropout(ELU(W1 x)))). x [..., H] -> [..., H]."""

    def __init__(self, size: int, inner: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(size, inner or size)
        self.add_norm = GatedAddNorm(size, inner or size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.add_norm(self.dropout(fn.elu(self.expand(x))), x)


class VariableSelection(nn.Module):
    """Embeds every feature on its own and mixes them by learned, input-dependent weights.

    e_f = GLU(W_f elu(x_f u_f + c_f)) for all features in one batched product; v = softmax over features of a gated
    network on all inputs; output = LayerNorm(W [v_1 e_1, ..., v_F e_F]). The weights v are the feature importances.
    """

    def __init__(self, features: int, feature_size: int, context: int, hidden: int) -> None:
        super().__init__()
        self.features, self.feature_size = features, feature_size
        self.scale = nn.Parameter(torch.randn(features, feature_size, 1))
        self.shift = nn.Parameter(torch.randn(features, feature_size, 1) * 0.5)
        bound = feature_size**-0.5
        self.mix = nn.Parameter(torch.empty(features, 2 * feature_size, feature_size).uniform_(-bound, bound))
        self.mix_bias = nn.Parameter(torch.zeros(features, 2 * feature_size, 1))
        self.context_in = nn.Linear(features, context)
        self.context = GRN(context)
        self.context_out = nn.Linear(context, features)
        self.project = nn.Linear(features * feature_size, hidden)
        self.norm = nn.LayerNorm(hidden)

    def weights(self, x: Tensor) -> Tensor:
        """x [F, M] -> v [F, M], summing to 1 over features; float32."""
        context = self.context(self.context_in(x.t()))
        logits = torch.addmm(self.context_out.bias[:, None], self.context_out.weight, context.t())
        return torch.softmax(logits.float(), 0)

    def forward(self, x: Tensor) -> Tensor:
        """x [F, M] -> [M, H]."""
        embedded = fn.elu(torch.addcmul(self.shift.to(x.dtype), x[:, None], self.scale.to(x.dtype)))  # [F, d, M]
        gated = fn.glu(torch.baddbmm(self.mix_bias, self.mix, embedded), 1)  # [F, d, M]
        # times F: uniform weights leave the scale as it is, whatever the number of features
        chosen = gated * (self.weights(x) * self.features)[:, None].to(gated.dtype)
        return self.norm(fn.linear(chosen.flatten(0, 1).t(), self.project.weight, self.project.bias))


def band_mask(queries: int, rows: int, lookback: int, device: torch.device) -> Tensor:
    """[queries, rows] bool: the last `queries` of `rows` rows each see themselves and the lookback-1 rows before."""
    row = torch.arange(rows, device=device)
    query = row[rows - queries :, None]
    return (row <= query) & (row > query - lookback)


def tiles(rows: int, queries: int, lookback: int) -> list[tuple[int, int, int]]:
    """(first row, row after the last, queries) of tiles of at most TILE queries, each with just the rows that they
    see.
    """
    out = []
    for done in range(0, queries, TILE):
        days = min(TILE, queries - done)
        end = rows - queries + done + days
        out.append((max(0, end - days - lookback + 1), end, days))
    return out


class InterpretableAttention(nn.Module):
    """Multi-head attention with one value projection shared by all heads, so the averaged weights can be read.

    (TFT §4.4.) Only the last `queries` rows ask; keys are all rows inside the band.
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, size // heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, self.head_size)
        self.out = nn.Linear(self.head_size, size, bias=False)

    def _split(self, x: Tensor) -> Tensor:
        """[R, M', H] -> [M', heads, R, head_size]."""
        return x.unflatten(-1, (self.heads, self.head_size)).permute(1, 2, 0, 3)

    def weights(self, x: Tensor, queries: int, lookback: int) -> Tensor:
        """Head-averaged attention weights [M', queries, S] of x [S, M', H]."""
        q, k = self._split(self.query(x[-queries:])), self._split(self.key(x))
        seen = band_mask(queries, x.shape[0], lookback, x.device)
        hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, float("-inf"))
        q = (q * self.head_size**-0.5).flatten(0, 1)
        scores = torch.baddbmm(hidden[None], q, k.flatten(0, 1).transpose(1, 2))
        return torch.softmax(scores.float(), -1).unflatten(0, (-1, self.heads)).mean(1)

    def forward(self, x: Tensor, queries: int, lookback: int) -> Tensor:
        """x [S, M', H] -> [queries, M', H]."""
        value = self.value(x).transpose(0, 1)  # [M', S, head_size]
        if (
            x.device.type == "cpu"
        ):  # averaging the weights first leaves one product with the values instead of one per head
            mixed = torch.cat(
                [
                    self.weights(x[a:b], days, lookback) @ value[:, a:b]
                    for a, b, days in tiles(x.shape[0], queries, lookback)
                ],
                1,
            )
            return self.out(mixed).transpose(0, 1)
        q, k = self._split(self.query(x[-queries:])), self._split(self.key(x))
        mask = band_mask(queries, x.shape[0], lookback, x.device)
        shared = value[:, None].expand(-1, self.heads, -1, -1)
        mixed = fn.scaled_dot_product_attention(q, k, shared, attn_mask=mask).mean(1)  # [M', queries, head_size]
        return self.out(mixed).transpose(0, 1)


class SAN(nn.Module):
    """Slice-adaptive normalisation as conditioning: the level and spread that a window had, told to the newest state.

    The window of L embedded rows is cut into contiguous slices that cover all of it; their means and standard
    deviations (float32, ddof 0) set a scale and a shift of the newest state, FiLM-style. The last map starts at zero:
    an identity.
    """

    def __init__(self, size: int, lookback: int, slices: int, rank: int) -> None:
        super().__init__()
        edges = [round(i * lookback / slices) for i in range(slices + 1)]
        self.edges = list(itertools.pairwise(edges))
        self.lookback = lookback
        self.reduce = nn.Linear(2 * slices * size, rank)
        self.film = nn.Linear(rank, 2 * size)

    def statistics(self, embedded: Tensor, days: int) -> Tensor:
        """embedded [S, M', H] -> [days, M', 2 * slices * H] float32: means, then standard deviations.

        Two running sums over the rows; a slice of all days' windows is one difference of two views of them.
        """
        x = embedded.float()
        level = x[:1].detach()  # subtracted before squaring: no cancellation, no effect on the result
        centred = x - level
        first = fn.pad(centred.cumsum(0), (0, 0, 0, 0, 1, 0))
        second = fn.pad(centred.square().cumsum(0), (0, 0, 0, 0, 1, 0))
        start = x.shape[0] - days - self.lookback + 1  # first row of the first day's window
        means, deviations = [], []
        for low, high in self.edges:
            share = 1.0 / (high - low)
            newer, older = slice(start + high, start + high + days), slice(start + low, start + low + days)
            mean = (first[newer] - first[older]) * share
            square = (second[newer] - second[older]) * share
            variance = torch.addcmul(square, mean, mean, value=-1.0).clamp_min(0.0)
            means.append(mean + level)
            deviations.append(torch.sqrt(variance + SAN_FLOOR**2))
        return torch.cat(means + deviations, -1)

    def forward(self, state: Tensor, embedded: Tensor) -> Tensor:
        """state [B, M', H], embedded [S, M', H] -> [B, M', H]."""
        with torch.autocast(state.device.type, enabled=False):
            stats = self.statistics(embedded, state.shape[0])
            scale, shift = self.film(self.reduce(stats)).chunk(2, -1)
        return state * (1.0 + scale.to(state.dtype)) + shift.to(state.dtype)


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
        """(output [D, N, H], attention [D, N, K, heads]) of states x [D, N, H] and a table [D, N, K]."""
        days, names, size = x.shape
        k = neighbours.shape[-1]
        offset = torch.arange(days, device=x.device, dtype=neighbours.dtype).view(-1, 1, 1) * names
        source = fn.embedding(neighbours + offset, self.lin_l(x).view(days * names, size))  # [D, N, K, H]
        summed = source + self.lin_r(x)[:, :, None] + self.lin_edge(attr.to(x.dtype))
        active = fn.leaky_relu(summed, self.slope).view(days, names, k, self.heads, self.head_size)
        score = (active * self.att).sum(-1).float().masked_fill(~mask[..., None], float("-inf"))
        attention = torch.softmax(score, 2)
        weighted = source.view_as(active) * attention.to(source.dtype)[..., None]
        return weighted.sum(2).flatten(2) + self.bias, attention

    def forward(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> Tensor:
        """x [D, N, H], neighbours [D, N, K] int, mask [D, N, K] bool (at least one True a row), attr [D, N, K, 3]."""
        return self.attend(x, neighbours, mask, attr)[0]


def pyg_gatv2(size: int, heads: int, edge_size: int = 3, slope: float = 0.2) -> nn.Module:
    """PyG's own GATv2Conv behind the signature of `GATv2` (same parameter names). Imports torch-geometric (seconds)."""
    from torch_geometric.nn import GATv2Conv

    from atft_model.graph import edge_list

    class PygGATv2(GATv2Conv):
        def forward(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> Tensor:
            edges, kept = edge_list(neighbours, mask)
            out = super().forward(x.flatten(0, 1), edges, edge_attr=attr.flatten(0, 2)[kept].to(x.dtype))
            return out.view(*x.shape[:2], -1)

    return PygGATv2(size, size // heads, heads=heads, edge_dim=edge_size, add_self_loops=False, negative_slope=slope)


class GraphAttention(nn.Module):
    """A stack of GATv2 layers with residual and LayerNorm (two layers: deeper stacks make all names alike).

    A node is a name's temporal state plus a linear map of its newest row. The map matters: an encoder trained on a
    name's own return drops what says nothing of the name itself, and that may be just what says something of its
    neighbours.
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
        """state [D, N, H] and newest rows [F, D, N] -> node inputs [D, N, H]."""
        return state + self.inputs(newest.permute(1, 2, 0).to(state.dtype))

    def forward(self, x: Tensor, neighbours: Tensor, mask: Tensor, attr: Tensor) -> Tensor:
        """Node inputs x [D, N, H] and neighbour tables [D, N, K] -> [D, N, H]."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + self.dropout(fn.elu(layer(x, neighbours, mask, attr))))
        return x


GAT_COLUMN_SCALE = 3.0


class Fusion(nn.Module):
    """Joins the temporal state t and the graph state g behind one residual gate alpha = sigmoid(0) = 0.5.

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
        return torch.sigmoid(self.gate)

    def forward(self, temporal: Tensor, graph: Tensor) -> Tensor:
        alpha = self.alpha().to(graph.dtype)
        joined = self.project(torch.cat([temporal, graph], -1))
        if self.kind == "highway":
            joined = temporal + joined
        return alpha * joined + (1.0 - alpha) * graph


class Heads(nn.Module):
    """Scores per horizon in float32: a linear path plus a bounded gated path (as in RankGLU, arXiv 2606.08930).

    bfloat16 scores would give some 1,300 distinct values for 4,000 names, hence ties; the heads never run in it.
    """

    def __init__(self, size: int, horizons: int, rank: int, quantiles: tuple[float, ...], dropout: float) -> None:
        super().__init__()
        self.horizons, self.rank, self.levels = horizons, rank, len(quantiles)
        self.trunk = GRN(size, dropout=dropout)
        self.linear = nn.Linear(size, horizons)
        self.bounded = nn.Linear(size, 2 * horizons * rank)
        self.mix = nn.Parameter(torch.randn(horizons, rank) * rank**-0.5)
        if quantiles:
            self.quantile = nn.Linear(size, horizons * self.levels)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor | None]:
        """state [..., H] -> scores [Z, ...] float32 and, if asked for, quantiles [Z, Q, ...] increasing in Q."""
        with torch.autocast(state.device.type, enabled=False):
            u = self.trunk(state.float())
            value, gate = self.bounded(u).unflatten(-1, (2, self.horizons, self.rank)).unbind(-3)
            scores = self.linear(u) + (torch.tanh(value) * torch.sigmoid(gate) * self.mix).sum(-1)
            quantiles = None
            if self.levels:
                # its own read-out of a detached trunk: the pinball loss cannot pull the ranking features
                raw = self.quantile(u.detach()).unflatten(-1, (self.horizons, self.levels))
                steps = torch.cat([raw[..., :1], fn.softplus(raw[..., 1:])], -1)
                quantiles = steps.cumsum(-1).movedim((-2, -1), (0, 1))
        return scores.movedim(-1, 0), quantiles
