"""What a run over several folds records: each fold's own materialization and verdicts.

Dagster gives a run over a range of partitions one result for all of them. Here each fold has its own data version,
metadata and checks, recorded as soon as the fold is published, so that a fold that fails leaves the others alone.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from atft_assets.contracts import Event
from atft_assets.dagster_private import RECORDED_BY_US, data_version_tags, input_versions


def record_in_partition(context: dg.AssetExecutionContext, asset: str, event: Event, partition: str) -> None:
    """Record a result of one fold at once, in place of yielding it."""
    if isinstance(event, dg.MaterializeResult):
        version = event.data_version.value if event.data_version else ""
        tags = data_version_tags(version, context.run.run_id, input_versions(context, asset)) if version else {}
        context.log_event(dg.AssetMaterialization(asset, partition=partition, metadata=event.metadata or {}, tags=tags))
    elif isinstance(event, dg.AssetCheckResult):
        spec = context.assets_def.get_spec_for_check_key(dg.AssetCheckKey(dg.AssetKey(asset), str(event.check_name)))
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=event.passed,
                metadata=event.metadata,
                severity=event.severity,
                description=event.description,
                blocking=spec.blocking,
                partition=partition,
            )
        )


def recorded(asset: str, verdicts: Sequence[dg.AssetCheckResult]) -> Iterator[Event]:
    """What the step yields in the end: its output, and of each check the worst of the folds' verdicts."""
    yield dg.MaterializeResult(asset_key=asset, metadata={RECORDED_BY_US: True})
    for name in dict.fromkeys(verdict.check_name for verdict in verdicts):
        same = [verdict for verdict in verdicts if verdict.check_name == name]
        failed = [verdict for verdict in same if not verdict.passed]
        folds = ", ".join(str(verdict.metadata["partition"].value) for verdict in failed or same)
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=name,
            passed=not failed,
            severity=same[0].severity,
            description=f"{'failed on' if failed else 'passed on'} {folds}: see the verdicts of each",
        )
