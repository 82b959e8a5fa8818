"""A panel of 135 names and 200 days in a directory, and the members of its universe: what the judge looks at."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from atft_assets.scoring.block import Block
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.panel import (
    FORMAT,
    Panel,
    PanelDescription,
    PanelFeature,
    open_panel,
    to_bfloat16,
    write_panel,
)

DAYS, NAMES = 200, 135
FIRST, LAST = 90, 170  # of the block, so that it begins in one year and ends in the next
SECTORS = ("3050", "3650", "7050", "9999")
CLASSES = ("TOPIX Core30", "TOPIX Small 2", "-")
SEGMENTS = ("0111", "0112", "0113")


def small_panel(folder: Path, features: tuple[str, ...] = ("noise", "log_turnover"), seed: int = 0) -> Panel:
    """Write it. Returns are noise about a market; the trading value rises with the place of the name."""
    rng = np.random.default_rng(seed)
    days = tuple(date(2020, 8, 3) + timedelta(days=d) for d in range(DAYS))
    one_day = 0.005 * rng.normal(size=(DAYS + 20, 1)) + 0.02 * rng.normal(size=(DAYS + 20, NAMES))
    prices = np.vstack([np.ones(NAMES), np.cumprod(1 + one_day, axis=0)])
    y = np.stack([prices[h : h + DAYS] / prices[:DAYS] - 1 for h in HORIZONS]).astype(np.float32)
    for h, horizon in enumerate(HORIZONS):
        y[h, DAYS - horizon :] = np.nan
    y[:, rng.random((DAYS, NAMES)) < 0.02] = np.nan
    x = rng.normal(size=(DAYS, NAMES, len(features))).astype(np.float32)
    if "log_turnover" in features:
        x[:, :, features.index("log_turnover")] = np.linspace(-2, 2, NAMES)
    own = np.arange(NAMES, dtype=np.int32)[None, :, None]
    tensors = {
        "x": to_bfloat16(x),
        "valid": rng.random((DAYS, NAMES)) < 0.95,
        "y_cc": y,
        "y_oo": y,
        "neighbours": own,
        "neighbour_attr": np.zeros((1, NAMES, 1, 3), np.float32),
        "neighbour_mask": np.ones((1, NAMES, 1), bool),
        "graph_period": np.zeros(DAYS, np.int32),
    }
    description = PanelDescription(
        format=FORMAT,
        panel_id=folder.name,
        dates=days,
        codes=tuple(codes()),
        features=tuple(PanelFeature(name, "price", "time_series") for name in features),
        catalogue_hash="0",
        horizons=HORIZONS,
        sector33=tuple(SECTORS[n % len(SECTORS)] for n in range(NAMES)),
    )
    write_panel(folder, tensors, description)
    return open_panel(folder)


def codes() -> list[str]:
    return [f"{1000 + n}0" for n in range(NAMES)]


def small_block(folder: Path, **changes: tuple[str, ...]) -> Block:
    return Block(small_panel(folder, **changes), range(FIRST, LAST), "validation")


def members(block: Block) -> pl.DataFrame:
    """Segments by turns, size classes by turns, every day the same; the last name has no row."""
    dates = [block.panel.dates[t] for t in block.days]
    rows = pl.DataFrame(
        {
            "code": codes()[:-1],
            "mkt": [SEGMENTS[n % 3] for n in range(NAMES - 1)],
            "scale_cat": [CLASSES[n % 3] for n in range(NAMES - 1)],
        }
    )
    return pl.DataFrame({"date": dates}).join(rows, how="cross")


def persistent_scores(block: Block, rho: float, skill: float = 0.0, seed: int = 1) -> np.ndarray:
    """Scores [H,D,N]: one gaussian series a name that keeps `rho` of itself from day to day, and some of the future."""
    rng = np.random.default_rng(seed)
    shape = block.eligible.shape
    level = np.empty(shape)
    level[0] = rng.normal(size=shape[1])
    for d in range(1, len(level)):
        level[d] = rho * level[d - 1] + np.sqrt(1 - rho**2) * rng.normal(size=shape[1])
    y = block.panel.y[:, block.rows]
    future = np.nan_to_num((y - np.nanmean(y, axis=2, keepdims=True)) / np.nanstd(y, axis=2, keepdims=True))
    return (level + skill * future).astype(np.float32)
