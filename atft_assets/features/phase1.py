"""Phase 1: everything that a stock's own bars say, and the calendar."""

from __future__ import annotations

from datetime import date

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.bars import adjusted_bars
from atft_assets.features.calendar_features import calendar_features
from atft_assets.features.catalogue import features_of
from atft_assets.features.phase2 import join_families
from atft_assets.features.price import price_features, validity_flags
from atft_assets.features.technical import technical_features
from atft_assets.features.volatility import volatility_features

FAMILIES = (price_features, technical_features, volatility_features, validity_flags)


def phase1_features(
    quotes: pl.DataFrame, members: pl.DataFrame, since: date | None = None, partition: str = "-"
) -> pl.DataFrame:
    """The Phase 1 columns on the rows of the universe.

    Args:
        quotes: daily_quotes, history included.
        members: date, code of the rows wanted; an untraded day's row has nulls and is_traded = 0.
        since: first day wanted; earlier rows are history only.

    Returns:
        date, code and the features, sorted by date and code.
    """
    require_columns(members, ("date", "code"), table="universe", partition=partition)
    since = since or date.min
    members = members.filter(pl.col("date") >= since)
    bars = adjusted_bars(quotes, partition).join(members.select(pl.col("code").unique()), on="code", how="semi")
    bars = bars.sort("code", "date")
    parts = [family(bars.lazy()).filter(pl.col("date") >= since).collect() for family in FAMILIES]
    # every family keeps the rows and the order of `bars`
    wide = pl.concat([parts[0], *(part.drop("date", "code") for part in parts[1:])], how="horizontal")
    days = calendar_features(members["date"].unique().sort().to_list())
    return join_families(members, [wide], [days], features_of("phase1_features"))
