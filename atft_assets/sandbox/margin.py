"""Margin positions of every name (`/markets/margin-interest`), and daily of flagged ones (`/markets/margin-alert`).

Balances wander around some days' usual volume, in lots, and are never adjusted for splits. The weekly edition has no
row in weeks of two sessions or fewer and no publication date; since 2026-09-25 there is one a day. A flagged name
stays so for weeks; its change is `-` on the first day, ratios of funds are `*`, and a correction is a further row
with a newer publication date.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import F64, I64, pick, uniform, wander
from atft_assets.sandbox.names import ETF
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import numbers_or, remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

DAILY_SINCE = date(2026, 9, 25)
SHAPE_SINCE = date(2026, 9, 28)  # from then on every answer has the fields of the daily edition
SHORTEST_WEEK = 3  # sessions of a week that has balances
OLD_FIELDS = (
    "Date", "Code", "ShrtVol", "LongVol", "ShrtNegVol", "LongNegVol", "ShrtStdVol", "LongStdVol", "IssType",
)  # fmt: skip
FIELDS = (
    "PubDate", "Date", "Code", "IssType", "ShrtVol", "LongVol", "ShrtNegVol", "LongNegVol", "ShrtStdVol", "LongStdVol",
    "ShrtVal", "LongVal", "ShrtNegVal", "LongNegVal", "ShrtStdVal", "LongStdVal",
)  # fmt: skip
ALERT_FIELDS = (
    "PubDate", "Code", "AppDate", "PubReason", "ShrtOut", "ShrtOutChg", "ShrtOutRatio", "LongOut", "LongOutChg",
    "LongOutRatio", "SLRatio", "ShrtNegOut", "ShrtNegOutChg", "ShrtStdOut", "ShrtStdOutChg", "LongNegOut",
    "LongNegOutChg", "LongStdOut", "LongStdOutChg", "TSEMrgnRegCls",
)  # fmt: skip
REASONS = ("Restricted", "DailyPublication", "Monitoring", "RestrictedByJSF", "PrecautionByJSF", "UnclearOrSecOnAlert")
# the class of the exchange's regulation and the flags that go with it, the last two with J(apan) S(ecurities) F(inance)
_CLASSES = (
    ("001", (3,)), ("001", (4,)), ("002", (1,)), ("002", (1, 4)), ("003", (0, 1)), ("101", (5,)), ("102", (2,)),
)  # fmt: skip
_CLASS_SHARES = (0.2, 0.2, 0.35, 0.1, 0.08, 0.05, 0.02)
FLAGGED_ABOVE = 1.55  # of a state of unit variance: six names in a hundred
NOT_PUBLISHED = date(2021, 8, 26)  # its balances came the day after, together with that day's


@dataclass(frozen=True)
class Positions:
    """Balances in shares; one entry a day and name. The two kinds are all there are."""

    short_negotiable: F64
    short_standard: F64
    long_negotiable: F64
    long_standard: F64

    @property
    def short(self) -> F64:
        return self.short_negotiable + self.short_standard

    @property
    def long(self) -> F64:
        return self.long_negotiable + self.long_standard


def positions(market: "Market", rows: I64, columns: I64) -> Positions:
    """Balances of names at the end of days."""
    names, seed = market.names, market.config.seed
    place = ordinals.place(market.ordinals[rows])
    price = names.price[columns] * market.split_factor(
        rows, columns
    )  # of the first day: what balances do, no price shows
    lots = np.exp(np.log(2e8) + 1.2 * names.value[columns] - 0.15) / price / 100  # the usual volume of a day
    empty = uniform(seed, "no margin", columns) < 0.016
    lendable = issue_type(market, columns) == "2"
    sizes = []
    for what, days, kind in (("short", 0.5, lendable), ("long", 2.5, np.full(len(columns), True))):
        level = 0.7 * wander(seed, f"margin {what}", columns, place, (60, 250))
        level += 0.12 * wander(seed, f"margin {what} daily", columns, place, (1, 5))
        total = lots * days * np.exp(level) * np.where(kind, 1.0, 0.15)
        share = 1 / (1 + np.exp(-1 + 0.6 * wander(seed, f"margin {what} kind", columns, place, (40,))))
        standard = np.where(kind, share, 0.0)
        sizes += [np.rint(total * (1 - standard)) * 100, np.rint(total * standard) * 100]
    return Positions(*(np.where(empty, 0.0, size) for size in sizes))


def issue_type(market: "Market", columns: I64) -> np.ndarray:
    """IssType as text: 2 of the larger ones, 1 of the others, 3 of a few."""
    few = uniform(market.config.seed, "other issue", columns) < 0.005
    large = market.names.segment[columns] == 0
    return np.where(few, "3", np.where(large, "2", "1")).astype(object)


def balance_rows(market: "Market", lo: int, hi: int) -> I64:
    """Those of the days [lo, hi) that have balances: the last of a week long enough, every one since 2026-09-25."""
    days = market.ordinals[lo:hi]
    week = (days - 1) // 7
    first, last = ordinals.on_or_after(week * 7 + 1), ordinals.on_or_before(week * 7 + 7)
    sessions = ordinals.place(last) - ordinals.place(first) + 1
    weekly = (days == last) & (sessions >= SHORTEST_WEEK) & (days < DAILY_SINCE.toordinal())
    return lo + np.flatnonzero(weekly | (days >= DAILY_SINCE.toordinal()))


def published(day: date) -> date:
    """The day on which a day's balances come: the second business day of the next week, later the next business day."""
    return date.fromordinal(int(ordinals.shift(day.toordinal(), 2 if day < DAILY_SINCE else 1)))


