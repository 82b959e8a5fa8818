"""What each private name of Dagster stands for: one test a name, so that an upgrade says what moved."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atft_assets import dagster_private as private

PARTS = dg.StaticPartitionsDefinition(["a", "b"])


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dg.asset(check_specs=[dg.AssetCheckSpec("sound", asset="checked")])
def checked() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    yield dg.MaterializeResult(asset_key="checked")
    yield dg.AssetCheckResult(passed=False, asset_key="checked", check_name="sound")


def test_a_job_of_assets_is_what_dagster_defines_publicly() -> None:
    assert isinstance(dg.define_asset_job("j", selection="*"), private.UnresolvedAssetJobDefinition)


def test_the_graph_of_a_repository_is_the_typed_one() -> None:
    child = dg.AssetSpec("child", deps=[checked])
    graph = dg.Definitions(assets=[checked, child]).get_repository_def().asset_graph
    assert isinstance(graph, private.BaseAssetGraph)
    assert graph.get(child.key).parent_keys == {checked.key}


def test_the_event_log_takes_and_returns_the_status_of_a_check(instance: dg.DagsterInstance) -> None:
    dg.materialize([checked], instance=instance)
    key = dg.AssetCheckKey(checked.key, "sound")
    history = instance.event_log_storage.get_asset_check_execution_history
    assert [one.status for one in history(key, limit=5)] == [private.CheckStatus.FAILED]
    assert history(key, limit=5, status={private.CheckStatus.SUCCEEDED}) == []


def test_an_unfinished_run_is_found_by_the_statuses_and_an_ended_one_is_not(instance: dg.DagsterInstance) -> None:
    assert all(isinstance(status, dg.DagsterRunStatus) for status in private.NOT_FINISHED_STATUSES)
    ended = dg.materialize([checked], instance=instance)
    run = instance.create_run_for_job(dg.Definitions(assets=[checked]).resolve_implicit_global_asset_job_def())
    found = {one.run_id for one in instance.get_runs(dg.RunsFilter(statuses=private.NOT_FINISHED_STATUSES))}
    assert run.run_id in found and ended.run_id not in found


def test_an_instance_is_asked_for_its_backfills_by_the_filter(instance: dg.DagsterInstance) -> None:
    wanted = private.BulkActionsFilter(statuses=[private.BulkActionStatus.REQUESTED])
    assert list(instance.get_backfills(wanted)) == []
    assert {one.name for one in private.BulkActionStatus} >= {"REQUESTED", "COMPLETED_SUCCESS", "FAILED", "CANCELED"}
    ended = {one.name for one in private.BULK_ACTION_ENDS}
    assert {one.name for one in private.BulkActionStatus} - ended == {"REQUESTED", "CANCELING", "FAILING"}


def test_the_default_event_log_is_a_file_a_run_and_stays_behind(instance: dg.DagsterInstance) -> None:
    """`SqliteEventLogStorage`; what lies in memory is no such storage."""
    with dg.instance_for_test() as stored:
        storage = stored.event_log_storage
        assert isinstance(storage, private.SqliteEventLogStorage)
        run_id = dg.materialize([checked], instance=stored).run_id
        assert list(storage.get_all_run_ids()) == [run_id]
        stored.delete_run(run_id)
        assert Path(storage.path_for_shard(run_id)).exists()
        assert Path(storage.path_for_shard("index")).exists()
    assert not isinstance(instance.event_log_storage, private.SqliteEventLogStorage)


def test_an_interrupt_that_is_held_back_is_known() -> None:
    from dagster._utils.interrupts import capture_interrupts, pop_captured_interrupt

    with capture_interrupts():
        assert not private.interrupt_waits()
        signal.raise_signal(signal.SIGINT)
        assert private.interrupt_waits() and private.interrupt_waits()  # asking does not take it away
        pop_captured_interrupt()
        assert not private.interrupt_waits()


def stamped(instance: dg.DagsterInstance, *, by_us: bool) -> list[dict[str, str]]:
    """Tags of the materializations of a partitioned asset: one partition by Dagster, or two recorded by us."""

    @dg.asset
    def source() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("of the source"))

    @dg.asset(deps=[source], partitions_def=PARTS, code_version="7", backfill_policy=dg.BackfillPolicy.single_run())
    def table(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        if not by_us:
            return dg.MaterializeResult(data_version=dg.DataVersion("of a"))
        inputs = private.input_versions(context, "table")
        for key in context.partition_keys:
            tags = private.data_version_tags(f"of {key}", "7", inputs)
            context.log_event(dg.AssetMaterialization("table", partition=key, tags=tags))
        return dg.MaterializeResult(metadata={private.RECORDED_BY_US: True})

    dg.materialize([source], instance=instance)
    span = "dagster/asset_partition_range_"
    where = {"tags": {f"{span}start": "a", f"{span}end": "b"}} if by_us else {"partition_key": "a"}
    result = dg.materialize([table, source], selection=[table], instance=instance, **where)
    return [dict(event.tags or {}) for event in result.asset_materializations_for_node("table")]


def test_a_step_that_recorded_its_partitions_is_not_stamped_again(instance: dg.DagsterInstance) -> None:
    """`RECORDED_BY_US`: two records for two partitions, each with its own version, and none of Dagster's."""
    assert [tags["dagster/data_version"] for tags in stamped(instance, by_us=True)] == ["of a", "of b"]


