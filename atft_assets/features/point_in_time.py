"""The asset check that no stored row knows its future.

A month is built once more, as it would have been on the evening of one of its days, from inputs cut off at that
day; the stored rows up to the day must be the same. Which month and day is drawn from the data version, so that
every build looks elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
import polars as pl

from atft_assets import calendar, partitions
from atft_assets.features import market, sector, stock_market
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.build import GROUP, Builder
from atft_assets.features.catalogue import features_of
from atft_assets.features.phase1 import phase1_features
from atft_assets.features.phase2 import join_families
from atft_assets.features.universe import universe
from atft_assets.settings import Settings
from atft_assets.store import Store

# Float32 columns computed in another block agree up to the rounding of running sums.
TOLERANCE = 1e-4


@dataclass
class TruncatedBuilder(Builder):
    """A builder that reads nothing dated after `last`: the platform as it was that evening."""

    last: date = date.max

    def _read(
        self, group: str, name: str, block: Sequence[str], back: int, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        return super()._read(group, name, block, back, columns).filter(pl.col("date") <= self.last)


def rebuild_truncated(store: Store, settings: Settings, first: str, last: date) -> pl.DataFrame:
    """The month of `last` up to `last`, every family from inputs cut off there.

    The stored months before it serve as history of the derived families; the month itself is computed anew from
    raw bars.
    """
    key = calendar.month_key(last)
    read = TruncatedBuilder(store, first, settings.start, last=last)._read
    since = calendar.first_of_month(key)
    listed = _known(store, first, key, last)
    members = universe(read("raw", "daily_quotes", [key], 0, ("date", "code")), listed, key)
    quotes = read("raw", "daily_quotes", [key], sector.LOOKBACK_MONTHS, (*RAW_COLUMNS, "available_at"))
    phase1 = phase1_features(quotes, members, since, key)
    topix = read("raw", "topix", [key], market.LOOKBACK_MONTHS, market.TOPIX_COLUMNS)
    by_day = market.market_features(topix, key)
    past = _past(store, first, key)
    own = pl.concat([past("phase1_features", stock_market.PHASE1_COLUMNS), phase1.select(stock_market.PHASE1_COLUMNS)])
    against_market = stock_market.stock_market_features(own, by_day, topix, key)
    rows = pl.concat([past("phase1_features", sector.PHASE1_COLUMNS), phase1.select(sector.PHASE1_COLUMNS)])
    sectors = pl.concat([past("universe", sector.UNIVERSE_COLUMNS), members.select(sector.UNIVERSE_COLUMNS)])
    against_sector = sector.sector_features(rows, sectors, adjusted_bars(quotes, key), key)
    return join_families(members, [phase1, against_market, against_sector], [by_day], features_of("phase2_features"))


def _known(store: Store, first: str, key: str, last: date) -> pl.DataFrame:
    """Snapshots of the master that could be had on the evening of `last`."""
    earliest = max(first, calendar.shift_month(key, -1))
    listed = store.table("raw", "listed_info").read(calendar.months_between(earliest, key))
    return listed.filter(pl.col("available_at") <= calendar.decision_instant(last))


def _past(store: Store, first: str, key: str) -> Callable[[str, Sequence[str]], pl.DataFrame]:
    earliest = max(first, calendar.shift_month(key, -sector.LOOKBACK_MONTHS))
    months = calendar.months_between(earliest, calendar.shift_month(key, -1))

    def read(name: str, columns: Sequence[str]) -> pl.DataFrame:
        table = store.table(GROUP, name)
        # with no month before, the schema still comes from the table
        return table.read(months, columns) if months else table.read([key], columns).clear()

    return read


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


def sampled_day(version: str, keys: list[str]) -> date:
    """A trading day of a published month, drawn from the data version."""
    draw = int(version[:12], 16)
    days = calendar.days_of_month(keys[draw % len(keys)])
    return days[(draw // len(keys)) % len(days)]


def point_in_time_check(settings: Settings) -> dg.AssetChecksDefinition:
    """The check on `phase2_features`; it does not block, but it fails loudly."""
    months = partitions.months(settings)

    @dg.asset_check(
        asset="phase2_features",
        name="point_in_time",
        blocking=False,
        description="A sampled month, built again from inputs cut off at one of its days, has the same rows.",
    )
    def point_in_time(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
        table = store.table(GROUP, "phase2_features")
        keys = table.keys()
        day = sampled_day(table.version(), keys)
        stored = table.read([calendar.month_key(day)]).filter(pl.col("date") <= day)
        first = months.get_first_partition_key() or ""
        found = differences(stored, rebuild_truncated(store, settings, first, day))
        records = [dg.TableRecord({k: str(v) for k, v in row.items()}) for row in found.head(20).iter_rows(named=True)]
        return dg.AssetCheckResult(
            passed=found.is_empty(),
            severity=dg.AssetCheckSeverity.ERROR,
            description=(
                f"{stored.height} rows up to {day} are what that evening knew"
                if found.is_empty()
                else f"rows up to {day} differ from what that evening knew in {found.height} columns, first "
                f"{found['column'][0]}: look for a window or a join that reads later records"
            ),
            metadata={
                "day": str(day),
                "rows": stored.height,
                **({"differences": dg.MetadataValue.table(records)} if records else {}),
            },
        )

    return point_in_time
