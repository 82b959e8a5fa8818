"""Labels: raw forward returns on the exchange calendar, kept away from the features.

`y_cc_h` runs from the close of t to the close h trading days later (comparable with the literature), `y_oo_h`
from the next open to the open h days after that (what can be traded after an evening decision). A label is null
when either price is missing: an untraded day is not replaced by the next traded one, and a delisted name has
none. Dividends are not added back.
"""

from __future__ import annotations

from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.contracts import Contract, require_columns
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.features.names import DAILY_QUOTES, LABELS, UNIVERSE, adjusted, of
from atft_assets.features.rolling import ENGINE, by_stock
from atft_assets.features.table import FeatureTable, Reader
from atft_model.interchange.horizons import HORIZONS

CLOSE_LABELS = tuple(f"y_cc_{h}d" for h in HORIZONS)
OPEN_LABELS = tuple(f"y_oo_{h}d" for h in HORIZONS)


def labels(quotes: pl.DataFrame, members: pl.DataFrame | None = None, partition: str = "all") -> pl.DataFrame:
    """Forward returns of every bar.

    Args:
        quotes: daily_quotes of the whole history (raw prices and AdjFactor).
        members: date, code of the rows wanted (the universe); None for every traded row.

    Returns:
        date, code, y_cc_{1,5,10,20}d, y_oo_{1,5,10,20}d, Float32, sorted by date and code.
    """
    frame = forward_returns(adjusted_bars(quotes, partition), HORIZONS)
    if members is not None:
        require_columns(members, ("date", "code"), table=UNIVERSE, partition=partition)
        frame = members.select("date", "code").join(frame, on=["date", "code"], how="left")
    return frame.sort("date", "code")


def first_and_last(frame: pl.DataFrame) -> tuple[date, date]:
    """First and last date of a frame that is not empty."""
    days = frame["date"].unique().sort()
    return days[0], days[-1]


def forward_returns(bars: pl.DataFrame, horizons: tuple[int, ...]) -> pl.DataFrame:
    """date, code and both label kinds for the rows of `bars` (adjusted, traded rows)."""
    if bars.is_empty():
        names = (*(f"y_cc_{h}d" for h in horizons), *(f"y_oo_{h}d" for h in horizons))
        return pl.DataFrame(schema={"date": pl.Date, "code": pl.String, **dict.fromkeys(names, pl.Float32)})
    known = trading_days(*first_and_last(bars))
    days = pl.DataFrame({"date": known}).with_row_index("day")
    close = [(_later("c", h) / pl.col("c") - 1).cast(pl.Float32).alias(f"y_cc_{h}d") for h in horizons]
    opened = [(_later("o", 1 + h) / pl.col("_next") - 1).cast(pl.Float32).alias(f"y_oo_{h}d") for h in horizons]
    return (
        by_stock(bars.select("date", "code", "o", "c"))
        .lazy()
        .join(days.lazy(), on="date", maintain_order="left")
        .with_columns(_later("o", 1).alias("_next"))
        .select("date", pl.col("code").cast(pl.String), *close, *opened)
        .collect(engine=ENGINE)
    )


def _later(price: str, h: int) -> pl.Expr:
    """The price h trading days later, null if the name did not trade then: it is among the next h own rows."""
    code, day = pl.col("code"), pl.col("day")
    return pl.coalesce(
        pl.when((code == code.shift(-rows)) & (day.shift(-rows) == day + h)).then(pl.col(price).shift(-rows))
        for rows in range(h, 0, -1)
    )


CONTRACT = Contract(
    table=LABELS,
    schema=pa.DataFrameSchema(
        {
            "date": DATE,
            "code": CODE,
            **{
                name: pa.Column(
                    pl.Float32,
                    pa.Check.ge(-1.0),
                    nullable=True,
                    description=f"{text}, raw return; null when either price is missing",
                )
                for names, text in (
                    (CLOSE_LABELS, "Close of t to the close h trading days later"),
                    (OPEN_LABELS, "Open of t+1 to the open h trading days after it"),
                )
                for name in names
            },
        },
        strict=True,
        unique=["date", "code"],
        ordered=True,
    ),
    # the last 20 (21) days have no label yet: a history that short has none to judge
    lookback=dict.fromkeys((*CLOSE_LABELS, *OPEN_LABELS), 25),
    constant_ok=frozenset({"date", "code"}),
)


def build(inputs: Reader) -> pl.DataFrame:
    """The forward returns of the whole history, on the rows of the universe."""
    quotes = inputs.read(DAILY_QUOTES, (*RAW_COLUMNS, AVAILABLE_AT))
    return labels(quotes, inputs.read(UNIVERSE, ("date", "code")), inputs.span)


TABLE = FeatureTable(
    name=LABELS,
    description="Forward returns on the exchange calendar: close to close, and from the next open. Never an input.",
    build=build,
    reads={DAILY_QUOTES: None, UNIVERSE: None},
    lineage={
        "date": of(UNIVERSE, "date"),
        "code": of(UNIVERSE, "code"),
        **dict.fromkeys(CLOSE_LABELS, adjusted("C")),
        **dict.fromkeys(OPEN_LABELS, adjusted("O")),
    },
    presence=of(DAILY_QUOTES, *RAW_COLUMNS),
    contract=CONTRACT,
)
