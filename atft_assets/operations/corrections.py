"""The sensor `corrections`: rebuilds the months whose inputs, or whose code, changed after they were built.

A past day that is fetched again and differs gives its month a new data version, and Dagster shows the months that read
it as stale; a changed expression gives its table a new code version, and all its months are. This sensor asks for those
months, and for what depends on them: not for what the nightly refresh rebuilds anyway, not for what has never been
built, never for a training. It decides as Dagster's own staleness does (a test holds the two equal): by the event
that was the newest one of an input when a month was built, and the data versions before and after it. It reads them an
asset at a time: Dagster's resolver asks the event log for each pair of months, tens of thousands of questions here,
and never compares an unpartitioned table with the months that it reads.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from atft_assets.calendar import TOKYO, is_trading_day, next_trading_day, shift_month
from atft_assets.dagster_private import (
    NOT_FINISHED_STATUSES,
    BaseAssetGraph,
    BulkActionsFilter,
    BulkActionStatus,
    UnresolvedAssetJobDefinition,
)
from atft_assets.operations.jobs import KIND_TAG, REBUILT_GROUPS, REFRESH
from atft_assets.operations.schedules import live, months_due, published_months
from atft_assets.settings import Settings
from atft_assets.store import Store

CURSOR = 2
CORRECTED_TAG = "atft/corrected"
VERSION_TAG = "dagster/data_version"
MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION

Month = str | None  # None: the one partition of an unpartitioned asset


@dataclass(frozen=True)
class Built:
    """The newest materialization of a month: its place in the event log, its version, and what it was built from."""

    storage_id: int
    version: str | None
    inputs: dg.DataProvenance | None


@dataclass(frozen=True)
class Stale:
    """A month of an asset, and what it was not built from.

    Attributes:
        dep, dep_month: a month of an input that was rewritten since; the asset itself and None where its code changed.
        storage_id: the event that rewrote the input; with a change of code, the one that recorded the month.
        code: the version that the code has now; None where an input changed.
    """

    asset: dg.AssetKey
    month: Month
    dep: dg.AssetKey
    dep_month: Month
    storage_id: int
    code: str | None = None


def corrections_sensor(
    settings: Settings,
    job: UnresolvedAssetJobDefinition,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Asks for runs over the stale months, one a contiguous range; a request is made once, whatever becomes of it."""

    @dg.sensor(
        name="corrections",
        minimum_interval_seconds=60,
        job=job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="When a past month was fetched again and differs, or the code of a table changed, rebuilds what "
        "was computed from it.",
    )
    def corrections(context: dg.SensorEvaluationContext, store: Store) -> dg.SensorResult:
        assert context.repository_def
        graph, instance = context.repository_def.asset_graph, context.instance
        assets = {key for group in REBUILT_GROUPS for key in graph.asset_keys_for_group(group)}
        watched = assets | {dep for key in assets for dep in graph.get(key).parent_keys}
        newest = _newest_events(instance, watched)
        code = {key.to_user_string(): graph.get(key).code_version for key in assets}
        cursor = json.dumps({"version": CURSOR, "newest": newest, "code": code}, sort_keys=True)
        if cursor == context.cursor:
            return dg.SensorResult(skip_reason="nothing was materialized since the last look", cursor=cursor)
        if run := _in_progress(instance, watched):
            return dg.SensorResult(skip_reason=f"{run} is not finished; looks again then", cursor=context.cursor)
        tonight = _nightly_months(settings, store, clock())
        assets = {key for key in assets if key.to_user_string() in newest}  # a first build is not ours to start
        stale = [s for s in stale_months(instance, graph, assets) if (s.month or s.dep_month) not in tonight]
        requests = run_requests(graph, assets, stale)
        if not requests:
            others = f"; {', '.join(tonight)} are left to nightly_refresh" if tonight else ""
            return dg.SensorResult(skip_reason=f"no month's inputs or code changed{others}", cursor=cursor)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return corrections


