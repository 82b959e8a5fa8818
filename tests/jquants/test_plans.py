"""Windows and gates of the plans; the dated edges are ones that keys reported."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.jquants.endpoints import DAILY_BARS, INDICES, TOPIX
from atft_assets.jquants.errors import OutsideWindow, PlanGate
from atft_assets.jquants.plans import Window, includes, require_plan, require_window, window
from atft_assets.settings import Plan


@pytest.mark.parametrize(
    ("plan", "today", "expected"),
    [
        (Plan.FREE, date(2026, 6, 13), Window(date(2024, 3, 21), date(2026, 3, 21))),
        (Plan.LIGHT, date(2026, 9, 4), Window(date(2021, 9, 4), None)),
        (Plan.STANDARD, date(2026, 9, 21), Window(date(2016, 9, 21), None)),
        (Plan.PREMIUM, date(2028, 2, 29), Window(date(2008, 2, 29), None)),
        (Plan.LIGHT, date(2028, 2, 29), Window(date(2023, 2, 28), None)),
    ],
)
def test_window(plan, today, expected):
    assert window(plan, today) == expected


@given(st.sampled_from(Plan), st.dates(date(2015, 1, 1), date(2060, 12, 31)), st.integers(-9000, 400))
def test_refusal_is_exactly_the_complement_of_the_window(plan, today, offset):
    day = today + timedelta(days=offset)
    covered = window(plan, today)
    if day in covered:
        require_window(plan, DAILY_BARS, [day], today)
    else:
        with pytest.raises(OutsideWindow) as refused:
            require_window(plan, DAILY_BARS, [day], today)
        assert str(covered.first) in str(refused.value) and str(day) in str(refused.value)
        assert (refused.value.first, refused.value.last) == (covered.first, covered.last)


def test_gates():
    assert not includes(Plan.FREE, TOPIX) and includes(Plan.LIGHT, TOPIX)
    assert not includes(Plan.LIGHT, INDICES) and includes(Plan.PREMIUM, INDICES)
    require_plan(Plan.STANDARD, INDICES)
    with pytest.raises(PlanGate, match="needs the plan standard or larger, JQUANTS_PLAN is light"):
        require_plan(Plan.LIGHT, INDICES)
