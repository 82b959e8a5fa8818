"""Sensors that look, and tell; none of them starts a run (the one that does is in `corrections`).

All of them work on SQLite, where Dagster's event log is one file a run and cannot be read across runs by a cursor:
checks are asked for by key. Cursors carry a version; one that is not understood means "begin at the newest".
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

# no public way to ask for the evaluations of a check, but this one works on every storage
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckStatus

from atft_assets.calendar import SYSTEM_HALTS, TOKYO, previous_trading_day, trading_days
from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.operations.alerts import Alert, Alerts, Severity
from atft_assets.operations.schedules import live, published_months
from atft_assets.settings import Settings
from atft_assets.store import Store

RUNNING, STOPPED = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED

# ── broken contracts ──────────────────────────────────────────────────────────────────────────────────────────────

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

    @dg.sensor(
        name="schema_failure_alert",
        minimum_interval_seconds=every,
        default_status=RUNNING,
        description="Tells of every broken table contract: table, partition, column, rule and sample rows.",
    )
    def schema_failure_alert(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SensorResult:
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
        told = sum(alerts.send(_schema_alert(record)) for record in sorted(failed, key=_evaluated_at))
        seen |= {_evaluation(record): now for record in failed}
        kept = {key: at for key, at in seen.items() if at >= now - 2 * LONGEST_RUN.total_seconds()}
        return dg.SensorResult(
            skip_reason=f"{told} broken contract(s) told" if told else "no newly broken contract",
            cursor=json.dumps({"version": SCHEMA_CURSOR, "tick": now, "told": kept}),
        )

    return schema_failure_alert


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
        found += [record for record in page if record.create_timestamp >= since]
        if len(page) < PAGE or page[-1].create_timestamp < since:
            return found
        before = page[-1].id


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


def materialize_command(asset: str, partition: str) -> str:
    """The line that builds an asset, or one partition of it, again."""
    return f"dagster asset materialize --select {asset}" + (
        "" if partition in ("all", "-") else f" --partition {partition}"
    )


# ── failed runs ───────────────────────────────────────────────────────────────────────────────────────────────────


def run_failure_alert(every: int = 30) -> dg.SensorDefinition:
    """One alert a failed run, except where only contracts failed: those `schema_failure_alert` tells.

    Args:
        every: least seconds between two looks.
    """

    @dg.run_failure_sensor(
        name="run_failure_alert",
        minimum_interval_seconds=every,
        default_status=RUNNING,
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
        alerts.send(_run_alert(context.dagster_run, context.failure_event, others))

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


def _run_alert(run: dg.DagsterRun, end: dg.DagsterEvent, failed: Sequence[dg.DagsterEvent]) -> Alert:
    steps = [event.step_key or "-" for event in failed]
    error = failed[0].step_failure_data.error if failed else getattr(end.event_specific_data, "error", None)
    cause = root_cause(error) if error else (end.message or "the run ended without saying why")
    span = [run.tags.get(f"dagster/asset_partition_range_{side}") for side in ("start", "end")]
    partition = run.tags.get("dagster/partition") or (f"{span[0]}...{span[1]}" if span[0] else "-")
    again = f"dagster asset materialize --select {steps[0].replace('__', '/')}" if steps else "the same command"
    if steps and partition != "-":
        again += f" --partition{'-range' if span[0] else ''} {partition}"
    return Alert(
        kind="run_failure",
        # the first words of the cause: what follows are numbers and addresses that differ each time
        fingerprint=f"run_failure/{run.job_name}/{','.join(steps)}/{cause[:60]}",
        what=f"run {run.run_id[:8]} of {_title(run)} failed" + (f" in {', '.join(steps)}" if steps else ""),
        where={"job": _title(run), "step": ", ".join(steps) or "-", "partition": partition},
        why=cause,
        todo=f"Read the step's log in the run, remove the cause, then run `{again}` (or re-execute from failure).",
        run_id=run.run_id,
    )


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


# ── disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────

DISK_CURSOR = 1
DISK_ASSET = "disk_usage"
LEVELS = ("ok", "warning", "critical")
MAX_ENTRIES = 200_000


class DiskLevels(dg.ConfigurableResource):
    """Shares of a volume, in percent, at which to warn. Resource key: `disk_levels`."""

    warning: float = 85.0
    critical: float = 95.0
    # a level is left only this far below it, so that a volume at the limit does not tell every five minutes
    hysteresis: float = 1.0

    def level(self, used_percent: float, before: str = "ok") -> str:
        """The level of a reading, given the level before it."""
        limits = {"critical": self.critical, "warning": self.warning}
        for name, limit in limits.items():
            held = LEVELS.index(before) >= LEVELS.index(name)
            if used_percent >= limit - (self.hysteresis if held else 0):
                return name
        return "ok"


def disk_usage(settings: Settings, usage: Callable[[str], Any] = shutil.disk_usage) -> dg.SensorDefinition:
    """Readings of the volumes of the data and of Dagster's home, and an alert when a level is entered or left.

    Args:
        usage: as `shutil.disk_usage`.
    """

    @dg.sensor(
        name="disk_usage",
        minimum_interval_seconds=300,
        default_status=RUNNING,
        description="Disk use as observations of the asset `disk_usage` (see its plots); warns at two levels.",
    )
    def disk_usage(context: dg.SensorEvaluationContext, alerts: Alerts, disk_levels: DiskLevels) -> dg.SensorResult:
        alerts.flush()
        cursor = _disk_cursor(context.cursor)
        home = context.instance.root_directory if not context.instance.is_ephemeral else None
        readings = {
            name: _reading(path, usage)
            for name, path in {"data": settings.data_root, "dagster_home": home}.items()
            if path and "://" not in path
        }
        levels: dict[str, str] = {}
        for name, reading in readings.items():
            before = cursor["levels"].get(name, "ok")
            levels[name] = disk_levels.level(reading["used_percent"], before)
            if levels[name] != before:
                alerts.send(_disk_alert(name, reading, before, levels[name]))
        now = time.time()
        used = {name: reading["used_percent"] for name, reading in readings.items()}
        moved = used.keys() != cursor["used"].keys() or any(
            abs(used[name] - before) > 0.5 for name, before in cursor["used"].items()
        )
        if not (moved or levels != cursor["levels"] or now - cursor["observed"] >= 3600):
            return dg.SensorResult(skip_reason=_disk_text(readings), cursor=context.cursor)
        metadata: dict[str, Any] = {
            f"{name}_{what}": value
            for name, reading in readings.items()
            for what, value in reading.items()
            if what != "path"
        }
        metadata |= {f"data_{name}_gb": size for name, size in folder_sizes(settings.data_root).items()}
        return dg.SensorResult(
            skip_reason=_disk_text(readings),
            asset_events=[dg.AssetObservation(DISK_ASSET, metadata=metadata)],
            cursor=json.dumps({"version": DISK_CURSOR, "levels": levels, "used": used, "observed": now}),
        )

    return disk_usage


def disk_asset() -> dg.AssetSpec:
    """The external asset under which the readings are kept."""
    return dg.AssetSpec(
        DISK_ASSET,
        group_name="operations",
        description="Use of the volumes of ATFT_DATA and DAGSTER_HOME. Observed by the sensor `disk_usage`; see Plots.",
        kinds={"file"},
        owners=["team:atft"],
        tags={"atft/partitions": "none"},
    )


def _disk_cursor(text: str | None) -> dict[str, Any]:
    fresh = {"version": DISK_CURSOR, "levels": {}, "used": {}, "observed": 0.0}
    try:
        cursor = json.loads(text) if text else fresh
    except ValueError:
        return fresh
    return cursor if isinstance(cursor, dict) and cursor.get("version") == DISK_CURSOR else fresh


def _reading(path: str, usage: Callable[[str], Any]) -> dict[str, Any]:
    place = Path(path)
    while not place.exists():  # the data root appears with the first table; its volume is there already
        place = place.parent
    measured = usage(str(place))
    # of what this user may fill: the share that root keeps back counts as neither used nor free
    share = 100 * measured.used / ((measured.used + measured.free) or 1)
    return {"path": path, "used_percent": round(share, 2), "free_gb": round(measured.free / 1e9, 3)}


def folder_sizes(root: str) -> dict[str, float]:
    """Gigabytes in each folder of the data root; stops counting at 200,000 files."""
    sizes: dict[str, float] = {}
    if "://" in root or not Path(root).is_dir():
        return sizes
    left = MAX_ENTRIES
    for folder in sorted(entry for entry in Path(root).iterdir() if entry.is_dir()):
        total, waiting = 0, [str(folder)]
        while waiting and left > 0:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        left -= 1
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # a staged file that was renamed meanwhile
        sizes[folder.name] = round(total / 1e9, 4)
    return sizes


def _disk_text(readings: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{name} {r['used_percent']:.1f} % used, {r['free_gb']:.1f} GB free" for name, r in readings.items()
    )


def _disk_alert(name: str, reading: Mapping[str, Any], before: str, level: str) -> Alert:
    better = LEVELS.index(level) < LEVELS.index(before)
    variable = {"data": "ATFT_DATA", "dagster_home": "DAGSTER_HOME"}[name]
    severity = {"ok": Severity.INFO, "warning": Severity.WARNING, "critical": Severity.FAILURE}[level]
    return Alert(
        kind="disk_usage",
        fingerprint=f"disk_usage/{name}/{before}-{level}",
        what=f"the volume of {variable} is {reading['used_percent']:.1f} % full: {before} → {level}",
        where={"volume of": variable, "path": reading["path"]},
        why=f"{reading['used_percent']:.1f} % used, {reading['free_gb']:.1f} GB free",
        todo=(
            "Nothing: the volume has room again."
            if level == "ok"
            else "The level fell; free some more."
            if better
            else f"Free space or move {variable} to a larger volume; old runs and panels under $ATFT_DATA/runs and "
            "$ATFT_DATA/panel are the largest. The plots of the asset `disk_usage` show which folder grows."
        ),
        severity=severity,
        # a change of level is news whenever it happens; only a tick that died half way would repeat it
        repeat_after=timedelta(minutes=4),
    )


# ── freshness ─────────────────────────────────────────────────────────────────────────────────────────────────────

FRESH_BY = 20  # o'clock in Tokyo; the refresh begins at 18:30


def expected_through(now: datetime) -> date:
    """The trading day that the daily quotes must have reached: today's from 20:00 in Tokyo, else the one before."""
    there = now.astimezone(TOKYO)
    day = there.date()
    traded = [d for d in trading_days(day, day) if d not in SYSTEM_HALTS]
    if traded and there.hour >= FRESH_BY:
        return day
    before = previous_trading_day(day)
    while before in SYSTEM_HALTS:
        before = previous_trading_day(before)
    return before


