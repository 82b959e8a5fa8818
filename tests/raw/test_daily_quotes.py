"""`daily_quotes`: which days are asked for, what is stored, what is refused."""

import shutil
from datetime import date, datetime

import polars as pl
import pytest

from atft_assets import calendar
from tests.jquants.scripted_server import Answer, scripted

from .conftest import END, Lab, failed_rules, failure_text, materialized
from .tiny_exchange import CODES, TinyExchange, bar, share

JANUARY = calendar.days_of_month("2024-01")
TOKYO = calendar.TOKYO


def iso(days) -> list[str]:
    return [str(day) for day in days]


def test_a_month_holds_what_the_server_said(lab):
    metadata = materialized(lab.run("daily_quotes", "2024-01"))
    frame = lab.read("daily_quotes", "2024-01")
    expected = [bar(day, code) for day in JANUARY for code in sorted(CODES)]
    assert not [name for name in frame.columns if name.startswith("Adj") and name != "AdjFactor"]
    for name in ("O", "H", "L", "C", "Vo", "Va", "AdjFactor", "UL"):
        assert frame[name].to_list() == [record[name] for record in expected], name
    assert iso(frame["date"]) == [record["Date"] for record in expected]
    assert frame["code"].to_list() == [record["Code"] for record in expected]
    assert frame["MktCap"].null_count() == frame.height and frame["ExRT"].dtype == pl.String
    assert frame.columns[:2] == ["date", "code"] and frame.columns[-1] == "available_at"
    assert frame["available_at"].dtype == pl.Datetime("us", "Asia/Tokyo")
    assert frame["available_at"][0] == datetime(2024, 1, 4, 16, 30, tzinfo=TOKYO)
    assert metadata["dagster/row_count"] == len(expected) and metadata["through_date"] == "2024-01-31"
    assert metadata["days_asked_for"] == len(JANUARY) and metadata["requests"] == 3 * len(JANUARY)
    assert metadata["new_fields"] == "none"
    shown = {column.name: column for column in metadata["dagster/column_schema"].columns}
    assert shown["O"].description == "Open, JPY, unadjusted"


def test_a_complete_month_of_the_past_asks_for_nothing_and_stays_as_it_is(lab):
    lab.run("daily_quotes", "2024-01")
    before = lab.files("daily_quotes")
    lab.asked()
    assert materialized(lab.run("daily_quotes", "2024-01"))["requests"] == 0
    assert lab.asked() == []
    assert lab.files("daily_quotes") == before


def test_the_last_five_trading_days_are_asked_for_again_and_corrections_enter(lab):
    lab.now = "2024-01-24T18:30"
    lab.run("daily_quotes", "2024-01")
    known = [day for day in JANUARY if day <= date(2024, 1, 24)]
    assert sorted(lab.asked()) == iso(known)

    def corrected(path, record):
        if record["Code"] == "13010" and record["Date"] in ("2024-01-10", "2024-01-23"):
            record["Vo"] = 123456.0
        return record

    lab.exchange.edit = corrected
    lab.now = "2024-01-25T18:30"
    lab.run("daily_quotes", "2024-01")
    assert sorted(lab.asked()) == iso([*known[-4:], date(2024, 1, 25)])
    volume = lab.read("daily_quotes").filter(pl.col("code") == "13010").select("date", "Vo")
    assert dict(volume.iter_rows())[date(2024, 1, 23)] == 123456.0
    assert dict(volume.iter_rows())[date(2024, 1, 10)] != 123456.0  # older than five days: only a refetch sees it
    materialized(lab.run("daily_quotes", "2024-01", refetch=True))
    assert sorted(lab.asked()) == iso([*known, date(2024, 1, 25)])
    assert (lab.read("daily_quotes")["Vo"] == 123456.0).sum() == 2


def test_a_past_month_fetched_again_has_a_new_data_version_only_where_it_differs(lab):
    """Raw prices and AdjFactor are what features read; what the server adjusts backwards is not stored."""

    def version(**config) -> str:
        result = lab.run("daily_quotes", "2024-01", **config)
        (event,) = result.get_asset_materialization_events()
        return event.materialization.tags["dagster/data_version"]

    first, path = version(), lab.table("daily_quotes").path("2024-01")
    file = path.stat().st_ino
    assert version(refetch=True) == first and path.stat().st_ino == file  # all days asked for, the same bytes
    lab.exchange.edit = lambda path, record: record | {"AdjC": record["AdjC"] and record["AdjC"] / 2}  # a later split
    assert version(refetch=True) == first
    lab.exchange.edit = lambda path, record: record | ({"C": record["L"]} if record["Code"] == "13010" else {})
    assert version() == first  # a complete month asks for nothing, unless it is told to
    assert version(refetch=True) != first