def stale_months(
    instance: dg.DagsterInstance, graph: BaseAssetGraph, assets: Collection[dg.AssetKey]
) -> Iterator[Stale]:
    """Built months of the assets whose code, or of which an input month, has another version than when they were built.

    An input month that did not exist then is growth, not a correction, and is left out.
    """
    pairs = [(asset, dep) for asset in sorted(assets) for dep in sorted(graph.get(asset).parent_keys)]
    built = {
        key: _built(instance, key, partitioned=graph.get(key).is_partitioned)
        for key in {*assets, *(key for pair in pairs for key in pair)}
    }
    for asset in sorted(assets):
        yield from _stale_by_code(asset, graph.get(asset).code_version, built[asset])
    for asset, dep in pairs:
        if not graph.get(dep).is_partitioned:
            yield from _stale_by_whole(asset, dep, built)
            continue
        rewritten: dict[int, list[tuple[Month, str]]] = defaultdict(list)
        for month, dep_month in _readers(graph, asset, dep, built):
            pointer = _pointer(built[asset][month], dep)
            if pointer is not None and pointer < built[dep][dep_month].storage_id:
                rewritten[pointer].append((month, dep_month))
        for pointer, found in rewritten.items():
            before = instance.event_log_storage.get_latest_tags_by_partition(
                dep,
                MATERIALIZATION,
                [VERSION_TAG],
                asset_partitions=sorted({dep_month for _, dep_month in found}),
                before_cursor=pointer + 1,
            )
            for month, dep_month in found:
                now = built[dep][dep_month]
                if dep_month in before and before[dep_month].get(VERSION_TAG) != now.version:
                    yield Stale(asset, month, dep, dep_month, now.storage_id)


def _stale_by_code(asset: dg.AssetKey, code: str | None, built: Mapping[Month, Built]) -> Iterator[Stale]:
    """Months that another version of the asset's code has built; `built` holds the asset's own."""
    for month, record in built.items():
        if code and record.inputs and record.inputs.code_version != code:
            yield Stale(asset, month, asset, None, record.storage_id, code)


def _stale_by_whole(
    asset: dg.AssetKey, dep: dg.AssetKey, built: Mapping[dg.AssetKey, Mapping[Month, Built]]
) -> Iterator[Stale]:
    """Months built from an earlier version of an unpartitioned input."""
    now = built[dep].get(None)
    for month, record in built[asset].items():
        known = record.inputs.input_data_versions.get(dep) if record.inputs else None
        if now and known and _pointer(record, dep) is not None and known.value != now.version:
            yield Stale(asset, month, dep, None, now.storage_id)


def _readers(
    graph: BaseAssetGraph, asset: dg.AssetKey, dep: dg.AssetKey, built: Mapping[dg.AssetKey, Mapping[Month, Built]]
) -> Iterator[tuple[Month, str]]:
    """Built months with each input month that has an event newer than the oldest of them knows."""
    oldest = min((pointer for one in built[asset].values() if (pointer := _pointer(one, dep))), default=None)
    for dep_month, record in built[dep].items():
        if dep_month is None or oldest is None or record.storage_id <= oldest:
            continue
        months: Sequence[Month] = [None]
        if graph.get(asset).is_partitioned:
            months = graph.get_child_partition_keys_of_parent(dep_month, dep, asset)
        yield from ((month, dep_month) for month in months if month in built[asset])


def _pointer(record: Built, dep: dg.AssetKey) -> int | None:
    """The newest event of an input when a month was built; None if there was none."""
    return record.inputs.input_storage_ids.get(dep) if record.inputs else None


