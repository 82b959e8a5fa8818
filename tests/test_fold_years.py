"""The folds that follow from ATFT_WALK_FORWARD: names, order, whole years, and sentences about wrong words."""

import re
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.fold_years import FoldYears, WalkForward
from atft_assets.settings import Settings, SettingsError

TODAY = date(2026, 6, 1)


def names(text: str, start: date = date(2016, 1, 4), end: date | None = date(2025, 12, 30)) -> list[str]:
    return [fold.name for fold in WalkForward.parse(text).folds(start, end, TODAY)]


def test_the_defaults_leave_two_whole_years_before_the_first_test_year() -> None:
    assert names("") == [str(year) for year in range(2018, 2026)]
    assert names("", start=date(2016, 3, 1))[0] == "2019"  # 2016 is not whole
    assert names("", end=None)[-1] == "2025"  # 2026 is not over
    assert names("", end=date(2025, 12, 29))[-1] == "2024"
    assert names("scheme=rolling")[0] == "2022"  # five years of training, and one for validation
    assert names("scheme=rolling train_years=3")[0] == "2020"


def test_blocks_of_several_years_end_with_the_last() -> None:
    assert names("years=2") == ["2018-2019", "2020-2021", "2022-2023", "2024-2025"]
    assert names("years=3") == ["2020-2022", "2023-2025"]
    assert names("first=2019 last=2024 years=3") == ["2019-2021", "2022-2024"]


def test_final_years_make_their_blocks_final() -> None:
    folds = WalkForward.parse("years=2 final=2021,2025").folds(date(2016, 1, 4), date(2025, 12, 30), TODAY)
    assert [fold.name for fold in folds if fold.final] == ["2020-2021", "2024-2025"]


def test_the_sandbox_has_a_fold() -> None:
    assert [fold.name for fold in Settings.from_env({}).fold_years()] == ["2024"]
    narrow = Settings.from_env({"ATFT_WALK_FORWARD": "first=2023 validation_days=40"})
    assert [fold.name for fold in narrow.fold_years()] == ["2023", "2024"]
    assert narrow.walk_forward.validation_days == 40


@given(
    start=st.dates(date(2008, 5, 7), date(2024, 12, 31)),
    length=st.integers(0, 6000),
    years=st.integers(1, 4),
    rolling=st.none() | st.integers(1, 8),
)
def test_blocks_touch_and_never_overlap(start: date, length: int, years: int, rolling: int | None) -> None:
    end = min(start + timedelta(days=length), TODAY)
    plan = WalkForward(years=years, scheme="rolling" if rolling else "expanding", train_years=rolling)
    folds = plan.folds(start, end, TODAY)
    assert folds == plan.folds(start, end, date(2030, 1, 1))  # where the data end, the day does not matter
    assert len({fold.name for fold in folds}) == len(folds) >= 1
    for fold in folds:
        assert fold.last - fold.first + 1 == years
        assert re.fullmatch(r"\d{4}(-\d{4})?", fold.name)
    for one, other in pairwise(folds):
        assert other.span[0] == one.span[1] + timedelta(days=1)
    if len(folds) > 1:  # enough data: nothing is tested before its training years, nor a year that goes on
        assert folds[0].first >= start.year + (2 if rolling is None else rolling + 1)
        assert folds[-1].last <= end.year


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("first", "'first': use each of first=, last=, years=, scheme=, train_years=, validation_days=, final= once"),
        ("begin=2018", "'begin=2018': use each of"),
        ("first=2018 first=2019", "'first=2019': use each of"),
        ("first=soon", "first: Input should be a valid integer"),
        ("scheme=sliding", "scheme: Input should be 'expanding' or 'rolling'"),
        ("first=2020 last=2018", "first (2020) is after last (2018): exchange them"),
        ("first=2018 last=2022 years=2", "2018 to 2022 are 5 years, which blocks of 2 do not fill"),
        ("train_years=3", "train_years is of rolling folds: add scheme=rolling, or leave it out"),
        ("validation_days=5", "validation_days: Input should be greater than or equal to 20"),
    ],
)
def test_wrong_words_are_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)) as raised:
        Settings.from_env({"ATFT_WALK_FORWARD": text})
    assert str(raised.value).startswith(f"ATFT_WALK_FORWARD is {text!r}: ")


def test_a_fold_spans_whole_years() -> None:
    assert FoldYears(2018, 2019).span == (date(2018, 1, 1), date(2019, 12, 31))
    assert (FoldYears(2018, 2018).name, FoldYears(2018, 2019).name) == ("2018", "2018-2019")
