"""The asset check that no stored row knows its future.

A month is built once more, table by table in the order of the registry, as it would have been on the evening of one of
its days: from raw records that could be had by then, whatever their date is. The stored rows up to the day must be the
same. The day is drawn from the data version, so that every build looks elsewhere; where raw records of the month came
out after the day that they are dated, it is one of the days between, on which a join by date knows too much.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import dagster as dg
import polars as pl

from atft_assets import calendar, partitions
from atft_assets.features.asof import AVAILABLE_AT, decision
from atft_assets.features.build import month_frames
from atft_assets.features.names import ALL, GROUP, RAW
from atft_assets.features.registry import TABLES, complete
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Settings
from atft_assets.store import MissingColumns, Store

# Float32 columns computed in another block agree up to the rounding of running sums.
TOLERANCE = 1e-4


@dataclass
class Evening:
    """What could be read on an evening: the platform as it was then.

    Raw records count if they were available; rows of feature tables if they are not dated later. Of the evening's
    month, feature tables are what `rebuilt` holds; their months before it are taken from the store.

    Attributes:
        last: the evening's day.
        rebuilt: the month of each feature table, as far as it has been built anew.
    """

    store: Store
    tables: frozenset[str]
    last: date
    rebuilt: dict[str, pl.DataFrame] = field(default_factory=dict)

    def fetch(self, name: str, months: Sequence[str], columns: Sequence[str] | None) -> pl.DataFrame:
        """Months of a table, as far as that evening knew them."""
        if name not in self.tables:
            return self._known(name, months, columns)
        key = calendar.month_key(self.last)
        anew = self.rebuilt[name]
        anew = anew if columns is None else anew.select(columns)
        past = [month for month in months if month < key]
        return pl.concat([self.store.table(GROUP, name).read(past, columns), anew]) if past else anew

    def _known(self, name: str, months: Sequence[str], columns: Sequence[str] | None) -> pl.DataFrame:
        table = self.store.table(RAW, name)
        if not has_availability(self.store, name, months):
            return table.read(months, columns).filter(pl.col("date") <= self.last)
        read = None if columns is None else list(dict.fromkeys([*columns, AVAILABLE_AT]))
        known = table.read(months, read).filter(pl.col(AVAILABLE_AT) <= calendar.decision_instant(self.last))
        return known if columns is None else known.select(columns)


def has_availability(store: Store, name: str, months: Sequence[str]) -> bool:
    """Whether the records of a raw table say when they could be had."""
    try:
        store.table(RAW, name).read(months[-1:], [AVAILABLE_AT])
    except MissingColumns:
        return False
    return True


def rebuild_truncated(store: Store, first: str, last: date, tables: Iterable[FeatureTable] = TABLES) -> pl.DataFrame:
    """`all_features` of the month of `last` up to `last`, every table from inputs that the evening of `last` knew.

    Args:
        first: first month of any data.
    """
    key = calendar.month_key(last)
    rows = [table for table in complete(tables) if not table.whole]
    evening = Evening(store, frozenset(table.name for table in rows), last)
    for table in rows:
        reader = Reader(table, (key,), first, evening.fetch)
        ((_, frame, _),) = month_frames(table, reader)
        evening.rebuilt[table.name] = frame.filter(pl.col("date") <= last)
    return evening.rebuilt[ALL]


def differences(stored: pl.DataFrame, rebuilt: pl.DataFrame) -> pl.DataFrame:
    """Columns that differ, with the number of rows and the first of them.

    Returns:
        column, rows, first_date, first_code.
    """
    both = stored.join(rebuilt, on=["date", "code"], how="full", suffix=":new", coalesce=True)
    columns = [c for c in stored.columns if c not in ("date", "code")]
    unequal = both.select("date", "code", *(_unequal(c).alias(c) for c in columns))
    found = unequal.unpivot(index=["date", "code"], variable_name="column", value_name="differs").filter("differs")
    if stored.height != rebuilt.height:
        rows = pl.DataFrame({"column": ["(rows)"], "rows": [abs(stored.height - rebuilt.height)]})
    else:
        rows = pl.DataFrame(schema={"column": pl.String, "rows": pl.Int64})
    summary = found.group_by("column").agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("date").min().alias("first_date"),
        pl.col("code").first().alias("first_code"),
    )
    return pl.concat([rows, summary], how="diagonal").sort("rows", descending=True)


def _unequal(column: str) -> pl.Expr:
    old, new = pl.col(column).cast(pl.Float64), pl.col(f"{column}:new").cast(pl.Float64)
    far = (old - new).abs() > TOLERANCE * pl.max_horizontal(pl.lit(1.0), old.abs())
    return (old.is_null() != new.is_null()) | far.fill_null(False)


def sampled_day(store: Store, version: str, keys: Sequence[str], tables: Iterable[FeatureTable] = TABLES) -> date:
    """A telling day of a published month, drawn from the data version: first of which raw table, then which day.

    A table that is late every day would else outweigh one that is late on a few.
    """
    draw, place = divmod(int(version[:12], 16), len(keys))
    found = telling(store, keys[place], tables)
    draw, source = divmod(draw, max(len(found), 1))
    days = found[sorted(found)[source]] if found else calendar.days_of_month(keys[place])
    return days[draw % len(days)]


def telling(store: Store, key: str, tables: Iterable[FeatureTable] = TABLES) -> dict[str, list[date]]:
    """By raw table, the trading days of a month on which a record of it is dated, but not yet known."""
    rows = complete(tables)
    names = {table.name for table in rows}
    days = calendar.days_of_month(key)
    found = {}
    for name in sorted({source for table in rows for source in table.reads} - names):
        late = _late(store, name, key)
        held = {day for dated, known in late for day in days if day >= dated and calendar.decision_instant(day) < known}
        if held:
            found[name] = sorted(held)
    return found


def telling_days(store: Store, key: str, tables: Iterable[FeatureTable] = TABLES) -> list[date]:
    """Trading days of a month on which a raw record is dated, but not yet known; all of its days if there is none."""
    found = telling(store, key, tables)
    return sorted({day for days in found.values() for day in days}) or calendar.days_of_month(key)


def _late(store: Store, name: str, key: str) -> list[tuple[date, datetime]]:
    """Date and instant of a raw month's records that came out after the evening of their date."""
    try:
        frame = store.table(RAW, name).read([key], ["date", AVAILABLE_AT])
    except MissingColumns:  # events without a date, or a table that is known at once
        return []
    late = frame.filter(pl.col(AVAILABLE_AT) > decision()).unique()
    return late.select("date", pl.col(AVAILABLE_AT).dt.convert_time_zone("Asia/Tokyo")).rows()


