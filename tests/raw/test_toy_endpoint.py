"""A new endpoint is one module and one line, also one that is late, weekly and mostly silent; and event tables."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from atft_assets import calendar
from atft_assets.contracts import Contract
from atft_assets.jquants.availability import Disclosure
from atft_assets.jquants.endpoint import Endpoint, fields
from atft_assets.jquants.endpoints import BY_PATH
from atft_assets.raw.columns import available_at_column, code_column, date_column, text
from atft_assets.raw.landing import ASKED, Asked, AskedDays
from atft_assets.raw.listed_info import opens_week
from atft_assets.raw.records import typed_frame
from atft_assets.raw.source import Source
from atft_assets.settings import Plan
from atft_assets.store import Store
from tests.jquants.scripted_server import scripted
from tests.patience import PATIENCE

from .conftest import Lab, failed_rules, materialized
from .tiny_exchange import CODES, Record, TinyExchange, share
from .toy import TOY

TOKYO = calendar.TOKYO
REPOSITORY = Path(__file__).parents[2]
JUNE = calendar.days_of_month("2024-06")
TUESDAYS = [date(2024, 6, day) for day in (4, 11, 18, 25)]
FRIDAYS = [date(2024, 5, 31), *(date(2024, 6, day) for day in (7, 14, 21))]


def weekly(query: dict[str, str]) -> list[Record]:
    """The balances that were published on a date: those of the trading day two before, where it was a week's last."""
    published = date.fromisoformat(query["published_date"])
    day = calendar.shift_trading_days(published, -2)
    if not opens_week(calendar.next_trading_day(day)):
        return []
    return [
        {"Date": str(day), "Code": code, "PubDate": str(published), "Balance": 100.0 * share(code, day)}
        for code in CODES
    ]  # fmt: skip


@pytest.fixture
def toy(lab) -> Lab:
    """A lab whose exchange serves the toy endpoint, and that has its table."""
    lab.exchange.extra["/toy/weekly"] = weekly
    lab.sources = (*lab.sources, TOY)
    return lab


def asked(lab: Lab) -> list[str]:
    """Days that were asked for, in order."""
    return sorted(text.split()[1] for text in lab.asked())


