"""From stored tables to feature months: which months a run reads, in how many passes, and the partitions it yields.

A run of n consecutive months reads its history once a block and computes the block in one vectorised pass. Blocks only
bound the memory: a value does not depend on them, because no window reaches further back than its month's look-back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
import polars as pl

from atft_assets import calendar
from atft_assets.contracts import Built
from atft_assets.features.joining import join_families
from atft_assets.features.names import GROUP, RAW
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.store import Store

BLOCK_MONTHS = 60  # bounds the memory; each block reads its months of look-back on top


@dataclass(frozen=True)
class Builder:
    """Builds partitions of feature tables from what the store holds.

    Attributes:
        tables: names of all feature tables; what is not among them is raw.
        first: first month that exists as a partition; older history is not asked for.
        start: first day of data.
    """

    store: Store
    tables: frozenset[str]
    first: str
    start: date
    block_months: int = BLOCK_MONTHS

    def fetch(self, name: str, months: Sequence[str], columns: Sequence[str] | None) -> pl.DataFrame:
        """Published months of a table."""
        return self.store.table(GROUP if name in self.tables else RAW, name).read(months, columns)

    def build(self, table: FeatureTable, keys: Sequence[str]) -> Iterator[Built]:
        """Partitions of a table, in order.

        Args:
            keys: consecutive months, or the one key of an unpartitioned table.

        Raises:
            UndeclaredInput: the table's build reads what its row does not declare.
            MissingTable, MissingColumns: an input was not published, or lacks a column.
        """
        if table.whole:
            yield from self._whole(table, keys)
            return
        # where nothing is read twice, a month at a time takes the least memory
        size = self._evenly(len(keys)) if any(table.reads.values()) else 1
        for i in range(0, len(keys), size):
            block = tuple(keys[i : i + size])
            reader = Reader(table, block, self.first, self.fetch)
            for key, frame, idle in month_frames(table, reader):
                yield Built(key, frame, 0 if idle else self._history(key), shown(frame))

    def _whole(self, table: FeatureTable, keys: Sequence[str]) -> Iterator[Built]:
        anchor = next(iter(table.reads))
        published = self.store.table(GROUP if anchor in self.tables else RAW, anchor).keys() or [self.first]
        months = tuple(calendar.months_between(published[0], published[-1]))  # a gap between them is an error
        (frame,) = _frames(table, Reader(table, months, self.first, self.fetch))
        for key in keys:
            yield Built(key, frame, frame["date"].n_unique(), shown(frame))

    def _evenly(self, months: int) -> int:
        """Months of a block, all of about one size: a last one of a month or two would read years for them."""
        return math.ceil(months / max(math.ceil(months / (1.1 * self.block_months)), 1))

    def _history(self, key: str) -> int:
        """Trading days of data before a month, by which contracts judge warm-up."""
        return len(calendar.trading_days(self.start, calendar.first_of_month(key) - timedelta(days=1)))


def month_frames(table: FeatureTable, reader: Reader) -> Iterator[tuple[str, pl.DataFrame, bool]]:
    """The months of a block: key, frame, and whether the month is idle.

    In an idle month nothing has traded, as in October 2020 on its first evening: no column of it can be judged.
    """
    frames = _frames(table, reader)
    if not table.features:
        yield from ((key, month, False) for key, month in _cut(frames[0], reader.months).items())
        return
    if table.per == "day":
        (frame,) = frames
        for key, month in _cut(frame.select("date", *table.columns), reader.months).items():
            yield key, month, False
        return
    by_day = [frame for frame in frames if "code" not in frame.columns]
    parts = [_cut(frame, reader.months) for frame in frames if "code" in frame.columns]
    del frames  # the parts are slices of them
    for key, members in _cut(
        reader.rows(), reader.months
    ).items():  # joined by the month: it fits in the processor's cache
        month = join_families(members, [part[key] for part in parts], by_day, table.features)
        yield key, month, not members["traded"].any()


def _frames(table: FeatureTable, reader: Reader) -> list[pl.DataFrame]:
    made = table.build(reader)
    return [made] if isinstance(made, pl.DataFrame) else list(made)


def shown(frame: pl.DataFrame) -> Mapping[str, object]:
    """For the UI: names, and the least covered columns."""
    days = max(frame["date"].n_unique(), 1)
    counts = frame.select(pl.exclude("date", "code").null_count())
    worst = counts.unpivot(variable_name="column", value_name="nulls").sort("nulls", descending=True).head(10)
    table = "\n".join(f"| {c} | {1 - n / max(frame.height, 1):.1%} |" for c, n in worst.iter_rows())
    return {
        "names_a_day": round(frame.height / days, 1),
        "least_covered_columns": dg.MetadataValue.md(f"| column | present |\n|---|---|\n{table}"),
    }


def _cut(frame: pl.DataFrame, block: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The months of a frame, as slices of it sorted by date; names keep their order within a day."""
    if not frame["date"].is_sorted():
        frame = frame.sort("date", maintain_order=True)
    firsts = [calendar.first_of_month(key) for key in (*block, calendar.shift_month(block[-1], 1))]
    ends = frame["date"].search_sorted(pl.Series(firsts), side="left")
    return {key: frame[int(ends[i]) : int(ends[i + 1])] for i, key in enumerate(block)}
