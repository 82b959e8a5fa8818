"""From a warning to its end: told by a sensor, refused by the release, accepted by a command, released."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atft_assets.build import build_defs
from atft_assets.failures import PermanentFailure
from atft_assets.features.quality import CHECKS, findings, result_of
from atft_assets.operations.alerts import Alerts
from atft_assets.operations.data_release import NAME, data_release_asset
from atft_assets.operations.data_warnings import data_warning_alert
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.tools import accept
from tests.features.synthetic import raw_quotes
from tests.operations.helpers import read_log
from tests.operations.test_sensors import Ticker

START, END = date(2022, 1, 4), date(2022, 2, 28)
FIRST, SECOND = "2022-01", "2022-02"
(OUTLIERS,) = (one for one in CHECKS if one.name == "unexplained_returns")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two months of bars; one close of February is a hundred times too high."""
    store = Store(root=str(tmp_path))
    quotes = raw_quotes(12, 38, seed=1, first=START)
    wrong = quotes["date"].unique().sort()[25]
    there = (pl.col("date") == wrong) & (pl.col("code") == "13050")
    quotes = quotes.with_columns(pl.when(there).then(pl.col("C") * 100).otherwise("C").alias("C"))
    for month in (FIRST, SECOND):
        table = store.table("raw", "daily_quotes")
        rows = quotes.filter(pl.col("date").dt.strftime("%Y-%m") == month)
        table.publish(table.stage_all([(month, rows)], code_version="test"))
    monkeypatch.setenv("ATFT_DATA", str(tmp_path))
    return tmp_path


def release(root: Path, instance: dg.DagsterInstance, first: str, last: str = "") -> dg.ExecuteInProcessResult:
    settings = Settings(base_url=None, plan=Plan.FREE, data_root=str(root), start=START, end=END)
    span = "dagster/asset_partition_range_"
    where = {"tags": {f"{span}start": first, f"{span}end": last}} if last else {"partition_key": first}
    return dg.materialize(
        [data_release_asset(settings)], resources={"store": Store(root=str(root))}, instance=instance,
        raise_on_error=False, **where,
    )  # fmt: skip


def refusal(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (event,) = [event for event in result.all_node_events if event.event_type_value == "STEP_FAILURE"]
    assert event.step_failure_data.error.cls_name == PermanentFailure.__name__  # not tried again
    return event.step_failure_data.user_failure_data.description


def warn(root: Path, instance: dg.DagsterInstance) -> None:
    """An evening's evaluation of the check."""
    store = Store(root=str(root))
    result = result_of(OUTLIERS, [SECOND], findings(store, instance, OUTLIERS, [SECOND]))
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=OUTLIERS.key.asset_key,
            check_name=OUTLIERS.name,
            passed=result.passed,
            severity=result.severity,
            description=result.description,
            metadata=result.metadata,
        )
    )


def test_a_month_with_an_open_finding_is_refused_until_a_person_accepts_it(root, instance, capsys) -> None:
    assert release(root, instance, FIRST).success
    text = refusal(release(root, instance, FIRST, SECOND))
    assert "unexplained_returns of daily_quotes 2022-02: date 2022-02-" in text and "code 13050" in text
    command = "python -m atft_assets.tools.accept daily_quotes 2022-02 --check unexplained_returns --reason TEXT"
    assert command in text and f"dagster asset materialize --select {NAME} --partition 2022-02" in text
    assert "2022-01" not in text and "\n" not in text
    assert accept.main(["daily_quotes", "2022-02"]) == 2  # no reason
    assert accept.main(["daily_quotes", "2022-02", "--reason", "  "]) == 2
    refusal(release(root, instance, SECOND))
    assert accept.main(["daily_quotes", "2022-02", "--check", "stale_prices", "--reason", "no"]) == 0
    refusal(release(root, instance, SECOND))
    capsys.readouterr()
    assert accept.main(["--list"]) == 0
    assert "open      unexplained_returns of daily_quotes 2022-02" in capsys.readouterr().out
    assert accept.main(["daily_quotes", "2022-02", "--reason", "a takeover bid"]) == 0
    assert "2022-02 was accepted by" in capsys.readouterr().out
    assert release(root, instance, FIRST, SECOND).success
    assert accept.main(["daily_quotes", "2022-02", "--reason", "again"]) == 0
    assert "nothing is open" in capsys.readouterr().out
    assert accept.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert "a takeover bid" in listed and "again" not in listed and "open " not in listed


def test_a_table_without_such_checks_is_refused_by_the_command(root, instance, capsys) -> None:
    assert accept.main(["topix", "2022-02", "--reason", "x"]) == 2
    assert "daily_quotes" in capsys.readouterr().err


def test_a_warning_is_told_once_with_table_month_rule_rows_and_the_command(root, instance) -> None:
    log = root / "alerts.log"
    ticker = Ticker(data_warning_alert(), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    for _ in range(2):  # two evenings that find the same
        warn(root, instance)
        ticker.tick()
    (record,) = read_log(log)
    assert (record["kind"], record["severity"]) == ("data_warning", "warning")
    assert record["where"]["table"] == "daily_quotes" and record["where"]["partition"] == SECOND
    assert {row["code"] for row in record["rows"]} == {"13050"} and len(record["rows"]) == 2  # up, and down again
    assert OUTLIERS.accept(SECOND) in record["todo"] and "data_release refuses 2022-02" in record["todo"]
    assert accept.main(["daily_quotes", "2022-02", "--reason", "looked at it"]) == 0
    warn(root, instance)
    ticker.tick()
    assert len(read_log(log)) == 1


def test_the_nightly_refresh_ends_with_the_release_behind_features_and_graph(root) -> None:
    settings = Settings(base_url=None, plan=Plan.STANDARD, data_root=str(root), start=START, end=END)
    defs = build_defs(settings)
    job = defs.resolve_job_def("nightly_refresh")
    selected = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert {
        NAME,
        "daily_quotes",
        "all_features",
        "correlation_graph",
        "daily_scores",
        "portfolio",
        "orders",
    } <= selected
    assert dg.AssetKey(NAME) in defs.resolve_asset_graph().get(dg.AssetKey("daily_scores")).parent_keys
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get(dg.AssetKey(NAME)).parent_keys} == {
        "all_features",
        "correlation_graph",
    }
    checks = {(key.asset_key.to_user_string(), key.name) for key in job.asset_layer.asset_graph.asset_check_keys}
    assert {(one.asset, one.name) for one in CHECKS} <= checks
    assert "data_warning_alert" in {sensor.name for sensor in defs.sensors or []}
