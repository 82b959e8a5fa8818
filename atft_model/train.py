"""From a request to a finished run: one phase of the curriculum, from its parent's weights to a run directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from atft_model import checkpoint as files
from atft_model.curriculum import PhasePlan, check_patience, phase_plan
from atft_model.device import gpu_uuid, pick_device, set_mode
from atft_model.fit import Fit, Interrupted
from atft_model.interchange.config import NEWEST_ROW, PRESETS, Preset, changed
from atft_model.interchange.errors import RequestError
from atft_model.interchange.panel import PanelDescription, read_description
from atft_model.interchange.records import to_plain
from atft_model.interchange.request import TrainRequest, write_request
from atft_model.interchange.run import (
    REQUEST,
    RUN_JSON,
    STATE,
    Parent,
    RunRecord,
    held,
    read_finished,
    write_record,
)
from atft_model.model import Sizes, build_model
from atft_model.monitor import NonFinite
from atft_model.panel import DevicePanel
from atft_model.predict import config_of
from atft_model.progress import Progress, refuse_taken
from atft_model.record import closing_record, failed_record, interrupted_record, judge, opening_record
from atft_model.telemetry import watching

DEFAULT_PRESET = "small"


class GuardViolation(Exception):
    """The run ended but what it trained is degenerate or not finite; the message is the guards' sentences."""


