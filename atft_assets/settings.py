"""What a person may export: the only module that reads the environment.

Every setting has a default; with nothing exported the platform runs on the embedded sandbox. The key itself is not held
here: the J-Quants resource takes it through `dg.EnvVar`, so that it never stands in a config, a log or a repr.
"""

import os
from collections.abc import Mapping
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

JQUANTS_URL = "https://api.jquants.com/v2"
DEMO_START, DEMO_END = date(2022, 1, 4), date(2024, 12, 30)


class Plan(StrEnum):
    """J-Quants subscription plans, cheapest first (https://jpx-jquants.com, data plans)."""

    FREE = "free"
    LIGHT = "light"
    STANDARD = "standard"
    PREMIUM = "premium"


HISTORY_YEARS = {Plan.FREE: 2, Plan.LIGHT: 5, Plan.STANDARD: 10, Plan.PREMIUM: 20}
FREE_DELAY = timedelta(weeks=12)


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the variable, its value and what is accepted."""


class Settings(BaseModel):
    """The settings of one process, read once from the environment.

    Attributes:
        base_url: where J-Quants answers; None means the sandbox that a run starts itself.
        plan: rate limit, history window and gated endpoints.
        data_root: absolute path or bucket URL of tables, panels and runs.
        start, end: first and last date of the months that exist as partitions; `end` None means "up to today".
        alert_urls: where alerts go, in Apprise's notation; none means the alert log alone.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str | None
    plan: Plan
    data_root: str
    start: date
    end: date | None
    alert_urls: tuple[str, ...] = ()

    @property
    def sandbox(self) -> bool:
        """True when neither a key nor a base URL was exported."""
        return self.base_url is None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, today: date | None = None) -> "Settings":
        """Read the settings; an empty variable counts as absent.

        Raises:
            SettingsError: a variable holds what cannot be used.
        """
        given = {k: v.strip() for k, v in (os.environ if environ is None else environ).items() if v.strip()}
        today = today or date.today()
        base_url = given.get("JQUANTS_BASE_URL") or (JQUANTS_URL if "JQUANTS_API_KEY" in given else None)
        sandbox = base_url is None
        plan = _plan(given.get("JQUANTS_PLAN"), default=Plan.STANDARD if sandbox else Plan.LIGHT)
        end = _date(given, "ATFT_END") or (DEMO_END if sandbox else None)
        if plan is Plan.FREE and not sandbox:
            end = min(end or today, today - FREE_DELAY)
        start = _date(given, "ATFT_START") or (DEMO_START if sandbox else _window_start(plan, today))
        if end and start > end:
            raise SettingsError(f"ATFT_START ({start}) is after ATFT_END ({end}): exchange them or drop one")
        return cls(
            base_url=base_url.rstrip("/") if base_url else None,
            plan=plan,
            data_root=_root(given.get("ATFT_DATA", "data")),
            start=start,
            end=end,
            alert_urls=tuple(given.get("ATFT_ALERT_URLS", "").split()),
        )


def _plan(text: str | None, default: Plan) -> Plan:
    if text is None:
        return default
    try:
        return Plan(text.lower())
    except ValueError:
        raise SettingsError(f"JQUANTS_PLAN is {text!r}: use one of {', '.join(Plan)}") from None


def _date(given: Mapping[str, str], name: str) -> date | None:
    if name not in given:
        return None
    try:
        return date.fromisoformat(given[name])
    except ValueError:
        raise SettingsError(f"{name} is {given[name]!r}: use YYYY-MM-DD") from None


def plan_window(plan: Plan, today: date) -> tuple[date, date | None]:
    """First and last date that a plan covers today, in calendar days; None where it reaches to the newest data.

    Free ends twelve weeks ago and begins two years before that (https://jpx-jquants.com, data plans).
    """
    last = today - FREE_DELAY if plan is Plan.FREE else None
    return years_before(last or today, HISTORY_YEARS[plan]), last


def years_before(day: date, years: int) -> date:
    """The same calendar day some years earlier; 28 February for a 29th that the year lacks."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


def _window_start(plan: Plan, today: date) -> date:
    """First of the month after the plan's rolling left edge, so that the whole first month is covered."""
    edge, _ = plan_window(plan, today)
    return (edge.replace(day=1) + timedelta(days=32)).replace(day=1)


def _root(text: str) -> str:
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().resolve())
