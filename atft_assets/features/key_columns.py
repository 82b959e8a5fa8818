"""Pandera columns of the keys that feature tables share."""

import pandera.polars as pa
import polars as pl

from atft_assets.features.bars import CODE_PATTERN

DATE = pa.Column(pl.Date, nullable=False, description="Trading day; the row holds what was known at 18:30 JST")
CODE = pa.Column(pl.String, pa.Check.str_matches(CODE_PATTERN), nullable=False, description="Five characters, opaque")
