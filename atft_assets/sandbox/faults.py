"""Faults that the server can be told to commit, at start or while it runs.

Whether a rule strikes is decided by a hash of (seed, rule, request, how often this request was seen), not by the order
in which threads arrive: the same requests meet the same faults however they are scheduled.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import polars as pl

STATUS_KINDS = {"210": 210, "413": 413, "429": 429, "500": 500, "502": 502, "503": 503, "504": 504}
TRANSPORT_KINDS = ("slow", "truncated", "cut", "reset")
PAGE_KINDS = ("duplicate_page", "endless_pages")
COLUMN_KINDS = ("rename_column", "drop_column", "add_column", "text_for_number", "null_column")
FILE_KINDS = ("corrupt", "expired", "wrong_size")
EMPTY = "empty"
KINDS = (*STATUS_KINDS, *TRANSPORT_KINDS, *PAGE_KINDS, *COLUMN_KINDS, *FILE_KINDS, EMPTY)


@dataclass(frozen=True)
class Fault:
    """One rule.

    Attributes:
        kind: a status (`429`, `500`, `502`, `503`, `504`, `413`, `210`); `slow` (waits `seconds`), `truncated` (half of
            the JSON as if it were all), `cut` (the connection ends in the middle of the body), `reset` (the connection
            is reset before the answer); `duplicate_page` (a follow-up page repeats the page before it),
            `endless_pages` (the pagination key never changes); `rename_column`, `drop_column`, `add_column`,
            `text_for_number`, `null_column` (of `column`); `empty` (no rows); of a file `corrupt` (a byte of it is
            another), `expired` (its address is out of date), `wrong_size` (/bulk/list says another size).
        share: of the matching requests, between 0 and 1.
        path: only requests to this endpoint, such as `/equities/bars/daily`; `/bulk/file` is the download of a file.
        date: only requests whose `date` parameter is this day, `YYYY-MM-DD`.
        times: strikes at most this often; None without end.
        column: the column that a column fault breaks, or the name of the one that `add_column` adds.
        seconds: how long `slow` waits.
    """

    kind: str
    share: float = 1.0
    path: str | None = None
    date: str | None = None
    times: int | None = None
    column: str | None = None
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}: use one of {', '.join(KINDS)}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share of fault {self.kind!r} is {self.share}: use 0 to 1")
        if self.kind in COLUMN_KINDS and not self.column:
            raise ValueError(f"fault {self.kind!r} needs a column")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `KIND[:SHARE][,name=value...]`, for example `500:0.1` or `null_column,path=/equities/master,column=S33`.

        Raises:
            ValueError: unknown kind, option or number.
        """
        head, *options = text.split(",")
        kind, _, share = head.partition(":")
        given: dict[str, object] = {"share": float(share)} if share else {}
        for option in options:
            name, _, value = option.partition("=")
            if name not in ("path", "date", "times", "column", "seconds"):
                raise ValueError(f"unknown option {name!r} of fault {kind!r}: use path, date, times, column or seconds")
            given[name] = int(value) if name == "times" else float(value) if name == "seconds" else value
        return cls(kind, **given)  # type: ignore[arg-type]


@dataclass
class Faults:
    """The rules in force; may be changed while the server runs.

    Attributes:
        rules: in the order in which they are tried.
        seed: of the decisions.
        struck: how often each kind struck.
    """

    rules: list[Fault] = field(default_factory=list)
    seed: int = 0
    struck: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._used: Counter[int] = Counter()

    def add(self, kind: str, **options: object) -> Fault:
        """Put a rule in force; the options are those of `Fault`. Returns the rule."""
        rule = Fault(kind, **options)  # type: ignore[arg-type]
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Take all rules away."""
        with self._lock:
            self.rules.clear()
            self._used.clear()

    def strike(self, path: str, query: Mapping[str, str]) -> list[Fault]:
        """The rules that strike this request."""
        request = path + "?" + "&".join(f"{k}={v}" for k, v in sorted(query.items()))
        out = []
        with self._lock:
            self._seen[request] += 1
            for i, rule in enumerate(self.rules):
                if rule.path not in (None, path) or rule.date not in (None, query.get("date")):
                    continue
                if rule.times is not None and self._used[i] >= rule.times:
                    continue
                if _draw(f"{self.seed}|{i}|{rule.kind}|{request}|{self._seen[request]}") < rule.share:
                    self._used[i] += 1
                    self.struck[rule.kind] += 1
                    out.append(rule)
        return out


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on the text only."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / 2**56


def break_column(frame: pl.DataFrame, rule: Fault) -> pl.DataFrame:
    """The frame as a server with a changed schema would send it."""
    column = rule.column or ""
    if rule.kind == "add_column":
        return frame.with_columns(pl.lit("new").alias(column))
    if column not in frame.columns:
        return frame
    if rule.kind == "rename_column":
        return frame.rename({column: f"{column}Renamed"})
    if rule.kind == "drop_column":
        return frame.drop(column)
    if rule.kind == "text_for_number":
        return frame.with_columns(pl.col(column).cast(pl.String).fill_null("-").add(" yen"))
    return frame.with_columns(pl.lit(None, frame.schema[column]).alias(column))
