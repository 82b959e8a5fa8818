"""ATFT-GAT-FAN, whole: the newest row, the temporal encoder beside it, graph attention, heads per horizon.

What is special:
* the newest row of all features carries the score; the temporal encoder reads few raw inputs over the look-back and
  joins by a map that starts at zero, so switching it on starts from exactly the scores of the newest row;
* sequences, FAN, SAN and GAT are switched at construction; a module that is off is not computed, but its parameters are
  there, so a phase of the curriculum starts from any earlier phase's weights;
* the windows of a chunk of B consecutive days are encoded once: every module up to the LSTM is a causal function of
  time, and each of the B days then attends to its own last L rows through a banded mask;
* no statistic over the batch anywhere: with the graph off a name's score depends on that name alone;
* a network knows what it computes in: whoever runs it does so inside its own `precision()`, and so what is scored in
  the end is what was validated.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from atft_model import device as devices
from atft_model.graph_layers import Fusion, GraphAttention
from atft_model.interchange.config import ModelConfig, Switches
from atft_model.interchange.errors import ConfigError
from atft_model.interchange.panel import PanelDescription
from atft_model.layers import (
    FAN,
    GRN,
    SAN,
    Dropout,
    GatedAddNorm,
    Heads,
    InterpretableAttention,
    NewestRow,
    VariableSelection,
)

TEMPORAL = ("fan", "vsn", "lstm", "attention", "san", "join")
MODULES = ("newest", *TEMPORAL, "gat", "fusion", "head")
"""Parameter groups in computing order: learning rates, freezing and gradient norms are stated per group."""


class Sizes(NamedTuple):
    """What a panel decides of a network's shapes."""

    features: int  # F
    sequences: int  # R
    horizons: int  # H


def sizes_of(panel: PanelDescription) -> Sizes:
    """The sizes of networks for a panel."""
    return Sizes(len(panel.features), len(panel.sequences), len(panel.horizons))


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
        """x [S, G*W, A] -> [queries, G*W, A]."""
        return self.feed_forward(self.add_norm(self.attention(x, queries, lookback), x[-queries:]))


