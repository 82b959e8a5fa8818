"""A check that a failed run never came to shows its last verdict, not red."""

from collections.abc import Iterator

import dagster as dg
import pytest

from atft_assets.operations.alerts import Alerts
from atft_assets.operations.contract_failures import schema_failure_alert
from atft_assets.operations.unrun_checks import restate, unrun_checks
from tests.operations.helpers import read_log
from tests.operations.test_sensors import Ticker
from tests.verdict_in_the_ui import verdict_in_the_ui

state = {"broken": False, "odd": False}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    state.update(broken=False, odd=False)
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dg.asset
def table() -> None:
    if state["broken"]:
        raise dg.Failure("refused")


@dg.asset_check(asset=table)
def odd() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=not state["odd"], severity=dg.AssetCheckSeverity.WARN, metadata={"rows": 7})


KEY = dg.AssetCheckKey(table.key, "odd")


def run(instance: dg.DagsterInstance) -> str:
    return dg.materialize([table, odd], instance=instance, raise_on_error=False).run_id


@pytest.mark.parametrize(("found", "status"), [(False, "SUCCEEDED"), (True, "FAILED")])
def test_the_last_verdict_is_shown_again(instance: dg.DagsterInstance, found: bool, status: str) -> None:
    state["odd"] = found
    run(instance)
    state["broken"] = True
    failed = run(instance)
    assert verdict_in_the_ui(instance, KEY) == "EXECUTION_FAILED"  # Dagster's own way, red
    assert restate(instance, failed) == [KEY]
    assert verdict_in_the_ui(instance, KEY) == status
    assert restate(instance, failed) == []
    state.update(broken=False, odd=False)
    run(instance)
    assert verdict_in_the_ui(instance, KEY) == "SUCCEEDED"
    assert restate(instance, failed) == []  # judged since then


def test_without_any_verdict_nothing_is_made_up(instance: dg.DagsterInstance) -> None:
    state["broken"] = True
    assert restate(instance, run(instance)) == []


def test_a_verdict_that_stands_again_is_not_told_again(instance: dg.DagsterInstance, tmp_path) -> None:
    log = tmp_path / "alerts.log"
    ticker = Ticker(schema_failure_alert([KEY]), instance, alerts=Alerts(log_file=str(log)))
    state["odd"] = True
    run(instance)
    ticker.tick()
    state["broken"] = True
    restate(instance, run(instance))
    ticker.tick()
    assert len(read_log(log)) == 1


def test_the_sensor_looks_at_the_failed_run(instance: dg.DagsterInstance) -> None:
    run(instance)
    state["broken"] = True
    result = dg.materialize([table, odd], instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        "unrun_checks", result.get_run_failure_event(), instance, result.dagster_run
    ).for_run_failure()
    unrun_checks()(context)
    assert verdict_in_the_ui(instance, KEY) == "SUCCEEDED"
