"""Who moves with whom: the asset `correlation_graph`, for each month the K most correlated neighbours of each name.

The graph of a month uses data strictly before the month's first trading day, so it is known on each of its days.
Similarity is the correlation of market-residual returns: of plain returns everything correlates with everything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import dagster as dg
import numpy as np
import pandera.polars as pa
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import (
    days_of_month,
    month_key,
    months_between,
    previous_trading_day,
    shift_trading_days,
    trading_days,
)
from atft_assets.contracts import Contract, contract_check, require_columns, write_audit_publish
from atft_assets.partitions import look_back, months
from atft_assets.settings import Settings
from atft_assets.store import Store

CODE_VERSION = "1"
MEMBER_DAYS = 5  # a name belongs to the universe of an evening if it had a row within so many trading days
ROWS_AT_ONCE = 512  # names whose correlations with all others are held at a time


class GraphConfig(dg.Config):
    """How neighbours are chosen.

    Attributes:
        k: neighbours of a name at most.
        window: trading days of returns.
        half_life: days after which a return weighs half, in means and correlations.
        min_observations: days on which both names must have a return; also the history without which a month is
            a warm-up month.
        shrinkage: share by which correlations are shrunk towards zero.
        threshold: least |correlation|, after shrinkage, of a neighbour.
        sector_bonus: added to the |correlation| of names of one sector33 when neighbours are ranked.
    """

    k: int = 10
    window: int = 60
    half_life: float = 30.0
    min_observations: int = 40
    shrinkage: float = 0.1
    threshold: float = 0.2
    sector_bonus: float = 0.05


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
    returns: NDArray[np.floating], sectors: NDArray[np.integer], config: GraphConfig
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


def split_adjusted_returns(quotes: pl.DataFrame, days: list[date], codes: list[str]) -> NDArray[np.float64]:
    """Close-to-close returns over consecutive trading days [len(days) - 1, N], NaN unless both closes exist.

    Args:
        quotes: date, code, C, AdjFactor. The factor stands on the ex-date and applies to the days before it, so the
            running product over a name's rows makes its closes comparable.
    """
    place = pl.DataFrame({"date": days, "row": range(len(days))}, schema={"date": pl.Date, "row": pl.Int64})
    column = pl.DataFrame({"code": codes, "column": range(len(codes))}, schema={"code": pl.String, "column": pl.Int64})
    comparable = (
        quotes.join(place, on="date")
        .join(column, on="code")
        .sort("code", "date")
        .with_columns(
            price=pl.col("C").cast(pl.Float64)
            / pl.col("AdjFactor").cast(pl.Float64).fill_null(1.0).cum_prod().over("code")
        )
        .filter(pl.col("price").is_finite() & (pl.col("price") > 0))
    )
    prices = np.full((len(days), len(codes)), np.nan)
    prices[comparable["row"].to_numpy(), comparable["column"].to_numpy()] = comparable["price"].to_numpy()
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


def contract(config: GraphConfig) -> Contract:
    """The contract of `correlation_graph`; an edge to oneself stands only in a warm-up month."""
    return Contract(
        "correlation_graph",
        pa.DataFrameSchema(
            {
                "code": pa.Column(pl.String, pa.Check.str_length(5, 5), description="the name"),
                "rank": pa.Column(pl.Int16, pa.Check.in_range(0, config.k - 1), description="0 is the strongest"),
                "neighbour": pa.Column(pl.String, pa.Check.str_length(5, 5), description="the neighbour's code"),
                "corr": pa.Column(
                    pl.Float32,
                    pa.Check.in_range(-1, 1),
                    description=f"correlation of market-residual returns, trailing {config.window} days, "
                    f"half-life {config.half_life:g}, shrunk by {config.shrinkage:g}",
                ),
                "same_market": pa.Column(pl.Boolean, description="both in one market segment on as_of"),
                "same_sector": pa.Column(pl.Boolean, description="both in one sector33 on as_of"),
                "as_of": pa.Column(pl.Date, description="last day of the data used, before the month"),
                "warm_up": pa.Column(pl.Boolean, description="too little history: the month has self edges only"),
            },
            checks=pa.Check(
                lambda data: data.lazyframe.select((pl.col("code") == pl.col("neighbour")) == pl.col("warm_up")),
                error="a name is its own neighbour in warm-up months and in no other",
            ),
            strict=True,
            unique=["code", "rank"],
        ),
        lookback={"corr": config.min_observations + 1, "rank": config.min_observations + 1},
        constant_ok=frozenset({"same_market", "same_sector", "as_of", "warm_up"}),
    )


class _MonthReader:
    """Month files of a table, each read once while consecutive months ask for overlapping windows."""

    def __init__(self, store: Store, group: str, name: str, columns: list[str]):
        self._table, self._columns = store.table(group, name), columns
        self._held: dict[str, pl.DataFrame] = {}

    def read(self, keys: list[str]) -> pl.DataFrame:
        self._held = {key: frame for key, frame in self._held.items() if key in keys}
        for key in keys:
            if key not in self._held:
                frame = self._table.read([key])
                require_columns(frame, self._columns, table=self._table.name, partition=key)
                self._held[key] = frame.select(self._columns)
        return pl.concat([self._held[key] for key in keys])


def month_graphs(store: Store, start: date, keys: list[str], config: GraphConfig) -> Iterator[tuple[str, pl.DataFrame]]:
    """The graphs of months in order.

    Args:
        start: first day of any data; a month with fewer than `min_observations` returns behind it warms up.

    Raises:
        MissingTable: a month that a window reaches was not published.
    """
    quotes = _MonthReader(store, "raw", "daily_quotes", ["date", "code", "C", "AdjFactor"])
    universe = _MonthReader(store, "features", "universe", ["date", "code", "s33", "mkt"])
    for key in sorted(keys):
        first_day = days_of_month(key)[0]
        as_of = previous_trading_day(first_day)
        if _history_days(key, start) <= config.min_observations:
            frame = universe.read([key])
            members = frame.filter(pl.col("date") == pl.col("date").min()).sort("code")
            yield key, self_edges(members, as_of)
            continue
        days = trading_days(max(start, shift_trading_days(first_day, -(config.window + 1))), as_of)
        window = months_between(month_key(days[0]), month_key(as_of))
        recent = days[-MEMBER_DAYS:]
        members = (
            universe.read(months_between(month_key(recent[0]), month_key(as_of)))
            .filter(pl.col("date").is_between(recent[0], as_of))
            .sort("date")
            .unique("code", keep="last")
            .sort("code")
            .with_columns(pl.col("s33", "mkt").fill_null(""))
        )
        returns = split_adjusted_returns(quotes.read(window), days, members["code"].to_list())
        sectors = members["s33"].rank("dense").to_numpy().astype(np.int64)
        yield key, edges(strongest_neighbours(returns, sectors, config), members, as_of)


def _history_days(key: str, start: date) -> int:
    """Trading days from `start` to the evening before a month."""
    return len(trading_days(start, previous_trading_day(days_of_month(key)[0])))


def graph_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `correlation_graph`."""

    @dg.asset(
        name="correlation_graph",
        group_name="graph",
        partitions_def=months(settings),
        deps=[
            dg.AssetDep("universe", partition_mapping=look_back()),
            dg.AssetDep("daily_quotes", partition_mapping=look_back()),
        ],
        check_specs=[contract_check("correlation_graph")],
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=CODE_VERSION,
        kinds={"numpy", "polars"},
        owners=["team:atft"],
        tags={"atft/kind": "graph"},
        description="For each month the K names most correlated with each name, from data before the month.",
    )
    def correlation_graph(context: dg.AssetExecutionContext, config: GraphConfig, store: Store):
        neighbours: list[float] = []

        def build(keys: list[str]) -> Iterator[tuple[str, pl.DataFrame]]:
            for key, frame in month_graphs(store, settings.start, keys, config):
                neighbours.append(frame.height / max(frame["code"].n_unique(), 1))
                context.log.info(
                    f"{key}: {frame['code'].n_unique()} names with {neighbours[-1]:.1f} neighbours on average"
                )
                yield key, frame

        yield from write_audit_publish(
            context,
            store.table("graph", "correlation_graph"),
            contract(config),
            build,
            code_version=CODE_VERSION,
            history_days=lambda key: _history_days(key, settings.start),
            metadata=lambda: {"neighbours_a_name": float(np.mean(neighbours)), **config.model_dump()},
        )

    return correlation_graph
