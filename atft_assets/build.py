"""Assembles every room's definitions. Nothing reaches out at import: no request, no file, no torch."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from atft_assets import features, operations, raw, training
from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.jquants.resource import jquants_resource
from atft_assets.settings import Settings
from atft_assets.store import Store

PARTITIONS_TAG = "atft/partitions"


def build_defs(
    settings: Settings | None = None, *, resource_overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """The whole code location.

    Args:
        settings: default: read from the environment.
        resource_overrides: replaces resources by key; tests pass fakes here instead of patching modules.
    """
    settings = settings or Settings.from_env()
    road = dg.Definitions.merge(
        raw.definitions(settings), features.definitions(settings), training.definitions(settings)
    ).map_asset_specs(func=_with_cadence)
    specs = [
        spec for asset in road.assets or [] if isinstance(asset, dg.AssetsDefinition) for spec in asset.check_specs
    ]
    checks = [spec.key for spec in specs if spec.name == CONTRACT_CHECK]
    rooms = dg.Definitions.merge(road, operations.definitions(settings, contract_checks=checks))
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


def _with_cadence(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Tags what is partitioned, so that a selection can tell month assets from the others."""
    return spec.merge_attributes(tags={PARTITIONS_TAG: "months" if spec.partitions_def else "none"})
