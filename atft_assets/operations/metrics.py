"""Metrics for Prometheus: `python -m atft_assets.operations.metrics --port 9464` (extra `metrics`).

A process of its own that reads through Dagster's instance, SQLite or Postgres, and from the disk; it writes nothing and
no run reports to it, so it also tells of runs that crashed or never started. Each scrape reads anew. What cannot be
read is left out and `atft_source_up` says so: a database that is away must not take the other figures along.
"""

import argparse
import importlib
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from atft_assets.calendar import TOKYO, trading_days
from atft_assets.dagster_private import CheckStatus
from atft_assets.features.registry import complete
from atft_assets.log_lines import set_up_logs
from atft_assets.operations.alerts import alerts_resource
from atft_assets.operations.disk import NO_GROWTH, TREND_DAYS, days_to_full, free_before, reading_of, volumes
from atft_assets.operations.freshness import expected_through
from atft_assets.operations.schedules import published_months
from atft_assets.raw import SOURCES
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store, StoreError
from atft_model.interchange.gpus import Gpus, NoGpu

PORT, PORT_VARIABLE = 9464, "ATFT_METRICS_PORT"
RECENT = timedelta(hours=1)  # in which a failed run counts as a recent one
CODE = "atft_assets.definitions"
WITHOUT = "prometheus-client is not installed: pip install -c constraints.txt '.[metrics]'"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """A gauge.

    Attributes:
        labels: names of its labels.
    """

    name: str
    what: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("atft_source_up", "1 if the last scrape could read this source, else 0", ("source",)),
        Metric("atft_runs", "Dagster runs that the instance remembers", ("status",)),
        Metric("atft_runs_failed_recently", "Runs that failed within the last hour"),
        Metric("atft_queued_run_age_seconds", "Age of the oldest queued run; 0 if none waits"),
        Metric("atft_started_run_age_seconds", "Age of the oldest run under way; 0 if none is"),
        Metric("atft_asset_last_success_timestamp_seconds", "When an asset was last materialized", ("asset",)),
        Metric("atft_check_failed", "1 if the newest verdict of a check is a failure", ("asset", "check", "severity")),
        Metric("atft_daemon_heartbeat_age_seconds", "Since a daemon was last heard of", ("daemon",)),
        Metric("atft_table_through_timestamp_seconds", "Newest day that a table holds, at 0:00 in Tokyo", ("table",)),
        Metric("atft_trading_days_behind", "Trading days that the daily quotes lack; only where the data have no end"),
        Metric("atft_disk_free_bytes", "Free on a volume, for this user", ("volume",)),
        Metric("atft_disk_used_ratio", "Share of a volume in use, of what this user may fill", ("volume",)),
        Metric("atft_disk_full_in_seconds", "Until a volume is full at its pace; +Inf: it does not fill", ("volume",)),
        Metric(
            "atft_alert_last_told_timestamp_seconds", "When our own alerts last told of a kind", ("kind", "severity")
        ),
        Metric("atft_gpu_utilisation_ratio", "Share of the last moment in which the GPU worked", ("gpu", "name")),
        Metric("atft_gpu_memory_used_bytes", "Memory of the GPU in use", ("gpu", "name")),
        Metric("atft_gpu_memory_total_bytes", "Memory of the GPU", ("gpu", "name")),
        Metric("atft_gpu_power_watts", "Power that the GPU draws", ("gpu", "name")),
        Metric("atft_gpu_temperature_celsius", "Temperature of the GPU", ("gpu", "name")),
    )
}


