"""`short_ratio`: turnover of short sales by sector, a row a sector and day. Standard plan.

34 rows a day: the 33 sectors and 9999, which is what has none (ETF, REIT), not the total; the market is the sum of all
34. On the day of a system halt there are none.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.calendar import SYSTEM_HALTS
from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import SHORT_RATIO
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED, amount, available_at_column, date_column, text
from atft_assets.raw.source import Pull, Released, Source
from atft_assets.raw.stamps import Failure

SECTORS = 33  # at least; 9999 may be missing

CONTRACT = Contract(
    table="short_ratio",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "S33": text("Sector33 code, four digits; 9999: other", pa.Check.str_matches(r"^\d{4}$")),
            "SellExShortVa": amount("Turnover of sales that are not short, JPY", nullable=False),
            "ShrtWithResVa": amount("Turnover of short sales under the price restriction, JPY", nullable=False),
            "ShrtNoResVa": amount("Turnover of short sales exempt from it, JPY", nullable=False),
            "available_at": available_at_column(),
        },
        unique=SHORT_RATIO.key_columns,
    ),
    constant_ok=DATED,
)


def choose(days: Sequence[date], released: Released) -> list[date]:
    """All but the days on which nothing could be sold."""
    return [day for day in days if day not in SYSTEM_HALTS]


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Every day holds all sectors."""
    short = frame.group_by("date").len("sectors").filter(pl.col("sectors") < SECTORS).sort("date")
    if short.height:
        found = ", ".join(f"{day}: {count}" for day, count in short.head(5).iter_rows())
        yield "S33", f"all {SECTORS} sectors on every trading day", short.height, found


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All sectors of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    SHORT_RATIO,
    CONTRACT,
    fetch,
    module=__name__,
    description="Turnover of sales by sector: not short, short under the price restriction, short without it.",
    choose=choose,
    rules=rules,
    optional=True,
)