@pytest.mark.e2e
def test_one_module_and_one_line_through_the_command_line(tmp_path):
    with scripted(TinyExchange(extra={"/toy/weekly": weekly})) as server:
        home = tmp_path / "home"
        home.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT", "JQUANTS"))}
        environment |= {
            "DAGSTER_HOME": str(home), "ATFT_DATA": str(tmp_path / "data"), "PYTHONPATH": str(REPOSITORY),
            "JQUANTS_BASE_URL": server.base_url, "JQUANTS_API_KEY": "key-for-tests", "JQUANTS_PLAN": "premium",
            "ATFT_START": "2024-01-01", "ATFT_END": "2024-06-28", "DAGSTER_DISABLE_TELEMETRY": "yes",
        }  # fmt: skip

        def materialize(month: str) -> list[str]:
            """The publication dates that a run asks for."""
            command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "tests.raw.toy"]
            done = subprocess.run(
                [*command, "--select", "toy", "--partition", month],
                env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
            with server.lock:
                requests, server.requests = server.requests, []
            by_day = (r for r in requests if "published_date" in r.query and "pagination_key" not in r.query)
            return sorted(request.query["published_date"] for request in by_day)

        assert materialize("2024-06") == [str(day) for day in JUNE]
        table = Store(root=str(tmp_path / "data")).table("raw", "toy")
        frame = table.read(["2024-06"])
        assert frame["date"].unique().sort().to_list() == FRIDAYS and frame.height == 4 * len(CODES)
        known = frame.group_by("date").agg(pl.col("available_at").unique()).sort("date")["available_at"].to_list()
        assert known == [[datetime(day.year, day.month, day.day, 16, 30, tzinfo=TOKYO)] for day in TUESDAYS]
        # the last five trading days may still be corrected; the other days are held, those without records as well
        assert materialize("2024-06") == [str(day) for day in JUNE[-5:]]
        assert table.read(["2024-06"]).equals(frame)


def test_a_month_of_the_past_is_asked_for_once(toy):
    materialized(toy.run("toy", "2024-02", "2024-05"))
    days = calendar.trading_days(date(2024, 2, 1), date(2024, 5, 31))
    assert asked(toy) == [str(day) for day in days]
    before = toy.files("toy")
    assert materialized(toy.run("toy", "2024-02", "2024-05"))["requests"] == 0
    assert toy.files("toy") == before
    (toy.root / "raw" / "toy" / ASKED).unlink()  # lost: the days without records are asked for once more
    materialized(toy.run("toy", "2024-02"))
    silent = [str(day) for day in calendar.days_of_month("2024-02") if not weekly({"published_date": str(day)})]
    assert asked(toy) == silent and len(silent) == 15
    assert toy.run("toy", "2024-02").success and asked(toy) == []
    materialized(toy.run("toy", "2024-02", refetch=True))
    assert len(asked(toy)) == 19
    assert toy.files("toy")["2024-02.parquet"] == before["2024-02.parquet"]


def test_a_month_without_records_is_published_without_rows(toy):
    toy.exchange.edit = lambda path, record: None
    assert materialized(toy.run("toy", "2024-02"))["dagster/row_count"] == 0
    frame = toy.read("toy", "2024-02")
    assert frame.is_empty() and frame.columns == ["date", "code", "PubDate", "Balance", "available_at"]
    toy.exchange.edit = None
    toy.asked()
    assert materialized(toy.run("toy", "2024-02"))["requests"] == 0
    materialized(toy.run("toy", "2024-02", refetch=True))
    assert toy.read("toy", "2024-02").schema == frame.schema and toy.read("toy", "2024-02").height == 4 * len(CODES)


def test_a_day_is_asked_for_from_its_clock_on_and_again_while_it_may_be_corrected(toy):
    toy.now = "2024-06-11T16:29"
    materialized(toy.run("toy", "2024-06"))
    assert asked(toy)[-1] == "2024-06-10" and toy.read("toy")["date"].max() == date(2024, 5, 31)
    toy.now = "2024-06-11T16:30"
    materialized(toy.run("toy", "2024-06"))
    assert asked(toy) == [f"2024-06-{day:02d}" for day in (5, 6, 7, 10, 11)]
    assert toy.read("toy")["date"].max() == date(2024, 6, 7)
    # what is withdrawn within those days goes
    toy.exchange.edit = lambda path, record: None if record["Date"] == "2024-06-07" else record
    materialized(toy.run("toy", "2024-06"))
    assert toy.read("toy")["date"].max() == date(2024, 5, 31)


def test_what_a_stopped_run_heard_is_not_asked_for_again(toy):
    def dies(request, number):
        if request.query.get("published_date", "") >= "2024-03-15":
            raise ConnectionResetError

    toy.exchange.fault = dies
    assert not toy.run("toy", "2024-02", "2024-03").success
    toy.exchange.fault = None
    toy.asked()
    materialized(toy.run("toy", "2024-02", "2024-03"))
    assert all(day.startswith("2024-03") for day in asked(toy))  # of February also its silent days are known


@pytest.mark.parametrize(
    ("change", "column", "rule", "sample"),
    [
        ({"PubDate": "2024/02/20"}, "PubDate", "a date YYYY-MM-DD", "code=13010 PubDate=2024/02/20"),
        ({"PubDate": None}, "PubDate", "a date YYYY-MM-DD", "code=13010 PubDate=None"),
        ({"PubDate": ""}, "PubDate", "a date YYYY-MM-DD", "date=2024-02-16 code=13010 PubDate="),
        ({"PubDate": "2024-02-15"}, "PubDate", "not before the record's own date", "PubDate=2024-02-15"),
        ({"PubDate": "2024-02-21"}, "PubDate", "equals the date that was asked for", "asked for 2024-02-20"),
        ({"Date": ""}, "date", "a date YYYY-MM-DD", "Date='' Code='13010'"),
    ],
)
def test_a_record_without_an_instant_is_refused_with_its_rows(toy, change, column, rule, sample):
    def edit(path, record):
        return record | change if (record["Date"], record["Code"]) == ("2024-02-16", "13010") else record

    toy.exchange.edit = edit
    rules = failed_rules(toy.run("toy", "2024-02"))
    assert rule in rules[column]["rule"] and sample in rules[column]["sample"] and rules[column]["failing_rows"] == 1
    assert toy.table("toy").keys() == []


# -- documents, disclosed at any minute of any day, taken in by batches


FILED = Endpoint(
    "/toy/filed", ("date",), fields("S DiscDate DiscTime Code DiscNo"), Plan.FREE,
    keys=("DiscNo",), date_field="DiscDate", available=Disclosure("DiscDate", "DiscTime", ("18:00", "24:30")),
)  # fmt: skip
DOCUMENTS = [
    ("2024-06-14", "15:30:00", "7"),
    ("2024-06-14", "15:30:00", "5"),
    ("2024-06-14", "18:00:00", "6"),
    ("2024-06-15", "09:10:00", "8"),  # a Saturday
    ("2024-06-17", "23:00:00", "9"),
]
FILED_TABLE = Source(
    FILED,
    Contract(
        table="filed",
        schema=pa.DataFrameSchema(
            {
                "date": date_column(),
                "DiscTime": text("When it was disclosed"),
                "code": code_column(),
                "DiscNo": text("Its number"),
                "available_at": available_at_column(),
            },
            unique=FILED.key_columns,
        ),
        constant_ok=frozenset({"date", "DiscTime", "code", "DiscNo", "available_at"}),
    ),
    lambda pull, days: pull.by_date(days),
    module=__name__,
    description="Documents",
    empty_ok=True,
    closed_days=True,
)


@pytest.fixture
def filed(lab) -> Lab:
    """A lab whose exchange serves documents as its clock lets them be disclosed."""

    def documents(query: dict[str, str]) -> list[Record]:
        return [
            {"DiscDate": day, "DiscTime": clock, "Code": "13010", "DiscNo": number}
            for day, clock, number in DOCUMENTS
            if day == query["date"] and lab.exchange.is_out(date.fromisoformat(day), time.fromisoformat(clock))
        ]

    lab.exchange.extra["/toy/filed"] = documents
    lab.sources, lab.end = (FILED_TABLE,), None
    return lab


def test_documents_are_known_from_the_batch_after_their_disclosure(filed):
    filed.now = "2024-07-31T12:00"
    materialized(filed.run("filed", "2024-06"))
    assert len(filed.asked()) == 30  # closed days too
    frame = filed.read("filed")
    assert dict(frame.select("DiscNo", "available_at").iter_rows()) == {
        "5": datetime(2024, 6, 14, 18, 0, tzinfo=TOKYO),
        "7": datetime(2024, 6, 14, 18, 0, tzinfo=TOKYO),
        "6": datetime(2024, 6, 15, 0, 30, tzinfo=TOKYO),
        "8": datetime(2024, 6, 17, 18, 0, tzinfo=TOKYO),
        "9": datetime(2024, 6, 18, 0, 30, tzinfo=TOKYO),
    }
    assert frame["DiscNo"].to_list() == ["5", "6", "7", "8", "9"]  # by date, code and the endpoint's own key


def test_a_day_of_which_not_all_was_out_is_asked_for_again_however_late(filed):
    filed.now = "2024-06-17T18:30"
    filed.exchange.now = datetime(2024, 6, 17, 18, 30, tzinfo=TOKYO)
    materialized(filed.run("filed", "2024-06"))
    assert "9" not in filed.read("filed")["DiscNo"].to_list()
    assert AskedDays(filed.table("filed")).of("2024-06")[date(2024, 6, 17)] == Asked.EARLY
    filed.now, filed.exchange.now = "2024-07-31T12:00", None
    filed.asked()
    materialized(filed.run("filed", "2024-06"))
    assert sorted(filed.asked()) == [f"2024-06-{day}" for day in range(17, 31)]
    assert "9" in filed.read("filed")["DiscNo"].to_list()
    materialized(filed.run("filed", "2024-06"))
    assert filed.asked() == []


@pytest.mark.parametrize("clock", ["", "25:00:00", "9:5", None])
def test_a_document_without_a_time_is_refused(filed, clock):
    filed.now = "2024-07-31T12:00"
    filed.exchange.edit = lambda path, record: record | ({"DiscTime": clock} if record["DiscNo"] == "7" else {})
    rules = failed_rules(filed.run("filed", "2024-06"))
    assert "a time HH:MM or HH:MM:SS" in rules["DiscTime"]["rule"] and rules["DiscTime"]["failing_rows"] == 1
    assert "DiscNo=7" in rules["DiscTime"]["sample"]


def test_a_number_that_comes_twice_is_refused(filed):
    filed.now = "2024-07-31T12:00"
    filed.exchange.edit = lambda path, record: record | {"DiscNo": "5"}
    assert failed_rules(filed.run("filed", "2024-06"))["DiscNo"]["rule"] == "unique key"


# -- what a row of the list must be


def test_an_endpoint_without_a_rule_cannot_be_a_table():
    with pytest.raises(ValueError, match="/td/list has no availability rule"):
        replace(FILED_TABLE, endpoint=BY_PATH["/td/list"])
    with pytest.raises(ValueError, match="/bulk/list has no availability rule"):
        typed_frame(BY_PATH["/bulk/list"], [], FILED_TABLE.contract, "2024-06")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"query": "disc_date"}, "takes no parameter 'disc_date'"),
        ({"day_field": "DiscNo"}, "day_field is 'DiscNo'"),
        ({"endpoint": replace(FILED, keys=("DiscDate", "Code"))}, "unique key is"),
    ],
)
def test_a_source_that_contradicts_its_endpoint_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(FILED_TABLE, **change)


def test_a_changed_rule_is_another_code_version_and_stamps_older_rows_anew(filed):
    filed.now = "2024-07-31T12:00"
    materialized(filed.run("filed", "2024-06"))
    before = filed.read("filed")
    premium = replace(FILED, available=Disclosure("DiscDate", "DiscTime"))
    filed.sources = (replace(FILED_TABLE, endpoint=premium),)
    assert filed.sources[0].code_version != FILED_TABLE.code_version
    assert replace(FILED_TABLE, endpoint=replace(FILED, plan=Plan.LIGHT)).code_version == FILED_TABLE.code_version
    assert materialized(filed.run("filed", "2024-06"))["requests"] == 0
    after = filed.read("filed")
    assert after.drop("available_at").equals(before.drop("available_at"))
    assert after["available_at"][0] == datetime(2024, 6, 14, 15, 30, tzinfo=TOKYO)
    assert filed.table("filed").manifest().entries["2024-06"].code_version == filed.sources[0].code_version
