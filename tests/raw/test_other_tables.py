"""The other raw tables, plan gates, windows, and what the run tells."""

from datetime import date, datetime

import dagster as dg
import polars as pl
import pytest

from atft_assets import calendar
from atft_assets.jquants.endpoints import CALENDAR
from atft_assets.raw import definitions
from atft_assets.raw.listed_info import opens_week
from atft_assets.raw.sector_indices import SECTORS
from atft_assets.settings import Plan, Settings
from tests.jquants.scripted_server import Answer

from .conftest import END, START, failed_rules, failure_text, materialized
from .tiny_exchange import CODES, prices

TOKYO = calendar.TOKYO


# -- topix


def test_topix_of_many_months_is_one_request(lab):
    metadata = materialized(lab.run("topix", "2024-01", "2024-06"))
    assert lab.asked() == ["/indices/bars/daily/topix 2024-01-04 2024-06-28"]
    frame = lab.read("topix")
    days = calendar.trading_days(START, END)
    assert frame["date"].to_list() == days
    assert metadata["dagster/row_count"] == len(calendar.days_of_month("2024-06"))  # each month's event has its own
    assert frame["C"].to_list() == [prices("topix", day)["C"] for day in days]
    assert frame.columns == ["date", "O", "H", "L", "C", "available_at"]


def test_topix_asks_for_lacking_days_alone(lab):
    lab.run("topix", "2024-01", "2024-02")
    lab.asked()
    lab.run("topix", "2024-01", "2024-04")
    assert lab.asked() == ["/indices/bars/daily/topix 2024-03-01 2024-04-30"]
    assert materialized(lab.run("topix", "2024-02", "2024-03"))["requests"] == 0


def test_a_day_missing_from_a_range_is_a_failure_that_names_it(lab):
    lab.exchange.closed = {date(2024, 2, 14)}
    text = failure_text(lab.run("topix", "2024-02"))
    assert "no records for 2024-02-14" in text
    lab.exchange.fault = lambda *_: Answer({"data": []})
    assert "no records for 2024-03-01" in failure_text(lab.run("topix", "2024-03"))
    assert lab.table("topix").keys() == []


def test_topix_below_light_says_what_needs_it_and_asks_nothing(lab):
    lab.plan, lab.max_retries = Plan.FREE, 2
    text = failure_text(lab.run("topix", "2024-01"))
    assert "market-index features need TOPIX" in text and "plan light" in text and "JQUANTS_PLAN is free" in text
    assert lab.asked() == []


# -- sector indices


def test_sector_indices_by_date_and_by_sector_are_the_same(lab, tmp_path):
    materialized(lab.run("sector_indices", "2024-01", "2024-02"))
    by_sector = lab.asked()
    assert sorted(text.split()[1] for text in by_sector) == sorted(SECTORS)
    together = lab.files("sector_indices")
    lab.root = tmp_path / "other"
    for key in ("2024-01", "2024-02"):
        lab.run("sector_indices", key)
    assert sorted(lab.asked()) == [str(day) for day in calendar.trading_days(START, date(2024, 2, 29))]
    assert lab.files("sector_indices") == together
    assert set(lab.read("sector_indices")["code"]) == set(SECTORS)


def test_a_sector_that_is_missing_fails_the_contract(lab):
    lab.exchange.edit = lambda path, record: (
        None if record.get("Code") == "0050" and record["Date"] == "2024-01-15" else record
    )
    rules = failed_rules(lab.run("sector_indices", "2024-01"))
    assert "all 33 sectors" in rules["code"]["rule"] and "2024-01-15: 32" in rules["code"]["sample"]


def test_sector_indices_below_standard_are_skipped_with_a_sentence(lab, caplog):
    lab.plan = Plan.LIGHT
    result = lab.run("sector_indices", "2024-01")
    assert result.success and not result.get_asset_materialization_events()
    assert lab.asked() == [] and lab.files("sector_indices") == {}


def test_nothing_depends_on_sector_indices():
    settings = Settings(base_url="http://127.0.0.1:9", plan=Plan.LIGHT, data_root="/nowhere", start=START, end=END)
    for made in definitions(settings).assets:
        assert dg.AssetKey("sector_indices") not in made.dependency_keys


# -- listed info


