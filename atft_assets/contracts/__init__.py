"""Contracts: what a table must be before anyone may read it, and the one way by which it is published.

Here belong the judge (Pandera and whole-column rules), its quick look, its verdict in Dagster's UI, write-audit-publish
and the recording of data versions. Not here: the contracts themselves, which stand beside what they judge.
"""

from atft_assets.contracts.contract import (
    FEWEST_ROWS,
    Contract,
    ContractViolation,
    Verdict,
    failures_frame,
    require_columns,
)
from atft_assets.contracts.publication import Built, Event, judged, write_audit_publish
from atft_assets.contracts.ui import CONTRACT_CHECK, contract_check, failed_check, table_schema_metadata

__all__ = [
    "CONTRACT_CHECK",
    "FEWEST_ROWS",
    "Built",
    "Contract",
    "ContractViolation",
    "Event",
    "Verdict",
    "contract_check",
    "failed_check",
    "failures_frame",
    "judged",
    "require_columns",
    "table_schema_metadata",
    "write_audit_publish",
]
