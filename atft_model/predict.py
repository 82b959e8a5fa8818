"""Scores from trained weights: every asked day, every eligible name, in eval mode, always the same.

A score does not depend on which days were asked for: chunks are aligned to the panel's day count and see only the past.
With `exact` it does not depend on where the panel begins either, as long as the panel holds the look-back before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atft_model.checkpoint import check_fit, load_members, load_weights, write_parquet
from atft_model.device import pick_device, set_mode
from atft_model.interchange.config import ModelConfig, Preset, Switches, TrainConfig
from atft_model.interchange.errors import ConfigError, PanelError
from atft_model.interchange.hashes import write_sidecar
from atft_model.interchange.panel import PanelDescription, read_description
from atft_model.interchange.records import from_plain
from atft_model.interchange.request import PredictRequest
from atft_model.interchange.run import RunRecord, read_finished
from atft_model.metrics import daily_series, day_zscore, summarise
from atft_model.model import ATFTGATFAN, Sizes, build_model
from atft_model.panel import DevicePanel

EVAL_CHUNKS = {"cpu": 4, "cuda": 1}


@torch.no_grad()
def score_days(model: ATFTGATFAN, panel: DevicePanel, days: range, *, chunks: int | None = None) -> Tensor:
    """Scores of every day of a range, computed eagerly; whether the network is in training mode is left as it was.

    Args:
        days: places on the panel's T.
        chunks: encoded at a time; changes the speed alone.

    Returns:
        [H, D, N] float32; mask with `panel.valid`: other names may have NaN.
    """
    chunks = chunks or EVAL_CHUNKS[panel.device.type]
    panel = panel if model.switches.temporal else panel.newest_rows()
    starts = panel.chunk_starts(days)
    filled = starts + [starts[-1]] * (-len(starts) % chunks)  # whole groups: shapes never change
    on_device = torch.tensor(filled, device=panel.device).view(-1, chunks)
    training = model.training
    model.eval()
    parts = []
    with model.precision():
        for group in on_device:
            batch = panel.batch(group)
            scores = model.forward(*batch.inputs).scores.unflatten(1, (panel.chunk_days, chunks))  # [H, B, G, W]
            if panel.width < panel.names:
                wide = scores.new_full((*scores.shape[:-1], panel.names), torch.nan)
                scores = wide.scatter(-1, batch.names.expand_as(scores), scores)
            parts.append(scores.transpose(1, 2).flatten(1, 2))
    model.train(training)
    offset = days.start - starts[0]
    return torch.cat(parts, 1)[:, offset : offset + len(days)]


def ensemble(members: Sequence[Tensor], valid: Tensor) -> Tensor:
    """One member's scores [H, D, N] as they are, several as the mean of their per-day z-scores over valid [D, N]."""
    if len(members) == 1:
        return members[0]
    return torch.stack([day_zscore(m, valid) for m in members]).mean(0)


def score_members(models: Sequence[ATFTGATFAN], panel: DevicePanel, days: range) -> Tensor:
    """Joint scores [H, D, N] of a run's members on the days of a range."""
    return ensemble([score_days(model, panel, days) for model in models], panel.valid_on(days))


def evaluate_scores(scores: Tensor, panel: DevicePanel, days: range) -> dict[str, Any]:
    """Summary of scores [H, D, N] of a range of days; keys as `validation` in run.json."""
    return summarise(daily_series(scores, panel.returns_on(days), panel.valid_on(days)), panel.horizons)


def write_scores(path: Path, scores: Tensor, panel: DevicePanel, days: range) -> tuple[int, str]:
    """Write date, code, score_<h>d (float32) of every eligible (day, name) as parquet, sorted by date and code.

    Args:
        scores: [H, D, N] of the days.

    Returns:
        The number of rows, and the sha256 of the file.

    Raises:
        DiskFull: no space or quota left.
    """
    import pyarrow as pa

    codes = np.asarray(panel.description.codes)
    order, n = np.argsort(codes), len(codes)
    valid = panel.valid_on(days)[:, :n].cpu().numpy()[:, order]
    day, name = valid.nonzero()
    dates = np.asarray(panel.dates[days.start : days.stop], dtype="datetime64[D]")
    columns: dict[str, Any] = {
        "date": pa.array(dates[day], pa.date32()),
        "code": pa.array(codes[order][name], pa.string()),
    }
    values = scores[:, :, :n].float().cpu().numpy()[:, :, order]
    for own, h in zip(values, panel.horizons, strict=True):
        columns[f"score_{h}d"] = pa.array(own[day, name], pa.float32())
    return len(day), write_parquet(path, columns)


