"""Data versions: the materialization of every month carries the hash of that month's bytes.

Dagster compares these versions: a month whose hash changed makes the months that read it stale, one that comes out as
it was does not. Dagster gives a run one version for all its partitions. A run over a range therefore records its
materializations itself, one a month with the month's own version and metadata.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from atft_assets.dagster_private import RECORDED_BY_US, data_version_tags, input_versions


def materializations(
    context: dg.AssetExecutionContext,
    asset: str,
    months: Mapping[str, Mapping[str, Any]],
    hashes: Mapping[str, str],
    *,
    code_version: str,
    details: Mapping[str, Any],
) -> Iterator[dg.MaterializeResult]:
    """Record what was published.

    Args:
        months: metadata of each published partition, in order.
        hashes: data version of each; empty where the table's content makes nothing stale.
        details: metadata of the whole run; the newest month carries them, which is the one that the UI shows.
    """
    newest = list(months)[-1]
    if context.assets_def.partitions_def is None or len(context.partition_keys) == 1:
        version = dg.DataVersion(hashes[newest]) if hashes else None
        yield dg.MaterializeResult(asset_key=asset, metadata={**months[newest], **details}, data_version=version)
        return
    inputs = input_versions(context, asset)
    for key, metadata in months.items():
        context.log_event(
            dg.AssetMaterialization(
                asset,
                partition=key,
                metadata={**metadata, **details} if key == newest else metadata,
                tags=data_version_tags(hashes[key], code_version, inputs),
            )
        )
    # the step must yield its output, for which Dagster would stamp every month of the run anew
    yield dg.MaterializeResult(asset_key=asset, metadata={RECORDED_BY_US: True})
