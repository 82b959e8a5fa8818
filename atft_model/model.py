"""ATFT-GAT-FAN, whole: adaptive temporal fusion encoder, graph attention, heads per horizon.

What is special:
* a chunk of B consecutive days is encoded once: every module up to the LSTM is a causal function of time, and each of
  the B days then attends to its own last L rows through a banded mask;
* FAN, SAN and GAT are switched by data (`config.Switches`); a module that is off is not computed, and what is on
  needs no change of shapes, so a stage of the curriculum starts from any earlier stage's weights;
* two regions without graph breaks, `front` (FAN, variable selection) and `back` (attention to heads), around the
  LSTM, which stays cuDNN's;
* no statistic over the batch anywhere: with the graph off a name's score depends on that name alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atft_model.config import ModelConfig, Switches
from atft_model.layers import (
    FAN,
    GRN,
    SAN,
    Dropout,
    Fusion,
    GatedAddNorm,
    GraphAttention,
    Heads,
    InterpretableAttention,
    VariableSelection,
)

MODULES = ("fan", "vsn", "lstm", "attention", "san", "gat", "fusion", "head")
"""Parameter groups in computing order: learning rates, freezing and gradient norms are stated per group."""


class Graph(NamedTuple):
    """Neighbour tables of the predicted days, [D, N, K] with D = B * G; see `graph.py`."""

    neighbours: Tensor
    mask: Tensor
    attr: Tensor


class Output(NamedTuple):
    scores: Tensor  # [Z, D, N] float32, what ranks
    quantiles: Tensor | None  # [Z, Q, D, N] float32, increasing in Q


class AttentionBlock(nn.Module):
    """Self-attention and feed-forward, each behind a gate, a residual and a LayerNorm."""

    def __init__(self, size: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = InterpretableAttention(size, heads)
        self.add_norm = GatedAddNorm(size)
        self.feed_forward = GRN(size, feed_forward * size, dropout)

    def forward(self, x: Tensor, queries: int, lookback: int) -> Tensor:
        """x [S, M', H] -> [queries, M', H]."""
        return self.feed_forward(self.add_norm(self.attention(x, queries, lookback), x[-queries:]))


class ATFTGATFAN(nn.Module):
    """The network. Input: features of a chunk, x [F, S, G, N]; output: scores for its last B days of every chunk."""

    def __init__(self, config: ModelConfig, features: int, horizons: int) -> None:
        super().__init__()
        self.config, self.features, self.horizons = config, features, horizons
        size = config.hidden_size
        self.fan = FAN(features, config.fan_windows)
        self.vsn = VariableSelection(features, config.feature_size, config.context_size, size)
        self.lstm = nn.ModuleDict(
            {"cell": nn.LSTM(size, size, num_layers=config.lstm_layers), "add_norm": GatedAddNorm(size)}
        )
        self.attention = nn.ModuleList(
            AttentionBlock(size, config.attention_heads, config.feed_forward, config.dropout)
            for _ in range(config.attention_blocks)
        )
        self.san = SAN(size, config.lookback, config.san_slices, config.san_rank)
        self.gat = GraphAttention(features, size, config.gat_heads, config.gat_backend, config.dropout)
        self.fusion = Fusion(size, config.fusion)
        self.head = Heads(size, horizons, config.head_rank, config.quantiles, config.dropout)
        self.dropout = Dropout(config.dropout)
        self.switches = Switches()
        self.compute_dtype = torch.float32  # bfloat16 under autocast: what the wide per-feature tensors are held in
        self.regions: tuple[Callable[..., Tensor], Callable[..., Output]] = (self.front, self.back)
        self.reset_zero_maps()

    def reset_zero_maps(self) -> None:
        """The one map that must start at zero: SAN is an identity until it has learned something."""
        nn.init.zeros_(self.san.film.weight)
        nn.init.zeros_(self.san.film.bias)
        for name, bias in self.lstm["cell"].named_parameters():
            if name.startswith("bias_ih"):  # forget gates open: gradients reach the oldest rows from the first step
                with torch.no_grad():
                    bias[self.config.hidden_size : 2 * self.config.hidden_size] = 1.0

    def compile_regions(self, **options: object) -> None:
        """Compiles the two regions; they must stay free of graph breaks (`fullgraph`).

        What was compiled for earlier networks is dropped first: torch allows only a few variants of one function.
        """
        torch.compiler.reset()
        compiled = [torch.compile(r, fullgraph=True, dynamic=False, **options) for r in (self.front, self.back)]  # type: ignore[call-overload]
        self.regions = (compiled[0], compiled[1])

    def front(self, x: Tensor) -> Tensor:
        """x [F, S, M'] -> embedded rows [S, M', H]."""
        if self.switches.fan:
            x = self.fan(x)
        return self.vsn(x.flatten(1).to(self.compute_dtype)).view(*x.shape[1:], self.config.hidden_size)

    def recurrent(self, embedded: Tensor) -> Tensor:
        """embedded [S, M', H] -> [S, M', H]; always float32 (TF32 where allowed): latency, not arithmetic, is its
        cost.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            return self.lstm["cell"](embedded.float())[0]

    def temporal(self, embedded: Tensor, recurrent: Tensor, days: int) -> Tensor:
        """embedded and LSTM output [S, M', H] -> newest states [B, M', H]."""
        state = self.lstm["add_norm"](recurrent, embedded)
        for block in self.attention[:-1]:
            state = block(state, state.shape[0], self.config.lookback)
        state = self.attention[-1](state, days, self.config.lookback)
        if self.switches.san:
            state = self.san(state, embedded)
        return self.dropout(state)

    def states(self, embedded: Tensor, recurrent: Tensor, newest: Tensor) -> Tensor:
        """Hidden rows [S, M', H] -> states of the predicted days [D, N, H]; newest [F, D, N] gives the shapes."""
        days = embedded.shape[0] - self.config.lookback + 1
        return self.temporal(embedded, recurrent, days).unflatten(1, (-1, newest.shape[2])).flatten(0, 1)

    def back(self, embedded: Tensor, recurrent: Tensor, newest: Tensor, graph: Graph | None) -> Output:
        """Hidden rows [S, M', H], newest rows [F, D, N], tables [D, N, K] -> scores; M' = G * N, D = B * G."""
        state = self.states(embedded, recurrent, newest)
        if self.switches.gat:
            if graph is None:
                raise ValueError("graph attention is switched on but no neighbour table was given")
            state = self.fusion(state, self.gat(self.gat.nodes(state, newest), *graph))
        return Output(*self.head(state))

    def forward(self, x: Tensor, graph: Graph | None = None) -> Output:
        """x [F, S, G, N] (S = L + B - 1) -> scores [Z, B * G, N] float32, day-major."""
        front, back = self.regions
        embedded = front(x.flatten(2))
        return back(embedded, self.recurrent(embedded), self.newest(x), graph if self.switches.gat else None)

    def newest(self, x: Tensor) -> Tensor:
        """x [F, S, G, N] -> rows of the predicted days [F, D, N], day-major."""
        return x[:, self.config.lookback - 1 :].flatten(1, 2)

    def module_of(self, parameter: str) -> str:
        """The group (one of MODULES) that a parameter's name belongs to."""
        return parameter.split(".", 1)[0]

    def active_modules(self) -> tuple[str, ...]:
        """The groups that take part in the computation under the present switches."""
        off = set()
        if not self.switches.fan:
            off.add("fan")
        if not self.switches.san:
            off.add("san")
        if not self.switches.gat:
            off |= {"gat", "fusion"}
        return tuple(m for m in MODULES if m not in off)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters per group."""
        counts = dict.fromkeys(MODULES, 0)
        for name, p in self.named_parameters():
            counts[self.module_of(name)] += p.numel()
        return counts

    @staticmethod
    def decays(name: str, parameter: Tensor) -> bool:
        """Weight decay applies to matrices only: not to gates, norms, biases, nor to the features' scale and shift."""
        return (
            parameter.ndim >= 2
            and not name.startswith(("fan.", "vsn.scale", "vsn.shift", "vsn.mix_bias"))
            and ("bias" not in name)
        )

    def flops_per_stock_day(self, chunk_days: int, neighbours: int) -> float:
        """Multiply-add FLOPs of one training step (forward and backward, 3 x forward) per predicted (day, name).

        Counted from the shapes: 2 FLOP for each multiply-add of every matrix product; element-wise work is left out.
        Rows of a chunk are shared by its days, so encoder work counts S / B times.
        """
        c, f = self.config, self.features
        h, d = c.hidden_size, c.feature_size
        rows = (c.lookback + chunk_days - 1) / chunk_days
        select = f * c.context_size + 3 * c.context_size**2 + c.context_size * f
        encode = f * 2 * d * d + f * d * h + select + c.lstm_layers * 8 * h * h + 2 * h * h
        keys = h * h + h * (h // c.attention_heads)
        inner = c.feed_forward * h
        query = h * h + 2 * c.lookback * h + h * h // c.attention_heads + 2 * h * h + h * inner + 2 * inner * h
        attention = (c.attention_blocks - 1) * rows * (keys + query) + rows * keys + query
        san = (2 * c.san_slices * h + 2 * h) * c.san_rank if self.switches.san else 0
        gat = (len(c.gat_heads) * (2 * h * h + neighbours * 5 * h) + f * h + 2 * h * h) if self.switches.gat else 0
        heads = 3 * h * h + h * self.horizons * (1 + 2 * c.head_rank)
        return 6.0 * (rows * encode + attention + san + gat + heads)
