"""One phase in the making, by one step of Dagster: what is looked at first, trained, judged and published."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import dagster as dg

from atft_assets.contracts import Event
from atft_assets.failures import PermanentFailure, permanent
from atft_assets.findings import Finding, Level, fail, ok
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.fold_range import record_in_partition, recorded
from atft_assets.training.importing import NotImportable, origin, take_in
from atft_assets.training.lanes import Lane, in_partition
from atft_assets.training.phase_config import PhaseConfig
from atft_assets.training.planned_runs import PlannedRun, planned
from atft_assets.training.preflight import NotReady, Preflight, Ready, looked_at, other_network, preflight_check
from atft_assets.training.protocol import Message, TrainingFailed, TrainingLauncher
from atft_assets.training.run_facts import epoch_figures, shown
from atft_assets.training.runs import Run, open_run
from atft_assets.training.seeds import Ensemble, publish
from atft_assets.training.tried import trainings
from atft_assets.training.verdicts import gain_check, gain_over, gradient_flow, guard_checks, no_degeneracy
from atft_assets.trials.ledger import root_of, seen
from atft_model.interchange.attempts import newest_state
from atft_model.interchange.exits import Exit
from atft_model.interchange.footprint import Footprint
from atft_model.interchange.phases import Phase, ancestors
from atft_model.interchange.request import TrainRequest

T = TypeVar("T")
Made = Generator[Event, None, T]  # yields what is to be recorded on the way to its result


def first_preset(settings: Settings) -> str:
    """Size of the network at the start of a curriculum."""
    return "demo" if settings.sandbox else "small"


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
        if self.config.import_run is not None:
            yield from self._taken_in(fold, self.config.import_run)
            return
        plan = yield from self.plan(fold)
        yield from self.looked_at(fold, plan, len(plan.requests))
        yield from self.published(fold, plan, self.trained(plan.requests))

    def many(self, folds: Sequence[str]) -> Iterator[Event]:
        """Train the phase on several folds at a time. What ended well is published and recorded, fold by fold, before
        the step fails for the others.
        """
        if self.config.import_run is not None:
            raise PermanentFailure(f"{self.asset} cannot start: import_run brings the run of one fold: choose it")
        lost: dict[str, str] = {}
        verdicts: list[dg.AssetCheckResult] = []

        def tried(fold: str, making: Made[T]) -> T | None:
            try:
                return self._record(fold, making, verdicts)
            except PermanentFailure as refused:
                lost[fold] = str(refused.description)
                return None

        planned_folds = {fold: tried(fold, self.plan(fold, together=True)) for fold in folds}
        plans = {fold: plan for fold, plan in planned_folds.items() if plan is not None}
        trainings = sum(len(plan.requests) for plan in plans.values())  # which share the machine
        for fold, plan in plans.items():
            tried(fold, self.looked_at(fold, plan, trainings))
        begun = {fold: plan for fold, plan in plans.items() if fold not in lost}
        ends = self.trained([request for plan in begun.values() for request in plan.requests])
        for fold, plan in begun.items():
            tried(fold, self.published(fold, plan, ends))
        if lost:
            why = "; ".join(f"{fold}: {text.removeprefix(self.asset + ' ')}" for fold, text in lost.items())
            well = "the others are published" if len(lost) < len(folds) else "nothing is published"
            raise PermanentFailure(f"{self.asset}: {len(lost)} of {len(folds)} folds failed, {well}. {why}")
        yield from recorded(self.asset, verdicts)

    def plan(self, fold: str, *, together: bool = False) -> Made[FoldPlan]:
        """What is to be trained on a fold, and from what; yields the failed check where it cannot start.

        Args:
            together: with other folds, by this same step.

        Raises:
            PermanentFailure: it cannot start.
        """
        try:
            with permanent(f"{self.asset} cannot start"):
                ready, run_id = self._ready(fold), self.context.run.run_id
                runs = planned(self.config, self.phase, self.lane, ready, self.folder(fold), run_id, together=together)
                todo = [run for run in runs if not run.done]
                requests = [_request(self.config, self.phase, self.lane, ready, run, self.settings) for run in todo]
        except PermanentFailure as refused:
            yield self._preflight(fold, [fail("road", str(refused.description), "")])
            raise
        return FoldPlan(ready, runs, requests)

    def looked_at(self, fold: str, plan: FoldPlan, trainings: int) -> Made[None]:
        """Look at machine, panel, graph and labels; yields the check `preflight`.

        Args:
            trainings: that the step is about to order, those of other folds among them.

        Raises:
            PermanentFailure: the check fails.
        """
        findings, need = [ok("device", "nothing is left to be trained")], None
        try:
            with permanent(f"{self.asset} cannot start"):
                if plan.requests:  # they ask for the same of a machine
                    share = self.launcher.share(trainings)
                    findings, need = looked_at(plan.ready, plan.requests[0], self.phase, share, trainings)
        except PermanentFailure as refused:
            yield self._preflight(fold, [fail("config", str(refused.description), "")])
            raise
        yield self._preflight(fold, findings, need)
        if failed := [f"{one.found}: {one.todo}" for one in findings if one.level is Level.FAIL]:
            raise PermanentFailure(f"{self.asset} cannot start: {'; '.join(failed)}")

    def _ready(self, fold: str) -> Ready:
        look = Preflight(self.phase, self.lane, fold, self.store, self.context.instance, self.catalogue)
        return look.check(allow_ephemeral_instance=self.config.allow_ephemeral_instance)

    def _taken_in(self, fold: str, source: str) -> Iterator[Event]:
        """Publish a run that was trained elsewhere; nothing is asked of this machine."""
        try:
            with permanent(f"{self.asset} cannot start"):
                ready = self._ready(fold)
        except PermanentFailure as refused:
            yield self._preflight(fold, [fail("road", str(refused.description), "")])
            raise
        yield self._preflight(fold, [ok("device", "nothing is trained here: a run is imported")])
        with permanent(f"{self.asset} cannot import a run"):
            if others := self.config.beside_import():
                raise NotImportable(f"import_run trains nothing, so leave out {', '.join(others)}")
            run = take_in(source, self.phase, ready, self.folder(fold))
        yield from self._judged(fold, ready, [run])

    def _preflight(self, fold: str, findings: Sequence[Finding], need: Footprint | None = None) -> Event:
        return in_partition(preflight_check(self.asset, findings, need), self.lane, fold)

    def _record(self, fold: str, making: Made[T], verdicts: list[dg.AssetCheckResult]) -> T:
        """Record each event in the fold's partition as it comes; checks are added to the verdicts as well."""
        while True:
            try:
                event = next(making)
            except StopIteration as done:
                return done.value
            record_in_partition(self.context, self.asset, event, fold)
            verdicts += [event] if isinstance(event, dg.AssetCheckResult) else []

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

    def published(self, fold: str, plan: FoldPlan, failures: Mapping[Path, TrainingFailed]) -> Made[None]:
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
            seen(root_of(self.store), trainings(self.asset, trained))
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
    metadata = shown(asset, phase, trained.newest, started_from)
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
