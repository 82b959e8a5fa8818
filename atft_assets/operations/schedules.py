"""Schedules, driven by the exchange's calendar.

Cron knows weekdays, not Tokyo's holidays. So cron only wakes the schedule up and the calendar decides: skip and say
why, or ask for the months that the evening may change.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta

import dagster as dg

from atft_assets.calendar import (
    SYSTEM_HALTS,
    TOKYO,
    days_of_month,
    is_trading_day,
    month_key,
    months_between,
    next_trading_day,
    shift_month,
)
from atft_assets.dagster_private import UnresolvedAssetJobDefinition
from atft_assets.partitions import CORRECTION_DAYS, months
from atft_assets.settings import JQUANTS_URL, Settings
from atft_assets.store import Store

# How many unfinished months a refresh makes up for after a pause; a longer pause is a case for `make road`.
MONTHS_MADE_UP = 3

DAILY_QUOTES = ("raw", "daily_quotes")


def live(settings: Settings) -> bool:
    """Whether the data grow every evening: the real service, and no end date."""
    return settings.base_url == JQUANTS_URL and settings.end is None


def months_due(day: date, published: Mapping[str, date]) -> list[str]:
    """Months that the refresh of a trading day covers, consecutive, the day's own month last.

    Args:
        day: a trading day.
        published: newest date of each published month of daily quotes.
    """
    current = month_key(day)
    first = shift_month(current, -1) if day in days_of_month(current)[:CORRECTION_DAYS] else current
    newest = max(published, default=current)
    for key in months_between(shift_month(current, -MONTHS_MADE_UP), shift_month(current, -1)):
        last = max(d for d in days_of_month(key) if d not in SYSTEM_HALTS)
        unfinished = published[key] < last if key in published else key > newest
        if unfinished:
            return months_between(min(first, key), current)
    return months_between(first, current)


def published_months(store: Store) -> dict[str, date]:
    """Newest date of each published month of daily quotes."""
    entries = store.table(*DAILY_QUOTES).manifest().entries
    return {key: entry.through_date for key, entry in entries.items() if entry.through_date}


def nightly_refresh_schedule(settings: Settings, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """18:30 in Tokyo on trading days: one run over the day's month, and the month before where it may still change.

    It is on by itself only where data grow every evening (`live`); in a sandbox it waits for a person to start it.
    """

    @dg.schedule(
        name="nightly_refresh",
        cron_schedule="30 18 * * 1-5",
        execution_timezone=TOKYO.key,
        job=job,
        default_status=_on_where_data_grow(settings),
        description="On trading evenings; skips the exchange's holidays. Starts no training.",
    )
    def nightly_refresh(context: dg.ScheduleEvaluationContext, store: Store) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.astimezone(TOKYO).date()
        return _refresh(settings, day, day, months_due(day, published_months(store)))

    return nightly_refresh


def night_refresh_schedule(settings: Settings, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """03:30 in Tokyo after a trading day: one run over the months that the evening before has covered.

    On the first of a month that month is there as well: a list of the next trading day may lie in it.
    """

    @dg.schedule(
        name="night_refresh",
        cron_schedule="30 3 * * 2-6",
        execution_timezone=TOKYO.key,
        job=job,
        default_status=_on_where_data_grow(settings),
        description="In the night after a trading day, the tables of which something may come after the evening.",
    )
    def night_refresh(context: dg.ScheduleEvaluationContext, store: Store) -> dg.RunRequest | dg.SkipReason:
        today = context.scheduled_execution_time.astimezone(TOKYO).date()
        day = today - timedelta(days=1)
        due = months_due(day, published_months(store)) if is_trading_day(day) else []
        return _refresh(settings, day, today, [*due, *({month_key(today)} - set(due))])

    return night_refresh


def _on_where_data_grow(settings: Settings) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if live(settings) else dg.DefaultScheduleStatus.STOPPED


def _refresh(settings: Settings, day: date, today: date, due: Sequence[str]) -> dg.RunRequest | dg.SkipReason:
    """One run for a trading day over those of the consecutive months `due` that exist today, or why there is none."""
    if not is_trading_day(day):
        return dg.SkipReason(
            f"{day:%a %Y-%m-%d}: the Tokyo Stock Exchange is closed; next trading day {next_trading_day(day)}"
        )
    noon = datetime.combine(today, time(12), TOKYO)
    existing = set(months(settings).get_partition_keys(current_time=noon))
    due = [key for key in due if key in existing]
    if month_key(day) not in due:
        return dg.SkipReason(
            f"{day}: the month {month_key(day)} lies outside {settings.start} … {settings.end or 'today'}"
            " (ATFT_START, ATFT_END), so there is nothing to refresh"
        )
    tags = {"atft/trading_day": day.isoformat()}
    if len(due) == 1:
        return dg.RunRequest(run_key=day.isoformat(), partition_key=due[0], tags=tags)
    # One run over the range, not one run a month: features of the later month read the earlier one.
    span = {
        "dagster/asset_partition_range_start": due[0],
        "dagster/asset_partition_range_end": due[-1],
    }
    return dg.RunRequest(run_key=day.isoformat(), tags=tags | span)
