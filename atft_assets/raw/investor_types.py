"""`investor_types`: weekly purchases and sales by kind of investor and section of the market. Light plan.

A row a publication, week and section. It comes on the fourth business day after the week as a rule, later around
holidays: only `PubDate` says when. A correction is a further row with a newer `PubDate`. Sections changed on
2022-04-04; `TokyoNagoya` is the whole market and not the sum of the sections. Thousand JPY.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import INVESTOR_TYPES
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED, amount, available_at_column, date_column, day_text, number, text
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import SAMPLES, Failure

INVESTORS = {
    "Prop": "proprietary trading",
    "Brk": "brokerage",
    "Tot": "all",
    "Ind": "individuals",
    "Frgn": "foreigners",
    "SecCo": "securities companies",
    "InvTr": "investment trusts",
    "BusCo": "business companies",
    "OthCo": "other companies",
    "InsCo": "insurance companies",
    "Bank": "city and regional banks",
    "TrstBnk": "trust banks",
    "OthFin": "other financial institutions",
}
CLIENTS = ("Ind", "Frgn", "SecCo", "InvTr", "BusCo", "OthCo", "InsCo", "Bank", "TrstBnk", "OthFin")

CONTRACT = Contract(
    table="investor_types",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "StDate": day_text("First day of the week"),
            "EnDate": day_text("Last day of the week"),
            "Section": text("Section of the market; TokyoNagoya: all"),
            **{
                f"{who}{what}": column
                for who, title in INVESTORS.items()
                for what, column in (
                    ("Sell", amount(f"Sales of {title}, thousand JPY", nullable=False)),
                    ("Buy", amount(f"Purchases of {title}, thousand JPY", nullable=False)),
                    ("Tot", amount(f"Sales and purchases of {title}, thousand JPY", nullable=False)),
                    ("Bal", number(f"Purchases less sales of {title}, thousand JPY", nullable=False)),
                )
            },
            "available_at": available_at_column(),
        },
        unique=INVESTOR_TYPES.key_columns,
    ),
    constant_ok=DATED
    | {"StDate", "EnDate", "Section", *(f"{who}{what}" for who in INVESTORS for what in ("Sell", "Buy", "Tot", "Bal"))},
    empty_ok=True,
)

TOLERANCE = 5.0  # thousand JPY, over rounded parts


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """Sums: both sides of everybody, proprietary and brokerage, the ten kinds of clients."""
    for who in INVESTORS:
        sell, buy = pl.col(f"{who}Sell"), pl.col(f"{who}Buy")
        yield from _unequal(frame, f"{who}Tot", sell + buy, "sales + purchases")
        yield from _unequal(frame, f"{who}Bal", buy - sell, "purchases - sales")
    yield from _unequal(frame, "TotTot", pl.col("PropTot") + pl.col("BrkTot"), "proprietary + brokerage")
    yield from _unequal(frame, "BrkTot", pl.sum_horizontal(f"{who}Tot" for who in CLIENTS), "the kinds of clients")


def _unequal(frame: pl.DataFrame, column: str, parts: pl.Expr, what: str) -> Iterator[Failure]:
    bad = frame.filter((pl.col(column) - parts).abs() > TOLERANCE)
    if bad.height:
        rows = bad.select("date", "EnDate", "Section", column).head(SAMPLES).iter_rows()
        yield column, f"the sum: {what}", bad.height, " | ".join(" ".join(map(str, row)) for row in rows)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """One range of publication dates."""
    records = pull.client.fetch(INVESTOR_TYPES, {"from": min(days), "to": max(days)})
    if records:
        yield pull.frame(records, f"{min(days):%Y-%m}")


SOURCE = Source(
    INVESTOR_TYPES,
    CONTRACT,
    fetch,
    module=__name__,
    description="Weekly purchases and sales by kind of investor and section of the market, as they were published.",
    at_once=True,
    empty_ok=True,
    rules=rules,
    optional=True,
)
