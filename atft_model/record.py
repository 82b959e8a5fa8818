"""What a run says of itself: the record that it opens with, the judgement of what it trained, the record at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atft_model import checkpoint as files
from atft_model import monitor
from atft_model.curriculum import PhasePlan
from atft_model.device import hardware, versions
from atft_model.importance import permutation_importances
from atft_model.interchange.config import Preset
from atft_model.interchange.records import to_plain
from atft_model.interchange.request import TrainRequest
from atft_model.interchange.run import CHECKPOINT, FORMAT, METRICS, SCORES, Parent, RunRecord
from atft_model.panel import Batch, DevicePanel
from atft_model.predict import config_of, ensemble, evaluate_scores, networks, score_days, write_scores

CODE_VERSION = "3"


@dataclass(frozen=True)
class Trained:
    """What training gave: weights by member and parameter, rows of metrics.parquet, an account of each member."""

    members: Sequence[dict[str, Tensor]]
    rows: Sequence[Mapping[str, Any]]
    accounts: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Judgement:
    """What the weights are worth, measured on the validation block."""

    scores: Tensor  # [H, D, N], of all members together
    validation: Mapping[str, Any]
    guards: monitor.Guards
    parameters: Mapping[str, int]
    importance: Mapping[str, float]


def opening_record(
    request: TrainRequest, config: Preset, plan: PhasePlan, parent: Parent | None, panel: DevicePanel
) -> RunRecord:
    """The record of a run that is under way."""
    description = panel.description
    return RunRecord(
        format=FORMAT, status="running", run_id=request.out.name, phase=plan.phase, name=plan.name, fold=request.fold,
        panel_id=description.panel_id, catalogue_hash=description.catalogue_hash,
        features=tuple(f.name for f in description.features),
        sequences=tuple(f.name for f in description.features if f.sequence), horizons=description.horizons,
        label=description.label, target=description.target, config=to_plain(config), curriculum=to_plain(plan),
        switches=to_plain(plan.on), parent=parent, code_version=CODE_VERSION, seed=request.seed,
        n_seeds=request.n_seeds, mode=request.mode,
        controls={"shuffle_edges": request.shuffle_edges, "permute_labels": request.permute_labels},
        hardware=hardware(panel.device), versions=versions(),
    )  # fmt: skip


def interrupted_record(record: RunRecord) -> RunRecord:
    """The record of a run that was told to stop, and goes on when it is resumed."""
    return replace(record, status="interrupted")


def failed_record(record: RunRecord, message: str) -> RunRecord:
    """The record of a run that could not be trained to its end."""
    return replace(record, status="failed", guards={"passed": False, "messages": [message]})


def judge(trained: Trained, record: RunRecord, plan: PhasePlan, panel: DevicePanel) -> Judgement:
    """Score the validation block with the kept weights, look for degeneracy, and say what the network looks at."""
    days = record.fold.places(panel.dates, "validation")
    models = networks(record, trained.members, panel.device)
    scores = ensemble([score_days(model, panel, days) for model in models], panel.valid_on(days))
    read = panel.read_by(plan.on, config_of(record).train)
    batch = probe(read, days)
    last = trained.rows[-1]
    # a group that was frozen to the end of a shortened phase has no gradient to show
    learned = tuple(m for m in models[0].active_modules() if plan.rate_of(m, last["epoch"]) > 0)
    grad_norms = {m: last[f"grad_norm_{m}"] for m in learned}
    measured = monitor.measure(models[0], batch, scores, panel.valid_on(days), grad_norms)
    return Judgement(
        scores=scores,
        validation=evaluate_scores(scores, panel, days),
        guards=monitor.judge(measured, learned),
        parameters=models[0].parameter_counts(),
        importance=permutation_importances(models, probe(read.in_chunks(1), days), panel.description),
    )


def closing_record(
    record: RunRecord, trained: Trained, judgement: Judgement, panel: DevicePanel, out: Path
) -> RunRecord:
    """Write checkpoint, metrics and scores, and make the record of the run that has ended.

    Raises:
        DiskFull: no space or quota left.
    """
    sha256 = files.write_tensors(out / CHECKPOINT, files.join_members(trained.members))
    metrics_sha256 = files.write_rows(out / METRICS, trained.rows)
    _, scores_sha256 = write_scores(
        out / SCORES, judgement.scores, panel, record.fold.places(panel.dates, "validation")
    )
    stock_days = sum(row["stock_days_per_s"] * row["seconds"] for row in trained.rows)
    return replace(
        record,
        status="finished" if judgement.guards.passed else "failed",
        epochs=max(account["epochs"] for account in trained.accounts),
        kept_epoch=trained.accounts[0]["kept_epoch"],
        members=tuple(trained.accounts),
        seconds=sum(account["seconds"] for account in trained.accounts),
        stock_days_per_s=stock_days / max(1e-9, sum(row["seconds"] for row in trained.rows)),
        validation=judgement.validation,
        guards=judgement.guards.to_json(),
        parameters=judgement.parameters,
        feature_importance=judgement.importance,
        family_importance=family_importances(judgement.importance, panel),
        checkpoint_sha256=sha256,
        scores_sha256=scores_sha256,
        metrics_sha256=metrics_sha256,
    )


def probe(panel: DevicePanel, days: range, chunks: int = 4) -> Batch:
    """A few chunks spread over a range of days, for measurements that need one batch."""
    starts = panel.chunk_starts(days)
    inside = [s for s in starts if s >= days.start and s + panel.chunk_days <= days.stop] or starts
    picked = [inside[round(i * (len(inside) - 1) / max(1, chunks - 1))] for i in range(chunks)]
    return panel.batch(torch.tensor(picked, device=panel.device))


def family_importances(importance: Mapping[str, float], panel: DevicePanel) -> dict[str, float]:
    """Importance summed by feature family."""
    out: dict[str, float] = {}
    for feature in panel.description.features:
        out[feature.family] = out.get(feature.family, 0.0) + importance[feature.name]
    return out
