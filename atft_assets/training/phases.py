"""The curriculum: one factory over the four phases makes `train_phase0` … `train_phase3`, and the same for other folds.

A phase checks what it stands on, has its training done in another process (or takes in a run that was trained
elsewhere), judges what came back, and only then moves the pointer `latest` that the next phase starts from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets.contracts import Event
from atft_assets.failures import PermanentFailure, permanent
from atft_assets.findings import Level, fail, ok
from atft_assets.groups import TRAINING
from atft_assets.panel.asset import catalogued
from atft_assets.reports.curves import curves_markdown
from atft_assets.reports.device_picture import device_figures, device_markdown
from atft_assets.reports.spark import spark_markdown
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.fold_range import record_in_partition, recorded
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.importing import NotImportable, origin, take_in
from atft_assets.training.lanes import MAIN_LANE, Lane, in_partition
from atft_assets.training.launcher import LocalLauncher, TrainingFailed, TrainingLauncher
from atft_assets.training.phase_config import PhaseConfig
from atft_assets.training.planned_runs import PlannedRun, planned
from atft_assets.training.preflight import NotReady, Preflight, Ready, looked_at, other_network, preflight_check
from atft_assets.training.run_facts import epoch_figures, figures_of, headline, settings_of
from atft_assets.training.runs import Run, open_run
from atft_assets.training.seeds import Ensemble, publish
from atft_assets.training.tried import trainings
from atft_assets.training.verdicts import (
    check_specs,
    gain_check,
    gain_over,
    gradient_flow,
    guard_checks,
    no_degeneracy,
)
from atft_assets.trials.ledger import seen
from atft_model.interchange.attempts import newest_state
from atft_model.interchange.errors import RunError
from atft_model.interchange.exits import Exit
from atft_model.interchange.phases import Phase, ancestors
from atft_model.interchange.request import TrainRequest
from atft_model.interchange.telemetry import read_telemetry


def current_catalogue(feature_set: str) -> str:
    """Hash of a named feature set as the code has it now."""
    return catalogued(feature_set)[1]


def first_preset(settings: Settings) -> str:
    """Size of the network at the start of a curriculum."""
    return "demo" if settings.sandbox else "small"


def phase_asset(
    phase: Phase,
    settings: Settings,
    catalogue: Callable[[str], str] = current_catalogue,
    lane: Lane = MAIN_LANE,
) -> dg.AssetsDefinition:
    """The asset of one phase.

    Args:
        catalogue: the code's catalogue hash of a named feature set.
        lane: the folds on which it is trained.
    """
    asset = lane.phase(phase)
    parent_asset = lane.phase(ancestors(phase)[-1]) if phase.index else None
    where = "" if not lane.folds else " On a fold other than main."

    @dg.asset(
        name=asset,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET, *([parent_asset] if parent_asset else [])],
        check_specs=check_specs(asset, parent_asset),
        pool="gpu",
        op_tags={"atft/kind": "training"},
        tags={"atft/kind": "training"},
        kinds={"torch"},
        description=f"{phase.name}. Phase {phase.index} of the curriculum: {phase.what_is_on}.{where}",
        **lane.trained_together(settings.fans_out),
    )
    def train(
        context: dg.AssetExecutionContext, config: PhaseConfig, store: Store, launcher: TrainingLauncher
    ) -> Iterator[Event]:
        fold_name = lane.fold(context)
        look = Preflight(phase, lane, fold_name, store, context.instance, catalogue)
        try:
            with permanent(f"{asset} cannot start"):
                ready = look.check(allow_ephemeral_instance=config.allow_ephemeral_instance)
        except PermanentFailure as refused:
            yield in_partition(preflight_check(asset, [fail("road", str(refused.description), "")]), lane, fold_name)
            raise
        folder = store.local("runs", fold_name, phase.key)
        if config.import_run is None:
            with permanent(f"{asset} cannot start"):
                todo = planned(config, phase, lane, ready, folder, context.run.run_id)
                first = _request(config, phase, lane, ready, todo[0], settings)
                threads = launcher.thread_count() if isinstance(launcher, LocalLauncher) else None
                findings, need = looked_at(ready, first, phase, threads)
            yield in_partition(preflight_check(asset, findings, need), lane, fold_name)
            if failed := [f"{one.found}: {one.todo}" for one in findings if one.level is Level.FAIL]:
                raise PermanentFailure(f"{asset} cannot start: {'; '.join(failed)}")
            runs = []
            for one in todo:
                runs.append((yield from _trained(context, config, phase, lane, ready, one, launcher, settings)))
        else:
            with permanent(f"{asset} cannot import a run"):
                runs = [_imported(config, phase, ready, folder)]
            nothing = ok("device", "nothing is trained here: a run is imported")
            yield in_partition(preflight_check(asset, [nothing]), lane, fold_name)
        with permanent(f"{asset} cannot be published"):
            seen(store.local(), trainings(asset, Ensemble(tuple(runs))))
            for event in _judged_and_published(context, phase, lane, Ensemble(tuple(runs)), ready, config.import_run):
                yield in_partition(event, lane, fold_name) if isinstance(event, dg.AssetCheckResult) else event

    return train


@dataclass(frozen=True)
class FoldPlan:
    """What is to be trained on one fold: a run a seed, and of those that have not ended well yet a request each."""

    ready: Ready
    runs: list[PlannedRun]
    requests: list[TrainRequest]


@dataclass(frozen=True)
class Making:
    """One phase in the making, by one step of Dagster, on one fold or on several at a time."""

    context: dg.AssetExecutionContext
    config: PhaseConfig
    phase: Phase
    lane: Lane
    store: Store
    launcher: TrainingLauncher
    settings: Settings
    catalogue: Callable[[str], str]

    @property
    def asset(self) -> str:
        return self.lane.phase(self.phase)

    def one(self, fold: str) -> Iterator[Event]:
        """Train, or import, and publish the phase of one fold."""
        if self.config.import_run is None:
            plan = self.plan(fold)
            yield from self.published(fold, plan, self.trained(plan.requests))
            return
        ready = self.look(fold)
        with permanent(f"{self.asset} cannot import a run"):
            runs = [_imported(self.config, self.phase, ready, self.folder(fold))]
        yield from self._judged(fold, ready, runs)

    def many(self, folds: Sequence[str]) -> Iterator[Event]:
        """Train the phase on several folds at a time. What ended well is published and recorded, fold by fold, before
        the step fails for the others.
        """
        plans: dict[str, FoldPlan] = {}
        lost: dict[str, str] = {}
        for fold in folds:
            try:
                if self.config.import_run is not None:
                    raise PermanentFailure(
                        f"{self.asset} cannot start: import_run brings the run of one fold: choose it"
                    )
                plans[fold] = self.plan(fold, together=True)
            except PermanentFailure as refused:
                lost[fold] = str(refused.description)
        ends = self.trained([request for plan in plans.values() for request in plan.requests])
        verdicts: list[dg.AssetCheckResult] = []
        for fold, plan in plans.items():
            try:
                for event in self.published(fold, plan, ends):
                    record_in_partition(self.context, self.asset, event, fold)
                    verdicts += [event] if isinstance(event, dg.AssetCheckResult) else []
            except PermanentFailure as failure:
                lost[fold] = str(failure.description)
        if lost:
            why = "; ".join(f"{fold}: {text.removeprefix(self.asset + ' ')}" for fold, text in lost.items())
            raise PermanentFailure(
                f"{self.asset}: {len(lost)} of {len(folds)} folds failed, the others are published. {why}"
            )
        yield from recorded(self.asset, verdicts)

    def look(self, fold: str) -> Ready:
        """What the training stands on.

        Raises:
            PermanentFailure: it cannot start.
        """
        with permanent(f"{self.asset} cannot start"):
            look = Preflight(self.phase, self.lane, fold, self.store, self.context.instance, self.catalogue)
            return look.check(allow_ephemeral_instance=self.config.allow_ephemeral_instance)

    def plan(self, fold: str, *, together: bool = False) -> FoldPlan:
        """What is to be trained on a fold.

        Args:
            together: with other folds, by this same step.

        Raises:
            PermanentFailure: it cannot start.
        """
        ready, run_id = self.look(fold), self.context.run.run_id
        with permanent(f"{self.asset} cannot start"):
            runs = planned(self.config, self.phase, self.lane, ready, self.folder(fold), run_id, together=together)
            todo = [run for run in runs if not run.done]
            requests = [_request(self.config, self.phase, self.lane, ready, run, self.settings) for run in todo]
        return FoldPlan(ready, runs, requests)

    def folder(self, fold: str) -> Path:
        """`runs/<fold>/<phase>`."""
        return self.store.local("runs", fold, self.phase.key)

    def trained(self, requests: Sequence[TrainRequest]) -> dict[Path, TrainingFailed]:
        """Have everything trained that is asked for; the failures, by run directory."""
        with permanent(f"{self.asset} cannot start"):
            if len(requests) == 1:
                try:
                    self.launcher.train(self.context, requests[0], partial(self._observe, requests[0]))
                except TrainingFailed as failure:
                    return {requests[0].out: failure}
                return {}
            ends = self.launcher.fan_out(self.context, requests, self._observe) if requests else []
        return {one.out: end for one, end in zip(requests, ends, strict=True) if end is not None}

    def published(self, fold: str, plan: FoldPlan, failures: Mapping[Path, TrainingFailed]) -> Iterator[Event]:
        """Open what was trained on a fold, judge and publish it; yields the failed checks of what ended itself.

        Raises:
            PermanentFailure: a training failed, or a blocking check refuses its run.
        """
        for run in plan.runs:
            if run.done:
                self.context.log.info(f"{self.asset}: seed {run.seed} had ended well before: {run.out.name}")
        failed = [(run, failures[run.out]) for run in plan.runs if run.out in failures]
        for run, _ in failed:
            self.push(run.out)
        if failed:
            yield from self._refused(fold, failed, several=len(plan.runs) > 1)
        with permanent(f"{self.asset}: the trainer reported success, but"):
            runs = [open_run(run.out) for run in plan.runs]
        yield from self._judged(fold, plan.ready, runs)

    def _refused(
        self, fold: str, failed: Sequence[tuple[PlannedRun, TrainingFailed]], *, several: bool
    ) -> Iterator[Event]:
        for run, failure in failed:
            if failure.exit_code == Exit.GUARD:
                for check in guard_checks(self.asset, run.out, str(failure)):
                    yield in_partition(check, self.lane, fold)
                break
        said = "; ".join(f"seed {run.seed}: {failure}" if several else str(failure) for run, failure in failed)
        run, failure = failed[0]
        goes_on = [run.out.name for run, _ in failed if newest_state(run.out) is not None]
        raise PermanentFailure(
            f"{self.asset} ({self.phase.name}): {said}",
            metadata={
                "exit_code": failure.exit_code,
                **({"resume_run": goes_on[0]} if goes_on else {}),
                "run_directory": dg.MetadataValue.path(str(run.out)),
                "stderr": dg.MetadataValue.md(f"```\n{failure.stderr}\n```"),
            },
        ) from failure

    def _judged(self, fold: str, ready: Ready, runs: Sequence[Run]) -> Iterator[Event]:
        trained = Ensemble(tuple(runs))
        with permanent(f"{self.asset} cannot be published"):
            seen(self.store.local(), trainings(self.asset, trained))
            self.store.push("trials")
            for event in _judged_and_published(
                self.context, self.phase, self.lane, trained, ready, self.store, self.config.import_run
            ):
                yield in_partition(event, self.lane, fold) if isinstance(event, dg.AssetCheckResult) else event

    def push(self, out: Path) -> None:
        """In a bucket another machine can go on with a run from here."""
        self.store.push("runs", *out.parts[-3:])

    def _observe(self, request: TrainRequest, message: Message) -> None:
        """An epoch's metrics as an observation: its curves grow in the UI while the training goes on."""
        if message.get("event") == "epoch":
            self.push(request.out)
            partition = request.fold.name if self.lane.folds else None
            self.context.log_event(
                dg.AssetObservation(self.asset, metadata=epoch_figures(message), partition=partition)
            )