class ATFTGATFAN(nn.Module):
    """The network: the newest rows and the windows of chunks in, scores of the predicted days out.

    `build_model` compiles it where that pays. `model(...)` is then the compiled network and `model.forward(...)` the
    same in eager mode, for the few passes of a validation or a probe that do not pay for compiling.
    """

    def __init__(
        self, config: ModelConfig, sizes: Sizes, *, switches: Switches | None = None,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        """
        Args:
            switches: the optional modules that take part; by default all.
            compute_dtype: bfloat16 holds the wide tensors in it and runs under autocast.

        Raises:
            ConfigError: sequences are to be read, and the panel marks none.
        """
        super().__init__()
        self.config, self.sizes = config, sizes
        self._switches, self._compute_dtype = switches or Switches(), compute_dtype
        if self._switches.temporal and not sizes.sequences:
            raise ConfigError(
                "no feature of the panel is marked as a sequence, and this phase reads sequences over the look-back: "
                "build the panel with a feature set that has some, or train phase 0 alone"
            )
        size, width = config.hidden_size, config.temporal_size
        self.newest = NewestRow(sizes.features, config.newest_size, size, config.dropout)

        read = max(sizes.sequences, 1)  # of a panel that marks none the encoder is never on
        self.fan = FAN(read, config.fan_windows)
        self.vsn = VariableSelection(read, config.feature_size, config.context_size, width)
        self.lstm = nn.ModuleDict(
            {"cell": nn.LSTM(width, width, num_layers=config.lstm_layers), "add_norm": GatedAddNorm(width)}
        )
        self.attention = nn.ModuleList(
            AttentionBlock(width, config.attention_heads, config.feed_forward, config.dropout)
            for _ in range(config.attention_blocks)
        )
        self.san = SAN(width, config.lookback, config.san_slices, config.san_rank)
        self.join = nn.Linear(width, size, bias=False)

        self.gat = GraphAttention(sizes.features, size, config.gat_heads, config.gat_backend, config.dropout)
        self.fusion = Fusion(size, config.fusion)
        self.head = Heads(size, sizes.horizons, config.head_rank, config.quantiles, config.dropout)
        self.dropout = Dropout(config.dropout)
        self._set_starting_values()

    def _set_starting_values(self) -> None:
        nn.init.zeros_(self.join.weight)  # the sequences say nothing until they have learned something
        nn.init.zeros_(self.san.film.weight)  # SAN is an identity until then
        nn.init.zeros_(self.san.film.bias)
        for name, bias in self.lstm["cell"].named_parameters():
            if name.startswith("bias_ih"):  # forget gates open: gradients reach the oldest rows from the first step
                with torch.no_grad():
                    bias[self.config.temporal_size : 2 * self.config.temporal_size] = 1.0

    def forward(self, newest: Tensor, windows: Tensor | None = None, graph: Graph | None = None) -> Output:
        """Scores of the predicted days, D = B * G, day-major.

        Args:
            newest: [D, W, F], all features of each predicted day.
            windows: [R, S, G, W], the sequence inputs over the S = L + B - 1 rows of each chunk; needed where the
                temporal encoder is on.
            graph: tables [D, W, K]; needed where graph attention is on.

        Returns:
            Scores [H, D, W] and, if the network forecasts them, quantiles [H, Q, D, W].

        Raises:
            ValueError: a module is on and what it reads is not given.
        """
        sequences = None
        if self._switches.temporal:  # as `read`, but not through it: compiled, a call that is cut is one more graph
            if windows is None:
                raise ValueError("the temporal encoder is switched on but no windows were given")
            embedded = self._embed(windows)
            sequences = self._attend(self._recur(embedded), embedded, newest.shape[1])
        return self.score(newest, sequences, graph)

    def score(self, newest: Tensor, sequences: Tensor | None, graph: Graph | None) -> Output:
        """As `forward`, of newest rows [D, W, F] and what `read` made of the sequences, [D, W, C]."""
        newest = newest.to(self._compute_dtype)
        state = self.newest(newest)  # [D, W, C]

        if sequences is not None:
            state = state + sequences  # [D, W, C]

        if self._switches.gat:
            if graph is None:
                raise ValueError("graph attention is switched on but no neighbour table was given")
            nodes = self.gat.nodes(state, newest)  # [D, W, C]
            state = self.fusion(state, self.gat(nodes, *graph))  # [D, W, C]

        return Output(*self.head(state))  # [H, D, W], [H, Q, D, W]

    def read(self, windows: Tensor) -> Tensor:
        """What the sequences add to the states: windows [R, S, G, W] -> [D, W, C], zero until `join` has learned."""
        embedded = self._embed(windows)
        return self._attend(self._recur(embedded), embedded, names=windows.shape[-1])

    def _embed(self, windows: Tensor) -> Tensor:
        """windows [R, S, G, W] -> [S, G*W, A]."""
        x = windows.flatten(2)  # [R, S, G*W]
        if self._switches.fan:
            x = self.fan(x)  # [R, S, G*W]
        inputs = x.flatten(1).to(self._compute_dtype)  # [R, M]
        return self.vsn(inputs).unflatten(0, x.shape[1:])  # [S, G*W, A]

    def _attend(self, recurrent: Tensor, embedded: Tensor, names: int) -> Tensor:
        """What the LSTM made of the embedded rows, and these, [S, G*W, A] both -> [D, W, C]."""
        rows, lookback = embedded.shape[0], self.config.lookback
        state = self.lstm["add_norm"](recurrent, embedded)  # [S, G*W, A]

        for block in self.attention[:-1]:
            state = block(state, rows, lookback)  # [S, G*W, A]
        state = self.attention[-1](state, rows - lookback + 1, lookback)  # [B, G*W, A]

        if self._switches.san:
            state = self.san(state, embedded)  # [B, G*W, A]
        state = self.dropout(state).unflatten(1, (-1, names)).flatten(0, 1)  # [D, W, A]
        return self.join(state)  # [D, W, C]

    def _recur(self, embedded: Tensor) -> Tensor:
        """embedded [S, G*W, A] -> [S, G*W, A], always float32 (TF32 where allowed): its cost is latency.

        It stays cuDNN's: a compiled network that reads sequences is two graphs, before and after it.
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
        """What the wide tensors are held in."""
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
        if not on.temporal:
            off.update(TEMPORAL)
        return tuple(m for m in MODULES if m not in off)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters per group."""
        counts = dict.fromkeys(MODULES, 0)
        for name, p in self.named_parameters():
            counts[self.module_of(name)] += p.numel()
        return counts

    @staticmethod
    def decays(name: str, parameter: Tensor) -> bool:
        """Weight decay applies to matrices only: not to gates, norms, biases, nor to the inputs' scale and shift."""
        return (
            parameter.ndim >= 2
            and not name.startswith(("fan.", "vsn.scale", "vsn.shift", "vsn.mix_bias"))
            and ("bias" not in name)
        )


def build_model(
    config: ModelConfig, sizes: Sizes, *, switches: Switches | None = None, mode: str = "safe",
    device: torch.device | str = "cpu", compiled: bool = False,
) -> ATFTGATFAN:  # fmt: skip
    """A network with new weights on a device, computing as the mode says; the one way in which the package makes one.

    Args:
        switches: the optional modules that take part; by default all.
        compiled: `model(...)` runs compiled (`model.forward(...)` never does).

    Raises:
        ConfigError: sequences are to be read, and the panel marks none.
    """
    device = torch.device(device)
    dtype = devices.compute_dtype(mode, device)
    model = ATFTGATFAN(config, sizes, switches=switches, compute_dtype=dtype).to(device)
    if compiled:
        model.compile_around_the_lstm()
    return model