def test_snapshots_are_the_first_of_each_week_and_the_newest(lab):
    lab.now = "2024-01-24T12:00"
    materialized(lab.run("listed_info", "2024-01"))
    weekly = [date(2024, 1, day) for day in (4, 9, 15, 22)]
    frame = lab.read("listed_info")
    assert frame["date"].unique().sort().to_list() == [*weekly, date(2024, 1, 24)]
    assert frame.height == 5 * len(CODES)
    # known since 17:30 of the trading day before; the 9th followed a holiday
    known = frame.group_by("date").agg(pl.col("available_at").unique().first()).sort("date")["available_at"].to_list()
    assert known[1] == datetime(2024, 1, 5, 17, 30, tzinfo=TOKYO)
    lab.asked()
    lab.now = "2024-01-26T12:00"
    lab.run("listed_info", "2024-01")
    assert sorted(lab.asked()) == ["2024-01-22", "2024-01-26"]  # one of the last five days, and the newest
    frame = lab.read("listed_info")
    assert frame["date"].unique().sort().to_list() == [*weekly, date(2024, 1, 26)]


def test_weeks_across_months_and_the_first_day_of_all(lab):
    lab.start = date(2024, 2, 7)  # a Wednesday
    materialized(lab.run("listed_info", "2024-02", "2024-03"))
    days = lab.read("listed_info")["date"].unique().sort().to_list()
    assert days[0] == date(2024, 2, 7)
    assert all(opens_week(day) for day in days[1:])
    assert date(2024, 3, 1) not in days  # a Friday of a week that opened in February


def test_a_lost_snapshot_is_a_failure(lab):
    lab.exchange.edit = lambda path, record: None if record["Date"] == "2024-01-15" else record
    assert "listed_info: /equities/master has no records for 2024-01-15" in failure_text(
        lab.run("listed_info", "2024-01")
    )


# -- trading calendar


def test_every_day_of_the_calendar_is_stored_and_agrees(lab):
    metadata = materialized(lab.run("trading_calendar"))
    frame = lab.read("trading_calendar")
    assert frame["date"].to_list() == pl.date_range(START, END, eager=True).to_list()
    kinds = dict(frame.select("date", "HolDiv").iter_rows())
    assert (kinds[date(2024, 1, 4)], kinds[date(2024, 1, 6)], kinds[date(2024, 1, 8)]) == ("1", "0", "3")
    known = datetime(2023, 3, 31, 18, tzinfo=TOKYO)
    assert frame["available_at"][0] == CALENDAR.published_at(date(2024, 1, 1)) == known
    assert metadata["differences_ahead"] == "none"
    before = lab.files("trading_calendar")
    lab.run("trading_calendar")
    assert lab.files("trading_calendar") == before


def test_a_difference_of_the_calendars_fails_and_names_the_day(lab):
    lab.run("trading_calendar")
    before = lab.files("trading_calendar")
    lab.exchange.closed = {date(2024, 3, 15)}
    rules = failed_rules(lab.run("trading_calendar"))
    assert rules["HolDiv"]["rule"] == "agrees with exchange-calendars" and rules["HolDiv"]["failing_rows"] == 1
    assert "2024-03-15 Fri: HolDiv 0, but exchange-calendars has it open" in rules["HolDiv"]["sample"]
    assert lab.files("trading_calendar") == before


def test_a_difference_ahead_is_told_not_refused(lab):
    lab.end, lab.now = None, "2024-03-01T12:00"
    lab.exchange.closed = {date(2024, 8, 13)}
    metadata = materialized(lab.run("trading_calendar"))
    assert "2024-08-13 Tue: HolDiv 0" in metadata["differences_ahead"]
    assert lab.read("trading_calendar")["date"].max() == date(2025, 12, 31)


@pytest.mark.parametrize(
    ("edit", "column", "rule"),
    [
        (lambda path, r: r | {"HolDiv": 1}, "HolDiv", "a JSON string"),
        (lambda path, r: r | {"HolDiv": r["HolDiv"].replace("0", "4")}, "HolDiv", "isin"),
        (lambda path, r: None if r["Date"] == "2024-02-10" else r, "date", "every calendar day has a row"),
        (lambda path, r: {"Date": r["Date"], "HolidayDivision": "1"}, "HolDiv", "present in the records"),
    ],
)
def test_a_broken_calendar_is_refused(lab, edit, column, rule):
    lab.exchange.edit = edit
    assert rule in failed_rules(lab.run("trading_calendar"))[column]["rule"]