def test_our_tags_are_those_of_a_run_over_one_partition(instance: dg.DagsterInstance) -> None:
    """`data_version_tags` and `input_versions`: version, code version, and the input's version and newest event."""
    (theirs,) = stamped(instance, by_us=False)
    ours = stamped(instance, by_us=True)[0]
    pointer = "dagster/input_event_pointer/source"
    assert theirs.keys() - ours.keys() <= {"dagster/partition"} and ours.keys() <= theirs.keys()
    assert {name: tag for name, tag in ours.items() if name != pointer} == {
        name: tag for name, tag in theirs.items() if name in ours and name != pointer
    }
    assert int(ours[pointer]) > int(theirs[pointer])  # the source was built once more in between
    assert theirs["dagster/input_data_version/source"] == "of the source"


def of_two_parts(result: type[dg.AssetCheckResult]) -> dg.AssetsDefinition:
    """An asset whose verdict is of the given kind when the run is to be refused."""
    name = result.__name__

    @dg.asset(name=name, partitions_def=PARTS, check_specs=[dg.AssetCheckSpec("sound", asset=name)])
    def table(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        if context.run.tags.get("refused"):
            yield result(passed=False, asset_key=name, check_name="sound")
            raise dg.Failure("refused")
        yield dg.MaterializeResult(asset_key=name)
        yield dg.AssetCheckResult(passed=True, asset_key=name, check_name="sound")

    return table


@pytest.mark.parametrize(("result", "shown"), [(private.RefusalCheckResult, True), (dg.AssetCheckResult, False)])
def test_a_refusal_is_judged_beside_the_newest_materialization_whatever_its_partition(
    instance: dg.DagsterInstance, result: type[dg.AssetCheckResult], shown: bool
) -> None:
    """`RefusalCheckResult`; Dagster's own result targets the partition of the step."""
    table = of_two_parts(result)
    for part in ("a", "b"):
        dg.materialize([table], instance=instance, partition_key=part)
    refused = {"tags": {"refused": "yes"}, "raise_on_error": False}
    (evaluation,) = dg.materialize(
        [table], instance=instance, partition_key="a", **refused
    ).get_asset_check_evaluations()
    newest = instance.fetch_materializations(table.key, limit=1).records[0]
    assert (evaluation.target_materialization_data.storage_id == newest.storage_id) is shown


def test_the_webserver_is_an_asgi_application(tmp_path: Path) -> None:
    """`webserver_app`: asked for its version without a server around it."""
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []")
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/server_info", "raw_path": b"/server_info", "root_path": "",
        "query_string": b"", "headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    with dg.instance_for_test() as stored, private.webserver_app(stored, str(workspace)) as app:
        asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["dagster_version"] == dg.__version__


def test_a_run_with_an_origin_may_stand_in_the_queue(instance: dg.DagsterInstance) -> None:
    @dg.job
    def waiting() -> None: ...

    queued = dg.DagsterRunStatus.QUEUED
    with pytest.raises(dg.DagsterError.__base__, match="remote_job_origin is required"):  # type: ignore[arg-type]
        instance.create_run_for_job(waiting, status=queued)
    origin = private.job_origin("waiting", "127.0.0.1", 9)
    run = instance.create_run_for_job(waiting, status=queued, remote_job_origin=origin)
    assert [one.run_id for one in instance.get_runs(dg.RunsFilter(statuses=[queued]))] == [run.run_id]


def test_every_name_is_tested_here() -> None:
    tested = Path(__file__).read_text()
    assert [name for name in private.__all__ if f"private.{name}" not in tested] == []


def test_a_run_that_waits_for_a_place_in_a_pool_sleeps_between_two_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the executor asks some thousand times a second, and takes a core."""
    turns: list[float] = []
    monkeypatch.setattr(
        private.InstanceConcurrencyContext, "claim", asked_once := private.InstanceConcurrencyContext.claim
    )
    private.rest_while_pools_are_full()
    private.rest_while_pools_are_full()  # nothing is added
    assert private.InstanceConcurrencyContext.claim.__wrapped__ is getattr(asked_once, "__wrapped__", asked_once)
    waiting = private.InstanceConcurrencyContext.claim

    def counted(*args: Any, **kwargs: Any) -> bool:
        turns.append(time.monotonic())
        return waiting(*args, **kwargs)

    @dg.asset(pool="gpu")
    def trained() -> None:
        pass

    with dg.instance_for_test() as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("gpu", 1)
        assert storage.claim_concurrency_slot("gpu", "another run", "step").is_claimed
        monkeypatch.setattr(private.InstanceConcurrencyContext, "claim", counted)
        free = threading.Timer(1.5, lambda: storage.free_concurrency_slots_for_run("another run"))
        free.start()
        assert dg.materialize([trained], instance=instance).success
        free.join()
    waited = turns[-1] - turns[0]
    assert waited >= 1 and 2 < len(turns) <= 2 + waited / private.REST_SECONDS
