"""The sensor `run_failure_alert`: tells of every failed run by its cause, and starts nothing."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.dagster_private import BaseAssetGraph
from atft_assets.operations.alerts import Alert, Alerts
from atft_assets.operations.contract_failures import materialize_command

NO_STEP = (
    "See in the UI whether it was started anew by itself (a refresh is, once); if not, re-execute it from failure: "
    "what was published stays."
)


def run_failure_alert(every: int = 30) -> dg.SensorDefinition:
    """One alert a failed run, except where only contracts failed: those `schema_failure_alert` tells.

    Args:
        every: least seconds between two looks.
    """

    @dg.run_failure_sensor(
        name="run_failure_alert",
        minimum_interval_seconds=every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        # Runs of the command line have no code location; without this they would be passed over.
        monitor_all_code_locations=True,
        description="Tells of every failed run, with the cause; broken contracts are told by schema_failure_alert.",
    )
    def run_failure_alert(context: dg.RunFailureSensorContext, alerts: Alerts) -> None:
        failed = list(context.get_step_failure_events())
        others = [event for event in failed if event.step_key not in _contract_steps(context)]
        if failed and not others:
            context.log.info("only contracts failed in this run: told by schema_failure_alert")
            return
        alerts.send(_run_alert(context, others))

    return run_failure_alert


def _contract_steps(context: dg.RunFailureSensorContext) -> set[str | None]:
    """Steps of the run in which a contract check failed."""
    records = context.instance.get_records_for_run(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    events = [record.event_log_entry.dagster_event for record in records]
    return {
        event.step_key
        for event in events
        if event
        and event.asset_check_evaluation_data.check_name == CONTRACT_CHECK
        and not event.asset_check_evaluation_data.passed
    }


def _run_alert(context: dg.RunFailureSensorContext, failed: Sequence[dg.DagsterEvent]) -> Alert:
    run, end = context.dagster_run, context.failure_event
    graph = context.repository_def.asset_graph if context.repository_def else None
    steps = [event.step_key or "-" for event in failed]
    error = failed[0].step_failure_data.error if failed else getattr(end.event_specific_data, "error", None)
    cause = root_cause(error) if error else (end.message or "the run ended without saying why")
    return Alert(
        kind="run_failure",
        # the first words of the cause: what follows are numbers and addresses that differ each time
        fingerprint=f"run_failure/{run.job_name}/{','.join(steps)}/{cause[:60]}",
        what=f"run {run.run_id[:8]} of {_title(run)} failed" + (f" in {', '.join(steps)}" if steps else ""),
        where={"job": _title(run), "step": ", ".join(steps) or "-", "partition": _partition(run)},
        why=cause,
        todo=_todo(_commands(graph, run, steps)) if steps else NO_STEP,
        run_id=run.run_id,
    )


def _todo(commands: Sequence[str]) -> str:
    instead = " and then ".join(f"`{command}`" for command in commands)
    return (
        "Read the step's log in the run, remove the cause, then re-execute the run from failure in the UI, which goes "
        f"on with what it had to skip, or run {instead}."
    )


def _partition(run: dg.DagsterRun) -> str:
    """The run's partition or range of partitions, as the command line takes it; "-" if it has none."""
    first, last = (run.tags.get(f"dagster/asset_partition_range_{side}") for side in ("start", "end"))
    return run.tags.get("dagster/partition") or (f"{first}...{last}" if first else "-")


def _commands(graph: BaseAssetGraph | None, run: dg.DagsterRun, steps: Sequence[str]) -> list[str]:
    """What makes the assets of these steps: those without partitions apart, of which the command line takes none."""
    names, partition = [step.replace("__", "/") for step in steps], _partition(run)
    whole = [name for name in names if partition == "-" or _is_whole(graph, name)]
    parts = [name for name in names if name not in whole]
    return [materialize_command(",".join(some), given) for some, given in ((whole, "-"), (parts, partition)) if some]


def _is_whole(graph: BaseAssetGraph | None, name: str) -> bool:
    """Whether an asset of this code location has no partitions; a run may be another's."""
    key = dg.AssetKey.from_user_string(name)
    return graph is not None and graph.has(key) and graph.get(key).partitions_def is None


def _title(run: dg.DagsterRun) -> str:
    return "asset materialize" if run.job_name == "__ASSET_JOB" else run.job_name


def root_cause(error: Any) -> str:
    """The error that our code raised, without Dagster's wrappers, and what it was raised from."""
    chain = [error]
    while chain[-1].cause:
        chain.append(chain[-1].cause)
    ours = [link for link in chain if not (link.cls_name or "").startswith("Dagster")] or chain[-1:]
    first, last = (_said(link) for link in (ours[0], ours[-1]))
    return first if last in first else f"{first} (because of {ours[-1].cls_name}: {last})"


def _said(error: Any) -> str:
    """What an error said, without the name of its class, which Dagster puts in front."""
    text = _one_line(error.message)
    _, _, said = text.partition(f"{error.cls_name}: ")
    return said or text


def _one_line(text: str, limit: int = 600) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
