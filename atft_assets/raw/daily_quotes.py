"""`daily_quotes`: bars of every listed name, by date.

A listed name has a row on every trading day; on a day without a trade its prices, volume and value are null together.
The server's own adjusted prices are left out: it rewrites them backwards over the whole history at every split, so they
are no facts of their day, and the files of history lack them. `AdjFactor` of the day is the fact.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import DAILY_BARS
from atft_assets.raw.bar_rules import TRADED, half_null, impossible_days, lost_names
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import (
    DATED,
    amount,
    available_at_column,
    code_column,
    date_column,
    highest,
    lowest,
    price,
    text,
)
from atft_assets.raw.source import Pull, Source
from atft_assets.raw.stamps import Failure

MASTER = "listed_info"  # says which names a day must hold

_ADJUSTED = frozenset(f"{session}Adj{name}" for session in ("", "M", "A") for name in ("O", "H", "L", "C", "Vo"))
_FLAG = pa.Check.isin(["0", "1"])
_SESSION_PRICES = {
    session + name: price(f"{title} of the {half} session (Premium), JPY, unadjusted", nullable=True, required=False)
    for session, half in (("M", "morning"), ("A", "afternoon"))
    for name, title in zip("OHLC", ("open", "high", "low", "close"), strict=True)
}
_SESSION_OTHERS = {
    f"{session}{name}": (
        text("limit touched in the session (Premium)", _FLAG, nullable=True, required=False)
        if name in ("UL", "LL")
        else amount("of the session (Premium)", required=False)
    )
    for session in "MA"
    for name in ("UL", "LL", "Vo", "Va")
}

CONTRACT = Contract(
    table="daily_quotes",
    schema=pa.DataFrameSchema(
        {
            "date": date_column(),
            "code": code_column(),
            "O": price("Open, JPY, unadjusted", nullable=True),
            "H": price("High, JPY, unadjusted", highest(), nullable=True),
            "L": price("Low, JPY, unadjusted", lowest(), nullable=True),
            "C": price("Close, JPY, unadjusted", nullable=True),
            "UL": text("Limit-up price touched: 0 or 1", _FLAG),
            "LL": text("Limit-down price touched: 0 or 1", _FLAG),
            "Vo": amount("Shares traded, unadjusted"),
            "Va": amount("Turnover, JPY"),
            "AdjFactor": price("Applies to the days before: 0.5 on the ex-date of a 1:2 split, else 1"),
            **_SESSION_PRICES,
            **_SESSION_OTHERS,
            "MktCap": amount("Market capitalisation, million JPY (served since 2026-08)"),
            "ExRT": text("Ex-rights event: 1 split, 2 consolidation, 3 rights issue", nullable=True),
            "available_at": available_at_column(),
        },
        unique=DAILY_BARS.key_columns,
    ),
    constant_ok=DATED | {"UL", "LL", "AdjFactor", "MktCap", "ExRT", *_SESSION_PRICES, *_SESSION_OTHERS},
    # nobody trades on the day of a system halt, and that may be all that a month holds as yet; `rules` judges nulls
    nullable_ok=frozenset({"MktCap", "ExRT", *TRADED, *_SESSION_PRICES, *_SESSION_OTHERS}),
)


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """What cannot be: a column null for every name of a day, half null rows, lost names, impossible days."""
    untraded = pl.all_horizontal(pl.col(TRADED).is_null().all().over("date"))
    traded = frame.filter(~untraded)  # a day on which nobody traded is a warning, not a broken column
    days = traded.group_by("date").agg(pl.len().alias("names"), pl.col(TRADED).is_not_null().sum()).sort("date")
    for column in TRADED:
        empty = days.filter(pl.col(column) == 0)
        if empty.height:
            rows = int(empty["names"].sum())
            yield column, "not null for every name of a trading day", rows, _named(empty["date"].to_list())
    yield from half_null(frame)
    yield from lost_names(frame, beside.before, beside.tables.get(MASTER))
    yield from impossible_days(frame, beside.before)


def _named(days: Sequence[date]) -> str:
    return "all names on " + ", ".join(map(str, days[:5])) + (" …" if len(days) > 5 else "")


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All names of each day: by date, since a listing by code would miss delisted names."""
    yield from pull.by_date(days)


SOURCE = Source(
    DAILY_BARS,
    CONTRACT,
    fetch,
    module=__name__,
    description="Daily bars of every listed name as J-Quants serves them, unadjusted prices with the adjustment "
    "factor.",
    left_out=_ADJUSTED,
    rules=rules,
    reads={MASTER: 1},
)
