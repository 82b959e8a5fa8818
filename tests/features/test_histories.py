"""States of knowledge: a window on an evening holds the newest versions that the evening knew, and nothing else."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, trading_days
from atft_assets.features.events import SINCE, carried, first_evenings, numbered
from atft_assets.features.histories import back, histories, mean_of, placed, states, z_of
from tests.features.synthetic_records import INSTANT, at

DAYS = trading_days(date(2021, 4, 1), date(2021, 6, 30))
KEYS = ["13010", "13020"]
REACH = timedelta(days=40)
WINDOW = 5

# place of the day that a record speaks of, days until it is out, hour, code: in any order, versions included
some_records = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(9, 20), st.sampled_from(KEYS)),
    min_size=1,
    max_size=40,
)


def frame_of(rows) -> pl.DataFrame:
    cells = [
        (DAYS[place], code, float((17 * i) % 101), at(DAYS[min(place + lag, len(DAYS) - 1)], hour))
        for i, (place, lag, hour, code) in enumerate(rows)
    ]
    schema = {"date": pl.Date, "code": pl.String, "x": pl.Float64, "available_at": INSTANT}
    return pl.DataFrame(cells, schema=schema, orient="row")


def windows(records: pl.DataFrame) -> pl.DataFrame:
    """The newest value, the one a place before, mean and z of five places: from the records of each state."""
    chains = histories(records, by="date", keys=["code"], reach=REACH).join(numbered(records["date"]), on="date")
    made = placed(chains, "_day").with_columns(
        back("x", 1).alias("before"), back("x", 2).alias("two"), mean_of("x", WINDOW, 2).alias("mean"),
        z_of("x", WINDOW, 3).alias("z"),
    )  # fmt: skip
    return states(made)


def by_hand(records: pl.DataFrame, code: str, evening: date) -> dict[str, float | None]:
    """The same, from all records, for one evening."""
    known = [
        (day, instant, i, x)
        for i, (day, c, x, instant) in enumerate(records.select("date", "code", "x", "available_at").iter_rows())
        if c == code and instant <= decision_instant(evening)
    ]
    newest: dict[int, float] = {}
    for day, _, _, x in sorted(known, key=lambda r: (r[1], r[2])):
        newest[DAYS.index(day)] = x
    if not newest:
        return {"x": None, "before": None, "two": None, "mean": None, "z": None}
    last = max(newest)
    lately = [newest[p] for p in range(last - WINDOW + 1, last + 1) if p in newest]
    spread = np.std(lately, ddof=1) if len(lately) >= 3 else 0.0
    return {
        "x": newest[last],
        "before": newest.get(last - 1),
        "two": newest.get(last - 2),
        "mean": float(np.mean(lately)) if len(lately) >= 2 else None,
        "z": float((newest[last] - np.mean(lately)) / spread) if spread > 1e-6 else None,
    }


@settings(max_examples=60, deadline=None)
@given(rows=some_records)
def test_windows_are_what_a_person_would_count_from_what_was_known(rows):
    records = frame_of(rows)
    asked = pl.DataFrame({"date": DAYS[:45]}).join(pl.DataFrame({"code": KEYS}), how="cross")
    got = carried(windows(records), asked, by="date")
    for row in got.iter_rows(named=True):
        expected = by_hand(records, row["code"], row["date"])
        for name, value in expected.items():
            if value is None:
                assert row[name] is None, (row, name)
            else:
                assert row[name] == pytest.approx(value, abs=1e-9), (row, name, value)


@settings(max_examples=40, deadline=None)
@given(rows=some_records, place=st.integers(0, 44))
def test_records_that_are_not_out_yet_change_nothing(rows, place):
    records = frame_of(rows)
    evening = DAYS[place]
    asked = pl.DataFrame({"date": DAYS[: place + 1]}).join(pl.DataFrame({"code": KEYS}), how="cross")
    whole = carried(windows(records), asked, by="date")
    late = pl.col("available_at") > decision_instant(evening)
    spoiled = records.with_columns(pl.when(late).then(pl.col("x") * -3 + 7).otherwise("x").alias("x"))
    for other in (records.filter(~late), spoiled):
        got = carried(windows(other), asked, by="date")
        for name in ("x", "before", "two", "mean", "z", SINCE):
            a, b = got[name].cast(pl.Float64), whole[name].cast(pl.Float64)
            assert (a.is_null() == b.is_null()).all() and ((a - b).abs().max() or 0) < 1e-9, name


def test_age_counts_trading_days_from_the_first_evening_whatever_rows_are_there():
    friday, monday, tuesday = date(2021, 4, 30), date(2021, 5, 6), date(2021, 5, 7)  # holidays between
    records = pl.DataFrame(
        {"date": [friday], "code": ["13010"], "x": [1.0], "available_at": [at(monday, 16, 30)]},
        schema={"date": pl.Date, "code": pl.String, "x": pl.Float64, "available_at": INSTANT},
    )
    rows = pl.DataFrame({"date": [friday, monday, tuesday, date(2021, 5, 12)], "code": ["13010"] * 4})
    assert carried(records, rows, by="date")[SINCE].to_list() == [None, 0, 1, 4]
    assert carried(records, rows[3:], by="date")[SINCE].to_list() == [4]  # no other row tells the age
    late = records.with_columns(pl.lit(at(monday, 18, 31)).cast(INSTANT).alias("available_at"))
    assert carried(late, rows, by="date")[SINCE].to_list() == [None, None, 0, 3]


def test_a_correction_is_as_old_as_what_it_corrects():
    first, again = at(DAYS[2], 16), at(DAYS[6], 16)
    records = frame_of([(0, 2, 16, "13010"), (0, 6, 16, "13010")])
    assert records["available_at"].to_list() == [first, again]
    rows = pl.DataFrame({"date": DAYS[1:9], "code": ["13010"] * 8})
    got = carried(windows(records), rows, by="date")
    assert got[SINCE].to_list() == [None, 0, 1, 2, 3, 4, 5, 6]
    assert got["x"].to_list() == [None, 0.0, 0.0, 0.0, 0.0, 17.0, 17.0, 17.0]


def test_first_evenings_are_of_the_exchange():
    saturday = pl.Series(
        "t", [at(date(2021, 5, 1), 10), at(date(2021, 5, 6), 18, 30), at(date(2021, 5, 6), 18, 31)], INSTANT
    )
    got = first_evenings(saturday)
    assert got["date"].to_list() == [date(2021, 5, 6), date(2021, 5, 6), date(2021, 5, 7)]
    assert got["evening"].diff().to_list() == [None, 0, 1]


def test_nothing_known_is_nothing():
    empty = frame_of([])
    rows = pl.DataFrame({"date": DAYS[:2], "code": ["13010"] * 2})
    got = carried(empty, rows, by="date")
    assert got["x"].to_list() == [None, None] and got[SINCE].to_list() == [None, None]
