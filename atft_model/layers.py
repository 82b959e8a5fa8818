"""The parts of the network that see one name alone, each a small module with its tensor shapes in the docstring.

The one legend of letters is in `atft_model.interchange`. The newest row is row-major ([D, W, F]). Sequences are not, at
first: G * W, the names of all chunks of a step, is one axis up to the attention, M = S * G * W, and each input is one
contiguous row ([R, M]), so the work per input is a batched matrix product and long vector loops, and the sum over them
is one GEMM. From the first hidden state on they are row-major too ([M, A]). What looks at other names is in
`graph_layers.py`.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

FAN_FLOOR = 0.05  # smallest standard deviation that a FAN window is divided by; inputs have unit scale across names
FAN_GATE = 0.5  # at the start; half of a value is then its deviation from its own level
SAN_FLOOR = 1e-3
TILE = 16  # queries that attend together on a CPU: long chunks are cut so that little outside the band is computed


class Dropout(nn.Module):
    """Dropout whose CPU mask takes one random byte per value (torch's own draws one number each, serially).

    On a CPU the rate is therefore a multiple of 1/256; the kept values are scaled by the rate that is really used.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.cut = round(rate * 256)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same shape."""
        if not self.training or self.cut == 0:
            return x
        if x.device.type != "cpu":
            return fn.dropout(x, self.rate)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.cut
        return x * (kept * (256.0 / (256 - self.cut))).to(x.dtype)


class NewestRow(nn.Module):
    """The state of a name from all features of the evening: two layers, each normalised, bent and dropped.

    It carries the score. The engineered features hold their windows in themselves, and a state of 16 to 32 behind a
    selection over all of them and 60 days of each lost to ridge regression on real prices; this does not.
    """

    def __init__(self, features: int, inner: int, size: int, dropout: float) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Linear(features, inner), nn.LayerNorm(inner)
        self.second, self.second_norm = nn.Linear(inner, size), nn.LayerNorm(size)
        self.dropout = Dropout(dropout)

    def forward(self, newest: Tensor) -> Tensor:
        """newest [..., F] -> [..., C]."""
        state = self.dropout(fn.silu(self.first_norm(self.first(newest))))
        return self.dropout(fn.silu(self.second_norm(self.second(state))))


def trailing_z(x: Tensor, windows: tuple[int, ...]) -> list[Tensor]:
    """z-score of each value over its own last `w` rows, for every w.

    x [R, S, G*W] float32 -> one [R, S, G*W] per window. Row s uses rows max(0, s-w+1)..s: causal, edges use what there
    is. The two running sums start from the series' first value subtracted, so a constant series gives exactly 0 and
    large levels cost no digits; zeros in front of them make every window one difference of two views.
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
    """Frequency-adaptive normalisation of the sequence inputs, causal and per input.

    y = (1 - g_f) x + g_f * sum_w a_{f,w} z_w(x): a mixture of high-pass filters whose cut-off (a, softmax over
    windows) and strength (g, tanh) every input learns. A gate near 0 keeps the level, which is often the signal
    itself; below 0 the level is raised over what is fast. All start half open: level and deviation are both there to be
    learned from the first step, and no score changes by it, for the encoder joins by a map that starts at zero.
    """

    def __init__(self, features: int, windows: tuple[int, ...]) -> None:
        super().__init__()
        self.windows = windows
        self.logits = nn.Parameter(torch.zeros(features, len(windows)))
        self.gamma = nn.Parameter(torch.full((features,), math.atanh(FAN_GATE)))

    def coefficients(self) -> Tensor:
        """[R, 1 + windows]: weight of the raw value, then of each window's z-score; rows sum to 1."""
        gate = torch.tanh(self.gamma)[:, None]
        return torch.cat([1.0 - gate, gate * torch.softmax(self.logits, 1)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [R, S, G*W] -> [R, S, G*W] float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            parts = torch.stack([x, *trailing_z(x, self.windows)], 1)  # [R, 1 + windows, S, G*W]
            return torch.bmm(self.coefficients()[:, None], parts.flatten(2)).view_as(x)


class GatedAddNorm(nn.Module):
    """LayerNorm(skip + GLU(W x)): the gate can close a block completely (TFT, arXiv 1912.09363)."""

    def __init__(self, size: int, inner: int | None = None) -> None:
        super().__init__()
        self.gate = nn.Linear(inner or size, 2 * size)
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x [..., inner] and skip [..., size] -> [..., size]."""
        return self.norm(skip + fn.glu(self.gate(x), -1))


class GRN(nn.Module):
    """Gated residual network: LayerNorm(x + GLU(W2 dropout(ELU(W1 x))))."""

    def __init__(self, size: int, inner: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(size, inner or size)
        self.add_norm = GatedAddNorm(size, inner or size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size] -> [..., size]."""
        return self.add_norm(self.dropout(fn.elu(self.expand(x))), x)


class VariableSelection(nn.Module):
    """Embeds every sequence input on its own and mixes them by learned, input-dependent weights.

    e_r = GLU(W_r elu(x_r u_r + c_r)) for all inputs in one batched product; v = softmax over inputs of a gated network
    on all of them; output = LayerNorm(W [v_1 e_1, ..., v_R e_R]).
    """

    def __init__(self, features: int, feature_size: int, context: int, size: int) -> None:
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
        self.project = nn.Linear(features * feature_size, size)
        self.norm = nn.LayerNorm(size)

    def weights(self, x: Tensor) -> Tensor:
        """x [R, M] -> v [R, M], summing to 1 over inputs; float32."""
        context = self.context(self.context_in(x.t()))
        logits = torch.addmm(self.context_out.bias[:, None], self.context_out.weight, context.t())
        return torch.softmax(logits.float(), 0)

    def forward(self, x: Tensor) -> Tensor:
        """x [R, M] -> [M, A]."""
        embedded = fn.elu(torch.addcmul(self.shift.to(x.dtype), x[:, None], self.scale.to(x.dtype)))  # [R, E, M]
        gated = fn.glu(torch.baddbmm(self.mix_bias, self.mix, embedded), 1)  # [R, E, M]
        # times R: uniform weights leave the scale as it is, whatever the number of inputs
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
        """x [rows, G*W, A] -> [G*W, heads, rows, head_size]."""
        return x.unflatten(-1, (self.heads, self.head_size)).permute(1, 2, 0, 3)

    def weights(self, x: Tensor, queries: int, lookback: int) -> Tensor:
        """Head-averaged attention weights [G*W, queries, S] of x [S, G*W, A]."""
        q, k = self._split(self.query(x[-queries:])), self._split(self.key(x))
        seen = band_mask(queries, x.shape[0], lookback, x.device)
        hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, float("-inf"))
        q = (q * self.head_size**-0.5).flatten(0, 1)
        scores = torch.baddbmm(hidden[None], q, k.flatten(0, 1).transpose(1, 2))
        return torch.softmax(scores.float(), -1).unflatten(0, (-1, self.heads)).mean(1)

    def forward(self, x: Tensor, queries: int, lookback: int) -> Tensor:
        """x [S, G*W, A] -> [queries, G*W, A]."""
        value = self.value(x).transpose(0, 1)  # [G*W, S, head_size]
        if x.device.type == "cpu":
            # averaging the weights first leaves one product with the values instead of one per head
            parts = [
                self.weights(x[start:stop], days, lookback) @ value[:, start:stop]
                for start, stop, days in tiles(x.shape[0], queries, lookback)
            ]
            return self.out(torch.cat(parts, 1)).transpose(0, 1)
        q, k = self._split(self.query(x[-queries:])), self._split(self.key(x))
        mask = band_mask(queries, x.shape[0], lookback, x.device)
        shared = value[:, None].expand(-1, self.heads, -1, -1)
        mixed = fn.scaled_dot_product_attention(q, k, shared, attn_mask=mask).mean(1)  # [G*W, queries, head_size]
        return self.out(mixed).transpose(0, 1)


class SAN(nn.Module):
    """Slice-adaptive normalisation as conditioning: the level and spread that a window had, told to its newest state.

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
        """embedded [S, G*W, A] -> [days, G*W, 2 * slices * A] float32: means, then standard deviations.

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
        """state [B, G*W, A], embedded [S, G*W, A] -> [B, G*W, A]."""
        with torch.autocast(state.device.type, enabled=False):
            stats = self.statistics(embedded, state.shape[0])
            scale, shift = self.film(self.reduce(stats)).chunk(2, -1)
        return state * (1.0 + scale.to(state.dtype)) + shift.to(state.dtype)


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
        """state [..., C] -> scores [H, ...] float32 and, if asked for, quantiles [H, Q, ...] increasing in Q."""
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