@dataclass(frozen=True)
class Sample:
    """One value of a metric."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


Reader = Callable[[], Iterable[Sample]]


def of_runs(instance: dg.DagsterInstance, now: datetime) -> Iterator[Sample]:
    """How many runs there are, and how long the oldest has waited and worked."""
    for status in dg.DagsterRunStatus:
        count = instance.get_runs_count(dg.RunsFilter(statuses=[status]))
        yield Sample("atft_runs", count, {"status": status.value.lower()})
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - RECENT)
    yield Sample("atft_runs_failed_recently", instance.get_runs_count(failed))
    for name, status in (
        ("atft_queued_run_age_seconds", dg.DagsterRunStatus.QUEUED),
        ("atft_started_run_age_seconds", dg.DagsterRunStatus.STARTED),
    ):
        oldest = instance.get_run_records(dg.RunsFilter(statuses=[status]), limit=1, ascending=True)
        began = [record.start_time or record.create_timestamp.timestamp() for record in oldest]
        yield Sample(name, max(0.0, now.timestamp() - began[0]) if began else 0.0)


def of_assets(instance: dg.DagsterInstance) -> Iterator[Sample]:
    """When each asset was last materialized."""
    for record in instance.get_asset_records():
        entry = record.asset_entry
        if entry.last_materialization is not None:
            labels = {"asset": entry.asset_key.to_user_string()}
            yield Sample("atft_asset_last_success_timestamp_seconds", entry.last_materialization.timestamp, labels)


def of_checks(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> Iterator[Sample]:
    """The newest verdict of each check that has one."""
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    for key, record in found.items():
        if record.status not in (CheckStatus.SUCCEEDED, CheckStatus.FAILED):
            continue  # planned, and its run has not come to it
        severity = record.evaluation.severity.value.lower() if record.evaluation else "error"
        labels = {"asset": key.asset_key.to_user_string(), "check": key.name, "severity": severity}
        yield Sample("atft_check_failed", float(record.status is CheckStatus.FAILED), labels)


def of_daemons(instance: dg.DagsterInstance, now: datetime) -> Iterator[Sample]:
    """Since when each daemon has not been heard of."""
    for name, beat in instance.get_daemon_heartbeats().items():
        age = max(0.0, now.timestamp() - beat.timestamp)
        yield Sample("atft_daemon_heartbeat_age_seconds", age, {"daemon": name})


def of_tables(store: Store, settings: Settings, now: datetime) -> Iterator[Sample]:
    """How far the tables reach, and what the daily quotes lack by the exchange's calendar."""
    tables = [("raw", source.name) for source in SOURCES] + [("features", table.name) for table in complete()]
    for group, name in tables:
        days = [entry.through_date for entry in store.table(group, name).manifest().entries.values()]
        if known := [day for day in days if day]:
            midnight = datetime.combine(max(known), datetime.min.time(), TOKYO)
            yield Sample("atft_table_through_timestamp_seconds", midnight.timestamp(), {"table": name})
    through = max(published_months(store).values(), default=None)
    if settings.end is None and through is not None:
        expected = expected_through(now)
        behind = len(trading_days(through, expected)) - 1 if through < expected else 0
        yield Sample("atft_trading_days_behind", behind)


