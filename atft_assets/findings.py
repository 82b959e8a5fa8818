"""Findings: what a look at machine, data or settings found, each a sentence with what to do. Doctor and preflight."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line: how bad, about what, what was found, what to do."""

    level: Level
    subject: str
    found: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject:<10} {self.found}" + (f" → {self.todo}" if self.todo else "")


def ok(subject: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, subject, found)


def warn(subject: str, found: str, todo: str) -> Finding:
    """It works, but not as it should."""
    return Finding(Level.WARN, subject, found, todo)


def fail(subject: str, found: str, todo: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, subject, found, todo)
