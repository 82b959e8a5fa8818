"""The panel of the last days: what the scores of an evening are read from, in seconds instead of minutes.

It holds the days that are scored and those before them that a look-back sees, with the features, names, scaling and
graph that the panel of the training would have on these days: a cell of the one is the same cell of the other, to the
bit, as long as the tables are the same. What it lacks are labels, which nobody knows yet; they are NaN throughout.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl

from atft_assets.panel.build import build_panel
from atft_assets.panel.config import FeatureSet, Label, PanelConfig, Target
from atft_assets.panel.sources import (
    GRAPH_COLUMNS,
    LABEL_COLUMNS,
    SOURCES,
    FeatureRow,
    PanelFrames,
    PanelPlan,
    plan_panel,
)
from atft_assets.store import Store
from atft_model.interchange.errors import PanelError
from atft_model.interchange.panel import (
    DESCRIPTION,
    Panel,
    PanelDescription,
    checked_panel,
    open_panel,
    publish_panel,
    staged_panel,
    write_panel,
)

LABELS_OF = "features/labels"


def evening_panel(
    store: Store,
    features: Sequence[FeatureRow],
    catalogue_hash: str,
    trained: PanelDescription,
    days: tuple[date, date],
    folder: Path,
) -> Panel:
    """Build the panel of some days, or take it as it stands; older ones in the folder are removed.

    Args:
        features: of the set that the model was trained on, and what the catalogue says of them now (`catalogue_hash`).
        trained: the panel that the model was trained on: who is eligible is decided as there.
        days: first and last.
        folder: where such panels lie, apart from those that are trained on.

    Raises:
        MissingTable, MissingColumns, PanelRefused: it cannot be built.
        DiskFull, Unwritable: it cannot be kept.
    """
    plan = plan_evening(store, features, catalogue_hash, trained, days)
    with suppress(PanelError):  # not there, or damaged: build it
        return checked_panel(folder / plan.panel_id)
    built = build_panel(plan, evening_frames(store, plan))
    with staged_panel(folder) as staged:
        write_panel(staged, built.tensors, built.description)
        published = publish_panel(staged, folder, plan.panel_id)
    for older in {path.parent for path in folder.glob(f"[!.]*/{DESCRIPTION}")} - {published}:
        shutil.rmtree(older)
    return open_panel(published)


def plan_evening(
    store: Store,
    features: Sequence[FeatureRow],
    catalogue_hash: str,
    trained: PanelDescription,
    days: tuple[date, date],
) -> PanelPlan:
    """What is in the panel of some days; see `evening_panel`."""
    config = PanelConfig(
        feature_set=FeatureSet(trained.feature_set),
        start=str(days[0]),
        end=str(days[1]),
        min_history=trained.min_history,
        most_liquid=trained.most_liquid,
        turnover_floor=trained.turnover_floor,
        label=Label(trained.label),
        target=Target.raw,
        warm_up_days=None,
        min_names=0,
    )
    plan = plan_panel(store, features, feature_set=trained.feature_set, catalogue_hash=catalogue_hash, config=config)
    return replace(plan, sources={name: version for name, version in plan.sources.items() if name != LABELS_OF})


def evening_frames(store: Store, plan: PanelPlan) -> PanelFrames:
    """The tables of such a plan.

    Raises:
        MissingTable, MissingColumns: an input was not published, or lacks a column (of a feature: on use).
    """
    universe, _, _, graph = (store.table(group, name) for group, name in SOURCES)
    columns = ["date", "code", "s33", "age", "traded", "liquidity_rank"]
    if plan.config.turnover_floor:
        columns.append("turnover_mean_60")
    keys = {"date": pl.Date, "code": pl.String}
    return PanelFrames(
        universe=universe.read(plan.months, columns=columns),
        features=_months(store, plan),
        labels=pl.DataFrame(schema={**keys, **dict.fromkeys(LABEL_COLUMNS, pl.Float32)}),
        graphs=[graph.read([key], columns=GRAPH_COLUMNS) for key in plan.months],
    )


def _months(store: Store, plan: PanelPlan) -> Iterator[pl.DataFrame]:
    """The features by month. Of months before the panel's only the market-level ones are read, a row a day: that is
    all that scaling remembers of them.
    """
    table = store.table("features", "all_features")
    names = [feature.name for feature in plan.features]
    market = [feature.name for feature in plan.features if feature.kind == "market"]
    for key in plan.feature_months:
        if key in plan.months:
            yield table.read([key], columns=["date", "code", *names])
        elif market:
            month = table.read([key], columns=["date", "code", *market]).sort("date", "code")
            known = [pl.col(name).filter(pl.col(name).is_finite()).first() for name in market]
            level = month.group_by("date", maintain_order=True).agg(known)
            others = [pl.lit(None, pl.Float32).alias(name) for name in names if name not in market]
            yield level.with_columns(pl.lit("").alias("code"), *others).select("date", "code", *names)
