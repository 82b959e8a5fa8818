"""Small networks and panels that the model's tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from atft_model.device import set_mode
from atft_model.interchange.config import PRESETS, PhaseChanges, Preset, Switches, changed
from atft_model.interchange.fold import Fold, write_fold
from atft_model.interchange.panel import SPECS, open_panel, write_panel
from atft_model.interchange.request import TrainRequest
from atft_model.model import ATFTGATFAN, sizes_of
from atft_model.panel import DevicePanel
from atft_model.synthetic import Shape, synthetic, write
from atft_model.train import Listener

NETWORK = {"lookback": 12, "head_rank": 4, "fan_windows": [3, 6, 12], "dropout": 0.0}
TRAINING = {"chunk_days": 4, "chunks_per_step": 2}
TINY = changed(PRESETS["demo"], NETWORK, TRAINING)
SMALL = Shape(names=48, days=260, features=8, neighbours=5, strength=0.4)
QUIET = Listener(line=lambda _: None)


@pytest.fixture(autouse=True)
def any_algorithm():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def tiny() -> Preset:
    return TINY


@pytest.fixture(scope="session")
def small_pair() -> tuple[DevicePanel, Fold]:
    """48 names, 260 days, 8 features; chunks of 4 days over 12 rows of history."""
    return synthetic(SMALL, lookback=12, chunk_days=4, seed=3)


@pytest.fixture(scope="session")
def small_panel(small_pair) -> DevicePanel:
    return small_pair[0]


@pytest.fixture(scope="session")
def small_fold(small_pair) -> Fold:
    return small_pair[1]


@pytest.fixture(scope="session")
def panel_directory(small_panel, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("panel")
    write(directory, small_panel)
    return directory


@pytest.fixture(scope="session")
def fold_file(small_fold, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fold") / "fold.json"
    write_fold(path, small_fold)
    return path


@pytest.fixture(scope="session")
def ask(panel_directory, small_fold):
    """Makes a request for the small panel: `ask(out, phase, **fields)`; two epochs of the tiny network."""

    def make(out: Path, phase: int = 0, **fields: Any) -> TrainRequest:
        standard = {
            "panel": panel_directory, "fold": small_fold, "preset": "demo", "network": NETWORK, "training": TRAINING,
            "curriculum": PhaseChanges(epochs=2), "device": "cpu",
        }  # fmt: skip
        return TrainRequest(out=out, phase=phase, **{**standard, **fields})

    return make


def awake(config: Preset, panel: DevicePanel, switches: Switches | None = None, seed: int = 0) -> ATFTGATFAN:
    """A random network in eval mode whose zero-initialised maps have been moved, so every path carries signal."""
    torch.manual_seed(seed)
    set_mode("safe", torch.device("cpu"))
    model = ATFTGATFAN(config.model, sizes_of(panel.description), switches=switches)
    with torch.no_grad():
        model.join.weight.normal_(std=0.3)
        model.san.film.weight.normal_(std=0.1)
        model.fan.gamma.fill_(0.5)
        model.fan.logits.normal_()
    return model.eval()


def again(
    model: ATFTGATFAN, switches: Switches | None = None, compute_dtype: torch.dtype = torch.float32
) -> ATFTGATFAN:
    """A network with the same weights, made with other switches or another dtype."""
    other = ATFTGATFAN(model.config, model.sizes, switches=switches or model.switches, compute_dtype=compute_dtype)
    other.load_state_dict(model.state_dict())
    return other.eval()


def last_days(source: Path, target: Path, count: int, **description: Any) -> None:
    """Write the panel of the last days of another, as an evening's panel is: fewer days, the same names."""
    panel = open_panel(source)
    axes = {spec.name: spec.axes.split() for spec in SPECS}
    cut = {
        name: tensor[(slice(None),) * axes[name].index("T") + (slice(-count, None),)] if "T" in axes[name] else tensor
        for name, tensor in panel.tensors.items()
    }
    write_panel(target, cut, replace(panel.description, dates=panel.dates[-count:], **description))


def starts(*days: int) -> torch.Tensor:
    return torch.tensor(days)
