"""The judge: a Pandera schema and rules about whole columns, and what they say of one partition.

A contract is run on the eager frame before anything is visible: Pandera checks no data in a LazyFrame.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from atft_assets.calendar import trading_days
from atft_assets.contracts.screening import certainly_meets

SAMPLE_ROWS = 5
FEWEST_ROWS = 30  # of which columns of events are judged: of fewer nobody can say that a column is empty by mistake

Failure = tuple[str, str, int, str]  # column, rule, failing rows, sample

FAILURE_SCHEMA = {"column": pl.String, "rule": pl.String, "failing_rows": pl.Int64, "sample": pl.String}


def failures_frame(rows: Iterable[Failure]) -> pl.DataFrame:
    """Frame of (column, rule, failing_rows, sample)."""
    return pl.DataFrame(list(rows), schema=FAILURE_SCHEMA, orient="row")


@dataclass(frozen=True)
class Verdict:
    """What a contract says of one partition.

    Attributes:
        failures: frame with the columns column, rule, failing_rows, sample (text of a few offending rows).
    """

    table: str
    partition: str
    failures: pl.DataFrame = field(default_factory=lambda: failures_frame([]))

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.failures.is_empty()

    def __str__(self) -> str:
        where = f"{self.table} {self.partition}"
        if self.passed:
            return f"{where}: contract passed"
        first = [
            f"column {row['column']}: {row['rule']} ({row['failing_rows']} rows, e.g. {row['sample']})"
            for row in self.failures.head(3).iter_rows(named=True)
        ]
        rest = self.failures.height - len(first)
        return f"{where} breaks its contract: " + "; ".join(first) + (f"; and {rest} more" if rest > 0 else "")


class ContractViolation(Exception):
    """A table, or an input of it, is not what its contract says. Carries the verdict with the offending rows."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict
        super().__init__(str(verdict))


