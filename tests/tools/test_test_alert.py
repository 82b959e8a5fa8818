"""The test alert: a real process, real web hooks on loopback; what it prints names no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operations.helpers import read_log
from tests.operations.test_alerts import receiver
from tests.patience import PATIENCE

REPOSITORY = Path(__file__).parents[2]
PASSWORD, TOKEN, WORD = "pa55wort", "Tok3nInPath", "lowercasetoken"  # pragma: allowlist secret


def tried(folder: Path, urls: str) -> subprocess.CompletedProcess[str]:
    """The command's outcome with these targets; no secret may stand in anything that it wrote."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        "ATFT_DATA": str(folder),
        "ATFT_ALERT_URLS": urls,
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-m", "atft_assets.tools.test_alert"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)
    written = done.stdout + done.stderr + "".join(p.read_text() for p in folder.glob("alerts.log*"))
    for secret in (PASSWORD, TOKEN, WORD):
        assert secret not in written
    return done


def address(port: int) -> str:
    return f"json://taro:{PASSWORD}@127.0.0.1:{port}/{WORD}/{TOKEN}?+X-Key={TOKEN}"


def test_it_arrives_as_a_real_alert_does(tmp_path: Path) -> None:
    with receiver() as server:
        done = tried(tmp_path, address(server.server_port))
        assert done.returncode == 0, done.stderr
        assert f"json://127.0.0.1:{server.server_port}/…: delivered" in done.stdout
        (message,) = server.received
    assert message["title"] == "ATFT: this is a test alert" and message["type"] == "info"
    assert "what to do: nothing" in message["message"]
    (record,) = read_log(tmp_path / "alerts.log")
    assert record["kind"] == "test" and str(tmp_path / "alerts.log") in done.stdout


def test_each_target_is_told_of_and_what_to_do_comes_last(tmp_path: Path) -> None:
    with receiver() as refusing, receiver() as good:
        refusing.status = 500
        done = tried(tmp_path, f"{address(refusing.server_port)} {address(1)} nonsense://{TOKEN} {good.url}")
        lines = done.stdout.splitlines()
        assert done.returncode == 1 and len(lines) == 5 and len(good.received) == 1
        assert f"127.0.0.1:{refusing.server_port}/…: NOT delivered" in lines[1] and "500" in lines[1]
        assert "127.0.0.1:1/…: NOT delivered. A Connection error" in lines[2]
        assert "nonsense…: NOT delivered. Apprise does not understand this address" in lines[3]
        assert lines[4].endswith("/…: delivered")
    assert done.stderr.strip().startswith("Correct ATFT_ALERT_URLS") and "docs/how-to/slack.md" in done.stderr
    assert not (tmp_path / "alerts.log.outbox").exists()  # a test that failed does not arrive hours later


def test_without_a_target_the_log_is_the_place(tmp_path: Path) -> None:
    for _ in range(2):  # it is never held back as told already
        done = tried(tmp_path, "")
        assert done.returncode == 0 and "no target: ATFT_ALERT_URLS is empty" in done.stdout
    assert len(read_log(tmp_path / "alerts.log")) == 2


def test_a_log_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file where the folder should be")
    environment = {**os.environ, "ATFT_DATA": str(tmp_path / "root"), "PYTHONPATH": str(REPOSITORY)}
    environment.pop("DAGSTER_HOME", None)
    done = subprocess.run(
        [sys.executable, "-m", "atft_assets.tools.test_alert"],
        env=environment, cwd="/proc", capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1 and "alert log: NOT written" in done.stdout and "Make " in done.stderr


def test_a_setting_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from atft_assets.tools.test_alert import main

    monkeypatch.setenv("ATFT_START", "yesterday")
    assert main([]) == 2 and "ATFT_START is 'yesterday'" in capsys.readouterr().err
