"""Acceptance of warnings: a person has looked at what a check found, and says that it may stay.

It is kept where the verdicts are, in Dagster's event log: an evaluation of the same check that passed, outside any run,
with who, when, why and the fingerprints of what was accepted. So it shows in the history of the check, and what another
data or another finding brings is not covered by it.
"""

import getpass
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from atft_assets.calendar import TOKYO
from atft_assets.dagster_private import CheckStatus

PAGE = 500
ACCEPTED = "accepted_findings"


@dataclass(frozen=True)
class Acceptance:
    """Who accepted findings of a month, when and why."""

    month: str
    by: str
    at: str
    reason: str

    def __str__(self) -> str:
        return f"{self.month} was accepted by {self.by} on {self.at}: {self.reason}"


def accept_findings(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, month: str, prints: Sequence[str], reason: str
) -> Acceptance:
    """Record that the findings with these fingerprints may stay."""
    acceptance = Acceptance(
        month,
        f"{getpass.getuser()} on {socket.gethostname()}",
        datetime.now(TOKYO).isoformat(timespec="seconds"),
        reason,
    )
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=True,
            severity=dg.AssetCheckSeverity.WARN,
            description=str(acceptance),
            metadata={
                "partition": month,
                "accepted_by": acceptance.by,
                "accepted_at": acceptance.at,
                "reason": reason,
                ACCEPTED: dg.MetadataValue.json(list(prints)),
            },
        )
    )
    return acceptance


def accepted_findings(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> dict[str, Acceptance]:
    """Fingerprints of the findings of a check that were accepted, with who did; the newest acceptance counts."""
    found: dict[str, Acceptance] = {}
    for evaluation in _passed(instance, check):
        said = {name: value.value for name, value in evaluation.metadata.items()}
        if ACCEPTED in said:
            texts = (str(said[name]) for name in ("partition", "accepted_by", "accepted_at", "reason"))
            acceptance = Acceptance(*texts)
            prints: Any = said[ACCEPTED]
            found = {one: acceptance for one in prints} | found
    return found


def _passed(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluations of a check that passed, the newest first."""
    before = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(
            check, limit=PAGE, cursor=before, status={CheckStatus.SUCCEEDED}
        )
        yield from (record.evaluation for record in page if record.evaluation is not None)
        if len(page) < PAGE:
            return
        before = page[-1].id
