"""Indices beside the TOPIX and the sectors: size, market, style, and those that have a close alone.

They are made from the prices of the market when they are first asked for. Each starts and ends where the real one
does; some begin with closes weeks before the other prices.
"""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.sandbox.draws import F64, normal
from atft_assets.sandbox.names import ORDINARY
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

LAST_OF_OLD = date(2022, 4, 1)
# code: first and last day, first day with four prices, level of the first day
SPANS: dict[str, tuple[date, date, date]] = {
    "0001": (date.min, LAST_OF_OLD, date.min),
    "002F": (date(2018, 9, 3), date.max, date(2018, 10, 9)),
    "0091": (date.min, LAST_OF_OLD, date.min),
    "0500": (date(2022, 6, 27), date.max, date.min),
    "0501": (date(2022, 6, 27), date.max, date.min),
    "0502": (date(2022, 6, 27), date.max, date.min),
    "0503": (date(2023, 5, 29), date.max, date(2023, 7, 3)),
}
ALWAYS = (
    "0028", "0029", "002A", "002B", "002C", "002D", "002E", "0070", "0075", "8100", "812C", "812D", "8200", "822C",
    "822D", "8501", "8502", "8503",
)  # fmt: skip
TOTAL_RETURN_SINCE = date(2026, 4, 6)
CLOSE_ONLY = ("0103", "010E")  # dividends included; the codes of the real ones are not known here
CODES = tuple(sorted((*SPANS, *ALWAYS, *CLOSE_ONLY)))
PREMIUM_ONLY = frozenset(CLOSE_ONLY)


@remembered(1)
def more_indices(market: "Market") -> dict[str, F64]:
    """[days, OHLC] by index code; nan where there is no such price, all four where the index is not there."""
    names, days = market.names, market.days
    groups = _groups(market)
    member = np.stack([groups[code] for code in groups], axis=1).astype(np.float64)
    factor = np.ones(market.alive.shape)
    factor[market.event_day, market.event_name] = market.event_factor
    close = market.ohlc[3] / np.cumprod(factor, axis=0)
    ratio = np.ones_like(close)
    ratio[1:] = close[1:] / close[:-1]
    gap = np.where(market.ohlc[0] > 0, np.log(market.ohlc[0] / market.ohlc[3]), 0.0)
    alive = market.alive & (names.kind == ORDINARY)
    weight = np.zeros_like(close)
    weight[1:] = (close * market.shares)[:-1] * (alive[1:] & alive[:-1])
    total = weight @ member
    known = np.where(total > 0, total, 1)
    change = (weight * (ratio - 1)) @ member / known
    open_gap = (weight * gap) @ member / known
    out: dict[str, F64] = {}
    halted = [k for k, day in enumerate(days) if day in calendar.SYSTEM_HALTS]
    for k, code in enumerate(groups):
        level = 1000.0 * np.cumprod(1 + change[:, k])
        before = np.concatenate([[1000.0], level[:-1]])
        start = level * np.exp(open_gap[:, k])
        wick = 0.002 * np.abs(
            normal(market.config.seed, f"wick {code}", market.ordinals[:, None], np.arange(2)[None, :])
        )
        bar = np.stack(
            [start, np.maximum(start, level) * (1 + wick[:, 0]), np.minimum(start, level) * (1 - wick[:, 1]), level],
            axis=1,
        )
        for row in halted:  # flat at the close of the day before
            bar[row] = before[row]
        out[code] = _within(code, days, np.round(bar, 2))
    return out


def _within(code: str, days: list[date], bar: F64) -> F64:
    first, last, whole = SPANS.get(code, (date.min, date.max, date.min))
    if code in CLOSE_ONLY:
        first, whole = TOTAL_RETURN_SINCE, date.max
    there = np.array([first <= day <= last for day in days])
    four = np.array([day >= whole for day in days])
    bar[~there] = np.nan
    bar[~four, :3] = np.nan
    return bar


def _groups(market: "Market") -> dict[str, Bools]:
    """Members of each index: by size class, market, and price of book value; property and others by a draw."""
    names, seed = market.names, market.config.seed
    ordinary = names.kind == ORDINARY
    scale, segment = names.scale, names.segment
    value = normal(seed, "style", np.arange(len(names.code))) > 0
    property_ = names.sector == 31
    out = {
        "0001": (segment == 1) & (names.old_market == 0), "0028": scale == 0, "0029": scale == 1, "002A": scale <= 1,
        "002B": scale == 2, "002C": scale <= 2, "002D": (scale == 3) | (scale == 4), "002E": scale <= 3,
        "002F": scale == 3,
        "0070": segment == 2, "0075": property_, "0091": (segment > 0) & (names.old_market == 1), "0500": segment == 0,
        "0501": segment == 1, "0502": segment == 2, "0503": (scale <= 1) & value, "8100": (scale < 5) & value,
        "812C": (scale <= 2) & value, "812D": (scale > 2) & (scale < 5) & value, "8200": (scale < 5) & ~value,
        "822C": (scale <= 2) & ~value, "822D": (scale > 2) & (scale < 5) & ~value,
        "8501": property_, "8502": property_, "8503": property_, "0103": scale < 5, "010E": scale <= 1,
    }  # fmt: skip
    return {code: out[code] & ordinary for code in CODES}


def index_frame(days: list[str], codes: list[str], values: F64) -> pl.DataFrame:
    """Bars in the fields of `/indices/bars/daily`; nan becomes null."""
    data: dict[str, pl.Series] = {"Date": pl.Series(days, dtype=pl.String), "Code": pl.Series(codes, dtype=pl.String)}
    data |= {field: pl.Series(values[:, k], dtype=pl.Float64).fill_nan(None) for k, field in enumerate("OHLC")}
    return pl.DataFrame(data)
