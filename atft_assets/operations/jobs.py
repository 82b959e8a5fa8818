"""Jobs: named selections of assets that a schedule or a person starts.

Not here: training, which has a job of its own (`training_job`); new data alone never occupies the GPU.
"""

from collections.abc import Sequence

import dagster as dg

from atft_assets.dagster_private import UnresolvedAssetJobDefinition
from atft_assets.groups import ADDON_TAG, FEATURES, GRAPH, RAW
from atft_assets.operations.data_release import NAME as DATA_RELEASE
from atft_assets.trading import daily_scores, orders, portfolio

# Two refreshes at once would fetch the same days twice; dagster.yaml admits one run of this kind.
KIND_TAG = "atft/kind"
REFRESH = "refresh"
OF_THE_EVENING = (DATA_RELEASE, daily_scores.NAME, portfolio.NAME, orders.NAME)
REBUILT_GROUPS = (FEATURES, GRAPH)  # what a correction of raw data reaches


def nightly_refresh_job() -> UnresolvedAssetJobDefinition:
    """Raw tables, features and graph for the months of the run, their release, the scores of the evening, and orders.

    Month assets take the run's partition or partition range; the unpartitioned ones among them (trading calendar,
    labels) are part of the same run and are rebuilt whole.
    """
    return dg.define_asset_job(
        "nightly_refresh",
        selection=(dg.AssetSelection.groups(RAW, FEATURES, GRAPH) - dg.AssetSelection.tag(ADDON_TAG, "yes"))
        | dg.AssetSelection.assets(*OF_THE_EVENING),
        description="Fetch the newest trading day, carry it through features and graph, release the months in which "
        "nothing looks odd, let the champion score the evening, and write tomorrow's orders. Starts no training.",
        tags={
            KIND_TAG: REFRESH,
            # once more if the run's process died (power, memory); a failing asset decides about its own retries
            "dagster/max_retries": "1",
        },
    )


def night_refresh_job(tables: Sequence[str]) -> UnresolvedAssetJobDefinition:
    """Raw tables alone: what they bring counts from the next evening on, whose refresh builds features of it.

    Args:
        tables: those of which something may come after the evening (`hours.asked_at_night`).
    """
    return dg.define_asset_job(
        "night_refresh",
        selection=dg.AssetSelection.assets(*tables),
        description="Ask once more for the tables of which something may come after the evening. Computes nothing.",
        tags={KIND_TAG: REFRESH, "dagster/max_retries": "1"},
    )


def corrections_job() -> UnresolvedAssetJobDefinition:
    """Subsets of features and graph over a range of months, as the sensor `corrections` asks; nothing is fetched."""
    return dg.define_asset_job(
        "corrections",
        selection=dg.AssetSelection.groups(*REBUILT_GROUPS),
        description="Rebuild the months whose inputs were corrected. Started by the sensor `corrections`.",
        tags={KIND_TAG: REFRESH, "dagster/max_retries": "1"},
    )