def judge(store: Store, first: str, day: date, tables: Iterable[FeatureTable] = TABLES) -> tuple[int, pl.DataFrame]:
    """The number of stored rows of a day's month up to the day, and what of them that evening did not know.

    Returns:
        rows; `differences`.
    """
    stored = store.table(GROUP, ALL).read([calendar.month_key(day)]).filter(pl.col("date") <= day)
    rebuilt = rebuild_truncated(store, first, day, tables)
    # a month of a larger plan, or of older code, has columns of tables that are not there any more
    both = [name for name in stored.columns if name in rebuilt.columns]
    return stored.height, differences(stored.select(both), rebuilt)


def point_in_time_check(settings: Settings, tables: Iterable[FeatureTable] = TABLES) -> dg.AssetChecksDefinition:
    """The check on `all_features`; it does not block, but it fails loudly."""
    tables, months = tuple(tables), partitions.months(settings)

    @dg.asset_check(
        asset=ALL,
        name="point_in_time",
        blocking=False,
        description="A sampled month, built again from what one of its evenings knew, has the same rows.",
    )
    def point_in_time(store: Store) -> dg.AssetCheckResult:
        table = store.table(GROUP, ALL)
        day = sampled_day(store, table.version(), table.keys(), tables)
        rows, found = judge(store, months.get_first_partition_key() or "", day, tables)
        records = [dg.TableRecord({k: str(v) for k, v in row.items()}) for row in found.head(20).iter_rows(named=True)]
        return dg.AssetCheckResult(
            passed=found.is_empty(),
            severity=dg.AssetCheckSeverity.ERROR,
            description=(
                f"{rows} rows up to {day} are what that evening knew"
                if found.is_empty()
                else f"rows up to {day} differ from what that evening knew in {found.height} columns, first "
                f"{found['column'][0]}: look for a window or a join that reads later records"
            ),
            metadata={
                "day": str(day),
                "rows": rows,
                **({"differences": dg.MetadataValue.table(records)} if records else {}),
            },
        )

    return point_in_time
