"""What a subscription may ask for: plans, windows of dates, requests a minute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from atft_assets.settings import Plan

REQUESTS_A_MINUTE = {Plan.FREE: 5, Plan.LIGHT: 60, Plan.STANDARD: 120, Plan.PREMIUM: 500}
PENALTY_SECONDS = 300.0
WINDOW_SECONDS = 60.0
NOT_IN_PLAN = (
    "This API is not available on your subscription. If you want more data, please check other plans: "
    "https://jpx-jquants.com/#dataset"
)

_ORDER = list(Plan)

# Every documented endpoint and the cheapest plan that has it. None: an add-on, or a data set that the sandbox has no
# data for; it answers as to a subscription without it.
SERVED: dict[str, Plan] = {
    "/equities/master": Plan.FREE,
    "/equities/bars/daily": Plan.FREE,
    "/equities/bars/daily/am": Plan.PREMIUM,
    "/indices/bars/daily/topix": Plan.LIGHT,
    "/indices/bars/daily": Plan.STANDARD,
    "/markets/calendar": Plan.FREE,
    "/equities/bars/minute": Plan.LIGHT,  # an add-on, taken as bought
    "/equities/earnings-calendar": Plan.FREE,
    "/equities/investor-types": Plan.LIGHT,
    "/equities/valuation": Plan.STANDARD,
    "/fins/summary": Plan.FREE,
    "/fins/details": Plan.PREMIUM,
    "/fins/dividend": Plan.PREMIUM,
    "/fins/earnings-date": Plan.FREE,
    "/markets/breakdown": Plan.PREMIUM,
    "/markets/margin-alert": Plan.STANDARD,
    "/markets/margin-interest": Plan.STANDARD,
    "/markets/short-ratio": Plan.STANDARD,
    "/markets/short-sale-report": Plan.STANDARD,
    "/derivatives/bars/daily/futures": Plan.PREMIUM,
    "/derivatives/bars/daily/options": Plan.PREMIUM,
    "/derivatives/bars/daily/options/225": Plan.STANDARD,
    "/bulk/list": Plan.FREE,  # but on Free the calendar is the only file
    "/bulk/get": Plan.FREE,
}
NOT_SUBSCRIBED = frozenset(
    {
        "/edinet/cross-shareholdings", "/edinet/large-volume-shareholders",
        "/edinet/major-shareholders", "/td/bulk", "/td/files", "/td/list",
    }
)  # fmt: skip


def includes(plan: Plan, path: str) -> bool:
    """Whether the plan has this endpoint."""
    return path in SERVED and _ORDER.index(plan) >= _ORDER.index(SERVED[path])


class RateLimiter:
    """Requests of one key in a sliding minute; twice the limit within a minute blocks the key for five.

    Refused requests count, so a client that storms on locks itself out.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        if limit < 1:
            raise ValueError(f"the limit is {limit}: use 1 or more requests a minute")
        self.limit, self.clock = limit, clock
        self.blocked_until = float("-inf")
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def allow(self) -> bool:
        """Count one request; False when it must be answered 429."""
        with self._lock:
            now = self.clock()
            if now < self.blocked_until:
                return False
            while self._times and self._times[0] <= now - WINDOW_SECONDS:
                self._times.popleft()
            self._times.append(now)
            if len(self._times) >= 2 * self.limit:
                self.blocked_until = now + PENALTY_SECONDS
                self._times.clear()
                return False
            return len(self._times) <= self.limit
