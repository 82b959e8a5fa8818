"""From stored tables to a `Market`: the only place where one becomes the other.

Months are read one at a time and by the columns that are needed, so that ten years of the whole exchange leave room for
what a back-test itself needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import month_key, months_between, shift_month, shift_trading_days, trading_days
from atft_assets.contracts import require_columns
from atft_assets.failures import Refusal
from atft_assets.features import names
from atft_assets.features.asof import AVAILABLE_AT, as_known
from atft_assets.store import Store
from atft_assets.trading.derived import TRAILING, derive
from atft_assets.trading.market import Flags, Floats64, Market
from atft_assets.trading.rules import TOPIX500, fine_categories

WARM_UP = 2 * TRAILING  # trading days before the first, for what looks back
LENDABLE = "2"  # Mrgn of the master: shares may be borrowed for standard margin trading
PRICES = ("O", "H", "L", "C")
MASTER_COLUMNS = ("date", "code", "S33", "ScaleCat", "Mrgn", AVAILABLE_AT)
DIVIDEND_COLUMNS = ("code", "ex_date", "dividend")

Places = NDArray[np.int64]


class MarketRefused(Refusal):
    """No market can be made of these tables; the text says what to do."""


def market_of(
    store: Store, first: date, last: date, *, warm_up: int = WARM_UP, dividends: pl.DataFrame | None = None
) -> Market:
    """The market of the trading days from `first` to `last`, of every name that was in the universe on one of them.

    Reads daily_quotes, listed_info and topix as J-Quants served them, and the feature table universe.

    Args:
        first, last: inclusive; closed days are stepped over.
        warm_up: trading days before `first` that are read for base prices, turnover and volatility, as far as stored.
        dividends: code, ex_date, dividend (JPY a share held before the ex-date; several of one date add up); without
            it bases of ex-dividend days are too high by the dividend, and results are of price returns.

    Returns:
        `shortable` and `sector` by the newest master that was out on the evening of the day, `fine_tick` by the one in
        force on the day.

    Raises:
        MissingTable, MissingColumns, DamagedTable: a month from `first` on is not stored as it should be.
        MarketRefused: there is no trading day, or a day has no quotes.
    """
    axes = _axes(store, first, last, warm_up)
    shape = axes.shape
    prices = [np.full(shape, np.nan, np.float32) for _ in PRICES]
    value, adj_factor = np.zeros(shape), np.ones(shape, np.float32)
    listed, eligible = np.zeros(shape, bool), np.zeros(shape, bool)
    for rows, columns, frame in axes.months(store, names.RAW, names.DAILY_QUOTES, (*PRICES, "Va", "AdjFactor")):
        listed[rows, columns] = True
        for array, name in zip((*prices, adj_factor), (*PRICES, "AdjFactor"), strict=True):
            array[rows, columns] = frame[name].cast(pl.Float64).to_numpy()
        value[rows, columns] = frame["Va"].cast(pl.Float64).fill_null(0.0).to_numpy()
    _refuse_empty(axes, listed)
    for rows, columns, _ in axes.months(store, names.GROUP, names.UNIVERSE, ()):
        eligible[rows, columns] = True
    dividend = np.zeros(shape, np.float32)
    if dividends is not None:
        _add_dividends(dividend, axes, dividends)
    master = _master(store, axes)
    found = derive(axes.days, prices, value, adj_factor, dividend, master.fine_tick, listed)
    kept = slice(axes.warm_up, None)
    opened, high, low, close = (array[kept] for array in prices)
    return Market(
        dates=axes.days[kept],
        codes=axes.codes,
        open=opened,
        high=high,
        low=low,
        close=close,
        value=value[kept],
        adj_factor=adj_factor[kept],
        dividend=dividend[kept],
        base=found.base[kept],
        limit_up=found.limit_up[kept],
        limit_down=found.limit_down[kept],
        adv=found.adv[kept],
        sigma=found.sigma[kept],
        eligible=eligible[kept],
        shortable=master.shortable[kept],
        fine_tick=master.fine_tick[kept],
        sector=master.sector[kept],
        last_day=last_rows(listed)[kept],
        topix=_topix(store, axes)[kept],
        dividends_known=dividends is not None,
    )


def last_rows(listed: Flags) -> Flags:
    """The last row of each name that has none on the last day [D,N]."""
    last = len(listed) - 1 - np.argmax(listed[::-1], axis=0)
    gone = listed.any(axis=0) & ~listed[-1]
    flags = np.zeros(listed.shape, bool)
    flags[last[gone], np.flatnonzero(gone)] = True
    return flags


@dataclass(frozen=True)
class Axes:
    """Days [D] and codes [N] of the arrays, and where rows of tables belong in them.

    Attributes:
        warm_up: how many of the days are before the first that is wanted.
        keys: the stored months of daily_quotes that hold the days.
    """

    days: tuple[date, ...]
    codes: tuple[str, ...]
    warm_up: int
    keys: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.days), len(self.codes)

    def months(
        self, store: Store, group: str, table: str, columns: Sequence[str]
    ) -> Iterator[tuple[Places, Places, pl.DataFrame]]:
        """Rows, columns and the frame of each stored month, those of other days and names left out."""
        source = store.table(group, table)
        stored = set(source.keys())
        wanted = [key for key in self.keys if key in stored or key >= month_key(self.days[self.warm_up])]
        for key in wanted:
            yield self.places(source.read([key], ["date", "code", *columns]))

    def places(self, frame: pl.DataFrame, day: str = "date") -> tuple[Places, Places, pl.DataFrame]:
        """Row and column of each row of a frame whose day and code are among these, and those rows."""
        days = pl.DataFrame({day: self.days, "_row": range(len(self.days))}, schema={day: pl.Date, "_row": pl.Int64})
        column = pl.col("code").cast(pl.Enum(self.codes), strict=False).to_physical().cast(pl.Int64)
        found = frame.with_columns(column.alias("_column")).join(days, on=day).filter(pl.col("_column").is_not_null())
        return found["_row"].to_numpy(), found["_column"].to_numpy(), found


def _axes(store: Store, first: date, last: date, warm_up: int) -> Axes:
    wanted = trading_days(first, last)
    if not wanted:
        raise MarketRefused(f"there is no trading day from {first} to {last}: give a later last day")
    stored = set(store.table(names.RAW, names.DAILY_QUOTES).keys())
    first_key = month_key(wanted[0])
    before = shift_trading_days(wanted[0], -warm_up) if warm_up else wanted[0]
    # the warm-up ends at the first month that is not there
    start = first_key
    while start > month_key(before) and shift_month(start, -1) in stored:
        start = shift_month(start, -1)
    days = [day for day in trading_days(before, wanted[-1]) if month_key(day) >= start]
    universe = store.table(names.GROUP, names.UNIVERSE)
    codes: set[str] = set()
    for key in months_between(first_key, month_key(wanted[-1])):
        rows = universe.read([key], ["date", "code"]).filter(pl.col("date").is_between(wanted[0], wanted[-1]))
        codes.update(rows["code"].unique())
    if not codes:
        raise MarketRefused(
            f"features/universe has no row from {wanted[0]} to {wanted[-1]}: materialize daily_quotes, listed_info and "
            "universe of these months"
        )
    return Axes(
        days=tuple(days),
        codes=tuple(sorted(codes)),
        warm_up=len(days) - len(wanted),
        keys=tuple(months_between(start, month_key(wanted[-1]))),
    )


def _refuse_empty(axes: Axes, listed: Flags) -> None:
    """A day without a single row: what was held would stand still, and nobody would know why."""
    empty = [day for d, day in enumerate(axes.days) if d >= axes.warm_up and not listed[d].any()]
    if empty:
        said = ", ".join(map(str, empty[:5])) + (f" … ({len(empty)} days)" if len(empty) > 5 else "")
        raise MarketRefused(
            f"raw/daily_quotes has no row of these trading days: {said}. Materialize daily_quotes of these months, or "
            "end the back-test before them"
        )


def _add_dividends(dividend: NDArray[np.float32], axes: Axes, frame: pl.DataFrame) -> None:
    require_columns(frame, DIVIDEND_COLUMNS, table="dividends", partition="-")
    by_date = frame.group_by("code", "ex_date").agg(pl.col("dividend").sum())
    rows, columns, found = axes.places(by_date, "ex_date")
    paid = found["dividend"].cast(pl.Float64).to_numpy()
    if (paid < 0).any():
        worst = found.filter(pl.col("dividend") < 0).row(0, named=True)
        raise MarketRefused(
            f"a dividend is below zero: {worst['code']} on {worst['ex_date']}, {worst['dividend']} JPY; correct it"
        )
    dividend[rows, columns] = paid


@dataclass(frozen=True)
class _Master:
    """What the master says of each day and name, [D,N] as in `Market`."""

    shortable: Flags
    fine_tick: Flags
    sector: NDArray[np.int16]


def _master(store: Store, axes: Axes) -> _Master:
    table = store.table(names.RAW, names.LISTED_INFO)
    stored = set(table.keys())
    # the snapshot of a month's first days may be of the month before, that of its last evening of the month after
    around = months_between(shift_month(axes.keys[0], -1), shift_month(axes.keys[-1], 1))
    keys = [key for key in around if key in stored]
    listed = table.read(keys or list(axes.keys), MASTER_COLUMNS)
    snapshots = listed.group_by("date").agg(pl.col(AVAILABLE_AT).max()).sort("date")
    place = {day: s for s, day in enumerate(snapshots["date"])}
    column = pl.col("code").cast(pl.Enum(axes.codes), strict=False).to_physical().cast(pl.Int64)
    known = listed.with_columns(column.alias("_column")).filter(pl.col("_column").is_not_null())
    rows = known["date"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    columns = known["_column"].to_numpy()
    shape = (len(place) + 1, len(axes.codes))  # the last row is for days before any snapshot
    shortable, sector = np.zeros(shape, bool), np.full(shape, -1, np.int16)
    shortable[rows, columns] = (known["Mrgn"] == LENDABLE).fill_null(False).to_numpy()
    sector[rows, columns] = known["S33"].cast(pl.Int16).to_numpy()
    size = np.full(shape, len(TOPIX500), np.int8)
    classes = {name: place for place, name in enumerate(TOPIX500)}
    size[rows, columns] = known["ScaleCat"].replace_strict(classes, default=len(TOPIX500), return_dtype=pl.Int8)
    days = pl.DataFrame({"date": axes.days}, schema={"date": pl.Date})
    out = as_known(snapshots.with_columns(pl.col("date").alias("snapshot")), days)["snapshot"]
    on_evening = np.array([place.get(day, len(place)) for day in out])
    in_force = np.searchsorted(np.array(snapshots["date"]), np.array(axes.days, "datetime64[D]"), side="right") - 1
    fine_tick = np.zeros(axes.shape, bool)
    for d, day in enumerate(axes.days):
        fine_tick[d] = size[in_force[d]] < len(fine_categories(day))  # in_force is -1 before any snapshot
    return _Master(shortable[on_evening], fine_tick, sector[on_evening])


def _topix(store: Store, axes: Axes) -> Floats64:
    """Daily returns [D]; NaN where the index is not stored: plans differ in it."""
    table = store.table(names.RAW, names.TOPIX)
    keys = [key for key in axes.keys if key in set(table.keys())]
    closes = dict(table.read(keys, ["date", "C"]).iter_rows()) if keys else {}
    level = np.array([closes.get(day, np.nan) for day in axes.days], np.float64)
    return np.concatenate([[np.nan], level[1:] / level[:-1] - 1])
