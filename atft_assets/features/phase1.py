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
from atft_assets.features.rolling import ENGINE
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
    members = members.filter(pl.col("date") >= (since or date.min))
    rows = own_features(quotes, members["code"].unique(), since, partition)
    return join_families(members, [rows], [calendar_of(members)], features_of("phase1_features"))


def own_features(
    quotes: pl.DataFrame, codes: pl.Series, since: date | None = None, partition: str = "-"
) -> pl.DataFrame:
    """What the bars of the given names say: date, code and the columns, traded rows sorted by date and code."""
    bars = adjusted_bars(quotes, partition, codes)
    wanted = bars.lazy().select("date").with_row_index("row").filter(pl.col("date") >= (since or date.min))
    order = wanted.sort("date", maintain_order=True).collect()["row"]
    # every family keeps the rows and the order of `bars`
    parts = [family(bars.lazy()).collect(engine=ENGINE)[order] for family in FAMILIES]
    return pl.concat([parts[0], *(part.drop("date", "code") for part in parts[1:])], how="horizontal")


def calendar_of(members: pl.DataFrame) -> pl.DataFrame:
    """The calendar's columns on the days of the given rows."""
    return calendar_features(members["date"].unique().sort().to_list())
