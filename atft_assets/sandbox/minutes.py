"""Minute bars (`/equities/bars/minute`): a day's trade spread over the minutes in which somebody traded.

They add up to the daily bar: the first opens with it, one holds the high and one the low, the last auction closes. A
minute without a trade has no row. The afternoon ends at 15:30 since 2024-11-05, at 15:00 before.
"""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import I64, uniform
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

LONGER_SINCE = date(2024, 11, 5)
FIELDS = ("Date", "Time", "Code", "O", "H", "L", "C", "Vo", "Va")
_MORNING = np.arange(9 * 60, 11 * 60 + 30)


def times(day: date) -> I64:
    """Minutes of a day in which there is trade, the last auction included."""
    end = (15 * 60 + 25, 15 * 60 + 30) if day >= LONGER_SINCE else (15 * 60, 15 * 60)
    return np.concatenate([_MORNING, np.arange(12 * 60 + 30, end[0]), [end[1]]])


@remembered(2)
def minute_bars(market: "Market", row: int) -> pl.DataFrame:
    """All names that traded on a day, by code and minute."""
    return bars(market, row, market.listed_on(row))


def bars(market: "Market", row: int, columns: I64) -> pl.DataFrame:
    """Names on a day in the fields of the endpoint."""
    columns = columns[market.traded[row, columns]]
    prices, volume, _ = market.trade(np.full(len(columns), row), columns)
    clock = times(market.days[row])
    name, minute = _traded(market, row, columns, clock, (volume / 100).astype(np.int64))
    first = np.flatnonzero(np.diff(name, prepend=-1))
    count = np.diff(np.append(first, len(name)))
    place = np.arange(len(name)) - np.repeat(first, count)

    # a way from open to close past the high and the low, which lie in two minutes of their own between
    seed, key = market.config.seed, int(ordinals.place(market.ordinals[row]))
    level = place / np.maximum(np.repeat(count, count) - 1, 1)
    o, h, low, c = (values[name].astype(np.float64) for values in prices)
    noise = uniform(seed, "minute", columns[name], key, minute) - 0.5
    path = np.clip(np.rint(o + (c - o) * level + noise * (h - low) * 0.5), low, h)
    path[first] = o[first]
    final = first + count - 1
    path[final] = c[final]
    opens = path.copy()
    opens[1:] = np.where(place[1:] > 0, path[:-1], path[1:])
    high, lowest = np.maximum(opens, path), np.minimum(opens, path)
    turn = uniform(seed, "minute turn", columns, key, np.arange(2)[:, None])
    at_high, at_low = (first + np.minimum(np.floor(t * count).astype(np.int64), count - 1) for t in turn)
    high[at_high], lowest[at_low] = prices[1], prices[2]

    lots = _lots(market, row, columns, name, first, count, (volume / 100).astype(np.int64))
    data = {
        "Date": pl.repeat(market.days[row].isoformat(), len(name), eager=True),
        "Time": pl.Series(_TEXT[clock[minute]], dtype=pl.String), "Code": market.codes(columns[name]),
        "O": pl.Series(opens / 10), "H": pl.Series(high / 10), "L": pl.Series(lowest / 10), "C": pl.Series(path / 10),
        "Vo": pl.Series(lots * 100.0), "Va": pl.Series(np.rint(lots * (high + lowest + path) / 30 * 100)),
    }  # fmt: skip
    return pl.DataFrame(data).select(FIELDS)


_TEXT = np.array([f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(24 * 60)], dtype=object)


def _traded(market: "Market", row: int, columns: I64, clock: I64, lots: I64) -> tuple[I64, I64]:
    """Place of the name and the minute of each bar: both auctions at least, at most a bar a lot."""
    key = int(ordinals.place(market.ordinals[row]))
    chance = np.minimum(0.75, (lots - 2) / (8 * len(clock)))
    busy: Bools = (
        uniform(market.config.seed, "minutes", columns[:, None], key, np.arange(len(clock))[None, :]) < chance[:, None]
    )
    busy[:, 0] = busy[:, -1] = True
    over = busy.sum(axis=1) > lots
    busy[over, 1:-1] = False
    name, minute = np.nonzero(busy)
    return name, minute


def _lots(market: "Market", row: int, columns: I64, name: I64, first: I64, count: I64, lots: I64) -> I64:
    """Lots of each bar: one at least, the rest by draws, what rounding leaves in the opening auction."""
    weight = (
        uniform(market.config.seed, "minute lots", columns[name], row, np.arange(len(name)) - np.repeat(first, count))
        + 0.05
    )
    total = np.add.reduceat(weight, first) if len(first) else np.zeros(0)
    spare = lots - count
    part = np.floor(weight / total[name] * spare[name]).astype(np.int64) + 1
    given = np.add.reduceat(part, first) if len(first) else np.zeros(0, np.int64)
    part[first] += lots - given
    return part
