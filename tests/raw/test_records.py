"""Typing of JSON records: right values exactly, wrong types never."""

import re
from datetime import date, datetime, timedelta

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import TOKYO
from atft_assets.contracts import Contract, ContractViolation
from atft_assets.jquants.endpoints import BY_PATH, DAILY_BARS, INDICES
from atft_assets.raw import daily_quotes, sector_indices
from atft_assets.raw.columns import text
from atft_assets.raw.landing import Landing
from atft_assets.raw.records import column_order, row_order, typed_frame, unknown_fields
from atft_assets.store import Store

from .tiny_exchange import bar

numbers = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
others = st.one_of(st.text(max_size=5), st.booleans(), st.lists(st.integers(), max_size=2), st.just({}))


def frame_of(records):
    return typed_frame(INDICES, records, sector_indices.CONTRACT, "2024-01")


def index_bar(place: int, **values) -> dict:
    return {"Date": "2024-01-05", "Code": f"{place:04X}", "O": 1.0, "H": 1, "L": None, "C": 2.5} | values


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=8), st.lists(st.text(max_size=6) | st.none(), min_size=8, max_size=8))
def test_values_survive_exactly(values, texts):
    records = [index_bar(n, O=value, New=texts[n]) for n, value in enumerate(values)]
    frame = frame_of(records)
    assert frame["O"].to_list() == [None if value is None else float(value) for value in values]
    told = [text or None for text in texts[: len(values)]]  # a file of history cannot tell "" and null apart
    open_kinds = [text is not None and bool(re.match(r"[{\[]|-?\d+[.e]", text)) for text in told]
    assert all(kind or got == text for got, text, kind in zip(frame["New"], told, open_kinds, strict=True))
    assert frame.schema["O"] == pl.Float64 and frame.schema["New"] == pl.String and frame.schema["date"] == pl.Date


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(numbers, others), min_size=1, max_size=8))
def test_any_value_that_is_no_number_is_refused_and_counted(values):
    records = [index_bar(n, C=value) for n, value in enumerate(values)]
    wrong = [value for value in values if value is not None and type(value) not in (int, float)]
    if not wrong:
        frame_of(records)
        return
    with pytest.raises(ContractViolation) as refused:
        frame_of(records)
    (row,) = refused.value.verdict.failures.to_dicts()
    assert (row["column"], row["rule"], row["failing_rows"]) == ("C", "a JSON number or null", len(wrong))
    assert repr(wrong[0]) in row["sample"]


@pytest.mark.parametrize("text", ["2024-13-01", "20240105", "", "2024-01-05T00:00:00", None])
def test_a_date_that_is_none_is_refused(text):
    with pytest.raises(ContractViolation, match="a date YYYY-MM-DD"):
        frame_of([index_bar(1), index_bar(2, Date=text)])


def test_order_of_columns_does_not_depend_on_the_answers():
    names = ["available_at", "Zeta", "C", "code", "Alpha", "date", "O"]
    assert column_order(DAILY_BARS, names) == ["date", "code", "O", "C", "Alpha", "Zeta", "available_at"]
    assert unknown_fields(DAILY_BARS, names) == ["Alpha", "Zeta"]


def test_markers_of_either_type_are_one_text():
    records = [bar(date(2024, 1, 5), "13010") | {"ExRT": value} for value in (1, 1.0, "1", None)]
    frame = typed_frame(DAILY_BARS, records, daily_quotes.CONTRACT, "2024-01")
    assert frame["ExRT"].to_list() == ["1", "1", "1", None]


MARGIN = BY_PATH["/markets/margin-interest"]
BALANCES = Contract("margin", pa.DataFrameSchema({"PubDate": text("Publication date", nullable=True)}))


def balance(day: str, **values) -> dict:
    record = {field.name: 0.0 if field.numeric else "1" for field in MARGIN.fields if not field.optional}
    return record | {"Date": day, "Code": "13010"} | values


def test_instants_are_those_of_each_record():
    records = [
        balance("2024-06-07", PubDate=None),  # weekly, no publication date: the second business day after
        balance("2024-06-07", PubDate=""),
        balance("2026-09-25", PubDate="2026-09-28"),
        balance("2024-05-31", PubDate="2024-06-05"),  # late
    ]
    frame = typed_frame(MARGIN, records, BALANCES, "2024-06")
    assert frame["available_at"].dtype == pl.Datetime("us", "Asia/Tokyo")
    expected = [(2024, 6, 11), (2024, 6, 11), (2026, 9, 28), (2024, 6, 5)]
    assert frame["available_at"].to_list() == [datetime(*day, 16, 30, tzinfo=TOKYO) for day in expected]
    without = typed_frame(MARGIN, [balance("2024-06-07")], BALANCES, "2024-06")  # the field is not served at all
    assert without["available_at"].to_list() == [datetime(2024, 6, 11, 16, 30, tzinfo=TOKYO)]


