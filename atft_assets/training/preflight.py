"""What must hold before a training may start; each refusal is one sentence that says what to run.

Dagster's blocking checks guard one run only: a lone `--select train_phase2` would otherwise train on whatever lies on
the disk. So every stage looks itself: the manifests, the latest verdicts of the checks, the panel, the parent's run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.store import UNPARTITIONED, Store
from atft_assets.training.panel import SOURCES
from atft_assets.training.panel_file import Panel, PanelError, latest_panel
from atft_assets.training.runs import Run, RunError, latest_run

GRADIENT_FLOW, NO_DEGENERACY, GAIN = "gradient_flow", "no_degeneracy", "gain"
BLOCKING = (GRADIENT_FLOW, NO_DEGENERACY)

TEMPORARY_HOME = ".tmp_dagster_home_"


class NotReady(Exception):
    """A training must not start; the text is one sentence with the remedy."""


@dataclass(frozen=True)
class Ready:
    """What a training starts from."""

    panel: Panel
    parent: Run | None


def preflight(
    stage: str,
    ancestors: Sequence[str],
    *,
    store: Store,
    instance: dg.DagsterInstance,
    current_catalogue: Callable[[str], str],
    allow_ephemeral_instance: bool = False,
) -> Ready:
    """Refuse a training that could not be trusted or traced.

    Args:
        stage: asset name.
        ancestors: the stages before it, oldest first; it starts from the weights of the last.
        current_catalogue: the code's catalogue hash of a named feature set.
        allow_ephemeral_instance: train on an instance that forgets (tests).

    Raises:
        NotReady: the first thing that is wrong, in the order of the road.
    """
    if not allow_ephemeral_instance and is_ephemeral(instance):
        raise NotReady(
            f"{stage} would run on a temporary Dagster instance, which shares no device limit with other runs and "
            "forgets this one; activate the environment (. ./env.sh exports DAGSTER_HOME), or set the config "
            "allow_ephemeral_instance: true"
        )
    _tables_stand(stage, store)
    try:
        panel = latest_panel(store.local("panel"))
    except PanelError as error:
        raise NotReady(f"{stage} cannot start: {error}") from error
    _checks_passed(stage, instance, [(name, CONTRACT_CHECK) for _, name in SOURCES])
    _checks_passed(stage, instance, [("training_panel", CONTRACT_CHECK)])
    made_with = panel.description["catalogue_hash"]
    if made_with != current_catalogue(panel.description["feature_set"]):
        raise NotReady(
            f"{stage} cannot start: the features have changed since panel {panel.panel_id} was built (catalogue "
            f"{made_with}, now {current_catalogue(panel.description['feature_set'])}); run: "
            "dagster asset materialize --select training_panel"
        )
    return Ready(panel, _parent_run(stage, ancestors, store, instance, panel) if ancestors else None)


def is_ephemeral(instance: dg.DagsterInstance) -> bool:
    """Whether runs on the instance are forgotten: in memory, or in a directory that the CLI made for one command."""
    if instance.is_ephemeral:
        return True
    return any(part.startswith(TEMPORARY_HOME) for part in Path(instance.root_directory).parts)


def _tables_stand(stage: str, store: Store) -> None:
    manifests = {name: store.table(group, name).manifest().entries for group, name in SOURCES}
    missing = [name for name, entries in manifests.items() if not entries]
    if len(missing) == len(SOURCES):
        raise NotReady(f"{stage} cannot start: nothing has been built under {store.root} yet; run: make road")
    for name, entries in manifests.items():
        if name in missing:
            raise NotReady(
                f"{stage} cannot start: the table {name} has not been built under {store.root}; run: make road"
            )
        if refused := [key for key, entry in entries.items() if not entry.contract_passed]:
            raise NotReady(
                f"{stage} cannot start: {name} {refused[0]} did not pass its contract; run: "
                f"dagster asset materialize --select {name} --partition {refused[0]}"
            )


def _checks_passed(stage: str, instance: dg.DagsterInstance, checks: Iterable[tuple[str, str]]) -> None:
    """The latest evaluation of each check, if there was any, did not fail."""
    for asset, check in checks:
        evaluation = latest_evaluation(instance, asset, check)
        if evaluation is not None and not evaluation.passed:
            why = f" ({evaluation.description})" if evaluation.description else ""
            raise NotReady(
                f"{stage} cannot start: the newest verdict of the check {check} of {asset} is a failure{why}; mend "
                f"that first and run: dagster asset materialize --select {asset}{_partition_option(evaluation)}"
            )


def _partition_option(evaluation: dg.AssetCheckEvaluation) -> str:
    """What to add to the command for a month; a run over several months names the broken one in its metadata."""
    named = evaluation.metadata.get("partition")
    partition = evaluation.partition or (str(named.value) if named else UNPARTITIONED)
    return "" if partition == UNPARTITIONED or len(partition) != len("YYYY-MM") else f" --partition {partition}"


def latest_evaluation(instance: dg.DagsterInstance, asset: str, check: str) -> dg.AssetCheckEvaluation | None:
    """The newest verdict of a check; planned evaluations that never came about do not count."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=25):
        event = record.event.dagster_event if record.event else None
        if event is not None and event.event_type_value == "ASSET_CHECK_EVALUATION":
            return event.asset_check_evaluation_data
    return None


def _parent_run(stage: str, ancestors: Sequence[str], store: Store, instance: dg.DagsterInstance, panel: Panel) -> Run:
    parent = ancestors[-1]
    folder = store.local("runs", parent)
    remedy = f"run: dagster asset materialize --select {parent}"
    try:
        run = latest_run(folder)
    except RunError as error:
        raise NotReady(f"{stage} starts from {parent}, whose latest run is not whole ({error}); {remedy}") from error
    if run is None:
        raise NotReady(f"{stage} starts from {parent}, which has no finished run under {folder}; {remedy}")
    _checks_passed(stage, instance, [(parent, check) for check in BLOCKING])
    theirs, ours = run.record["catalogue_hash"], panel.description["catalogue_hash"]
    if theirs != ours:
        raise NotReady(
            f"{stage} starts from {parent}, whose run {run.run_id} was trained on other features (catalogue {theirs}, "
            f"panel {panel.panel_id} has {ours}); {remedy}"
        )
    if run.record["panel_id"] != panel.panel_id:
        raise NotReady(
            f"{stage} starts from {parent}, whose run {run.run_id} was trained on panel {run.record['panel_id']}; the "
            f"validation block of the newest panel, {panel.panel_id}, may hold days that it learned from; run: "
            f"dagster asset materialize --select {','.join(_stale(ancestors, store, panel))}"
        )
    return run


def _stale(stages: Sequence[str], store: Store, panel: Panel) -> list[str]:
    """The stages that are to be trained anew on a panel: the first of another panel, and all that follow it."""
    for place, stage in enumerate(stages):
        try:
            run = latest_run(store.local("runs", stage))
        except RunError:
            run = None
        if run is None or run.record["panel_id"] != panel.panel_id:
            return list(stages[place:])
    return []
