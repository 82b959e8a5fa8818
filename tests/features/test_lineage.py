"""Column lineage is true: an upstream column that is changed changes the columns that name it, and no others."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.features import definitions
from atft_assets.features.bars import adjusted_bars
from atft_assets.features.catalogue import CATALOGUE, features_of
from atft_assets.features.joining import join_families
from atft_assets.features.labels import labels
from atft_assets.features.lineage import inputs, lineage, lineage_metadata
from atft_assets.features.market import market_features
from atft_assets.features.registry import TABLES, complete, table
from atft_assets.features.schemas import describe
from atft_assets.features.sector import sector_features
from atft_assets.features.stock import stock_features
from atft_assets.features.stock_market import stock_market_features
from atft_assets.features.universe import universe
from tests.features.synthetic import members_of, raw_quotes, topix

Tables = dict[str, pl.DataFrame]
DAYS, NAMES = 330, 9
KEYS = ("date", "code")
PRICES = ("daily_quotes", "topix")  # a negative price is no price


@cache
def _upstream() -> tuple[tuple[str, pl.DataFrame], ...]:
    # prices in steps of 25 yen, so that some stand still
    steps = ((pl.col("C") / 25).round() * 25).clip(lower_bound=25)
    quotes = raw_quotes(NAMES, DAYS, seed=5, untraded=0.02, splits=True).with_columns(steps.alias("C"))
    quotes = quotes.with_columns(pl.max_horizontal("H", "C").alias("H"), pl.min_horizontal("L", "C").alias("L"))
    index, members = topix(DAYS, seed=6), members_of(quotes, sectors=2)
    return tuple(
        {
            "daily_quotes": quotes,
            "topix": index,
            "universe": members,
            "stock_features": stock_features(quotes, members),
            "market_features": market_features(index),
        }.items()
    )


def upstream() -> Tables:
    return dict(_upstream())


BUILD: dict[str, Callable[[Tables], pl.DataFrame]] = {
    "stock_features": lambda t: stock_features(t["daily_quotes"], t["universe"]),
    "market_features": lambda t: market_features(t["topix"]),
    "stock_market_features": lambda t: stock_market_features(t["stock_features"], t["market_features"], t["topix"]),
    "sector_features": lambda t: sector_features(t["stock_features"], t["universe"], adjusted_bars(t["daily_quotes"])),
    "labels": lambda t: labels(t["daily_quotes"], t["universe"]),
}
READS = {
    "stock_features": ["daily_quotes"],
    "market_features": ["topix"],
    "stock_market_features": ["stock_features", "market_features", "topix"],
    "sector_features": ["stock_features", "universe", "daily_quotes"],
    "labels": ["daily_quotes"],
}


def moved(column: pl.Series) -> pl.Series:
    """Other values in the same rows, of the same kind: numbers by a few percent, flags and sectors now and then."""
    rng = np.random.default_rng(7)
    some = pl.Series(rng.random(column.len()) < 0.05)
    if column.dtype == pl.String:
        return pl.select(pl.when(some).then(pl.lit("7")).otherwise(column)).to_series()
    if column.dtype == pl.UInt8:
        return pl.select(pl.when(some).then(1 - column.cast(pl.Int16)).otherwise(column).cast(pl.UInt8)).to_series()
    if column.name == "AdjFactor":  # every row would be a split else
        return pl.select(pl.when(some).then(column * 0.5).otherwise(column)).to_series()
    return (column * np.exp(rng.normal(0, 0.05, column.len()))).cast(column.dtype)


def gone(column: pl.Series) -> pl.Series:
    """Many values absent."""
    some = pl.Series(np.random.default_rng(8).random(column.len()) < 0.3)
    return pl.select(pl.when(~some).then(column)).to_series()


def turned(column: pl.Series) -> pl.Series:
    """The other sign."""
    return -column if column.dtype.is_float() else moved(column)


def changed(before: pl.DataFrame, after: pl.DataFrame) -> set[str]:
    """Columns that differ in any row by more than rounding; a row that is missing counts as nulls."""
    keys = [key for key in ("date", "code") if key in before.columns]
    rows = before.select(keys).join(after.select(keys), on=keys, how="full", coalesce=True)
    one, two = (rows.join(frame, on=keys, how="left", maintain_order="left") for frame in (before, after))
    found = set()
    for name in set(before.columns) - set(keys):
        a, b = (frame[name].cast(pl.Float64) for frame in (one, two))
        differs = (a - b).abs() > 1e-4 * pl.select(pl.max_horizontal(a.abs(), b.abs(), pl.lit(1e-2))).to_series()
        if (a.is_null() != b.is_null()).any() or differs.fill_null(False).any():
            found.add(name)
    return found


def perturbed(table: str, change: Callable[[pl.Series], pl.Series]) -> Iterator[tuple[tuple[str, str], set[str]]]:
    """Each upstream column, and what changes with it."""
    tables = upstream()
    before = BUILD[table](tables)
    for source in READS[table]:
        for column in tables[source].columns:
            if column in KEYS or (source, column) in UNREAD or (change is turned and source in PRICES):
                continue
            spoiled = tables[source].with_columns(change(tables[source][column]).alias(column))
            yield (source, column), changed(before, BUILD[table]({**tables, source: spoiled}))


# Columns of the catalogue that no other table reads: not built anew for each of them
UNREAD = {("stock_features", f.name) for f in features_of("stock_features")} | {
    ("market_features", f.name) for f in features_of("market_features")
}
UNREAD -= {column for row in TABLES for f in row.features for column in inputs(row, f)}


@pytest.mark.parametrize("name", BUILD)
def test_a_column_changes_with_what_it_is_computed_from_and_with_nothing_else(name: str) -> None:
    declared = {c: _without_keys(read) for c, read in lineage(table(name)).items() if c not in KEYS}
    seen: dict[str, set[tuple[str, str]]] = {c: set() for c in declared}
    for change in (moved, turned, gone):
        for column, names in perturbed(name, change):
            for changing in names:
                seen[changing].add(column)
            # the absence of one price takes the whole row away, and with it every column
            undeclared = {c for c in names if column not in declared[c]} if change is not gone else set()
            assert not undeclared, f"{'.'.join(column)} changes {sorted(undeclared)}, whose lineage lacks it"
    unseen = {c: sorted(read - seen[c]) for c, read in declared.items() if read - seen[c]}
    assert not unseen, "lineage names columns that change nothing"


def _without_keys(read: frozenset[tuple[str, str]]) -> set[tuple[str, str]]:
    return {column for column in read if column[1] not in KEYS}


def test_all_features_takes_every_column_from_the_table_of_its_family() -> None:
    read = lineage(table("all_features"))
    assert read["rsi_14"] == {("stock_features", "rsi_14")}
    assert read["mkt_vol_20d"] == {("market_features", "mkt_vol_20d")}
    tables = upstream()
    rows = tables["universe"].select("date", "code")
    features = features_of("stock_features")
    before = join_families(rows, [tables["stock_features"]], [], features)
    spoiled = tables["stock_features"].with_columns(moved(tables["stock_features"]["rsi_14"]).alias("rsi_14"))
    assert changed(before, join_families(rows, [spoiled], [], features)) == {"rsi_14"}


def test_the_universe_names_the_columns_of_the_master() -> None:
    quotes = raw_quotes(3, 30)
    first = quotes["date"].min()
    listed = pl.DataFrame(
        {
            "date": [first] * 3, "code": quotes["code"].unique().sort(), "S33": ["1", "2", "3"], "S17": ["1", "2", "3"],
            "Mkt": ["0111"] * 3, "ScaleCat": ["a", "b", "c"], "ProdCat": ["011"] * 3,
            "available_at": pl.Series([first] * 3).cast(pl.Datetime("us", "Asia/Tokyo")),
        }
    )  # fmt: skip
    before = universe(quotes, listed)
    assert before.height
    for column, name in (("S33", "s33"), ("S17", "s17"), ("Mkt", "mkt"), ("ScaleCat", "scale_cat")):
        after = universe(quotes, listed.with_columns(pl.lit("0112").alias(column)))
        assert [c for c in before.columns if not before[c].equals(after[c])] == [name]
        assert lineage(table("universe"))[name] == {("listed_info", column)}
    for column in ("Mkt", "ProdCat"):  # who belongs
        assert universe(quotes, listed.with_columns(pl.lit("9").alias(column))).is_empty()
        assert ("listed_info", column) in lineage(table("universe"))["code"]


def test_lineage_names_columns_that_exist_in_tables_that_the_asset_reads(published) -> None:
    assets = {one.key.to_user_string(): one for one in definitions(published.settings()).assets or []}
    for row in complete():
        read = {column for columns in lineage(row).values() for column in columns}
        assert {source for source, _ in read} == {
            dep.asset_key.to_user_string() for spec in assets[row.name].specs for dep in spec.deps
        }
        for source, column in read:
            if source in assets:
                assert column in lineage(table(source))


def test_a_column_without_a_true_declaration_is_refused_with_the_remedy() -> None:
    stock = table("stock_features")
    for reads, remedy in (
        ((), r"returns_1d does not say .* give it `reads=`"),
        (("topix.C",), r"returns_1d reads topix.C, but .* add the table to `reads`"),
        (("returns_2d",), r"returns_1d reads returns_2d, but .* mend the name"),
    ):
        with pytest.raises(ValueError, match=remedy):
            replace(stock, features=(replace(CATALOGUE[0], reads=reads), *CATALOGUE[1:3]))


def test_metadata_and_descriptions_are_small() -> None:
    value = dg.MetadataValue.column_lineage(lineage_metadata(table("all_features"))["dagster/column_lineage"])
    assert len(dg.serialize_value(value)) < 200 * len(CATALOGUE)
    text = describe(table("stock_features"), next(f for f in CATALOGUE if f.name == "rsi_14"))
    assert "look-back 71" in text and "AdjFactor, C" in text and "evening" not in text and "model input" in text
