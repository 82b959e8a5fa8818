"""The sensor `unrun_checks`: a check that a failed run never came to shows its last verdict again.

Dagster plans every check of a run when the run begins and shows those that it never came to as failed. Nothing was
found out about them, and nothing was published: what the last verdict said still stands. The sensor says so with an
evaluation outside any run, a copy of that verdict; the history keeps both.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from atft_assets.contracts.ui import RESTATED
from atft_assets.training.preflight import latest_evaluation

PLANNED, EVALUATED = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION


def unrun_checks(every: int = 30) -> dg.SensorDefinition:
    """The sensor.

    Args:
        every: least seconds between two looks.
    """

    @dg.run_failure_sensor(
        name="unrun_checks",
        minimum_interval_seconds=every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        monitor_all_code_locations=True,
        description="Gives a check that a failed run never came to its last verdict back, so that it is not shown red.",
    )
    def unrun_checks(context: dg.RunFailureSensorContext) -> None:
        restate(context.instance, context.dagster_run.run_id)

    return unrun_checks


def restate(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckKey]:
    """Report the last verdict of each check that a run planned and never came to; returns these checks.

    A check that has been judged, or planned, since then is left as it is, and so is one without any verdict.
    """
    restated = []
    for key in _unrun(instance, run_id):
        newest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        if key not in newest or newest[key].run_id != run_id:
            continue
        last = latest_evaluation(instance, key.asset_key.to_user_string(), key.name)
        if last is not None:
            instance.report_runless_asset_event(_again(last, run_id))
            restated.append(key)
    return restated


def _unrun(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.AssetCheckKey]:
    judged = {_key(event) for event in instance.all_logs(run_id, of_type=EVALUATED)}
    for key in dict.fromkeys(_key(event) for event in instance.all_logs(run_id, of_type=PLANNED)):
        if key not in judged:
            yield key


def _key(entry: dg.EventLogEntry) -> dg.AssetCheckKey:
    said: Any = entry.get_dagster_event().event_specific_data
    return dg.AssetCheckKey(said.asset_key, said.check_name)


def _again(verdict: dg.AssetCheckEvaluation, run_id: str) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=verdict.asset_key,
        check_name=verdict.check_name,
        passed=verdict.passed,
        severity=verdict.severity,
        description=verdict.description,
        metadata={**verdict.metadata, RESTATED: run_id},
        target_materialization_data=verdict.target_materialization_data,
        blocking=verdict.blocking,
        partition=verdict.partition,
    )
