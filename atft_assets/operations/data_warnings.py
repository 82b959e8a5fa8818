"""The sensor `data_warning_alert`: tells what the checks that warn found, and how a person accepts it."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from atft_assets.features.quality import CHECKS
from atft_assets.operations.alerts import Alert, Severity
from atft_assets.operations.contract_failures import ROWS_TOLD, failed_check_sensor


def data_warning_alert(every: int = 30) -> dg.SensorDefinition:
    """One alert for each month in which a check warns; what was told, or accepted, is not told again.

    Args:
        every: least seconds between two looks.
    """
    return failed_check_sensor(
        "data_warning_alert",
        "Tells what looks odd in a published month: table, month, rule, rows, and the command that accepts it.",
        [quality.key for quality in CHECKS],
        _alerts,
        every,
    )


def _alerts(record: Any) -> Sequence[Alert]:
    metadata = {name: value.value for name, value in record.evaluation.metadata.items()}
    (quality,) = (one for one in CHECKS if one.key == record.key)
    shown = metadata.get("sample")
    rows = [dict(row.data) for row in getattr(shown, "records", shown) or []]
    return [
        Alert(
            kind="data_warning",
            # the findings themselves: another evening that finds the same says nothing new
            fingerprint=f"data_warning/{quality.asset}/{quality.name}/{month}/{'-'.join(sorted(prints))}",
            what=f"{quality.asset} {month}: {quality.name}",
            where={"table": quality.asset, "partition": month, "rule": quality.description},
            why=record.evaluation.description or quality.description,
            todo=f"{quality.advice}. If it is as it should be, run `{quality.accept(month)}`"
            + (f". Until then data_release refuses {month}." if quality.stops else "."),
            severity=Severity.WARNING,
            run_id=record.run_id or None,
            rows=[row for row in rows if row.get("month") == month][:ROWS_TOLD],
            repeat_after=None,
        )
        for month, prints in metadata.get("open", {}).items()
    ]
