"""The asset `correlation_graph`: for each month the K most correlated neighbours of each name.

The graph of a month uses data strictly before the month's first trading day, so it is known on each of its days.
"""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import numpy as np
import pandera.polars as pa
import polars as pl
from pydantic import Field

from atft_assets import groups
from atft_assets.calendar import (
    days_of_month,
    month_key,
    months_between,
    previous_trading_day,
    shift_trading_days,
    trading_days,
)
from atft_assets.code_version import ROOMS, code_version
from atft_assets.contracts import Built, Contract, Event, contract_check, require_columns, write_audit_publish
from atft_assets.features.bars import RAW_COLUMNS
from atft_assets.features.names import DAILY_QUOTES, RAW, UNIVERSE
from atft_assets.features.names import GROUP as FEATURES
from atft_assets.features.old_roots import refuse_old_root
from atft_assets.features.table import WIRING
from atft_assets.graph.neighbours import edges, self_edges, split_adjusted_returns, strongest_neighbours
from atft_assets.partitions import look_back, months
from atft_assets.settings import Settings
from atft_assets.store import Store

GROUP = "graph"  # its folder in the store
NAME = "correlation_graph"
MEMBER_DAYS = 5  # a name belongs to the universe of an evening if it had a row within so many trading days


class GraphConfig(dg.Config):
    """How neighbours are chosen."""

    k: int = Field(default=10, description="Neighbours of a name at most")
    window: int = Field(default=60, description="Trading days of returns")
    half_life: float = Field(
        default=30.0, description="Days after which a return weighs half, in means and correlations"
    )
    min_observations: int = Field(
        default=40,
        description="Days on which both names must have a return; also the history without which a month is a warm-up "
        "month",
    )
    shrinkage: float = Field(default=0.1, description="Share by which correlations are shrunk towards zero")
    threshold: float = Field(default=0.2, description="Least |correlation|, after shrinkage, of a neighbour")
    sector_bonus: float = Field(
        default=0.05, description="Added to the |correlation| of names of one sector33 when neighbours are ranked"
    )


def contract(config: GraphConfig) -> Contract:
    """The contract of `correlation_graph`; an edge to oneself stands only in a warm-up month."""
    return Contract(
        NAME,
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
    quotes = _MonthReader(store, RAW, DAILY_QUOTES, list(RAW_COLUMNS))
    universe = _MonthReader(store, FEATURES, UNIVERSE, ["date", "code", "s33", "mkt"])
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
        returns = split_adjusted_returns(quotes.read(window), days, members["code"].to_list(), key)
        sectors = members["s33"].rank("dense").to_numpy().astype(np.int64)
        yield key, edges(strongest_neighbours(returns, sectors, config), members, as_of)


def _history_days(key: str, start: date) -> int:
    """Trading days from `start` to the evening before a month."""
    return len(trading_days(start, previous_trading_day(days_of_month(key)[0])))


def graph_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `correlation_graph`."""
    version = code_version(month_graphs, rooms=(*ROOMS, "atft_assets.graph"), without=WIRING)

    @dg.asset(
        name=NAME,
        group_name=groups.GRAPH,
        partitions_def=months(settings),
        deps=[
            dg.AssetDep(UNIVERSE, partition_mapping=look_back()),
            dg.AssetDep(DAILY_QUOTES, partition_mapping=look_back()),
        ],
        check_specs=[contract_check(NAME)],
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=version,
        kinds={"numpy", "polars"},
        tags={"atft/kind": "graph"},
        description="For each month the K names most correlated with each name, from data before the month.",
    )
    def correlation_graph(context: dg.AssetExecutionContext, config: GraphConfig, store: Store) -> Iterator[Event]:
        def build(keys: list[str]) -> Iterator[Built]:
            refuse_old_root(store)
            for key, frame in month_graphs(store, settings.start, keys, config):
                names = frame["code"].n_unique()
                neighbours = frame.height / max(names, 1)
                yield Built(key, frame, _history_days(key, settings.start), {"neighbours_a_name": neighbours})

        yield from write_audit_publish(
            context,
            store.table(GROUP, NAME),
            contract(config),
            build,
            code_version=version,
            details=config.model_dump(),
        )

    return correlation_graph
