"""The panel on the device: every feature, label and neighbour table resident; nothing else feeds the network.

`interchange.panel` defines the directory, `loading` reads it. In memory features are [T, N, F], so a newest row is a
gather of whole rows; the few that are read as sequences lie beside them once more, [R, L-1 + T, N], with L - 1 rows of
zeros before the first day (zero is "missing"), so any window is a gather too and no day needs a special case. Labels
are per-day gaussianised ranks and robust z-scores of market-excess returns. A panel holds no split: what needs a block
is given its days.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from atft_model import graph as tables
from atft_model.interchange.config import Switches, TrainConfig
from atft_model.interchange.errors import FoldError, PanelError
from atft_model.interchange.panel import PanelDescription, open_panel, sector_numbers
from atft_model.loading import Loader, padded
from atft_model.losses import Targets, gaussianise
from atft_model.metrics import average_ranks, trailing_volatility
from atft_model.model import Graph

LABEL_ROWS = 64  # days turned into targets at a time: bounds the temporary memory
SPARE_WIDTH = 0.9  # chunks get an axis of their own if it is at most this share of the panel's: below, the gather pays
PAD_CPU, PAD_GPU = 16, 64  # the axis of names is padded to a multiple


@dataclass(frozen=True)
class Batch:
    """One step's chunks; the D = B * G predicted days are day-major."""

    newest: Tensor  # all features of each predicted day [D, W, F]
    windows: Tensor | None  # the sequence inputs of the chunks' rows [R, S, G, W]; None where none are read
    targets: Targets  # [H, B, G, W]
    valid: Tensor  # eligibility [B, G, W]
    graph: Graph  # tables [D, W, K]
    names: Tensor  # columns of the panel that the W names are [G, W]

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None, Graph]:
        """What the network is called with."""
        return self.newest, self.windows, self.graph


@dataclass(frozen=True)
class Draw:
    """A random draw of names, anew for each step.

    Attributes:
        names: how many of the names that are eligible on a day of the chunk.
        seed: of the step: equal seeds draw equal names.
    """

    names: int
    seed: int


