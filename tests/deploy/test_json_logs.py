"""JSON logs as docs/metrics.md has them: each service of Dagster's says a line an object, and so do ours."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.patience import PATIENCE, until
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
WORKSPACE = REPOSITORY / "deploy" / "workspace.grpc.yaml"


def objects(text: str) -> tuple[list[dict], list[str]]:
    """The lines that are objects, and the others."""
    found, others = [], []
    for line in filter(str.strip, text.splitlines()):
        try:
            found.append(json.loads(line))
        except ValueError:
            others.append(line)
    return found, others


def test_our_own_services_write_what_dagsters_write() -> None:
    code = (
        "import logging, warnings; from atft_assets.log_lines import set_up_logs; set_up_logs();"
        "logging.getLogger('uvicorn.error').warning('a %s', 'line\\nin two'); warnings.warn('old');"
        "logging.getLogger('x').exception('why', exc_info=ValueError('that'))"
    )

    def said(**environ: str) -> str:
        known = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environ}
        done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0 and not done.stdout, done.stderr
        return done.stderr

    (first, warned, failed), others = objects(said(ATFT_LOG_FORMAT="json"))
    assert not others
    assert (first["event"], first["level"], first["logger"]) == ("a line\nin two", "warning", "uvicorn.error")
    assert (
        first["timestamp"].startswith("20") and "old" in warned["event"] and "ValueError: that" in failed["exception"]
    )
    assert objects(said(ATFT_LOG_FORMAT=""))[0] == []


def killed(process: subprocess.Popen) -> None:
    """End a service with its children; it may have ended by itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def spoken(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What code server, webserver and daemon have said on SQLite, from their start to their end."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    environ = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_MODULE_NAME"},
        "DAGSTER_HOME": str(home), "ATFT_CODE_HOST": "127.0.0.1", "ATFT_CODE_PORT": str(port),
        "PYTHONPATH": str(REPOSITORY), "DAGSTER_DISABLE_TELEMETRY": "yes", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    where = ["--workspace", str(WORKSPACE), "--log-format", "json"]
    commands = {
        "code server": [
            "-m", "dagster", "code-server", "start", "--host", "127.0.0.1", "--port", str(port), "--log-format", "json",
            "--module-name", "tests.deploy.tiny", "--location-name", "atft",
        ],
        "webserver": ["-m", "dagster_webserver", "--host", "127.0.0.1", "--port", str(free_port()), *where],
        "daemon": ["-m", "dagster._daemon", "run", *where],
    }  # fmt: skip
    logs = {name: tmp_path / f"{name}.log" for name in commands}
    with ExitStack() as stack:
        for (name, words), sign in zip(commands.items(), ("Started", "Serving", "Daemon"), strict=True):
            with logs[name].open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, *words], env=environ, stdout=file, stderr=file, start_new_session=True
                )
            stack.callback(process.wait)
            stack.callback(killed, process)
            log = logs[name]
            # one after another: SQLite's tables are made by the first, and three at once are in each other's way
            until(
                lambda log=log, sign=sign: sign.lower() in log.read_text().lower(),
                f"the {name}",
                process=process,
                log=log,
            )
        yield {name: log.read_text() for name, log in logs.items()}


@pytest.mark.deploy
@pytest.mark.slow
def test_each_service_of_dagsters_writes_objects(spoken: dict[str, str]) -> None:
    for name, text in spoken.items():
        found, others = objects(text)
        assert found, f"{name} said no object:\n{text}"
        assert all({"event", "level", "logger", "timestamp"} <= one.keys() for one in found), (name, found)
        if name != "code server":  # whose child writes text between
            assert not others, (name, others)
