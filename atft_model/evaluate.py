"""Figures of finished runs side by side: RankIC, IC, t and ICIR on the days of a block, paired by day."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atft_model.device import set_mode
from atft_model.interchange.errors import RequestError
from atft_model.interchange.fold import Fold
from atft_model.interchange.records import to_plain
from atft_model.interchange.run import read_finished
from atft_model.interchange.statistics import MeanVerdict, holm, paired_difference
from atft_model.metrics import Array, daily_series, headline_series, neutral_series, summarise
from atft_model.panel import DevicePanel
from atft_model.predict import load_run, score_members
from atft_model.tables import STARRED, metric_cells, metric_header, p_cell, table

ALL = "all"  # beside the blocks of a fold: every day of the panel
UNTOLD = (
    "this looks at the test block, {first} to {last}, and no ledger is told: only the asset test_evaluation records a "
    "look. What is chosen by these figures has no test left."
)


def series_of(scores: Tensor, panel: DevicePanel, days: range, *, neutral: bool = False) -> dict[str, Array]:
    """Daily RankIC and IC [H, D] of scores [H, D, N] on a range of days, raw or neutral.

    Raises:
        PanelError: neutral figures are asked for and the panel has no sectors or no one-day returns.
    """
    returns, valid = panel.returns_on(days), panel.valid_on(days)
    if neutral:
        return neutral_series(scores, returns, valid, panel.volatility_on(days), panel.sectors())
    return daily_series(scores, returns, valid)


def common_fold(runs: Sequence[Path], fold: Fold | None) -> Fold:
    """The fold that was given, or the one that all runs record.

    Raises:
        RunError: a run is not finished or not whole.
        RequestError: the runs record different folds and none was given.
    """
    if fold is not None:
        return fold
    recorded = [read_finished(run).fold for run in runs]
    if any(other != recorded[0] for other in recorded):
        names = ", ".join(f"{run.name}: {own.name}" for run, own in zip(runs, recorded, strict=True))
        raise RequestError(f"the runs were trained on different folds ({names}): say with --fold FILE whose days count")
    return recorded[0]


def evaluate_runs(
    runs: Sequence[Path], panel_directory: Path, fold: Fold | None, block: str, device: torch.device, mode: str, *,
    neutral: bool, as_json: bool,
) -> str:  # fmt: skip
    """Figures of finished runs on a block; each after the first is compared with the first, paired by day.

    `p Holm` is read where several runs are compared at once.

    Args:
        fold: by default the one that the runs record.
        block: of the fold, or "all" for every day of the panel.
        neutral: also without what sector and volatility explain.
        as_json: a JSON list instead of a table.
    """
    set_mode(mode, device)
    chosen = common_fold(runs, fold)
    if block in ("test", ALL):
        print(UNTOLD.format(first=chosen.test[0], last=chosen.test[1]), file=sys.stderr)
    rows: list[list[str]] = []
    compared: dict[bool, dict[int, MeanVerdict]] = {False: {}, True: {}}  # raw and neutral, by place in the table
    documents: list[dict[str, Any]] = []
    reference: dict[bool, Array] = {}
    header: list[str] = []
    for path in runs:
        models, panel = load_run(path, panel_directory, device)
        days = panel.description.places() if block == ALL else chosen.places(panel.dates, block)
        scores = score_members(models, panel, days)
        header = ["run", *metric_header(panel.horizons), "vs first", "p", "p Holm"]
        for kind in (False, True) if neutral else (False,):
            series = series_of(scores, panel, days, neutral=kind)
            summary, daily = summarise(series, panel.horizons), headline_series(series, panel.horizons)
            first = reference.setdefault(kind, daily)
            paired = paired_difference(daily, first, max(panel.horizons))
            versus = ["", "", ""]
            if daily is not first:
                compared[kind][len(rows)] = paired
                versus = [f"{paired.mean:+.4f}", p_cell(paired.p), ""]
            rows.append([f"{path.name}{' neutral' if kind else ''}", *metric_cells(summary, panel.horizons), *versus])
            documents.append({"run": str(path), "neutral": kind, "block": block, **summary, "paired": paired})
    for family in compared.values():
        for place, p in zip(family, holm([paired.p for paired in family.values()]), strict=True):
            rows[place][-1], documents[place]["p_holm"] = p_cell(p), p
    return json.dumps(to_plain(documents), indent=1) if as_json else f"{table(header, rows)}\n{STARRED}"