def read_scores(path: Path, panel: DevicePanel, days: range) -> Tensor:
    """Scores [H, D, N] of a file as `write_scores` writes it, NaN where it has none; other days and names are ignored.

    Raises:
        PanelError: the file cannot be read, lacks a column, or scores none of the days.
    """
    import pyarrow.parquet as pq

    columns = [f"score_{h}d" for h in panel.horizons]
    try:
        table = pq.read_table(path, columns=["date", "code", *columns])
    except (OSError, ValueError) as error:
        raise PanelError(f"{path} cannot be read as scores (date, code, {', '.join(columns)}): {error}") from error
    day = {d: place for place, d in enumerate(panel.dates[days.start : days.stop])}
    name = {code: place for place, code in enumerate(panel.description.codes)}
    places = [
        (row, day[d], name[c])
        for row, (d, c) in enumerate(zip(table["date"].to_pylist(), table["code"].to_pylist(), strict=True))
        if d in day and c in name
    ]
    if not places:
        raise PanelError(
            f"{path} scores none of the days {panel.dates[days.start]} to {panel.dates[days.stop - 1]} of panel "
            f"{panel.description.panel_id}"
        )
    rows, d, n = torch.tensor(places).T
    scores = torch.full((len(columns), len(days), panel.names), torch.nan)
    for h, column in enumerate(columns):
        scores[h, d, n] = torch.from_numpy(table[column].to_numpy().astype(np.float32))[rows]
    return scores.to(panel.device)


def config_of(run: RunRecord) -> Preset:
    """The configuration that a run records.

    Raises:
        ConfigError: it has a field that this version does not know, or a value that the field cannot have.
    """
    where = f"the configuration of run {run.run_id}"
    return Preset(
        from_plain(ModelConfig, run.config["model"], where, ConfigError),
        from_plain(TrainConfig, run.config["train"], where, ConfigError),
    )


def networks(run: RunRecord, members: Sequence[dict[str, Tensor]], device: torch.device) -> list[ATFTGATFAN]:
    """A run's members as networks that compute as they did when they were validated, in eval mode.

    Args:
        members: weights by parameter.

    Raises:
        Mismatch: the weights are those of another network.
    """
    config, switches = config_of(run).model, from_plain(Switches, run.switches, f"the switches of run {run.run_id}")
    models = []
    for weights in members:
        sizes = Sizes(len(run.features), len(run.sequences), len(run.horizons))
        model = build_model(config, sizes, switches=switches, mode=run.mode, device=device)
        load_weights(model, weights)
        models.append(model.eval())
    return models


def load_run(
    run_directory: Path, panel_directory: Path, device: torch.device, *, exact: bool = False
) -> tuple[list[ATFTGATFAN], DevicePanel]:
    """A finished run's members and a panel that they may score, not necessarily the one that they were trained on.

    Args:
        exact: chunks of one day.

    Raises:
        RunError: the run is not finished or not whole.
        Mismatch: the panel has other features or horizons, or the checkpoint was changed.
        PanelError: there is no such panel, or it is damaged.
    """
    models, (lookback, chunk_days) = _members(run_directory, read_description(panel_directory), device, exact)
    return models, DevicePanel.load(panel_directory, lookback=lookback, chunk_days=chunk_days, device=device)


def _members(
    run_directory: Path, panel: PanelDescription, device: torch.device, exact: bool
) -> tuple[list[ATFTGATFAN], tuple[int, int]]:
    """A finished run's members, and the look-back L and days B of the chunks in which they read a panel."""
    run = read_finished(run_directory)
    check_fit(run, panel)
    config = config_of(run)
    chunk_days = 1 if exact else config.train.chunk_days
    return networks(run, load_members(run_directory), device), (config.model.lookback, chunk_days)


def predict(request: PredictRequest) -> str:
    """Write the scores that a request asks for, of each of its runs; returns a line about each.

    The networks compute in the dtype of the mode in which their run was validated; the request's own mode chooses
    the kernels alone (deterministic ones, TF32). Runs that read the panel alike share it in memory.

    Raises:
        InterchangeError: a run, the panel or days cannot be used; the message says which and why.
        DiskFull: no space or quota left.
    """
    device = pick_device(request.device)
    set_mode(request.mode, device)
    description = read_description(request.panel)
    days = description.places(request.first, request.last)
    panels: dict[tuple[int, int], DevicePanel] = {}
    lines = []
    for scoring in request.scorings:
        models, windows = _members(scoring.run, description, device, request.exact)
        if windows not in panels:
            lookback, chunk_days = windows
            panels = {windows: DevicePanel.load(request.panel, lookback=lookback, chunk_days=chunk_days, device=device)}
        panel = panels[windows]
        scoring.out.parent.mkdir(parents=True, exist_ok=True)
        rows, sha256 = write_scores(scoring.out, score_members(models, panel, days), panel, days)
        write_sidecar(scoring.out, sha256)
        lines.append(f"{rows:,} scores, {panel.dates[days.start]} to {panel.dates[days.stop - 1]} -> {scoring.out}")
    return "\n".join(lines)
