"""Small networks and panels that the model's tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch

from atft_model.config import Preset, Switches, preset
from atft_model.model import ATFTGATFAN
from atft_model.panel import Panel
from atft_model.train import set_mode

TINY = preset(
    "demo", hidden_size=16, feature_size=4, context_size=16, lookback=12, head_rank=4, chunk_days=4, dropout=0.0,
    fan_windows=(3, 6, 12),
)  # fmt: skip


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def tiny() -> Preset:
    return TINY


@pytest.fixture(scope="session")
def small_panel() -> Panel:
    """48 names, 260 days, 8 features; chunks of 4 days over 12 rows of history."""
    return Panel.synthetic(
        names=48, days=260, features=8, neighbours=5, lookback=12, chunk_days=4, strength=0.4, seed=3
    )


@pytest.fixture(scope="session")
def panel_directory(small_panel, tmp_path_factory):
    directory = tmp_path_factory.mktemp("panel")
    small_panel.write(directory)
    return directory


def awake(config: Preset, panel: Panel, switches: Switches | None = None, seed: int = 0) -> ATFTGATFAN:
    """A random network in eval mode whose zero-initialised maps have been moved, so every path carries signal."""
    torch.manual_seed(seed)
    set_mode("safe", torch.device("cpu"))
    model = ATFTGATFAN(config.model, len(panel.meta.features), len(panel.meta.horizons))
    with torch.no_grad():
        model.san.film.weight.normal_(std=0.1)
        model.fan.gamma.fill_(0.5)
        model.fan.logits.normal_()
    model.switches = switches or Switches()
    return model.eval()


def starts(*days: int) -> torch.Tensor:
    return torch.tensor(days)
