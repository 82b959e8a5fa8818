"""What a run has done so far: lines in its log, figures beside each month."""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl

from atft_assets.jquants.resource import JQuantsResource
from atft_assets.raw.records import unknown_fields
from atft_assets.raw.source import Source

SECONDS_BETWEEN_LINES = 2.0


class Tally:
    """Counts a run's work and says how far it is."""

    def __init__(self, context: dg.AssetExecutionContext, source: Source, jquants: JQuantsResource):
        self._context, self._source, self._counters = context, source, jquants.client.counters
        self._before = (self._counters.requests, self._counters.retries, self._counters.throttled)
        self._began = self._spoke = time.monotonic()
        self._total_days = self._total_months = self._days = self._months = self._rows = 0
        self._new_fields: set[str] = set()

    def begin(self, days: Sequence[int]) -> None:
        """The run's months are known, and how many days each asks for."""
        self._total_months, self._total_days = len(days), sum(days)
        self._context.log.info(
            f"{self._source.name}: {self._total_days} days of {self._total_months} months to ask for"
            + (f"; {days.count(0)} months have theirs" if 0 in days else "")
        )

    def done(self, key: str, days: int, frame: pl.DataFrame) -> None:
        """A month has been put together."""
        self._months += 1
        self._days += days
        self._rows += frame.height
        self._new_fields |= set(unknown_fields(self._source.endpoint, frame.columns))
        now = time.monotonic()
        if now - self._spoke >= SECONDS_BETWEEN_LINES or self._months == self._total_months:
            self._spoke = now
            spent = now - self._began
            left = spent / self._days * (self._total_days - self._days) if self._days else 0.0
            ahead = f", about {left:.0f} s left" if self._months < self._total_months else ""
            requests = self._counters.requests - self._before[0]
            self._context.log.info(
                f"{self._source.name} {key}: {self._months}/{self._total_months} months, {self._rows:,} rows, "
                f"{requests} requests ({requests / max(spent, 1e-3):.1f}/s){ahead}"
            )

    def metadata(self) -> dict[str, Any]:
        """The run's figures up to now, for the month that was put together last."""
        requests, retries, throttled = self._before
        return {
            "days_asked_for": self._days,
            "requests": self._counters.requests - requests,
            "retries": self._counters.retries - retries,
            "rate_limited": self._counters.throttled - throttled,
            "seconds": round(time.monotonic() - self._began, 1),
            "new_fields": ", ".join(sorted(self._new_fields)) or "none",
        }
