"""Whether the computed limits are those of the exchange: held against the days on which a limit was touched.

The server flags a bar whose high was the upper limit (UL) or whose low was the lower one (LL). That is the only word of
the exchange on its limits in the data, and it is spoken after the close: it judges our limits and decides no fill.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import first_of_month, month_key, months_between, shift_month
from atft_assets.features.names import DAILY_QUOTES, RAW
from atft_assets.store import Store
from atft_assets.trading.market import Flags, Market
from atft_assets.trading.rules import as_printed, ex_date_of, limit_prices, widening

# what may part our limits from those of the exchange, the likeliest first; "other" is nobody's fault but ours
CAUSES = ("first_day", "no_close", "split", "ex_dividend", "widened", "other")
OTHER = len(CAUSES) - 1


@dataclass(frozen=True)
class Agreement:
    """How often the limits agree.

    Attributes:
        rows: bars that touched a limit (one that touched both counts twice).
        agreed: those whose high, or low, is the computed limit.
        ordinary_rows, ordinary_agreed: the same without days of events, which daily bars cannot tell in full.
        outside: bars with a price beyond the computed band, touched or not.
        mismatches: date, code, side (up, down), price, limit (JPY), cause (one of CAUSES), of the rows that disagree
            and of prices outside the band; sorted by cause, date, code.
    """

    rows: int
    agreed: int
    ordinary_rows: int
    ordinary_agreed: int
    outside: int
    mismatches: pl.DataFrame

    @property
    def share(self) -> float:
        """Share of all touched bars on which limits agree; NaN without one."""
        return self.agreed / self.rows if self.rows else float("nan")

    @property
    def ordinary_share(self) -> float:
        """The same without days of events."""
        return self.ordinary_agreed / self.ordinary_rows if self.ordinary_rows else float("nan")


def touched(store: Store, market: Market) -> tuple[Flags, Flags]:
    """The flags UL and LL of daily_quotes on the axes of a market, each [D,N]; False where a name has no row."""
    table = store.table(RAW, DAILY_QUOTES)
    days = pl.DataFrame({"date": market.dates, "_row": range(len(market.dates))}, schema_overrides={"date": pl.Date})
    codes = pl.Enum(market.codes)
    flags = tuple(np.zeros(market.close.shape, bool) for _ in range(2))
    for key in months_between(month_key(market.dates[0]), month_key(market.dates[-1])):
        frame = table.read([key], ["date", "code", "UL", "LL"]).filter((pl.col("UL") == "1") | (pl.col("LL") == "1"))
        found = frame.with_columns(pl.col("code").cast(codes, strict=False)).drop_nulls("code").join(days, on="date")
        rows, columns = found["_row"].to_numpy(), found["code"].to_physical().to_numpy()
        for array, name in zip(flags, ("UL", "LL"), strict=True):
            array[rows, columns] = (found[name] == "1").to_numpy()
    return flags[0], flags[1]


def agreement(market: Market, ul: Flags, ll: Flags) -> Agreement:
    """Hold the limits of a market against the bars that touched one.

    Args:
        ul, ll: the high was the upper limit, the low was the lower one [D,N].
    """
    counts = np.zeros(4, np.int64)  # rows, agreed, of them without events
    outside = np.zeros(market.close.shape, bool)
    listed = []
    for side, flagged, extreme, limit in (
        ("up", ul, market.high, market.limit_up),
        ("down", ll, market.low, market.limit_down),
    ):
        beyond = extreme > limit if side == "up" else extreme < limit  # False where either is NaN
        outside |= beyond
        rows, columns = np.nonzero((flagged | beyond) & np.isfinite(extreme))
        same = extreme[rows, columns] == limit[rows, columns]
        cause = _causes(market, rows, columns)
        mine = flagged[rows, columns]
        ordinary = mine & (cause == OTHER)
        counts += [mine.sum(), (mine & same).sum(), ordinary.sum(), (ordinary & same).sum()]
        listed.append(
            pl.DataFrame(
                {
                    "date": pl.Series([market.dates[row] for row in rows[~same]], dtype=pl.Date),
                    "code": pl.Series([market.codes[column] for column in columns[~same]], dtype=pl.String),
                    "side": pl.repeat(side, int((~same).sum()), dtype=pl.String, eager=True),
                    "price": as_printed(extreme[rows, columns][~same]),
                    "limit": as_printed(limit[rows, columns][~same]),
                    "cause": pl.Series(np.array(CAUSES)[cause[~same]].tolist(), dtype=pl.Enum(CAUSES)),
                }
            )
        )
    mismatches = pl.concat(listed).with_columns(pl.col("limit").fill_nan(None)).sort("cause", "date", "code", "side")
    rows_, agreed, ordinary_rows, ordinary_agreed = (int(n) for n in counts)
    return Agreement(rows_, agreed, ordinary_rows, ordinary_agreed, int(outside.sum()), mismatches)


def _causes(market: Market, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int8]:
    """The likeliest event of each bar [n], as a place in CAUSES; OTHER where there is none."""
    cause = np.full(len(rows), OTHER, np.int8)
    base = market.base[rows, columns]
    before = np.maximum(rows - 1, 0)
    ex_days = np.array([_month_end_ex_date(day) for day in market.dates], bool)
    paid = (market.dividend[rows, columns] > 0) | (ex_days[rows] & (not market.dividends_known))
    found = {
        "widened": _widened(market, rows, columns),
        "ex_dividend": paid,
        "split": market.adj_factor[rows, columns] != 1,
        "no_close": (rows > 0) & np.isnan(market.close[before, columns]),
        "first_day": np.isnan(base),
    }
    for name, flags in found.items():  # the likelier one overwrites
        cause[flags] = CAUSES.index(name)
    return cause


def _widened(market: Market, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Bars of which either side of the computed band, or the price itself, is one of a widened band [n]."""
    found = np.zeros(len(rows), bool)
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        day, base, fine = market.dates[row], float(market.base[row, column]), market.fine_tick[row, column]
        if np.isnan(base):
            continue
        base = float(as_printed(np.array(base)))
        ordinary = limit_prices(base, day, fine)
        times = widening(day).times
        wide = limit_prices(base, day, fine, times, times)
        computed = market.limit_up[row, column], market.limit_down[row, column]
        reached = market.high[row, column], market.low[row, column]
        found[n] = any(np.float32(o) != c for o, c in zip(ordinary, computed, strict=True)) or any(
            np.float32(w) == r for w, r in zip(wide, reached, strict=True)
        )
    return found


@cache
def _month_end_ex_date(day: date) -> bool:
    """Whether a day is the ex-date of those who are in the register at the end of its month: most record dates are."""
    end = first_of_month(shift_month(month_key(day), 1)) - timedelta(days=1)
    return ex_date_of(end) == day
