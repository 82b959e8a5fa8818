"""The ledger of test blocks: every look at days that are kept for the end, by whatever asset, counted by days.

A retrained network, another fold or another panel does not make days new, so a look is at days, not at scores.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.fold import Fold
from atft_model.interchange.records import read_text, write_text

LEDGER_FILE = "test_ledger.jsonl"


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Every scoring of a test block so far: fold, first and last day, runs, panel, when, and whether it was again.

    Raises:
        RunError: it is damaged.
    """
    path = folder / LEDGER_FILE
    try:
        entries = [json.loads(line) for line in (read_text(path, RunError) or "").splitlines() if line]
    except ValueError as error:
        raise RunError(damaged(path, "a line of it is no entry")) from error
    if not all(isinstance(entry, dict) for entry in entries):
        raise RunError(damaged(path, "a line of it is no entry"))
    return entries


def write_ledger(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the ledger."""
    write_text(folder / LEDGER_FILE, "".join(json.dumps(entry) + "\n" for entry in entries))


def record_looks(folder: Path, looks: Iterable[Mapping[str, Any]]) -> None:
    """Add looks, and to each whether its days were looked at before; of two processes at once neither loses a line.

    Args:
        looks: with first and last day at least.

    Raises:
        RunError: the ledger is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # the kernel gives it back when the process ends, however it ends
        entries = ledger(folder)
        again = [{**look, "again": bool(_saw(entries, look["first"], look["last"]))} for look in looks]
        write_ledger(folder, [*entries, *again])
    finally:
        os.close(handle)


def looked_at(entries: list[dict[str, Any]], fold: Fold) -> list[dict[str, Any]]:
    """The scorings that saw a day of the fold's test block; one without days, of an older version, saw all."""
    first, last = map(str, fold.test)
    return _saw(entries, first, last)


def _saw(entries: list[dict[str, Any]], first: str, last: str) -> list[dict[str, Any]]:
    return [one for one in entries if one.get("first", first) <= last and one.get("last", last) >= first]
