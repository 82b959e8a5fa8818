"""Passing faults and interrupts: what a raw asset does when the service, or a person, stops it.

Dagster's own RetryPolicy is not used: a step that has one answers an interrupt with another try, so that a run that was
told to stop goes on. Faults that may pass are tried again here instead, and nothing else is; every wait ends at once
when the run is interrupted.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import dagster as dg
import tenacity

from atft_assets.failures import Refusal
from atft_assets.jquants.errors import TransientError

# Seconds before each further try, after the client's own tries (minutes) have failed; a quarter more or less is drawn.
WAITS = (120.0, 240.0)
JITTER = 0.25

T = TypeVar("T")


class GivenUp(Refusal):
    """A fault that may pass outlived every try."""


class Log(Protocol):
    """Where warnings go."""

    def warning(self, text: str, /) -> object:
        """Tell a person."""


class Retries:
    """Calls again what a passing fault has ended.

    Args:
        log: of the run.
        table: for the messages.
        waits: seconds before each further try.
    """

    def __init__(self, log: Log, table: str, waits: Sequence[float] = WAITS):
        self._log, self._table, self._waits = log, table, tuple(waits)

    def __call__(self, call: Callable[[], T]) -> T:
        """Call until it returns; what it returns.

        Raises:
            TransientError: that of the last try.
        """
        waits = [tenacity.wait_fixed(wait * (1 - JITTER)) + tenacity.wait_random(0, 2 * JITTER * wait)
                 for wait in self._waits]  # fmt: skip
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(len(waits) + 1),
            wait=tenacity.wait_chain(*waits) if waits else tenacity.wait_none(),
            sleep=time.sleep,  # in the main thread: an interrupt is raised out of it
            before_sleep=self._tell,
            reraise=True,
        )(call)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        wait = f"{pause / 60:.0f} min" if pause >= 60 else f"{pause:.0f} s"
        self._log.warning(
            f"{self._table} tries again in {wait} ({state.attempt_number} of {len(self._waits)}): {error}"
        )


@contextmanager
def told_if_interrupted(log: Log, table: str) -> Iterator[None]:
    """Say how to go on when a run is ended from outside (Ctrl-C, SIGTERM, *Terminate*)."""
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        log.warning(
            f"{table}: interrupted. Nothing was published; the days that have come are kept, and the same command goes "
            "on from there"
        )
        raise