def test_the_calendar_keeps_what_leaves_the_window(lab):
    lab.plan, lab.start, lab.end, lab.now = Plan.LIGHT, date(2019, 3, 1), None, "2024-02-20T12:00"
    lab.exchange.page_rows = 5000
    lab.run("trading_calendar")
    lab.now = "2024-09-20T12:00"
    materialized(lab.run("trading_calendar"))
    assert lab.asked()[1] == "/markets/calendar 2019-09-20 2025-12-31"
    assert lab.read("trading_calendar")["date"].min() == date(2019, 3, 1)


# -- plans and refusals, for every table


@pytest.mark.parametrize("asset", ["daily_quotes", "listed_info", "topix"])
def test_dates_outside_the_window_are_refused_before_the_first_request(lab, asset):
    lab.plan, lab.now, lab.max_retries = Plan.LIGHT, "2029-02-10T12:00", 2
    text = failure_text(lab.run(asset, "2024-01", "2024-03"))
    assert "the plan light covers 2024-02-10 ~ today" in text and "2024-01-04" in text
    assert "ATFT_START" in text and lab.asked() == []


def test_the_delay_of_the_free_plan_ends_the_month(lab):
    lab.plan, lab.now = Plan.FREE, "2024-04-10T12:00"  # twelve weeks before: 2024-01-17
    assert materialized(lab.run("daily_quotes", "2024-01"))["through_date"] == "2024-01-17"
    text = failure_text(lab.run("daily_quotes", "2024-03"))
    assert "the plan free covers 2022-01-17 ~ 2024-01-17" in text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer({"message": "The incoming api key is invalid or expired."}, 403), "Check JQUANTS_API_KEY"),
        (Answer({"message": "This API is not available on your subscription."}, 403), "Set JQUANTS_PLAN"),
        (Answer({"message": "Your subscription covers the following dates: 2024-03-21 ~ ."}, 400), "2024-03-21 ~"),
    ],
)
def test_a_refusal_is_not_retried_and_says_what_to_do(lab, answer, says):
    lab.exchange.fault = lambda *_: answer
    lab.max_retries = 2
    result = lab.run("topix", "2024-01")
    assert says in failure_text(result)
    assert len(lab.asked()) == 1
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_node_events)


@pytest.mark.parametrize("asset", ["topix", "trading_calendar"])
def test_real_days_are_not_put_beside_simulated_ones(lab, asset):
    lab.run("topix", "2024-01")
    before, note = lab.files("topix"), lab.root / "raw" / "origin.txt"
    assert note.read_text() == "a server on this machine\n"
    note.write_text("api.jquants.com\n")
    lab.asked()
    text = failure_text(lab.run(asset, "2024-02" if asset == "topix" else ""))
    assert "came from api.jquants.com" in text and "a server on this machine" in text and "ATFT_DATA" in text
    assert lab.asked() == [] and lab.files("topix") == before


def test_where_nothing_was_published_another_source_may_begin(lab):
    lab.exchange.fault = lambda request, number: Answer({}, 403) if request.query.get("date") == "2024-01-15" else None
    assert not lab.run("daily_quotes", "2024-01").success
    note, left = lab.root / "raw" / "origin.txt", lab.root / "raw" / "daily_quotes"
    assert len(list(left.glob(".*.landed"))) == 1
    note.write_text("api.jquants.com\n")  # as if those days had come from there
    lab.exchange.fault = None
    lab.asked()
    assert materialized(lab.run("daily_quotes", "2024-01"))["days_asked_for"] == 19
    assert note.read_text() == "a server on this machine\n"


def test_the_key_is_in_no_event_of_a_run(lab, caplog):
    caplog.set_level("DEBUG")
    lab.exchange.fault = lambda *_: Answer({"message": "bad key-for-tests"}, 403)
    result = lab.run("topix", "2024-01")
    assert not result.success
    assert "key-for-tests" not in "".join(map(str, result.all_events)) + caplog.text


def test_progress_and_the_first_line_are_logged(lab, capfd):
    lab.run("daily_quotes", "2024-01", "2024-02")
    out = "".join(capfd.readouterr())
    assert "daily_quotes: 38 days of 2 months to ask for\n" in out
    (last,) = [line for line in out.splitlines() if "2/2 months" in line]
    assert "daily_quotes 2024-02: 2/2 months, 456 rows, 114 requests" in last and "left" not in last
