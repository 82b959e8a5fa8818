"""The raw months that the bench of features builds from: those of a simulated market, in the form of the raw contracts.

What the sandbox serves is taken from its own functions month by month, without the way over HTTP, and becomes a table
as it does in a run: fields under their names on disk, of their types, with `available_at` by the endpoint's rule. As
many rows a day as in Tokyo follow from a market of as many names. A test holds every table against its raw contract.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.jquants.endpoint import Endpoint, Field
from atft_assets.raw.cells import typed
from atft_assets.raw.records import column_order, row_order
from atft_assets.raw.registry import SOURCES
from atft_assets.raw.stamps import stamped
from atft_assets.sandbox import (
    Market,
    dividends,
    flow,
    futures,
    margin,
    options,
    orders,
    schedule,
    shorts,
    statements,
)
from atft_assets.sandbox.draws import I64
from atft_assets.sandbox.wire import RAW as AS_JSON
from atft_assets.store import Store

GROUP = "raw"


@dataclass(frozen=True)
class Month:
    """A month of a market: its calendar days, both included, and the rows [lo, hi) of its trading days."""

    key: str
    first: date
    last: date
    lo: int
    hi: int


Answer = Callable[[Market, Month], pl.DataFrame]


def fill_prices(store: Store, market: Market) -> list[str]:
    """Publish quotes, the TOPIX and the lists of names of a simulated market; returns the months."""
    keys = calendar.months_between(calendar.month_key(market.days[0]), calendar.month_key(market.days[-1]))
    for name, frame in _of_prices(market).items():
        publish(store, GROUP, name, _cut(frame, keys))
    return keys


def fill_raw(store: Store, market: Market) -> list[str]:
    """Publish every raw table that features read, of a simulated market; returns the months."""
    keys = fill_prices(store, market)
    endpoints = {source.name: source.endpoint for source in SOURCES}
    for name, answer in ANSWERS.items():
        months = (_month(market, key) for key in keys)
        publish(store, GROUP, name, ((m.key, as_stored(endpoints[name], answer(market, m), m.key)) for m in months))
    return keys


def publish(store: Store, group: str, name: str, frames: Iterator[tuple[str, pl.DataFrame]]) -> None:
    """Publish the months of a table."""
    table = store.table(group, name)
    table.publish(table.stage_all(frames, code_version="bench"))


# -- prices and names --------------------------------------------------------------------------------------------------


def _of_prices(market: Market) -> dict[str, pl.DataFrame]:
    """Quotes, the TOPIX, and the list of names on the first day of each week."""
    quotes = market.quotes().with_columns(_evening(0, 16, 30).alias("available_at"))
    topix = (
        market.index_bars("0000")
        .rename({"Date": "date"})
        .drop("Code")
        .with_columns(pl.col("date").str.to_date(), pl.col("O", "H", "L", "C").cast(pl.Float64))
        .with_columns(_evening(0, 16, 30).alias("available_at"))
    )
    weeks = {day.isocalendar()[:2]: day for day in reversed(market.days)}
    snapshots = pl.concat(market.master(day) for day in sorted({*weeks.values(), market.days[-1]}))
    listed = (
        snapshots.rename({"Date": "date", "Code": "code"})
        .with_columns(pl.col("date").str.to_date())
        .with_columns(_evening(-1, 17, 30).alias("available_at"))
    )
    return {"daily_quotes": quotes, "topix": topix, "listed_info": listed}


def _evening(days: int, hour: int, minute: int) -> pl.Expr:
    """Hour and minute in Tokyo, so many calendar days after the row's date."""
    local = pl.col("date").cast(pl.Datetime("us")) + timedelta(days=days, hours=hour, minutes=minute)
    return local.dt.replace_time_zone("Asia/Tokyo")


