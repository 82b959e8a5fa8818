"""The panel: every feature, label and neighbour table resident on the device; nothing else feeds the network.

On disk a panel is a directory with `panel.safetensors` and `panel.json` (`read_meta`, `Panel.load`, `Panel.write`
state the format). In memory features are [F, rows, N] with L - 1 zero rows before the first day and chunk_days after
the last one (zero is "missing"), so any chunk is a gather of whole rows and no day needs a special case. Labels are
per-day gaussianised ranks and robust z-scores of market-excess returns. `Panel.synthetic` plants one signal for each
part of the network and knows the oracle's scores.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from atft_model import graph as tables
from atft_model.config import ConfigError
from atft_model.losses import Targets, gaussianise
from atft_model.metrics import average_ranks
from atft_model.model import Graph

FORMAT = 1
BLOCKS = ("train", "validation", "test")
LABEL_ROWS = 64
"""Days turned into targets at a time: bounds the temporary memory."""


class PanelError(ValueError):
    """A panel that cannot be used; the message names the file, the field and what was expected."""


@dataclass(frozen=True)
class Feature:
    name: str
    family: str
    kind: str


@dataclass(frozen=True)
class PanelMeta:
    """panel.json: what the tensors' axes mean and where the panel came from."""

    panel_id: str
    dates: tuple[str, ...]
    codes: tuple[str, ...]
    features: tuple[Feature, ...]
    catalogue_hash: str
    horizons: tuple[int, ...]
    split: dict[str, Any]
    label: str = "y_cc"
    target: str = "y_cc"  # the tensor that is learned and that chooses epochs; figures are of the label
    sources: dict[str, str] = field(default_factory=dict)
    sector33: tuple[str, ...] = ()
    created_at: str = ""

    def block(self, name: str) -> tuple[int, int]:
        """First and last day index of a block, inclusive; "all" is the whole panel."""
        if name == "all":
            return 0, len(self.dates) - 1
        if name not in BLOCKS or name not in self.split:
            raise PanelError(
                f"the panel {self.panel_id} has no block {name!r}; choose one of {', '.join(BLOCKS)} or all"
            )
        first, last = self.split[name]
        low, high = bisect.bisect_left(self.dates, first), bisect.bisect_right(self.dates, last) - 1
        if low > high:
            raise PanelError(
                f"block {name} ({first} to {last}) of panel {self.panel_id} holds no trading day of the panel"
            )
        return low, high

    def check_split(self) -> None:
        """No training label may reach a validation day, no validation label a test day: gap > the longest horizon."""
        longest = max(self.horizons)
        blocks = [(name, self.block(name)) for name in BLOCKS if name in self.split]
        if [name for name, _ in blocks[:2]] != ["train", "validation"]:
            raise PanelError(f"panel {self.panel_id} needs the blocks train and validation in `split`")
        for (before, (_, last)), (after, (first, _)) in itertools.pairwise(blocks):
            if first - last <= longest:
                raise PanelError(
                    f"blocks {before} and {after} of panel {self.panel_id} are {first - last} trading days apart; "
                    f"the longest label needs more than {longest}: build the panel with purge and embargo"
                )


