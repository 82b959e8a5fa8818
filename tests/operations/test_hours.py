"""When each raw table is asked for: in the evening, in the night, and in the month before when a record comes late."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.build import build_defs
from atft_assets.calendar import TOKYO, is_trading_day, next_trading_day, shift_trading_days, trading_days
from atft_assets.jquants.availability import clock_on
from atft_assets.operations.alerts import Alerts
from atft_assets.operations.hours import EVENING, NIGHT, asked_at_night, last_of
from atft_assets.operations.jobs import night_refresh_job
from atft_assets.operations.late_tables import CADENCES, Cadence, late_tables
from atft_assets.operations.schedules import months_due, night_refresh_schedule, nightly_refresh_schedule
from atft_assets.raw import SOURCES, Source
from atft_assets.settings import Settings
from atft_assets.store import Store
from tests.operations.helpers import live_settings, read_log
from tests.operations.test_schedules import months_of

BY_NAME = {source.name: source for source in SOURCES}
DAYS = trading_days(date(2019, 2, 1), date(2026, 9, 30))
trading = st.sampled_from(DAYS)


def night(day: str, tmp_path: Path, settings: Settings | None = None) -> dg.RunRequest | dg.SkipReason:
    schedule = night_refresh_schedule(settings or live_settings(tmp_path), night_refresh_job(asked_at_night(SOURCES)))
    instant = datetime.fromisoformat(f"{day}T03:30").replace(tzinfo=TOKYO)
    answer = schedule(
        dg.build_schedule_context(scheduled_execution_time=instant, resources={"store": Store(root=str(tmp_path))})
    )
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def test_the_hours_are_those_of_the_service() -> None:
    """The update schedule of the service, as far as an hour of it comes after the evening."""
    due = {name: last_of(BY_NAME[name], date(2024, 6, 12)) for name in asked_at_night(SOURCES)}
    clocks = {name: instant for name, instant in due.items() if instant <= clock_on(date(2024, 6, 12), NIGHT)}
    assert {name: f"{instant:%d %H:%M}" for name, instant in clocks.items()} == {
        "fins_summary": "13 00:30", "fins_details": "13 00:30", "earnings_calendar": "12 19:00",
        "short_sale_report": "12 18:05", "breakdown": "12 18:00", "investor_types": "12 18:00",
        "options_225": "13 03:00", "options": "13 03:00", "futures": "13 03:00",
    }  # fmt: skip
    # announced after the last batch, or of no documented hour: the night asks, and the next evening again
    assert set(due) - set(clocks) == {"fins_dividend", "margin_interest"}
    assert {"daily_quotes", "listed_info", "topix", "valuation", "short_ratio"} & set(due) == set()


@given(trading)
def test_what_is_due_by_the_evening_is_not_asked_for_at_night(day: date) -> None:
    asked = set(asked_at_night(SOURCES, day))
    for source in SOURCES:
        if source.endpoint.rule.foretells or source.name in asked:
            continue
        assert source.endpoint.rule.complete(day) < clock_on(day, EVENING), source.name


@given(trading, st.sampled_from(SOURCES), st.integers(0, 1))
def test_a_record_that_comes_in_the_next_month_finds_its_own_month_asked_for(
    day: date, source: Source, late: int
) -> None:
    """Friday's balances come on Tuesday, maybe of the next month: that evening's run covers Friday's month; so it does
    where the service is a day late."""
    due = last_of(source, day)
    evening = due.date() if is_trading_day(due.date()) and due <= clock_on(due.date(), EVENING) else None
    evening = shift_trading_days(evening or next_trading_day(due.date() - timedelta(days=1)), late)
    assert f"{day:%Y-%m}" in months_due(evening, {}), (source.name, evening)


@pytest.mark.parametrize(
    ("instant", "months"),
    [
        ("2026-11-21", ("2026-11", "2026-11")),  # Saturday, after a Friday
        ("2026-05-08", ("2026-04", "2026-05")),  # after the second trading day of May
        ("2026-08-01", ("2026-07", "2026-08")),  # Saturday the first: the list of Monday lies in August
        ("2026-12-01", ("2026-11", "2026-12")),
    ],
)
def test_the_night_covers_the_months_of_the_evening(instant: str, months: tuple[str, str], tmp_path: Path) -> None:
    request = night(instant, tmp_path)
    assert months_of(request) == months
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == request.tags["atft/trading_day"] == str(date.fromisoformat(instant) - timedelta(days=1))


@pytest.mark.parametrize("instant", ["2026-11-24", "2026-05-05", "2027-01-01"])
def test_the_night_after_a_closed_day_is_skipped(instant: str, tmp_path: Path) -> None:
    skipped = night(instant, tmp_path)
    assert isinstance(skipped, dg.SkipReason) and "closed" in str(skipped.skip_message)


def test_the_night_of_a_range_that_has_ended_is_skipped(tmp_path: Path) -> None:
    skipped = night("2026-11-21", tmp_path, live_settings(tmp_path, end=date(2024, 12, 30)))
    assert isinstance(skipped, dg.SkipReason) and "ATFT_END" in str(skipped.skip_message)


def test_every_trading_day_has_one_evening_and_one_night() -> None:
    """Cron's weekdays: Monday to Friday for the evening, Tuesday to Saturday for the night after it."""
    job = night_refresh_job(asked_at_night(SOURCES))
    crons = [make(live_settings(), job).cron_schedule for make in (nightly_refresh_schedule, night_refresh_schedule)]
    assert crons == ["30 18 * * 1-5", "30 3 * * 2-6"]
    assert {(day + timedelta(days=1)).isoweekday() for day in DAYS} == {2, 3, 4, 5, 6}