def data_freshness(
    settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """One alert for each trading day whose quotes are not there in the evening."""

    @dg.sensor(
        name="data_freshness",
        minimum_interval_seconds=600,
        default_status=RUNNING if live(settings) else STOPPED,
        description="On trading evenings from 20:00 in Tokyo the newest daily quotes must be today's.",
    )
    def data_freshness(context: dg.SensorEvaluationContext, alerts: Alerts, store: Store) -> dg.SensorResult:
        if settings.end is not None:
            return dg.SensorResult(skip_reason=f"the data end on {settings.end} by intention (ATFT_END)")
        through = max(published_months(store).values(), default=None)
        if through is None:
            return dg.SensorResult(skip_reason="no daily quotes yet: run `make road` once")
        expected = expected_through(clock())
        if through >= expected:
            return dg.SensorResult(skip_reason=f"daily quotes reach {through}")
        alerts.send(
            Alert(
                kind="data_freshness",
                fingerprint=f"data_freshness/{expected}",
                what=f"daily quotes end on {through}, {len(trading_days(through, expected)) - 1} trading day(s) behind",
                where={"table": "daily_quotes", "partition": f"{expected:%Y-%m}", "expected": str(expected)},
                why=f"the quotes of {expected} were not published by {FRESH_BY}:00 in Tokyo",
                todo="See the runs of the job nightly_refresh and whether its schedule is on; then run `dagster asset "
                "materialize --select 'group:raw or group:features or group:graph' "
                f"--partition {expected:%Y-%m}`.",
                severity=Severity.WARNING,
                repeat_after=None,
            )
        )
        return dg.SensorResult(skip_reason=f"daily quotes end on {through}, expected {expected}: told")

    return data_freshness
