"""Sensors on a real SQLite instance: what is told, once, and in which words."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import AssetCheckEvaluationPlanned, DagsterEvent, DagsterEventType

from atft_assets.contracts import CONTRACT_CHECK, Verdict, contract_check, failed_check, failures_frame
from atft_assets.operations.alerts import Alerts
from atft_assets.operations.contract_failures import schema_failure_alert
from atft_assets.operations.disk import DiskLevels, disk_usage, folder_sizes, free_before
from atft_assets.operations.freshness import data_freshness, expected_through
from atft_assets.operations.run_failures import run_failure_alert
from atft_assets.store import Store
from tests.operations.helpers import live_settings, read_log

ROWS = [("C", "in_range(0, 1e7)", 2, "date=2026-11-20 code=13010 C=-1.0"), ("Vo", "not null", 1, "code=130A0")]


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def checked(name: str, broken: Callable[[], bool], error: type[Exception] | None = None) -> dg.AssetsDefinition:
    """An asset that audits before it publishes, as the tables do; `error` is a failure of another kind."""

    @dg.asset(name=name, check_specs=[contract_check(name)])
    def table() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        if error:
            try:
                raise ConnectionError("the server answered 503 ten times, token=abcd1234")
            except ConnectionError as cause:
                raise error("daily_quotes 2026-11: nothing fetched") from cause
        if broken():
            verdict = Verdict("daily_quotes", "2026-11", failures_frame(ROWS))
            yield failed_check(name, verdict)
            raise dg.Failure(str(verdict), allow_retries=False)
        yield dg.MaterializeResult(asset_key=name)
        yield dg.AssetCheckResult(passed=True, asset_key=name, check_name=CONTRACT_CHECK)

    return table


def run(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition) -> str:
    """A run as the command line starts it: it belongs to no code location."""
    return dg.materialize(list(assets), instance=instance, raise_on_error=False).run_id


class Ticker:
    """Ticks of one sensor that hand their cursor on, as the daemon does."""

    def __init__(
        self,
        sensor: dg.SensorDefinition,
        instance: dg.DagsterInstance,
        assets: Sequence[dg.AssetsDefinition] = (),
        **resources: Any,
    ):
        self.sensor, self.instance, self.assets, self.resources = sensor, instance, assets, resources
        self.cursor: str | None = None

    def tick(self) -> Any:
        """One tick; a tick that raises leaves the cursor as it was."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources=self.resources,
            definitions=dg.Definitions(assets=self.assets, sensors=[self.sensor], resources=self.resources),
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "alerts.log"