def of_disks(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> Iterator[Sample]:
    """The volumes of data and home, as the sensor `disk_usage` reads them."""
    home = None if instance.is_ephemeral else instance.root_directory
    past = free_before(instance, now.timestamp() - TREND_DAYS * 86_400)
    for name, path in volumes(settings.data_root, home).items():
        read, labels = reading_of(path), {"volume": name}
        days = days_to_full([*past.get(name, []), (now.timestamp(), read["free_gb"])])
        yield Sample("atft_disk_free_bytes", read["free_gb"] * 1e9, labels)
        yield Sample("atft_disk_used_ratio", read["used_percent"] / 100, labels)
        yield Sample("atft_disk_full_in_seconds", float("inf") if days == NO_GROWTH else float(days) * 86_400, labels)


def of_alerts(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Sample]:
    """When our alerts last told of each kind, by their own log."""
    alerts = alerts_resource(False, settings.data_root)
    alerts.setup_for_execution(dg.build_init_resource_context(instance=instance))
    newest: dict[tuple[str, str], float] = {}
    for record in alerts.told():
        if {"kind", "severity", "at"} <= record.keys():
            told = datetime.fromisoformat(record["at"]).timestamp()
            key = (str(record["kind"]), str(record["severity"]))
            newest[key] = max(told, newest.get(key, 0.0))
    for (kind, severity), told in newest.items():
        yield Sample("atft_alert_last_told_timestamp_seconds", told, {"kind": kind, "severity": severity})


def of_gpus(gpus: Gpus) -> Iterator[Sample]:
    """The GPUs; what a card does not tell has no sample."""
    for gpu in gpus.read():
        values = {
            "atft_gpu_utilisation_ratio": gpu.utilisation,
            "atft_gpu_memory_used_bytes": gpu.memory_used,
            "atft_gpu_memory_total_bytes": gpu.memory_total,
            "atft_gpu_power_watts": gpu.watts,
            "atft_gpu_temperature_celsius": gpu.celsius,
        }
        for name, value in values.items():
            if value is not None:
                yield Sample(name, value, {"gpu": str(gpu.index), "name": gpu.name})


def readers(
    instance: dg.DagsterInstance, settings: Settings, checks: Sequence[dg.AssetCheckKey], gpus: Gpus | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Reader]:  # fmt: skip
    """What is read at each scrape, by source."""
    store = Store(root=settings.data_root)
    found: dict[str, Reader] = {
        "runs": lambda: of_runs(instance, clock()),
        "assets": lambda: of_assets(instance),
        "checks": lambda: of_checks(instance, checks),
        "daemons": lambda: of_daemons(instance, clock()),
        "tables": lambda: of_tables(store, settings, clock()),
        "disks": lambda: of_disks(instance, settings, clock()),
        "alerts": lambda: of_alerts(instance, settings),
    }
    if gpus is not None:
        found["gpus"] = lambda: of_gpus(gpus)
    return found


def faults() -> tuple[type[Exception], ...]:
    """What a source that is away raises; Postgres's own after its retries, where its package is installed."""
    known: tuple[type[Exception], ...] = (dg.DagsterError, SQLAlchemyError, StoreError, NoGpu, OSError, ValueError)
    try:
        return (*known, importlib.import_module("dagster_postgres.utils").DagsterPostgresException)
    except ImportError:
        return known


def scrape(sources: Mapping[str, Reader]) -> list[Sample]:
    """Every sample that can be read now, and of each source whether it could."""
    found: list[Sample] = []
    for name, reader in sources.items():
        try:
            samples = list(reader())
        except faults() as error:
            logger.warning("%s cannot be read: %s", name, str(error).splitlines()[0] if str(error) else type(error))
            found.append(Sample("atft_source_up", 0, {"source": name}))
        else:
            found += [*samples, Sample("atft_source_up", 1, {"source": name})]
    return found


class Collector:
    """The metrics as prometheus-client asks for them, one scrape at a time."""

    def __init__(self, sources: Mapping[str, Reader]) -> None:
        self._sources, self._one_at_a_time = sources, threading.Lock()

    def describe(self) -> list[Any]:
        """Nothing: a registry that asked would read everything before the first scrape."""
        return []

    def collect(self) -> Iterator[Any]:
        """A family a metric that has a sample."""
        from prometheus_client.core import GaugeMetricFamily

        with self._one_at_a_time:
            samples = scrape(self._sources)
        for metric in METRICS.values():
            family = GaugeMetricFamily(metric.name, metric.what, labels=metric.labels)
            for sample in (one for one in samples if one.name == metric.name):
                family.add_metric([sample.labels[label] for label in metric.labels], sample.value)
            if family.samples:
                yield family


def open_gpus() -> Gpus | None:
    """NVIDIA's library, if package and driver are there."""
    try:
        return Gpus(importlib.import_module("pynvml"))
    except (ImportError, NoGpu):
        return None


def serve(sources: Mapping[str, Reader], host: str, port: int) -> Any:
    """Answer scrapes in threads of their own; returns the server.

    Raises:
        OSError: the port is taken.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(sources))
    server, _ = start_http_server(port, addr=host, registry=registry)
    return server


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 1 with a sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.operations.metrics", description=__doc__)
    parser.add_argument("--port", help=f"to listen on (default: ${PORT_VARIABLE}, else {PORT}; 0: any, printed)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--code", default=CODE, metavar="MODULE", help=f"whose checks are read (default: {CODE})")
    arguments = parser.parse_args(argv)
    environ = os.environ if environ is None else environ
    if (port := port_of(arguments.port or environ.get(PORT_VARIABLE, "").strip() or str(PORT))) is None:
        return _refuse(f"no port can be listened on by this number: give --port, or {PORT_VARIABLE}, from 0 to 65535")
    if importlib.util.find_spec("prometheus_client") is None:
        return _refuse(WITHOUT)
    home = environ.get("DAGSTER_HOME", "")
    if not home or not Path(home).is_absolute():
        return _refuse("DAGSTER_HOME is not set to an absolute path: . ./env.sh, or name it in the unit's environment")
    set_up_logs(environ)
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        return _refuse(str(error))
    checks = sorted(importlib.import_module(arguments.code).defs.resolve_asset_graph().asset_check_keys, key=str)
    with dg.DagsterInstance.get() as instance:
        try:
            server = serve(readers(instance, settings, checks, open_gpus()), arguments.host, port)
        except OSError as error:
            return _refuse(f"{arguments.host}:{port} cannot be listened on ({error.strerror}): give --port")
        print(f"metrics on http://{arguments.host}:{server.server_port}/metrics", flush=True)
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        while not ended.wait(3600):
            continue
        server.shutdown()
    return 0


def port_of(text: str) -> int | None:
    """A port by its number; None where there is none."""
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 16 else None


def _refuse(why: str) -> int:
    print(f"metrics: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
