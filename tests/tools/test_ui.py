"""The UI as it is started: the webserver behind its guard over the wire, and services of Dagster that are killed."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from atft_assets.tools.left_behind import left_behind
from atft_assets.tools.reaper import main as reap
from atft_assets.tools.services import living
from atft_assets.tools.ui import main
from tests.e2e.locations import LOADED, locations
from tests.operations.helpers import read_log
from tests.patience import PATIENCE, until
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
MUTATION = "mutation{setNuxSeen}"


@dataclass
class Ui:
    """A UI with a home and a data root of its own."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """Status and text of the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, body, named), timeout=PATIENCE
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def loaded(self) -> bool:
        return locations(self.url) == LOADED

    def services(self, words: str) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if living(child) and words in " ".join(child.cmdline())]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "JQUANTS_", "DAGSTER_"))}
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    return {
        **kept,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "ignore",
        "DAGSTER_HOME": str(folder / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "ATFT_DATA": str(folder / "data"),
        "ATFT_START": "2022-01-04",
        "ATFT_END": "2022-12-29",
    }


def started(folder: Path, *command: str) -> subprocess.Popen[str]:
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=REPOSITORY,
            env=environment(folder),
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    folder, port = tmp_path_factory.mktemp("ui"), free_port()
    one = Ui(folder, port, started(folder, "atft_assets.tools.ui", "--port", str(port)))
    try:
        until(lambda: "There is no login" in one.said, "the UI", process=one.process, log=folder / "said")
        yield one
    finally:
        one.process.terminate()
        one.process.wait(PATIENCE)


def test_it_says_where_and_who_may(ui: Ui) -> None:
    assert f"ui: {ui.url}  (Ctrl-C ends it). There is no login: anyone on this machine may launch" in ui.said
    assert ui.loaded()


def test_a_taken_port_and_a_second_ui_are_one_sentence(
    ui: Ui, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(ui.folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("atft_assets.tools.ui.interrupts", lambda: None)
    assert main(["--port", str(ui.port)]) == 2
    assert main(["--port", str(free_port())]) == 2
    port, second = capsys.readouterr().err.splitlines()
    assert f"port {ui.port} of 127.0.0.1 cannot be taken" in port and f"make ui PORT={ui.port + 1}" in port
    assert "a UI is running for" in second


def test_the_webserver_itself_refuses_foreign_pages_and_names(ui: Ui) -> None:
    body, kind = json.dumps({"query": MUTATION}).encode(), "application/json"
    assert ui.ask("/graphql", body, content_type=kind)[0] == 200  # the control: this request is executed
    assert ui.ask("/graphql", body, content_type=kind, origin="http://evil.example")[0] == 403
    assert ui.ask("/graphql", body, content_type=kind, host="evil.example")[0] == 421
    assert ui.ask(f"/graphql?query={MUTATION}")[0] == 405
    assert ui.ask(f"/graphql?query={MUTATION}", b"", content_type="text/plain")[0] == 405
    assert ui.ask("/graphql?query={version}") == (200, ui.ask("/graphql?query={version}", origin=ui.url)[1])


def test_its_own_pages_have_the_websocket_and_others_do_not(ui: Ui) -> None:
    address, protocol = f"ws://127.0.0.1:{ui.port}/graphql", [Subprotocol("graphql-ws")]
    with connect(address, origin=Origin(ui.url), subprotocols=protocol) as page:
        page.send(json.dumps({"type": "connection_init"}))
        assert json.loads(page.recv(timeout=PATIENCE))["type"] == "connection_ack"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin=Origin("http://evil.example"), subprotocols=protocol)
    assert refused.value.response.status_code == 403


def test_a_killed_code_server_and_a_killed_daemon_are_told_and_come_back(ui: Ui) -> None:
    (code,), (daemon,) = ui.services("api grpc"), ui.services("dagster._daemon")
    code.kill()
    daemon.kill()
    log = ui.folder / "data" / "alerts.log"
    until(lambda: {record["where"].get("service") for record in read_log(log)} >= {"code server", "daemon"})
    until(lambda: ui.services("api grpc") and ui.services("dagster._daemon") and ui.loaded())
    assert "the code server is dead (its process with our code is gone)" in ui.said
    assert "the daemon is dead (killed by SIGKILL)" in ui.said


def test_an_interrupt_ends_every_process(ui: Ui) -> None:
    family = psutil.Process(ui.process.pid).children(recursive=True)
    assert len(family) >= 4
    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(PATIENCE) == 0
    assert [process for process in family if living(process)] == []
    assert "Traceback" not in ui.said


def test_what_a_killed_dagster_dev_left_behind_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    dev = started(tmp_path, "dagster", "dev", "--port", str(free_port()))
    try:
        mine = psutil.Process(dev.pid)

        def services(words: str) -> list[psutil.Process]:
            return [child for child in mine.children() if words in " ".join(child.cmdline())]

        until(lambda: services("dagster._daemon") and services("dagster_webserver"), process=dev, log=tmp_path / "said")
        left = [*services("dagster._daemon"), *services("dagster_webserver")]
        assert list(left_behind(tmp_path / "home")) == []  # its starter lives
    finally:
        dev.kill()
        dev.wait()
    assert all(living(process) for process in left)
    assert {kind for kind, _ in left_behind(tmp_path / "home")} >= {"daemon", "webserver"}
    assert list(left_behind(tmp_path)) == []  # another home
    assert reap([]) == 0
    lines = capsys.readouterr().out
    for process in left:
        assert f"process {process.pid}: what started it is gone; ended" in lines and not living(process)
    assert list(left_behind(tmp_path / "home")) == []
