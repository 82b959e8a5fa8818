"""ATFT-GAT-FAN, whole: adaptive temporal fusion encoder, graph attention, heads per horizon.

What is special:
* a chunk of B consecutive days is encoded once: every module up to the LSTM is a causal function of time, and each of
  the B days then attends to its own last L rows through a banded mask;
* FAN, SAN and GAT are switched at construction; a module that is off is not computed, but its parameters are there, so
  a phase of the curriculum starts from any earlier phase's weights;
* no statistic over the batch anywhere: with the graph off a name's score depends on that name alone;
* a network knows what it computes in: whoever runs it does so inside its own `precision()`, and so what is scored in
  the end is what chose the epoch.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from atft_model import device as devices
from atft_model.graph_layers import Fusion, GraphAttention
from atft_model.interchange.config import ModelConfig, Switches
from atft_model.layers import (
    FAN,
    GRN,
    SAN,
    Dropout,
    GatedAddNorm,
    Heads,
    InterpretableAttention,
    VariableSelection,
)

MODULES = ("fan", "vsn", "lstm", "attention", "san", "gat", "fusion", "head")
"""Parameter groups in computing order: learning rates, freezing and gradient norms are stated per group."""


class Graph(NamedTuple):
    """Neighbour tables of the predicted days, D = B * G; see `graph.py`."""

    neighbours: Tensor  # [D, W, K] int
    mask: Tensor  # [D, W, K] bool
    attr: Tensor  # [D, W, K, 3]


class Output(NamedTuple):
    """What the network says of the predicted days, D = B * G, day-major."""

    scores: Tensor  # [H, D, W] float32, what ranks
    quantiles: Tensor | None  # [H, Q, D, W] float32, increasing in Q


class AttentionBlock(nn.Module):
    """Self-attention and feed-forward, each behind a gate, a residual and a LayerNorm."""

    def __init__(self, size: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = InterpretableAttention(size, heads)
        self.add_norm = GatedAddNorm(size)
        self.feed_forward = GRN(size, feed_forward * size, dropout)

    def forward(self, x: Tensor, queries: int, lookback: int) -> Tensor:
        """x [S, G*W, C] -> [queries, G*W, C]."""
        return self.feed_forward(self.add_norm(self.attention(x, queries, lookback), x[-queries:]))


class ATFTGATFAN(nn.Module):
    """The network: features of chunks in, scores of the last B days of every chunk out.

    `build_model` compiles it where that pays. `model(x, graph)` is then the compiled network and `model.forward(x,
    graph)` the same in eager mode, for the few passes of a validation or a probe that do not pay for compiling.
    """

    def __init__(
        self, config: ModelConfig, features: int, horizons: int, *, switches: Switches | None = None,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        """
        Args:
            switches: the optional modules that take part; by default all.
            compute_dtype: bfloat16 holds the wide per-feature tensors in it and runs under autocast.
        """
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
        self._switches = switches or Switches()
        self._compute_dtype = compute_dtype
        self._set_starting_values()

    def _set_starting_values(self) -> None:
        nn.init.zeros_(self.san.film.weight)  # SAN is an identity until it has learned something
        nn.init.zeros_(self.san.film.bias)
        for name, bias in self.lstm["cell"].named_parameters():
            if name.startswith("bias_ih"):  # forget gates open: gradients reach the oldest rows from the first step
                with torch.no_grad():
                    bias[self.config.hidden_size : 2 * self.config.hidden_size] = 1.0

    def forward(self, x: Tensor, graph: Graph | None = None) -> Output:
        """Scores of the days of every chunk.

        Args:
            x: [F, S, G, W], S = L + B - 1 rows of each chunk.
            graph: tables [D, W, K] of the predicted days, D = B * G, day-major; needed where graph attention is on.

        Returns:
            Scores [H, D, W] and, if the network forecasts them, quantiles [H, Q, D, W].

        Raises:
            ValueError: graph attention is on and there is no graph.
        """
        on, lookback = self._switches, self.config.lookback
        rows, names = x.shape[1], x.shape[3]
        newest = x[:, lookback - 1 :].flatten(1, 2)  # [F, D, W]

        x = x.flatten(2)  # [F, S, G*W]
        if on.fan:
            x = self.fan(x)  # [F, S, G*W]

        inputs = x.flatten(1).to(self._compute_dtype)  # [F, M]
        embedded = self.vsn(inputs).unflatten(0, x.shape[1:])  # [S, G*W, C]

        recurrent = self._recur(embedded)  # [S, G*W, C]
        state = self.lstm["add_norm"](recurrent, embedded)  # [S, G*W, C]

        for block in self.attention[:-1]:
            state = block(state, rows, lookback)  # [S, G*W, C]
        state = self.attention[-1](state, rows - lookback + 1, lookback)  # [B, G*W, C]

        if on.san:
            state = self.san(state, embedded)  # [B, G*W, C]
        state = self.dropout(state).unflatten(1, (-1, names)).flatten(0, 1)  # [D, W, C]

        if on.gat:
            if graph is None:
                raise ValueError("graph attention is switched on but no neighbour table was given")
            nodes = self.gat.nodes(state, newest)  # [D, W, C]
            state = self.fusion(state, self.gat(nodes, *graph))  # [D, W, C]

        return Output(*self.head(state))  # [H, D, W], [H, Q, D, W]

    def _recur(self, embedded: Tensor) -> Tensor:
        """embedded [S, G*W, C] -> [S, G*W, C], always float32 (TF32 where allowed): its cost is latency.

        It stays cuDNN's: a compiled network is two graphs, before and after it.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            return self.lstm["cell"](embedded.float())[0]

    def compile_around_the_lstm(self, **options: Any) -> None:
        """Let `model(...)` run compiled; for `build_model`.

        What was compiled for earlier networks is dropped first: torch allows only a few variants of one function.
        """
        torch.compiler.reset()
        self._recur = torch.compiler.disable(self._recur)  # type: ignore[method-assign]
        self.compile(dynamic=False, **options)

    def precision(self) -> AbstractContextManager[Any]:
        """The context in which the network is run, forward: autocast if it computes in bfloat16."""
        if self._compute_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.head.mix.device.type, dtype=self._compute_dtype)

    @property
    def switches(self) -> Switches:
        """The optional modules that take part."""
        return self._switches

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the wide per-feature tensors are held in."""
        return self._compute_dtype

    def module_of(self, parameter: str) -> str:
        """The group (one of MODULES) that a parameter's name belongs to."""
        return parameter.split(".", 1)[0]

    def active_modules(self) -> tuple[str, ...]:
        """The groups that take part in the computation."""
        on = self._switches
        off = {
            name for name, is_on in (("fan", on.fan), ("san", on.san), ("gat", on.gat), ("fusion", on.gat)) if not is_on
        }
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


def build_model(
    config: ModelConfig, features: int, horizons: int, *, switches: Switches | None = None, mode: str = "safe",
    device: torch.device | str = "cpu", compiled: bool = False,
) -> ATFTGATFAN:  # fmt: skip
    """A network with new weights on a device, computing as the mode says; the one way in which the package makes one.

    Args:
        features, horizons: counts, F and H.
        switches: the optional modules that take part; by default all.
        compiled: `model(...)` runs compiled (`model.forward(...)` never does).
    """
    device = torch.device(device)
    dtype = devices.compute_dtype(mode, device)
    model = ATFTGATFAN(config, features, horizons, switches=switches, compute_dtype=dtype).to(device)
    if compiled:
        model.compile_around_the_lstm()
    return model