def test_a_month_filled_in_steps_is_the_month_filled_at_once(lab, tmp_path):
    for now in ("2024-01-12T18:30", "2024-01-19T17:00", "2024-02-02T09:00"):
        lab.now = now
        materialized(lab.run("daily_quotes", "2024-01"))
    stepwise = lab.files("daily_quotes")
    lab.root = tmp_path / "other"
    lab.run("daily_quotes", "2024-01")
    assert lab.files("daily_quotes") == stepwise
    assert list(stepwise) == ["2024-01.parquet"]


@pytest.mark.parametrize(("now", "through"), [("2024-01-16T16:29", "2024-01-15"), ("2024-01-16T16:30", "2024-01-16")])
def test_today_is_asked_for_once_it_is_out(lab, now, through):
    lab.now = now
    lab.exchange.now = datetime.fromisoformat(now).replace(tzinfo=TOKYO)
    assert materialized(lab.run("daily_quotes", "2024-01"))["through_date"] == through
    assert max(lab.asked()) == through


def test_an_empty_answer_for_a_trading_day_is_a_failure_that_says_so(lab):
    lab.now = "2024-01-24T18:30"
    lab.run("daily_quotes", "2024-01")
    before = lab.files("daily_quotes")
    lab.now = "2024-01-25T18:30"
    lab.exchange.closed = {date(2024, 1, 25)}
    lab.max_retries = 3
    lab.asked()
    text = failure_text(lab.run("daily_quotes", "2024-01"))
    assert "no records for 2024-01-25" in text and "since 2024-01-25 16:30 JST" in text
    assert lab.asked().count("2024-01-25") == 1  # not retried
    assert {name: data for name, data in lab.files("daily_quotes").items() if name.endswith(".parquet")} == before


def test_months_of_one_run_are_those_of_single_runs(lab, tmp_path):
    result = lab.run("daily_quotes", "2024-01", "2024-03")
    assert len(result.get_asset_materialization_events()) == 3
    together = lab.files("daily_quotes")
    lab.root = tmp_path / "other"
    for key in ("2024-01", "2024-02", "2024-03"):
        lab.run("daily_quotes", key)
    assert lab.files("daily_quotes") == together and len(together) == 3


def test_faults_leave_no_trace_in_the_tables(lab, tmp_path):
    lab.run("daily_quotes", "2024-01", "2024-02")
    clean = lab.files("daily_quotes")
    faults = [
        Answer({"message": "Unexpected error."}, 500), Answer({}, 503), Answer(b'{"data": [{"Da'), Answer({}, 429),
        Answer(reset=True), Answer(b'{"data": []}  ', cut=4), Answer({"data": []}, delay=0.02, status=502),
    ]  # fmt: skip

    def fault(request, number):
        draw = share("fault", number)
        return faults[int(draw * 1e6) % len(faults)] if draw < 0.25 else None

    lab.exchange.fault = fault
    lab.root = tmp_path / "other"
    metadata = materialized(lab.run("daily_quotes", "2024-01", "2024-02"))
    assert metadata["retries"] > 10 and metadata["rate_limited"] > 0
    assert lab.files("daily_quotes") == clean


def test_repeated_and_slow_pages_leave_no_trace_either(lab, tmp_path):
    lab.run("daily_quotes", "2024-01")
    clean = lab.files("daily_quotes")

    def fault(request, number):
        if request.query.get("pagination_key") == "5" and share("repeat", number) < 0.3:
            again = dict(request.query) | {"pagination_key": "0"}
            first = lab.exchange.bars({"date": again["date"]})[:5]
            return Answer({"data": first, "pagination_key": "10"})
        return Answer({"data": []}, delay=3) if number == 7 else None

    lab.exchange.fault = fault
    lab.root = tmp_path / "other"
    materialized(lab.run("daily_quotes", "2024-01"))
    assert lab.files("daily_quotes") == clean


