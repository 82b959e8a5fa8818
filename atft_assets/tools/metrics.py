"""Metrics for Prometheus: `python -m atft_assets.tools.metrics --port 9464`.

Everything is looked up in Dagster's instance, the store and the disk when Prometheus asks, so that the process has no
memory, may be killed at any time, and counts runs that died with their process too. It works on SQLite and PostgreSQL
alike. What needs a person is alerted by the sensors as well; deploy/prometheus/rules.yml says the same from outside,
where a machine that is down can be seen.
"""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import dagster as dg

from atft_assets.calendar import trading_days
from atft_assets.operations.freshness import expected_through
from atft_assets.operations.schedules import published_months
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store, StoreError
from atft_model.interchange.gpus import Gpus, NoGpu

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

PORT = 9464
ENDED_HOURS = 24  # in which ended runs are counted
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

# name, what it says, labels
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "atft_up": ("1 where Dagster's instance answered", ()),
    "atft_runs": (f"Runs under way, and those that ended in the last {ENDED_HOURS} hours", ("status",)),
    "atft_oldest_queued_seconds": ("Age of the run that has waited longest for its turn; 0 without one", ()),
    "atft_longest_running_seconds": ("Age of the run that has been under way longest; 0 without one", ()),
    "atft_asset_last_success_timestamp_seconds": ("Newest materialization, since 1970", ("asset",)),
    "atft_check_failed": ("1 where the newest evaluation of a check failed, else 0", ("asset", "check")),
    "atft_daemon_heartbeat_age_seconds": ("Since a daemon last said that it lives", ("daemon",)),
    "atft_quotes_behind_trading_days": ("Trading days by which the daily quotes are behind the calendar", ()),
    "atft_disk_free_bytes": ("Room that this user has on a volume", ("volume",)),
    "atft_disk_size_bytes": ("Of a volume: what is used, and what this user may use", ("volume",)),
    "atft_gpu_utilisation_ratio": ("Share of the last moment in which a kernel ran", ("gpu",)),
    "atft_gpu_memory_used_bytes": ("Held by all processes", ("gpu",)),
    "atft_gpu_memory_size_bytes": ("Of the card", ("gpu",)),
    "atft_gpu_power_watts": ("Drawn now", ("gpu",)),
    "atft_gpu_temperature_celsius": ("Of the chip", ("gpu",)),
}


