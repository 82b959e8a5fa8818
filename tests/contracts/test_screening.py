"""The quick look before Pandera never lets a frame pass that Pandera would refuse."""

from datetime import date

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from atft_assets.contracts.screening import certainly_meets

SCHEMA = pa.DataFrameSchema(
    {
        "date": pa.Column(pl.Date),
        "code": pa.Column(pl.String, pa.Check.str_matches("^[0-9]{2}$")),
        "kind": pa.Column(pl.String, pa.Check.isin(["a", "b"]), nullable=True),
        "ratio": pa.Column(pl.Float32, pa.Check.ge(-1.0), nullable=True),
        "share": pa.Column(pl.Float32, pa.Check.in_range(0, 1), nullable=True),
        "price": pa.Column(pl.Float64, pa.Check.gt(0)),
        "flag": pa.Column(pl.UInt8, pa.Check.in_range(0, 1)),
    },
    strict=True,
    unique=["date", "code"],
    ordered=True,
)
numbers = st.sampled_from([None, float("nan"), float("inf"), -1.0, -1.5, 0.0, 0.5, 1.0, 2.0])
row = st.tuples(
    st.sampled_from([date(2024, 1, 4), date(2024, 1, 5)]),
    st.sampled_from(["10", "11", "12", "1", None]),
    st.sampled_from(["a", "b", "c", None]),
    numbers,
    numbers,
    numbers,
    st.integers(0, 2),
)


def frame_of(rows) -> pl.DataFrame:
    dtypes = {name: column.dtype.type for name, column in SCHEMA.columns.items()}
    return pl.DataFrame(rows, schema=dtypes, orient="row").sort("date", "code")


def pandera_passes(frame: pl.DataFrame) -> bool:
    try:
        SCHEMA.validate(frame, lazy=True)
    except SchemaErrors:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(st.lists(row, min_size=1, max_size=4))
def test_what_it_lets_pass_pandera_lets_pass(rows):
    frame = frame_of(rows)
    assert not certainly_meets(SCHEMA, frame) or pandera_passes(frame)


GOOD = frame_of(
    [
        (date(2024, 1, 4), "10", "a", -1.0, 0.0, 0.5, 0),
        (date(2024, 1, 4), "11", None, None, None, 1.0, 1),
        (date(2024, 1, 5), "10", "b", 7.0, 1.0, 2.0, 0),
    ]
)


def test_a_good_frame_needs_no_pandera():
    assert certainly_meets(SCHEMA, GOOD)


@pytest.mark.parametrize(
    "broken",
    [
        GOOD.drop("flag"),
        GOOD.with_columns(extra=1),
        GOOD.select(reversed(GOOD.columns)),
        GOOD.with_columns(pl.col("ratio").cast(pl.Float64)),
        GOOD.with_columns(code=pl.lit("10")),
        GOOD.with_columns(code=pl.lit(None, pl.String)),
        GOOD.with_columns(code=pl.col("code") + "x"),
        GOOD.with_columns(kind=pl.lit("c")),
        GOOD.with_columns(ratio=pl.lit(-1.1, pl.Float32)),
        GOOD.with_columns(share=pl.lit(1.1, pl.Float32)),
        GOOD.with_columns(share=pl.lit(float("nan"), pl.Float32)),
        GOOD.with_columns(price=0.0),
        GOOD.with_columns(price=pl.lit(None, pl.Float64)),
        GOOD.reverse(),  # unsorted, which Pandera does not mind: the judge is asked
        GOOD.clear(),
    ],
)
def test_a_fault_is_left_to_pandera(broken):
    assert not certainly_meets(SCHEMA, broken)


@pytest.mark.parametrize("check", [pa.Check.str_length(2, 2), pa.Check(lambda data: data.lazyframe.select(pl.all()))])
def test_a_rule_without_a_shortcut_is_left_to_pandera(check):
    schema = pa.DataFrameSchema({"code": pa.Column(pl.String, check)})
    assert not certainly_meets(schema, GOOD.select("code"))