@remembered(16)
def interest_day(market: "Market", row: int, old_shape: bool) -> pl.DataFrame:
    """Balances of all names of a day that has some."""
    columns = market.listed_on(row)
    return interest(market, np.full(len(columns), row), columns, old_shape)


def interest(market: "Market", rows: I64, columns: I64, old_shape: bool) -> pl.DataFrame:
    """Balances of names on days that have some, in the fields of the endpoint.

    Args:
        old_shape: as the endpoint was before 2026-09-28.
    """
    p = positions(market, rows, columns)
    parts = {
        "Shrt": p.short, "Long": p.long, "ShrtNeg": p.short_negotiable, "LongNeg": p.long_negotiable,
        "ShrtStd": p.short_standard, "LongStd": p.long_standard,
    }  # fmt: skip
    daily = market.ordinals[rows] >= DAILY_SINCE.toordinal()
    price = market.ohlc[3][rows, columns] / 10
    weekly = pl.Series(~daily, dtype=pl.Boolean)
    appeared = pl.Series(list(ordinals.text(ordinals.shift(market.ordinals[rows], 1))), dtype=pl.String).set(
        weekly, None
    )
    frame = pl.DataFrame(
        {"PubDate": appeared, "Date": market.dates(rows), "Code": market.codes(columns)}
        | {"IssType": pl.Series(list(issue_type(market, columns)), dtype=pl.String)}
        | {f"{name}Vol": pl.Series(values, dtype=pl.Float64) for name, values in parts.items()}
        | {
            f"{name}Val": pl.Series(np.rint(values * price), dtype=pl.Float64).set(weekly, None)
            for name, values in parts.items()
        }
    )
    return frame.select(OLD_FIELDS if old_shape else FIELDS)


# -- alerts ------------------------------------------------------------------------------------------------------------


def flagged(market: "Market", rows: I64, columns: I64) -> Bools:
    """Whether names are under restriction or watch on days: for weeks on end."""
    place = ordinals.place(market.ordinals[rows])
    state = wander(market.config.seed, "flagged", columns, place, (25,))
    fund = market.names.kind[columns] == ETF  # funds are a fifth of those that are published
    return (state > np.where(fund, 0.0, FLAGGED_ABOVE)) & market.alive[rows, columns]


@remembered(32)
def alerts(market: "Market", row: int) -> pl.DataFrame:
    """What is published on a day: balances of flagged names of the trading day before, corrections of older ones."""
    return alerts_of(market, np.arange(len(market.names.code)), row, row + 1)


