"""`Rule`: how scores become a book, all its numbers in one validated record; and why a name got the weight it has."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

REASONS = (
    "enter",
    "hold",
    "buffer",
    "exit_rank",
    "exit_universe",
    "cap_name",
    "cap_sector",
    "cap_adv",
    "lot_zero",
)
ENTER, HOLD, BUFFER, EXIT_RANK, EXIT_UNIVERSE, CAP_NAME, CAP_SECTOR, CAP_ADV, LOT_ZERO = range(len(REASONS))
NO_REASON = -1  # neither held nor wanted


class BookSide(StrEnum):
    """Long only, or as much sold short as bought."""

    LONG = "long"
    LONG_SHORT = "long_short"


@dataclass(frozen=True)
class Rule:
    """A portfolio rule. Weights are shares of the net asset value.

    A long book has `names` places of equal weight. Who is held stays, with the shares it has, while its rank is within
    `buffer` times as many and its weight within the band around its place; so a ranking that does not move trades
    nothing. A long-short book buys the best and sells the worst decile of each sector, in equal value.

    Tranches: the names are dealt by code into as many sub-books, and an evening decides about one of them, or a
    strategy would hang on the weekday on which it was started. Which one follows from the date, and the rest from the
    holdings alone: a book can be taken up from a broker's list, without a memory of evenings. What cannot wait for its
    turn: names that left the universe, caps that are exceeded, and orders that were not filled whole.

    Attributes:
        names: places of a long book.
        buffer: how many times `names` (of deciles: their size) a rank may be before a holding is left; 1 or more.
        tranches: sub-books, of which an evening decides about one; 1 decides about all every evening.
        name_cap: largest weight of a name.
        sector_band: how far a sector's weight may be from its share of the names that could be bought. Above is never
            bought, and left where prices led there; below, free places go to the sector first.
        adv_share: largest order, as a share of the usual daily turnover. To leave a name, one lot is small enough.
        turnover_cap: largest share of the net asset value that an evening buys, and largest that it sells.
        side: long, or long_short.
        liquid_only: only names that trade at least as much as the median of the eligible are bought.
        gross: sum of absolute weights.
        drift_band: how far, as a share of its place, a weight may drift before it is set anew.
        decile: share of each sector that a long-short book holds on either side.
        fill_lots: what rounding down to lots leaves buys further lots, the best ranks first.
        kappa: None, or weights come from a linear programme instead, which maximises score x weight less kappa, in
            units of the score, for each traded unit of weight; long only.
    """

    names: int = 50
    buffer: float = 2.0
    tranches: int = 5
    name_cap: float = 0.04
    sector_band: float = 0.10
    adv_share: float = 0.05
    turnover_cap: float = 0.35
    side: BookSide = BookSide.LONG
    liquid_only: bool = True
    gross: float = 1.0
    drift_band: float = 0.5
    decile: float = 0.1
    fill_lots: bool = True
    kappa: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", BookSide(self.side))
        for name, least in (("names", 1), ("tranches", 1), ("buffer", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} of a rule is {getattr(self, name)}: {least} is the least")
        for name in ("name_cap", "adv_share", "turnover_cap", "sector_band"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} of a rule is {getattr(self, name)}: a share above 0, 1 at most (0.05 is 5 %)")
        if not 0 < self.gross <= (1 if self.side is BookSide.LONG else 2):
            raise ValueError(
                f"gross of a rule is {self.gross}: above 0, at most 1 of a long book, 2 of a long-short one"
            )
        if not 0 <= self.drift_band < 1:
            raise ValueError(f"drift_band of a rule is {self.drift_band}: from 0 to below 1")
        if not 0 < self.decile <= 0.5:
            raise ValueError(f"decile of a rule is {self.decile}: above 0, 0.5 at most")
        if self.kappa is not None and not (self.kappa >= 0 and self.side is BookSide.LONG):
            raise ValueError(f"kappa of a rule is {self.kappa}: not negative, and of a long book only")

    @property
    def place(self) -> float:
        """Weight of a place of a long book."""
        return min(self.gross / self.names, self.name_cap)


@lru_cache(maxsize=8)
def in_order_of_codes(codes: tuple[str, ...]) -> NDArray[np.int64]:
    """Places of the names in the order of their codes [N], by which ties are broken, whatever order they come in."""
    return np.argsort(np.array(codes))


@lru_cache(maxsize=16)
def sub_books(codes: tuple[str, ...], tranches: int) -> NDArray[np.int64]:
    """Sub-book of each name [N], 0 ... tranches - 1, from its code alone: it stays the same for ever."""
    return np.array([crc32(code.encode()) % tranches for code in codes], np.int64)
