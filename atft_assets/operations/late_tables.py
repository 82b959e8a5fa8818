"""The sensor `late_tables`: tells of a table whose newest records are not there on the evening on which they are due.

Only tables of which the service states how long it takes after the days that they describe. One that is late by a day
is told, once, and not failed: nothing of a day is a possible answer of such a table, it is asked for again every
evening, and features go on with what is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from atft_assets.calendar import TOKYO, previous_trading_day, shift_trading_days, trading_days
from atft_assets.jquants.availability import clock_on
from atft_assets.operations.alerts import Alert, Alerts, Severity
from atft_assets.operations.freshness import FRESH_BY
from atft_assets.operations.schedules import live
from atft_assets.raw import Source, investor_types, margin_interest
from atft_assets.raw.margin_interest import DAILY_SINCE, closes_week
from atft_assets.settings import Settings
from atft_assets.store import Store


@dataclass(frozen=True)
class Cadence:
    """How long after the days that it describes a table comes.

    Attributes:
        column: holds the last day that a record describes; a date, or ISO text.
        after: trading days from that day to its records.
        weekly: a record describes a week, not a day.
        fewest: sessions of a week of which there are records.
        since, before: the days that it describes so, the second not included.
    """

    source: Source
    column: str
    after: int
    weekly: bool = False
    fewest: int = 1
    since: date = date.min
    before: date = date.max

    def due(self, day: date) -> datetime:
        """The instant by which the evening's run must have brought the records of a trading day or the week it ends."""
        return clock_on(shift_trading_days(day, self.after), f"{FRESH_BY}:00")

    def newest_due(self, now: datetime) -> date | None:
        """The newest trading day, or the last one of a week, whose records are due; None where it describes none."""
        today = now.astimezone(TOKYO).date()
        day = previous_trading_day(min(today + timedelta(days=1), self.before))
        while day >= self.since:
            if self.due(day) <= now and self.describes(day):
                return day
            day = previous_trading_day(day)
        return None

    def describes(self, day: date) -> bool:
        """Whether there are records of a trading day, or of the week that it ends."""
        monday = day - timedelta(days=day.weekday())
        return not self.weekly or (closes_week(day) and len(trading_days(monday, day)) >= self.fewest)

    def reached(self, newest: date, due: date) -> bool:
        """Whether records up to `newest` hold those that are due; a week is told apart by its Monday."""
        return newest >= (due - timedelta(days=due.weekday()) if self.weekly else due)


CADENCES = (
    Cadence(investor_types.SOURCE, "EnDate", 4, weekly=True),
    Cadence(margin_interest.SOURCE, "date", 2, weekly=True, fewest=3, before=DAILY_SINCE),
    Cadence(margin_interest.SOURCE, "date", 1, since=DAILY_SINCE),
)


def newest_described(store: Store, cadence: Cadence) -> date | None:
    """The newest day that the published records describe; None where there are none in the last months."""
    table = store.table("raw", cadence.source.name)
    keys = table.keys()[-2:]  # the newest month may not have a record yet
    if not keys:
        return None
    days = table.read(keys, columns=[cadence.column])[cadence.column]
    newest = (days if days.dtype == pl.Date else days.str.to_date("%Y-%m-%d")).max()
    assert newest is None or isinstance(newest, date)
    return newest


def late_tables(settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dg.SensorDefinition:
    """One alert for each table and each day, or week, whose records are not there in the evening."""

    @dg.sensor(
        name="late_tables",
        minimum_interval_seconds=600,
        default_status=dg.DefaultSensorStatus.RUNNING if live(settings) else dg.DefaultSensorStatus.STOPPED,
        description="Tables that come some days after what they describe: told when the newest records are not there.",
    )
    def late_tables(context: dg.SensorEvaluationContext, alerts: Alerts, store: Store) -> dg.SensorResult:
        if settings.end is not None:
            return dg.SensorResult(skip_reason=f"the data end on {settings.end} by intention (ATFT_END)")
        now, told = clock(), {}
        for cadence in CADENCES:
            newest = newest_described(store, cadence)
            due = cadence.newest_due(now)
            if newest is not None and due is not None and not cadence.reached(newest, due):
                alerts.send(late(cadence, newest, due))
                told[cadence.source.name] = newest
        return dg.SensorResult(skip_reason=_summary(told))

    return late_tables


def late(cadence: Cadence, newest: date, due: date) -> Alert:
    """The alert of a table that ends on `newest`, when `due` should be there."""
    name, what = cadence.source.name, f"the week of {due}" if cadence.weekly else f"{due}"
    return Alert(
        kind="late_table",
        fingerprint=f"late_table/{name}/{due}",
        what=f"{name} has nothing of {what} yet; its newest records are of {newest}",
        where={"table": name, "expected": str(due), "newest": str(newest)},
        why=f"records were due by {cadence.due(due):%Y-%m-%d %H:%M} in Tokyo; after holidays the service takes longer",
        todo="Nothing, while it is late by a day or two: every evening asks again, and features use what is known. If "
        "it stays so, see the newest run of the job nightly_refresh and the service's notices.",
        severity=Severity.INFO,
        repeat_after=None,
    )


def _summary(told: Mapping[str, date]) -> str:
    return ", ".join(f"{name} ends on {day}: told" for name, day in told.items()) or "no table is late"
