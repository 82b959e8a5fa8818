"""When a record could first be known: the rules by themselves, and those of the endpoint table."""

from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta
from itertools import product

import exchange_calendars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import TOKYO, is_trading_day
from atft_assets.jquants.availability import (
    BusinessDaysAfter,
    DayBefore,
    Disclosure,
    EndOfMarchBefore,
    FixedClock,
    Publication,
    Rule,
    clock_on,
)
from atft_assets.jquants.endpoints import BY_PATH, ENDPOINTS

XTKS = exchange_calendars.get_calendar("XTKS", start="2007-01-01", end="2026-06-30")
# a business day of the exchange on which its system stood still; exchange-calendars has it as closed
BUSINESS_DAYS = sorted({session.date() for session in XTKS.sessions} | {date(2020, 10, 1)})
JST = timedelta(hours=9)

days = st.dates(date(2008, 1, 1), date(2026, 3, 31))
times = st.times().map(lambda clock: clock.replace(microsecond=0))
clocks = st.builds("{:02d}:{:02d}".format, st.integers(0, 47), st.integers(0, 59))
batches = st.lists(clocks, min_size=1, max_size=5, unique=True).map(sorted).map(tuple)
RULED = [row for row in ENDPOINTS if row.available]


def values(rule: Rule, day: date, clock: time) -> tuple[date | time, ...]:
    """A record's values: one day for every date."""
    return tuple(clock if field in rule.clock_fields else day for field in rule.fields)