def _cut(frame: pl.DataFrame, keys: list[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    frame = frame.with_columns(pl.col("date").dt.strftime("%Y-%m").alias("_month"))
    parts = frame.partition_by("_month", as_dict=True, include_key=False)
    yield from ((key, parts[(key,)]) for key in keys if (key,) in parts)


# -- everything else ---------------------------------------------------------------------------------------------------


def _month(market: Market, key: str) -> Month:
    first = calendar.first_of_month(key)
    last = calendar.first_of_month(calendar.shift_month(key, 1)) - timedelta(days=1)
    return Month(key, first, last, *market.row_range(first, last))


def _by_day(make: Callable[[Market, int], pl.DataFrame], market: Market, month: Month) -> pl.DataFrame:
    return pl.concat(make(market, row) for row in range(month.lo, month.hi))


def _listed(market: Market, rows: I64) -> tuple[I64, I64]:
    """Rows and columns of the names that are listed on each of some days."""
    place, column = np.nonzero(market.alive[rows])
    return rows[place], column


def _interest(market: Market, month: Month) -> pl.DataFrame:
    rows = margin.balance_rows(market, month.lo, month.hi)
    return margin.interest(market, *_listed(market, rows), market.days[-1] < margin.SHAPE_SINCE)


def _breakdown(market: Market, month: Month) -> pl.DataFrame:
    return orders.breakdown(market, *_listed(market, np.arange(month.lo, month.hi)))


def _alerts(market: Market, month: Month) -> pl.DataFrame:
    return margin.alerts_of(market, np.arange(len(market.names.code)), month.lo, month.hi)


def _ordinals(market: Market, month: Month) -> tuple[int, int]:
    return month.first.toordinal(), min(month.last, market.days[-1]).toordinal()


def _documents(market: Market, month: Month) -> pl.DataFrame:
    return statements.summary(market, statements.documents(market, *_ordinals(market, month)))


def _dividends(market: Market, month: Month) -> pl.DataFrame:
    return dividends.rows(market, dividends.dividends(market, *_ordinals(market, month)))


def _announced(market: Market, month: Month) -> pl.DataFrame:
    known = schedule.earnings_date(market, min(month.last, market.days[-1]))
    return known.filter(pl.col("PubDate") >= month.first.isoformat())


def _indices(market: Market, month: Month) -> pl.DataFrame:
    return pl.concat(market.index_day(day) for day in market.days[month.lo : month.hi])


def _reports(market: Market, month: Month) -> pl.DataFrame:
    return shorts.short_sale_report(market, month.first, min(month.last, market.days[-1]))


def _weeks(market: Market, month: Month) -> pl.DataFrame:
    return flow.investor_types(market, month.first, min(month.last, market.days[-1]), None)


ANSWERS: Mapping[str, Answer] = {
    "fins_summary": _documents,
    "fins_dividend": _dividends,
    "earnings_date": _announced,
    "indices": _indices,
    "margin_interest": _interest,
    "margin_alert": _alerts,
    "short_ratio": partial(_by_day, shorts.short_ratio),
    "short_sale_report": _reports,
    "breakdown": _breakdown,
    "investor_types": _weeks,
    "options_225": partial(_by_day, options.options_225),
    "futures": partial(_by_day, futures.futures),
}


def as_stored(endpoint: Endpoint, answer: pl.DataFrame, key: str) -> pl.DataFrame:
    """A month of answers as a run would store it.

    Args:
        answer: in the fields of the endpoint, as the sandbox makes them.
        key: the month, for messages.

    Raises:
        ContractViolation: a record has no instant.
    """
    fields = (field for field in endpoint.fields if field.name in answer.columns)
    frame = pl.DataFrame([_typed(field, answer[field.name]).alias(endpoint.column(field.name)) for field in fields])
    frame = stamped(endpoint, frame.with_columns(pl.col("date").str.to_date("%Y-%m-%d")), endpoint.path, key)
    frame = frame.select(column_order(endpoint, frame.columns))
    return frame.sort(row_order(endpoint, frame.columns), maintain_order=True)


def _typed(field: Field, values: pl.Series) -> pl.Series:
    """A field as it lies on disk: numbers as Float64, whatever else as text."""
    if field.numeric:
        return values.cast(pl.Float64)
    return typed(field, values.cast(pl.String).str.strip_prefix(AS_JSON))
