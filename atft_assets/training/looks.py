"""The ledger of test blocks: every look at days that are kept for the end, by whatever asset, counted by days.

A retrained network, another fold or another panel does not make days new, so a look is at days, not at scores.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atft_assets.store.lines import extend_lines, read_lines, write_lines
from atft_model.interchange.fold import Fold

LEDGER_FILE = "test_ledger.jsonl"


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Every scoring of a test block so far: fold, first and last day, runs, panel, when, and whether it was again.

    Raises:
        RunError: it is damaged.
    """
    return read_lines(folder / LEDGER_FILE)


def write_ledger(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the ledger."""
    write_lines(folder / LEDGER_FILE, entries)


def record_looks(folder: Path, looks: Iterable[Mapping[str, Any]]) -> None:
    """Add looks, and to each whether its days were looked at before; of two processes at once neither loses a line.

    Args:
        looks: with first and last day at least.

    Raises:
        RunError: the ledger is damaged.
    """
    extend_lines(
        folder / LEDGER_FILE,
        lambda entries: [{**look, "again": bool(_saw(entries, look["first"], look["last"]))} for look in looks],
    )


def looked_at(entries: list[dict[str, Any]], fold: Fold) -> list[dict[str, Any]]:
    """The scorings that saw a day of the fold's test block; one without days, of an older version, saw all."""
    first, last = map(str, fold.test)
    return _saw(entries, first, last)


def _saw(entries: list[dict[str, Any]], first: str, last: str) -> list[dict[str, Any]]:
    return [one for one in entries if one.get("first", first) <= last and one.get("last", last) >= first]