@given(days, clocks)
def test_clocks_count_from_midnight_and_know_no_summer_time(day, clock):
    hours, minutes = map(int, clock.split(":"))
    instant = clock_on(day, clock)
    assert instant.utcoffset() == JST
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) - JST
    assert instant - midnight == timedelta(hours=hours, minutes=minutes)
    assert instant.date() == day + timedelta(days=hours // 24)


def test_27_hours_are_three_in_the_morning_of_the_next_day():
    assert FixedClock("27:00").at(date(2024, 12, 31)) == datetime(2025, 1, 1, 3, 0, tzinfo=TOKYO)


@pytest.mark.parametrize("row", RULED, ids=lambda row: row.path)
@settings(deadline=None)  # the first look at the calendar loads it
@given(day=days, clock=times)
def test_no_record_is_known_before_its_own_date(row, day, clock):
    rule = row.available
    instant = rule.at(*values(rule, day, clock))
    assert instant.utcoffset() == JST
    if rule.foretells:
        assert instant.date() < day
    else:
        assert instant >= clock_on(day, "00:00")
    # asking before the first instant is vain, and from the last one on complete
    assert rule.first(day) <= instant
    assert rule.first(day) <= rule.complete(day)
    if not isinstance(rule, Publication):
        assert instant <= rule.complete(day)


@settings(deadline=None)
@given(days, st.integers(1, 8), clocks)
def test_business_days_are_those_of_the_exchange(day, count, clock):
    expected = BUSINESS_DAYS[bisect_right(BUSINESS_DAYS, day) + count - 1]
    assert BusinessDaysAfter(count, clock).at(day) == clock_on(expected, clock)


@settings(deadline=None)
@given(days, clocks)
def test_the_master_is_known_on_the_trading_day_before(day, clock):
    before = BUSINESS_DAYS[bisect_left(BUSINESS_DAYS, day) - 1]
    assert DayBefore(clock).at(day) == clock_on(before, clock)


def test_the_day_of_the_system_halt_is_a_business_day():
    assert BusinessDaysAfter(1, "16:30").at(date(2020, 9, 30)) == clock_on(date(2020, 10, 1), "16:30")


@settings(deadline=None)
@given(days, times, batches)
def test_a_document_waits_for_the_next_batch_of_a_trading_day(day, clock, batches):
    rule = Disclosure("DiscDate", "DiscTime", batches)
    disclosed = datetime.combine(day, clock, TOKYO)
    out = rule.at(day, clock)
    assert out > disclosed or not is_trading_day(day)
    every = [
        clock_on(d, batch)
        for d, batch in product((day + timedelta(days=n) for n in range(-3, 12)), batches)
        if is_trading_day(d)
    ]
    assert out in every
    # of that day or the next: nothing of the days before is waited for, and no later batch is taken than must be
    own = [clock_on(day, batch) for batch in batches if is_trading_day(day) and clock_on(day, batch) > disclosed]
    assert not own or out == min(own)
    assert Disclosure("DiscDate", "DiscTime").at(day, clock) == disclosed <= max(out, disclosed)


@pytest.mark.parametrize(
    ("disclosed", "known"),
    [
        ("2024-06-14 00:05:00", "2024-06-14 18:00"),
        ("2024-06-14 17:59:59", "2024-06-14 18:00"),
        ("2024-06-14 18:00:00", "2024-06-15 00:30"),  # may just miss the batch
        ("2024-06-14 23:59:59", "2024-06-15 00:30"),
        ("2024-06-15 09:00:00", "2024-06-17 18:00"),  # a Saturday
    ],
)
def test_statements(disclosed, known):
    rule = BY_PATH["/fins/summary"].rule
    at = datetime.fromisoformat(disclosed)
    assert rule.at(at.date(), at.time()) == datetime.fromisoformat(known).replace(tzinfo=TOKYO)


@pytest.mark.parametrize(
    ("announced", "known"),
    [("2024-06-14 09:21", "2024-06-14 12:00"), ("2024-06-14 15:30", "2024-06-14 16:00"),
     ("2024-06-14 19:00", "2024-06-17 12:00")],
)  # fmt: skip
def test_dividends_come_hourly(announced, known):
    at = datetime.fromisoformat(announced)
    out = BY_PATH["/fins/dividend"].rule.at(at.date(), at.time())
    assert out == datetime.fromisoformat(known).replace(tzinfo=TOKYO)


@pytest.mark.parametrize(
    ("published", "day", "known"),
    [
        (None, date(2024, 6, 7), "2024-06-11 16:30"),  # Friday's balances on Tuesday
        (None, date(2024, 2, 9), "2024-02-14 16:30"),  # Monday was a holiday
        (None, date(2024, 2, 22), "2024-02-27 16:30"),  # a week that ended on Thursday
        (date(2026, 9, 28), date(2026, 9, 25), "2026-09-28 16:30"),  # the daily edition says it itself
    ],
)
def test_margin_balances_bear_a_publication_date_or_come_two_days_after(published, day, known):
    row = BY_PATH["/markets/margin-interest"]
    assert row.rule.at(published, day) == datetime.fromisoformat(known).replace(tzinfo=TOKYO)
    assert row.rule.absent_ok == {"PubDate"}


def test_the_calendar_of_a_year_is_known_in_the_march_before():
    assert EndOfMarchBefore().at(date(2025, 12, 31)) == datetime(2024, 3, 31, 18, 0, tzinfo=TOKYO)


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: row.path)
def test_rules_and_keys_name_fields_of_the_endpoint(row):
    assert set(row.keys) <= set(row.declared)
    if row.available is None:
        with pytest.raises(ValueError, match="has no availability rule"):
            row.rule  # noqa: B018
        return
    assert row.date_field in row.declared and set(row.rule.fields) <= set(row.declared)
    assert row.required >= set(row.rule.fields) - row.rule.absent_ok
    assert len(set(row.key_columns)) == len(row.keys) and str(row.rule)


def test_endpoints_without_a_rule_are_those_whose_records_do_not_say():
    without = {row.path for row in ENDPOINTS if row.available is None}
    files = {"/td/files", "/td/bulk", "/bulk/list", "/bulk/get"}
    assert without == {"/td/list", *files}


def test_no_business_days_after_are_none():
    with pytest.raises(ValueError, match="use 1 or more"):
        BusinessDaysAfter(0, "16:30")