@pytest.mark.parametrize(
    ("values", "column", "rule"),
    [
        ({"PubDate": "soon"}, "PubDate", "a date YYYY-MM-DD"),
        ({"PubDate": "2024-06-06"}, "PubDate", "not before the record's own date"),
        ({"Date": "1999-12-30"}, "date", "outside the trading calendar"),
        ({"PubDate": 20240611}, "PubDate", "a JSON string"),
    ],
)
def test_records_without_an_instant_are_refused(values, column, rule):
    records = [balance("2024-06-07"), balance("2024-06-07", **values), balance("2024-06-14")]
    with pytest.raises(ContractViolation) as refused:
        typed_frame(MARGIN, records, BALANCES, "2024-06")
    (row,) = refused.value.verdict.failures.to_dicts()
    assert row["column"] == column and rule in row["rule"] and row["failing_rows"] == 1, row
    assert "13010" in row["sample"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.dates(date(2010, 1, 1), date(2026, 3, 1)), st.integers(0, 20) | st.none()), max_size=8))
def test_every_record_has_the_instant_of_its_rule(drawn):
    published = [None if lag is None else day + timedelta(days=lag) for day, lag in drawn]
    records = [
        balance(str(day), PubDate=None if out is None else str(out))
        for (day, _), out in zip(drawn, published, strict=True)
    ]
    frame = typed_frame(MARGIN, records, BALANCES, "all")
    expected = [MARGIN.rule.at(out, day) for (day, _), out in zip(drawn, published, strict=True)]
    assert frame["available_at"].to_list() == expected
    assert (frame["available_at"].dt.date() >= frame["date"]).all()


def test_rows_are_ordered_by_the_keys_of_the_endpoint():
    order = {path: row_order(BY_PATH[path], [*BY_PATH[path].declared, "date", "code"]) for path in BY_PATH}
    assert order["/equities/bars/daily"] == ["date", "code"] and order["/indices/bars/daily/topix"][0] == "date"
    assert order["/fins/summary"] == ["date", "code", "DiscNo"]
    assert order["/markets/margin-alert"] == ["date", "code", "AppDate"]
    report = order["/markets/short-sale-report"]  # nothing tells its records apart: every column
    assert report[:2] == ["date", "code"] and {"SSName", "ShrtPosShares"} <= set(report)


def test_a_torn_landing_is_no_landing(tmp_path):
    landing = Landing(Store(root=str(tmp_path)).table("raw", "daily_quotes"), "1")
    assert landing.load("2024-01") is None
    landing.save("2024-01", pl.DataFrame({"date": [date(2024, 1, 5)]}))
    landing.save("2024-01", pl.DataFrame({"date": [date(2024, 1, 9)]}))
    loaded = landing.load("2024-01")
    assert loaded is not None and loaded["date"].to_list() == [date(2024, 1, 9)]
    (path,) = (tmp_path / "raw" / "daily_quotes").iterdir()
    assert Landing(landing.table, "2").load("2024-01") is None  # of other code
    path.write_bytes(path.read_bytes()[:50])
    assert landing.load("2024-01") is None
    landing.clear(["2024-01", "2024-02"])
    assert not path.exists()


@pytest.mark.parametrize(
    ("values", "column", "rule"),
    [({"O": 10**400}, "O", "a number of 64 bits"), ({"Code": "13\ud800"}, "code", "text in UTF-8")],
    ids=["400 digits", "half a surrogate pair"],
)
def test_what_no_table_can_hold_breaks_the_contract_in_few_words(values, column, rule):
    with pytest.raises(ContractViolation) as caught:
        frame_of([index_bar(1), index_bar(2, **values)])
    text = str(caught.value)
    assert column in text and rule in text and len(text) < 400


def test_a_sample_of_a_violation_is_short():
    with pytest.raises(ContractViolation) as caught:
        frame_of([index_bar(1, O="x" * 100_000)])
    assert len(str(caught.value.verdict.failures)) < 2_000 and len(str(caught.value)) < 1_000
