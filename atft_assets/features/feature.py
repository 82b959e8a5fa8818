"""What a feature column is: the type of a row of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

Kind = Literal["time_series", "cross_section", "market", "sector", "event", "flag"]

# First day of J-Quants's bars on any plan; a column is never valid before its source is.
FIRST_BAR = date(2008, 5, 7)
AFTER_CLOSE = "evening of t (bars of t are out at 16:30, the decision is at 18:30 JST)"
KNOWN_AHEAD = "known in advance (exchange calendar)"


@dataclass(frozen=True)
class Feature:
    """One column.

    Attributes:
        name: the column's name; names starting with `y_` belong to labels and are refused.
        family: price, volume, shape, technical, volatility, momentum, calendar, market, stock_market, sector or
            validity.
        formula: in words; C, O, H, L are adjusted prices of t, V adjusted volume, X[-n] the row n earlier,
            r1 = C/C[-1] - 1, m1 the same of TOPIX.
        window: longest window in rows of the series it runs on.
        lookback: rows before t that the value needs (chained windows included).
        kind: how the column behaves in a day's cross-section; the panel scales by it. "market": equal for all
            names.
        source: raw tables it comes from.
        reads: the columns that it is computed from: `table.column` of the tables that its table reads, or the name of
            another column of its own table, which stands for what that one reads.
        availability: when the value can first be known.
        valid_from: no value before this date.
        model_input: whether it belongs to the model's feature sets; if not, `formula` says why.
        low, high: range that the contract enforces.
        coverage: least share of non-null values in a month that is past the look-back.
        core: whether it belongs to the small set.
        may_be_constant: whether a whole month of one value is plausible (shares, counts, products with a regime).
        sequence: whether the network reads it day by day over its look-back as well, not on the newest day alone: few,
            raw and of one day, for what a window of smoothed columns says stands in the columns of the newest day.
    """

    name: str
    family: str
    formula: str
    window: int
    lookback: int
    kind: Kind = "time_series"
    source: str = "daily_quotes"
    reads: tuple[str, ...] = ()
    availability: str = AFTER_CLOSE
    valid_from: date = FIRST_BAR
    model_input: bool = True
    low: float | None = None
    high: float | None = None
    coverage: float = 0.5
    core: bool = False
    may_be_constant: bool = False
    sequence: bool = False

    def __post_init__(self) -> None:
        if self.name.startswith("y_"):
            raise ValueError(f"{self.name}: names starting with y_ are labels, and labels live in their own table")
        if self.sequence and not self.model_input:
            raise ValueError(f"{self.name}: what is no model input cannot be read as a sequence")


def family(name: str, **common: Any) -> Callable[..., Feature]:
    """A maker of a family's rows: called with name, formula, window, look-back, and what differs from `common`."""

    def row(column: str, formula: str, window: int = 1, lookback: int = 0, **own: Any) -> Feature:
        return Feature(column, **{"family": name, **common, **own}, formula=formula, window=window, lookback=lookback)

    return row
