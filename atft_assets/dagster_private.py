"""The only module that touches Dagster's private names; ruff refuses `dagster._core` everywhere else.

Dagster is pinned. Each name below says what it stands for and why there is no public way to it, and has a test of its
own in tests/test_dagster_private.py, so that an upgrade shows here what moved and nowhere else. Not here: methods of
`instance.event_log_storage`, a public attribute of the instance.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import dagster as dg

# What a verdict is about: a materialization by its place in the event log (see `RefusalCheckResult`).
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

# A graph of assets as a repository holds it (`context.repository_def.asset_graph`): parents, children, groups, and
# which partitions of a child read one of its parent. The object is handed out publicly; its type is not.
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

# Metadata key of a materialization that only reports what is recorded already: a step that carries it does not stamp
# its partitions with one data version. There is no public result with a version a partition.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as RECORDED_BY_US

# What `dg.define_asset_job` returns, and `dg.schedule` and `dg.sensor` take: public functions, private type.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# The filter by which an instance is asked for its backfills (`instance.get_backfills`), the state of one, and the
# states of one that is over.
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES as BULK_ACTION_ENDS
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# The tags that carry a data version and its provenance (see `data_version_tags`).
from dagster._core.execution.plan.execute_step import _build_data_version_tags, _get_input_provenance_data

# By which a run asks for places in pools (see `rest_while_pools_are_full`).
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

# Where a queued run's code is served (see `job_origin`).
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

# State of an evaluation of a check in the event log: planned, succeeded, failed. Storage takes and returns it; the
# public `AssetCheckResult` knows only the evaluation of the running step.
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckStatus

# States of a run that has not ended; publicly one can ask a run (`run.is_finished`), but a filter wants the list.
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

# The default event log, a file of SQLite a run: whether it is this one, and where its files lie, because Dagster leaves
# those of deleted runs behind. The instance hands out the storage; its type is not public.
from dagster._core.storage.event_log import SqliteEventLogStorage

# Whether a Ctrl-C or SIGTERM came that Dagster holds back until the running step can be ended; nothing public tells.
from dagster._utils.interrupts import check_captured_interrupt as interrupt_waits


class RefusalCheckResult(dg.AssetCheckResult):
    """A verdict about what was refused: nothing was materialized, so it stands beside the newest that is there.

    Dagster would have it target the last materialization of the step's partition. If that is not the newest of the
    asset (an older month was fetched again), the verdict is not shown: the page says "Not evaluated". The public
    `dg.AssetCheckResult` has no way to name its target.
    """

    def _get_target_materialization_data(
        self, step_context: Any, check_key: dg.AssetCheckKey
    ) -> AssetCheckEvaluationTargetMaterializationData | None:
        records = step_context.instance.fetch_materializations(check_key.asset_key, limit=1).records
        return AssetCheckEvaluationTargetMaterializationData(
            run_id=records[0].run_id, storage_id=records[0].storage_id, timestamp=records[0].timestamp
        ) if records else None  # fmt: skip


__all__ = [
    "BULK_ACTION_ENDS",
    "NOT_FINISHED_STATUSES",
    "RECORDED_BY_US",
    "BaseAssetGraph",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CheckStatus",
    "RefusalCheckResult",
    "SqliteEventLogStorage",
    "UnresolvedAssetJobDefinition",
    "data_version_tags",
    "input_versions",
    "interrupt_waits",
    "job_origin",
    "rest_while_pools_are_full",
    "webserver_app",
]

REST_SECONDS = 0.05


def input_versions(context: dg.AssetExecutionContext, asset: str) -> Mapping[dg.AssetKey, Any]:
    """What the running step reads of each input: its newest event and data version, as Dagster itself records it.

    Publicly these are only read back (`dg.DataProvenance.from_tags`), never asked for in a step.
    """
    return _get_input_provenance_data(dg.AssetKey(asset), context.get_step_execution_context())


def data_version_tags(version: str, code_version: str, inputs: Mapping[dg.AssetKey, Any]) -> dict[str, str]:
    """Tags that say of a materialization which data it holds and from which it was made.

    They are those that Dagster gives a run over one partition; the public `dg.MaterializeResult` takes one version for
    all partitions of a run.

    Args:
        inputs: see `input_versions`.
    """
    return _build_data_version_tags(dg.DataVersion(version), code_version, dict(inputs), True)


def rest_while_pools_are_full() -> None:
    """Let a run that waits for a place in a pool sleep between two questions. For this process, and once for all.

    Dagster's executors ask again at once, and the interval by which they would sleep is never above zero: a training
    that waits for the one in front of it would take a whole core from it. No setting reaches that loop.
    """
    ask = InstanceConcurrencyContext.claim
    if hasattr(ask, "__wrapped__"):
        return

    @wraps(ask)
    def claim(self: InstanceConcurrencyContext, *args: Any, **kwargs: Any) -> bool:
        if claimed := ask(self, *args, **kwargs):
            return claimed
        time.sleep(REST_SECONDS)
        return False

    InstanceConcurrencyContext.claim = claim  # type: ignore[method-assign]


def job_origin(job: str, host: str, port: int) -> RemoteJobOrigin:
    """What a run must carry to stand in the queue: the code server that has its job, which is not asked here.

    Publicly a run is queued by the webserver alone; a bench and tests put runs there by themselves.
    """
    server = GrpcServerCodeLocationOrigin(host=host, port=port, location_name="atft")
    return RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), job)


@contextmanager
def webserver_app(
    instance: dg.DagsterInstance, workspace: str, path_prefix: str = "", read_only: bool = False
) -> Iterator[Any]:
    """Dagster's webserver as an ASGI application, for a layer around it.

    The command `dagster-webserver` builds it and serves it in one; nothing public hands it out.

    Args:
        workspace: a workspace file; its code servers must be running, or start while it is open.
        path_prefix: what all paths begin with, e.g. "/view".
        read_only: every mutation is refused.
    """
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    target = WorkspaceFileTarget([workspace])
    with WorkspaceProcessContext(
        instance, workspace_load_target=target, version=dg.__version__, read_only=read_only
    ) as context:
        yield create_app_from_workspace_process_context(context, path_prefix)
