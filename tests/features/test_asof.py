"""The as-of join: the newest record that an evening knew, whatever its date."""

from datetime import date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import TOKYO, decision_instant, trading_days
from atft_assets.features.asof import as_known

INSTANT = pl.Datetime("us", "Asia/Tokyo")
WEEKS = trading_days(date(2021, 6, 4), date(2021, 6, 30))  # from a Friday on


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=TOKYO)


def records(rows: list[tuple[date, datetime, float]], code: str = "13010") -> pl.DataFrame:
    schema = {"date": pl.Date, "available_at": INSTANT, "x": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.lit(code).alias("code"))


def days(*given: date) -> pl.DataFrame:
    return pl.DataFrame({"date": list(given)}, schema={"date": pl.Date})


def test_a_weekly_figure_enters_from_the_evening_on_which_it_is_out():
    weekly = records([(date(2021, 6, 4), at(date(2021, 6, 8), 16, 30), 1.0)])
    got = as_known(weekly, days(*WEEKS[:5]))
    assert got["x"].to_list() == [None, None, 1.0, 1.0, 1.0]  # Friday, Monday: not yet
    assert got["record_date"].to_list()[2] == date(2021, 6, 4)
    assert got["date"].to_list() == WEEKS[:5]


def test_half_past_six_is_the_last_minute():
    friday = WEEKS[0]
    for clock, known in ((at(friday, 18, 30), 1.0), (at(friday, 18, 31), None)):
        assert as_known(records([(friday, clock, 1.0)]), days(friday))["x"].to_list() == [known]


def test_a_correction_replaces_what_it_corrects_from_its_own_evening_on():
    friday = WEEKS[0]
    both = records([(friday, at(WEEKS[2], 16), 1.0), (friday, at(WEEKS[4], 16), 2.0)])
    assert as_known(both, days(*WEEKS[1:6]))["x"].to_list() == [None, 1.0, 1.0, 2.0, 2.0]


def test_a_late_correction_of_an_old_record_does_not_displace_a_newer_one():
    old, new = WEEKS[0], WEEKS[5]
    rows = records([(old, at(WEEKS[2], 16), 1.0), (new, at(WEEKS[7], 16), 3.0), (old, at(WEEKS[8], 16), 1.5)])
    assert as_known(rows, days(*WEEKS[6:10]))["x"].to_list() == [1.0, 3.0, 3.0, 3.0]


def test_each_key_has_its_own_newest_record_and_rows_keep_their_order():
    rows = pl.concat(
        [records([(WEEKS[0], at(WEEKS[1], 16), 1.0)], "13010"), records([(WEEKS[2], at(WEEKS[2], 16), 2.0)], "13020")]
    )
    asked = pl.DataFrame(
        {"date": [WEEKS[3], WEEKS[0], WEEKS[1], WEEKS[3]], "code": ["13020", "13010", "13010", "13010"]}
    )
    got = as_known(rows, asked, keys=["code"])
    assert got.select("date", "code").equals(asked)
    assert got["x"].to_list() == [2.0, None, 1.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(0, 23), st.sampled_from(["13010", "13020"])),
        min_size=1, max_size=25,
    )
)  # fmt: skip
def test_as_a_person_would_look_it_up(rows):
    """Against a search through all records, one day and key at a time."""
    known = [
        (WEEKS[place], at(WEEKS[min(place + lag, len(WEEKS) - 1)], hour), float(i), code)
        for i, (place, lag, hour, code) in enumerate(rows)
    ]
    frame = pl.concat(records([row[:3]], row[3]) for row in known)
    asked = days(*WEEKS).join(pl.DataFrame({"code": ["13010", "13020"]}), how="cross")
    got = as_known(frame, asked, keys=["code"])
    for day, code, x in got.select("date", "code", "x").iter_rows():
        there = [r for r in known if r[3] == code and r[1] <= decision_instant(day)]
        # the newest record, in its newest version; of two versions at one instant the later line
        assert x == (max(there, key=lambda r: (r[0], r[1], r[2]))[2] if there else None)
