"""Cells of a bulk file become what the API's records become, field kind by field kind."""

import gzip
import io
import json
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from atft_assets.jquants.endpoints import DAILY_BARS
from atft_assets.raw import SOURCES, Source, cells, daily_quotes
from atft_assets.raw.cells import UnfitFile, blocks, typed_cells
from atft_assets.raw.records import plain, typed_frame
from atft_assets.sandbox.bulk import packed

from .tiny_exchange import bar

IN_BULK = [source for source in SOURCES if source.endpoint.in_bulk]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6)
NUMBER = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e9, 1e9), st.just(2202500.0))
MARKER = st.sampled_from(["", "-", "*"])
NESTED = st.dictionaries(TEXT, st.one_of(TEXT, st.none()), max_size=3)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "S": TEXT,
    "S?": TEXT | st.none(),
    "N": NUMBER,
    "N?": NUMBER | st.none(),
    "NS": NUMBER | MARKER,
    "SN?": st.sampled_from(["1", 1, 1.0, None]),
    "J": NESTED | MARKER,
}
FIXED = {"date": st.just("2024-01-05"), "time": st.just("15:30:00")}


def records_of(source: Source) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Records whose every field is any of its kind, but for those from which an instant follows."""
    endpoint = source.endpoint
    rule = endpoint.rule
    made = {}
    for field in endpoint.fields:
        kind = "time" if field.name in rule.clock_fields else "date" if field.name in rule.fields else ""
        kind = kind or ("date" if field.name == endpoint.dated_by else "")
        made[field.name] = FIXED[kind] if kind else KINDS[field.kind]
    return st.lists(st.fixed_dictionaries({**made, "NewField": TEXT | NUMBER | st.none()}), min_size=1, max_size=3)


def frame_of(source: Source, data: bytes) -> pl.DataFrame:
    parts = [
        typed_cells(source.endpoint, cells.cells(block), source.contract, "2024-01", source.left_out)
        for block in blocks(io.BytesIO(data), len(data))
    ]
    return pl.concat(parts, how="diagonal_relaxed")


@pytest.mark.parametrize("source", IN_BULK, ids=lambda source: source.name)
def test_a_file_gives_the_frame_that_the_records_give(source: Source) -> None:
    @settings(max_examples=25, deadline=None)
    @given(records_of(source))
    def holds(records: list[dict[str, Any]]) -> None:
        names = list(records[0])
        by_file = frame_of(source, packed(names, records))
        by_api = typed_frame(source.endpoint, json.loads(json.dumps(records)), source.contract, "2024-01")
        assert_frame_equal(by_file, by_api)

    holds()


@settings(max_examples=200, deadline=None)
@given(NUMBER | NESTED | TEXT)
def test_what_is_plain_stays_so(value: Any) -> None:
    text = value if isinstance(value, str) else str(value)
    assert plain(plain(text)) == plain(text)
    if isinstance(value, int | float):
        assert float(plain(text)) == value
    if isinstance(value, dict):
        assert json.loads(plain(text)) == value


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0331", "0331"), ("0050", "0050"), ("2.50", "2.5"), ("100.0", "100"), ("-0.0", "0"), ("1e+16", str(10**16)),
        ("12E50", "12E50"), ("1e400", "1e400"), ("1.5e400", "1.5e400"), ("-", "-"), ("15:30", "15:30"), ("nan", "nan"),
        ("{'a': '1'}", '{"a": "1"}'), ('{"a":1}', '{"a": 1}'), ("[1, 'b']", '[1, "b"]'), ("{broken", "{broken"),
        ("{'a': __import__('os')}", "{'a': __import__('os')}"), ("{1, 2}", "{1, 2}"), ("[" * 5000, "[" * 5000),
    ],
)  # fmt: skip
def test_texts_of_open_kinds(text: str, stored: str) -> None:
    assert plain(text) == stored


def bars(count: int = 3, **values: Any) -> list[dict[str, Any]]:
    return [bar(date(2024, 1, 5), f"{number:04d}0") | values for number in range(count)]


def quotes(data: bytes) -> pl.DataFrame:
    return frame_of(daily_quotes.SOURCE, data)


NAMES = [name for name in bar(date(2024, 1, 5), "13010") if not name.startswith("Adj") or name == "AdjFactor"]


def test_a_file_may_lack_what_the_table_leaves_out_and_nothing_else() -> None:
    by_api = typed_frame(DAILY_BARS, bars(), daily_quotes.CONTRACT, "2024-01").drop(
        daily_quotes.SOURCE.left_out, strict=False
    )
    assert_frame_equal(quotes(packed(NAMES, bars())), by_api)
    with pytest.raises(UnfitFile, match="no column Va"):
        quotes(packed([name for name in NAMES if name != "Va"], bars()))


@pytest.mark.parametrize("wrong", ["abc", "1,5", " 1", "nan", "inf", "1e999", "0x10", "-"])
def test_a_cell_that_is_no_number_is_named(wrong: str) -> None:
    with pytest.raises(UnfitFile, match="Vo is no number in 3 rows"):
        quotes(packed(NAMES, bars(Vo=wrong)))


@pytest.mark.parametrize("wrong", ["", "2024-13-01", "20240105", "5.1.2024"])
def test_a_date_that_is_none_is_named(wrong: str) -> None:
    with pytest.raises(UnfitFile, match="Date is no date"):
        quotes(packed(NAMES, bars(Date=wrong)))


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_blocks_hold_whole_rows_wherever_they_are_cut(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "BLOCK", size)
    records = [{"Code": f"{n:05d}", "Notes": 'two\nlines, "quoted"\n' * (n % 3), "T": None} for n in range(40)]
    data = packed(["Code", "Notes", "T"], records)
    frame = pl.concat([cells.cells(block) for block in blocks(io.BytesIO(data), len(data))])
    assert frame["Code"].to_list() == [record["Code"] for record in records]
    assert [text or "" for text in frame["Notes"]] == [record["Notes"] for record in records]
    assert frame["T"].null_count() == 40


def test_line_ends_and_marks_of_other_writers() -> None:
    plain_text = gzip.decompress(packed(NAMES, bars())).removeprefix(cells.BOM)
    good = quotes(packed(NAMES, bars()))
    for text in (plain_text, plain_text.replace(b"\n", b"\r\n"), plain_text.rstrip(b"\n")):
        assert_frame_equal(quotes(gzip.compress(text)), good)
    half = plain_text.index(b"\n", 200) + 1
    assert_frame_equal(quotes(gzip.compress(plain_text[:half]) + gzip.compress(plain_text[half:])), good)  # two members


def test_a_file_without_rows_is_a_frame_without_rows() -> None:
    frame = quotes(packed(NAMES, []))
    assert frame.height == 0 and frame.schema["Vo"] == pl.Float64 and "available_at" in frame.columns


GOOD = packed(NAMES, bars(200))
TEXT_OF_ONE = gzip.decompress(packed(NAMES, bars(1)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GOOD[: len(GOOD) // 2], "cut off"),
        (GOOD[:-4], "cut off"),
        (GOOD[:12] + bytes([GOOD[12] ^ 0xFF]) + GOOD[13:], "damaged"),
        (GOOD[:-5] + b"\0\0\0\0\0", "damaged"),
        (b"<html>busy</html>", "damaged"),
        (gzip.compress(b""), "empty"),
        (gzip.compress(b"\xff\xfe" * 100), "not UTF-8"),
        (gzip.compress(b"<html><body>busy</body></html>\n"), "does not name columns"),
        (gzip.compress(b"Date,Date\n1,2\n"), "does not name columns"),
        (gzip.compress(b"Date,Code\n1,2,3,4\n"), "no table"),
        (gzip.compress(bytes(100 << 20)), "does not end"),
        (gzip.compress(TEXT_OF_ONE + TEXT_OF_ONE.split(b"\n")[1].join([b"", b"\n"]) * 500_000), "more than"),
    ],
    ids=[
        "half",
        "no end",
        "a byte",
        "checksum",
        "a page",
        "nothing",
        "bytes",
        "a packed page",
        "twice",
        "ragged",
        "a line",
        "bomb",
    ],
)
def test_what_is_no_such_file_is_told(data: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "BLOCK", 1 << 20)
    monkeypatch.setattr(cells, "LONGEST_LINE", 1 << 22)
    with pytest.raises(UnfitFile, match=said):
        quotes(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_data(place: int, flip: int) -> None:
    changed = GOOD[:place] + bytes([GOOD[place] ^ flip]) + GOOD[place + 1 :]
    try:
        frame = quotes(changed)
    except UnfitFile:
        return
    assert_frame_equal(frame, quotes(GOOD))  # a byte of the head that says nothing about the contents
