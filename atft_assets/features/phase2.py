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
    frame = members.lazy().select("date", "code")
    for part in by_stock:
        frame = frame.join(part.lazy(), on=["date", "code"], how="left")
    for part in by_day:
        frame = frame.join(part.lazy(), on="date", how="left")
    columns = (pl.col(f.name).fill_null(0) if f.family == "validity" else f.name for f in features)
    return frame.select("date", "code", *columns).sort("date", "code").collect()
