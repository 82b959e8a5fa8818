"""The sensor `schema_failure_alert`: tells of every broken table contract, and starts nothing.

It works on SQLite too, where Dagster's event log is one file a run and cannot be read across runs by a cursor: checks
are asked for by key. The cursor carries a version; one that is not understood means "begin at the newest".
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from atft_assets.contracts.ui import RESTATED
from atft_assets.dagster_private import CheckStatus
from atft_assets.operations.alerts import Alert, Alerts

SCHEMA_CURSOR = 1
PAGE = 50
# A check's row is created when its run begins and filled in place when the check is evaluated, so rows are not
# evaluated in the order of their ids. Each tick looks back this far beyond the tick before; longer than any run lasts
# (`max_runtime_seconds` in dagster.yaml).
LONGEST_RUN = timedelta(days=1)
ROWS_TOLD = 5


def schema_failure_alert(checks: Sequence[dg.AssetCheckKey], every: int = 30) -> dg.SensorDefinition:
    """One alert for each failed evaluation of the given checks, whoever started the run (daemon, UI or CLI).

    Args:
        every: least seconds between two looks.
    """
    return failed_check_sensor(
        "schema_failure_alert",
        "Tells of every broken table contract: table, partition, column, rule and sample rows.",
        checks,
        lambda record: [_schema_alert(record)],
        every,
    )


def failed_check_sensor(
    name: str,
    description: str,
    checks: Sequence[dg.AssetCheckKey],
    alerts_of: Callable[[Any], Sequence[Alert]],
    every: int,
) -> dg.SensorDefinition:
    """A sensor that tells of failed evaluations of checks.

    Args:
        alerts_of: the alerts of one evaluation's record.
        every: least seconds between two looks.
    """

    @dg.sensor(
        name=name,
        minimum_interval_seconds=every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
    )
    def failed_checks(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SensorResult:
        now = time.time()
        cursor = _schema_cursor(context.cursor)
        seen: dict[str, float] = cursor["told"] if cursor else {}
        since = cursor["tick"] - LONGEST_RUN.total_seconds() if cursor else now - LONGEST_RUN.total_seconds()
        failed = []
        for check in checks:
            found = _failed_evaluations(context.instance, check, since)
            if cursor is None:  # the first tick tells what is broken now, not what was broken once
                newest = found[:1] if _is_newest_evaluation(context.instance, check, found) else []
                seen |= {_evaluation(record): now for record in found if record not in newest}
                found = newest
            failed += [record for record in found if _evaluation(record) not in seen]
        # A tick that dies here comes back with the old cursor; the alert log then knows what it told already.
        told = sum(alerts.send(alert) for record in sorted(failed, key=_evaluated_at) for alert in alerts_of(record))
        seen |= {_evaluation(record): now for record in failed}
        kept = {key: at for key, at in seen.items() if at >= now - 2 * LONGEST_RUN.total_seconds()}
        return dg.SensorResult(
            skip_reason=f"{told} failed check(s) told" if told else "no newly failed check",
            cursor=json.dumps({"version": SCHEMA_CURSOR, "tick": now, "told": kept}),
        )

    return failed_checks


def _schema_cursor(text: str | None) -> dict[str, Any] | None:
    try:
        cursor = json.loads(text) if text else None
    except ValueError:
        return None
    return cursor if isinstance(cursor, dict) and cursor.get("version") == SCHEMA_CURSOR else None


def _evaluated_at(record: Any) -> float:
    return record.event.timestamp


def _evaluation(record: Any) -> str:
    """Identity of one evaluation: a retry within the run fills the same row again."""
    return f"{record.id}@{_evaluated_at(record):.3f}"


def _failed_evaluations(instance: dg.DagsterInstance, check: dg.AssetCheckKey, since: float) -> list[Any]:
    """Failed evaluations of a check whose run began after `since`, newest row first.

    Rows of checks that were planned and never run stay PLANNED for ever; reading them as evaluations raises.
    """
    found: list[Any] = []
    before = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(
            check, limit=PAGE, cursor=before, status={CheckStatus.FAILED}
        )
        found += [record for record in page if record.create_timestamp >= since and not _restated(record)]
        if len(page) < PAGE or page[-1].create_timestamp < since:
            return found
        before = page[-1].id


def _restated(record: Any) -> bool:
    """Whether a verdict was told before, and only stands again (`unrun_checks`)."""
    return RESTATED in record.evaluation.metadata


def _is_newest_evaluation(instance: dg.DagsterInstance, check: dg.AssetCheckKey, failed: Sequence[Any]) -> bool:
    passed = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status={CheckStatus.SUCCEEDED}
    )
    return bool(failed) and (not passed or _evaluated_at(passed[0]) < _evaluated_at(failed[0]))


def _schema_alert(record: Any) -> Alert:
    asset = record.key.asset_key.to_user_string()
    metadata = {name: value.value for name, value in record.evaluation.metadata.items()}
    failures = metadata.get("failures")
    rows = [dict(row.data) for row in getattr(failures, "records", failures) or []]
    table, partition = str(metadata.get("table", asset)), str(metadata.get("partition", record.partition or "all"))
    columns = list(dict.fromkeys(str(row.get("column")) for row in rows))
    first = "; ".join(f"{row.get('column')}: {row.get('rule')}" for row in rows[:3])
    again = materialize_command(asset, partition)
    return Alert(
        kind="schema_failure",
        fingerprint=f"schema_failure/{asset}/{_evaluation(record)}",
        what=f"{asset} breaks its contract" if table == asset else f"{asset}: its input {table} is not as agreed",
        where={
            "asset": asset,
            "table": table,
            "partition": partition,
            "column": ", ".join(columns) or "-",
            "rule": first or "-",
        },
        why=record.evaluation.description or first or "the check reported no reason",
        todo=(
            "Nothing was published and the old files stand. If the source sent bad data, wait for its correction and "
            f"run `{again}`; if the source changed its format, change the schema beside the asset, then run the same."
        ),
        run_id=record.run_id or None,
        rows=rows[:ROWS_TOLD],
        repeat_after=None,
    )


def materialize_command(assets: str, partition: str) -> str:
    """The line that builds assets, or one partition or range of partitions (`first...last`) of them, again."""
    option = "--partition-range" if "..." in partition else "--partition"
    return f"dagster asset materialize --select {assets}" + (
        "" if partition in ("all", "-") else f" {option} {partition}"
    )
