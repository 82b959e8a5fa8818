"""`margin_interest`: outstanding margin positions of every name. Standard plan.

Weekly until 2026-09-24: `Date` is the last business day of a week (Thursday where Friday is closed), it comes on the
second business day of the next week and bears no publication date; weeks of two sessions or fewer have none. Daily
since 2026-09-25, with `PubDate`, the business day after. One table over the change; volumes are never adjusted for
splits.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.calendar import next_trading_day
from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import MARGIN_INTEREST
from atft_assets.raw.beside import Beside
from atft_assets.raw.columns import DATED, amount, available_at_column, code_column, date_column, day_text, text
from atft_assets.raw.source import Pull, Released, Source
from atft_assets.raw.stamps import SAMPLES, Failure

DAILY_SINCE = date(2026, 9, 25)
SIDES = {"Shrt": "Short", "Long": "Long"}
KINDS = {"": "all", "Neg": "negotiable", "Std": "standardised"}
_NAMES = [(side, kind) for kind in KINDS for side in SIDES]

CONTRACT = Contract(
    table="margin_interest",
    schema=pa.DataFrameSchema(
        {
            "PubDate": day_text("Published on; null of the weekly edition", nullable=True, required=False),
            "date": date_column(),
            "code": code_column(),
            "IssType": text("1 margin, 2 loan, 3 other", pa.Check.isin(["1", "2", "3"])),
            **{
                f"{side}{kind}Vol": amount(f"{SIDES[side]} positions, {KINDS[kind]}, shares", nullable=False)
                for side, kind in _NAMES
            },
            **{
                f"{side}{kind}Val": amount(
                    f"{SIDES[side]} positions, {KINDS[kind]}, JPY (daily edition)", required=False
                )
                for side, kind in _NAMES
            },
            "available_at": available_at_column(),
        },
        unique=MARGIN_INTEREST.key_columns,
    ),
    constant_ok=DATED | {"PubDate", "IssType"},
    nullable_ok=frozenset({"PubDate", *(f"{side}{kind}Val" for side, kind in _NAMES)}),
    empty_ok=True,
)


def choose(days: Sequence[date], released: Released) -> list[date]:
    """The last trading day of each week, and every day since the edition is daily."""
    return [day for day in days if day >= DAILY_SINCE or closes_week(day)]


def closes_week(day: date) -> bool:
    """Whether a trading day is the last of its ISO week."""
    return next_trading_day(day).isocalendar()[:2] != day.isocalendar()[:2]


def rules(frame: pl.DataFrame, beside: Beside) -> Iterator[Failure]:
    """The two kinds of positions are all there are."""
    for side in SIDES:
        yield from not_the_sum(frame, f"{side}Vol", [f"{side}NegVol", f"{side}StdVol"])


def not_the_sum(frame: pl.DataFrame, total: str, parts: Sequence[str]) -> Iterator[Failure]:
    """Rows in which a total is not the sum of its parts."""
    bad = frame.filter((pl.col(total) - pl.sum_horizontal(parts)).abs() > 0.5)
    if bad.height:
        keys = [name for name in ("date", "code") if name in bad.columns]
        rows = bad.select(*keys, total, *parts).head(SAMPLES).iter_rows(named=True)
        found = " | ".join(" ".join(f"{k}={v}" for k, v in row.items()) for row in rows)
        yield total, f"{' + '.join(parts)} = {total}", bad.height, found


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All names of each balance date."""
    yield from pull.by_date(days)


SOURCE = Source(
    MARGIN_INTEREST,
    CONTRACT,
    fetch,
    module=__name__,
    description="Outstanding margin positions of every name, long and short: weekly, since 2026-09-25 daily.",
    empty_ok=True,  # short weeks
    choose=choose,
    rules=rules,
    optional=True,
)
