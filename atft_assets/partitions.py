"""Month partitions and the look-back of features.

Months, not days: every partition event costs Dagster about a tenth of a second in SQLite, and ten years are 2,450 days.
"""

from calendar import monthrange
from collections.abc import Mapping
from datetime import timedelta

import dagster as dg

from atft_assets.calendar import months_between
from atft_assets.settings import Settings

MONTH_FORMAT = "%Y-%m"

# The longest feature window is 252 trading days, at most thirteen calendar months before the month itself.
LOOKBACK_MONTHS = 13

# J-Quants corrects within days: a raw month asks again for its last trading days that are out, and for as many days
# after the turn of a month these lie in the month before, so the nightly refresh covers it too.
CORRECTION_DAYS = 5


def months(settings: Settings) -> dg.MonthlyPartitionsDefinition:
    """The months of the settings' range; without an end date the current month exists as soon as it begins."""
    end = settings.end
    if end is not None:  # the partition of a month exists only if its end does not pass `end_date`
        end = end.replace(day=monthrange(end.year, end.month)[1]) + timedelta(days=1)
    return dg.MonthlyPartitionsDefinition(
        start_date=settings.start.replace(day=1).strftime(MONTH_FORMAT),
        end_date=end.strftime(MONTH_FORMAT) if end else None,
        timezone="Asia/Tokyo",
        fmt=MONTH_FORMAT,
        end_offset=0 if end else 1,
    )


def look_back(months: int | None = LOOKBACK_MONTHS) -> dg.PartitionMapping | None:
    """A month reads itself and so many months before it; months before the first do not exist.

    None: the reader has no months and reads all of them, which is what Dagster takes the lack of a mapping for.
    """
    if months is None:
        return None
    return dg.TimeWindowPartitionMapping(start_offset=-months, allow_nonexistent_upstream_partitions=True)


def months_of_tags(tags: Mapping[str, str]) -> list[str]:
    """The months of a run, from its tags; none for a run without partitions."""
    if one := tags.get("dagster/partition"):
        return [one]
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    return months_between(first, last) if first and last else []


def runs_of(keys: list[str], size: int) -> list[str]:
    """Partition ranges `first...last` of at most `size` months each, as the CLI's `--partition-range` takes them."""
    return [f"{keys[i]}...{keys[min(i + size, len(keys)) - 1]}" for i in range(0, len(keys), size)]
