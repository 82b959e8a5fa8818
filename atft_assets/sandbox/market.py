"""A simulated Tokyo market and what the API would show of it: daily bars, master, indices, calendar.

`simulate` is deterministic: the same config gives the same market to the last digit, and a market that ends earlier is
exactly the beginning of the one that ends later.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets import calendar
from atft_assets.sandbox import codes as tables
from atft_assets.sandbox import planted, process
from atft_assets.sandbox.config import MarketConfig, demo_config
from atft_assets.sandbox.listing import MASTER_FIELDS, master_fields
from atft_assets.sandbox.more_indices import index_frame, more_indices
from atft_assets.sandbox.names import ETF, F64, I64, Names, draw_names
from atft_assets.sandbox.process import PERSISTENCE, Bools, Signals, Streams
from atft_assets.sandbox.wire import flags

__all__ = ["Market", "MarketConfig", "demo_config", "simulate"]

I32 = NDArray[np.int32]


def simulate(config: MarketConfig) -> "Market":
    """Simulate the market of `config`; the same config gives the same market, to the last digit.

    Raises:
        ValueError: no trading day between start and end, or days beyond the known calendar.
    """
    days = calendar.trading_days(config.start, config.end)
    if not days:
        raise ValueError(f"no trading day between {config.start} and {config.end}")
    names, known = draw_names(config, days[-1].year)
    years = np.array([day.year for day in days])
    blocks = [
        (int(y), slice(int(np.searchsorted(years, y)), int(np.searchsorted(years, y, side="right"))), known[int(y)])
        for y in np.unique(years)
    ]
    streams = Streams(config.seed, blocks)

    ordinals = np.array([day.toordinal() for day in days])
    first = np.searchsorted(ordinals, [day.toordinal() for day in names.listed])
    stop = np.searchsorted(ordinals, [day.toordinal() for day in names.delisted])
    rows = np.arange(len(days))[:, None]
    alive = (rows >= first) & (rows < stop)
    traded = alive & process.traded(config, names, streams)
    halted = [i for i, day in enumerate(days) if day in calendar.SYSTEM_HALTS]
    traded[halted] = False

    latent = {name: streams.autoregressive(name, phi) for name, phi in PERSISTENCE.items()}
    signals = process.signals(config, names, latent, traded)
    own, scale = process.residuals(config, names, streams)
    signals = planted.with_planted(signals, config, names, days, own)
    log_return = process.log_returns(names, streams, days, first, signals, own, scale)
    locked = (log_return >= process.LIMIT_UP).astype(np.int8) - (log_return <= process.LIMIT_DOWN).astype(np.int8)
    log_path = np.cumsum(log_return, axis=0, dtype=np.float64)

    # open to close: part of the day's move and noise, squeezed into the range that lies on that side of the close
    location, spread = process.shape(names, latent)
    intraday = np.float32(0.55) * log_return + np.float32(0.35) * names.vol.astype(np.float32) * streams.normal("open")
    room = np.where(intraday > 0, location, 1 - location) * spread
    intraday = room * np.tanh(intraday / room)
    intraday[halted] = 0
    intraday[locked != 0] = 0
    spread[locked != 0] = 0

    indices = process.indices(names, streams, alive, log_path, log_return, intraday)
    etf = names.kind == ETF
    log_path[:, etf] = np.log(indices[tables.TOPIX_INDEX][:, 3:4]) - np.log(indices[tables.TOPIX_INDEX][0, 3])
    events = process.events(config, names, blocks, days, first, stop)
    log_path += np.log(names.price)
    for day, name, factor in zip(*events, strict=True):
        log_path[day:, name] += np.log(factor)

    moves = process.moves(location, spread, intraday)
    tenths = [np.rint(np.exp(log_path + move) * 10).astype(np.int32) for move in moves]
    yen = np.exp(np.log(2e8) + 1.2 * names.value - 0.15) * np.exp(np.float32(0.55) * signals.volume_shock)
    lots = np.maximum(2, np.rint(yen * 10 / np.maximum(tenths[3], 1) / 100)).astype(np.int32)
    shares = np.rint(5e10 * np.exp(1.4 * names.size) / names.price / 100) * 100
    return Market(
        config=config, days=days, names=names, alive=alive, traded=traded, ohlc=tuple(tenths), lots=lots,
        locked=locked, shares=shares, event_day=events[0], event_name=events[1], event_factor=events[2],
        indices=indices, signals=signals,
    )  # fmt: skip


@dataclass(frozen=True)
class Market:
    """A simulated market. Arrays are [days, names] unless said otherwise; names may not yet or no longer be listed.

    Attributes:
        days: trading days.
        names: what does not change from day to day.
        alive: listed that day (a row exists); traded: a price was made (else the row's six values are null).
        ohlc: raw open, high, low, close in tenths of a yen, int32.
        lots: volume in lots of 100 shares.
        locked: 1 limit up, -1 limit down, else 0.
        shares: [names] shares outstanding on the first day.
        event_day, event_name, event_factor: [events] ex-dates (row), names (column), AdjFactor; sorted by day.
        indices: [days, OHLC] by index code.
        signals: the planted drift.
    """

    config: MarketConfig
    days: list[date]
    names: Names
    alive: Bools
    traded: Bools
    ohlc: tuple[I32, ...]
    lots: I32
    locked: NDArray[np.int8]
    shares: F64
    event_day: I64
    event_name: I64
    event_factor: F64
    indices: dict[str, F64]
    signals: Signals

    @cached_property
    def row_of(self) -> dict[date, int]:
        """Row of each trading day."""
        return {day: i for i, day in enumerate(self.days)}

    @cached_property
    def columns_of(self) -> dict[str, list[int]]:
        """Columns of each code, oldest first: two where a code was given out again."""
        out: dict[str, list[int]] = {}
        for i, code in enumerate(self.names.code):
            out.setdefault(code, []).append(i)
        return out

    @cached_property
    def memory(self) -> dict[str, dict[Any, Any]]:
        """Records that were made for earlier requests, by what made them (`wire.remembered`)."""
        return {}

    @cached_property
    def _splits(self) -> tuple[I64, F64]:
        """Each event's place in the order of (name, day), and the products of its name's factors up to it."""
        place = self.event_name * len(self.days) + self.event_day
        order = np.argsort(place, kind="stable")
        logs = np.log(self.event_factor[order])
        return place[order], np.concatenate([[0.0], np.cumsum(logs)])

    def split_factor(self, rows: I64, columns: I64) -> F64:
        """Product of a name's factors up to and with a day."""
        place, total = self._splits
        upto = np.searchsorted(place, columns * len(self.days) + rows, side="right")
        return np.exp(total[upto] - total[np.searchsorted(place, columns * len(self.days))])

    def shares_on(self, rows: I64, columns: I64) -> F64:
        """Shares outstanding."""
        return np.rint(self.shares[columns] / self.split_factor(rows, columns))

    @cached_property
    def first_row(self) -> I64:
        """[names] row of the first day that each has; the number of days where it has none."""
        return np.where(self.alive.any(axis=0), self.alive.argmax(axis=0), len(self.days))

    def rows_before(self, days: I64) -> I64:
        """Row of the last trading day at or before each ordinal; 0 for days before the market."""
        return np.maximum(np.searchsorted(self.ordinals, days, side="right") - 1, 0)

    @cached_property
    def _by_code(self) -> I64:
        return np.argsort(np.array(self.names.code), kind="stable")

    @cached_property
    def _day_text(self) -> NDArray[np.object_]:
        return np.array([day.isoformat() for day in self.days], dtype=object)

    @cached_property
    def ordinals(self) -> I64:
        """The trading days as ordinals."""
        return np.array([day.toordinal() for day in self.days])

    @cached_property
    def _codes(self) -> NDArray[np.object_]:
        return np.array(self.names.code, dtype=object)

    # -- bars ---------------------------------------------------------------------------------------------------

    def bars(self, day: date, as_of: date | None = None, sessions: bool = False) -> pl.DataFrame:
        """Daily bars of all listed issues on `day` in the fields of `/equities/bars/daily`, by code.

        Args:
            day: a closed day gives an empty frame.
            as_of: Adj* are scaled by the events known then (default: the last day of the market).
            sessions: with the morning and afternoon fields of the Premium plan.
        """
        row = self.row_of.get(day)
        columns = self.listed_on(row) if row is not None else self._by_code[:0]
        return self._bars(np.full(len(columns), row or 0), columns, self._last_row(as_of), sessions)

    def history(
        self, code: str, first: date | None = None, last: date | None = None, as_of: date | None = None,
        sessions: bool = False,
    ) -> pl.DataFrame:  # fmt: skip
        """Daily bars of one issue between two days, inclusive, by date; unknown codes give an empty frame."""
        rows, columns = self.listed_between(code, *self.row_range(first, last))
        return self._bars(rows, columns, self._last_row(as_of), sessions)

    def quotes(self) -> pl.DataFrame:
        """All raw bars at once: date, code, O, H, L, C, Vo, Va, AdjFactor; sorted by date and code."""
        rows, position = np.nonzero(self.alive[:, self._by_code])
        columns = self._by_code[position]
        factor = np.ones(self.alive.shape)
        factor[self.event_day, self.event_name] = self.event_factor
        traded = pl.Series(self.traded[rows, columns])
        prices, volume, value = self.trade(rows, columns)
        numbers = dict(zip("OHLC", (p / 10 for p in prices), strict=True)) | {"Vo": volume, "Va": value}
        return pl.DataFrame(
            {
                "date": pl.Series(np.array(self.days, dtype="datetime64[D]")[rows]),
                "code": pl.Series(self._codes[columns], dtype=pl.String),
            }
        ).with_columns(
            *(pl.Series(k, v).set(~traded, None) for k, v in numbers.items()),
            pl.Series("AdjFactor", factor[rows, columns]),
        )

    def listed_on(self, row: int) -> I64:
        """Columns of the names listed on a day, by code."""
        return self._by_code[self.alive[row, self._by_code]]

    def listed_between(self, code: str, lo: int, hi: int) -> tuple[I64, I64]:
        """Rows and columns of a code's listed days among rows [lo, hi)."""
        rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for column in self.columns_of.get(code, []):
            listed = lo + np.flatnonzero(self.alive[lo:hi, column])
            rows.append(listed)
            columns.append(np.full(len(listed), column))
        return np.concatenate(rows), np.concatenate(columns)

    def codes(self, columns: I64) -> pl.Series:
        """Codes of names."""
        return pl.Series(self._codes[columns], dtype=pl.String)

    def dates(self, rows: I64) -> pl.Series:
        """Days as the API writes them."""
        return pl.Series(self._day_text[rows], dtype=pl.String)

    def trade(self, rows: I64, columns: I64) -> tuple[list[I64], F64, F64]:
        """Open, high, low, close in tenths of a yen, shares and yen traded; meaningless where nothing traded."""
        prices = [values[rows, columns].astype(np.int64) for values in self.ohlc]
        volume = self.lots[rows, columns].astype(np.float64) * 100
        return prices, volume, np.rint(volume * (prices[1] + prices[2] + prices[3]) / 30)

    def row_range(self, first: date | None, last: date | None) -> tuple[int, int]:
        """Rows [lo, hi) of the trading days between two dates, inclusive; None leaves a side open."""
        lo = int(np.searchsorted(self.ordinals, first.toordinal())) if first else 0
        hi = int(np.searchsorted(self.ordinals, last.toordinal(), side="right")) if last else len(self.days)
        return lo, max(lo, hi)

    def _last_row(self, as_of: date | None) -> int:
        return self.row_range(None, as_of)[1] - 1

    def _factors(self, rows: I64, columns: I64, last_row: int) -> tuple[F64, F64, F64]:
        """AdjFactor of each (row, column), and the products of the name's factors up to that day and after it."""
        days, name, factor = self.event_day, self.event_name, self.event_factor
        today, before, after = (np.ones(len(rows)) for _ in range(3))
        if len(rows) and (rows == rows[0]).all():  # one day of many names
            position = np.full(len(self.names.code), -1)
            position[columns] = np.arange(len(columns))
            at = position[name]
            for out, when in ((today, days == rows[0]), (before, days <= rows[0]), (after, days > rows[0])):
                chosen = when & (at >= 0) & (days <= last_row)
                np.multiply.at(out, at[chosen], factor[chosen])
        else:  # few names over many days
            for e in np.flatnonzero(np.isin(name, columns) & (days <= last_row)):
                mine = columns == name[e]
                today[mine & (rows == days[e])] *= factor[e]
                before[mine & (rows >= days[e])] *= factor[e]
                after[mine & (rows < days[e])] *= factor[e]
        return today, before, after

    def _bars(self, rows: I64, columns: I64, last_row: int, sessions: bool) -> pl.DataFrame:
        today, before, after = self._factors(rows, columns, last_row)
        traded = self.traded[rows, columns]
        dark = ~traded

        def number(values: NDArray) -> pl.Series:
            return pl.Series(values, dtype=pl.Float64).set(pl.Series(dark), None)

        prices, volume, value = self.trade(rows, columns)
        locked = self.locked[rows, columns]
        data: dict[str, pl.Series] = {
            "Date": pl.Series(self._day_text[rows], dtype=pl.String),
            "Code": pl.Series(self._codes[columns], dtype=pl.String),
        }
        data |= {field: number(p / 10) for field, p in zip("OHLC", prices, strict=True)}
        data["UL"] = flags(traded & (locked > 0))
        data["LL"] = flags(traded & (locked < 0))
        data |= {"Vo": number(volume), "Va": number(value), "AdjFactor": pl.Series(today)}
        data |= {f"Adj{f}": number(np.round(p / 10 * after, 1)) for f, p in zip("OHLC", prices, strict=True)}
        data["AdjVo"] = number(np.rint(volume / after))
        if sessions:
            data |= self._sessions(rows, columns, prices, volume, value, after, number)
        capital = np.rint(prices[3] / 10 * self.shares[columns] / before / 1e6)
        fund = pl.Series(self.names.kind[columns] == ETF)
        data["MktCap"] = number(capital).set(fund, None)
        data["ExRT"] = pl.Series(np.where(today < 1, "1", "2").astype(object), dtype=pl.String).set(
            pl.Series(today == 1), None
        )
        return pl.DataFrame(data)

    def _sessions(
        self, rows: I64, columns: I64, prices: list[I64], volume: F64, value: F64, after: F64,
        number: Callable[[NDArray], pl.Series],
    ) -> dict[str, pl.Series]:  # fmt: skip
        """Morning and afternoon bars that fit the day's: one of them holds the high, one the low."""
        bits = rows.astype(np.uint64) * 2654435761 + columns.astype(np.uint64) * 40503 + 12345
        bits = bits * 6364136223846793005 >> np.uint64(20)
        u = (bits & 1023) / 1023
        o, high, low, c = prices
        noon = np.rint(low + (high - low) * u).astype(np.int64)
        early_high, early_low = (bits & 1024) > 0, (bits & 2048) > 0
        early_volume = np.maximum(1, np.floor(volume / 100 * (0.35 + 0.3 * u))) * 100
        early_value = np.rint(value * early_volume / volume)
        highs = np.where(early_high, high, np.maximum(o, noon)), np.where(early_high, np.maximum(noon, c), high)
        lows = np.where(early_low, low, np.minimum(o, noon)), np.where(early_low, np.minimum(noon, c), low)
        morning = (o, highs[0], lows[0], noon), early_volume, early_value
        afternoon = (noon, highs[1], lows[1], c), volume - early_volume, value - early_value
        flat = flags(np.zeros(len(rows), bool))
        out: dict[str, pl.Series] = {}
        for prefix, (ohlc, shares, yen) in (("M", morning), ("A", afternoon)):
            out |= {prefix + f: number(p / 10) for f, p in zip("OHLC", ohlc, strict=True)}
            out |= {f"{prefix}UL": flat, f"{prefix}LL": flat, f"{prefix}Vo": number(shares), f"{prefix}Va": number(yen)}
            adjusted = [np.round(p / 10 * after, 1) for p in ohlc]
            out |= {f"{prefix}Adj{f}": number(p) for f, p in zip("OHLC", adjusted, strict=True)}
            out[f"{prefix}AdjVo"] = number(np.rint(shares / after))
        return out

    # -- master, indices, calendar --------------------------------------------------------------------------------

    def master(self, day: date) -> pl.DataFrame:
        """Listed issues as of the trading day `day` in the fields of `/equities/master`, by code.

        A day before the market's first shows the first list, one after its last the last.
        """
        row = min(max(self.row_range(None, day)[1] - 1, 0), len(self.days) - 1)
        columns = self.listed_on(row)
        static = self.master_fields[columns.tolist()]
        market = "_old" if day < tables.MARKET_REFORM else "_new"
        return static.with_columns(
            pl.lit(day.isoformat()).alias("Date"),
            pl.col(market).alias("Mkt"),
            pl.col(market).replace_strict(tables.MARKET_NAMES).alias("MktNm"),
        ).select(MASTER_FIELDS)

    @cached_property
    def master_fields(self) -> pl.DataFrame:
        """[names] what the list says of each that does not change."""
        return master_fields(self.names)

    def index_bars(self, code: str, first: date | None = None, last: date | None = None) -> pl.DataFrame:
        """Date, Code, O, H, L, C of one index between two days, inclusive; unknown codes give an empty frame."""
        known = self.indices.get(code)
        if known is None:
            known = more_indices(self).get(code)
        if known is None:
            return index_frame([], [], np.zeros((0, 4)))
        lo, hi = self.row_range(first, last)
        there = lo + np.flatnonzero(np.isfinite(known[lo:hi, 3]))
        return index_frame([self.days[row].isoformat() for row in there], [code] * len(there), known[there])

    def index_day(self, day: date) -> pl.DataFrame:
        """Date, Code, O, H, L, C of every index on one day."""
        row = self.row_of.get(day)
        if row is None:
            return index_frame([], [], np.zeros((0, 4)))
        bars = {code: values[row] for code, values in (self.indices | more_indices(self)).items()}
        codes = sorted(code for code, values in bars.items() if np.isfinite(values[3]))
        return index_frame([day.isoformat()] * len(codes), codes, np.stack([bars[code] for code in codes]))

    # -- changes ----------------------------------------------------------------------------------------------------

    def with_split(self, code: str, ex_date: date, factor: float) -> "Market":
        """The same market, but with one more split (factor < 1) or consolidation (> 1) of `code` on a trading day."""
        column, row = self.columns_of[code][-1], self.row_of[ex_date]
        ohlc = tuple(values.copy() for values in self.ohlc)
        for values in ohlc:
            values[row:, column] = np.rint(values[row:, column] * factor)
        lots = self.lots.copy()
        lots[row:, column] = np.maximum(2, np.rint(lots[row:, column] / factor))
        place = int(np.searchsorted(self.event_day, row, side="right"))
        return replace(
            self, ohlc=ohlc, lots=lots, event_day=np.insert(self.event_day, place, row),
            event_name=np.insert(self.event_name, place, column),
            event_factor=np.insert(self.event_factor, place, factor),
        )  # fmt: skip
