"""`options_225`: every Nikkei 225 option of each day. Standard plan; out at 03:00 of the next day.

The regular options of the index alone; weekly and flexible ones are not in it.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import FEWEST_ROWS, Contract
from atft_assets.jquants.endpoints import OPTIONS_225
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED
from atft_assets.raw.derivative_rules import LATE, VALUED, contract_columns, expired, option_columns, session
from atft_assets.raw.short_ratio import choose
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import SAMPLES, Failure

CONTRACT = Contract(
    table="options_225",
    schema=pa.DataFrameSchema(
        {
            **contract_columns(),
            **option_columns(),
            **session("", marked=False),
            **session("E", marked=True),
            **session("A", marked=False),
        },
        unique=OPTIONS_225.key_columns,
    ),
    constant_ok=DATED | {"EmMrgnTrgDiv", "BaseVol", "UnderPx", "IR"},
    nullable_ok=frozenset({*LATE, *VALUED}),
    fewest=FEWEST_ROWS,  # an excerpt of a day that nobody traded in: all prices are equal
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Contracts that have expired; more than one level of the underlying on a day."""
    yield from expired(frame)
    levels = (
        frame.filter(pl.col("EmMrgnTrgDiv") == "002")
        .group_by("date")
        .agg(pl.col("UnderPx").drop_nulls().n_unique().alias("levels"))
        .filter(pl.col("levels") > 1)
        .sort("date")
    )
    if levels.height:
        found = ", ".join(f"{day}: {count}" for day, count in levels.head(SAMPLES).iter_rows())
        yield "UnderPx", "one level of the index a day", levels.height, found


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All contracts of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    OPTIONS_225,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily bars, settlement and implied volatility of the Nikkei 225 options.",
    choose=choose,
    rules=rules,
    optional=True,
)
