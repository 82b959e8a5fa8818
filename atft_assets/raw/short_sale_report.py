"""`short_sale_report`: short positions of 0.5 % and more that holders have reported. Standard plan.

A row a report; nothing tells reports apart (people are all named 個人, and a holder may report a date twice).
`CalcDate` lies a business day or two before the disclosure, or a year, and may be a holiday: only `DiscDate` says
when a report was known. A report below 0.5 % is an exit: afterwards silence means "unknown", before it "unchanged".
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import SHORT_SALE_REPORT
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import (
    DATED,
    amount,
    available_at_column,
    code_column,
    date_column,
    day_text,
    number,
    text,
)
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import SAMPLES, Failure

THRESHOLD = 0.005  # from which on a position must be reported

_TEXTS = {
    "SSAddr": "Address of the holder",
    "DICName": "Principal of a discretionary contract",
    "DICAddr": "Address of the principal",
    "FundName": "Fund",
    "Notes": "Notes, in English or Japanese",
}

CONTRACT = Contract(
    table="short_sale_report",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "CalcDate": day_text("Date of the position"),
            "code": code_column(),
            "SSName": text("Holder, in Japanese or English; 個人 for every person"),
            "ShrtPosToSO": pa.Column(
                pl.Float64,
                pa.Check.in_range(0, 1),
                nullable=True,
                description="Position over shares outstanding, a fraction",
            ),
            "ShrtPosShares": amount("Position, shares"),
            "ShrtPosUnits": amount("Position, trading units"),
            "PrevRptDate": day_text("Date of the holder's report before", nullable=True, undecided=True),
            "PrevRptRatio": number("Position of that report, a fraction"),
            **{name: text(f"{what}; - or empty where none", nullable=True) for name, what in _TEXTS.items()},
            "available_at": available_at_column(),
        },
    ),
    constant_ok=DATED | {"CalcDate", "PrevRptDate", *_TEXTS},
    nullable_ok=frozenset({"PrevRptDate", "PrevRptRatio", *_TEXTS}),
    empty_ok=True,
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """No position is reported before its date."""
    early = frame.filter(pl.col("CalcDate").str.to_date("%Y-%m-%d", strict=False) > pl.col("date"))
    if early.height:
        rows = early.select("date", "code", "CalcDate").head(SAMPLES).iter_rows()
        yield "CalcDate", "not after the disclosure", early.height, " | ".join(" ".join(map(str, row)) for row in rows)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All reports of each disclosure date."""
    yield from pull.by_date(days)


SOURCE = Source(
    SHORT_SALE_REPORT,
    CONTRACT,
    fetch,
    module=__name__,
    description="Reported short positions of 0.5 % and more, by holder, as they were disclosed.",
    query="disc_date",
    empty_ok=True,
    rules=rules,
    optional=True,
)
