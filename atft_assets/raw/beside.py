"""What a month of raw records is judged beside: the day before it, and the published tables that its rules read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from atft_assets.calendar import shift_month
from atft_assets.store import Store


@dataclass(frozen=True)
class Beside:
    """What is known besides the month that is judged.

    Attributes:
        before: rows of the last day of the month before; None where that month is not there.
        tables: rows of each table that the rules read, of the month and of those before it that were asked for; a
            table of which none of these months is published is not among them.
    """

    before: pl.DataFrame | None = None
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def __str__(self) -> str:
        before = [] if self.before is None else [str(self.before["date"].max())]
        return ", ".join([*before, *self.tables]) or "nothing"


@dataclass
class Surroundings:
    """Gives each month of a run what it is judged beside. A month of the same run counts before it is published.

    Attributes:
        group: folder of the raw tables.
        name: the table that is judged.
        reads: tables that its rules read, with the months before the judged one that they look back.
    """

    store: Store
    group: str
    name: str
    reads: Mapping[str, int]
    _last: tuple[str, pl.DataFrame] | None = None

    def of(self, key: str) -> Beside:
        """What the month `key` is judged beside."""
        tables = {}
        for name, back in self.reads.items():
            frame = self._read(name, [shift_month(key, -n) for n in range(back, -1, -1)])
            if frame is not None:
                tables[name] = frame
        return Beside(self._before(key), tables)

    def keep(self, key: str, frame: pl.DataFrame) -> None:
        """Remember a month of this run, for the one after it."""
        self._last = key, _last_day(frame)

    def _before(self, key: str) -> pl.DataFrame | None:
        previous = shift_month(key, -1)
        if self._last is not None and self._last[0] == previous:
            return self._last[1]
        frame = self._read(self.name, [previous])
        return None if frame is None or frame.is_empty() else _last_day(frame)

    def _read(self, name: str, keys: list[str]) -> pl.DataFrame | None:
        table = self.store.table(self.group, name)
        published = set(table.keys())
        there = [key for key in keys if key in published]
        return table.read(there) if there else None


def _last_day(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("date") == pl.col("date").max())


def with_before(frame: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """Rows of a month with those of the day before it, in the month's columns."""
    return frame if before is None else pl.concat([before.select(frame.columns), frame], how="vertical_relaxed")


def on_the_next_day(rows: pl.DataFrame) -> pl.DataFrame:
    """Each row under the next of the days that there are, as if nothing changed; those of the last day go."""
    days = rows.select(pl.col("date").unique().sort())["date"]
    following = pl.DataFrame({"date": days[:-1], "_next": days[1:]}, schema={"date": pl.Date, "_next": pl.Date})
    return rows.join(following, on="date").with_columns(pl.col("_next").alias("date")).drop("_next")
