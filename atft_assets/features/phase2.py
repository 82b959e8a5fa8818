"""Phase 2: every family of a day side by side, for the rows of the universe."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from atft_assets.features.feature import Feature


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
