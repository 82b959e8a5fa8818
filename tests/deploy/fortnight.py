"""A platform over which days go by: PostgreSQL, deploy/stack.sh, a sandbox, all on a clock that is set, and faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import pytest

from atft_assets.calendar import TOKYO
from atft_assets.dagster_private import NOT_FINISHED_STATUSES
from atft_assets.sandbox import SandboxServer
from tests.deploy.clock import Clock
from tests.deploy.postgres import REPOSITORY, Cluster
from tests.e2e.locations import locations
from tests.patience import PATIENCE, until
from tests.ports import free_port

PATIENT = 8 * PATIENCE  # seconds; for an evening's run
CODE = "tests.deploy.fortnight_code"
SERVER = "ATFT_SERVER_OF_TESTS"  # by which that code knows the sandbox
REFRESH, NIGHT = "nightly_refresh", "night_refresh"
AGAIN = """mutation($id: String!) { launchRunReexecution(reexecutionParams: {parentRunId: $id, strategy: ALL_STEPS}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""

T = TypeVar("T")


def at(day: date, clock: str) -> datetime:
    """An instant in Tokyo."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=TOKYO)


class Sink:
    """Takes alerts by HTTP, as a chat does.

    Attributes:
        titles: of what came, in order.
    """

    def __init__(self) -> None:
        titles: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                titles.append(str(json.loads(body)["title"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.titles = titles
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_address[1]}/"

    def __enter__(self) -> "Sink":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Platform:
    """What runs, and the time that it believes.

    Attributes:
        root: folder of data, home and logs.
        database: name in the cluster.
    """

    root: Path
    clock: Clock
    cluster: Cluster
    server: SandboxServer
    database: str
    start: date
    alert_urls: str = ""
    process: subprocess.Popen[bytes] | None = None
    ports: Mapping[str, str] = field(
        default_factory=lambda: {f"ATFT_{name}_PORT": str(free_port()) for name in ("UI", "VIEW", "CODE")}
    )

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def log(self) -> Path:
        return self.root / "said"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['ATFT_UI_PORT']}"

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATFT_", "JQUANTS_", "DAGSTER"))}
        return {
            **kept, **self.ports, **self.clock.environ,
            "DAGSTER_HOME": str(self.home), "ATFT_DATA": str(self.data), "ATFT_HOST": "the-platform",
            "ATFT_PG_URL": self.cluster.url(self.database), "ATFT_START": str(self.start),
            "JQUANTS_API_KEY": self.server.api_key, "JQUANTS_PLAN": "standard", SERVER: self.server.base_url,
            "ATFT_ALERT_URLS": self.alert_urls, "DAGSTER_MODULE_NAME": CODE, "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    # ── time ──

    def turn(self, to: datetime) -> None:
        """Let it be this instant, for the platform and the service."""
        self.clock.set(to)
        self.server.now = to

    # ── processes ──

    def prepare(self) -> None:
        """A home with the instance file."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not (self.home / "dagster.yaml").exists():
            (self.home / "dagster.yaml").symlink_to(REPOSITORY / "deploy" / "dagster.postgres.yaml")

    def runs(self, *words: str) -> None:
        """`fortnight_runs` in a process on this platform's clock, database and data."""
        self.prepare()
        done = subprocess.run(
            [sys.executable, "-m", "tests.deploy.fortnight_runs", *words], env=self.environ, cwd=REPOSITORY,
            stdout=self.log.open("a"), stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, self.log.read_text()[-4000:]

    def begin(self) -> None:
        """Start the stack and wait for its code."""
        self.process = subprocess.Popen(
            [REPOSITORY / "deploy" / "stack.sh"], env=self.environ, cwd=self.root,
            stdout=self.log.open("a"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        loaded = [{"name": "atft", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]
        self.patiently(lambda: locations(self.url) == loaded, "the code")

    def end(self) -> None:
        """Ctrl-C."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    def kill(self) -> None:
        """Everything of the stack at once, as a loss of power does; it has a process group of its own."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.process = None

    def patiently(self, condition: Callable[[], T], what: str) -> T:
        """As `until`, of a machine that is busy with an evening."""
        end = time.monotonic() + PATIENT
        while True:
            try:
                return until(condition, what, process=self.process, log=self.log)
            except AssertionError:
                if time.monotonic() > end or (self.process is not None and self.process.poll() is not None):
                    raise

    # ── the history ──

    @contextmanager
    def history(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's history as another process reads it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.home))
            patch.setenv("ATFT_PG_URL", self.cluster.url(self.database))
            with dg.DagsterInstance.get() as instance:
                yield instance

    def run_of(self, instance: dg.DagsterInstance, day: date) -> dg.DagsterRun | None:
        """The newest refresh of an evening."""
        asked = dg.RunsFilter(tags={"atft/trading_day": str(day)})
        return next(iter(instance.get_runs(asked, limit=1)), None)

    def idle(self, instance: dg.DagsterInstance) -> bool:
        return not instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES), limit=1)

    def evening(self, instance: dg.DagsterInstance, day: date) -> dg.DagsterRun:
        """Let the schedule ask for the refresh of a day, and the run come to its end."""
        self.turn(at(day, "18:29:55"))
        return self.over(instance, day)

    def over(self, instance: dg.DagsterInstance, day: date, after: str = "") -> dg.DagsterRun:
        """The newest refresh of a day when it is over, another than `after`."""

        def ended() -> dg.DagsterRun | None:
            run = self.run_of(instance, day)
            return run if run is not None and run.run_id != after and run.is_finished else None

        return self.patiently(ended, f"the end of the refresh of {day}")

    def skipped(self, instance: dg.DagsterInstance, day: date) -> str:
        """Let the schedules look at a closed day; what that of the evening says, once the night's run is over."""
        self.turn(at(day, "18:29:55"))
        said = str(self.ticked(instance, REFRESH, at(day, "18:30")).skip_reason)
        if day.weekday() in range(1, 6):
            self.ticked(instance, NIGHT, at(day, "03:30"))
        self.patiently(partial(self.idle, instance), "the end of what the night asked for")
        return said

    def ticked(self, instance: dg.DagsterInstance, name: str, due: datetime) -> Any:
        """The tick of a schedule that is due at an instant, when it is over."""

        def tick() -> Any:
            found = [one for one in self.ticks(instance, name) if one.timestamp == due.timestamp()]
            return found[0] if found and found[0].status.value != "STARTED" else None

        return self.patiently(tick, f"the look of {name} at {due}")

    def ticks(self, instance: dg.DagsterInstance, name: str) -> list[Any]:
        """The newest ticks of a schedule or sensor."""
        state = next((one for one in instance.all_instigator_state() if one.instigator_name == name), None)
        return list(instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=3)) if state else []

    def look(self, instance: dg.DagsterInstance, to: datetime) -> None:
        """Let it be so late, and every sensor look; and again a quarter of an hour later if a look started a run."""
        known = -1
        while (count := instance.get_runs_count()) != known:
            known = count
            self.turn(to)
            since = self.clock.now().timestamp()
            self.patiently(partial(self.looked, instance, since), f"a look of every sensor after {to}")
            self.patiently(partial(self.idle, instance), "the end of what sensors started")
            to += timedelta(minutes=15)

    def looked(self, instance: dg.DagsterInstance, since: float) -> bool:
        names = [
            one.instigator_name for one in instance.all_instigator_state() if one.instigator_type.value == "SENSOR"
        ]
        found = {name: self.ticks(instance, name) for name in names}
        return len(names) >= 8 and all(
            any(tick.timestamp >= since and tick.status.value != "STARTED" for tick in ticks)
            for ticks in found.values()
        )

    def again(self, run: dg.DagsterRun) -> None:
        """Re-execute a run, as a person does in the UI."""
        from tests.deploy.test_stack import asked

        said = asked(self.url, AGAIN, id=run.run_id)["launchRunReexecution"]
        assert said["__typename"] == "LaunchRunSuccess", said


def copied(one: Platform, root: Path, **changes: Any) -> Platform:
    """Another platform that begins where one stands: its data, and its database."""
    root.mkdir(parents=True, exist_ok=True)
    other = Platform(
        root, one.clock, one.cluster, changes.pop("server", one.server), one.cluster.copy(one.database), one.start,
        **changes,
    )  # fmt: skip
    shutil.copytree(one.data, other.data, dirs_exist_ok=True)
    return other


__all__ = ["UTC", "Platform", "Sink", "at", "copied"]
