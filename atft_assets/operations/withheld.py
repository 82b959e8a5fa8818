"""The sensor `withheld_alert`: tells of an evening whose scores were withheld, once."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from atft_assets.operations.alerts import Alert
from atft_assets.operations.contract_failures import failed_check_sensor, materialize_command
from atft_assets.trading import orders, portfolio
from atft_assets.trading.daily_scores import NAME
from atft_assets.trading.evening_gates import OVERALL

AGAIN = ",".join((NAME, portfolio.NAME, orders.NAME))  # what a mended evening makes anew


def withheld_alert(every: int = 30) -> dg.SensorDefinition:
    """One alert for each evening that was withheld, however many gates failed and however often it was scored again.

    Args:
        every: least seconds between two looks.
    """
    return failed_check_sensor(
        "withheld_alert",
        "Tells of an evening whose scores a gate withheld: which gate, what it saw, and what to do.",
        [dg.AssetCheckKey(dg.AssetKey(NAME), OVERALL)],
        _alerts,
        every,
    )


def _alerts(record: Any) -> Sequence[Alert]:
    metadata = {name: value.value for name, value in record.evaluation.metadata.items()}
    day, month = str(metadata.get("date", "-")), str(metadata.get("partition", "-"))
    return [
        Alert(
            kind="withheld",
            fingerprint=f"withheld/{day}",
            what=f"the scores of the evening of {day} are withheld",
            where={"asset": NAME, "partition": month, "gates": str(metadata.get("gates", "-"))},
            why=record.evaluation.description or "the check reported no reason",
            todo="No order comes of this evening; what was held is held. Look at the gates of daily_scores, remove the "
            f"cause, then run `{materialize_command(AGAIN, month)}`; the next good evening publishes by itself.",
            run_id=record.run_id or None,
            repeat_after=None,
        )
    ]
