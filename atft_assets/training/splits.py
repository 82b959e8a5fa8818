"""The only splitter: blocks of the calendar, the same for every name, purged and embargoed.

A sample of day t is judged by prices up to h trading days later. Training therefore ends `purge` days before the
validation block, so that no training label reaches into it, and `embargo` days more, because features of neighbouring
days share most of their window; the same again between validation and test. The gap's days stay readable as history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

PURGE_DAYS = 20  # the longest label horizon
EMBARGO_DAYS = 20
TEST_SHARE = VALIDATION_SHARE = 0.15
MIN_BLOCK_DAYS = 20


class SplitError(ValueError):
    """The days do not suffice for the blocks that were asked for."""


@dataclass(frozen=True)
class Split:
    """Three blocks of the calendar, each as (first day, last day), both inclusive."""

    train: tuple[date, date]
    validation: tuple[date, date]
    test: tuple[date, date]
    purge_days: int = PURGE_DAYS
    embargo_days: int = EMBARGO_DAYS

    def as_json(self) -> dict[str, object]:
        """The form of `panel.json`."""
        blocks = {name: [str(day) for day in getattr(self, name)] for name in ("train", "validation", "test")}
        return {**blocks, "purge_days": self.purge_days, "embargo_days": self.embargo_days}


def split_by_date(
    days: Sequence[date],
    *,
    validation_start: date | None = None,
    test_start: date | None = None,
    purge_days: int = PURGE_DAYS,
    embargo_days: int = EMBARGO_DAYS,
) -> Split:
    """Cut trading days into train, validation and test.

    Args:
        days: the panel's trading days, ascending and distinct.
        validation_start, test_start: first days of the blocks (or the first trading day after them). By default test
            is the last 15 % of the days and validation has as many, the gap lying between them.
        purge_days: at least the longest label horizon.
        embargo_days: trading days left out beyond the purge.

    Raises:
        SplitError: the days are not ascending, or a block would have fewer than 20 days.
    """
    if any(later <= earlier for earlier, later in pairwise(days)):
        raise SplitError("the days of a panel must be ascending and distinct")
    if purge_days < 0 or embargo_days < 0:
        raise SplitError(f"purge ({purge_days}) and embargo ({embargo_days}) are counts of days")
    gap, total = purge_days + embargo_days, len(days)
    test_at = _place(days, test_start) if test_start else total - round(total * TEST_SHARE)
    if validation_start:
        validation_at = _place(days, validation_start)
    else:
        validation_at = test_at - gap - round(total * VALIDATION_SHARE)
    bounds = {
        "train": (0, validation_at - gap),
        "validation": (validation_at, test_at - gap),
        "test": (test_at, total),
    }
    for name, (start, stop) in bounds.items():
        if start < 0 or stop - start < MIN_BLOCK_DAYS:
            raise SplitError(
                f"{total} trading days ({days[0] if days else '-'} to {days[-1] if days else '-'}) leave "
                f"{max(stop - start, 0)} for the {name} block, of {MIN_BLOCK_DAYS} at least (between blocks {gap} are "
                "purged and embargoed): take a longer range of dates, or other split dates in the panel's config"
            )
    train, validation, test = ((days[start], days[stop - 1]) for start, stop in bounds.values())
    return Split(train, validation, test, purge_days, embargo_days)


def _place(days: Sequence[date], day: date) -> int:
    return sum(d < day for d in days)
