"""What futures and options have in common: expiries, and the sessions of a contract's day.

A contract month ends with a special quotation on its second Friday, or the trading day before where that is closed;
the last trading day is the one before. A night session opens the trading day, a day session closes it; neither has
prices where nobody traded, and the night is "" on the first day of a contract, which was not there yet.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import F64, I64, uniform
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import numbers_or

FILLED_SINCE = date(2016, 7, 19).toordinal()  # last trading day, settlement and the volatilities
REGULAR, EMERGENCY = "002", "001"  # settlements


@dataclass(frozen=True)
class Expiry:
    """One contract month.

    Attributes:
        year, month: of the contract.
        quotation, last: day of the special quotation and last trading day; listed: first one, ordinals.
    """

    year: int
    month: int
    quotation: int
    last: int
    listed: int

    @property
    def text(self) -> str:
        return f"{self.year}-{self.month:02d}"


def expiry(year: int, month: int, life: int) -> Expiry:
    """The expiry of a contract month whose contracts are listed `life` calendar days before."""
    first = date(year, month, 1).toordinal()
    friday = first + (5 - first) % 7 + 7  # ordinals: Friday is 5 modulo 7
    quotation = int(ordinals.on_or_before(friday))
    return Expiry(
        year, month, quotation, int(ordinals.shift(quotation, -1)), int(ordinals.on_or_after(quotation - life))
    )


def expiries(day: int, months: int, quarters: int) -> list[Expiry]:
    """What is listed on a day: serial months, and beyond them the quarters of the year.

    Args:
        months, quarters: how many months ahead of the day each kind is listed.
    """
    today = date.fromordinal(day)
    found = []
    for ahead in range(quarters + 2):
        year, month = divmod(today.year * 12 + today.month - 1 + ahead, 12)
        life = 31 * (quarters if (month + 1) % 3 == 0 else months)
        one = expiry(year, month + 1, life)
        if one.listed <= day <= one.last:
            found.append(one)
    return found


def sessions(
    seed: int, what: str, keys: tuple[I64, ...], settle: F64, move: F64, volume: F64, off_auction: Bools, new: Bools,
    tick: float,
) -> dict[str, pl.Series]:  # fmt: skip
    """Prices of the whole day, the night and the day session; 0 where nothing was traded in the auction.

    Args:
        keys: of the draws: the day, and what tells contracts apart.
        settle: closing price; move: change of the day, by which night and day part.
        volume: contracts traded; off_auction: all of them outside the auction, so that there is no price.
        new: first day of the contract.
        tick: smallest change of the price.

    Returns:
        O, H, L, C, AO to AC as numbers, EO to EC as numbers or "", MO to MC as "" (the morning was a session until
        2011).
    """
    made = (volume > 0) & ~off_auction

    def near(price: F64) -> F64:
        return np.maximum(np.rint(price / tick), 1) * tick

    close = near(settle)
    start, noon = near(settle - move), near(settle - move * uniform(seed, f"{what} night", *keys))
    wick = 1 + 0.002 * uniform(seed, f"{what} wick", *keys)
    night = (start, near(np.maximum(start, noon) * wick), near(np.minimum(start, noon) / wick), noon)
    daily = (noon, near(np.maximum(noon, close) * wick), near(np.minimum(noon, close) / wick), close)
    by_night = made & ~new & (uniform(seed, f"{what} awake", *keys) < 0.7)
    first = np.where(by_night, start, noon)
    high = np.maximum(daily[1], np.where(by_night, night[1], 0))
    low = np.minimum(daily[2], np.where(by_night, night[2], np.inf))
    whole = (first, high, low, close)
    out = {f: pl.Series(np.where(made, p, 0.0), dtype=pl.Float64) for f, p in zip("OHLC", whole, strict=True)}
    out |= {f"A{f}": pl.Series(np.where(made, p, 0.0), dtype=pl.Float64) for f, p in zip("OHLC", daily, strict=True)}
    out |= {f"E{f}": numbers_or(np.where(by_night, p, 0.0), new, "") for f, p in zip("OHLC", night, strict=True)}
    out |= {f"M{f}": pl.Series([""] * len(settle), dtype=pl.String) for f in "OHLC"}
    return out


def filled(values: F64, day: int) -> pl.Series:
    """Numbers that are served since 2016-07-19, null before."""
    none = day < FILLED_SINCE
    return pl.Series([None] * len(values) if none else values, dtype=pl.Float64)


def text(values: list[str] | np.ndarray) -> pl.Series:
    return pl.Series(list(values), dtype=pl.String)


def dated(values: list[int] | I64, day: int) -> pl.Series:
    """Days that are served since 2016-07-19, "" before."""
    return text([""] * len(values) if day < FILLED_SINCE else list(ordinals.text(np.asarray(values, np.int64))))
