"""Rate limit: a token bucket that all threads of a client share, and the cool-down after a 429."""

import random
import threading
import time
from collections.abc import Callable

from atft_assets.jquants.plans import BUCKET_LIMITS, USED_SHARE, own_rate
from atft_assets.settings import Plan

Clock = Callable[[], float]
Sleep = Callable[[float], None]


class TokenBucket:
    """At most `per_minute` requests in any rolling minute, whatever the number of threads.

    A bucket of capacity b refilled at rate r lets b + 60 r requests through in its worst minute; both are chosen so
    that this sum is `per_minute`.

    Args:
        per_minute: requests in a rolling minute; None for no limit (freezes still hold).
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(self, per_minute: float | None, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep):
        if per_minute is not None and per_minute <= 1:
            raise ValueError(f"per_minute must be above 1, not {per_minute}")
        self.per_minute = per_minute
        self.capacity = 1.0 if per_minute is None else max(1.0, 0.05 * per_minute)
        self.rate = None if per_minute is None else (per_minute - self.capacity) / 60
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens, self._filled_at = self.capacity, clock()
        self._frozen_until = self._struck_at = float("-inf")
        self._strikes = 0

    def acquire(self, sleep: Sleep | None = None) -> float:
        """Wait for a token and take it.

        Args:
            sleep: instead of the bucket's own (a caller that can be cancelled raises from it).

        Returns:
            The instant (of the clock) at which the token was taken.
        """
        while True:
            with self._lock:
                now = self._clock()
                wait = self._frozen_until - now
                if wait <= 0:
                    if self.rate is None:
                        return now
                    self._tokens = min(self.capacity, self._tokens + (now - self._filled_at) * self.rate)
                    self._filled_at = now
                    # the tolerance keeps rounding from asking for a sleep too short to move the clock
                    if self._tokens >= 1 - 1e-9:
                        self._tokens -= 1
                        return now
                    wait = (1 - self._tokens) / self.rate
            (sleep or self._sleep)(wait)

    def freeze(self, seconds: float) -> None:
        """Let nobody through for so long; a longer freeze that is already on stays."""
        with self._lock:
            self._freeze(seconds)

    def _freeze(self, seconds: float) -> None:
        now = self._clock()
        self._frozen_until = max(self._frozen_until, now + seconds)
        # nothing accrues during a freeze: coming back with a full bucket would begin with a burst
        self._tokens, self._filled_at = min(self._tokens, 1.0), self._frozen_until

    def strike(self, sent_at: float, first: tuple[float, float], again: float) -> float:
        """Cool down after a 429.

        Several requests in flight may be refused together; those that were sent before the freeze began tell nothing
        new and add no strike.

        Args:
            sent_at: when the refused request got its token.
            first: least and most seconds of the first freeze; drawn, so that programs do not come back together.
            again: seconds of the next ones, until a request succeeds.

        Returns:
            Seconds that the bucket is frozen from now.
        """
        with self._lock:
            now = self._clock()
            if sent_at > self._struck_at:
                self._strikes += 1
                self._freeze(random.uniform(*first) if self._strikes == 1 else again)
                self._struck_at = now
            return max(0.0, self._frozen_until - now)

    def succeed(self, sent_at: float) -> None:
        """A request went through: the next 429 counts as a first one."""
        with self._lock:
            if sent_at > self._struck_at:
                self._strikes = 0


def buckets(plan: Plan, requests_per_minute: float | None, clock: Clock) -> dict[str, TokenBucket]:
    """The buckets of a client by name: its plan's, and those of the endpoints with limits of their own.

    Args:
        requests_per_minute: of every bucket, instead of its own rate; 0 for none.
    """

    rates = {"plan": own_rate(plan)} | {name: USED_SHARE * limit for name, limit in BUCKET_LIMITS.items()}
    if requests_per_minute is not None:
        return {name: TokenBucket(requests_per_minute or None, clock=clock) for name in rates}
    return {name: TokenBucket(rate, clock=clock) for name, rate in rates.items()}


def buckets_of(bucket: str) -> tuple[str, ...]:
    """The buckets from which a request of an endpoint of `bucket` takes a token.

    Whether statement requests also count against the plan's limit is not documented, so they take one from both; the
    add-ons are documented to have limits of their own.
    """
    return ("plan", "statements") if bucket == "statements" else (bucket,)