@dataclass(frozen=True)
class Contract:
    """The rules of one table.

    Attributes:
        table: its name.
        schema: dtypes, ranges, strict columns, unique key.
        coverage: least share of non-null values of a column; without an entry, any share above zero will do.
        lookback: trading days of history that a column needs; before that its coverage and variation are not judged.
        constant_ok: columns that may hold a single value (flags, codes).
        nullable_ok: columns that may be null throughout.
        empty_ok: a partition may have no rows (events of which there were none).
        among: a flag by column: the column's coverage and variation are judged on the rows where the flag is 1, if
            there are enough.
        valid: least share of rows in which a flag is 1; 0 asks for one row.
        since: day on which a column's source begins; its look-back counts from then.
        fewest: rows that it takes to judge whole columns: a month with a handful of events may well hold one name.
    """

    table: str
    schema: pa.DataFrameSchema
    coverage: Mapping[str, float] = field(default_factory=dict)
    lookback: Mapping[str, int] = field(default_factory=dict)
    constant_ok: frozenset[str] = frozenset()
    nullable_ok: frozenset[str] = frozenset()
    empty_ok: bool = False
    among: Mapping[str, str] = field(default_factory=dict)
    valid: Mapping[str, float] = field(default_factory=dict)
    since: Mapping[str, date] = field(default_factory=dict)
    fewest: int = 0

    def audit(
        self, frame: pl.DataFrame, partition: str, history_days: int | None = None, also: Iterable[Failure] = ()
    ) -> Verdict:
        """Judge one partition.

        Args:
            frame: the eager frame.
            partition: its key, for the message.
            history_days: trading days of history before the partition; None means enough for every look-back.
            also: what was found already, by rules that see more than the frame.

        Raises:
            TypeError: the frame is lazy.
        """
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(f"{self.table}: a contract judges eager frames, not {type(frame).__name__}")
        found = list(self._schema_failures(frame))
        if frame.is_empty():
            found += [] if self.empty_ok else [("(table)", "holds at least one row", 0, "no rows")]
        else:
            found += self._finite_failures(frame)
            found += self._whole_column_failures(frame, history_days) if frame.height >= self.fewest else []
        return Verdict(self.table, partition, failures_frame([*found, *also]))

    def _schema_failures(self, frame: pl.DataFrame) -> Iterator[tuple[str, str, int, str]]:
        if certainly_meets(self.schema, frame):
            return
        try:
            self.schema.validate(frame, lazy=True)
        except SchemaErrors as error:
            cases = error.failure_cases.with_columns(pl.col("failure_case").cast(pl.String))
            grouped = cases.group_by("column", "check", "schema_context", maintain_order=True).agg(
                "failure_case", "index"
            )
            for column, check, context, values, rows in grouped.iter_rows():
                named = context == "DataFrameSchema" and check != "multiple_fields_uniqueness"
                places = [row for row in rows if row is not None]
                yield (
                    values[0] if named else (column or ", ".join(self.schema.unique or [])),
                    rule_text(check),
                    len(values),
                    _sample(frame, places, column) if places else ", ".join(map(str, values[:SAMPLE_ROWS])),
                )

    def _finite_failures(self, frame: pl.DataFrame) -> list[tuple[str, str, int, str]]:
        floats = [c for c, dtype in frame.schema.items() if dtype.is_float()]
        if not floats:
            return []
        bad = frame.select(pl.col(floats).is_finite().not_().sum()).row(0, named=True)
        return [
            (c, "finite where present", n, _sample(frame, _places(frame[c].is_finite().not_()), c))
            for c, n in bad.items()
            if n
        ]

    def _whole_column_failures(
        self, frame: pl.DataFrame, history_days: int | None
    ) -> Iterator[tuple[str, str, int, str]]:
        known = [c for c in frame.columns if c in self.schema.columns]
        warm = self._warm(known, frame, history_days)
        yield from self._column_failures(frame, [c for c in warm if c not in self.among])
        for flag in dict.fromkeys(self.among[c] for c in warm if self.among.get(c) in known):
            judged = [c for c in warm if self.among.get(c) == flag]
            shown = [c for c in ("date", "code", flag) if c in known and c not in judged]
            some = frame.select(*shown, *judged).filter(pl.col(flag) == 1)
            if some.height >= FEWEST_ROWS:
                yield from self._column_failures(some, judged)
        for flag, least in self.valid.items():
            ones = int(frame[flag].sum()) if flag in warm else frame.height
            share = ones / frame.height
            if share == 0 or share < least:
                wrong = frame.height - ones
                rule = f"1 in at least {least:.0%} of rows ({share:.1%} are)" if least else "1 in a row at least"
                yield flag, rule, wrong, _sample(frame, _places(frame[flag] != 1), flag)

    def _warm(self, known: Sequence[str], frame: pl.DataFrame, history_days: int | None) -> list[str]:
        """The columns that look back no further than there is history."""
        first = frame["date"].min() if "date" in frame.columns else None
        # sessions of a source's data up to the frame's first day
        sessions: dict[date, int] = {}
        if isinstance(first, date):
            sessions = {begin: len(trading_days(begin, first)) for begin in set(self.since.values())}

        def warm(column: str) -> bool:
            lookback = self.lookback.get(column, 0)
            if history_days is not None and history_days < lookback:
                return False
            begin = self.since.get(column)
            return begin is None or begin not in sessions or sessions[begin] > lookback

        return [column for column in known if warm(column)]

    def _column_failures(self, frame: pl.DataFrame, known: Sequence[str]) -> Iterator[tuple[str, str, int, str]]:
        """What coverage and variation say of some columns."""
        if not known:
            return
        dtypes = frame.schema
        nulls = frame.select(pl.col(known).null_count()).row(0, named=True)
        # extremes differ: a hundred times cheaper than counting distinct floats
        ordered = [c for c in known if dtypes[c].is_numeric() or dtypes[c].is_temporal()]
        others = [c for c in known if c not in ordered]
        varies = frame.select(
            (pl.col(ordered).min() != pl.col(ordered).max()).name.keep(),
            (pl.col(others).drop_nulls().n_unique() > 1).name.keep(),
        ).row(0, named=True)
        for column in known:
            if column in self.nullable_ok:
                continue
            share = 1 - nulls[column] / frame.height
            least = self.coverage.get(column, 0.0)
            if share == 0:
                yield column, "not null throughout", frame.height, _sample(frame, [0, 1, 2], column)
            elif share < least:
                sample = _sample(frame, _places(frame[column].is_null()), column)
                yield (
                    column,
                    f"present in at least {least:.0%} of rows ({share:.1%} are)",
                    nulls[column],
                    sample,
                )
            elif not varies[column] and column not in self.constant_ok and frame.height - nulls[column] > 1:
                yield column, "not one constant value", frame.height, _sample(frame, [0, 1, 2], column)


def rule_text(check: Any) -> str:
    """A rule in words, where Pandera's name of it says little."""
    text = str(check)
    known = {
        "column_in_dataframe": "present",
        "column_in_schema": "known to the schema",
        "not_nullable": "not null",
        "multiple_fields_uniqueness": "unique key",
    }
    return known.get(text, text)


def _places(mask: pl.Series) -> list[int]:
    return mask.fill_null(False).arg_true().head(SAMPLE_ROWS).to_list()


def _sample(frame: pl.DataFrame, places: Sequence[int], column: str | None) -> str:
    """A few rows as text: the key columns and the offending one."""
    wanted = [c for c in ("date", "code", column) if c and c in frame.columns]
    rows = frame[[p for p in list(places)[:SAMPLE_ROWS] if p < frame.height]].select(list(dict.fromkeys(wanted)))
    return " | ".join(" ".join(f"{k}={v}" for k, v in row.items()) for row in rows.iter_rows(named=True))


def require_columns(
    present: pl.DataFrame | Iterable[str], columns: Iterable[str], *, table: str, partition: str
) -> None:
    """Refuse an input before any computation.

    Raises:
        ContractViolation: `table`, an input, lacks some of `columns`.
    """
    have = set(present.columns if isinstance(present, pl.DataFrame) else present)
    missing = [c for c in columns if c not in have]
    if missing:
        rows = [(c, "required input column is present", 0, f"{table} has: {', '.join(sorted(have))}") for c in missing]
        raise ContractViolation(Verdict(table, partition, failures_frame(rows)))
