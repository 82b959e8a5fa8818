"""What a feature table is: the row that its module ends with, and the reader through which its build looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Literal

import polars as pl

from atft_assets import calendar
from atft_assets.code_version import code_version
from atft_assets.contracts import Contract
from atft_assets.failures import Refusal
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.feature import Feature
from atft_assets.features.names import UNIVERSE, of
from atft_assets.settings import Plan

KEYS = ("date", "code")
# A table's version does not hang on this module: what is read and cut here is the same rows whichever way it is done.
WIRING = ("atft_assets.features.table",)

Frames = pl.DataFrame | Sequence[pl.DataFrame]
Fetch = Callable[[str, Sequence[str], Sequence[str] | None], pl.DataFrame]  # table, months, columns (None: all)


class UndeclaredInput(Refusal):
    """A build asked for a table or column that its row of the registry does not declare."""


@dataclass(frozen=True, eq=False)  # a row is itself: it can be a key
class FeatureTable:
    """A table, as data: everything that the platform must know of it.

    Attributes:
        name: of the asset, the folder and the contract.
        description: one sentence for the UI.
        build: makes the frames of a block of months from what it reads. A table of features returns a frame or several
            side by side, with `date` and, where it speaks of stocks, `code`; they are put on the rows of the universe,
            and rows may be missing. A table that is no table of features returns its rows as they are stored.
        reads: months of look-back by table that is read; None: all of it, and the asset is unpartitioned. A feature
            table of stocks reads the universe at least with 0.
        features: its columns, in order; they stand in `all_features` too. Empty for the universe and the labels.
        lineage: what the columns that are no features are computed from, `table.column`; the keys of a table of stocks
            are those of the universe unless it says otherwise.
        presence: columns that decide no more than whether there is a row, such as the open in a table of closes.
        per: "stock": a row a day and code; "day": a row a day.
        plan: smallest plan of J-Quants that serves what it reads, directly or not.
        needs: what that is, for the message on a smaller plan.
        contract: its rules; None: derived from the features.

    Raises:
        ValueError: a column declares nothing that it is computed from, or a table that is not read.
    """

    name: str
    description: str
    build: Callable[[Reader], Frames]
    reads: Mapping[str, int | None]
    features: tuple[Feature, ...] = ()
    lineage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    presence: tuple[str, ...] = ()
    per: Literal["stock", "day"] = "stock"
    plan: Plan = Plan.FREE
    needs: str = "what it reads"
    contract: Contract | None = None

    def __post_init__(self) -> None:
        if self.features and self.per == "stock":
            if UNIVERSE not in self.reads:
                raise ValueError(
                    f"{self.name}: its rows are those of the universe; declare reads={{'universe': 0, ...}}"
                )
            object.__setattr__(self, "lineage", {**{key: of(UNIVERSE, key) for key in KEYS}, **self.lineage})
        names = {f.name for f in self.features}
        if len(names) < len(self.features):
            raise ValueError(f"{self.name}: two columns have one name")
        for column, reads in {**{f.name: f.reads for f in self.features}, **self.lineage}.items():
            if not reads:
                raise ValueError(
                    f"{self.name}.{column} does not say what it is computed from: give it `reads=`, columns of "
                    f"{', '.join(self.reads)} written table.column, or columns of {self.name} itself"
                )
            for read in reads:
                source, _, _ = read.rpartition(".")
                if (source not in self.reads) if source else (read not in names):
                    raise ValueError(
                        f"{self.name}.{column} reads {read}, but {self.name} declares reads of "
                        f"{', '.join(self.reads)} only: add the table to `reads` of its row, or mend the name"
                    )

    @property
    def whole(self) -> bool:
        """Whether it is one partition over the whole history."""
        return None in self.reads.values()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of its features, in order."""
        return tuple(f.name for f in self.features)

    @cached_property
    def code_version(self) -> str:
        """Version of the code that computes it: sixteen hex digits, see `atft_assets.code_version`."""
        return code_version(self.build, without=WIRING, also=self.columns)

    @cached_property
    def declared(self) -> Mapping[str, frozenset[str]]:
        """Columns that its build may ask for, by table; keys and `available_at` go without saying."""
        reads = [*(r for f in self.features for r in f.reads), *(r for rs in self.lineage.values() for r in rs)]
        found: dict[str, set[str]] = {name: {*KEYS, AVAILABLE_AT} for name in self.reads}
        for read in (*reads, *self.presence):
            source, _, column = read.rpartition(".")
            if source:
                found[source].add(column)
        return {name: frozenset(columns) for name, columns in found.items()}


@dataclass(frozen=True)
class Reader:
    """What a build sees: the inputs that its table declares, as far back as it declares, for one block of months.

    Attributes:
        table: the table that is built.
        months: the consecutive months of the block.
        first: first month of any data; nothing older is asked for.
        fetch: reads months of a table from wherever they are.
    """

    table: FeatureTable
    months: tuple[str, ...]
    first: str
    fetch: Fetch

    @property
    def since(self) -> date:
        """First calendar day of the block; rows before it are history."""
        return calendar.first_of_month(self.months[0])

    @property
    def span(self) -> str:
        """The block as a partition range, for messages."""
        return self.months[0] if len(self.months) == 1 else f"{self.months[0]}...{self.months[-1]}"

    def read(self, name: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The block's months of a table and those before it that the table's row declares, as far as months exist.

        Args:
            columns: default: every declared column that the table has.

        Raises:
            UndeclaredInput: the row of the registry declares no such table or column.
            MissingTable: a month has not been published; the text has the command.
            MissingColumns: the table lacks a column.
        """
        if name not in self.table.reads:
            raise UndeclaredInput(
                f"{self.table.name} reads {name}, which its row in the registry does not declare (it declares "
                f"{', '.join(self.table.reads)}): add it to `reads`, with its months of look-back"
            )
        declared = self.table.declared[name]
        if undeclared := sorted(set(columns or ()) - declared):
            raise UndeclaredInput(
                f"{self.table.name} reads {', '.join(undeclared)} of {name}, which none of its columns declares: name "
                "it in `reads=` of the columns that are computed from it, or in `presence` if only its absence matters"
            )
        frame = self.fetch(name, self._months(name), columns)
        return frame if columns is not None else frame.select(c for c in frame.columns if c in declared)

    def rows(self) -> pl.DataFrame:
        """The universe of the block: date, code, traded, on whose rows the features of stocks are put."""
        return self.fetch(UNIVERSE, self.months, (*KEYS, "traded"))

    def _months(self, name: str) -> list[str]:
        back = self.table.reads[name] or 0
        first = max(min(self.first, self.months[0]), calendar.shift_month(self.months[0], -back))
        return calendar.months_between(first, self.months[-1])
