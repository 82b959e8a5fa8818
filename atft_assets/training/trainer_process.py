"""One process of the trainer: started in a group of its own, heard while it runs, and ended to the last child."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread

import psutil

from atft_model.interchange.child import STDERR_LINES, copy_stderr, signal_group
from atft_model.interchange.withheld import passed_on

MAX_THREADS = 8  # more do not make these matrices faster
POLL_SECONDS = 0.2

STARTED_BY = "ATFT_DAGSTER_RUN"  # variable of the process: the Dagster run that started it


class TrainerProcess:
    """A trainer that was started here.

    Attributes:
        tail: the last lines of its stderr, which is passed on as well.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self.tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stderr is not None
        self._reader = Thread(target=copy_stderr, args=(self._process.stderr, self.tail), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code once it has ended; negative is the signal that killed it."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """Wait for its end, so long at most; whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal to its group."""
        signal_group(self.pid, number)

    def end(self) -> int:
        """Kill whatever of its group is left, and wait for it; returns the exit code."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=5)
        return self._process.returncode


def stop(processes: Sequence[TrainerProcess], interrupt_seconds: float, terminate_seconds: float) -> None:
    """SIGINT to all, then SIGTERM, then SIGKILL; a second interrupt while waiting skips to the last.

    Args:
        interrupt_seconds: from SIGINT to SIGTERM, time to save the state.
        terminate_seconds: from SIGTERM to SIGKILL.
    """
    try:
        for number, seconds in ((signal.SIGINT, interrupt_seconds), (signal.SIGTERM, terminate_seconds)):
            for process in processes:
                if process.poll() is None:
                    process.signal(number)
            end = time.monotonic() + seconds
            while any(process.poll() is None for process in processes) and time.monotonic() < end:
                time.sleep(POLL_SECONDS / 10)
    finally:
        for process in processes:
            process.end()


def environment(threads: int, *more: Mapping[str, str]) -> dict[str, str]:
    """What a trainer inherits, with thread limits: they count only if set before torch is imported.

    Args:
        more: further variables; the later ones win.
    """
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    # waiting threads that spin take the cores of everybody else
    made = {**passed_on(os.environ), **limits, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    for variables in more:
        made |= variables
    return made


def started_by(dagster_run_id: str) -> list[psutil.Process]:
    """This user's trainers on this machine that a Dagster run has started, each the leader of its group."""
    found = []
    for process in psutil.process_iter():
        try:
            variables = process.environ()
            if variables.get(STARTED_BY) == dagster_run_id and os.getpgid(process.pid) == process.pid:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone, or another user's
    return found


def ended(process: psutil.Process) -> bool:
    """Whether it has ended; it is not waited for, which is for the one who started it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command_of(process: psutil.Process) -> str:
    """Its command line, short, for messages."""
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return "gone by now"


def staged_sibling(path: Path, token: str) -> Path:
    """The name under which something is written beside a path until it is whole; the reaper knows it."""
    return path.with_name(f".{path.name}.{os.getpid()}-{token}.staged")
