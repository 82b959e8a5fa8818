"""Attempts at one training: each writes a directory of its own, and whoever drives them publishes one.

A training that is tried again may have two writers for a while: a host that lost the network goes on for minutes after
the cluster has given it up. So no attempt writes the run directory. Each makes `<run>/attempt-<n>/<run_id>/` for itself
alone, which `mkdir` gives to one process only, and begins with the newest whole state of any attempt before it. When
one has ended, the driver moves its files up, `run.json` last, while it holds the run directory, and removes the
attempts: what still writes there finds no directory and dies.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from atft_model.interchange.disk import writing
from atft_model.interchange.errors import RunError
from atft_model.interchange.run import LOG, REQUEST, RUN_JSON, STATE, held, read_record

PREFIX = "attempt-"
PATIENCE = 10.0  # seconds
CARRIED = (LOG, STATE)  # what the next attempt begins with; the state last, for it says that the others are there


def begin(out: Path) -> Path:
    """Make the directory of a new attempt at the run `out`; returns it.

    Raises:
        DiskFull, Unwritable: there is no room for it, or nobody may write there.
    """
    before = newest_state(out)
    number = 1 + max((_number(folder) for folder in attempts(out)), default=0)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                (out / f"{PREFIX}{number}").mkdir()
                break
            except FileExistsError:  # another host was quicker
                number += 1
        folder = out / f"{PREFIX}{number}" / out.name
        folder.mkdir()
        for name in CARRIED if before is not None else ():
            with suppress(FileNotFoundError):
                _copy(before / name, folder / name)  # type: ignore[operator]
    return folder


def attempts(out: Path) -> list[Path]:
    """Directories of the attempts at a run, the first one first; each is named after the run."""
    found = [path / out.name for path in out.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=_number)


def newest_state(out: Path) -> Path | None:
    """The directory, of the run or of an attempt at it, that holds the newest state; None before an epoch has ended."""
    times: dict[Path, int] = {}
    for folder in (out, *attempts(out)):
        with suppress(FileNotFoundError):
            times[folder] = (folder / STATE).stat().st_mtime_ns
    return max(times, key=times.__getitem__, default=None)


def publish(out: Path, attempt: Path, *, unless: Path | None = None) -> bool:
    """Move what an attempt has written up into the run directory, and remove all attempts at it.

    Args:
        unless: a file that withdraws the order; asked while the run directory is held, so that whoever writes it and
            then settles the run is never overtaken.

    Returns:
        False if nothing was moved: the run had finished already, or the order was withdrawn.

    Raises:
        RunError: another process is publishing this run.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with held(out):
                return False if unless is not None and unless.exists() else _publish(out, attempt)
        except RunError:  # the reaper looks at every run, for a moment
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def settle(out: Path) -> bool:
    """Publish what a driver that died has left of its attempts: the finished one, else the one that came furthest.

    Returns:
        False if there is none.

    Raises:
        RunError: an attempt is still being written, or another process is publishing the run.
    """
    left = attempts(out)
    if not left:
        return False
    with ExitStack() as stack:
        stack.enter_context(held(out))
        for folder in left:
            if folder.is_dir():
                stack.enter_context(held(folder))
        finished = [folder for folder in left if _finished(folder)]
        _publish(out, finished[0] if finished else _furthest(out, left))
    return True


def _furthest(out: Path, left: list[Path]) -> Path:
    newest = newest_state(out)
    return newest if newest is not None and newest != out else left[-1]


def _publish(out: Path, attempt: Path) -> bool:
    whole = _finished(out)
    if not whole and attempt.is_dir():
        with writing(out):
            for path in _record_last(attempt):
                os.replace(path, out / path.name)
            if not (attempt / STATE).exists() and _finished(out):
                (out / STATE).unlink(missing_ok=True)  # that of an earlier attempt, from which this one went on
    for folder in attempts(out):
        shutil.rmtree(folder.parent, ignore_errors=True)
    return not whole


def _record_last(folder: Path) -> Iterator[Path]:
    """Files of an attempt without its request, which names the attempt, and without half-written ones."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    yield from (path for path in files if path.name not in (REQUEST, RUN_JSON))
    yield from (path for path in files if path.name == RUN_JSON)


def _finished(folder: Path) -> bool:
    try:
        return read_record(folder).status == "finished"
    except RunError:
        return False


def _number(folder: Path) -> int:
    return int(folder.parent.name.removeprefix(PREFIX))


def _copy(source: Path, target: Path) -> None:
    """Copy a file that its writer replaces in one step; a reader of the copy sees all of it or nothing."""
    sibling = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, sibling)
    os.replace(sibling, target)
