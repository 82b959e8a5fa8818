"""Who moves with whom: the strongest neighbours of names from their returns. Pure NumPy and Polars.

Similarity is the correlation of market-residual returns: of plain returns everything correlates with everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.features.bars import adjusted_bars

ROWS_AT_ONCE = 512  # names whose correlations with all others are held at a time

SCHEMA = {
    "code": pl.String,
    "rank": pl.Int16,
    "neighbour": pl.String,
    "corr": pl.Float32,
    "same_market": pl.Boolean,
    "same_sector": pl.Boolean,
    "as_of": pl.Date,
    "warm_up": pl.Boolean,
}


class GraphChoice(Protocol):
    """How neighbours are chosen; see `graph.asset.GraphConfig`."""

    @property
    def k(self) -> int: ...
    @property
    def half_life(self) -> float: ...
    @property
    def min_observations(self) -> int: ...
    @property
    def shrinkage(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def sector_bonus(self) -> float: ...


@dataclass(frozen=True)
class Neighbours:
    """The strongest neighbours of N names, best first.

    Attributes:
        index: [N,K] int64, position of the neighbour; meaningless where `mask` is False.
        correlation: [N,K] float32, signed, shrunk.
        mask: [N,K] bool, slots in use.
    """

    index: NDArray[np.int64]
    correlation: NDArray[np.float32]
    mask: NDArray[np.bool_]


def residual_returns(returns: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns less their weighted mean and their beta to the equal-weighted market; 0 where missing.

    Args:
        returns: [L,N], NaN where missing.
        weights: [L], of the days.
    """
    known = np.isfinite(returns)
    filled = np.where(known, returns, 0).astype(np.float64)
    w = weights[:, None] * known
    total = np.maximum(w.sum(axis=0), 1e-12)
    centred = np.where(known, filled - (w * filled).sum(axis=0) / total, 0)
    market = centred.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    market = market - (weights @ market) / weights.sum()
    power = (w * market[:, None] ** 2).sum(axis=0)
    beta = (w * centred * market[:, None]).sum(axis=0) / np.maximum(power, 1e-18)
    return np.where(known, centred - beta * market[:, None], 0).astype(np.float32)


def strongest_neighbours(
    returns: NDArray[np.floating], sectors: NDArray[np.integer], config: GraphChoice
) -> Neighbours:
    """The K neighbours of each name by |correlation| + sector bonus, over pairwise complete days.

    Args:
        returns: [L,N] daily returns, oldest first, NaN where missing.
        sectors: [N] numbers of the names' sectors.
    """
    length, size = returns.shape
    weights = 0.5 ** (np.arange(length - 1, -1, -1) / config.half_life)
    known = np.isfinite(returns).astype(np.float32)
    x = residual_returns(returns, weights) * np.sqrt(weights, dtype=np.float32)[:, None]
    square = x * x
    k = min(config.k, max(size - 1, 0))
    index = np.zeros((size, k), np.int64)
    correlation = np.zeros((size, k), np.float32)
    for start in range(0, size if k else 0, ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, size))
        # variances of either name over the days that both have
        scale = np.sqrt((square[:, rows].T @ known) * (known[:, rows].T @ square))
        shrunk = (1 - config.shrinkage) * (x[:, rows].T @ x) / np.maximum(scale, 1e-12)
        merit = np.abs(shrunk) + config.sector_bonus * (sectors[rows, None] == sectors[None])
        unusable = (np.abs(shrunk) < config.threshold) | (known[:, rows].T @ known < config.min_observations)
        merit[unusable] = -1
        merit[np.arange(merit.shape[0]), np.arange(rows.start, rows.stop)] = -1
        best = np.argpartition(-merit, k - 1, axis=1)[:, :k]
        merits = np.take_along_axis(merit, best, axis=1)
        best = np.take_along_axis(best, np.lexsort((best, -merits), axis=1), axis=1)
        index[rows] = best
        chosen = np.take_along_axis(shrunk, best, axis=1)
        correlation[rows] = np.where(np.take_along_axis(merit, best, axis=1) > 0, chosen, 0)
    return Neighbours(index, np.clip(correlation, -1, 1), correlation != 0)


def split_adjusted_returns(
    quotes: pl.DataFrame, days: Sequence[date], codes: Sequence[str], partition: str = "-"
) -> NDArray[np.float64]:
    """Close-to-close returns over consecutive trading days [len(days) - 1, N], NaN unless the name traded on both.

    Args:
        quotes: `features.bars.RAW_COLUMNS` of daily_quotes.
        days: trading days in order; codes: names in the order of the columns.
    """
    place = pl.DataFrame({"date": days, "row": range(len(days))}, schema={"date": pl.Date, "row": pl.Int64})
    column = pl.DataFrame({"code": codes, "column": range(len(codes))}, schema={"code": pl.String, "column": pl.Int64})
    wanted = quotes.filter(pl.col("date").is_in(list(days)))
    bars = (
        adjusted_bars(wanted, partition, pl.Series(codes, dtype=pl.String))
        .select("date", pl.col("code").cast(pl.String), "c")
        .join(place, on="date")
        .join(column, on="code")
    )
    prices = np.full((len(days), len(codes)), np.nan)
    prices[bars["row"].to_numpy(), bars["column"].to_numpy()] = bars["c"].to_numpy()
    return prices[1:] / prices[:-1] - 1


def edges(neighbours: Neighbours, members: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """The table's rows: code, rank, neighbour, corr, same_market, same_sector, as_of, warm_up.

    Args:
        members: code, s33, mkt, in the order of the neighbours' positions.
    """
    who, rank = np.nonzero(neighbours.mask)
    whom = neighbours.index[who, rank]
    code, sector, market = (members[c].to_numpy() for c in ("code", "s33", "mkt"))
    return pl.DataFrame(
        {
            "code": code[who],
            "rank": rank.astype(np.int16),
            "neighbour": code[whom],
            "corr": neighbours.correlation[who, rank],
            "same_market": market[who] == market[whom],
            "same_sector": sector[who] == sector[whom],
            "as_of": as_of,
            "warm_up": False,
        },
        schema=SCHEMA,
    )


def self_edges(members: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """A warm-up month: too little history for correlations, so each name has itself as its only neighbour."""
    return members.select(
        "code",
        rank=pl.lit(0, pl.Int16),
        neighbour="code",
        corr=pl.lit(1.0, pl.Float32),
        same_market=True,
        same_sector=True,
        as_of=pl.lit(as_of, pl.Date),
        warm_up=True,
    )
