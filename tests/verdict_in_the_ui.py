"""What a page of the UI says of a check."""

import asyncio

import dagster as dg
from dagster._core.loader import LoadingContextForTest

NOT_EVALUATED = "not evaluated"


def verdict_in_the_ui(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> str:
    """The status as the webserver's `executionForLatestMaterialization` finds it out: of the newest record, if that is
    about the newest materialization.
    """

    async def status() -> str:
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        context = LoadingContextForTest(instance)
        if key not in records or not await records[key].targets_latest_materialization(context):
            return NOT_EVALUATED
        return (await records[key].resolve_status(context)).value

    return asyncio.run(status())
