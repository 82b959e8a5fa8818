"""The nightly refresh on real dates of the exchange, and its job in a real run."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets import groups
from atft_assets.calendar import TOKYO, days_of_month, is_trading_day, shift_month, trading_days
from atft_assets.contracts import Built, Contract, contract_check, write_audit_publish
from atft_assets.operations.jobs import nightly_refresh_job
from atft_assets.operations.schedules import live, months_due, nightly_refresh_schedule
from atft_assets.settings import Settings
from atft_assets.store import Store
from tests.operations.helpers import live_settings

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def tick(day: str, tmp_path: Path, settings: Settings | None = None) -> dg.RunRequest | dg.SkipReason:
    schedule = nightly_refresh_schedule(settings or live_settings(tmp_path), nightly_refresh_job())
    evening = datetime.fromisoformat(f"{day}T18:30").replace(tzinfo=TOKYO)
    context = dg.build_schedule_context(
        scheduled_execution_time=evening, resources={"store": Store(root=str(tmp_path))}
    )
    answer = schedule(context)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def months_of(request: dg.RunRequest | dg.SkipReason) -> tuple[str, str]:
    assert isinstance(request, dg.RunRequest), request
    if request.partition_key:
        return request.partition_key, request.partition_key
    return request.tags[START], request.tags[END]


@pytest.mark.parametrize(
    ("day", "months"),
    [
        ("2026-11-20", ("2026-11", "2026-11")),  # Friday before a long weekend
        ("2026-11-24", ("2026-11", "2026-11")),  # Tuesday after it
        ("2020-10-01", ("2020-09", "2020-10")),  # the exchange stood still, but J-Quants serves the day
        ("2026-05-07", ("2026-04", "2026-05")),  # after Golden Week: the second trading day of May
        ("2026-05-12", ("2026-04", "2026-05")),  # the fifth of May: the last one whose corrections reach into April
        ("2026-05-13", ("2026-05", "2026-05")),
        ("2026-01-05", ("2025-12", "2026-01")),  # first trading day of the year
        ("2026-12-30", ("2026-12", "2026-12")),  # last one
    ],
)
def test_trading_days_request_their_month(day: str, months: tuple[str, str], tmp_path: Path) -> None:
    request = tick(day, tmp_path)
    assert months_of(request) == months
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == day
    assert request.tags["atft/trading_day"] == day


@pytest.mark.parametrize(
    ("day", "following"),
    [
        ("2026-11-21", "2026-11-24"),  # Saturday (cron never wakes then, a person's test tick may)
        ("2026-11-23", "2026-11-24"),  # Labour Thanksgiving Day, a Monday
        ("2026-04-29", "2026-04-30"),  # Golden Week
        ("2026-05-04", "2026-05-07"),
        ("2026-05-06", "2026-05-07"),
        ("2026-12-31", "2027-01-04"),  # year end: no public holiday, yet closed
        ("2026-01-02", "2026-01-05"),
    ],
)
def test_closed_days_are_skipped_with_the_reason(day: str, following: str, tmp_path: Path) -> None:
    skipped = tick(day, tmp_path)
    assert isinstance(skipped, dg.SkipReason)
    assert day in str(skipped.skip_message) and "closed" in str(skipped.skip_message)
    assert following in str(skipped.skip_message)


def test_a_range_that_has_ended_is_skipped_with_the_reason(tmp_path: Path) -> None:
    skipped = tick("2026-11-20", tmp_path, live_settings(tmp_path, end=date(2024, 12, 30)))
    assert isinstance(skipped, dg.SkipReason)
    assert "2026-11" in str(skipped.skip_message) and "ATFT_END" in str(skipped.skip_message)


def test_the_month_before_the_first_does_not_exist(tmp_path: Path) -> None:
    assert months_of(tick("2026-05-01", tmp_path, live_settings(tmp_path, start=date(2026, 5, 1)))) == (
        "2026-05",
        "2026-05",
    )


@given(st.integers(0, 1200))
def test_every_corrected_day_lies_in_the_months_requested(n: int) -> None:
    """The last five trading days, today included, are those a raw month fetches anew: each must have its month."""
    days = trading_days(date(2019, 2, 1), date(2024, 6, 28))
    day = days[n % (len(days) - 5) + 5]
    place = days.index(day)
    due = months_due(day, {})
    assert due[-1] == f"{day:%Y-%m}"
    assert {f"{d:%Y-%m}" for d in days[place - 4 : place + 1]} <= set(due)
    assert len(due) <= 2


def test_a_pause_is_made_up_for(tmp_path: Path) -> None:
    """The machine was off from mid September: both unfinished months come back, the finished ones do not."""
    table = Store(root=str(tmp_path)).table("raw", "daily_quotes")
    for key, last in {"2026-08": date(2026, 8, 31), "2026-09": date(2026, 9, 15)}.items():
        frame = pl.DataFrame({"date": [last], "code": ["13010"]})
        table.publish([table.stage(key, frame, code_version="1")])
    assert months_of(tick("2026-11-20", tmp_path)) == ("2026-09", "2026-11")


def test_a_long_pause_is_left_to_a_person() -> None:
    published = {"2025-12": date(2025, 12, 30)}
    assert months_due(date(2026, 11, 20), published) == ["2026-08", "2026-09", "2026-10", "2026-11"]


def test_a_halt_at_the_end_of_a_month_does_not_make_it_unfinished() -> None:
    complete = {key: days_of_month(key)[-1] for key in ("2020-07", "2020-08", "2020-09")}
    assert months_due(date(2020, 10, 30), complete) == ["2020-10"]


def test_only_the_real_service_runs_by_itself(tmp_path: Path) -> None:
    job = nightly_refresh_job()
    cases = {
        "live": live_settings(tmp_path),
        "history": live_settings(tmp_path, end=date(2024, 12, 30)),
        "own server": live_settings(tmp_path, base_url="http://127.0.0.1:8100/v2"),
        "sandbox": Settings.from_env({}),
    }
    assert {name: live(one) for name, one in cases.items()} == {
        "live": True, "history": False, "own server": False, "sandbox": False,
    }  # fmt: skip
    for one in cases.values():
        on = nightly_refresh_schedule(one, job).default_status is dg.DefaultScheduleStatus.RUNNING
        assert on == live(one)


def test_the_calendar_and_the_cron_agree() -> None:
    """Cron wakes on weekdays; no trading day falls on a weekend, so none is missed."""
    day = date(2019, 1, 1)
    while day < date(2026, 12, 31):
        assert not (is_trading_day(day) and day.weekday() >= 5)
        day += timedelta(days=1)


def small_road(root: Path) -> dg.Definitions:
    """Month assets, two unpartitioned tables and a training, as in the real road; month assets note their keys."""
    last = shift_month(f"{date.today():%Y-%m}", 1)
    months = dg.MonthlyPartitionsDefinition("2026-01", end_date=last, fmt="%Y-%m")
    single = dg.BackfillPolicy.single_run()

    def month_asset(name: str, group: str, deps: list[str]) -> dg.AssetsDefinition:
        @dg.asset(name=name, group_name=group, partitions_def=months, backfill_policy=single, deps=deps)
        def month(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"keys": ",".join(context.partition_keys)})

        return month

    def whole_asset(name: str, group: str, deps: list[str]) -> dg.AssetsDefinition:
        @dg.asset(name=name, group_name=group, deps=deps, check_specs=[contract_check(name)])
        def whole(context: dg.AssetExecutionContext, store: Store) -> Iterator[Any]:
            def build(keys: list[str]) -> Iterator[Built]:
                for key in keys:
                    yield Built(key, pl.DataFrame({"n": [1, 2]}))

            contract = Contract(name, pa.DataFrameSchema({"n": pa.Column(pl.Int64)}))
            yield from write_audit_publish(context, store.table(group, name), contract, build, code_version="1")

        return whole

    return dg.Definitions(
        assets=[
            whole_asset("trading_calendar", groups.RAW, []),
            month_asset("daily_quotes", groups.RAW, ["trading_calendar"]),
            month_asset("stock_features", groups.FEATURES, ["daily_quotes"]),
            whole_asset("labels", groups.FEATURES, ["daily_quotes"]),
            month_asset("correlation_graph", groups.GRAPH, ["stock_features"]),
            month_asset("data_release", groups.OPERATIONS, ["correlation_graph"]),
            month_asset("daily_scores", groups.TRADING, ["data_release"]),
            month_asset("portfolio", groups.TRADING, ["daily_scores"]),
            month_asset("orders", groups.TRADING, ["portfolio"]),
            whole_asset("train_phase0", groups.TRAINING, ["correlation_graph"]),
        ],
        jobs=[nightly_refresh_job()],
        resources={"store": Store(root=str(root))},
        executor=dg.in_process_executor,
    )


@pytest.mark.parametrize(
    ("partition", "tags", "keys"),
    [
        ("2026-02", {}, "2026-02"),
        (None, {START: "2026-01", END: "2026-02"}, "2026-01,2026-02"),
    ],
)
def test_the_job_runs_months_and_unpartitioned_assets_together_and_no_training(
    instance: dg.DagsterInstance, tmp_path: Path, partition: str | None, tags: dict[str, str], keys: str
) -> None:
    job = small_road(tmp_path).resolve_job_def("nightly_refresh")
    result = job.execute_in_process(instance=instance, partition_key=partition, tags=tags)
    assert result.success
    built = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    evening = {"data_release", "daily_scores", "portfolio", "orders"}
    months = {"daily_quotes", "stock_features", "correlation_graph", *evening}
    assert built.keys() == {"trading_calendar", "labels", *months}
    for name in months:
        assert built[name]["keys"].value == keys
    # a run with partitions does not make tables of months out of the unpartitioned ones
    for group, name in ((groups.RAW, "trading_calendar"), (groups.FEATURES, "labels")):
        assert Store(root=str(tmp_path)).table(group, name).keys() == ["all"]
    run = instance.get_run_by_id(result.run_id)
    assert run is not None and run.tags["atft/kind"] == "refresh"
