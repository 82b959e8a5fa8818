"""deploy/stack.sh with the platform's own code on PostgreSQL: up, a run through the UI's interface, and down again."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from atft_assets.host import HOST_TAG
from atft_assets.tools.services import living
from tests.deploy.postgres import REPOSITORY, Cluster
from tests.e2e.locations import LOADED, locations
from tests.patience import PATIENCE, until
from tests.ports import free_port

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

SELECTOR = {"repositoryLocationName": "atft", "repositoryName": "__repository__", "pipelineName": "__ASSET_JOB"}
LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
HEALTH = """{ instance { daemonHealth { allDaemonStatuses {
  daemonType required healthy lastHeartbeatErrors { message } } } } }"""


@dataclass
class Stack:
    """A running stack."""

    folder: Path
    environ: dict[str, str]
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        return self.folder / "said"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['ATFT_UI_PORT']}"

    @property
    def view(self) -> str:
        return f"http://127.0.0.1:{self.environ['ATFT_VIEW_PORT']}/view"

    def group(self) -> list[psutil.Process]:
        """What lives in its process group."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) == self.process.pid and living(process):
                    found.append(process)
            except (ProcessLookupError, psutil.Error):
                continue
        return found

    def service(self, words: str) -> psutil.Process:
        """The one whose command line holds these words."""
        return self.services(words)[0]

    def lasting(self) -> set[int]:
        """Processes that are up as long as the stack is; runs and what the script asks with come and go."""
        words = ("code-server start", "api grpc", "tools.webserver", "dagster._daemon")
        return {process.pid for one in words for process in self.services(one)}

    def services(self, words: str) -> list[psutil.Process]:
        """All such."""
        found = []
        for process in self.group():
            with suppress(psutil.NoSuchProcess):  # gone meanwhile
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found


