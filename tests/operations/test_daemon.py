"""The real daemon and command line on the repository's dagster.yaml: a broken contract is one line in the alert log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.operations.helpers import read_log

REPOSITORY = Path(__file__).parents[2]

CODE = """
import os
import dagster as dg
from atft_assets.contracts import Verdict, contract_check, failed_check, failures_frame
from atft_assets.operations.alerts import Alerts
from atft_assets.operations.contract_failures import schema_failure_alert
from atft_assets.operations.run_failures import run_failure_alert

@dg.asset(check_specs=[contract_check("daily_quotes")])
def daily_quotes():
    rows = [("C", "dtype Float64", 3, "date=2026-11-20 code=13010 C=x")]
    verdict = Verdict("daily_quotes", "2026-11", failures_frame(rows))
    yield failed_check("daily_quotes", verdict)
    raise dg.Failure(str(verdict), allow_retries=False)

@dg.asset(deps=[daily_quotes])
def stock_features():
    raise AssertionError("must not run")

defs = dg.Definitions(
    assets=[daily_quotes, stock_features],
    sensors=[
        schema_failure_alert([dg.AssetCheckKey(dg.AssetKey("daily_quotes"), "contract")], every=1),
        run_failure_alert(every=1),
    ],
    resources={"alerts": Alerts(log_file=os.environ["ALERT_LOG"])},
    executor=dg.in_process_executor,
)
"""


def wait_for(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.25)


def ticks(instance: dg.DagsterInstance, name: str) -> list[Any]:
    state = next((s for s in instance.all_instigator_state() if s.instigator_name == name), None)
    return list(instance.get_ticks(state.instigator_origin_id, state.selector_id)) if state else []


@pytest.mark.timeout(180)
def test_a_broken_contract_is_one_line_in_the_alert_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, log, code = tmp_path / "home", tmp_path / "data" / "alerts.log", tmp_path / "location.py"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
    code.write_text(CODE)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ATFT", "JQUANTS"))}
    environ |= {"DAGSTER_HOME": str(home), "ALERT_LOG": str(log), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    program = [sys.executable, "-m", "dagster._daemon", "run", "-f", str(code)]
    daemon = subprocess.Popen(
        program,
        env=environ,
        cwd=tmp_path,
        stdout=(tmp_path / "daemon.txt").open("w"),
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        with dg.DagsterInstance.get() as instance:
            names = ("schema_failure_alert", "run_failure_alert")
            wait_for(lambda: all(ticks(instance, name) for name in names), 60)
            assert read_log(log) == []
            command = ["asset", "materialize", "-f", str(code), "--select", "daily_quotes,stock_features"]
            run = subprocess.run(
                [sys.executable, "-m", "dagster", *command], env=environ, cwd=tmp_path, capture_output=True, check=False
            )
            assert run.returncode == 1
            wait_for(lambda: bool(read_log(log)), 60)
            seen = {name: len(ticks(instance, name)) for name in names}
            wait_for(lambda: all(len(ticks(instance, name)) >= seen[name] + 2 for name in names), 60)
            (record,) = read_log(log)
            assert record["kind"] == "schema_failure"
            assert record["where"]["table"] == "daily_quotes" and record["where"]["column"] == "C"
            assert {tick.status.value for name in names for tick in ticks(instance, name)} <= {
                "SKIPPED",
                "SUCCESS",
                "STARTED",
            }
            assert instance.get_latest_materialization_event(dg.AssetKey("daily_quotes")) is None
    finally:
        daemon.send_signal(signal.SIGINT)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
