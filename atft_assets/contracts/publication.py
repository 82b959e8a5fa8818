"""Write, audit, publish: the one way by which a table reaches its readers.

A build yields partitions, each judged by the table's contract on the eager frame. Only when all of them have passed are
they published, atomically. What the contract refuses is recorded as a failed asset check with the offending rows;
nothing is published, the old files stay, and the run fails without a retry, so nothing downstream runs.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from atft_assets.contracts.contract import Contract, ContractViolation, Failure, Verdict, failures_frame
from atft_assets.contracts.materializations import materializations
from atft_assets.contracts.ui import CONTRACT_CHECK, failed_check, table_schema_metadata
from atft_assets.failures import PermanentFailure, permanent
from atft_assets.store import UNPARTITIONED, Entry, MissingColumns, Table

Event = dg.MaterializeResult | dg.AssetCheckResult
T = TypeVar("T")


@dataclass(frozen=True)
class Built:
    """One partition as it was built: all that is known of it before it is judged.

    Attributes:
        key: the partition.
        frame: the eager frame.
        history_days: trading days of data before it, by which columns that warm up are judged; None means enough for
            every look-back.
        metadata: what the UI shows beside the partition.
        failures: what rules beyond the contract found, as (column, rule, failing rows, sample); part of its verdict.
    """

    key: str
    frame: pl.DataFrame
    history_days: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


def write_audit_publish(
    context: dg.AssetExecutionContext,
    table: Table,
    contract: Contract,
    build: Callable[[list[str]], Iterable[Built]],
    *,
    code_version: str,
    details: Mapping[str, Any] | None = None,
    content_versions: bool = True,
) -> Iterator[Event]:
    """Build partitions, audit each, and publish all of them or none.

    Args:
        build: yields the partitions whose keys it is given, one at a time.
        details: metadata of the table rather than of a partition; the newest partition carries it.
        content_versions: whether a change of content makes stale what depends on the table.

    Yields:
        The materialization and its passed check, or a failed check.

    Raises:
        PermanentFailure: a partition, or an input, broke its contract or is not there.
    """
    # asked of the asset, not of the run: a run over months may hold unpartitioned assets as well
    keys = list(context.partition_keys) if context.assets_def.partitions_def else [UNPARTITIONED]
    if not keys:
        raise PermanentFailure(
            f"{table.name}: the partition range holds no month. Its first month must not be after its last: "
            "--partition-range FIRST...LAST, such as 2022-01...2022-06"
        )
    shown: dict[str, Mapping[str, Any]] = {}

    def audited() -> Iterator[tuple[str, pl.DataFrame]]:
        for built in build(keys):
            verdict = contract.audit(built.frame, built.key, built.history_days, also=built.failures)
            if not verdict.passed:
                raise ContractViolation(verdict)
            shown[built.key] = built.metadata
            yield built.key, built.frame

    def publish() -> dict[str, Entry]:
        staged = table.stage_all(audited(), code_version=code_version)
        try:
            table.publish(staged)
        except BaseException:
            table.discard(staged)
            raise
        return {one.key: one.entry for one in staged}

    entries = yield from judged(table.name, publish, untouched=f"the files of {table.name} are as they were")
    if not entries:
        raise PermanentFailure(f"{table.name}: nothing was built for {', '.join(keys)}")
    yield from materializations(
        context,
        table.name,
        {key: {**shown[key], "dagster/row_count": entry.rows, **_through(entry)} for key, entry in entries.items()},
        {key: entry.sha256 for key, entry in entries.items()} if content_versions else {},
        code_version=code_version,
        details={
            **({"partitions": len(entries)} if keys != [UNPARTITIONED] else {}),
            "path": dg.MetadataValue.path(str(table.folder)),
            **table_schema_metadata(contract),
            **(details or {}),
        },
    )
    yield dg.AssetCheckResult(
        passed=True,
        asset_key=table.name,
        check_name=CONTRACT_CHECK,
        metadata={"rows": sum(e.rows for e in entries.values()), **_span(entries)},
    )


def _through(entry: Entry) -> dict[str, str]:
    """The newest date of a partition, where its rows have dates."""
    return {"through_date": str(entry.through_date)} if entry.through_date else {}


def _span(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Which months were judged; nothing of a table that is built whole."""
    return {} if list(entries) == [UNPARTITIONED] else {"partitions": f"{min(entries)} … {max(entries)}"}


def judged(asset: str, publish: Callable[[], T], *, untouched: str) -> Generator[Event, None, T]:
    """Build, audit and publish whatever an asset makes: a table, a panel, a set of folds; returns what `publish` gives.

    Args:
        publish: makes it, judges it, and makes it visible, in this order.
        untouched: what is as it was when it was refused.

    Yields:
        The failed check with the offending rows, if a contract was broken.

    Raises:
        PermanentFailure: it, or an input, broke a contract or cannot be had.
    """
    try:
        with permanent(f"{asset} cannot be built"), refused_inputs():
            return publish()
    except ContractViolation as violation:
        yield failed_check(asset, violation.verdict)
        raise unpublished(asset, violation.verdict, untouched) from None


@contextmanager
def refused_inputs() -> Iterator[None]:
    """A table that lacks a column breaks the contract of whoever reads it."""
    try:
        yield
    except MissingColumns as error:
        rows = [(c, "required input column is present", 0, str(error)) for c in error.columns]
        raise ContractViolation(Verdict(error.table, error.key, failures_frame(rows))) from error


def unpublished(asset: str, verdict: Verdict, untouched: str) -> PermanentFailure:
    """The failure of an asset whose contract was broken; `untouched` says what is as it was."""
    return PermanentFailure(
        f"{verdict}. Nothing was published, {untouched}. See the check `{CONTRACT_CHECK}` of {asset} for the rows.",
        metadata={"table": asset, "partition": verdict.partition},
    )
