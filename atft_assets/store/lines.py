"""Records that are only ever added to: a JSON object a line, the file replaced in one step, one writer at a time."""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.records import read_text, to_plain, write_text

Entry = dict[str, Any]


def read_lines(path: Path) -> list[Entry]:
    """Every record so far, the oldest first; empty where there is no file.

    Raises:
        RunError: it is damaged.
    """
    try:
        entries = [json.loads(line) for line in (read_text(path, RunError) or "").splitlines() if line]
    except ValueError as error:
        raise RunError(damaged(path, "a line of it is no entry")) from error
    if not all(isinstance(entry, dict) for entry in entries):
        raise RunError(damaged(path, "a line of it is no entry"))
    return entries


def write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Replace all records; NaN becomes null."""
    write_text(path, "".join(json.dumps(to_plain(entry), ensure_ascii=False) + "\n" for entry in entries))


def extend_lines(path: Path, added: Callable[[list[Entry]], Iterable[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Add records; of two processes at once neither loses a line.

    Args:
        added: from what is there to what is to come after it, asked for while nobody else writes.

    Returns:
        what was added.

    Raises:
        RunError: the file is damaged; nothing is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # the kernel gives it back when the process ends, however it ends
        entries = read_lines(path)
        more = list(added(list(entries)))
        if more:
            write_lines(path, [*entries, *more])
    finally:
        os.close(handle)
    return more
