"""What must hold before a training may start; each refusal is one sentence that says what to run.

Dagster's blocking checks guard one run only: a lone `--select train_phase2` would otherwise train on whatever lies on
the disk. So every phase looks itself: the manifests, the latest verdicts of the checks, the panel, the fold that was
cut on it, the parent's run. Then come the findings of `readiness`. Both are told as the blocking check `preflight` of
the phase, whose page shows the table.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.dagster_private import CheckStatus
from atft_assets.failures import Refusal
from atft_assets.findings import Finding, Level, ok
from atft_assets.panel.sources import SOURCES
from atft_assets.reports.shown import numbers
from atft_assets.store import UNPARTITIONED, Store
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.folds import fold_on
from atft_assets.training.lanes import Lane
from atft_assets.training.machine import this_machine
from atft_assets.training.protocol import Share
from atft_assets.training.readiness import (
    device_of,
    estimate,
    graph_findings,
    label_findings,
    machine_findings,
    panel_findings,
)
from atft_assets.training.runs import Run, latest_run
from atft_assets.training.seeds import Ensemble, latest_ensemble
from atft_model.interchange.config import PRESETS, ModelConfig, Preset, changed
from atft_model.interchange.errors import ConfigError, RunError
from atft_model.interchange.fold import Fold
from atft_model.interchange.footprint import Footprint
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.phases import Phase, ancestors
from atft_model.interchange.records import from_plain, to_plain
from atft_model.interchange.request import TrainRequest
from atft_model.interchange.run import RunRecord

GRADIENT_FLOW, NO_DEGENERACY, GAIN = "gradient_flow", "no_degeneracy", "gain"
PREFLIGHT = "preflight"
BLOCKING = (GRADIENT_FLOW, NO_DEGENERACY)

TEMPORARY_HOME = ".tmp_dagster_home_"
SHAPELESS = ("dropout",)  # knobs of a network that leave every shape as it is
VERDICTS_READ = 200  # newest evaluations of a check in which one of a partition is looked for


class NotReady(Refusal):
    """A training must not start; the text is one sentence with the remedy, after "<asset> cannot start: "."""


@dataclass(frozen=True)
class Ready:
    """What a training starts from."""

    panel: Panel
    fold: Fold
    parents: Ensemble | None

    @property
    def parent(self) -> Run | None:
        """The newest published run of the phase before."""
        return self.parents.newest if self.parents else None


@dataclass(frozen=True)
class Preflight:
    """The look before a training of one phase on one fold.

    Attributes:
        current_catalogue: the code's catalogue hash of a named feature set.
    """

    phase: Phase
    lane: Lane
    fold_name: str
    store: Store
    instance: dg.DagsterInstance
    current_catalogue: Callable[[str], str]

    def check(self, *, allow_ephemeral_instance: bool = False) -> Ready:
        """Refuse a training that could not be trusted or traced.

        Args:
            allow_ephemeral_instance: train on an instance that forgets (tests).

        Raises:
            NotReady, StoreError, PanelError, FoldError: the first thing that is wrong, in the order of the road.
        """
        if not allow_ephemeral_instance and is_ephemeral(self.instance):
            raise NotReady(
                "it would run on a temporary Dagster instance, which shares no device limit with other runs "
                "and forgets this one; activate the environment (. ./env.sh exports DAGSTER_HOME), or set the config "
                "allow_ephemeral_instance: true"
            )
        self._tables_stand()
        panel = latest_panel(self.store.local("panel"))
        self._checks_passed((name, CONTRACT_CHECK) for name in (*(name for _, name in SOURCES), "training_panel"))
        self._features_are_current(panel)
        self._checks_passed([(FOLDS_ASSET, CONTRACT_CHECK)])
        fold = fold_on(self.store, panel, self.fold_name)
        return Ready(panel, fold, self._parents(panel, fold) if self.phase.index else None)

    def _tables_stand(self) -> None:
        manifests = {name: self.store.table(group, name).manifest().entries for group, name in SOURCES}
        missing = [name for name, entries in manifests.items() if not entries]
        if len(missing) == len(SOURCES):
            raise NotReady(f"nothing has been built under {self.store.root} yet; run: make road")
        for name, entries in manifests.items():
            if name in missing:
                raise NotReady(f"the table {name} has not been built under {self.store.root}; run: make road")
            if refused := [key for key, entry in entries.items() if not entry.contract_passed]:
                raise NotReady(
                    f"{name} {refused[0]} did not pass its contract; run: "
                    f"dagster asset materialize --select {name} --partition {refused[0]}"
                )

    def _checks_passed(self, checks: Iterable[tuple[str, str]], partition: str | None = None) -> None:
        """The latest evaluation of each check, if there was any, did not fail."""
        for asset, check in checks:
            evaluation = latest_evaluation(self.instance, asset, check, partition)
            if evaluation is not None and not evaluation.passed:
                why = f" ({evaluation.description})" if evaluation.description else ""
                option = f" --partition {partition}" if partition else _month_option(evaluation)
                raise NotReady(
                    f"the newest verdict of the check {check} of {asset} is a failure{why}; "
                    f"mend that first and run: dagster asset materialize --select {asset}{option}"
                )

    def _features_are_current(self, panel: Panel) -> None:
        made_with, now = panel.description.catalogue_hash, self.current_catalogue(panel.description.feature_set)
        if made_with != now:
            raise NotReady(
                f"the features have changed since panel {panel.panel_id} was built "
                f"(catalogue {made_with}, now {now}); run: dagster asset materialize --select training_panel"
            )

    def _parents(self, panel: Panel, fold: Fold) -> Ensemble:
        """The newest runs of the phase before, a seed each, fit to start from."""
        line = ancestors(self.phase)
        parent = self.lane.phase(line[-1])
        remedy = f"run: {self.lane.command([parent], fold.name)}"
        folder = self._folder(line[-1])
        try:
            parents = latest_ensemble(folder)
        except RunError as error:
            raise NotReady(f"it starts from {parent}, whose latest run is not whole ({error}); {remedy}") from error
        if parents is None:
            raise NotReady(f"it starts from {parent}, which has no finished run under {folder}; {remedy}")
        self._checks_passed(((parent, check) for check in BLOCKING), fold.name if self.lane.folds else None)
        for run in parents.runs:
            if why := unfit(run.record, panel, fold):
                stale = [self.lane.phase(phase) for phase in self._stale(line, panel, fold)]
                raise NotReady(
                    f"it starts from {parent}, whose run {run.run_id} {why}; run: {self.lane.command(stale, fold.name)}"
                )
        return parents

    def _folder(self, phase: Phase) -> Path:
        return self.store.local("runs", self.fold_name, phase.key)

    def _stale(self, line: Sequence[Phase], panel: Panel, fold: Fold) -> Sequence[Phase]:
        """The phases that are to be trained anew: the first that is not fit, and all that follow it."""
        for place, phase in enumerate(line):
            try:
                run = latest_run(self._folder(phase))
            except RunError:
                run = None
            if run is None or unfit(run.record, panel, fold):
                return line[place:]
        return []


def chosen_preset(request: TrainRequest, parent: RunRecord | None) -> Preset:
    """The network and training that a request asks for: its preset, else the parent's, with its knobs over it.

    Raises:
        ConfigError: a knob that does not exist, or a value that it cannot have.
    """
    base = PRESETS[request.preset or "small"]
    if request.preset is None and parent is not None and {"model", "train"} <= parent.config.keys():
        base = changed(base, parent.config["model"], parent.config["train"])
    return changed(base, request.network, request.training)


def looked_at(
    ready: Ready, request: TrainRequest, phase: Phase, share: Share | None, trainings: int = 1
) -> tuple[list[Finding], Footprint]:
    """What is found of machine, panel, graph and labels before a training, and its estimated memory.

    Args:
        share: how the step's trainings share this machine; None: they run elsewhere, of which it says nothing.
        trainings: of the step, on this fold and others: each wants about what this one wants.

    Raises:
        ConfigError: the request asks for what no network can have.
    """
    panel, fold = ready.panel, ready.fold
    whole = list(panel_findings(panel))
    if any(one.level is Level.FAIL for one in whole):
        return whole, Footprint(*[0.0] * 6)  # nothing else can be read
    machine = this_machine(request.out)
    config = chosen_preset(request, ready.parent.record if ready.parent else None)
    need = estimate(panel, fold, config, phase.on, device_of(request.device, machine), request.mode, request.n_seeds)
    there = (
        list(machine_findings(request.device, machine, need, share, trainings))
        if share is not None
        else [ok("device", "training runs on another machine, which is not looked at")]
    )
    return [*there, *whole, *graph_findings(panel, fold, phase.on), *label_findings(panel, fold)], need


def preflight_check(asset: str, findings: Sequence[Finding], need: Footprint | None = None) -> dg.AssetCheckResult:
    """The findings as the blocking check of a phase, with their table; warnings let it pass and are said.

    Args:
        need: the estimate; None where nothing was estimated.
    """
    failed = [one for one in findings if one.level is Level.FAIL]
    said = failed or [one for one in findings if one.level is Level.WARN]
    text = "; ".join(f"{one.found}: {one.todo}" if one.todo else one.found for one in said)
    columns = [dg.TableColumn(name, "string") for name in ("level", "subject", "found", "what to do")]
    rows = [
        dg.TableRecord({"level": one.level.value, "subject": one.subject, "found": one.found, "what to do": one.todo})
        for one in findings
    ]
    metadata: dict[str, Any] = {"findings": dg.MetadataValue.table(rows, dg.TableSchema(columns))}
    if need is not None:
        metadata |= numbers({f"estimated_{name}_gb": size / 1e9 for name, size in to_plain(need).items()})
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=PREFLIGHT,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=text or f"{len(findings)} findings, nothing to do",
        metadata=metadata,
    )


def unfit(record: RunRecord, panel: Panel, fold: Fold) -> str | None:
    """Why a run's weights cannot be the start of a training on a fold of a panel; None if they can.

    The panel need not be the one that the run was trained on: what counts is that the features are the same, and that
    its weights have learned from no day beyond the fold's training block.
    """
    if record.catalogue_hash != panel.description.catalogue_hash:
        return (
            f"was trained on other features (catalogue {record.catalogue_hash}, panel {panel.panel_id} has "
            f"{panel.description.catalogue_hash})"
        )
    if record.horizons != panel.horizons:
        theirs, ours = (", ".join(map(str, horizons)) for horizons in (record.horizons, panel.horizons))
        return f"forecasts other horizons ({theirs}; panel {panel.panel_id} has {ours})"
    learned, allowed = record.fold.train[1], fold.train[1]
    if learned > allowed:
        return (
            f"has learned from days up to {learned}, but the training block of the fold {fold.name} ends on {allowed}: "
            "its weights may know days that this fold judges by"
        )
    return None


def other_network(knobs: Mapping[str, Any], parent: RunRecord) -> str | None:
    """Why a parent's weights do not fit the network that a config asks for; None if they do.

    Args:
        knobs: `preset` and `network` of the request, where they are given.

    Raises:
        ConfigError: a knob that does not exist, or a value that it cannot have.
    """
    theirs = parent.config.get("model")
    if not theirs or not (knobs.get("preset") or knobs.get("network")):
        return None
    base = to_plain(PRESETS[knobs["preset"]].model) if knobs.get("preset") else theirs
    ours = to_plain(from_plain(ModelConfig, {**base, **knobs.get("network", {})}, "network", ConfigError))
    shapes = [name for name in ours if name not in SHAPELESS and name in theirs and ours[name] != theirs[name]]
    return ", ".join(f"{name} {theirs[name]}, not {ours[name]}" for name in shapes) or None


def is_ephemeral(instance: dg.DagsterInstance) -> bool:
    """Whether runs on the instance are forgotten: in memory, or in a directory that the CLI made for one command."""
    if instance.is_ephemeral:
        return True
    return any(part.startswith(TEMPORARY_HOME) for part in Path(instance.root_directory).parts)


def latest_evaluation(
    instance: dg.DagsterInstance, asset: str, check: str, partition: str | None = None
) -> dg.AssetCheckEvaluation | None:
    """The newest verdict of a check; planned evaluations that never came about do not count.

    Args:
        partition: only verdicts of this partition.
    """
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    verdicts = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=VERDICTS_READ, status={CheckStatus.SUCCEEDED, CheckStatus.FAILED}
    )
    for record in verdicts:
        evaluation = record.evaluation
        if evaluation and (partition is None or _partition(evaluation) == partition):
            return evaluation
    return None


def _partition(evaluation: dg.AssetCheckEvaluation) -> str:
    """Of which partition a verdict is: a run over several of them names it in its metadata."""
    named = evaluation.metadata.get("partition")
    return evaluation.partition or (str(named.value) if named else UNPARTITIONED)


def _month_option(evaluation: dg.AssetCheckEvaluation) -> str:
    """What to add to the command for a month."""
    partition = _partition(evaluation)
    return f" --partition {partition}" if re.fullmatch(r"\d{4}-\d{2}", partition) else ""
