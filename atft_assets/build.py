"""Assembles every room's definitions. Nothing reaches out at import: no request, no file, no torch.

What is true of every asset, its owner and its cadence, is said here once and mapped over all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from atft_assets import features, graph, hpo, operations, panel, raw, trading, training
from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.jquants.resource import jquants_resource
from atft_assets.settings import Settings
from atft_assets.store import Store

OWNERS = ["team:atft"]
PARTITIONS_TAG = "atft/partitions"


def build_defs(
    settings: Settings | None = None,
    *,
    sources: Sequence[raw.Source] = raw.SOURCES,
    tables: Sequence[features.FeatureTable] = features.TABLES,
    folds: Sequence[training.FoldRow] | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """The whole code location.

    Args:
        settings: default: read from the environment.
        sources: endpoints that are pulled, a month table each.
        tables: the registry of feature tables.
        folds: `main`, and further ones, each a partition of `fold_phase0` … `fold_scores`; by default the settings'.
        resource_overrides: replaces resources by key; tests pass fakes here instead of patching modules.
    """
    settings = settings or Settings.from_env()
    trained = training.definitions(settings, folds)
    road = dg.Definitions.merge(
        raw.definitions(settings, sources=sources),
        features.definitions(settings, tables),
        graph.definitions(settings),
        panel.definitions(settings),
        trained,
        hpo.definitions(settings),
        trading.definitions(settings, _boards(trained)),
    )
    rooms = dg.Definitions.merge(
        road, operations.definitions(settings, contract_checks=_contract_checks(road), sources=sources)
    ).map_asset_specs(func=_of_the_house)
    return dg.Definitions(
        assets=rooms.assets,
        asset_checks=rooms.asset_checks,
        jobs=rooms.jobs,
        schedules=rooms.schedules,
        sensors=rooms.sensors,
        resources={
            "store": Store(root=settings.data_root),
            "jquants": jquants_resource(settings),
            **(rooms.resources or {}),
            **(resource_overrides or {}),
        },
        # One process a run. Steps as processes of their own would each import Dagster and Polars anew (3 s a step);
        # what needs isolation, the training, has its own process in any case.
        executor=dg.in_process_executor,
    )


def _contract_checks(definitions: dg.Definitions) -> list[dg.AssetCheckKey]:
    assets = [asset for asset in definitions.assets or [] if isinstance(asset, dg.AssetsDefinition)]
    return [spec.key for asset in assets for spec in asset.check_specs if spec.name == CONTRACT_CHECK]


def _boards(trained: dg.Definitions) -> list[str]:
    """The assets that judge everything that may score evenings; of a walk-forward only where there are folds."""
    assets = [asset for asset in trained.assets or [] if isinstance(asset, dg.AssetsDefinition)]
    names = {key.to_user_string() for asset in assets for key in asset.keys}
    return [name for name in ("evaluation", "walk_forward") if name in names]


def _of_the_house(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Who answers for an asset, and how it is divided, so that a selection can tell month assets from the others."""
    parts = "none" if spec.partitions_def is None else "other"
    if isinstance(spec.partitions_def, dg.TimeWindowPartitionsDefinition):
        parts = "months"
    return spec.replace_attributes(owners=OWNERS).merge_attributes(tags={PARTITIONS_TAG: parts})
