"""The month tables of raw records: one line a table. What there is to say of one stands in its module."""

from atft_assets.raw import daily_quotes, listed_info, sector_indices, topix
from atft_assets.raw.source import Source

SOURCES: tuple[Source, ...] = (
    listed_info.SOURCE,
    daily_quotes.SOURCE,
    topix.SOURCE,
    sector_indices.SOURCE,
)
