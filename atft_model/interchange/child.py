"""A trainer as a child process: what whoever starts one does with its group and its stderr, here and on a cluster."""

import os
from collections import deque
from contextlib import suppress
from typing import IO

STDERR_LINES = 40  # of its end are remembered


def signal_group(group: int, number: int) -> None:
    """Send a signal to a group of processes, if anybody of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def copy_stderr(stream: IO[bytes], tail: deque[str]) -> None:
    """Pass stderr on, to where logs are collected, and remember its end; where it cannot be written, remember it alone.

    A reader that gave up would fill the pipe and stop the trainer.
    """
    for line in stream:
        with suppress(OSError):
            os.write(2, line)
        tail.append(line.decode(errors="replace").rstrip())