def read_meta(directory: Path | str) -> PanelMeta:
    """panel.json of a panel directory; PanelError says what is missing or malformed."""
    path = Path(directory) / "panel.json"
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PanelError(f"{path} does not exist: give a panel directory (materialize training_panel first)") from error
    except json.JSONDecodeError as error:
        raise PanelError(f"{path} is not JSON ({error})") from error
    if document.get("format") != FORMAT:
        raise PanelError(f"{path} has format {document.get('format')!r}; this version reads format {FORMAT}")
    try:
        features = tuple(Feature(f["name"], f["family"], f["kind"]) for f in document["features"])
        meta = PanelMeta(
            document["panel_id"], tuple(document["dates"]), tuple(document["codes"]), features,
            document["catalogue_hash"], tuple(document["horizons"]), document["split"], document.get("label", "y_cc"),
            document.get("target", document.get("label", "y_cc")), document.get("sources", {}),
            tuple(str(s) for s in document.get("sector33", ())), document.get("created_at", ""),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise PanelError(f"{path} lacks or malforms the field {error}") from error
    if list(meta.dates) != sorted(set(meta.dates)):
        raise PanelError(f"{path}: dates must increase strictly")
    return meta


@dataclass(frozen=True)
class Batch:
    """One step's chunks: features [F, S, G, W], targets [Z, B, G, W], eligibility [B, G, W], neighbour tables [B*G, W,
    K], and the panel's columns that the W names are [G, W].
    """

    x: Tensor
    targets: Targets
    valid: Tensor
    graph: Graph
    names: Tensor


SPARE_WIDTH = 0.9
"""Chunks get an axis of their own if it is at most this share of the panel's: below that the gather pays."""


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
    """Raw returns [Z, T, N] -> (gaussianised ranks, robust z-scores, mask, 1-day excess), zeros outside the mask.

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


class Panel:
    """Resident tensors of one panel and the gather that makes a step's batch out of them."""

    def __init__(
        self, meta: PanelMeta, x: Tensor, valid: Tensor, returns: Tensor, neighbours: Tensor, neighbour_mask: Tensor,
        neighbour_attr: Tensor, graph_period: Tensor, *, lookback: int, chunk_days: int, oracle: Tensor | None = None,
        learned: Tensor | None = None,
    ) -> None:  # fmt: skip
        """x [F, lookback-1 + T + chunk_days, N], valid [T, N], returns [Z, T, N] raw, tables [P, N, K].

        learned [Z, T, N]: the returns that become targets; by default the raw ones.
        """
        self.meta, self.lookback, self.chunk_days, self.oracle = meta, lookback, chunk_days, oracle
        self.x, self.valid, self.returns = x, valid, returns
        self.neighbours, self.neighbour_mask, self.neighbour_attr = neighbours, neighbour_mask, neighbour_attr
        self.graph_period = graph_period
        self.learned = returns if learned is None else learned
        self.width = chunk_width(valid, chunk_days)
        self.rank, self.z, self.label_mask, self.excess = excess_and_targets(self.learned, valid)

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def days(self) -> int:
        return self.valid.shape[0]

    @property
    def names(self) -> int:
        """Names including padding; `len(meta.codes)` without."""
        return self.valid.shape[1]

    def nbytes(self) -> int:
        """Bytes held on the device."""
        held = {id(v): v for v in vars(self).values() if isinstance(v, Tensor)}
        return sum(t.numel() * t.element_size() for t in held.values())

    def batch(self, starts: Tensor) -> Batch:
        """The chunks that predict days starts[g] .. starts[g]+B-1; starts [G] int64 on the device, days may run past
        the end.

        Rows of a chunk: the L-1 days before its first predicted day, then its B days (S in all). Names of a chunk: all,
        or, where the panel's axis is much longer than any chunk needs, those that are eligible on a predicted day. No
        host synchronisation, and shapes that never change.
        """
        span = torch.arange(self.lookback + self.chunk_days - 1, device=self.device)
        rows = span[:, None] + starts  # padded row s of day t is t + s: L - 1 zero rows come first
        wanted = span[: self.chunk_days, None] + starts  # [B, G]
        day = wanted.clamp(max=self.days - 1)
        flat = day.flatten()
        inside = (wanted < self.days)[..., None]
        valid = self.valid.index_select(0, flat).unflatten(0, day.shape) & inside
        names = self._names_of(valid)

        def narrow(wide: Tensor) -> Tensor:
            return wide if self.width == self.names else wide.gather(-1, names.expand(*wide.shape[:-1], -1))

        def of_days(tensor: Tensor) -> Tensor:
            return narrow(tensor.index_select(-2, flat).unflatten(-2, day.shape))

        if self.width == self.names:
            x = self.x.index_select(1, rows.flatten()).unflatten(1, rows.shape)
        else:
            cells = rows[..., None] * self.names + names
            x = self.x.flatten(1).index_select(1, cells.flatten()).unflatten(1, cells.shape)
        mask = of_days(self.label_mask) & inside
        targets = Targets(of_days(self.rank), of_days(self.z), mask, of_days(self.excess), mask[0])
        return Batch(x, targets, narrow(valid), self._graph(flat, valid, names), names)

    def _names_of(self, valid: Tensor) -> Tensor:
        """Columns [G, W] of the names eligible on some day of valid [B, G, N], ascending, filled up with others."""
        if self.width == self.names:
            return torch.arange(self.names, device=self.device).expand(valid.shape[1], -1)
        absent = ~valid.any(0)
        return absent.byte().argsort(stable=True, dim=-1)[:, : self.width].sort(-1).values

    def _graph(self, flat_days: Tensor, valid: Tensor, names: Tensor) -> Graph:
        """Tables of the given days for the chunk's names, neighbours that are not eligible that day masked; the self
        edge always stays.
        """
        period = self.graph_period.index_select(0, flat_days)
        neighbours = self.neighbours.index_select(0, period)
        offset = torch.arange(len(flat_days), device=self.device, dtype=neighbours.dtype).view(-1, 1, 1) * self.names
        present = valid.flatten().index_select(0, (neighbours + offset).flatten()).view(neighbours.shape)
        mask = self.neighbour_mask.index_select(0, period) & present
        attr = self.neighbour_attr.index_select(0, period)
        if self.width < self.names:
            place = torch.zeros(len(names), self.names, dtype=neighbours.dtype, device=self.device)
            places = torch.arange(self.width, dtype=neighbours.dtype, device=self.device).expand_as(names)
            place.scatter_(1, names, places)  # a name that is not there keeps 0: its edges are masked
            every_day = names.repeat(valid.shape[0], 1)[..., None]  # [D, W, 1]
            neighbours = neighbours.gather(1, every_day.expand(-1, -1, neighbours.shape[2]))
            neighbours = place.repeat(valid.shape[0], 1).gather(1, neighbours.flatten(1).long()).view(neighbours.shape)
            mask = mask.gather(1, every_day.expand_as(neighbours))
            attr = attr.gather(1, every_day[..., None].expand(-1, -1, *attr.shape[2:]))
        mask[..., 0] = True
        return Graph(neighbours, mask, attr)

    def train_starts(self, phase_shift: int) -> list[int]:
        """First days of the chunks that tile the training block, shifted by 0..B-1; ragged ends are moved in, not
        cut.
        """
        first, last = self.meta.block("train")
        b = self.chunk_days
        if last - first + 1 < b:
            raise PanelError(f"the training block has {last - first + 1} days, fewer than chunk_days {b}")
        raw = range(first + phase_shift % b - b, last + 1, b)
        return sorted({min(max(s, first), last - b + 1) for s in raw})

    def block_starts(self, block: str) -> list[int]:
        """First days of the chunks that cover a block, aligned to multiples of B on the panel's own day count.

        A day's score therefore never depends on which block was asked for.
        """
        first, last = self.meta.block(block)
        b = self.chunk_days
        return list(range(first // b * b, last + 1, b))

    def permute_labels(self, seed: int) -> None:
        """Shuffles the labels of every day among its valid names: the null control."""
        generator = torch.Generator().manual_seed(seed)
        for t in range(self.days):
            keep = self.valid[t].nonzero().squeeze(1)
            order = keep[torch.randperm(len(keep), generator=generator).to(keep.device)]
            for returns in {id(r): r for r in (self.returns, self.learned)}.values():
                returns[:, t, keep] = returns[:, t, order]
        self.rank, self.z, self.label_mask, self.excess = excess_and_targets(self.learned, self.valid)

    def shuffle_edges(self, seed: int) -> None:
        """Replaces the neighbours by random names: the graph control."""
        self.neighbours = tables.shuffled(self.neighbours, seed)

    def cut_edges(self) -> None:
        """Leaves every name only its self edge: what a phase gains by more parameters and epochs, without a graph."""
        self.neighbour_mask = self.neighbour_mask.clone()
        self.neighbour_mask[..., 1:] = False

    @classmethod
    def load(
        cls, directory: Path | str, *, lookback: int, chunk_days: int, device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None, pad_names: int | None = None,
    ) -> Panel:  # fmt: skip
        """Reads a panel directory onto `device`. dtype: float32 on a CPU, bfloat16 (as stored) on a GPU unless given.

        pad_names rounds the number of names up (16 on a CPU, 64 on a GPU); padded names are never valid. PanelError
        names the file and tensor that is missing, has the wrong shape, or holds a value that is not finite.
        """
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        dtype = dtype or (torch.bfloat16 if on_gpu else torch.float32)
        meta = read_meta(directory)
        meta.check_split()
        path = Path(directory) / "panel.safetensors"
        t, n, f, z = len(meta.dates), len(meta.codes), len(meta.features), len(meta.horizons)
        multiple = pad_names or (64 if on_gpu else 16)
        wide = -(-n // multiple) * multiple
        try:
            handle = safe_open(path, framework="pt")
        except (FileNotFoundError, OSError) as error:
            raise PanelError(f"{path} cannot be read ({error})") from error
        with handle as file:
            stored = set(file.keys())
            needed = {"x", "valid", meta.label, "neighbours", "neighbour_attr", "neighbour_mask", "graph_period"}
            needed.add(meta.target)
            if missing := sorted(needed - stored):
                raise PanelError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(stored))}")

            def read(name: str, shape: Sequence[int | None]) -> Tensor:
                tensor = file.get_tensor(name)
                if len(shape) != tensor.ndim or any(
                    want not in (None, have) for want, have in zip(shape, tensor.shape, strict=False)
                ):
                    raise PanelError(
                        f"{path}: {name} has shape {tuple(tensor.shape)}, panel.json implies {tuple(shape)}"
                    )
                return tensor

            source = file.get_slice("x")
            if source.get_shape() != [t, n, f]:
                raise PanelError(f"{path}: x has shape {source.get_shape()}, panel.json implies {[t, n, f]}")
            x = torch.zeros(f, lookback - 1 + t + chunk_days, wide, dtype=dtype, device=device)
            for start in range(0, t, LABEL_ROWS):
                rows = source[start : start + LABEL_ROWS].to(device, dtype)
                if not torch.isfinite(rows).all():
                    bad = (~torch.isfinite(rows)).any(0).any(0).nonzero()[0].item()
                    raise PanelError(
                        f"{path}: feature {meta.features[int(bad)].name} holds a value that is not finite between "
                        f"{meta.dates[start]} and {meta.dates[min(start + LABEL_ROWS, t) - 1]}; missing must be 0"
                    )
                x[:, lookback - 1 + start : lookback - 1 + start + len(rows), :n] = rows.permute(2, 0, 1)
            valid = torch.zeros(t, wide, dtype=torch.bool, device=device)
            valid[:, :n] = read("valid", (t, n)).to(device)

            def read_returns(name: str) -> Tensor:
                returns = torch.full((z, t, wide), torch.nan, device=device)
                returns[:, :, :n] = read(name, (z, t, n)).to(device, torch.float32)
                return returns

            returns = read_returns(meta.label)
            learned = None if meta.target == meta.label else read_returns(meta.target)
            raw = read("neighbours", (None, n, None))
            periods, _, k = raw.shape
            neighbours = torch.arange(wide, dtype=torch.int32, device=device).view(1, -1, 1).repeat(periods, 1, k)
            neighbours[:, :n] = raw.to(device, torch.int32)
            if raw.min() < 0 or raw.max() >= n:
                raise PanelError(f"{path}: neighbours must be name indices 0..{n - 1}")
            mask = torch.zeros(periods, wide, k, dtype=torch.bool, device=device)
            mask[:, :n] = read("neighbour_mask", (periods, n, k)).to(device)
            attr = torch.ones(periods, wide, k, 3, dtype=dtype, device=device)
            attr[:, :n] = torch.nan_to_num(read("neighbour_attr", (periods, n, k, 3)).to(device, dtype))
            period = read("graph_period", (t,)).to(device, torch.int64)
            if period.min() < 0 or period.max() >= periods:
                raise PanelError(f"{path}: graph_period must lie in 0..{periods - 1}")
        return cls(
            meta, x, valid, returns, neighbours, mask, attr, period,
            lookback=lookback, chunk_days=chunk_days, learned=learned,
        )  # fmt: skip

    def write(self, directory: Path | str) -> None:
        """Writes the panel directory (format 1); for tests and benches, real panels are built upstream."""
        out = Path(directory)
        out.mkdir(parents=True, exist_ok=True)
        n = len(self.meta.codes)
        rows = slice(self.lookback - 1, self.lookback - 1 + self.days)
        returns = self.returns[:, :, :n].cpu().contiguous()
        learned = {} if self.learned is self.returns else {self.meta.target: self.learned[:, :, :n].cpu().contiguous()}
        save_file(
            {
                "x": self.x[:, rows, :n].permute(1, 2, 0).to(torch.bfloat16).cpu().contiguous(),
                "valid": self.valid[:, :n].cpu().contiguous(),
                "y_cc": returns,
                "y_oo": returns.clone(),
                **learned,
                "neighbours": self.neighbours[:, :n].cpu().contiguous(),
                "neighbour_attr": self.neighbour_attr[:, :n].float().cpu().contiguous(),
                "neighbour_mask": self.neighbour_mask[:, :n].cpu().contiguous(),
                "graph_period": self.graph_period.to(torch.int32).cpu(),
            },
            out / "panel.safetensors",
        )
        (out / "panel.json").write_text(json.dumps({"format": FORMAT, **asdict(self.meta)}))

    @classmethod
    def synthetic(
        cls, *, names: int = 200, days: int = 500, features: int = 40, neighbours: int = 8, lookback: int = 20,
        chunk_days: int = 8, strength: float = 0.15, horizons: tuple[int, ...] = (1, 5, 10, 20), seed: int = 0,
        device: torch.device | str = "cpu", dtype: torch.dtype | None = None, pad_names: int | None = None,
    ) -> Panel:  # fmt: skip
        """A panel with planted signals, made on the device; `oracle` [Z, T, N] holds the best attainable scores.

        The 1-day return is 2 % times (strength * (encoder + FAN + graph) + noise, t with 4 degrees of freedom), each
        signal of unit variance:

        encoder: (x0 + x1 x2) / sqrt 2, a persistent level and an interaction;
        FAN: the fast part of x3, hidden under each name's own slow level and scale: the deviation from its mean;
        graph: the neighbours' mean of x4, which is white and means nothing for the name itself.

        All other features are noise of various persistence. Longer labels are sums of 1-day returns.
        """
        if features < 6 or neighbours < 3:
            raise ConfigError("a synthetic panel needs at least 6 features and 3 neighbours")
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        dtype = dtype or (torch.bfloat16 if on_gpu else torch.float32)
        multiple = pad_names or (64 if on_gpu else 16)
        wide = -(-names // multiple) * multiple
        rng = torch.Generator(device).manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=rng, device=device)

        persistence = torch.linspace(0.0, 0.98, features, device=device)
        level, product, fast = 0.9, 0.8, 0.5
        persistence[:5] = torch.tensor([level, product, product, 0.995, 0.0], device=device)
        rho = persistence[:, None]
        x = torch.zeros(features, lookback - 1 + days + chunk_days, wide, dtype=dtype, device=device)
        own_scale = 0.15 + 0.35 * torch.rand(wide, generator=rng, device=device)
        deviation = normal(wide)
        deviations = torch.zeros(days, wide, device=device)
        state = normal(features, wide)
        for t in range(days):
            state = rho * state + (1 - rho**2).sqrt() * normal(features, wide)
            deviation = fast * deviation + math.sqrt(1 - fast**2) * normal(wide)
            deviations[t] = deviation
            today = state.clone()
            today[3] = (1 - own_scale**2).sqrt() * state[3] + own_scale * deviation
            x[:, lookback - 1 + t] = today.clamp(-3, 3).to(dtype)
        x[:, :, names:] = 0
        # clusters of names; each period draws its neighbours anew from the cluster
        k, periods = neighbours, -(-days // 20)
        size = min(2 * k, names)
        member = torch.arange(wide, device=device).clamp(max=names - 1) // size * size
        width = torch.minimum(torch.full_like(member, size), names - member)
        draw = torch.rand(periods, wide, k - 1, generator=rng, device=device)
        drawn = member[None, :, None] + (draw * width[None, :, None]).long()
        own = torch.arange(wide, device=device).view(1, -1, 1).expand(periods, -1, 1)
        table = torch.cat([own, torch.where(own < names, drawn, own)], 2)
        mask = (table != own) & (own < names)
        mask[..., 0] = True
        attr = torch.ones(periods, wide, k, 3, device=device)
        attr[..., 1:, 0] = 0.3 + 0.6 * torch.rand(periods, wide, k - 1, generator=rng, device=device)
        attr[..., 1:, 1] = (torch.rand(periods, wide, k - 1, generator=rng, device=device) < 0.5).float()
        period = torch.arange(days, device=device) // 20

        body = x[:, lookback - 1 : lookback - 1 + days].float() if not on_gpu else None
        of = (lambda f: body[f]) if body is not None else (lambda f: x[f, lookback - 1 : lookback - 1 + days].float())
        shock = of(4)
        others = mask.clone()
        others[..., 0] = False
        lead = torch.empty_like(shock)
        for t in range(days):
            p = int(t // 20)
            near = shock[t][table[p]] * others[p]
            lead[t] = near.sum(-1) / others[p].sum(-1).clamp_min(1).sqrt()
        parts = [of(0) / math.sqrt(2), of(1) * of(2) / math.sqrt(2), deviations, lead]
        decay = [level, product**2, fast, 0.0]
        noise = (
            normal(days, wide) / (torch.randn(4, days, wide, generator=rng, device=device).square().mean(0) * 2).sqrt()
        )
        market = 0.01 * normal(days, 1)
        tomorrow = market + 0.02 * (strength * sum(parts) + noise)
        total = torch.cat([torch.zeros(1, wide, device=device, dtype=torch.float64), tomorrow.double().cumsum(0)])
        returns = torch.full((len(horizons), days, wide), torch.nan, device=device)
        oracle = torch.zeros(len(horizons), days, wide, device=device)
        for z, h in enumerate(horizons):
            if days > h:
                returns[z, : days - h] = (total[h:days] - total[: days - h]).float()
            for part, d in zip(parts, decay, strict=True):
                oracle[z] += part * sum(d**j for j in range(h))
        valid = torch.rand(days, wide, generator=rng, device=device) < 0.98
        listed = (torch.rand(wide, generator=rng, device=device) - 0.7).clamp_min(0) * days
        valid &= torch.arange(days, device=device)[:, None] >= listed
        valid[: min(lookback, days)] = False
        valid[:, names:] = False

        first = date(2015, 1, 5)
        dates: list[str] = []
        step = 0
        while len(dates) < days:
            day = first + timedelta(days=step)
            step += 1
            if day.weekday() < 5:
                dates.append(day.isoformat())
        gap = max(horizons) * 2
        validation = max(1, int(days * 0.15))
        test_first = days - validation
        validation_last = test_first - gap - 1
        validation_first = validation_last - validation + 1
        train_last = validation_first - gap - 1
        if train_last < lookback + chunk_days:
            raise ConfigError(f"{days} days leave no training block beside validation, test and the gaps of {gap} days")
        split = {
            "train": [dates[0], dates[train_last]],
            "validation": [dates[validation_first], dates[validation_last]],
            "test": [dates[test_first], dates[-1]],
            "purge_days": gap // 2,
            "embargo_days": gap // 2,
        }
        listed_features = tuple(
            Feature(f"planted_{n}" if n else f"noise_{i}", f"family_{i % 5}", "time_series")
            for i, n in enumerate(["level", "left", "right", "own_mean", "shock"] + [""] * (features - 5))
        )
        digest = hashlib.sha256(repr((names, days, features, k, strength, horizons, seed)).encode()).hexdigest()
        meta = PanelMeta(
            f"synthetic-{digest[:12]}", tuple(dates), tuple(f"{10000 + i}" for i in range(names)), listed_features,
            hashlib.sha256(repr(listed_features).encode()).hexdigest()[:16], tuple(horizons), split,
            sector33=tuple(str(i // size) for i in range(names)),
        )  # fmt: skip
        return cls(
            meta, x, valid, returns, table.to(torch.int32), mask, attr.to(dtype), period,
            lookback=lookback, chunk_days=chunk_days, oracle=oracle,
        )  # fmt: skip
