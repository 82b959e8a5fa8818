"""What each subscription plan allows: requests a minute, endpoints, and the window of dates, refused before asking."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from atft_assets.jquants.endpoint import Endpoint
from atft_assets.jquants.errors import OutsideWindow, PlanGate
from atft_assets.settings import Plan, plan_window

# Requests in a rolling minute, https://jpx-jquants.com/en/spec/rate-limits. The statement endpoints carry a limit of
# their own on every plan; the add-ons have theirs besides the plan's.
REQUESTS_PER_MINUTE = {Plan.FREE: 5, Plan.LIGHT: 60, Plan.STANDARD: 120, Plan.PREMIUM: 500}
BUCKET_LIMITS = {"statements": 60, "minute": 60, "tdnet": 100}

# The service punishes an overshoot with minutes of silence, and its clock is not ours: stay below.
USED_SHARE = 0.9
# ... and where less was refused than the plan promises, below that: 429 was seen on Premium at 428 a minute
REFUSED_AT = {Plan.PREMIUM: 428}

_RANK = {plan: rank for rank, plan in enumerate(Plan)}


@dataclass(frozen=True)
class Window:
    """The dates a plan covers, both inclusive; `last` is None when there is no delay."""

    first: date
    last: date | None

    def __contains__(self, day: date) -> bool:
        return self.first <= day and (self.last is None or day <= self.last)

    def __str__(self) -> str:
        return f"{self.first} ~ {self.last or 'today'}"


def window(plan: Plan, today: date) -> Window:
    """The rolling window of a plan, in calendar days: Free ends twelve weeks ago and begins two years before that."""
    return Window(*plan_window(plan, today))


def own_rate(plan: Plan) -> float:
    """Requests a minute that a client of a plan makes."""
    return USED_SHARE * min(REQUESTS_PER_MINUTE[plan], REFUSED_AT.get(plan, REQUESTS_PER_MINUTE[plan]))


def covers(plan: Plan, needed: Plan) -> bool:
    """Whether a plan has all that a smaller or equal one has."""
    return _RANK[plan] >= _RANK[needed]


def includes(plan: Plan, endpoint: Endpoint) -> bool:
    """Whether the plan includes the endpoint; an add-on is taken as bought."""
    return covers(plan, endpoint.plan)


def require_plan(plan: Plan, endpoint: Endpoint) -> None:
    """Refuse an endpoint that the plan lacks, before the first request.

    Raises:
        PlanGate: the endpoint needs a larger plan.
    """
    if not includes(plan, endpoint):
        raise PlanGate(
            endpoint.path, {}, f"the endpoint needs the plan {endpoint.plan} or larger, JQUANTS_PLAN is {plan}"
        )


def require_window(plan: Plan, endpoint: Endpoint, days: Collection[date], today: date) -> None:
    """Refuse dates that the plan does not cover, before the first request.

    Raises:
        OutsideWindow: some of `days` lie outside.
    """
    covered = window(plan, today)
    outside = sorted(day for day in days if day not in covered)
    if outside:
        span = f"{outside[0]}" + (f" … {outside[-1]} ({len(outside)} days)" if len(outside) > 1 else "")
        what = f"the plan {plan} covers {covered}, but {span} would be needed; nothing was requested"
        raise OutsideWindow(endpoint.path, {}, what, covered.first, covered.last)
