"""How much memory a training will take, before it starts: from the sizes of panel, batch and network alone.

The panel is resident and its tensors are known, so that part is a sum. What a step holds until its backward pass is
counted by module, in numbers a cell, from the tensors that autograd keeps; its constants were set against peaks that
were measured on a CPU. There the estimate lies within `FACTOR` of the peak (a test measures both), and on a GPU it is
the same count in that device's types, not measured here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from atft_model.interchange.config import ModelConfig, Preset, Switches
from atft_model.interchange.panel import PanelDescription

FACTOR = 1.5  # of the measured peak, either way

PROCESS = 420e6  # Python, torch and its libraries, bytes
PROCESS_CUDA = 3.0e9  # of the host, with CUDA's libraries loaded
CONTEXT_CUDA = 0.7e9  # of the device: CUDA's own, and cuBLAS's workspaces
SPARE_WIDTH = 0.9  # these three as the trainer has them: below it a chunk has an axis of names of its own,
TILE = 16  # so many queries attend together, and so many chunks are scored together
EVAL_CHUNKS = {"cpu": 4, "cuda": 1}
WEIGHT_COPIES = 8  # weights, gradients, two moments, average, the kept ones, the parent's, a state being written


@dataclass(frozen=True)
class Axes:
    """Sizes that a panel has.

    Attributes:
        days, names, features, sequences, horizons: T, N, F, R, H.
        eligible: most names that are eligible on one day.
        periods, neighbours: P, K.
        own_target: another tensor than the label is learned.
        file_bytes: size of the tensor file.
    """

    days: int
    names: int
    features: int
    sequences: int
    horizons: int
    eligible: int
    periods: int
    neighbours: int
    own_target: bool
    file_bytes: int


def axes_of(description: PanelDescription, shapes: Mapping[str, tuple[str, tuple[int, ...]]], eligible: int) -> Axes:
    """The sizes of a panel.

    Args:
        shapes: dtype and shape by tensor, as `Tensors.shapes` has them.
        eligible: most names that are eligible on one day.
    """
    periods, _, neighbours = shapes["neighbours"][1]
    return Axes(
        len(description.dates), len(description.codes), len(description.features), len(description.sequences),
        len(description.horizons), eligible, periods, neighbours, description.target != description.label,
        description.bytes,
    )  # fmt: skip


@dataclass(frozen=True)
class Footprint:
    """Estimated peaks, in bytes.

    Attributes:
        panel: its tensors where they are computed with.
        weights: of all copies of the network.
        step: what the largest step or validation holds, beside panel and weights.
        device: the peak on the GPU; 0 on a processor.
        host: the peak of the process's own memory.
        disk: of the run directory.
    """

    panel: float
    weights: float
    step: float
    device: float
    host: float
    disk: float


def footprint(
    axes: Axes, config: Preset, on: Switches, *, device: Literal["cpu", "cuda"] = "cpu", mode: str = "safe",
    members: int = 1, validation_days: int = 250,
) -> Footprint:  # fmt: skip
    """The memory and disk of one training.

    Args:
        on: the modules of the phase.
        members: networks that are averaged (`n_seeds`).
        validation_days: that are scored after each epoch.
    """
    cuda = device == "cuda"
    stored = 2 if cuda else 4  # bytes of a feature
    computed = 2 if cuda and mode == "optimized" else 4
    panel = resident(axes, config.model.lookback, stored)
    one = 4.0 * parameters(config.model, axes)
    step = max(
        training_step(axes, config, on) * computed,
        validation_chunk(axes, config, on, EVAL_CHUNKS[device]) * computed,
    )
    scores = 4.0 * axes.horizons * axes.names * validation_days * 4  # scores, their ranks and the labels' beside them
    weights = (WEIGHT_COPIES + members) * one
    at_work = panel + weights + step + scores
    loading = panel + axes.file_bytes  # the file is mapped while it is read
    host = PROCESS_CUDA + axes.file_bytes if cuda else PROCESS + max(at_work, loading)
    rows = axes.eligible * validation_days
    return Footprint(
        panel=panel,
        weights=weights,
        step=step,
        device=CONTEXT_CUDA + at_work if cuda else 0.0,
        host=host,
        disk=(6 + 2 * members) * one + rows * (8.0 + 4 * axes.horizons) + 2e6,
    )


def resident(axes: Axes, lookback: int, stored: int) -> float:
    """Bytes of the tensors of a panel that stay in memory, targets that are made of the labels included."""
    cells, h = float(axes.days * axes.names), axes.horizons
    features = cells * axes.features * stored
    sequences = float(axes.sequences * (lookback - 1 + axes.days) * axes.names) * stored
    labels = cells * (4 * h * (3 + axes.own_target) + h + 4 + 4 + 1)  # returns, rank, z; mask; one day, excess; valid
    graph = float(axes.periods * axes.names * axes.neighbours) * (4 + 1 + 3 * stored)
    return features + sequences + labels + graph


def width(axes: Axes, names: int) -> int:
    """Names of a chunk: a draw, those that are eligible, or, where that saves little, all."""
    wide = min(axes.names, axes.eligible) if axes.eligible <= SPARE_WIDTH * axes.names else axes.names
    return min(names, wide) if names else wide


def training_step(axes: Axes, config: Preset, on: Switches) -> float:
    """Numbers that a step holds until its backward pass is over."""
    train, names = config.train, width(axes, config.train.names)
    chunk = train.chunk_days if on.temporal else 1
    days = chunk * train.chunks_per_step
    kept = days * names * newest_cell(config.model, axes)
    if on.temporal:
        rows = (config.model.lookback + chunk - 1) * train.chunks_per_step
        kept += rows * names * row_cell(config.model, axes, on)
        kept += days * names * query_cell(config.model, chunk, on)
    if on.gat:
        kept += days * names * graph_cell(config.model, axes)
    return kept


def validation_chunk(axes: Axes, config: Preset, on: Switches, chunks: int) -> float:
    """Numbers that scoring a group of chunks holds: all names and no gradients, so the widest place decides."""
    names = width(axes, 0)
    chunk = config.train.chunk_days if on.temporal else 1
    days, model = chunk * chunks, config.model
    widest = days * names * 3.0 * max(axes.features, model.newest_size)
    if on.temporal:
        rows = (model.lookback + chunk - 1) * chunks
        windows = 1 + (len(model.fan_windows) if on.fan else 0)
        widest = max(widest, rows * names * axes.sequences * max(2.0 * windows + 2, 4.0 * model.feature_size))
    if on.gat:
        widest = max(widest, days * names * axes.neighbours * 10.0 * model.hidden_size)
    return widest


def newest_cell(model: ModelConfig, axes: Axes) -> float:
    """Numbers a predicted day and name: newest row and heads."""
    heads = 6.0 * axes.horizons * model.head_rank + 8.0 * axes.horizons
    return axes.features + 6.0 * model.newest_size + 20.0 * model.hidden_size + heads


def row_cell(model: ModelConfig, axes: Axes, on: Switches) -> float:
    """Numbers a row of the look-back and name: inputs, FAN, selection, LSTM, keys and values, SAN."""
    inputs, size = axes.sequences, model.temporal_size
    normalised = inputs * 5.0 * (1 + len(model.fan_windows)) if on.fan else inputs
    selection = inputs * (7.0 * model.feature_size + 5) + 10.0 * model.context_size
    recurrent = size * (14.0 * model.lstm_layers + 9)
    attention = size * 3.0 * model.attention_blocks + size * 20.0 * (model.attention_blocks - 1)
    return normalised + selection + recurrent + attention + (5.0 * size if on.san else 0)


def query_cell(model: ModelConfig, chunk: int, on: Switches) -> float:
    """Numbers a predicted day and name: attention weights over the band, feed-forward, slices."""
    band = model.lookback + min(chunk, TILE) - 1
    weights = band * (3.0 * model.attention_heads + 1)
    forward = model.temporal_size * (8.0 + 4.0 * model.feed_forward)
    slices = 8.0 * model.san_slices * model.temporal_size if on.san else 0
    return weights + forward + slices + model.hidden_size


def graph_cell(model: ModelConfig, axes: Axes) -> float:
    """Numbers a predicted day and name: each neighbour's state in each layer, attention, fusion."""
    layers = len(model.gat_heads)
    edges = axes.neighbours * (6.0 * model.hidden_size * layers + 3.0 * sum(model.gat_heads) + 5)
    return edges + axes.features + model.hidden_size * (10.0 * layers + 6)


def parameters(model: ModelConfig, axes: Axes) -> float:
    """Parameters of a network, of what is off in a phase too; the matrices, which are nearly all."""
    f, r, c, a, e = axes.features, max(axes.sequences, 1), model.hidden_size, model.temporal_size, model.feature_size
    newest = f * model.newest_size + model.newest_size * c
    selection = r * (2 * e * e + 6 * e) + 2 * r * model.context_size + 4 * model.context_size**2 + r * e * a
    recurrent = 8 * a * a * model.lstm_layers + 2 * a * a
    attention = model.attention_blocks * a * a * (5 + 3 * model.feed_forward)
    san = 2 * model.san_slices * a * model.san_rank + 2 * a * model.san_rank
    graph = f * c + len(model.gat_heads) * (2 * c * c + 5 * c) + 2 * c * c + a * c
    heads = 4 * c * c + axes.horizons * (c + 2 * c * model.head_rank)
    return float(newest + selection + recurrent + attention + san + graph + heads)
