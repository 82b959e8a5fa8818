"""Typing of JSON records: right values exactly, wrong types never."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.contracts import ContractViolation
from atft_assets.jquants.endpoints import DAILY_BARS, INDICES
from atft_assets.raw import daily_quotes, sector_indices
from atft_assets.raw.landing import Landing
from atft_assets.raw.records import column_order, typed_frame, unknown_fields
from atft_assets.store import Store

from .tiny_exchange import bar

numbers = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
others = st.one_of(st.text(max_size=5), st.booleans(), st.lists(st.integers(), max_size=2), st.just({}))


def frame_of(records):
    return typed_frame(INDICES, records, sector_indices.CONTRACT, "2024-01", INDICES.published_at)


def index_bar(place: int, **values) -> dict:
    return {"Date": "2024-01-05", "Code": f"{place:04X}", "O": 1.0, "H": 1, "L": None, "C": 2.5} | values


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=8), st.lists(st.text(max_size=6) | st.none(), min_size=8, max_size=8))
def test_values_survive_exactly(values, texts):
    records = [index_bar(n, O=value, New=texts[n]) for n, value in enumerate(values)]
    frame = frame_of(records)
    assert frame["O"].to_list() == [None if value is None else float(value) for value in values]
    assert frame["New"].to_list() == texts[: len(values)]
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
    frame = typed_frame(DAILY_BARS, records, daily_quotes.CONTRACT, "2024-01", DAILY_BARS.published_at)
    assert frame["ExRT"].to_list() == ["1", "1", "1", None]


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
