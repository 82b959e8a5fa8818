"""How a contract shows in Dagster: its check, the failing rows, the columns with their rules."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from atft_assets.contracts.contract import Contract, Verdict, rule_text
from atft_assets.dagster_private import RefusalCheckResult

CONTRACT_CHECK = "contract"
MAX_FAILURES_SHOWN = 25
# metadata of a verdict that was reported once more, since a failed run (its value) never came to the check
RESTATED = "stands_since_the_failed_run"


def contract_check(asset: str) -> dg.AssetCheckSpec:
    """The spec of a table's contract check."""
    return dg.AssetCheckSpec(
        CONTRACT_CHECK,
        asset=asset,
        blocking=True,
        description="Schema, keys, ranges, finiteness and coverage, judged before publication.",
    )


def table_schema_metadata(contract: Contract, descriptions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Metadata that shows the contract's columns in Dagster's UI."""
    descriptions = descriptions or {}
    columns = [
        dg.TableColumn(
            name,
            type=str(column.dtype),
            description=descriptions.get(name) or column.description,
            constraints=dg.TableColumnConstraints(
                nullable=bool(column.nullable),
                other=[rule_text(check.error or check.name) for check in column.checks],
            ),
        )
        for name, column in contract.schema.columns.items()
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def failed_check(asset: str, verdict: Verdict) -> dg.AssetCheckResult:
    """The failed contract check, its rows as a table in the UI."""
    shown = verdict.failures.head(MAX_FAILURES_SHOWN)
    records = [dg.TableRecord(row) for row in shown.iter_rows(named=True)]
    return RefusalCheckResult(
        passed=False,
        asset_key=asset,
        check_name=CONTRACT_CHECK,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(verdict),
        metadata={
            "table": verdict.table,
            "partition": verdict.partition,
            "failed_rules": verdict.failures.height,
            "failures": dg.MetadataValue.table(records),
        },
    )
