"""The splitter keeps labels of one block out of the next, whatever the days; a fold finds its days in any panel."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import trading_days
from atft_assets.settings import DEMO_END, DEMO_START
from atft_model.interchange.errors import FoldError
from atft_model.interchange.fold import VALIDATION_DAYS, Fold, cut, read_fold, write_fold
from atft_model.interchange.records import to_plain

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
        fold = cut(days, purge_days=purge, embargo_days=embargo)
    except FoldError:
        return
    place = {day: t for t, day in enumerate(days)}
    assert fold.train[0] == days[0] and fold.test[1] == days[-1]
    for before, after in ((fold.train, fold.validation), (fold.validation, fold.test)):
        last, first = place[before[1]], place[after[0]]
        assert last + purge < first  # the label of the last training day ends before the next block's first day
        assert first - last - 1 == purge + embargo
    assert place[fold.test[1]] - place[fold.test[0]] + 1 == round(len(days) * 0.15)
    assert place[fold.validation[1]] - place[fold.validation[0]] + 1 == round(len(days) * 0.15)


@settings(deadline=None)
@given(length=st.integers(150, 2300), wanted=st.integers(0, 600))
def test_a_least_length_of_validation_is_taken_from_training(length: int, wanted: int) -> None:
    days = DAYS[:length]
    try:
        plain = cut(days)
        longer = cut(days, least_validation_days=wanted)
    except FoldError:
        return

    def count(fold: Fold, block: str) -> int:
        return len(fold.places(days, block))

    assert longer.test == plain.test and longer.validation[1] == plain.validation[1]
    found, before = count(longer, "validation"), count(plain, "validation")
    assert found == max(before, min(wanted, round(0.3 * length)))
    assert count(plain, "train") - count(longer, "train") == found - before


def test_the_demo_has_a_year_to_be_judged_by() -> None:
    """On three and three quarters of a year, of which features need the first two months and labels the last."""
    days = trading_days(DEMO_START, DEMO_END)[60:]
    fold = cut(days, least_validation_days=VALIDATION_DAYS)
    assert len(fold.places(days, "validation")) == VALIDATION_DAYS == 245
    assert len(fold.places(days, "train")) >= 390


def test_given_dates_are_taken_from_the_first_trading_day_on() -> None:
    days = trading_days(date(2014, 1, 6), date(2021, 12, 30))
    fold = cut(days, validation_start=date(2019, 1, 1), test_start=date(2020, 1, 1))
    assert fold.validation[0] == date(2019, 1, 4) and fold.test[0] == date(2020, 1, 6)
    assert fold.train[1] == days[days.index(date(2019, 1, 4)) - 41]
    assert to_plain(fold)["test"] == ["2020-01-06", "2021-12-30"]


def test_too_few_days_say_so() -> None:
    with pytest.raises(FoldError, match=r"leave 0 for the train block of fold main, of 20 at least .* longer range"):
        cut(DAYS[:100])


@pytest.mark.parametrize("days", [DAYS[:300] + DAYS[299:400], DAYS[:300][::-1]])
def test_repeated_or_disordered_days_are_refused(days: list[date]) -> None:
    with pytest.raises(FoldError, match="ascending"):
        cut(days)


@given(start=st.integers(0, 300), length=st.integers(700, 1500), shift=st.integers(-200, 200))
@settings(deadline=None)
def test_a_fold_finds_its_days_in_every_panel_that_holds_them(start: int, length: int, shift: int) -> None:
    fold = cut(DAYS[start : start + 600])
    days = DAYS[max(0, start + shift) : start + shift + length]
    for block in ("train", "validation", "test"):
        first, last = fold.span(block)
        expected = [t for t, day in enumerate(days) if first <= day <= last]
        if expected:
            assert list(fold.places(days, block)) == expected
        else:
            with pytest.raises(FoldError, match=f"the {block} block of fold main .* holds none of the days at hand"):
                fold.places(days, block)


def test_blocks_that_lie_too_close_together_are_refused() -> None:
    days = DAYS[:600]
    fold = cut(days, purge_days=20, embargo_days=0)
    fold.check(days, (1, 5, 10, 20))
    with pytest.raises(FoldError, match="train and validation of fold main are 21 trading days apart"):
        fold.check(days, (1, 21))
    with pytest.raises(FoldError, match="no block 'all'"):
        fold.span("all")


def test_a_fold_is_a_small_file(tmp_path: Path) -> None:
    fold = replace(cut(DAYS[:600]), name="early")
    write_fold(tmp_path / "fold.json", fold)
    assert read_fold(tmp_path / "fold.json") == fold
    (tmp_path / "fold.json").write_text('{"name": "x", "train": ["2019-01-04"]}')
    with pytest.raises(FoldError, match="train must have 2 items"):
        read_fold(tmp_path / "fold.json")
    with pytest.raises(FoldError, match=r"nowhere.json does not exist"):
        read_fold(tmp_path / "nowhere.json")