def _imported(config: PhaseConfig, phase: Phase, ready: Ready, folder: Path) -> Run:
    """The run that was trained elsewhere.

    Raises:
        NotImportable, RunError: it cannot stand for one that was trained here.
    """
    assert config.import_run is not None
    if others := config.beside_import():
        raise NotImportable(f"import_run trains nothing, so leave out {', '.join(others)}")
    return take_in(config.import_run, phase, ready, folder)


def _request(
    config: PhaseConfig, phase: Phase, lane: Lane, ready: Ready, todo: PlannedRun, settings: Settings
) -> TrainRequest:
    """What the trainer is asked to do.

    Raises:
        NotReady: the network that is asked for is another than the parent's, whose weights then do not fit.
    """
    knobs = {**config.request(), "seed": todo.seed}
    if todo.parent is None:
        knobs.setdefault("preset", first_preset(settings))
    elif why := other_network(knobs, todo.parent.record):
        line = [*ancestors(phase), phase]
        raise NotReady(
            f"it starts from {lane.phase(line[-2])} {todo.parent.run_id}, whose network is another ({why}): a size is "
            f"chosen in {lane.phase(line[0])} and kept from there on. Train {lane.phase(line[0])} with this preset or "
            f"network in its config, the phases after it without one: "
            f"{lane.command([lane.phase(one) for one in line], ready.fold.name)} --config FILE"
        )
    return TrainRequest(
        panel=ready.panel.folder,
        fold=ready.fold,
        phase=phase.index,
        out=todo.out,
        init=todo.parent.folder if todo.parent else None,
        **knobs,
    )


