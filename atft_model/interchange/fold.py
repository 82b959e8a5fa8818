"""A fold: three blocks of the calendar, the same for every name, purged and embargoed. The only splitter.

A sample of day t is judged by prices up to h trading days later. Training therefore ends `purge` days before the
validation block, so that no training label reaches into it, and `embargo` days more, because features of neighbouring
days share most of their window; the same again between validation and test. The gap's days stay readable as history. A
fold is dates and nothing else: any panel that holds the days serves it.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from atft_model.interchange.errors import FoldError, damaged
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.records import entry, from_plain, read_json, write_json

Block = Literal["train", "validation", "test"]
BLOCKS: tuple[Block, ...] = get_args(Block)

MAIN = "main"  # the fold of train_phase0 … train_phase3
PURGE_DAYS = max(HORIZONS)
EMBARGO_DAYS = 20
TEST_SHARE = VALIDATION_SHARE = 0.15
LARGEST_SHARE = 0.3  # of the days for validation, however many are asked for
VALIDATION_DAYS = 245  # a year in Tokyo: on less, a phase's gain on the one before is seldom told from chance
MIN_BLOCK_DAYS = 20
LONGEST_CLOSURE = timedelta(days=10)  # the exchange never rested longer: Golden Week of 2019

Span = tuple[date, date]  # first and last day, both inclusive


@dataclass(frozen=True)
class Fold:
    """Three blocks of the calendar, each as (first day, last day), both inclusive."""

    name: str = entry("Name, as in `runs/<fold>/`")
    train: Span = entry("First and last day that is learned from")
    validation: Span = entry("First and last day by which epochs are chosen and phases compared")
    test: Span = entry("First and last day that is scored once, at the end")
    purge_days: int = entry("Trading days left out between two blocks: the longest label", PURGE_DAYS)
    embargo_days: int = entry("Trading days left out beyond the purge", EMBARGO_DAYS)

    def span(self, block: str) -> Span:
        """First and last day of a block.

        Raises:
            FoldError: there is no such block.
        """
        if block not in BLOCKS:
            raise FoldError(f"a fold has no block {block!r}; choose one of {', '.join(BLOCKS)}")
        span: Span = getattr(self, block)
        return span

    def places(self, days: Sequence[date], block: str) -> range:
        """Places of a block's days among ascending days (of a panel).

        Raises:
            FoldError: none of the days lies in the block.
        """
        return places(days, *self.span(block), f"the {block} block of fold {self.name}")

    def check(self, days: Sequence[date], horizons: Sequence[int]) -> None:
        """Refuse blocks that lie too close together: no label of a block may reach into the next one.

        Raises:
            FoldError: a block holds none of the days, or the gap after it is not longer than the longest horizon.
        """
        longest = max(horizons)
        found = [(block, self.places(days, block)) for block in BLOCKS]
        for (before, earlier), (after, later) in pairwise(found):
            if later.start - (earlier.stop - 1) <= longest:
                raise FoldError(
                    f"the blocks {before} and {after} of fold {self.name} are {later.start - earlier.stop + 1} trading "
                    f"days apart; the longest label needs more than {longest}: cut the fold with purge and embargo"
                )


def places(days: Sequence[date], first: date, last: date, what: str) -> range:
    """Places of the days from `first` to `last`, both inclusive, among ascending days.

    Raises:
        FoldError: there are none; `what` says of what.
    """
    found = range(bisect.bisect_left(days, first), bisect.bisect_right(days, last))
    if not found:
        held = f"{days[0]} to {days[-1]}" if days else "no day"
        raise FoldError(f"{what} ({first} to {last}) holds none of the days at hand ({held})")
    return found


def cut(
    days: Sequence[date],
    name: str = MAIN,
    *,
    validation_start: date | None = None,
    validation_days: int | None = None,
    test_start: date | None = None,
    least_validation_days: int = 0,
    train_years: int | None = None,
    purge_days: int = PURGE_DAYS,
    embargo_days: int = EMBARGO_DAYS,
) -> Fold:
    """Cut trading days into train, validation and test.

    Args:
        days: trading days, ascending and distinct.
        validation_start, test_start: first days of the blocks (or the first trading day after them). By default test
            is the last 15 % of the days and validation has as many, the gap lying between them.
        validation_days: length of the validation block, in place of its first day.
        least_validation_days: with neither, validation has so many days at least, as far as 30 % of all days go.
        train_years: calendar years of the train block; by default it begins with the days.
        purge_days: at least the longest label horizon.
        embargo_days: trading days left out beyond the purge.

    Raises:
        FoldError: the days are not ascending, a block would have fewer than 20 days, or the days begin after the train
            block should.
    """
    if any(later <= earlier for earlier, later in pairwise(days)):
        raise FoldError("the days of a fold must be ascending and distinct")
    if purge_days < 0 or embargo_days < 0:
        raise FoldError(f"purge ({purge_days}) and embargo ({embargo_days}) are counts of days")
    gap, total = purge_days + embargo_days, len(days)
    test_at = bisect.bisect_left(days, test_start) if test_start else total - round(total * TEST_SHARE)
    if validation_start:
        validation_at = bisect.bisect_left(days, validation_start)
    else:
        length = validation_days
        if length is None:
            least = min(least_validation_days, round(total * LARGEST_SHARE))
            length = max(least, round(total * VALIDATION_SHARE))
        validation_at = test_at - gap - length
    train_at = 0
    if train_years is not None and 0 < validation_at - gap <= total:
        train_at = _years_back(days, validation_at - gap, train_years, name)
    bounds: dict[Block, tuple[int, int]] = {
        "train": (train_at, validation_at - gap),
        "validation": (validation_at, test_at - gap),
        "test": (test_at, total),
    }
    for block, (start, stop) in bounds.items():
        if start < 0 or stop - start < MIN_BLOCK_DAYS:
            raise FoldError(
                f"{total} trading days ({days[0] if days else '-'} to {days[-1] if days else '-'}) leave "
                f"{max(stop - start, 0)} for the {block} block of fold {name}, of {MIN_BLOCK_DAYS} at least (between "
                f"blocks {gap} are purged and embargoed): take a longer range of dates, or other dates of the fold"
            )
    spans = {block: (days[start], days[stop - 1]) for block, (start, stop) in bounds.items()}
    return Fold(name, **spans, purge_days=purge_days, embargo_days=embargo_days)


def _years_back(days: Sequence[date], stop: int, years: int, name: str) -> int:
    """Place of the first of so many calendar years of days that end before the place `stop`."""
    last = days[stop - 1]
    first = last.replace(year=last.year - years, day=min(last.day, 28)) + timedelta(days=1)
    if days[0] > first + LONGEST_CLOSURE:
        raise FoldError(
            f"the {years} training years of fold {name} begin on {first}, the days at hand on {days[0]}: take fewer "
            "years, an expanding train block, or a longer range of dates"
        )
    return bisect.bisect_left(days, first)


def read_fold(path: Path) -> Fold:
    """The fold in a file.

    Raises:
        FoldError: it is missing or malformed.
    """
    document = read_json(path, "give a fold file", FoldError)
    try:
        return from_plain(Fold, document, str(path), FoldError)
    except FoldError as error:
        raise FoldError(damaged(path, error)) from error


def write_fold(path: Path, fold: Fold) -> None:
    """Write `fold.json`."""
    write_json(path, fold)