def renamed(path, record):
    record["Open"] = record.pop("O")
    return record


def as_string(path, record):
    record["C"] = None if record["C"] is None else f"{record['C']:,}"
    return record


def some_strings(path, record):
    if record["Code"] == "72030" and record["Date"] == "2024-01-15":
        record["Va"] = "-"
    return record


def all_null(path, record):
    record["H"] = None
    return record


def null_for_a_day(path, record):
    if record["Date"] == "2024-01-15":
        record["Vo"] = None
    return record


def boolean(path, record):
    record["AdjFactor"] = True
    return record


def number_for_code(path, record):
    record["UL"] = 0
    return record


def negative(path, record):
    if record["Code"] == "13320" and record["Date"] == "2024-01-15":
        record["L"] = -1.0
    return record


def high_below_close(path, record):
    if record["Code"] == "13010" and record["Date"] == "2024-01-16":
        record["H"] = record["L"]
    return record


def bad_date(path, record):
    if record["Code"] == "13010":
        record["Date"] = "2024-01-32"
    return record


def another_day(path, record):
    if record["Date"] == "2024-01-16":
        record["Date"] = "2024-01-15"
    return record


def same_code(path, record):
    if record["Code"] == "13320" and record["Date"] == "2024-01-15":
        record["Code"] = "13010"
    return record


def bad_code(path, record):
    record["Code"] = record["Code"][:4]
    return record


def lost_pages(path, record):
    return None if record["Date"] == "2024-01-15" and record["Code"] > "13320" else record


BROKEN = {
    renamed: ("O", "present in the records", 12, "'Open'"),
    as_string: ("C", "a JSON number or null", 12, "1,"),
    some_strings: ("Va", "a JSON number or null", 1, "Date='2024-01-15' Code='72030' Va='-'"),
    all_null: ("H", "not null for every name", 12, "2024-01-15, 2024-01-16"),
    null_for_a_day: ("Vo", "not null for every name", 12, "2024-01-15"),
    boolean: ("AdjFactor", "a JSON number or null", 12, "True"),
    number_for_code: ("UL", "a JSON string", 12, "UL=0"),
    negative: ("L", "greater_than(0)", 1, "code=13320 L=-1.0"),
    high_below_close: ("H", "H is at least O, L and C", 1, "date=2024-01-16 code=13010"),
    bad_date: ("date", "a date YYYY-MM-DD", 1, "2024-01-32"),
    another_day: ("date", "equals the date that was asked for", 12, "asked for 2024-01-16"),
    same_code: ("date, code", "unique key", 2, "code=13010"),
    bad_code: ("code", "str_matches", 12, "code="),
    lost_pages: ("date, code", "holds the names of the day before", 9, "2024-01-15: 9 of 12 gone"),
}


@pytest.fixture(scope="module")
def until_the_12th(tmp_path_factory):
    """A data root in which January is filled until the 12th."""
    root = tmp_path_factory.mktemp("until_the_12th")
    with scripted(TinyExchange()) as server:
        Lab(TinyExchange(), server, root, now="2024-01-12T18:30").run("daily_quotes", "2024-01")
    return root


@pytest.mark.parametrize("edit", BROKEN, ids=lambda edit: edit.__name__)
def test_a_broken_column_fails_the_contract_and_publishes_nothing(lab, until_the_12th, edit):
    shutil.copytree(until_the_12th, lab.root)
    before = lab.files("daily_quotes")
    assert list(before) == ["2024-01.parquet"]
    lab.now = "2024-01-19T18:30"
    lab.exchange.edit = edit
    column, rule, rows, sample = BROKEN[edit]
    rules = failed_rules(lab.run("daily_quotes", "2024-01"))
    assert column in rules, rules
    assert rule in rules[column]["rule"] and sample in rules[column]["sample"], rules[column]
    assert rules[column]["failing_rows"] >= rows
    assert lab.files("daily_quotes") == before  # also nothing set down for later


def test_after_a_broken_column_a_good_answer_is_taken(lab):
    lab.now = "2024-01-19T18:30"
    lab.exchange.edit = all_null
    failed_rules(lab.run("daily_quotes", "2024-01"))
    lab.exchange.edit = None
    assert materialized(lab.run("daily_quotes", "2024-01"))["through_date"] == "2024-01-19"