def key(name: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(dg.AssetKey(name), CONTRACT_CHECK)


# ── broken contracts ──────────────────────────────────────────────────────────────────────────────────────────────


def test_each_broken_contract_is_told_once_with_table_partition_column_rule_and_rows(
    instance: dg.DagsterInstance, log: Path
) -> None:
    ticker = Ticker(schema_failure_alert([key("told")]), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    assert read_log(log) == []
    run_id = run(instance, checked("told", lambda: True))
    for _ in range(3):
        ticker.tick()
    (record,) = read_log(log)
    assert record["where"] == {
        "asset": "told",
        "table": "daily_quotes",
        "partition": "2026-11",
        "column": "C, Vo",
        "rule": "C: in_range(0, 1e7); Vo: not null",
    }
    assert record["rows"][0]["sample"] == "date=2026-11-20 code=13010 C=-1.0"
    assert record["rows"][0]["failing_rows"] == 2
    assert record["what"] == "told: its input daily_quotes is not as agreed"
    assert record["run"].endswith(run_id)
    assert "dagster asset materialize --select told --partition 2026-11" in record["todo"]
    _evaluate(instance, "told", _plan(instance, "told"))
    ticker.tick()
    assert len(read_log(log)) == 2  # the second failure is another evaluation, hence another alert
    _evaluate(instance, "told", _plan(instance, "told"), passed=True)
    ticker.tick()
    assert len(read_log(log)) == 2


def test_a_sensor_restarted_with_its_old_cursor_goes_on_where_it_stopped(
    instance: dg.DagsterInstance, log: Path
) -> None:
    alerts = Alerts(log_file=str(log))
    before = Ticker(schema_failure_alert([key("restarted")]), instance, alerts=alerts)
    before.tick()
    _evaluate(instance, "restarted", _plan(instance, "restarted"))
    before.tick()
    _evaluate(instance, "restarted", _plan(instance, "restarted"))  # while no daemon runs
    after = Ticker(schema_failure_alert([key("restarted")]), instance, alerts=alerts)
    after.cursor = before.cursor
    after.tick()
    after.tick()
    assert len(read_log(log)) == 2


@pytest.fixture(scope="module")
def history(instance: dg.DagsterInstance) -> dg.AssetCheckKey:
    """A check that failed three times before any sensor looked."""
    for _ in range(3):
        _evaluate(instance, "history", _plan(instance, "history"))
    return key("history")


@pytest.mark.parametrize("cursor", [None, "17", "{}", '{"version": 0, "x": 1}', "not json", "[1]"])
def test_a_first_tick_or_an_unknown_cursor_tells_what_is_broken_now_not_the_history(
    instance: dg.DagsterInstance, log: Path, history: dg.AssetCheckKey, cursor: str | None
) -> None:
    ticker = Ticker(schema_failure_alert([history]), instance, alerts=Alerts(log_file=str(log)))
    ticker.cursor = cursor
    for _ in range(3):
        ticker.tick()
    assert len(read_log(log)) == 1


def test_the_first_tick_is_silent_about_what_has_been_repaired(instance: dg.DagsterInstance, log: Path) -> None:
    for passed in (False, True):
        _evaluate(instance, "repaired", _plan(instance, "repaired"), passed=passed)
    ticker = Ticker(schema_failure_alert([key("repaired")]), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    ticker.tick()
    assert read_log(log) == []


def test_a_tick_that_died_after_telling_does_not_tell_again(instance: dg.DagsterInstance, log: Path) -> None:
    alerts = Alerts(log_file=str(log))
    first = Ticker(schema_failure_alert([key("died")]), instance, alerts=alerts)
    first.tick()
    before = first.cursor
    _evaluate(instance, "died", _plan(instance, "died"))
    first.tick()
    again = Ticker(schema_failure_alert([key("died")]), instance, alerts=alerts)
    again.cursor = before  # the daemon was killed before it could store the cursor
    again.tick()
    assert len(read_log(log)) == 1


def test_planned_rows_that_never_run_are_passed_over(instance: dg.DagsterInstance, log: Path) -> None:
    """A run that dies before the check leaves a PLANNED row behind for ever."""
    run_id = run(instance, checked("planned", lambda: False, error=RuntimeError))
    records = instance.event_log_storage.get_asset_check_execution_history(key("planned"), limit=5)
    assert [record.status.value for record in records] == ["PLANNED"], run_id
    ticker = Ticker(schema_failure_alert([key("planned")]), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    ticker.tick()
    assert read_log(log) == []


def test_an_evaluation_that_overtakes_another_hides_neither(instance: dg.DagsterInstance, log: Path) -> None:
    """A row is created when its run begins: the run that began first may be judged last."""
    name = "overtaken"
    ticker = Ticker(schema_failure_alert([key(name)]), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    slow = _plan(instance, name)
    run(instance, checked(name, lambda: True))
    ticker.tick()
    assert len(read_log(log)) == 1
    _evaluate(instance, name, slow)
    ticker.tick()
    ticker.tick()
    assert len(read_log(log)) == 2


def _plan(instance: dg.DagsterInstance, name: str) -> str:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def slow() -> None:
        nothing()

    run = instance.create_run_for_job(slow)
    planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey(name), check_name=CONTRACT_CHECK)
    event = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, run.job_name, event_specific_data=planned
    )
    instance.report_dagster_event(event, run.run_id)
    return run.run_id


def _evaluate(instance: dg.DagsterInstance, name: str, run_id: str, passed: bool = False) -> None:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=CONTRACT_CHECK,
        passed=passed,
        metadata={},
        severity=dg.AssetCheckSeverity.ERROR,
        description="bad",
    )
    event = DagsterEvent(DagsterEventType.ASSET_CHECK_EVALUATION.value, "slow", event_specific_data=evaluation)
    instance.report_dagster_event(event, run_id)


def test_more_failures_than_a_page_are_all_told(
    instance: dg.DagsterInstance, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft_assets.operations.contract_failures.PAGE", 2)
    ticker = Ticker(schema_failure_alert([key("many")]), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    for _ in range(5):
        _evaluate(instance, "many", _plan(instance, "many"))
    ticker.tick()
    ticker.tick()
    assert len(read_log(log)) == 5


# ── failed runs ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_run_is_told_once_with_its_root_cause(instance: dg.DagsterInstance, log: Path) -> None:
    ticker = Ticker(run_failure_alert(), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    run_id = run(instance, checked("fetched", lambda: False, error=RuntimeError))
    for _ in range(3):
        ticker.tick()
    (record,) = read_log(log)
    assert record["where"]["step"] == "fetched"
    assert record["why"].startswith("daily_quotes 2026-11: nothing fetched")
    assert "because of ConnectionError" in record["why"] and "503" in record["why"]
    assert "abcd1234" not in json.dumps(record)
    assert record["run"].endswith(run_id)
    assert "dagster asset materialize --select fetched" in record["todo"]


def test_a_failed_run_is_made_up_for_by_commands_that_the_command_line_takes(
    instance: dg.DagsterInstance, log: Path
) -> None:
    """Without a partition where an asset has none, whatever the run's: else the command is refused."""
    months = dg.MonthlyPartitionsDefinition(start_date="2024-01-01", end_date="2024-06-01")

    @dg.asset(partitions_def=months, backfill_policy=dg.BackfillPolicy.single_run())
    def monthly() -> None:
        raise RuntimeError("of the months")

    @dg.asset
    def calendar() -> None:
        raise RuntimeError("of all time")

    @dg.asset
    def labels() -> None:
        raise RuntimeError("of all time")

    assets = [monthly, calendar, labels]
    ticker = Ticker(run_failure_alert(), instance, assets, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    dg.materialize([monthly], instance=instance, partition_key="2024-02-01", raise_on_error=False)
    ticker.tick()
    span = {f"dagster/asset_partition_range_{side}": f"2024-0{n}-01" for side, n in (("start", 2), ("end", 4))}
    dg.materialize(assets, instance=instance, tags=span, raise_on_error=False)
    ticker.tick()
    one, several = (record["todo"] for record in read_log(log))
    start = "dagster asset materialize --select"
    assert f"or run `{start} monthly --partition 2024-02-01`." in one
    first, then = f"{start} calendar,labels", f"{start} monthly --partition-range 2024-02-01...2024-04-01"
    assert f"or run `{first}` and then `{then}`." in several


def test_the_same_failure_again_is_held_back_and_another_is_not(instance: dg.DagsterInstance, log: Path) -> None:
    ticker = Ticker(run_failure_alert(), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    for _ in range(2):
        run(instance, checked("again", lambda: False, error=RuntimeError))
    run(instance, checked("different", lambda: False, error=ValueError))
    for _ in range(3):
        ticker.tick()
    assert [record["where"]["step"] for record in read_log(log)] == ["again", "different"]


def test_a_broken_contract_is_one_alert_not_two(instance: dg.DagsterInstance, log: Path) -> None:
    alerts = Alerts(log_file=str(log))
    tickers = [
        Ticker(schema_failure_alert([key("single")]), instance, alerts=alerts),
        Ticker(run_failure_alert(), instance, alerts=alerts),
    ]
    for ticker in tickers:
        ticker.tick()
    run(instance, checked("single", lambda: True))
    for ticker in tickers * 2:
        ticker.tick()
    assert [record["kind"] for record in read_log(log)] == ["schema_failure"]


def test_another_failure_beside_a_broken_contract_is_told_too(instance: dg.DagsterInstance, log: Path) -> None:
    alerts = Alerts(log_file=str(log))
    tickers = [
        Ticker(schema_failure_alert([key("broken")]), instance, alerts=alerts),
        Ticker(run_failure_alert(), instance, alerts=alerts),
    ]
    for ticker in tickers:
        ticker.tick()
    run(instance, checked("broken", lambda: True), checked("faulty", lambda: False, error=RuntimeError))
    for ticker in tickers * 2:
        ticker.tick()
    records = {record["kind"]: record for record in read_log(log)}
    assert len(read_log(log)) == 2
    assert records["run_failure"]["where"]["step"] == "faulty"


def test_a_run_that_ended_outside_its_steps_is_told(instance: dg.DagsterInstance, log: Path) -> None:
    ticker = Ticker(run_failure_alert(), instance, alerts=Alerts(log_file=str(log)))
    ticker.tick()
    run = instance.get_run_by_id(_plan(instance, "outside"))
    assert run is not None
    instance.report_run_failed(run, "the process of the run is gone")
    ticker.tick()
    (record,) = read_log(log)
    assert "the process of the run is gone" in record["why"]
    assert record["where"]["step"] == "-" and "re-execute it from failure" in record["todo"]
    assert "asset materialize" not in record["todo"]  # no step failed, so none can be named


# ── disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Volume:
    """A volume of 100 GB whose use the test sets."""

    used = 50.0

    def __call__(self, path: str) -> Any:
        return SimpleNamespace(total=100e9, used=self.used * 1e9, free=(100 - self.used) * 1e9)


@pytest.fixture
def volume() -> Volume:
    return Volume()


@pytest.fixture
def disk(instance: dg.DagsterInstance, tmp_path: Path, log: Path, volume: Volume) -> Ticker:
    settings = live_settings(tmp_path / "not" / "yet" / "there")
    return Ticker(
        disk_usage(settings, usage=volume), instance, alerts=Alerts(log_file=str(log)), disk_levels=DiskLevels()
    )


def test_levels_are_told_when_they_change_up_and_down(disk: Ticker, volume: Volume, log: Path) -> None:
    story = [(50, 0), (84.9, 0), (85.1, 2), (86, 0), (84.5, 0), (95.2, 2), (94.5, 0), (93, 2), (50, 2), (50, 0)]
    for used, expected in story:
        volume.used = used
        before = len(read_log(log))
        disk.tick()
        assert len(read_log(log)) - before == expected, used  # two volumes: of the data, and of Dagster's home
    texts = [
        (r["what"].rsplit(": ", 1)[-1], r["severity"]) for r in read_log(log) if r["where"]["volume of"] == "ATFT_DATA"
    ]
    assert texts == [
        ("ok → warning", "warning"),
        ("warning → critical", "failure"),
        ("critical → warning", "warning"),
        ("warning → ok", "info"),
    ]


def test_a_full_volume_at_the_first_tick_is_told(disk: Ticker, volume: Volume, log: Path) -> None:
    volume.used = 99
    disk.tick()
    assert {record["severity"] for record in read_log(log)} == {"failure"}


def test_levels_can_be_chosen() -> None:
    levels = DiskLevels(warning=50, critical=60)
    assert [levels.level(used) for used in (49.9, 50, 59.9, 60)] == ["ok", "warning", "warning", "critical"]


def test_a_reading_is_observed_when_it_moved_or_six_hours_passed(
    disk: Ticker, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1e9
    monkeypatch.setattr("atft_assets.operations.disk.time.time", lambda: clock)
    observed = []
    for used, minutes in [(50, 0), (50, 5), (50.4, 10), (50.6, 15), (50.6, 20), (50.6, 374), (50.6, 376), (50.6, 380)]:
        volume.used, clock = used, 1e9 + 60 * minutes
        observed.append(len(disk.tick().asset_events))
    assert observed == [1, 0, 0, 1, 0, 0, 1, 0]


def test_readings_are_numbers_that_the_ui_can_plot(
    instance: dg.DagsterInstance, tmp_path: Path, volume: Volume, log: Path
) -> None:
    (tmp_path / "raw" / "daily_quotes").mkdir(parents=True)
    (tmp_path / "raw" / "daily_quotes" / "2026-11.parquet").write_bytes(b"x" * 3_000_000)
    (Path(instance.root_directory) / "filling").write_bytes(b"x" * 2_000_000)
    resources = {"alerts": Alerts(log_file=str(log)), "disk_levels": DiskLevels()}
    ticker = Ticker(disk_usage(live_settings(tmp_path), usage=volume), instance, **resources)
    (observation,) = ticker.tick().asset_events
    assert observation.asset_key == dg.AssetKey("disk_usage")
    values = {name: value.value for name, value in observation.metadata.items()}
    assert values["data_used_percent"] == values["dagster_home_used_percent"] == 50.0
    assert values["data_free_gb"] == 50.0 and values["data_raw_gb"] == 0.003
    assert values.pop("data_days_to_full") == values.pop("dagster_home_days_to_full") == "-"  # one reading is no trend
    assert values["dagster_home_gb"] >= 0.002
    assert all(isinstance(value, int | float) for value in values.values())
    instance.report_runless_asset_event(observation)
    kept = instance.fetch_observations(dg.AssetKey("disk_usage"), limit=1).records
    assert kept[0].asset_observation is not None


def test_a_cursor_of_another_version_starts_the_disk_sensor_anew(disk: Ticker) -> None:
    disk.cursor = '{"version": 99}'
    assert len(disk.tick().asset_events) == 1


def test_the_real_volume_can_be_read(instance: dg.DagsterInstance, tmp_path: Path, log: Path) -> None:
    resources = {"alerts": Alerts(log_file=str(log)), "disk_levels": DiskLevels(warning=101, critical=102)}
    (observation,) = Ticker(disk_usage(live_settings(tmp_path)), instance, **resources).tick().asset_events
    assert 0 < observation.metadata["data_used_percent"].value <= 100


def test_of_a_bucket_the_volume_of_its_mirror_is_read(
    instance: dg.DagsterInstance, tmp_path: Path, log: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "mirrors"))
    volume.used, began = 99, time.time()
    resources = {"alerts": Alerts(log_file=str(log)), "disk_levels": DiskLevels()}
    (observation,) = (
        Ticker(disk_usage(live_settings("s3://bucket/atft"), usage=volume), instance, **resources).tick().asset_events
    )
    assert observation.metadata["cache_used_percent"].value == 99.0 and "data_used_percent" not in observation.metadata
    (told,) = [record for record in read_log(log) if record["where"]["volume of"] == "ATFT_CACHE"]
    assert f"folders in {tmp_path / 'mirrors'}" in told["todo"] and "fetched from the bucket again" in told["todo"]
    instance.report_runless_asset_event(observation)
    assert {*free_before(instance, began)} == {"cache", "dagster_home"}


def test_folder_sizes_count_every_file_once(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a" / "b").mkdir(parents=True)
    for place in ("runs/one", "runs/a/two", "runs/a/b/three"):
        (tmp_path / place).write_bytes(b"x" * 1_000_000)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    assert folder_sizes(str(tmp_path)) == {"runs": pytest.approx(0.003)}
    assert folder_sizes("s3://bucket") == {} and folder_sizes(str(tmp_path / "no")) == {}


# ── freshness ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("instant", "day"),  # instants in UTC; Tokyo is nine hours ahead
    [
        ("2026-11-24T10:59", "2026-11-20"),  # 19:59 in Tokyo on the Tuesday after a long weekend
        ("2026-11-24T11:00", "2026-11-24"),
        ("2026-11-24T15:30", "2026-11-24"),  # half past midnight, Wednesday
        ("2026-11-23T12:00", "2026-11-20"),  # the holiday's evening
        ("2027-01-03T12:00", "2026-12-30"),  # year end
        ("2020-10-01T12:00", "2020-09-30"),  # nothing traded: nothing new can be there
        ("2020-10-02T05:00", "2020-09-30"),
    ],
)
def test_quotes_are_expected_by_the_exchanges_calendar(instant: str, day: str) -> None:
    assert expected_through(datetime.fromisoformat(instant).replace(tzinfo=UTC)) == date.fromisoformat(day)


def test_late_quotes_are_told_once_for_each_trading_day(
    instance: dg.DagsterInstance, tmp_path: Path, log: Path
) -> None:
    store = Store(root=str(tmp_path))
    table = store.table("raw", "daily_quotes")

    def publish(day: date) -> None:
        table.publish([table.stage("2026-11", pl.DataFrame({"date": [day], "code": ["13010"]}), code_version="1")])

    now = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
    sensor = data_freshness(live_settings(tmp_path), clock=lambda: now)
    ticker = Ticker(sensor, instance, alerts=Alerts(log_file=str(log)), store=store)
    ticker.tick()
    assert read_log(log) == []  # nothing was ever published: there is nothing to be late
    publish(date(2026, 11, 19))
    for hour, day, expected in [(10, 20, 0), (11, 20, 1), (12, 20, 1), (12, 21, 1), (12, 23, 1), (12, 24, 2)]:
        now = datetime(2026, 11, day, hour, 30, tzinfo=UTC)
        ticker.tick()
        assert len(read_log(log)) == expected, now
    assert "2 trading day(s) behind" in read_log(log)[-1]["what"]
    publish(date(2026, 11, 24))
    assert "reach 2026-11-24" in ticker.tick().skip_message
    assert len(read_log(log)) == 2


def test_a_range_that_has_ended_is_never_late(instance: dg.DagsterInstance, tmp_path: Path, log: Path) -> None:
    sensor = data_freshness(live_settings(tmp_path, end=date(2024, 12, 30)))
    ticker = Ticker(sensor, instance, alerts=Alerts(log_file=str(log)), store=Store(root=str(tmp_path)))
    assert "2024-12-30" in ticker.tick().skip_message
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert read_log(log) == []
