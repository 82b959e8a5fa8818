"""The reaper on runs whose process was really killed, beside runs that live."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import dagster as dg
import psutil
import pytest

from atft_assets.host import HOST_TAG
from atft_assets.tools.doctor import instance_state
from atft_assets.tools.reaper import clear_locks, main, process_gone, reap, remove_staged
from atft_model.interchange.fold import cut
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.run import FORMAT, RunRecord, held, read_record, write_record
from tests.operations.helpers import live_settings

WORKER = """
import sys, time
import dagster as dg

@dg.asset(pool=sys.argv[1])
def trained(context):
    print(context.run_id, flush=True)
    time.sleep(300)

dg.materialize([trained], instance=dg.DagsterInstance.get(), run_config={"execution": {"config": {}}})
"""


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides={"concurrency": {"pools": {"default_limit": 1}}}) as instance:
        yield instance


class Worker:
    """A run in a process of its own, inside its step, holding the slot of its pool."""

    def __init__(self, instance: dg.DagsterInstance, pool: str):
        self.pool = pool
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, pool],
            env={**os.environ, "DAGSTER_HOME": instance.root_directory},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @cached_property
    def run_id(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def workers(instance: dg.DagsterInstance) -> Iterator[dict[str, Worker]]:
    """Runs that live, each in a pool of its own."""
    started = {pool: Worker(instance, pool) for pool in ("gpu", "living", "leaky", "cancelled", "far")}
    assert all(worker.run_id for worker in started.values())
    yield started
    for worker in started.values():
        worker.kill()


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def claimed(instance: dg.DagsterInstance, pool: str) -> int:
    return len(instance.event_log_storage.get_concurrency_info(pool).claimed_slots)


def test_a_killed_run_is_ended_and_its_slot_given_back_while_living_ones_are_left_alone(
    instance: dg.DagsterInstance, workers: dict[str, Worker], tmp_path: Path
) -> None:
    dead = workers["gpu"]
    assert reap(instance, None) == []
    assert {status(instance, worker.run_id) for worker in workers.values()} == {dg.DagsterRunStatus.STARTED}
    dead.kill()
    warned = [f for f in instance_state(instance, live_settings(tmp_path)) if f.subject == "runs"]
    assert len(warned) == 1 and dead.run_id in warned[0].found
    (done,) = reap(instance, None)
    assert dead.run_id in done and str(dead.process.pid) in done
    assert status(instance, dead.run_id) is dg.DagsterRunStatus.FAILURE
    assert status(instance, workers["living"].run_id) is dg.DagsterRunStatus.STARTED
    assert (claimed(instance, "gpu"), claimed(instance, "living")) == (0, 1)
    assert reap(instance, None) == []


def test_a_slot_that_an_ended_run_still_holds_is_given_back(
    instance: dg.DagsterInstance, workers: dict[str, Worker]
) -> None:
    """Dagster notices a killed run worker, but leaves its slot taken."""
    worker = workers["leaky"]
    worker.kill()
    run = instance.get_run_by_id(worker.run_id)
    assert run is not None
    instance.report_run_failed(run)
    assert claimed(instance, "leaky") == 1
    assert [line for line in reap(instance, None) if worker.run_id in line and "leaky" in line]
    assert claimed(instance, "leaky") == 0


def test_a_run_killed_while_being_cancelled_ends_as_cancelled(
    instance: dg.DagsterInstance, workers: dict[str, Worker]
) -> None:
    worker = workers["cancelled"]
    run = instance.get_run_by_id(worker.run_id)
    assert run is not None
    instance.report_run_canceling(run)
    worker.kill()
    reap(instance, None)
    assert status(instance, worker.run_id) is dg.DagsterRunStatus.CANCELED


def test_a_run_that_another_host_works_on_is_left_to_its_reaper(
    instance: dg.DagsterInstance, workers: dict[str, Worker]
) -> None:
    worker = workers["far"]
    instance.add_run_tags(worker.run_id, {HOST_TAG: "elsewhere"})
    worker.kill()
    assert reap(instance, None) == [] and status(instance, worker.run_id) is dg.DagsterRunStatus.STARTED
    (done,) = reap(instance, None, host="elsewhere")
    assert worker.run_id in done and status(instance, worker.run_id) is dg.DagsterRunStatus.FAILURE


def test_a_process_id_given_away_again_does_not_keep_a_run_alive() -> None:
    me = psutil.Process()
    assert not process_gone(me.pid, time.time())
    assert process_gone(me.pid, me.create_time() - 60)  # named before this process was born: it was another's id


def test_staged_files_go_when_their_writer_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    table, panels = tmp_path / "raw" / "daily_quotes", tmp_path / "panel"
    table.mkdir(parents=True)
    stays = [
        table / "2026-11.parquet",
        table / "manifest.json",
        table / f".2026-11.{os.getpid()}-0123abcd.staged",
        table / ".manifest.json.0123abcd.staged",  # no process in its name, and young
        table / ".lock",
        panels / f".staged-{os.getpid()}" / "panel.safetensors",
        panels / f".staged-{os.getpid()}" / f".x.{gone.pid}.tmp",  # inside a directory that is being written
    ]
    goes = [
        table / f".2026-10.{gone.pid}-0123abcd.staged",
        table / ".latest.0123abcd.staged",
        panels / f".staged-{gone.pid}" / "panel.safetensors",
        tmp_path / "runs" / "train_phase0" / "r1" / f".checkpoint.safetensors.{gone.pid}.tmp",
    ]
    for path in [*stays, *goes]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    os.utime(table / ".latest.0123abcd.staged", (0, 0))
    assert len(list(remove_staged(tmp_path))) == len(goes)
    assert [path for path in stays if not path.exists()] == []
    assert [path for path in [*goes, panels / f".staged-{gone.pid}"] if path.exists()] == []


def test_lock_files_are_emptied_only_when_nobody_holds_them(tmp_path: Path) -> None:
    held, stale = tmp_path / "atft-gpu0.lock", tmp_path / "atft-gpu1.lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl,sys,time\nf=open(sys.argv[1],'a+')\nfcntl.flock(f,fcntl.LOCK_EX)\nf.write('{}');f.flush()\n"
            "print('held',flush=True)\ntime.sleep(60)",
            str(held),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        stale.write_text('{"pid": 4711}\n')
        assert [line.split(":")[0] for line in clear_locks(tmp_path)] == [str(stale)]
        assert held.read_text() == "{}" and stale.read_text() == ""
    finally:
        holder.kill()
        holder.wait()


def test_a_training_that_nobody_holds_is_marked(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "main" / "phase0" / "the-id"
    out.mkdir(parents=True)
    days = [date(2018, 1, 1) + timedelta(days=i) for i in range(2000)]
    write_record(
        out,
        RunRecord(
            format=FORMAT, status="running", run_id=out.name, phase=0, name="Baseline", fold=cut(days), panel_id="p",
            catalogue_hash="h", features=("a",), horizons=HORIZONS, label="y_cc", target="y_cc", config={},
            curriculum={}, switches={}, parent=None, code_version="1", seed=0, n_seeds=1, mode="safe", controls={},
            hardware={}, versions={},
        ),
    )  # fmt: skip
    with held(out):
        assert reap(instance, tmp_path, [tmp_path]) == []
    (line,) = reap(instance, tmp_path, [tmp_path])
    assert "`resume_run: the-id`" in line and read_record(out).status == "interrupted"
    assert reap(instance, tmp_path, [tmp_path]) == []


def test_the_command_is_silent_when_there_is_nothing_to_do(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", instance.root_directory)
    monkeypatch.setenv("ATFT_DATA", str(tmp_path))
    main([])
    capsys.readouterr()
    assert main([]) == 0 and capsys.readouterr().out == ""
    monkeypatch.delenv("DAGSTER_HOME")
    assert main([]) == 2
    assert "env.sh" in capsys.readouterr().err
