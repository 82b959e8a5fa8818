"""`fins_dividend`: announcements of dividends, a row an announcement. Premium plan.

Event-sourced: a revision or deletion is a row of its own that names the first one in `CARefNo`. One publication may
hold several terms, which `RefNo` tells apart; of a term the newest by (`PubDate`, `PubTime`, `RefNo`) counts. `ExDate`
may lie a year ahead. `-` is undecided, "" does not apply; a rate of 0 is one.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import FINS_DIVIDEND
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, day_text, number_text, text
from atft_assets.raw.source import Pull, Source

_AMOUNTS = {
    "DivRate": "Dividend, JPY a share",
    "DistAmt": "Amount distributed, JPY a share",
    "RetEarn": "Of it from retained earnings, JPY a share",
    "DeemDiv": "Deemed dividend, JPY a share",
    "DeemCapGains": "Deemed capital gain, JPY a share",
    "NetAssetDecRatio": "Ratio by which net assets decrease",
    "CommDivRate": "Commemorative dividend, JPY a share (since 2022-06-06)",
    "SpecDivRate": "Special dividend, JPY a share (since 2022-06-06)",
}
_DATES = {
    "BoardDate": "Resolution of the board",
    "RecDate": "Record date",
    "ActRecDate": "Day on which it counts who is a holder",
    "PayDate": "Day of payment",
}

CONTRACT = Contract(
    table="fins_dividend",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "PubTime": text("Time of the announcement, HH:MM"),
            "code": code_column(),
            "RefNo": text("Number of the announcement", pa.Check.str_matches(r"^\S+$")),
            "StatCode": text("1 new, 2 revised, 3 deleted", pa.Check.isin(["1", "2", "3"])),
            "IFCode": text("1 interim, 2 final", pa.Check.isin(["1", "2"])),
            "FRCode": text("1 decided, 2 forecast", pa.Check.isin(["1", "2"])),
            "IFTerm": text("Term, YYYY-MM", pa.Check.str_matches(r"^\d{4}-\d{2}$")),
            "ExDate": day_text("Ex-dividend date", undecided=True),
            **{name: day_text(said, nullable=True, undecided=True) for name, said in _DATES.items()},
            "CARefNo": text("Number of the first announcement of the same dividend"),
            "CommSpecCode": text("0 ordinary, 1 commemorative, 2 special, 3 both", nullable=True),
            **{name: number_text(said) for name, said in _AMOUNTS.items()},
            "available_at": available_at_column(),
        },
        unique=FINS_DIVIDEND.key_columns,
    ),
    constant_ok=DATED
    | {"PubTime", "StatCode", "IFCode", "FRCode", "IFTerm", "ExDate", "CommSpecCode", *_DATES, *_AMOUNTS},
    nullable_ok=frozenset({"CommSpecCode", *_DATES, *_AMOUNTS}),
    empty_ok=True,
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All announcements of each day."""
    yield from pull.by_date(days)


SOURCE = Source(
    FINS_DIVIDEND,
    CONTRACT,
    fetch,
    module=__name__,
    description="Announcements of dividends with their revisions and deletions.",
    empty_ok=True,
    closed_days=True,
    optional=True,
)