def _judged_and_published(
    context: dg.AssetExecutionContext, phase: Phase, lane: Lane, trained: Ensemble, ready: Ready, store: Store,
    imported: str | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Checks first; `latest` moves and the materialization is recorded only if the blocking ones pass for every run."""
    asset, parents = lane.phase(phase), ready.parents
    for run in trained.runs:  # the checks of the last stand for all, or those of the first that is refused
        guards = run.record.guards or {"grad_norm": {}, "passed": False, "messages": ["the run reports no guards"]}
        blocking = [gradient_flow(asset, guards), no_degeneracy(asset, guards)]
        if refused := [check for check in blocking if not check.passed]:
            yield from blocking
            raise PermanentFailure(
                f"{asset} ({phase.name}): {'; '.join(str(check.description) for check in refused)}. The checkpoint in "
                f"{run.folder} is not published, the phase's `latest` is as it was."
            )
    gain = gain_over(parents, trained, Block.of(ready.panel, ready.fold, "validation"))
    publish(trained)
    store.push("runs", *trained.newest.folder.parts[-3:-1])
    parent_asset = lane.phase(ancestors(phase)[-1]) if parents else None
    started_from = "-"
    if parents:
        started_from = f"{parent_asset}/{', '.join(parents.run_ids)}"
        context.log.info(f"{asset} started from {started_from.replace('/', ' ', 1)}")
    record = trained.newest.record
    metadata = _metadata(asset, phase, trained.newest, started_from)
    if len(trained.runs) > 1:
        metadata = {"seeds": ", ".join(map(str, trained.seeds)), "runs": ", ".join(trained.run_ids), **metadata}
    if imported is not None:
        metadata |= {
            "imported_from": origin(trained.newest, imported),
            "trainer_code_version": record.code_version,
        }
    yield dg.MaterializeResult(asset_key=asset, data_version=dg.DataVersion(trained.version), metadata=metadata)
    yield from blocking
    yield gain_check(asset, parent_asset, gain)


def _metadata(asset: str, phase: Phase, run: Run, parent: str) -> dict[str, Any]:
    """What the UI shows of a run, in this order: outcome and picture, settings, numbers (they plot over the runs)."""
    record, metrics = run.record, run.metrics()
    title = f"{asset} · {phase.name} · {run.run_id}"
    return {
        "outcome": headline(record),
        "rank_ic_by_epoch": dg.MetadataValue.md(
            spark_markdown(metrics["rank_ic"].to_list(), record.kept_epoch, "validation RankIC")
        ),
        "curves": dg.MetadataValue.md(curves_markdown(metrics, title, record.kept_epoch)),
        **device_metadata(run.folder, title),
        **settings_of(record),
        **figures_of(record),
        "run_id": run.run_id,
        "parent_run": parent,
        "fold": record.fold.name,
        "panel_id": record.panel_id,
        "catalogue_hash": record.catalogue_hash,
        "checkpoint": dg.MetadataValue.path(str(run.checkpoint)),
    }


def device_metadata(folder: Path, title: str) -> dict[str, Any]:
    """What the device did during a run, as picture and numbers; empty where no look was taken.

    A training that went well is published whatever became of its telemetry: damage is said in the picture's place.
    """
    try:
        found = read_telemetry(folder)
    except RunError as error:
        return {"device_use": f"not shown: {error}"}
    summary = found.summary() if found else None
    if found is None or summary is None:
        return {}
    return {"device_use": dg.MetadataValue.md(device_markdown(found, title)), **device_figures(summary)}
