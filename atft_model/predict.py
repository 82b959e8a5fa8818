"""Scores from trained weights: every day of a block, every eligible name, in eval mode, always the same.

A score does not depend on which block was asked for: chunks are aligned to the panel's day count and see only the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atft_model.checkpoint import check_fit, load_members, load_weights, read_run, write_parquet
from atft_model.config import ModelConfig, Switches, from_json
from atft_model.metrics import daily_series, day_zscore, summarise
from atft_model.model import ATFTGATFAN
from atft_model.panel import Panel, PanelError, PanelMeta, read_meta

EVAL_CHUNKS = {"cpu": 4, "cuda": 1}


def precision(mode: str, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context of a mode: bfloat16 in `optimized` on a GPU, nothing otherwise."""
    if mode == "optimized" and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@torch.no_grad()
def score_block(
    model: ATFTGATFAN, panel: Panel, block: str, *, mode: str = "safe", chunks: int | None = None
) -> Tensor:
    """Scores [Z, D, N] float32 of every day of a block; mask with `panel.valid`: other names may have NaN.

    The model's mode is left as it was. Regions run eagerly: a few forward passes do not pay for compiling them.
    """
    chunks = chunks or EVAL_CHUNKS[panel.device.type]
    first, last = panel.meta.block(block)
    starts = panel.block_starts(block)
    filled = starts + [starts[-1]] * (-len(starts) % chunks)  # whole groups: shapes never change
    on_device = torch.tensor(filled, device=panel.device).view(-1, chunks)
    training, regions = model.training, model.regions
    model.regions = (model.front, model.back)
    model.eval()
    parts = []
    with precision(mode, panel.device):
        for group in on_device:
            batch = panel.batch(group)
            scores = model(batch.x, batch.graph).scores.unflatten(1, (panel.chunk_days, chunks))  # [Z, B, G, W]
            if panel.width < panel.names:
                wide = scores.new_full((*scores.shape[:-1], panel.names), torch.nan)
                scores = wide.scatter(-1, batch.names.expand_as(scores), scores)
            parts.append(scores.transpose(1, 2).flatten(1, 2))
    model.train(training)
    model.regions = regions
    whole = torch.cat(parts, 1)
    offset = first - starts[0]
    return whole[:, offset : offset + last - first + 1]


def ensemble(members: Sequence[Tensor], valid: Tensor) -> Tensor:
    """One member's scores as they are, several as the mean of their per-day z-scores over valid names [D, N]."""
    if len(members) == 1:
        return members[0]
    return torch.stack([day_zscore(m, valid) for m in members]).mean(0)


def block_view(panel: Panel, block: str) -> tuple[Tensor, Tensor]:
    """(raw returns [Z, D, N], eligibility [D, N]) of a block's days."""
    first, last = panel.meta.block(block)
    return panel.returns[:, first : last + 1], panel.valid[first : last + 1]


def evaluate_scores(scores: Tensor, panel: Panel, block: str) -> dict[str, Any]:
    """Summary of scores [Z, D, N] over a block, keys as `validation` in run.json."""
    returns, valid = block_view(panel, block)
    return summarise(daily_series(scores, returns, valid), panel.meta.horizons)


def write_scores(path: Path, scores: Tensor, panel: Panel, block: str) -> int:
    """date, code, score_<h>d (float32) of every eligible (day, name), sorted by date and code; the number of rows."""
    import pyarrow as pa

    meta = panel.meta
    first, last = meta.block(block)
    n = len(meta.codes)
    order = np.argsort(np.asarray(meta.codes))
    valid = panel.valid[first : last + 1, :n].cpu().numpy()[:, order]
    day, name = valid.nonzero()
    dates = np.asarray([date.fromisoformat(d) for d in meta.dates[first : last + 1]], dtype="datetime64[D]")
    columns: dict[str, Any] = {
        "date": pa.array(dates[day], pa.date32()),
        "code": pa.array(np.asarray(meta.codes)[order][name], pa.string()),
    }
    values = scores[:, :, :n].float().cpu().numpy()[:, :, order]
    for z, h in enumerate(meta.horizons):
        columns[f"score_{h}d"] = pa.array(values[z][day, name], pa.float32())
    write_parquet(path, columns)
    return len(day)


def read_scores(path: Path, panel: Panel, block: str) -> Tensor:
    """Scores [Z, D, N] of a file as `write_scores` writes it, NaN where it has none; other days and names are ignored.

    PanelError names the file and what it lacks.
    """
    import pyarrow.parquet as pq

    meta = panel.meta
    columns = [f"score_{h}d" for h in meta.horizons]
    try:
        table = pq.read_table(path, columns=["date", "code", *columns])
    except (OSError, ValueError) as error:
        raise PanelError(f"{path} cannot be read as scores (date, code, {', '.join(columns)}): {error}") from error
    first, last = meta.block(block)
    day = {date.fromisoformat(d): t for t, d in enumerate(meta.dates[first : last + 1])}
    name = {code: n for n, code in enumerate(meta.codes)}
    places = [
        (row, day[d], name[c])
        for row, (d, c) in enumerate(zip(table["date"].to_pylist(), table["code"].to_pylist(), strict=True))
        if d in day and c in name
    ]
    if not places:
        raise PanelError(f"{path} scores no day of the block {block} of panel {meta.panel_id}")
    rows, t, n = torch.tensor(places).T
    scores = torch.full((len(columns), last - first + 1, panel.names), torch.nan)
    for z, column in enumerate(columns):
        scores[z, t, n] = torch.from_numpy(table[column].to_numpy().astype(np.float32))[rows]
    return scores.to(panel.device)


def build_model(config: ModelConfig, meta: PanelMeta, device: torch.device) -> ATFTGATFAN:
    return ATFTGATFAN(config, len(meta.features), len(meta.horizons)).to(device)


def load_run(
    run_directory: Path | str, panel_directory: Path | str, device: torch.device, *, exact: bool = False
) -> tuple[list[ATFTGATFAN], Panel]:
    """A finished run's members and a panel they may score; Mismatch names what does not fit. exact: one day a chunk."""
    run = read_run(run_directory)
    meta = read_meta(panel_directory)
    config = from_json(run["config"])
    check_fit(run, meta, None, same_panel=False)
    models = []
    for weights in load_members(run_directory):
        model = build_model(config.model, meta, device)
        load_weights(model, weights)
        model.switches = Switches(**run["switches"])
        models.append(model.eval())
    panel = Panel.load(
        panel_directory,
        lookback=config.model.lookback,
        chunk_days=1 if exact else config.train.chunk_days,
        device=device,
    )
    return models, panel