class Readings:
    """What Prometheus is told at a scrape.

    Args:
        instance: Dagster's.
        checks: keys of all checks of the code location.
        clock: the time now, UTC.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        settings: Settings,
        checks: list[dg.AssetCheckKey],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self.instance, self.settings, self.checks, self.clock = instance, settings, checks, clock

    def collect(self) -> "Iterator[GaugeMetricFamily]":
        """Every metric with its values now; where the instance does not answer only that, and what the machine says."""
        from prometheus_client.core import GaugeMetricFamily

        values: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in METRICS}
        sources = [self._dagster(), self._freshness(), self._disk(), self._gpus()]
        for source in sources:
            for name, labels, value in source:
                values[name].append((labels, value))
        for name, (said, labels) in METRICS.items():
            family = GaugeMetricFamily(name, said, labels=labels)
            for given, value in values[name]:
                family.add_metric(given, value)
            yield family

    def _dagster(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        try:
            found = list(self._instance())
        except Exception:  # noqa: BLE001 (whatever its database says: that it is away is the finding)
            found = [("atft_up", (), 0.0)]
        yield from found

    def _instance(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        now, instance = self.clock(), self.instance
        yield "atft_up", (), 1.0
        since = now - timedelta(hours=ENDED_HOURS)
        for status in UNDER_WAY:
            yield "atft_runs", (status.value,), instance.get_runs_count(dg.RunsFilter(statuses=[status]))
        for status in ENDED:
            ended = dg.RunsFilter(statuses=[status], updated_after=since)
            yield "atft_runs", (status.value,), instance.get_runs_count(ended)
        yield "atft_oldest_queued_seconds", (), self._oldest([dg.DagsterRunStatus.QUEUED], now)
        yield "atft_longest_running_seconds", (), self._oldest([dg.DagsterRunStatus.STARTED], now)
        for record in instance.get_asset_records():
            if newest := record.asset_entry.last_materialization_record:
                name = record.asset_entry.asset_key.to_user_string()
                yield "atft_asset_last_success_timestamp_seconds", (name,), newest.timestamp
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(self.checks)
        for key, execution in latest.items():
            failed = execution.status.value in ("FAILED", "EXECUTION_FAILED")
            yield "atft_check_failed", (key.asset_key.to_user_string(), key.name), float(failed)
        for kind, beat in instance.get_daemon_heartbeats().items():
            yield "atft_daemon_heartbeat_age_seconds", (kind,), max(0.0, now.timestamp() - beat.timestamp)

    def _oldest(self, statuses: list[dg.DagsterRunStatus], now: datetime) -> float:
        records = self.instance.get_run_records(dg.RunsFilter(statuses=statuses), limit=1, ascending=True)
        return max((now - _utc(record.create_timestamp)).total_seconds() for record in records) if records else 0.0

    def _freshness(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        if self.settings.end is not None:
            return  # the data end by intention
        try:
            through = max(published_months(Store(root=self.settings.data_root)).values(), default=None)
        except (StoreError, OSError):
            return  # mending says more: python -m atft_assets.tools.mend
        if through is not None:
            expected = expected_through(self.clock())
            behind = len(trading_days(through, expected)) - 1 if expected > through else 0
            yield "atft_quotes_behind_trading_days", (), behind

    def _disk(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        home = None if self.instance.is_ephemeral else self.instance.root_directory
        for volume, place in (("ATFT_DATA", self.settings.data_root), ("DAGSTER_HOME", home)):
            if place and "://" not in place and Path(place).exists():
                usage = shutil.disk_usage(place)
                yield "atft_disk_free_bytes", (volume,), usage.free
                yield "atft_disk_size_bytes", (volume,), usage.used + usage.free

    def _gpus(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        try:
            import pynvml

            library = Gpus(pynvml)
        except (ImportError, NoGpu):
            return
        try:
            read = library.read()
        except NoGpu:
            read = []
        finally:
            library.close()
        for gpu in read:
            told = {
                "atft_gpu_utilisation_ratio": gpu.utilisation,
                "atft_gpu_memory_used_bytes": gpu.memory_used,
                "atft_gpu_memory_size_bytes": gpu.memory_total,
                "atft_gpu_power_watts": gpu.watts,
                "atft_gpu_temperature_celsius": gpu.celsius,
            }
            for name, value in told.items():
                if value is not None:
                    yield name, (str(gpu.index),), float(value)


def _utc(moment: datetime) -> datetime:
    """Dagster's times are UTC; some storages leave the zone out."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def serve(readings: Readings, port: int, address: str = "127.0.0.1") -> Any:
    """Answer scrapes in a thread; returns the server, whose `server_port` is the port that was taken for 0."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(readings)
    server, _ = start_http_server(port, addr=address, registry=registry)
    return server


def main(arguments: list[str] | None = None) -> int:
    """The command line: serves until it is told to end; 2 where it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.metrics", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"where it listens ({PORT})")
    parser.add_argument("--address", default="127.0.0.1", help="on which of this machine's addresses (127.0.0.1)")
    given = parser.parse_args(arguments)
    if not os.environ.get("DAGSTER_HOME"):
        print("DAGSTER_HOME is not set: source env.sh first, so that there is a history to read", file=sys.stderr)
        return 2
    enough = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: enough.set())
    try:
        settings = Settings.from_env()
        from atft_assets.definitions import defs

        checks = sorted(defs.resolve_asset_graph().asset_check_keys, key=str)
        with dg.DagsterInstance.get() as instance:
            server = serve(Readings(instance, settings, checks), given.port, given.address)
            print(f"metrics on http://{given.address}:{server.server_port}/metrics", flush=True)
            enough.wait()
            server.shutdown()
    except ImportError as error:
        print(f"{error}: pip install -c constraints.txt -e '.[metrics]'", file=sys.stderr)
        return 2
    except (SettingsError, OSError) as error:
        print(f"metrics cannot be served on {given.address}:{given.port}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