def _built(instance: dg.DagsterInstance, key: dg.AssetKey, *, partitioned: bool) -> dict[Month, Built]:
    """The newest materialization of every month: two questions an asset."""
    if partitioned:
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(key, MATERIALIZATION)
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=list(newest.values()))
        records = instance.fetch_materializations(wanted, limit=len(newest)).records if newest else []
    else:
        records = instance.fetch_materializations(key, limit=1).records
    found: dict[Month, Built] = {}
    for record in records:
        event = record.asset_materialization
        tags = (event.tags if event else None) or {}
        found[record.partition_key] = Built(record.storage_id, tags.get(VERSION_TAG), dg.DataProvenance.from_tags(tags))
    return found


def run_requests(
    graph: BaseAssetGraph, assets: Collection[dg.AssetKey], stale: Collection[Stale]
) -> list[dg.RunRequest]:
    """A run for each contiguous range of stale months: the stale assets, and what depends on them, in one pass.

    Unpartitioned tables are rebuilt once, with the newest range.
    """
    spans = unbroken(sorted({s.month for s in stale if s.month}))
    found = [[s for s in stale if s.month in span] for span in spans] or [[]]
    found[-1] += [s for s in stale if s.month is None]
    requests = []
    for place, causes in enumerate(found):
        if not causes:
            continue
        chosen = _with_descendants(graph, {s.asset for s in causes}) & set(assets)
        if place < len(found) - 1:
            chosen = {key for key in chosen if graph.get(key).is_partitioned}
        tags = {KIND_TAG: REFRESH, CORRECTED_TAG: _shown(causes)}
        name = "all"
        if spans:
            name = f"{spans[place][0]}...{spans[place][-1]}"
            tags |= {
                "dagster/asset_partition_range_start": spans[place][0],
                "dagster/asset_partition_range_end": spans[place][-1],
            }
        else:
            chosen = {key for key in chosen if not graph.get(key).is_partitioned}
        why = hashlib.sha256("\n".join(sorted(map(str, causes))).encode()).hexdigest()[:16]
        requests.append(dg.RunRequest(run_key=f"{name} {why}", asset_selection=sorted(chosen), tags=tags))
    return requests


def _with_descendants(graph: BaseAssetGraph, keys: Collection[dg.AssetKey]) -> set[dg.AssetKey]:
    found, waiting = set(keys), list(keys)
    while waiting:
        children = set(graph.get(waiting.pop()).child_keys) - found
        found |= children
        waiting += children
    return found


def unbroken(months: Sequence[str]) -> list[list[str]]:
    """Ascending months, divided wherever one is lacking."""
    spans: list[list[str]] = []
    for month in months:
        if spans and shift_month(spans[-1][-1], 1) == month:
            spans[-1].append(month)
        else:
            spans.append([month])
    return spans


def _shown(causes: Collection[Stale], most: int = 4) -> str:
    """What was corrected, for the run's tag."""
    named = sorted({_cause(s) for s in causes})
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


def _cause(stale: Stale) -> str:
    name = stale.dep.to_user_string()
    return f"code of {name}" if stale.code else f"{name} {stale.dep_month or ''}".strip()


def _newest_events(instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]) -> dict[str, int]:
    return {
        record.asset_entry.asset_key.to_user_string(): storage_id
        for record in instance.get_asset_records(list(keys))
        if (storage_id := record.asset_entry.last_materialization_storage_id)
    }


def _in_progress(instance: dg.DagsterInstance, watched: Collection[dg.AssetKey]) -> str | None:
    """A run or backfill that may be about to rebuild what is stale now."""
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        if run.tags.get(KIND_TAG) == REFRESH or set(watched) & set(run.asset_selection or ()):
            return f"run {run.run_id[:8]}"
    for backfill in instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        if set(watched) & set(backfill.asset_selection or ()):
            return f"backfill {backfill.backfill_id}"
    return None


def _nightly_months(settings: Settings, store: Store, now: datetime) -> list[str]:
    """Months that the next nightly refresh rebuilds; none where it does not run by itself."""
    if not live(settings):
        return []
    today = now.astimezone(TOKYO).date()
    return months_due(today if is_trading_day(today) else next_trading_day(today), published_months(store))