@dataclass(frozen=True)
class Listener:
    """Who hears about a run: a line for people, a record for machines, and whether to stop."""

    line: Callable[[str], None] = print
    record: Callable[[Mapping[str, Any]], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False


def train(request: TrainRequest, listener: Listener) -> RunRecord:
    """Train one phase into `request.out` and return its record, which is also written there.

    Raises:
        InterchangeError: request, panel, fold or parent cannot be used; the message says which and what to do.
        GuardViolation: trained, but degenerate or not finite; run.json says "failed".
        Interrupted: `listener.should_stop` turned true; the state is saved, run.json says "interrupted".
        DiskFull: no space or quota left; what was saved before is intact.
    """
    clock = _Clock(request.max_seconds, request.n_seeds)
    refuse_taken(request.out, resume=request.resume)
    description = read_description(request.panel)
    request.fold.check(description.dates, description.horizons)
    plan = phase_plan(request.phase, request.curriculum)
    parent = read_parent(request)
    config = choose_config(request, parent)
    if parent is not None:
        parent.check(request, description, config)

    check_patience(plan, config.train)
    device = pick_device(request.device)
    set_mode(request.mode, device)
    panel = load_panel(request, config)
    record = opening_record(request, config, plan, parent.lineage if parent else None, panel)
    request.out.mkdir(parents=True, exist_ok=True)
    with held(request.out):
        return train_members(request, record, config, plan, parent, panel, listener, clock)


def train_members(
    request: TrainRequest, record: RunRecord, config: Preset, plan: PhasePlan, parent: ParentRun | None,
    panel: DevicePanel, listener: Listener, clock: _Clock,
) -> RunRecord:  # fmt: skip
    """Train every member that is not trained yet, judge them together, and close the record; see `train`."""
    log = files.RunLog(request.out)
    progress = begin_or_resume(request, record, config, listener)

    every, device = request.telemetry_seconds, panel.device
    with watching(request.out, every, device.type, gpu_uuid(device), torch.get_num_threads()) as watch:
        for member in range(len(progress.members), request.n_seeds):
            weights = parent.weights_of(member) if parent else None
            fit = Fit(
                panel, request.fold, config, plan, seed=request.seed, member=member, mode=request.mode, weights=weights
            )
            progress.restore(fit)
            train_member(fit, progress, listener, log, clock.share_of(member))
            progress.close_member(fit)
        judgement = judge(progress.trained(), record, plan, panel)

    seen = watch.summary() if watch else None
    if seen is not None:
        record = replace(record, telemetry=to_plain(seen))
        listener.line(f"{seen} ({seen.device}, {seen.seconds:.0f} s looked at)")
    elif watch is not None and watch.trouble:
        listener.line(f"no telemetry: {watch.trouble}")
    record = closing_record(record, progress.trained(), judgement, panel, request.out)
    write_record(request.out, record)
    (request.out / STATE).unlink(missing_ok=True)
    log.write({"event": record.status, "validation": record.validation, "guards": record.guards})
    if not judgement.guards.passed:
        raise GuardViolation("; ".join(judgement.guards.messages))
    listener.record({"event": "finished", "run_json": str(request.out / RUN_JSON)})
    return record


# -- what a run starts from ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParentRun:
    """A finished run whose weights are a start."""

    record: RunRecord
    lineage: Parent
    members: list[dict[str, Tensor]]

    def weights_of(self, member: int) -> dict[str, Tensor]:
        """What a member of the child starts from; members beyond the parent's share."""
        return self.members[member % len(self.members)]

    def check(self, request: TrainRequest, description: PanelDescription, config: Preset) -> None:
        """Refuse a parent that may know what this run is judged by, or that does not fit.

        Raises:
            RequestError: it learned from later days than this fold's training block has.
            Mismatch: it has other features, horizons or shapes.
        """
        theirs, ours = self.record.fold.train[1], request.fold.train[1]
        if theirs > ours:
            raise RequestError(
                f"init: the run {self.record.run_id} learned from days up to {theirs}, the training days of fold "
                f"{request.fold.name} end on {ours}: it may have learned from days by which this fold judges. Start "
                f"from a run whose training days end no later, or train the phases before this one on this fold"
            )
        files.check_fit(self.record, description, config.model)


def read_parent(request: TrainRequest) -> ParentRun | None:
    """The run that `init` names; None where a phase starts from random weights.

    Raises:
        RequestError: the phase needs a parent and none is given.
        RunError, Mismatch: the parent is not finished or not whole.
    """
    if request.init is None:
        if request.phase > 0:
            raise RequestError(
                f"phase {request.phase} starts from phase {request.phase - 1}: give the directory of its run as init"
            )
        return None
    record, members = read_finished(request.init), files.load_members(request.init)
    lineage = Parent(record.run_id, str(request.init), record.checkpoint_sha256 or "", record.phase)
    return ParentRun(record, lineage, members)


def choose_config(request: TrainRequest, parent: ParentRun | None) -> Preset:
    """The request's preset, else the parent's configuration, else the default; then the request's knobs over it.

    Raises:
        ConfigError: a knob that does not exist, or a value that it cannot have.
    """
    if request.preset is None and parent is not None:
        base = config_of(parent.record)
    else:
        base = PRESETS[request.preset or DEFAULT_PRESET]
    return changed(base, request.network, request.training)


def load_panel(request: TrainRequest, config: Preset) -> DevicePanel:
    """The request's panel on its device, labels or edges shuffled where it is a control."""
    panel = DevicePanel.load(
        request.panel,
        lookback=config.model.lookback,
        chunk_days=config.train.chunk_days,
        device=pick_device(request.device),
    )
    if request.permute_labels is not None:
        panel.permute_labels(request.permute_labels)
    if request.shuffle_edges is not None:
        panel.shuffle_edges(request.shuffle_edges)
    return panel


# -- the run directory -----------------------------------------------------------------------------------------------


def begin_or_resume(request: TrainRequest, record: RunRecord, config: Preset, listener: Listener) -> Progress:
    """The progress of an interrupted run where the request resumes one, else a run directory that begins.

    Raises:
        Mismatch: the state that is to be resumed was made by another request.
        DiskFull: there is no room for the checkpoints.
    """
    out = request.out
    if request.resume and (out / STATE).exists():
        progress = Progress.resumed(out, record)
        listener.line(f"resuming {out} at member {len(progress.members) + 1}, epoch {progress.epoch}")
    else:
        progress = Progress(out, record)
        need = (6 + 2 * request.n_seeds) * weight_bytes(config, record)
        files.require_space(out, need, "the checkpoints and the state of this run")
    write_record(out, record)
    write_request(out / REQUEST, request)
    return progress


def weight_bytes(config: Preset, record: RunRecord) -> int:
    """Size of one network's weights."""
    sizes = Sizes(len(record.features), len(record.sequences), len(record.horizons))
    model = build_model(config.model, sizes, switches=NEWEST_ROW)  # the parameters of what is off are there too
    return sum(p.numel() * p.element_size() for p in model.parameters())


def train_member(fit: Fit, progress: Progress, listener: Listener, log: files.RunLog, deadline: float | None) -> None:
    """Train a member to its end, saving, logging and telling after each epoch.

    Raises:
        Interrupted: the state is saved; run.json says "interrupted".
        GuardViolation: a step was not finite; run.json says "failed".
    """
    try:
        for row, keeps in fit.epochs(should_stop=listener.should_stop, deadline=deadline):
            progress.save(fit, keeps=keeps)
            listener.line(progress_line(row, fit, progress.record.n_seeds))
            log.write({"event": "epoch", **row})
            listener.record({"event": "epoch", **row})
    except Interrupted:
        progress.save(fit, keeps=False)
        write_record(progress.out, interrupted_record(progress.record))
        log.write({"event": "interrupted", "epoch": fit.epoch, "step": fit.step_in_epoch})
        raise
    except NonFinite as error:
        write_record(progress.out, failed_record(progress.record, str(error)))
        log.write({"event": "failed", "messages": [str(error)]})
        raise GuardViolation(str(error)) from error


def progress_line(row: Mapping[str, Any], fit: Fit, n_seeds: int) -> str:
    """The line printed after each epoch."""
    plan: PhasePlan = fit.plan
    member = f" seed {row['member'] + 1}/{n_seeds}" if n_seeds > 1 else ""
    ranks = " ".join(f"{h}d {row[f'rank_ic_{h}d']:+.4f}" for h in fit.panel.horizons)
    left = (0 if fit.stopped else plan.epochs - row["epoch"]) + plan.epochs * (n_seeds - row["member"] - 1)
    minutes, seconds = divmod(int(row["epoch_seconds"] * left), 60)
    memory = f"  {row['device_memory_gb']:.1f} GB" if row["device_memory_gb"] is not None else ""
    return (
        f"phase {plan.phase} {plan.name}{member}  epoch {row['epoch']}/{plan.epochs}  loss {row['loss']:.4f}  "
        f"RankIC {row['rank_ic']:+.4f} ({ranks})  {row['stock_days_per_s']:,.0f} stock-days/s  "
        f"ETA {minutes}:{seconds:02d}{memory}"
    )


class _Clock:
    """Deals what is left of the allowed seconds evenly to the members that are not trained yet."""

    def __init__(self, max_seconds: float | None, members: int) -> None:
        self.deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.members = members

    def share_of(self, member: int) -> float | None:
        """The deadline of a member, of time.monotonic."""
        if self.deadline is None:
            return None
        now = time.monotonic()
        return now + (self.deadline - now) / (self.members - member)
