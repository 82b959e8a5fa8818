"""The splitter keeps labels of one block out of the next, whatever the days."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import trading_days
from atft_assets.training.splits import SplitError, split_by_date

DAYS = trading_days(date(2012, 1, 4), date(2021, 12, 30))


@settings(deadline=None)
@given(
    start=st.integers(0, 500),
    length=st.integers(10, 1900),
    purge=st.integers(0, 40),
    embargo=st.integers(0, 40),
)
def test_no_label_reaches_into_the_next_block(start: int, length: int, purge: int, embargo: int) -> None:
    days = DAYS[start : start + length]
    try:
        split = split_by_date(days, purge_days=purge, embargo_days=embargo)
    except SplitError:
        return
    place = {day: t for t, day in enumerate(days)}
    assert split.train[0] == days[0] and split.test[1] == days[-1]
    for before, after in ((split.train, split.validation), (split.validation, split.test)):
        last, first = place[before[1]], place[after[0]]
        assert last + purge < first  # the label of the last training day ends before the next block's first day
        assert first - last - 1 == purge + embargo
    assert place[split.test[1]] - place[split.test[0]] + 1 == round(len(days) * 0.15)
    assert place[split.validation[1]] - place[split.validation[0]] + 1 == round(len(days) * 0.15)


def test_given_dates_are_taken_from_the_first_trading_day_on() -> None:
    days = trading_days(date(2014, 1, 6), date(2021, 12, 30))
    split = split_by_date(days, validation_start=date(2019, 1, 1), test_start=date(2020, 1, 1))
    assert split.validation[0] == date(2019, 1, 4) and split.test[0] == date(2020, 1, 6)
    assert split.train[1] == days[days.index(date(2019, 1, 4)) - 41]
    assert split.as_json()["test"] == ["2020-01-06", "2021-12-30"]


def test_too_few_days_say_so() -> None:
    with pytest.raises(SplitError, match=r"leave 0 for the train block, of 20 at least .* longer range"):
        split_by_date(DAYS[:100])


@pytest.mark.parametrize("days", [DAYS[:300] + DAYS[299:400], DAYS[:300][::-1]])
def test_repeated_or_disordered_days_are_refused(days: list[date]) -> None:
    with pytest.raises(SplitError, match="ascending"):
        split_by_date(days)
