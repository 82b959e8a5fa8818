"""What the process asks of its surroundings: limits set before torch is imported, the lock, signals, Dagster Pipes."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAX_THREADS = 8


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux); a parent already gone ends it at once.

    Raises:
        OSError: the kernel does not know how.
    """
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed: --die-with-parent needs Linux")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def limit_threads(threads: int | None) -> int:
    """Set the thread limits of every numeric library, before any of them is loaded; waiting threads sleep, not spin."""
    count = threads or min(len(os.sched_getaffinity(0)), MAX_THREADS)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic cuBLAS asks for
    return count


def keep_memory() -> None:
    """Let glibc keep freed blocks: the same large temporaries come back every step, and faulting them in costs a
    tenth.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def take_lock(path: Path, stack: ExitStack) -> None:
    """Hold an exclusive lock on a file until the stack is left; the text that names the holder goes with it.

    The file is everybody's, whatever the umask: a GPU's lock is shared by all users of a machine.

    Raises:
        BlockingIOError: another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(os.fdopen(_shared(path), "a+"))
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid()}) + "\n")
    file.flush()
    stack.callback(
        file.truncate, 0
    )  # still under the lock; a text that stays behind tells of a process that was killed


def _shared(path: Path) -> int:
    """Open a file that every user may open, made if it is not there.

    Without O_CREAT first: in /tmp the kernel lets nobody create what another user has (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        file = os.open(path, flags | os.O_CREAT, 0o666)
        os.fchmod(file, 0o666)
        return file


def stop_flag() -> Callable[[], bool]:
    """Turn the first SIGINT or SIGTERM into a request to stop at the next step; a second one acts as usual."""
    asked: list[int] = []

    def handler(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    return lambda: bool(asked)


def open_pipes(stack: ExitStack) -> Any:
    """The Dagster Pipes context when this process was started through one, else None."""
    if "DAGSTER_PIPES_CONTEXT" not in os.environ:
        return None
    from dagster_pipes import open_dagster_pipes

    return stack.enter_context(open_dagster_pipes())