def chunk_width(valid: Tensor, chunk_days: int) -> int:
    """Names that the fullest chunk of valid [T, N] needs, rounded up to 16; N if that saves little."""
    days, names = valid.shape
    most = 0
    for start in range(0, days, LABEL_ROWS):
        rows = valid[start : start + LABEL_ROWS + chunk_days - 1]
        seen = torch.nn.functional.pad(rows.cumsum(0, dtype=torch.int32), (0, 0, 1, 0))
        last = torch.arange(chunk_days, chunk_days + LABEL_ROWS, device=valid.device).clamp(max=len(rows))
        first = torch.arange(LABEL_ROWS, device=valid.device).clamp(max=len(rows))
        most = max(most, int((seen[last] > seen[first]).sum(-1).max()))
    width = -(-most // 16) * 16
    return width if width <= SPARE_WIDTH * names else names


def excess_and_targets(returns: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw returns [H, T, N] and eligibility [T, N] as targets, zeros outside the mask.

    Returns:
        Gaussianised ranks, robust z-scores and their mask, all [H, T, N], and the first horizon's excess [T, N].

    The excess is over the day's median among valid names with a label. z is excess / (1.4826 MAD), winsorised at +-3.
    """
    mask = valid & torch.isfinite(returns)
    rank, z = torch.zeros_like(returns), torch.zeros_like(returns)
    first = torch.zeros_like(returns[0])
    for start in range(0, returns.shape[1], LABEL_ROWS):
        rows = slice(start, start + LABEL_ROWS)
        y, m = returns[:, rows].double(), mask[:, rows]
        count = m.sum(-1, keepdim=True)
        middle = ((count - 1).clamp_min(0) // 2).expand(*m.shape[:-1], 1)

        def median(values: Tensor, m: Tensor = m, middle: Tensor = middle) -> Tensor:
            return torch.where(m, values, torch.inf).sort(-1).values.gather(-1, middle)

        excess = torch.where(m, y - median(y), 0.0)
        spread = 1.4826 * median(excess.abs())
        rank[:, rows] = torch.where(m, gaussianise(average_ranks(y, m), count), 0.0).float()
        z[:, rows] = torch.where(m, (excess / spread.clamp_min(1e-8)).clamp(-3.0, 3.0), 0.0).float()
        first[rows] = excess[0].float()
    return rank, z, mask, first


class DevicePanel:
    """Resident tensors of one panel and the gather that makes a step's batch out of them."""

    def __init__(
        self, description: PanelDescription, tensors: Mapping[str, Tensor], *, lookback: int, chunk_days: int,
        oracle: Tensor | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            tensors: x [T, N, F], sequences [R, L-1 + T, N], valid [T, N], returns [H, T, N] (raw, of the label),
                one_day [T, N], neighbours, neighbour_mask [P, N, K], neighbour_attr [P, N, K, 3], graph_period [T];
                `learned` [H, T, N] where another tensor than the label is the target.
            lookback: L.
            chunk_days: B.
            oracle: the best attainable scores [H, T, N] of a synthetic panel.
        """
        self.description, self.lookback, self.chunk_days, self.oracle = description, lookback, chunk_days, oracle
        self.windows = True
        self.x, self.sequences = tensors["x"], tensors["sequences"]
        self.valid, self.returns = tensors["valid"], tensors["returns"]
        self.one_day = tensors["one_day"]
        self.neighbours, self.neighbour_mask = tensors["neighbours"], tensors["neighbour_mask"]
        self.neighbour_attr, self.graph_period = tensors["neighbour_attr"], tensors["graph_period"]
        self.learned = tensors.get("learned", self.returns)
        self.width = chunk_width(self.valid, chunk_days)
        self._make_targets()

    def _make_targets(self) -> None:
        self.rank, self.z, self.label_mask, self.excess = excess_and_targets(self.learned, self.valid)

    @classmethod
    def load(
        cls, directory: Path | str, *, lookback: int, chunk_days: int, device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None, pad_names: int | None = None,
    ) -> DevicePanel:  # fmt: skip
        """A panel directory on a device.

        Args:
            dtype: of the features; by default float32 on a CPU, bfloat16 (as stored) on a GPU.
            pad_names: the number of names is rounded up to a multiple of it; padded names are never eligible.

        Raises:
            PanelError: there is no panel, a tensor is missing or has the wrong shape, or holds what it must not.
        """
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        panel = open_panel(Path(directory))
        loader = Loader(
            panel.description, panel.tensors, str(directory), device, lookback,
            dtype=dtype or (torch.bfloat16 if on_gpu else torch.float32),
            names=padded(len(panel.codes), pad_names or (PAD_GPU if on_gpu else PAD_CPU)),
        )  # fmt: skip
        return cls(panel.description, loader.tensors(), lookback=lookback, chunk_days=chunk_days)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.x.device

    @property
    def dates(self) -> tuple[date, ...]:
        """The days, along T."""
        return self.description.dates

    @property
    def horizons(self) -> tuple[int, ...]:
        """The label horizons in trading days, along H."""
        return self.description.horizons

    @property
    def days(self) -> int:
        """T."""
        return self.valid.shape[0]

    @property
    def names(self) -> int:
        """N, padding included; `len(description.codes)` without."""
        return self.valid.shape[1]

    def nbytes(self) -> int:
        """Bytes held on the device."""
        held = {id(v): v for v in vars(self).values() if isinstance(v, Tensor)}
        return sum(t.numel() * t.element_size() for t in held.values())

    # -- the days of a block, given as places on T -------------------------------------------------------------------

    def valid_on(self, days: range) -> Tensor:
        """Eligibility [D, N]."""
        return self.valid[days.start : days.stop]

    def returns_on(self, days: range) -> Tensor:
        """Raw returns [H, D, N] of the label, by which figures are given."""
        return self.returns[:, days.start : days.stop]

    def learned_on(self, days: range) -> Tensor:
        """Returns [H, D, N] that are learned and that choose epochs."""
        return self.learned[:, days.start : days.stop]

    def volatility_on(self, days: range) -> Tensor:
        """Trailing volatility [D, N] float64, known on the day; NaN where unknown.

        Raises:
            PanelError: the panel has no one-day returns.
        """
        if 1 not in self.horizons:
            raise PanelError(
                f"panel {self.description.panel_id} has no one-day returns (its horizons are "
                f"{', '.join(map(str, self.horizons))}): neutral figures need them"
            )
        return trailing_volatility(self.one_day, days)

    def sectors(self) -> Tensor:
        """Sector33 of each name as a number [N]; names of an unknown sector share one.

        Raises:
            PanelError: the panel names no sectors.
        """
        known = self.description.sector33
        if not known:
            raise PanelError(f"panel {self.description.panel_id} has no sector33: neutral figures need it")
        numbers = torch.zeros(self.names, dtype=torch.int64)
        numbers[: len(known)] = torch.from_numpy(sector_numbers(known))
        return numbers.to(self.device)

    # -- chunks ------------------------------------------------------------------------------------------------------

    def read_by(self, switches: Switches, train: TrainConfig) -> DevicePanel:
        """The same resident panel as a network with these switches reads it in training.

        Without sequences days share nothing, so a chunk is a day, and no window is gathered.
        """
        return self.in_chunks(train.chunk_days) if switches.temporal else self.newest_rows()

    def newest_rows(self) -> DevicePanel:
        """The same resident panel read a day a chunk, without windows."""
        panel = self.in_chunks(1)
        panel.windows = False
        return panel

    def in_chunks(self, days: int) -> DevicePanel:
        """The same resident panel in chunks of other lengths."""
        panel = copy.copy(self)
        panel.chunk_days, panel.width = days, chunk_width(self.valid, days)
        return panel

    def batch(self, starts: Tensor, draw: Draw | None = None) -> Batch:
        """The chunks that predict days starts[g] .. starts[g]+B-1; starts [G] int64 on the device, days may run past
        the end.

        Rows of a chunk: the L-1 days before its first predicted day, then its B days (S in all). Names of a chunk: all,
        or, where the panel's axis is much longer than any chunk needs, those that are eligible on a predicted day, or
        a draw of these. No host synchronisation, and shapes that never change.
        """
        span = torch.arange(self.chunk_days, device=self.device)
        wanted = span[:, None] + starts  # [B, G]
        day = wanted.clamp(max=self.days - 1)
        flat = day.flatten()
        inside = (wanted < self.days)[..., None]
        valid = self.valid.index_select(0, flat).unflatten(0, day.shape) & inside
        names = self._names_of(valid, draw)
        everyone = names.shape[1] == self.names

        def of_days(tensor: Tensor) -> Tensor:
            wide = tensor.index_select(-2, flat).unflatten(-2, day.shape)
            return wide if everyone else wide.gather(-1, names.expand(*wide.shape[:-1], -1))

        cells = (day[..., None] * self.names + names).flatten()  # [B, G, W] of [T, N]
        newest = self.x.flatten(0, 1).index_select(0, cells).view(len(flat), -1, self.x.shape[2])
        mask = of_days(self.label_mask) & inside
        targets = Targets(of_days(self.rank), of_days(self.z), mask, of_days(self.excess), mask[0])
        eligible = valid if everyone else valid.gather(-1, names.expand(*valid.shape[:-1], -1))
        return Batch(newest, self._windows(starts, names), targets, eligible, self._graph(flat, valid, names), names)

    def _windows(self, starts: Tensor, names: Tensor) -> Tensor | None:
        """The sequence inputs [R, S, G, W] of the chunks' names [G, W]; None where none are read."""
        if not self.windows:
            return None
        # padded row s of day t is t + s: L - 1 zero rows come first
        rows = torch.arange(self.lookback + self.chunk_days - 1, device=self.device)[:, None] + starts
        rows = rows.clamp(max=self.sequences.shape[1] - 1)  # [S, G]
        if names.shape[1] == self.names:
            return self.sequences.index_select(1, rows.flatten()).unflatten(1, rows.shape)
        cells = rows[..., None] * self.names + names
        return self.sequences.flatten(1).index_select(1, cells.flatten()).unflatten(1, cells.shape)

    def _names_of(self, valid: Tensor, draw: Draw | None) -> Tensor:
        """Columns [G, W] of the names eligible on some day of valid [B, G, N], ascending, filled up with others."""
        if draw is not None and draw.names < self.width:
            generator = torch.Generator(self.device).manual_seed(draw.seed)
            order = torch.rand(valid.shape[1:], generator=generator, device=self.device)  # [G, N]
            order += ~valid.any(0)
            return order.topk(draw.names, largest=False, sorted=False).indices.sort(-1).values
        if self.width == self.names:
            return torch.arange(self.names, device=self.device).expand(valid.shape[1], -1)
        absent = ~valid.any(0)
        return absent.byte().argsort(stable=True, dim=-1)[:, : self.width].sort(-1).values

    def _graph(self, flat_days: Tensor, valid: Tensor, names: Tensor) -> Graph:
        """Tables of the given days for the chunk's names. Neighbours that are not eligible that day, or not drawn, are
        masked; the self edge always stays.
        """
        period = self.graph_period.index_select(0, flat_days)
        neighbours = self.neighbours.index_select(0, period)
        offset = torch.arange(len(flat_days), device=self.device, dtype=neighbours.dtype).view(-1, 1, 1) * self.names
        present = valid.flatten().index_select(0, (neighbours + offset).flatten()).view(neighbours.shape)
        mask = self.neighbour_mask.index_select(0, period) & present
        attr = self.neighbour_attr.index_select(0, period)
        if names.shape[1] < self.names:
            place = torch.full((len(names), self.names), -1, dtype=neighbours.dtype, device=self.device)
            places = torch.arange(names.shape[1], dtype=neighbours.dtype, device=self.device).expand_as(names)
            place.scatter_(1, names, places)
            every_day = names.repeat(valid.shape[0], 1)[..., None]  # [D, W, 1]
            neighbours = neighbours.gather(1, every_day.expand(-1, -1, neighbours.shape[2]))
            neighbours = place.repeat(valid.shape[0], 1).gather(1, neighbours.flatten(1).long()).view(neighbours.shape)
            mask = mask.gather(1, every_day.expand_as(neighbours)) & (neighbours >= 0)
            neighbours = neighbours.clamp_min(0)
            attr = attr.gather(1, every_day[..., None].expand(-1, -1, *attr.shape[2:]))
        mask[..., 0] = True
        return Graph(neighbours, mask, attr)

    def train_starts(self, days: range, shift: int) -> list[int]:
        """First days of the chunks that tile the training days, shifted by 0..B-1; ragged ends are moved in, not cut.

        Raises:
            FoldError: there are fewer days than a chunk has.
        """
        b = self.chunk_days
        if len(days) < b:
            raise FoldError(f"the training block has {len(days)} days, fewer than chunk_days {b}")
        raw = range(days.start + shift % b - b, days.stop, b)
        return sorted({min(max(s, days.start), days.stop - b) for s in raw})

    def chunk_starts(self, days: range) -> list[int]:
        """First days of the chunks that cover the days, aligned to multiples of B on the panel's own day count.

        A day's score therefore never depends on which days were asked for.
        """
        return list(range(days.start // self.chunk_days * self.chunk_days, days.stop, self.chunk_days))

    # -- controls ----------------------------------------------------------------------------------------------------

    def permute_labels(self, seed: int) -> None:
        """Shuffle the labels of every day among its eligible names: the null control."""
        generator = torch.Generator().manual_seed(seed)
        for t in range(self.days):
            keep = self.valid[t].nonzero().squeeze(1)
            order = keep[torch.randperm(len(keep), generator=generator).to(keep.device)]
            for returns in {id(r): r for r in (self.returns, self.learned)}.values():
                returns[:, t, keep] = returns[:, t, order]
        self._make_targets()

    def shuffle_edges(self, seed: int) -> None:
        """Replace the neighbours by random names: the graph control."""
        self.neighbours = tables.shuffled(self.neighbours, seed)

    def cut_edges(self) -> None:
        """Leave every name only its self edge: what a phase gains by more parameters and epochs, without a graph."""
        self.neighbour_mask = self.neighbour_mask.clone()
        self.neighbour_mask[..., 1:] = False
