"""Panels in memory, whose targets are made by a rule that the test knows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atft_assets.baselines.config import BaselineConfig
from atft_assets.scoring.block import Block
from atft_model.interchange.fold import Fold, cut
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.panel import FORMAT, Panel, PanelDescription, PanelFeature, from_bfloat16, to_bfloat16

Floats = NDArray[np.floating]

QUICK = BaselineConfig(trees=120, threads=1)
WEIGHTS = np.array([1.0, -0.6, 0.3, 0, 0, 0])


def made_panel(
    signal: Callable[[Floats], Floats],
    *,
    days: int = 260,
    names: int = 60,
    features: int = 6,
    noise: float = 1.0,
    seed: int = 0,
    named: tuple[str, ...] = (),
    valid: float = 0.95,
) -> Panel:
    """A panel whose targets are a signal of its features, and noise.

    Args:
        signal: of features [T,N,F], the target [T,N] without noise.
        noise: standard deviation of what is added, for each horizon anew.
        named: names of the first features.
        valid: share of the rows that are eligible, and of the targets that are known.
    """
    rng = np.random.default_rng(seed)
    x = to_bfloat16(rng.normal(size=(days, names, features)).astype(np.float32))
    clean = signal(from_bfloat16(x))
    y = clean[None] * 0.01 + rng.normal(size=(len(HORIZONS), days, names)) * noise * 0.01
    y[rng.random(y.shape) > valid] = np.nan
    columns = [*named, *(f"f{i}" for i in range(len(named), features))]
    description = PanelDescription(
        format=FORMAT,
        panel_id="made",
        dates=tuple(date(2020, 1, 1) + timedelta(days=t) for t in range(days)),
        codes=tuple(f"{1000 + n}0" for n in range(names)),
        features=tuple(PanelFeature(name, "made", "time_series") for name in columns),
        catalogue_hash="made",
        horizons=HORIZONS,
        sector33=("0050",) * names,
    )
    y = y.astype(np.float32)
    tensors = {"x": x, "valid": rng.random((days, names)) < valid, "y_cc": y, "y_oo": y}
    return with_tensors(description, tensors)


def with_tensors(description: PanelDescription, tensors: dict[str, NDArray]) -> Panel:
    """A panel of tensors that are in no file."""
    panel = Panel(Path("made"))
    panel.__dict__.update(description=description, tensors=tensors)
    return panel


def changed(panel: Panel, **tensors: NDArray) -> Panel:
    """The panel with other tensors."""
    return with_tensors(replace(panel.description), {**panel.tensors, **tensors})


def made_fold(panel: Panel, purge: int = 20, embargo: int = 5) -> Fold:
    return cut(panel.dates, "made", purge_days=purge, embargo_days=embargo)


def linear(x: Floats) -> Floats:
    """A line of three of six features."""
    return x @ WEIGHTS


def interaction(x: Floats) -> Floats:
    """What no line can say."""
    return 1.5 * np.sign(x[..., 0] * x[..., 1])


def validation(panel: Panel) -> range:
    """Places of the validation block's days."""
    return made_fold(panel).places(panel.dates, "validation")


def rank_ic(panel: Panel, scores: Floats) -> float:
    """Headline RankIC of scores [H,D,N] of the validation block."""
    return Block.of(panel, made_fold(panel), "validation").score_dense(scores).rank_ic