def test_the_job_of_the_night_fetches_and_computes_nothing(tmp_path: Path) -> None:
    definitions = build_defs(live_settings(tmp_path))
    chosen = definitions.resolve_job_def("night_refresh").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in chosen} == set(asked_at_night(SOURCES))


# -- a table that is late is told


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "alerts.log"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def publish(store: Store, name: str, key: str, column: str, day: date) -> None:
    value = day if column == "date" else str(day)
    table = store.table("raw", name)
    table.publish([table.stage(key, pl.DataFrame({column: [value]}), code_version="1")])


def test_a_weekly_table_late_by_a_day_is_told_once_and_nothing_fails(
    tmp_path: Path, log: Path, instance: dg.DagsterInstance
) -> None:
    store, now = Store(root=str(tmp_path)), datetime(2026, 11, 19, 19, 59, tzinfo=TOKYO)
    sensor = late_tables(live_settings(tmp_path), clock=lambda: now)

    def look() -> list[str]:
        context = dg.build_sensor_context(
            instance=instance, resources={"alerts": Alerts(log_file=str(log)), "store": store}
        )
        result = sensor(context)
        assert isinstance(result, dg.SensorResult) and not result.run_requests
        return [record["what"] for record in read_log(log)]

    assert look() == []  # never published: nothing to be late
    publish(store, "investor_types", "2026-11", "EnDate", date(2026, 11, 6))
    assert look() == []  # Thursday, the fourth business day after the week to 13 November, before 20:00
    now = datetime(2026, 11, 19, 20, 0, tzinfo=TOKYO)
    assert look() == ["investor_types has nothing of the week of 2026-11-13 yet; its newest records are of 2026-11-06"]
    now = datetime(2026, 11, 20, 21, 0, tzinfo=TOKYO)
    assert len(look()) == 1
    publish(store, "investor_types", "2026-11", "EnDate", date(2026, 11, 13))
    publish(store, "margin_interest", "2026-11", "date", date(2026, 11, 19))
    assert len(look()) == 1  # balances of Thursday on Friday evening are in time
    now = datetime(2026, 11, 24, 20, 0, tzinfo=TOKYO)  # Tuesday after a long weekend
    assert look()[1:] == ["margin_interest has nothing of 2026-11-20 yet; its newest records are of 2026-11-19"]
    assert {record["severity"] for record in read_log(log)} == {"info"}


@given(trading, st.sampled_from(CADENCES), st.integers(0, 23))
def test_what_is_due_is_the_newest_whose_hour_has_passed(day: date, cadence: Cadence, hour: int) -> None:
    now = datetime(day.year, day.month, day.day, hour, 30, tzinfo=TOKYO)
    due = cadence.newest_due(now)
    if due is None:
        assert cadence.due(cadence.since) > now
        return
    assert cadence.due(due) <= now and cadence.reached(due, due) and cadence.since <= due < cadence.before
    later = trading_days(due + timedelta(days=1), day)
    assert [d for d in later if d < cadence.before and cadence.due(d) <= now and cadence.describes(d)] == []


@pytest.mark.parametrize(
    ("evening", "weekly", "daily"),
    [
        (date(2024, 4, 15), date(2024, 4, 5), None),  # Monday
        (date(2024, 4, 16), date(2024, 4, 12), None),  # Tuesday, the second business day after the week
        (date(2024, 1, 10), date(2023, 12, 29), None),  # the week to 5 January has two sessions, and no balances
        (date(2026, 11, 20), date(2026, 9, 18), date(2026, 11, 19)),
    ],
)
def test_balances_of_margin_are_due_by_week_and_later_by_day(evening: date, weekly: date, daily: date | None) -> None:
    by_week, by_day = (one for one in CADENCES if one.source.name == "margin_interest")
    now = clock_on(evening, "20:00")
    assert (by_week.newest_due(now), by_day.newest_due(now)) == (weekly, daily)
    assert daily is None or by_week.reached(daily, weekly)  # what comes by day is never told of as a week
