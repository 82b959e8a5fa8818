"""Families side by side on the rows of the universe: how tables get their rows, and `all_features`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from atft_assets.features.feature import Feature
from atft_assets.features.names import ALL, UNIVERSE, of
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan


def join_families(
    members: pl.DataFrame, by_stock: Sequence[pl.DataFrame], by_day: Sequence[pl.DataFrame], features: Sequence[Feature]
) -> pl.DataFrame:
    """All features on the rows of the universe.

    Args:
        members: date, code (unique).
        by_stock: frames with date, code; by_day: frames with date.
        features: the columns to keep, in order.

    Returns:
        date, code and the features, sorted by date and code; a missing row leaves nulls, its validity flags become 0.
    """
    rows = members.select("date", "code").sort("date", "code")
    frame = pl.concat([rows, *(_on(rows, part, ["date", "code"]) for part in by_stock)], how="horizontal")
    frame = pl.concat([frame, *(_on(rows, part, ["date"]) for part in by_day)], how="horizontal")
    return frame.select(
        "date", "code", *(pl.col(f.name).fill_null(0) if f.family == "validity" else f.name for f in features)
    )


def _on(rows: pl.DataFrame, part: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The columns of a part on the given rows: as they are where its rows are the same, else joined."""
    if not part.select(keys).equals(rows.select(keys)):
        part = rows.select(keys).join(part, on=keys, how="left", maintain_order="left")
    return part.drop(keys)


def side_by_side(inputs: Reader) -> list[pl.DataFrame]:
    """The features of every table that is read, as they were published."""
    return [inputs.read(name) for name in inputs.table.reads if name != UNIVERSE]


def all_features(tables: Iterable[FeatureTable]) -> FeatureTable:
    """The row of `all_features`: every feature of the tables, in their order.

    A column is taken from the table that computes it, which has judged its range already; keys, dtypes, finiteness,
    coverage and variation are judged again, for a join can break them.
    """
    tables = [table for table in tables if table.features]
    features = [
        replace(f, reads=of(table.name, f.name), low=None, high=None) for table in tables for f in table.features
    ]
    order = list(Plan)
    largest = max(tables, key=lambda table: order.index(table.plan))
    return FeatureTable(
        name=ALL,
        description="Every feature of the catalogue side by side, on the rows of the universe.",
        build=side_by_side,
        features=tuple(features),
        reads={UNIVERSE: 0, **{table.name: 0 for table in tables}},
        plan=largest.plan,
        needs=largest.needs,
    )
