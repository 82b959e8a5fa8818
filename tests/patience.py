"""How long a test waits for what another process must do.

No test measures how fast a machine is: a bound is there so that what hangs is told, and far above what a busy machine
takes (where two workers share two cores, starting Dagster has taken most of a minute).
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

PATIENCE = 200.0  # seconds; below the 600 s of pytest-timeout, so that the wait says what it waited for

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    what: str = "it",
    *,
    process: subprocess.Popen[Any] | None = None,
    log: Path | None = None,
    patience: float = PATIENCE,
) -> T:
    """Wait for something that must come, and return it.

    Args:
        condition: true once it has come.
        what: is awaited; in the message of a wait in vain.
        process: must do it; that it ended first is told at once.
        log: what the process has said; its end is in the message.
        patience: seconds; a test of several minutes, with a timeout of its own, may have more.
    """
    end = time.monotonic() + patience
    while not (found := condition()):
        ended = process is not None and process.poll() is not None and not condition()
        if ended or time.monotonic() > end:
            why = (
                f"its process ended with {process.returncode}" if ended and process else f"not within {patience:.0f} s"
            )
            said = f"; it said:\n{log.read_text(errors='replace')[-3000:]}" if log and log.exists() else ""
            raise AssertionError(f"{what} did not come ({why}){said}")
        time.sleep(0.02)
    return found
