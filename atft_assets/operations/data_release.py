"""The asset `data_release`: a month that may be used, since nothing in it warns that a person has not accepted.

It stands at the end of the refresh, behind features and graph; what is computed every evening for use (scores, orders)
depends on it. It looks at the tables as they stand rather than at verdicts, so a check that did not run hides nothing.
"""

import dagster as dg

from atft_assets.failures import Refusal, permanent
from atft_assets.features.names import ALL
from atft_assets.features.quality import Finding, open_findings
from atft_assets.graph.asset import NAME as GRAPH
from atft_assets.groups import OPERATIONS
from atft_assets.partitions import months
from atft_assets.settings import Settings
from atft_assets.store import Store

NAME = "data_release"
TOLD = 3


class NotReleased(Refusal):
    """A month holds findings that nobody has accepted."""


def data_release_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset; a month a partition."""

    @dg.asset(
        name=NAME,
        group_name=OPERATIONS,
        partitions_def=months(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[ALL, GRAPH],
        kinds={"dagster"},
        description="A month whose data may be used: no check warns of anything that a person has not accepted.",
    )
    def data_release(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult:
        keys = list(context.partition_keys)
        with permanent(f"{NAME} refuses"):
            refuse_open(open_findings(store, context.instance, keys))
        return dg.MaterializeResult(metadata={"months": f"{keys[0]} … {keys[-1]}"})

    return data_release


def refuse_open(found: list[Finding]) -> None:
    """Refuse months with open findings.

    Raises:
        NotReleased: one sentence with table, month, finding and the commands that go on.
    """
    if not found:
        return
    accept = "; ".join(dict.fromkeys(one.quality.accept(one.month) for one in found))
    more = f"; and {len(found) - TOLD} more" if len(found) > TOLD else ""
    first, last = min(one.month for one in found), max(one.month for one in found)
    option = f"--partition {first}" if first == last else f"--partition-range {first}...{last}"
    raise NotReleased(
        f"{'; '.join(map(str, found[:TOLD]))}{more}. Look at it, and mend the data or accept it: {accept}. Then run: "
        f"dagster asset materialize --select {NAME} {option}"
    )