def asked(url: str, document: str, **variables: Any) -> dict[str, Any]:
    """Answer of a webserver's GraphQL; nothing while it does not serve."""
    body = json.dumps({"query": document, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            found = json.load(answer)
    except OSError:
        return {}
    assert "errors" not in found, found
    data: dict[str, Any] = found["data"]
    return data


def started(folder: Path, cluster: Cluster) -> Stack:
    """A stack on an empty database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "JQUANTS_", "DAGSTER"))}
    ports = {f"ATFT_{name}_PORT": str(free_port()) for name in ("UI", "VIEW", "CODE")}
    environ = {
        **kept,
        **ports,
        "DAGSTER_HOME": str(folder / "home"),
        "ATFT_DATA": str(folder / "data"),
        "ATFT_PG_URL": cluster.url(cluster.empty()),
        "ATFT_HOST": "the-stack",
        "AWS_ACCESS_KEY_ID": "of-runs-alone",  # pragma: allowlist secret
        "ATFT_START": "2022-01-04",
        "ATFT_END": "2022-02-28",
    }
    process = subprocess.Popen(
        [REPOSITORY / "deploy" / "stack.sh"],
        env=environ,
        cwd=folder,
        stdout=(folder / "said").open("w"),
        stderr=subprocess.STDOUT,
        # a script's job ignores SIGINT: what the stack starts must not
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # type: ignore[arg-type,return-value]
    )
    return Stack(folder, environ, process)


def loaded(url: str) -> bool:
    return locations(url) == LOADED


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = started(tmp_path_factory.mktemp("stack"), cluster)
    try:
        for url in (stack.url, stack.view):
            until(partial(loaded, url), f"the code at {url}", process=stack.process, log=stack.log, patience=280)
        yield stack
    finally:
        stack.process.terminate()
        stack.process.wait(PATIENCE)


@pytest.fixture
def history(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's history as another process of this machine reads it."""
    for name in ("DAGSTER_HOME", "ATFT_PG_URL"):
        monkeypatch.setenv(name, stack.environ[name])
    with dg.DagsterInstance.get() as instance:
        yield instance


def launch(url: str) -> dict[str, Any]:
    """Ask a webserver to materialize the calendar of a month."""
    tags = [{"key": "dagster/partition", "value": "2022-01"}]
    selector = {**SELECTOR, "assetSelection": [{"path": ["trading_calendar"]}]}
    given = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
    answer: dict[str, Any] = asked(url, LAUNCH, p=given)["launchPipelineExecution"]
    return answer


def test_the_instance_file_is_linked_and_the_daemons_are_healthy(stack: Stack) -> None:
    linked = Path(stack.environ["DAGSTER_HOME"], "dagster.yaml")
    assert linked.resolve() == REPOSITORY / "deploy" / "dagster.postgres.yaml"

    def healthy() -> bool:
        found = asked(stack.url, HEALTH)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(one["healthy"] and not one["lastHeartbeatErrors"] for one in found if one["required"])

    until(healthy, "the health of every daemon", process=stack.process, log=stack.log)


def test_a_run_that_the_ui_launches_succeeds(stack: Stack, history: dg.DagsterInstance) -> None:
    said = launch(stack.url)
    assert said["__typename"] == "LaunchRunSuccess", said
    run_id = said["run"]["runId"]

    def ended() -> dg.DagsterRun | None:
        run = history.get_run_by_id(run_id)
        return run if run is not None and run.is_finished else None

    run = until(ended, "the end of the run", process=stack.process, log=stack.log)
    assert run.status is dg.DagsterRunStatus.SUCCESS, [event.message for event in history.all_logs(run_id)][-3:]
    assert run.tags[HOST_TAG] == "the-stack"
    (table,) = Path(stack.environ["ATFT_DATA"], "raw", "trading_calendar").glob("*.parquet")
    assert table.stat().st_mode & 0o077 == 0


def test_who_may_only_look_launches_nothing(stack: Stack) -> None:
    assert launch(stack.view)["__typename"] == "UnauthorizedError"


def test_the_guard_stands_before_both_webservers(stack: Stack) -> None:
    for url in (stack.url, stack.view):
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(f"{url}/graphql?query=mutation%7BsetNuxSeen%7D", timeout=PATIENCE)


def test_it_is_reached_from_this_machine_alone(stack: Stack) -> None:
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in stack.group()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {ip for ip, _ in listening} == {"127.0.0.1"}
    assert {port for _, port in listening} >= {
        int(stack.environ[f"ATFT_{name}_PORT"]) for name in ("UI", "VIEW", "CODE")
    }


def test_every_sensor_ticks_without_an_error(stack: Stack, history: dg.DagsterInstance) -> None:
    """Those that are on by themselves: they look at an almost empty history."""

    def ticks() -> dict[str, set[str]]:
        states = [state for state in history.all_instigator_state() if state.instigator_type.value == "SENSOR"]
        return {
            state.instigator_name: {
                tick.status.value for tick in history.get_ticks(state.instigator_origin_id, state.selector_id)
            }
            for state in states
        }

    wanted = {"corrections", "disk_usage", "run_failure_alert", "schema_failure_alert", "unrun_checks"}

    def ticked() -> dict[str, set[str]] | None:
        found = ticks()
        return found if all(found.get(name, set()) & {"SKIPPED", "SUCCESS"} for name in wanted) else None

    found = until(ticked, f"a tick of {', '.join(sorted(wanted))}", process=stack.process, log=stack.log)
    assert "FAILURE" not in set().union(*found.values()), found


@pytest.mark.parametrize(("name", "value"), [("ATFT_PG_PATIENCE", "900"), ("AWS_ACCESS_KEY_ID", "of-runs-alone")])
def test_patience_and_keys_are_given_to_the_code_server_alone(stack: Stack, name: str, value: str) -> None:
    services = ("code-server start", "tools.webserver", "--read-only", "dagster._daemon")
    given = [stack.service(words).environ().get(name) for words in services]
    assert given == [value, None, None, None]
    assert stack.service("code-server start").pid != stack.process.pid


def test_the_first_page_after_a_restart_of_the_database_is_no_error(stack: Stack, cluster: Cluster) -> None:
    """And what was up stays up: webservers and daemon have no patience, but a restart is short."""
    before = stack.lasting()
    question = "{ runsOrError { __typename ... on Runs { results { runId } } } }"
    for _ in range(3):  # a pool may hold several connections, each of which must be found dead
        with ThreadPoolExecutor(6) as pages:
            answers = list(pages.map(lambda url: asked(url, question), [stack.url, stack.view] * 6))
        assert {answer["runsOrError"]["__typename"] for answer in answers} == {"Runs"}  # an HTTP 500 is no answer
        cluster.run("stop")
        cluster.run("start")
    assert launch(stack.url)["__typename"] == "LaunchRunSuccess"
    assert stack.lasting() == before


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    script = [REPOSITORY / "deploy" / "stack.sh"]
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(script, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "stack.sh: DAGSTER_HOME is not set; deploy/atft.env.example says what it is\n",
    )
    (tmp_path / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
    environ |= {"DAGSTER_HOME": str(tmp_path), "ATFT_DATA": str(tmp_path), "ATFT_PG_URL": "postgresql:///x"}
    done = subprocess.run(script, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not of a PostgreSQL" in done.stderr


def test_the_death_of_a_service_ends_all(cluster: Cluster, tmp_path: Path) -> None:
    """Also before anything serves."""
    stack = started(tmp_path, cluster)
    until(lambda: stack.services("dagster._daemon"), "the daemon", process=stack.process, log=stack.log)
    assert len(stack.group()) >= 5  # this script, four services
    stack.service("dagster._daemon").kill()
    assert stack.process.wait(PATIENCE) == 1, stack.log.read_text()[-2000:]
    assert stack.group() == []
    assert "one of the services ended (exit code 137)" in stack.log.read_text()


def test_all_end_together(stack: Stack) -> None:
    """The last test: none may need the stack after it."""
    assert len(stack.group()) >= 6  # this script, four services, the code server's child
    stack.process.terminate()
    assert stack.process.wait(PATIENCE) == 0, stack.log.read_text()[-2000:]
    assert stack.group() == []
