"""The real daemon and command line on the repository's dagster.yaml: a broken contract is one line in the alert log."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.operations.helpers import read_log
from tests.patience import until

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


def ticks(instance: dg.DagsterInstance, name: str) -> list[Any]:
    state = next((s for s in instance.all_instigator_state() if s.instigator_name == name), None)
    return list(instance.get_ticks(state.instigator_origin_id, state.selector_id)) if state else []


@pytest.mark.timeout(900)  # three waits
def test_a_broken_contract_is_one_line_in_the_alert_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, log, code = tmp_path / "home", tmp_path / "data" / "alerts.log", tmp_path / "location.py"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
    code.write_text(CODE)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ATFT", "JQUANTS"))}
    environ |= {"DAGSTER_HOME": str(home), "ALERT_LOG": str(log), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    program = [sys.executable, "-m", "dagster._daemon", "run", "-f", str(code)]
    dg.DagsterInstance.get().dispose()  # two processes that make the same tables at once: one of them dies
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
            said = {"process": daemon, "log": tmp_path / "daemon.txt"}
            until(lambda: all(ticks(instance, name) for name in names), "the first tick of each sensor", **said)
            assert read_log(log) == []
            command = ["asset", "materialize", "-f", str(code), "--select", "daily_quotes,stock_features"]
            run = subprocess.run(
                [sys.executable, "-m", "dagster", *command], env=environ, cwd=tmp_path, capture_output=True, check=False
            )
            assert run.returncode == 1
            until(lambda: read_log(log), "the alert", **said)
            seen = {name: len(ticks(instance, name)) for name in names}
            until(lambda: all(len(ticks(instance, name)) >= seen[name] + 2 for name in names), "two more ticks", **said)
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
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
