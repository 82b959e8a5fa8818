"""The sensor `data_freshness`: whether the evening's quotes are there, by the exchange's calendar."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import dagster as dg

from atft_assets.calendar import SYSTEM_HALTS, TOKYO, previous_trading_day, trading_days
from atft_assets.groups import MONTHLY
from atft_assets.operations.alerts import Alert, Alerts, Severity
from atft_assets.operations.schedules import live, published_months
from atft_assets.settings import Settings
from atft_assets.store import Store

FRESH_BY = 20  # o'clock in Tokyo; the refresh begins at 18:30


def expected_through(now: datetime) -> date:
    """The trading day that the daily quotes must have reached: today's from 20:00 in Tokyo, else the one before."""
    there = now.astimezone(TOKYO)
    day = there.date()
    traded = [d for d in trading_days(day, day) if d not in SYSTEM_HALTS]
    if traded and there.hour >= FRESH_BY:
        return day
    before = previous_trading_day(day)
    while before in SYSTEM_HALTS:
        before = previous_trading_day(before)
    return before


def data_freshness(
    settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """One alert for each trading day whose quotes are not there in the evening."""

    @dg.sensor(
        name="data_freshness",
        minimum_interval_seconds=600,
        default_status=dg.DefaultSensorStatus.RUNNING if live(settings) else dg.DefaultSensorStatus.STOPPED,
        description="On trading evenings from 20:00 in Tokyo the newest daily quotes must be today's.",
    )
    def data_freshness(context: dg.SensorEvaluationContext, alerts: Alerts, store: Store) -> dg.SensorResult:
        if settings.end is not None:
            return dg.SensorResult(skip_reason=f"the data end on {settings.end} by intention (ATFT_END)")
        through = max(published_months(store).values(), default=None)
        if through is None:
            return dg.SensorResult(skip_reason="no daily quotes yet: run `make road` once")
        expected = expected_through(clock())
        if through >= expected:
            return dg.SensorResult(skip_reason=f"daily quotes reach {through}")
        alerts.send(
            Alert(
                kind="data_freshness",
                fingerprint=f"data_freshness/{expected}",
                what=f"daily quotes end on {through}, {len(trading_days(through, expected)) - 1} trading day(s) behind",
                where={"table": "daily_quotes", "partition": f"{expected:%Y-%m}", "expected": str(expected)},
                why=f"the quotes of {expected} were not published by {FRESH_BY}:00 in Tokyo",
                todo="See the runs of the job nightly_refresh and whether its schedule is on; then run `dagster asset "
                f"materialize --select '{MONTHLY}' --partition {expected:%Y-%m}`.",
                severity=Severity.WARNING,
                repeat_after=None,
            )
        )
        return dg.SensorResult(skip_reason=f"daily quotes end on {through}, expected {expected}: told")

    return data_freshness
