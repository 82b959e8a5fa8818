"""Trading days: holidays, the day the exchange stood still, month arithmetic."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets import calendar

DAYS = st.dates(date(2008, 5, 7), date(2026, 11, 20))


def test_golden_week_year_end_and_substitute_holidays():
    assert calendar.trading_days(date(2024, 4, 26), date(2024, 5, 8)) == [
        date(2024, 4, 26), date(2024, 4, 30), date(2024, 5, 1), date(2024, 5, 2), date(2024, 5, 7), date(2024, 5, 8),
    ]  # fmt: skip
    assert calendar.next_trading_day(date(2019, 4, 26)) == date(2019, 5, 7)  # the ten days of the enthronement
    assert calendar.next_trading_day(date(2024, 12, 30)) == date(2025, 1, 6)
    assert not calendar.is_trading_day(date(2026, 11, 23))  # Labour Thanksgiving Day


def test_the_system_halt_is_an_open_day_as_jquants_serves_it():
    assert calendar.is_trading_day(date(2020, 10, 1))
    assert calendar.days_of_month("2020-10")[0] == date(2020, 10, 1)


@given(DAYS, st.integers(-300, 300))
def test_shift_counts_sessions(day: date, n: int):
    """Shifting by n passes exactly n sessions, from open and closed days alike."""
    if n == 0:
        return
    try:
        there = calendar.shift_trading_days(day, n)
    except ValueError:
        assert day + timedelta(days=2 * n) > date(2027, 11, 1)  # only the far end of the calendar refuses
        return
    between = (
        calendar.trading_days(day + timedelta(days=1), there)
        if n > 0
        else calendar.trading_days(there, day - timedelta(days=1))
    )
    assert len(between) == abs(n)
    assert calendar.is_trading_day(there)


def test_a_closed_day_is_not_a_trading_day_even_for_a_shift_of_zero():
    with pytest.raises(ValueError, match="not a trading day"):
        calendar.shift_trading_days(date(2024, 5, 3), 0)
    with pytest.raises(ValueError, match="outside the trading calendar"):
        calendar.shift_trading_days(date(1999, 1, 4), 1)


@given(DAYS, st.integers(-60, 60))
def test_months_invert(day: date, n: int):
    key = calendar.month_key(day)
    assert calendar.shift_month(calendar.shift_month(key, n), -n) == key
    span = calendar.months_between(min(key, calendar.shift_month(key, n)), max(key, calendar.shift_month(key, n)))
    assert len(span) == abs(n) + 1


def test_the_days_of_months_make_the_year():
    year = [d for m in range(1, 13) for d in calendar.days_of_month(f"2021-{m:02d}")]
    assert year == calendar.trading_days(date(2021, 1, 1), date(2021, 12, 31))
    assert len(year) == 245
