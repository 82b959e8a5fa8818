"""The stock features: everything that a stock's own bars say, and the calendar."""

from __future__ import annotations

from datetime import date

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features import calendar_features, price, technical, volatility
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.joining import join_families
from atft_assets.features.names import DAILY_QUOTES, STOCK, UNIVERSE
from atft_assets.features.rolling import ENGINE
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.partitions import LOOKBACK_MONTHS

FAMILIES = (
    price.price_features,
    technical.technical_features,
    volatility.volatility_features,
    price.validity_flags,
)
FEATURES = (
    *price.FEATURES,
    *technical.FEATURES,
    *volatility.FEATURES,
    *calendar_features.FEATURES,
    *price.VALIDITY,
)


def stock_features(
    quotes: pl.DataFrame, members: pl.DataFrame, since: date | None = None, partition: str = "-"
) -> pl.DataFrame:
    """The columns of a stock's own bars and of the calendar, on the rows of the universe.

    Args:
        quotes: daily_quotes, history included.
        members: date, code of the rows wanted; an untraded day's row has nulls and is_traded = 0.
        since: first day wanted; earlier rows are history only.

    Returns:
        date, code and the features, sorted by date and code.
    """
    require_columns(members, ("date", "code"), table=UNIVERSE, partition=partition)
    members = members.filter(pl.col("date") >= (since or date.min))
    rows = own_features(quotes, members["code"].unique(), since, partition)
    return join_families(members, [rows], [calendar_of(members)], FEATURES)


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
    return calendar_features.calendar_features(members["date"].unique().sort().to_list())


def build(inputs: Reader) -> list[pl.DataFrame]:
    """The traded rows of a block's members, and the calendar of its days."""
    members = inputs.read(UNIVERSE, ("date", "code"))
    quotes = inputs.read(DAILY_QUOTES, (*RAW_COLUMNS, AVAILABLE_AT))
    return [own_features(quotes, members["code"].unique(), inputs.since, inputs.span), calendar_of(members)]


TABLE = FeatureTable(
    name=STOCK,
    description="A stock's own features: price, volume, shape, momentum, technical, volatility; and the calendar.",
    build=build,
    features=FEATURES,
    reads={DAILY_QUOTES: LOOKBACK_MONTHS, UNIVERSE: 0},
)
