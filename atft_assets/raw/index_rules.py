"""What daily bars of indices must be: an index moves with its members, and price limits hold these."""

from collections.abc import Iterator

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import INDICES
from atft_assets.raw.beside import Beside, with_before
from atft_assets.raw.columns import (
    DATED,
    INDEX_CODE,
    available_at_column,
    code_column,
    date_column,
    highest,
    lowest,
    price,
)
from atft_assets.raw.stamps import SAMPLES, Failure

JUMP = 1.3  # a day's move of an index, as a factor either way; the TOPIX has never reached 1.17 (October 1987)


def index_contract(table: str) -> Contract:
    """The contract of a table of the bars of several indices; of some there is a close alone."""
    return Contract(
        table=table,
        schema=pa.DataFrameSchema(
            {
                "date": date_column(),
                "code": code_column(INDEX_CODE, "Index code, four characters"),
                "O": price("Open", nullable=True),
                "H": price("High", highest(), nullable=True),
                "L": price("Low", lowest(), nullable=True),
                "C": price("Close"),
                "available_at": available_at_column(),
            },
            unique=INDICES.key_columns,
        ),
        constant_ok=DATED,
    )


def index_jumps(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Days on which an index moves by more than the factor, held against the day before.

    Args:
        frame: date, C, and `code` where there are several indices.
    """
    series = ["code"] if "code" in frame.columns else []
    rows = with_before(frame.select("date", *series, "C"), beside.before).sort(*series, "date")
    last = pl.col("C").shift(1)
    move = (pl.col("C") / (last.over(series) if series else last)).log().abs()
    found = rows.filter((move > pl.lit(JUMP).log()) & (pl.col("date") >= frame["date"].min())).sort("date")
    if found.height:
        said = (" ".join(map(str, row)) for row in found.head(SAMPLES).iter_rows())
        yield "C", f"moves by at most a factor of {JUMP:g} a day", found.height, " | ".join(said)
