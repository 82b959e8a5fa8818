"""What a ledger writes down: rows of a day, kept as arrays; at the end the frames `equity`, `trades`, `positions`."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.trading.account import Account, Floats, Shares
from atft_assets.trading.fills import DELISTED, Fills
from atft_assets.trading.fills import REASONS as FILL_REASONS
from atft_assets.trading.market import Market

SIDES = ("BUY", "SELL")
STATUSES = ("filled", "partial", "none")

EQUITY: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "strategy": pl.String(),
    "nav": pl.Float64(),
    "cash": pl.Float64(),
    "receivable": pl.Float64(),
    "gross": pl.Float32(),
    "net": pl.Float32(),
    "ret": pl.Float64(),
    "ret_gross": pl.Float64(),
    "cost_commission": pl.Float64(),
    "cost_spread": pl.Float64(),
    "cost_impact": pl.Float64(),
    "cost_borrow": pl.Float64(),
    "dividends": pl.Float64(),
    "turnover": pl.Float32(),
    "names": pl.UInt16(),
    "unfilled_value": pl.Float64(),
    "bench_topix": pl.Float64(),
    "bench_topix_tr": pl.Float64(),
    "bench_equal": pl.Float64(),
}
TRADES: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "strategy": pl.String(),
    "code": pl.String(),
    "side": pl.Enum(SIDES),
    "shares_ordered": pl.Int64(),
    "shares": pl.Int64(),
    "price": pl.Float64(),
    "value": pl.Float64(),
    "commission": pl.Float64(),
    "half_spread": pl.Float64(),
    "impact": pl.Float64(),
    "borrow": pl.Float64(),
    "fill_ratio": pl.Float32(),
    "status": pl.Enum(STATUSES),
    "reason": pl.Enum(FILL_REASONS),
}
POSITIONS: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "strategy": pl.String(),
    "code": pl.String(),
    "shares": pl.Int64(),
    "price": pl.Float32(),
    "stale_days": pl.UInt16(),
    "value": pl.Float64(),
    "weight": pl.Float32(),
    "entry_date": pl.Date(),
    "cost_basis": pl.Float64(),
}


@dataclass(frozen=True)
class DayOfEquity:
    """Figures of a day at its close.

    Attributes:
        t: row of the market.
        costs: commission, half-spread, impact, borrow of the day, JPY.
        turnover: one-way, of the net asset value at the open; cash counts as a holding.
        unfilled_value: what was ordered and not filled, by the last closes, JPY.
    """

    t: int
    nav: float
    nav_before: float
    cash: float
    receivable: float
    costs: tuple[float, float, float, float]
    dividends: float
    turnover: float
    unfilled_value: float


@dataclass
class _Trades:
    """Orders of a day [n]; shares are signed."""

    t: int
    names: Shares
    ordered: Shares
    shares: Shares
    price: Floats
    value: Floats
    costs: Floats  # commission, half-spread, impact, borrow [4,n]
    reason: NDArray[np.uint8]


class Journal:
    """Rows of a strategy, day by day."""

    def __init__(self, market: Market, strategy: str):
        self.market, self.strategy = market, strategy
        self._dates = np.array(market.dates, "datetime64[D]")
        self._codes = pl.Series("code", market.codes, pl.String)
        self._days: list[tuple[DayOfEquity, float, float, int]] = []
        self._trades: list[_Trades] = []
        self._positions: list[tuple[NDArray, ...]] = []

    def auction(self, t: int, ordered: Shares, fills: Fills, borrow: Floats) -> None:
        """Note what was ordered and what was filled; nothing on a day without orders."""
        names = np.flatnonzero(ordered)
        if len(names):
            kinds = (fills.commission, fills.half_spread, fills.impact, borrow)
            self._trades.append(
                _Trades(t, names, ordered[names], fills.shares[names], fills.price[names], fills.value[names],
                        np.stack([kind[names] for kind in kinds]), fills.reason[names])
            )  # fmt: skip

    def delisted(self, t: int, names: Shares, held: Shares, price: Floats, borrow: Floats) -> None:
        """Note forced exits at the close; what an order of the same day and side left joins its row.

        Args:
            names: places [n].
            held: signed shares that leave, price: at which, borrow: fees of shares that were sold short, all [n].
        """
        today = self._trades[-1] if self._trades and self._trades[-1].t == t else None
        known = {} if today is None else {int(i): place for place, i in enumerate(today.names)}
        apart = []
        for k, i in enumerate(names.tolist()):
            place = known.get(i)
            if today is None or place is None or np.sign(today.ordered[place]) == np.sign(held[k]):
                apart.append(k)
                continue
            today.shares[place] -= held[k]
            today.ordered[place] = -np.sign(held[k]) * max(abs(today.ordered[place]), abs(today.shares[place]))
            today.value[place] += abs(held[k]) * price[k]
            today.price[place] = today.value[place] / abs(today.shares[place])
            today.costs[3, place] += borrow[k]
            today.reason[place] = DELISTED
        if apart:
            costs = np.zeros((4, len(apart)))
            costs[3] = borrow[apart]
            left, value = -held[apart], np.abs(held[apart]) * price[apart]
            reason = np.full(len(apart), DELISTED, np.uint8)
            self._trades.append(_Trades(t, names[apart], left, left.copy(), price[apart], value, costs, reason))

    def close(self, account: Account, day: DayOfEquity) -> None:
        """Note what is held at the close, and the figures of the day."""
        held = account.held
        value = account.shares[held] * account.mark[held]
        self._days.append((day, float(np.abs(value).sum()) / day.nav, float(value.sum()) / day.nav, len(held)))
        self._positions.append(
            (np.full(len(held), day.t), held, account.shares[held], account.mark[held], account.stale[held],
             value, value / day.nav, account.entry[held], account.basis[held])
        )  # fmt: skip

    def equity(self, equal: Floats) -> pl.DataFrame:
        """One row a day; bench_topix_tr is null, for a market holds no such series.

        Args:
            equal: daily returns of the equal-weight universe [D].
        """
        days = [day for day, *_ in self._days]
        rows = np.array([day.t for day in days], np.int64)
        costs = np.array([day.costs for day in days])
        nav, before = (np.array([getattr(day, name) for day in days]) for name in ("nav", "nav_before"))
        columns = {
            "date": self._dates[rows],
            "strategy": pl.repeat(self.strategy, len(days), eager=True),
            "nav": nav,
            "cash": [day.cash for day in days],
            "receivable": [day.receivable for day in days],
            "gross": [gross for _, gross, _, _ in self._days],
            "net": [net for _, _, net, _ in self._days],
            "ret": nav / before - 1,
            "ret_gross": (nav + costs.sum(axis=1)) / before - 1,
            **{f"cost_{name}": costs[:, k] for k, name in enumerate(("commission", "spread", "impact", "borrow"))},
            "dividends": [day.dividends for day in days],
            "turnover": [day.turnover for day in days],
            "names": [names for *_, names in self._days],
            "unfilled_value": [day.unfilled_value for day in days],
            "bench_topix": self.market.topix[rows],
            "bench_topix_tr": pl.repeat(None, len(days), dtype=pl.Float64, eager=True),
            "bench_equal": equal[rows],
        }
        return pl.DataFrame(columns).cast(EQUITY).with_columns(pl.col("^bench_.*$").fill_nan(None))  # type: ignore[arg-type]

    def trades(self) -> pl.DataFrame:
        """One row an order or a delisting, by date and code; of what had no price it is null."""
        if not self._trades:
            return pl.DataFrame(schema=TRADES)
        rows = np.concatenate([np.full(len(one.names), one.t) for one in self._trades])
        names, ordered, shares, price, value, reason = (
            np.concatenate([getattr(one, name) for one in self._trades])
            for name in ("names", "ordered", "shares", "price", "value", "reason")
        )
        costs = np.concatenate([one.costs for one in self._trades], axis=1)
        ratio = shares / ordered
        status = np.where(ratio == 1, 0, np.where(shares != 0, 1, 2))
        columns = {
            "date": self._dates[rows],
            "strategy": pl.repeat(self.strategy, len(rows), eager=True),
            "code": self._codes.gather(names),
            "side": _enum(np.where(ordered > 0, 0, 1), SIDES),
            "shares_ordered": np.abs(ordered),
            "shares": np.abs(shares),
            "price": price,
            "value": value,
            **{name: costs[k] for k, name in enumerate(("commission", "half_spread", "impact", "borrow"))},
            "fill_ratio": ratio,
            "status": _enum(status, STATUSES),
            "reason": _enum(reason, FILL_REASONS),
        }
        frame = pl.DataFrame(columns).with_columns(pl.col("price").fill_nan(None))
        return frame.cast(TRADES).sort("date", "code", "side")  # type: ignore[arg-type]

    def positions(self) -> pl.DataFrame:
        """One row a name held at the close, by date and code."""
        rows, names, shares, mark, stale, value, weight, entry, basis = (
            np.concatenate(column) for column in zip(*self._positions, strict=True)
        )
        columns = {
            "date": self._dates[rows],
            "strategy": pl.repeat(self.strategy, len(rows), eager=True),
            "code": self._codes.gather(names),
            "shares": shares,
            "price": mark,
            "stale_days": stale,
            "value": value,
            "weight": weight,
            "entry_date": self._dates[entry],
            "cost_basis": basis,
        }
        return pl.DataFrame(columns).cast(POSITIONS).sort("date", "code")  # type: ignore[arg-type]


def _enum(places: NDArray, categories: tuple[str, ...]) -> pl.Series:
    """Places in a tuple as the values themselves."""
    return pl.Series(categories, dtype=pl.Enum(categories)).gather(places.astype(np.uint32))
