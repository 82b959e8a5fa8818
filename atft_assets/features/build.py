"""From stored tables to feature months: which months a run reads, in how many passes, and the frames it yields.

A run of n consecutive months reads its history once a block and computes the block in one vectorised pass. Blocks only
bound the memory: a value does not depend on them, because no window reaches further back than its month's look-back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl

from atft_assets import calendar
from atft_assets.features import labels, market, sector, stock_market
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.catalogue import features_of
from atft_assets.features.phase1 import calendar_of, own_features
from atft_assets.features.phase2 import join_families
from atft_assets.features.universe import universe
from atft_assets.partitions import LOOKBACK_MONTHS
from atft_assets.store import Store

GROUP = "features"
BLOCK_MONTHS = 60  # bounds the memory; each block reads 13 to 15 months of history on top

Frames = Iterator[tuple[str, pl.DataFrame]]


@dataclass
class Builder:
    """Builds partitions of every feature table from what the store holds.

    Attributes:
        first: first month that exists as a partition; older history is not asked for.
        start: first day of data.
        seen: one row a partition built: rows, days, names, traded rows and nulls by column.
    """

    store: Store
    first: str
    start: date
    block_months: int = BLOCK_MONTHS
    seen: dict[str, pl.DataFrame] = field(default_factory=dict)
    _idle: set[str] = field(default_factory=set)

    def universe(self, keys: list[str]) -> Frames:
        """date, code, s33, s17, mkt, scale_cat."""
        for block in self._blocks(keys):
            listed = self._read("raw", "listed_info", block, 1)
            quotes = self._read("raw", "daily_quotes", block, 0, ("date", "code"))
            yield from self._months(block, universe(quotes, listed, span(block)))

    def phase1(self, keys: list[str]) -> Frames:
        """A stock's own columns and the calendar."""
        for block in self._blocks(keys):
            quotes = self._read("raw", "daily_quotes", block, LOOKBACK_MONTHS, (*RAW_COLUMNS, "available_at"))
            members = self._read(GROUP, "universe", block, 0, ("date", "code"))
            since = calendar.first_of_month(block[0])
            frame = own_features(quotes, members["code"].unique(), since, span(block))
            del quotes  # as large as what is computed of it
            self._find_idle(frame, block)
            yield from self._on_rows_of(members, [frame], [calendar_of(members)], "phase1_features", block)

    def market(self, keys: list[str]) -> Frames:
        """The TOPIX's columns."""
        for block in self._blocks(keys):
            topix = self._read("raw", "topix", block, market.LOOKBACK_MONTHS, market.TOPIX_COLUMNS)
            frame = market.market_features(topix, span(block))
            yield from self._months(block, frame.select("date", *names_of("market_features")))

    def stock_market(self, keys: list[str]) -> Frames:
        """A stock against the market."""
        for block in self._blocks(keys):
            phase1 = self._read(GROUP, "phase1_features", block, LOOKBACK_MONTHS, stock_market.PHASE1_COLUMNS)
            by_day = self._read(GROUP, "market_features", block, LOOKBACK_MONTHS, stock_market.MARKET_COLUMNS)
            topix = self._read("raw", "topix", block, LOOKBACK_MONTHS, ("date", "C"))
            frame = stock_market.stock_market_features(phase1, by_day, topix, span(block))
            yield from self._on_rows_of_phase1(phase1, frame, "stock_market_features", block)

    def sector(self, keys: list[str]) -> Frames:
        """A stock's sector, and the stock against it."""
        back = sector.LOOKBACK_MONTHS
        for block in self._blocks(keys):
            phase1 = self._read(GROUP, "phase1_features", block, back, sector.PHASE1_COLUMNS)
            members = self._read(GROUP, "universe", block, back, sector.UNIVERSE_COLUMNS)
            bars = adjusted_bars(self._read("raw", "daily_quotes", block, back, RAW_COLUMNS), span(block))
            frame = sector.sector_features(phase1, members, bars, span(block))
            yield from self._on_rows_of_phase1(phase1, frame, "sector_features", block)

    def phase2(self, keys: list[str]) -> Frames:
        """Every family side by side, month by month: this needs no history."""
        features = features_of("phase2_features")
        for key in keys:
            by_stock = [
                self._read(GROUP, name, [key], 0, ("date", "code", *names_of(name)))
                for name in ("phase1_features", "stock_market_features", "sector_features")
            ]
            by_day = self._read(GROUP, "market_features", [key], 0, ("date", *names_of("market_features")))
            self._find_idle(by_stock[0], [key])
            members = self._read(GROUP, "universe", [key], 0, ("date", "code"))
            yield from self._months([key], join_families(members, by_stock, [by_day], features))

    def labels(self, keys: list[str]) -> Frames:
        """Forward returns of the whole history, under the one key of an unpartitioned table."""
        published = self.store.table("raw", "daily_quotes").keys() or [self.first]
        months = calendar.months_between(published[0], published[-1])  # a gap between them is an error
        quotes = self._read("raw", "daily_quotes", months, 0, (*RAW_COLUMNS, "available_at"))
        members = self._read(GROUP, "universe", months, 0, ("date", "code"))
        frame = labels.labels(quotes, members)
        for key in keys:
            self._note(key, frame)
            yield key, frame

    def history_days(self, key: str) -> int:
        """Trading days of data before a month (for a whole table: in it), by which contracts judge warm-up.

        0 for a month in which nothing has traded, such as October 2020 on its first evening: no column of it can be
        judged.
        """
        if key in self._idle:
            return 0
        if len(key) != len("2020-10"):
            return int(self.seen[key]["days"][0])
        return len(calendar.trading_days(self.start, calendar.first_of_month(key) - timedelta(days=1)))

    def metadata(self) -> dict[str, object]:
        """Names, days and the least covered columns of what was built."""
        if not self.seen:
            return {}
        total = pl.concat(self.seen.values(), how="vertical")
        rows = int(total["rows"].sum())
        nulls = total.drop("rows", "days", "names").sum().unpivot(variable_name="column", value_name="nulls")
        worst = nulls.sort("nulls", descending=True).head(10)
        table = "\n".join(f"| {c} | {1 - n / max(rows, 1):.1%} |" for c, n in worst.iter_rows())
        return {
            "names_a_day": round(rows / max(int(total["days"].sum()), 1), 1),
            "names_at_most": int(total["names"].max()),  # type: ignore[arg-type]
            "least_covered_columns": f"| column | present |\n|---|---|\n{table}",
        }

    # -- reading and cutting ------------------------------------------------------------------------------------------

    def _blocks(self, keys: Sequence[str]) -> Iterator[list[str]]:
        for i in range(0, len(keys), self.block_months):
            yield list(keys[i : i + self.block_months])

    def _read(
        self, group: str, name: str, block: Sequence[str], back: int, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """A table's months of a block and `back` months before it, as far as months exist.

        Raises:
            MissingTable: a month has not been published; the text has the command.
        """
        first = max(min(self.first, block[0]), calendar.shift_month(block[0], -back))
        return self.store.table(group, name).read(calendar.months_between(first, block[-1]), columns)

    def _on_rows_of_phase1(self, phase1: pl.DataFrame, frame: pl.DataFrame, table: str, block: Sequence[str]) -> Frames:
        """The frame on the rows of the universe, untraded ones included."""
        rows = phase1.filter(pl.col("date") >= calendar.first_of_month(block[0])).select("date", "code", "is_traded")
        self._find_idle(rows, block)
        yield from self._on_rows_of(rows, [frame], [], table, block)

    def _on_rows_of(
        self,
        rows: pl.DataFrame,
        by_stock: Sequence[pl.DataFrame],
        by_day: Sequence[pl.DataFrame],
        table: str,
        block: Sequence[str],
    ) -> Frames:
        """Families on the given rows, joined month by month: a month fits in the processor's cache."""
        features = features_of(table)
        parts = [_cut(frame, block) for frame in by_stock]
        for key, members in _cut(rows, block).items():
            frame = join_families(members, [part[key] for part in parts], by_day, features)
            self._note(key, frame)
            yield key, frame

    def _find_idle(self, frame: pl.DataFrame, block: Sequence[str]) -> None:
        traded = frame.filter(pl.col("is_traded") == 1)["date"].unique()
        self._idle |= set(block) - {calendar.month_key(day) for day in traded}

    def _months(self, block: Sequence[str], frame: pl.DataFrame) -> Frames:
        for key, month in _cut(frame, block).items():
            self._note(key, month)
            yield key, month

    def _note(self, key: str, frame: pl.DataFrame) -> None:
        self.seen[key] = frame.select(
            pl.len().alias("rows"),
            pl.col("date").n_unique().alias("days"),
            (pl.col("code").n_unique() if "code" in frame.columns else pl.lit(1, pl.UInt32)).alias("names"),
            pl.exclude("date", "code").null_count(),
        )


def _cut(frame: pl.DataFrame, block: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The months of a frame, as slices of it sorted by date; names keep their order within a day."""
    if not frame["date"].is_sorted():
        frame = frame.sort("date", maintain_order=True)
    firsts = [calendar.first_of_month(key) for key in (*block, calendar.shift_month(block[-1], 1))]
    ends = frame["date"].search_sorted(pl.Series(firsts), side="left")
    return {key: frame[int(ends[i]) : int(ends[i + 1])] for i, key in enumerate(block)}


def names_of(table: str) -> tuple[str, ...]:
    """Feature columns of a table, in order."""
    return tuple(f.name for f in features_of(table))


def span(block: Sequence[str]) -> str:
    """A block as a partition range, for messages."""
    return block[0] if len(block) == 1 else f"{block[0]}...{block[-1]}"
