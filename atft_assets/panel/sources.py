"""What a panel is made of: which days and months of which tables, and their frames. Only here is the store opened."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import polars as pl

from atft_assets.calendar import month_key, months_between, shift_month, shift_trading_days, trading_days
from atft_assets.code_version import code_version
from atft_assets.failures import Refusal
from atft_assets.panel.config import PanelConfig, day_setting
from atft_assets.store import Store, Table
from atft_model.interchange.horizons import HORIZONS, LABELS
from atft_model.interchange.panel import FORMAT, PanelFeature

# (group, table), in the order of the road
SOURCES = (
    ("features", "universe"),
    ("features", "all_features"),
    ("features", "labels"),
    ("graph", "correlation_graph"),
)

CODE_VERSION = code_version(
    "atft_assets.panel.build",
    "atft_assets.panel.normalise",
    "atft_assets.panel.sources",
    "atft_assets.scoring.neutral",
    "atft_assets.scoring.ranking",
    "atft_assets.scoring.trailing",
)

# what of a config decides on the content of a panel, beside its features and days
DECIDING = {"min_history", "most_liquid", "turnover_floor", "label", "target"}

MARKET_MONTHS = 13  # before the panel's first: market-level features are standardised over a year

LABEL_COLUMNS = tuple(f"{label}_{h}d" for label in LABELS for h in HORIZONS)
GRAPH_COLUMNS = ("code", "rank", "neighbour", "corr", "same_market", "same_sector", "warm_up")


class PanelRefused(Refusal):
    """No panel can be built of these days; the text says what to change."""


class FeatureRow(Protocol):
    """What the panel needs to know of a feature; the catalogue's rows have more."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def lookback(self) -> int: ...
    @property
    def sequence(self) -> bool: ...


@dataclass(frozen=True)
class PanelPlan:
    """Everything that decides what is in a panel, before anything is read.

    Attributes:
        panel_id: hash of all the others but `published`.
        days: axis T.
        features: axis F.
        months: of the days.
        feature_months: the same, and before them what market-level features are standardised by.
        published: months of the universe that are there.
        sources: data versions of the tables.
    """

    panel_id: str
    days: tuple[date, ...]
    features: tuple[PanelFeature, ...]
    feature_set: str
    catalogue_hash: str
    config: PanelConfig
    months: tuple[str, ...]
    feature_months: tuple[str, ...]
    published: tuple[str, ...]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class PanelFrames:
    """The tables of a plan.

    Attributes:
        universe: date, code, s33, age, traded, liquidity_rank; turnover_mean_60 where the plan has a floor.
        features: a frame a month, oldest first, read when it is asked for: all of them would not fit into memory.
        labels: date, code, y_<kind>_<h>d.
        graphs: a frame of edges a month.
    """

    universe: pl.DataFrame
    features: Iterable[pl.DataFrame]
    labels: pl.DataFrame
    graphs: Sequence[pl.DataFrame]


def plan_panel(
    store: Store, features: Sequence[FeatureRow], *, feature_set: str, catalogue_hash: str, config: PanelConfig
) -> PanelPlan:
    """Decide on days, months and versions from what the store holds now.

    The same tables, features, days and config give the same id.

    Raises:
        MissingTable: an input was not published.
        PanelRefused: the config leaves no day.
    """
    universe, all_features, labels, graph = (store.table(group, name) for group, name in SOURCES)
    days = _days(universe, features, config)
    months = months_between(month_key(days[0]), month_key(days[-1]))
    before = shift_month(months[0], -MARKET_MONTHS)
    feature_months = sorted({*(key for key in all_features.manifest().entries if before <= key <= months[-1]), *months})
    sources = {
        "features/universe": universe.version(months),
        "features/all_features": all_features.version(feature_months),
        "features/labels": labels.version(),
        "graph/correlation_graph": graph.version(months),
    }
    identity = {
        "format": FORMAT,
        "code_version": CODE_VERSION,
        "sources": sources,
        "feature_set": feature_set,
        "catalogue_hash": catalogue_hash,
        "window": [str(days[0]), str(days[-1])],
        "config": config.model_dump(mode="json", include=DECIDING),
    }
    return PanelPlan(
        panel_id=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16],
        days=tuple(days),
        features=tuple(PanelFeature(f.name, f.family, str(f.kind), f.sequence) for f in features),
        feature_set=feature_set,
        catalogue_hash=catalogue_hash,
        config=config,
        months=tuple(months),
        feature_months=tuple(feature_months),
        published=tuple(universe.keys()),
        sources=sources,
    )


def read_frames(store: Store, plan: PanelPlan) -> PanelFrames:
    """The tables of a plan; the features are read month by month while they are used.

    Raises:
        MissingTable, MissingColumns: an input was not published, or lacks a column (of a feature: on use).
    """
    universe, all_features, labels, graph = (store.table(group, name) for group, name in SOURCES)
    columns = ["date", "code", *(f.name for f in plan.features)]
    eligibility = ["date", "code", "s33", "age", "traded", "liquidity_rank"]
    if plan.config.turnover_floor:
        eligibility.append("turnover_mean_60")
    return PanelFrames(
        universe=universe.read(plan.months, columns=eligibility),
        features=(all_features.read([key], columns=columns) for key in plan.feature_months),
        labels=labels.read(columns=["date", "code", *LABEL_COLUMNS]),
        graphs=[graph.read([key], columns=GRAPH_COLUMNS) for key in plan.months],
    )


def _days(universe: Table, features: Sequence[FeatureRow], config: PanelConfig) -> list[date]:
    """Trading days of the panel."""
    first, last = _edges(universe)
    warm_up = config.warm_up_days
    if warm_up is None:
        warm_up = max((f.lookback for f in features), default=0)
    start = day_setting(config.start, "start") or shift_trading_days(first, warm_up)
    end = min(day_setting(config.end, "end") or last, last)
    days = trading_days(start, end)
    if not days:
        raise PanelRefused(
            f"there is no trading day from {start} to {end}: the universe has rows from {first} to {last}, and without "
            f"the config `start` a panel begins {warm_up} trading days after the first"
        )
    return days


def _edges(universe: Table) -> tuple[date, date]:
    """First and last day of the universe; a month is read twice when there is no other."""
    keys = universe.keys()
    first, last = (universe.read([key] if key else None, columns=["date"])["date"].sort() for key in _ends(keys))
    return first[0], last[-1]


def _ends(keys: Sequence[str]) -> tuple[str | None, str | None]:
    return (keys[0], keys[-1]) if keys else (None, None)
