"""Month partitions and the look-back of features.

Months, not days: every partition event costs Dagster about a tenth of a second in SQLite, and ten years are 2,450 days.
"""

from calendar import monthrange
from datetime import timedelta

import dagster as dg

from atft_assets.settings import Settings

MONTH_FORMAT = "%Y-%m"

# The longest feature window is 252 trading days, at most thirteen calendar months before the month itself.
LOOKBACK_MONTHS = 13


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


def look_back() -> dg.TimeWindowPartitionMapping:
    """A month reads itself and the months that its longest window reaches; months before the first do not exist."""
    return dg.TimeWindowPartitionMapping(start_offset=-LOOKBACK_MONTHS, allow_nonexistent_upstream_partitions=True)


def runs_of(keys: list[str], size: int) -> list[str]:
    """Partition ranges `first...last` of at most `size` months each, as the CLI's `--partition-range` takes them."""
    return [f"{keys[i]}...{keys[min(i + size, len(keys)) - 1]}" for i in range(0, len(keys), size)]


if __name__ == "__main__":  # for `make road`
    import sys

    print("\n".join(runs_of(list(months(Settings.from_env()).get_partition_keys()), int(sys.argv[1]))))
