"""Multiples as the service computes them (`/equities/valuation`), from the statements disclosed before the day.

A disclosure counts from the next business day, whatever its hour. Funds have rows without a figure, and so have names
that never disclosed anything, a capitalisation apart.
"""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox.draws import F64, I64
from atft_assets.sandbox.figures import decided, figures, fiscal, forecast
from atft_assets.sandbox.names import ETF
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

FIELDS = ("Date", "Code", "EPS", "FwdEPS", "BPS", "ROE", "FwdROE", "PER", "FwdPER", "PBR", "MktCap")


@remembered(16)
def day(market: "Market", row: int) -> pl.DataFrame:
    """All names listed on a day, by code."""
    columns = market.listed_on(row)
    return valuation(market, np.full(len(columns), row), columns)


def valuation(market: "Market", rows: I64, columns: I64) -> pl.DataFrame:
    """Names on days in the fields of the endpoint; null where there is no figure or no sense in it."""
    known = fiscal(market)
    today = market.ordinals[rows]
    years, quarters = known.day.shape[1], known.day.shape[2]
    place = (known.day[columns] < today[:, None, None]).sum(axis=(1, 2)) - 1
    year, quarter = np.divmod(np.clip(place, quarters, years * quarters - 1), quarters)
    silent = known.silent[columns] | (place < quarters)
    shares = np.maximum(market.shares_on(rows, columns), 1)
    now = figures(market, columns, year, quarter)
    last, same = figures(market, columns, year - 1, np.full(len(year), 3)), figures(market, columns, year - 1, quarter)
    trailing = now.np_ + np.where(quarter == 3, 0, last.np_ - same.np_)

    target = np.minimum(year + (quarter == 3), years - 1)
    state = np.where(quarter == 3, 0, quarter + 1)
    own = known.revised[columns, target, 3] & (known.own_day[columns, target] < today)
    state = np.where(own, 4, state)
    ahead = forecast(market, columns, target, state)
    undecided = silent | ~decided(market, columns, target, state)
    outstanding = shares * 0.985  # less treasury
    eps, forward, book = trailing / outstanding, ahead / outstanding, now.sheq / outstanding
    price = market.ohlc[3][rows, columns] / 10
    with np.errstate(divide="ignore", invalid="ignore"):
        columns_of = {
            "EPS": (np.round(eps, 2), silent), "FwdEPS": (np.round(forward, 2), undecided),
            "BPS": (np.round(book, 2), silent), "ROE": (np.round(eps / book, 4), silent),
            "FwdROE": (np.round(forward / book, 4), undecided), "PER": (np.round(price / eps, 2), silent | (eps <= 0)),
            "FwdPER": (np.round(price / forward, 2), undecided | (forward <= 0)),
            "PBR": (np.round(price / book, 2), silent),
            "MktCap": (np.rint(price * shares / 1e6), market.names.kind[columns] == ETF),
        }  # fmt: skip
    data = {"Date": market.dates(rows), "Code": market.codes(columns)}
    return pl.DataFrame(data | {name: _number(*cell) for name, cell in columns_of.items()}).select(FIELDS)


def _number(values: F64, none: np.ndarray) -> pl.Series:
    return pl.Series(np.where(none, 0.0, values), dtype=pl.Float64).set(pl.Series(none, dtype=pl.Boolean), None)