def alerts_of(market: "Market", columns: I64, lo: int, hi: int) -> pl.DataFrame:
    """The same of some names and days [lo, hi)."""
    row, who = (grid.ravel() for grid in np.meshgrid(np.arange(lo, hi), columns, indexing="ij"))
    silent = market.row_of.get(NOT_PUBLISHED, -9)
    row, who = row[row != silent], who[row != silent]
    parts = [(row, row - 1, who)]
    late = row == silent + 1  # the day after brings the balances of both
    parts.append((row[late], row[late] - 2, who[late]))
    wrong = uniform(market.config.seed, "alert corrected", who, market.ordinals[row]) < 0.004
    parts.append((row[wrong], row[wrong] - 4, who[wrong]))  # what was published wrong some days ago comes again
    appeared, balance, column = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    there = (balance >= 0) & flagged(market, np.maximum(balance, 0), column)
    appeared, balance, column = appeared[there], balance[there], column[there]
    order = np.lexsort((balance, np.array(market.names.code)[column], appeared)) if len(column) else column
    return _alert_rows(market, appeared[order], balance[order], column[order])


def _alert_rows(market: "Market", appeared: I64, rows: I64, columns: I64) -> pl.DataFrame:
    """Rows in the fields of the endpoint.

    Args:
        appeared: rows of the days of publication; rows: of the balances; columns: names.
    """
    names, seed = market.names, market.config.seed
    today, yesterday = positions(market, rows, columns), positions(market, np.maximum(rows - 1, 0), columns)
    gone = uniform(seed, "no longs", columns, market.ordinals[rows] // 60) < 0.01
    parts = {
        "ShrtNeg": (today.short_negotiable, yesterday.short_negotiable),
        "ShrtStd": (today.short_standard, yesterday.short_standard),
        "LongNeg": tuple(np.where(gone, 0.0, v) for v in (today.long_negotiable, yesterday.long_negotiable)),
        "LongStd": tuple(np.where(gone, 0.0, v) for v in (today.long_standard, yesterday.long_standard)),
    }
    for side in ("Shrt", "Long"):
        parts[side] = tuple(a + b for a, b in zip(parts[f"{side}Neg"], parts[f"{side}Std"], strict=True))
    new = ~((rows > 0) & flagged(market, np.maximum(rows - 1, 0), columns))
    fund = names.kind[columns] == ETF
    listed = np.maximum(market.shares_on(rows, columns), 1)
    short, long = parts["Shrt"][0], parts["Long"][0]
    spell = market.ordinals[rows] // 40
    which = pick(seed, "alert class", _CLASS_SHARES, columns, spell)
    none = pl.Series(uniform(seed, "no reason", columns, appeared) < 0.003, dtype=pl.Boolean)
    data: dict[str, pl.Series] = {
        "PubDate": market.dates(appeared),
        "Code": market.codes(columns),
        "AppDate": market.dates(rows),
        "PubReason": pl.Series([_reason(one) for one in which], dtype=pl.String).set(none, "-"),
        "ShrtOutRatio": numbers_or(np.round(100 * short / listed, 1), fund, "*"),
        "LongOutRatio": numbers_or(np.round(100 * long / listed, 1), fund, "*"),
        # a sentinel, not a ratio, where there are no longs
        "SLRatio": numbers_or(
            np.where(long > 0, np.round(100 * short / np.maximum(long, 1), 1), 0.0), np.zeros(len(rows), bool), ""
        ),
        "TSEMrgnRegCls": pl.Series([_CLASSES[one][0] for one in which], dtype=pl.String),
    }
    for name, (now, before) in parts.items():
        data[f"{name}Out"] = pl.Series(now, dtype=pl.Float64)
        data[f"{name}OutChg"] = numbers_or(now - before, new, "-")
    return pl.DataFrame(data).select(ALERT_FIELDS)


def _reason(one: int) -> str:
    flags = _CLASSES[one][1]
    cells = ", ".join(f'"{name}": "{int(k in flags)}"' for k, name in enumerate(REASONS))
    return f"\ue000{{{cells}}}"