def test_new_fields_are_kept_as_strings_and_told(lab):
    lab.run("daily_quotes", "2024-01")

    def grown(path, record):
        if record["Date"] >= "2024-02-15":
            record |= {"Zeta": 1.5, "Alpha": {"a": [1]}, "MktCap": 10, "ExRT": 1, "MO": 5.0, "MUL": "0"}
        return record

    lab.exchange.edit = grown
    metadata = materialized(lab.run("daily_quotes", "2024-02"))
    assert metadata["new_fields"] == "Alpha, Zeta"
    frame = lab.read("daily_quotes", "2024-02")
    last = frame.tail(1).to_dicts()[0]
    assert (last["Zeta"], last["Alpha"], last["MktCap"], last["ExRT"]) == ("1.5", '{"a": [1]}', 10.0, "1")
    assert (last["MO"], last["MUL"]) == (5.0, "0")
    assert frame.columns[-3:] == ["Alpha", "Zeta", "available_at"]
    assert frame.filter(pl.col("date") < date(2024, 2, 15))["Zeta"].null_count() > 0
    both = lab.read("daily_quotes")  # months with and without the fields are read together
    assert both["Alpha"].null_count() >= len(CODES) * len(JANUARY)


def test_the_day_of_the_system_halt_may_be_null(lab):
    lab.start, lab.end, lab.now = date(2020, 9, 1), date(2020, 10, 30), "2024-12-01T12:00"
    materialized(lab.run("daily_quotes", "2020-10"))
    halt = lab.read("daily_quotes", "2020-10").filter(pl.col("date") == date(2020, 10, 1))
    assert halt.height == len(CODES) and halt["C"].null_count() == halt.height


def test_what_a_stopped_run_fetched_is_not_asked_for_again(lab, tmp_path):
    lab.run("daily_quotes", "2024-01", "2024-03")
    clean = lab.files("daily_quotes")
    lab.root = tmp_path / "other"
    lab.asked()
    lab.exchange.fault = lambda request, number: (
        Answer({}, 503) if request.query.get("date", "") >= "2024-03-15" else None
    )
    text = failure_text(lab.run("daily_quotes", "2024-01", "2024-03"))
    assert "HTTP 503" in text
    assert lab.table("daily_quotes").keys() == []  # all or nothing
    lab.exchange.fault = None
    lab.asked()
    materialized(lab.run("daily_quotes", "2024-01", "2024-03"))
    days = [*calendar.days_of_month("2024-01"), *calendar.days_of_month("2024-02"), *calendar.days_of_month("2024-03")]
    again = lab.asked()
    assert set(again) <= {str(day) for day in days if day >= date(2024, 3, 11)} and "2024-03-15" in again
    assert lab.files("daily_quotes") == clean


def test_the_fetch_is_tried_again_after_a_long_fault(lab, capfd):
    down, came = {"left": 60}, []

    def fault(request, number):
        if request.query.get("date", "") >= "2024-01-18" and down["left"] > 0:
            down["left"] -= 1
            return Answer({}, 503)
        came.append((request.path, request.query.get("date"), request.query.get("pagination_key")))
        return None

    lab.exchange.fault = fault
    lab.max_retries = 4
    result = lab.run("daily_quotes", "2024-01")
    assert materialized(result)["dagster/row_count"] == len(CODES) * len(JANUARY)
    assert "daily_quotes tries again in 0 s (1 of 4): J-Quants /equities/bars/daily" in "".join(capfd.readouterr())
    assert len(came) == len(set(came)) == 3 * len(JANUARY)  # a day that had come was not asked for again
    # Dagster has no part in it: a step that it retries would answer an interrupt with another try
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_node_events)


def test_a_month_that_has_not_begun_is_told(lab):
    lab.end, lab.now = None, "2024-02-01T12:00"
    lab.asked()
    text = failure_text(lab.run("daily_quotes", "2024-02"))
    assert "no trading day of 2024-02 is out yet" in text and "16:30 JST" in text
    result = lab.run("daily_quotes", "2024-01", "2024-02")
    assert result.success and lab.table("daily_quotes").keys() == ["2024-01"]


def test_dates_end_at_the_end_of_the_settings(lab):
    lab.end = date(2024, 1, 12)
    assert materialized(lab.run("daily_quotes", "2024-01"))["through_date"] == "2024-01-12"
    assert max(lab.asked()) == "2024-01-12" < str(END)
