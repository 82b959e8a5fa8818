"""`margin_alert`: daily margin positions of the names that the exchange or JSF has flagged. Standard plan.

A row a publication, name and balance date. A correction has the `AppDate` of what it corrects and a newer `PubDate`;
two balance dates may come in one publication (2021-08-27). `*` stands where there is no such figure (ETF), `-` where
the name was not published the day before. `SLRatio` is 0 where there are no long positions.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import MARGIN_ALERT
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import (
    DATED,
    amount,
    available_at_column,
    code_column,
    date_column,
    day_text,
    number_text,
    text,
)
from atft_assets.raw.margin_interest import not_the_sum
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import Failure

REASONS = (
    "Restricted",
    "DailyPublication",
    "Monitoring",
    "RestrictedByJSF",
    "PrecautionByJSF",
    "UnclearOrSecOnAlert",
)
SIDES = {"Shrt": "Short", "Long": "Long"}
_KINDS = {"Neg": "negotiable", "Std": "standardised"}
_CHANGES = [f"{side}{kind}OutChg" for side in SIDES for kind in ("", *_KINDS)]
_RATIOS = ["ShrtOutRatio", "LongOutRatio", "SLRatio"]

CONTRACT = Contract(
    table="margin_alert",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            "AppDate": day_text("Date of the balances: the business day before the publication, or an older one"),
            "PubReason": text("Why it is published: six flags, as JSON; empty or - where none is given"),
            **{f"{side}Out": amount(f"{what} positions, shares", nullable=False) for side, what in SIDES.items()},
            **{
                f"{side}{kind}Out": amount(f"{what} positions, {which}, shares", nullable=False)
                for side, what in SIDES.items()
                for kind, which in _KINDS.items()
            },
            **{
                name: number_text("Change since the day before, shares; - if it was not published then")
                for name in _CHANGES
            },
            "ShrtOutRatio": number_text("Short positions, % of the listed shares; * for ETFs"),
            "LongOutRatio": number_text("Long positions, % of the listed shares; * for ETFs"),
            "SLRatio": number_text("Short over long, %; 0 where there is no long position"),
            "TSEMrgnRegCls": text("Class of the exchange's margin regulation"),
            "available_at": available_at_column(),
        },
        unique=MARGIN_ALERT.key_columns,
    ),
    constant_ok=DATED | {"AppDate", "PubReason", "TSEMrgnRegCls", *_CHANGES, *_RATIOS},
    empty_ok=True,
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """The two kinds of positions are all there are; nothing is published before its balance date."""
    for side in SIDES:
        yield from not_the_sum(frame, f"{side}Out", [f"{side}NegOut", f"{side}StdOut"])
    early = frame.filter(pl.col("AppDate").str.to_date("%Y-%m-%d", strict=False) >= pl.col("date"))
    if early.height:
        rows = early.select("date", "code", "AppDate").head(5).iter_rows()
        yield "AppDate", "before the publication", early.height, " | ".join(" ".join(map(str, row)) for row in rows)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All names of each publication date."""
    yield from pull.by_date(days)


SOURCE = Source(
    MARGIN_ALERT,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily margin positions of the names under restriction or watch, with the reasons.",
    empty_ok=True,  # 2021-08-26
    rules=rules,
    optional=True,
)
