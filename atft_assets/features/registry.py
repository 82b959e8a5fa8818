"""The registry of feature tables: one line a table, in an order in which each comes after what it reads.

Assets, contracts, lineage, the point-in-time check, the bench, the join, the catalogue and the gates of plans iterate
over it. To add a table: a module that ends with its row (`FeatureTable`), and a line here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from atft_assets.features import (
    breakdown,
    daily_margin,
    dividends,
    earnings,
    flow,
    futures,
    indices,
    interactions,
    labels,
    margin,
    market,
    options,
    pressure,
    regimes,
    sector,
    short,
    statements,
    stock,
    stock_market,
    universe,
)
from atft_assets.features.joining import all_features
from atft_assets.features.table import FeatureTable
from atft_assets.jquants.plans import covers
from atft_assets.settings import Plan

TABLES: tuple[FeatureTable, ...] = (
    universe.TABLE,
    stock.TABLE,
    market.TABLE,
    stock_market.TABLE,
    sector.TABLE,
    statements.TABLE,
    earnings.TABLE,
    dividends.TABLE,
    options.TABLE,
    indices.TABLE,
    futures.TABLE,
    flow.TABLE,
    margin.TABLE,
    daily_margin.TABLE,
    short.TABLE,
    breakdown.TABLE,
    interactions.TABLE,
    regimes.TABLE,
    pressure.TABLE,
    labels.TABLE,
)


def served(plan: Plan, tables: Iterable[FeatureTable] = TABLES) -> tuple[FeatureTable, ...]:
    """The tables of a data root on a plan, in their order.

    A table that needs a larger plan is left out, and `all_features` and the set `full` are without its columns: what is
    not served must not stop what is. Tables with columns of `core` stay; there would be no such set without them, and
    their assets say what they need.
    """
    return tuple(
        one for one in tables if covers(plan, one.plan) or not one.features or any(f.core for f in one.features)
    )


@cache
def _complete(tables: tuple[FeatureTable, ...]) -> tuple[FeatureTable, ...]:
    names = [table.name for table in tables]
    if len(set(names)) < len(names):
        raise ValueError(f"two feature tables have one name: {', '.join(sorted(names))}")
    return (*tables, all_features(tables))


def complete(tables: Iterable[FeatureTable] = TABLES) -> tuple[FeatureTable, ...]:
    """The tables and, last, `all_features`, which holds the features of all of them side by side.

    Raises:
        ValueError: two tables, or two features, have one name.
    """
    return _complete(tuple(tables))


def table(name: str, tables: Iterable[FeatureTable] = TABLES) -> FeatureTable:
    """The row of a table, `all_features` included.

    Raises:
        KeyError: there is none.
    """
    return {one.name: one for one in complete(tables)}[name]
