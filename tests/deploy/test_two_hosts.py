"""Two hosts on one PostgreSQL: the reaper of one leaves the runs of the other alone, whatever process they name.

The hosts are two sets of processes with a name each. That a number means another process elsewhere is made real by a
namespace of process numbers, where the machine lets us (root); everywhere by processes that are gone.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import psutil
import pytest
from sqlalchemy import text

from atft_assets.host import HOST_TAG
from atft_assets.tools.doctor import instance_state
from atft_assets.tools.reaper import LOCK, main, process_gone, reap, recorded_processes
from tests.deploy.postgres import Cluster, storage
from tests.operations.helpers import live_settings
from tests.patience import until

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

WORKER = """
import sys, time
import dagster as dg

@dg.asset(pool=sys.argv[1])
def trained(context):
    print(context.run_id, flush=True)
    time.sleep(600)

dg.materialize([trained], instance=dg.DagsterInstance.get())
"""
CONFIG = "storage: {}\nconcurrency: {{pools: {{default_limit: 1}}}}\ntelemetry: {{enabled: false}}\n"


class Host:
    """A set of processes with a name: its runs, and its reaper."""

    def __init__(self, name: str, folder: Path, url: str):
        self.name, self.home, self.url = name, folder / name, url
        self.home.mkdir()
        self.home.joinpath("dagster.yaml").write_text(CONFIG.format(storage(url)))
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "DAGSTER_HOME": str(self.home), "ATFT_HOST": self.name, "ATFT_DATA": str(self.home / "d")}

    def work(self, pool: str, *before: str) -> str:
        """Start a run that works until it is killed; its id. `before` stands before the command."""
        process = subprocess.Popen(
            [*before, sys.executable, "-c", WORKER, pool],
            env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        assert run_id
        return run_id

    def kill(self) -> None:
        """As a loss of power ends them."""
        for process in self.processes:
            process.kill()
            process.wait()

    def reaped(self, *options: str) -> str:
        """What this host's reaper, called as a timer calls it, says."""
        command = [sys.executable, "-m", "atft_assets.tools.reaper", *options]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def hosts(cluster: Cluster, tmp_path: Path) -> Iterator[Sequence[Host]]:
    url = cluster.url(cluster.copy())
    two = [Host(name, tmp_path, url) for name in ("alpha", "beta")]
    yield two
    for host in two:
        host.kill()


@pytest.fixture
def history(hosts: Sequence[Host]) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides={"storage": storage(hosts[0].url)}) as instance:
        yield instance


def status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def test_each_reaper_ends_its_own_hosts_runs_alone(
    hosts: Sequence[Host], history: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alpha, beta = hosts
    of_alpha, of_beta = alpha.work("a"), beta.work("b")
    assert [run.tags[HOST_TAG] for run in history.get_runs(dg.RunsFilter(run_ids=[of_alpha, of_beta]))] == [
        "beta", "alpha",
    ]  # fmt: skip
    assert alpha.reaped() == beta.reaped() == ""
    alpha.kill()
    beta.kill()
    monkeypatch.setenv("ATFT_HOST", "beta")
    warned = [
        finding.found for finding in instance_state(history, live_settings(tmp_path)) if finding.subject == "runs"
    ]
    assert len(warned) == 1 and of_beta in warned[0]  # the doctor of beta tells of its own
    said = alpha.reaped()
    assert of_alpha in said and of_beta not in said
    assert (status(history, of_alpha), status(history, of_beta)) == ("FAILURE", "STARTED")
    assert history.event_log_storage.get_concurrency_info("a").claimed_slots == []
    assert len(history.event_log_storage.get_concurrency_info("b").claimed_slots) == 1
    assert of_beta in beta.reaped()
    assert status(history, of_beta) == "FAILURE"
    assert alpha.reaped() == beta.reaped() == ""


# Begins a namespace of process numbers in which the next process is called NUMBER + 1; it ends with its parent.
ELSEWHERE = 'echo {} > /proc/sys/kernel/ns_last_pid; "$@" & wait'


def test_a_living_run_in_another_namespace_of_processes_stays(
    hosts: Sequence[Host], history: dg.DagsterInstance
) -> None:
    """Its process bears a number that is nobody's here: but for the host's name the reaper would end it."""
    unshare = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--kill-child", "sh", "-c"]
    number = next(number for number in range(20_000, 30_000) if not psutil.pid_exists(number + 1))
    tried = subprocess.run(
        [*unshare, ELSEWHERE.format(number), "sh", "sh", "-c", "echo $$"], capture_output=True, text=True, check=False
    )
    if tried.stdout.strip() != str(number + 1):
        pytest.skip(f"a namespace of process numbers needs root and the right to make one: {tried.stderr.strip()}")
    alpha, beta = hosts
    run_id = beta.work("far", *unshare, ELSEWHERE.format(number), "sh")
    named = recorded_processes(history, run_id)
    assert named and all(process_gone(pid, at) for pid, at in named)
    assert alpha.reaped() == "" and status(history, run_id) == "STARTED"
    assert run_id in "".join(reap(history, None, host="beta"))  # why no two sets of processes may share a name


def test_a_run_that_names_no_host_is_left_alone_unless_told(hosts: Sequence[Host], history: dg.DagsterInstance) -> None:
    alpha, _ = hosts
    run_id = alpha.work("x")
    _forget_host(history, run_id)
    alpha.kill()
    assert alpha.reaped() == "" and status(history, run_id) == "STARTED"
    assert run_id in alpha.reaped("--unnamed") and status(history, run_id) == "FAILURE"


def _forget_host(instance: dg.DagsterInstance, run_id: str) -> None:
    """As a run of before, or of another storage class, stands there."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    body = dg.serialize_value(run.with_tags({name: value for name, value in run.tags.items() if name != HOST_TAG}))
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE runs SET run_body = :b WHERE run_id = :r"), {"b": body, "r": run_id})
        connection.execute(text("DELETE FROM run_tags WHERE run_id = :r AND key = :k"), {"r": run_id, "k": HOST_TAG})


def test_half_written_files_stay_while_another_host_works(
    hosts: Sequence[Host], history: dg.DagsterInstance, tmp_path: Path
) -> None:
    """On a shared folder the number in a name may be of a living writer elsewhere."""
    _, beta = hosts
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    staged = tmp_path / "data" / f".2026-11.{gone.pid}-0123abcd.staged"
    staged.parent.mkdir()
    staged.write_text("half")
    run_id = beta.work("y")
    assert reap(history, staged.parent, [], host="alpha") == [] and staged.exists()
    beta.kill()
    assert [run_id in line or staged.name in line for line in reap(history, staged.parent, [], host="beta")] == [
        True
    ] * 2
    assert not staged.exists()


def test_two_reapers_at_once_do_not_mark_a_run_twice(hosts: Sequence[Host], history: dg.DagsterInstance) -> None:
    alpha, _ = hosts
    run_id = alpha.work("z")
    alpha.kill()
    command = [sys.executable, "-m", "atft_assets.tools.reaper"]
    both = [subprocess.Popen(command, env=alpha.environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(run_id in text for text in said) == 1
    ends = history.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert len(ends) == 1 and (alpha.home / LOCK).exists()


def test_without_its_database_the_timer_is_told_in_a_sentence(
    hosts: Sequence[Host], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from atft_assets import postgres

    monkeypatch.setattr(postgres, "FIRST_SECONDS", 0.0)
    alpha, _ = hosts
    alpha.home.joinpath("dagster.yaml").write_text(CONFIG.format(storage("postgresql://x@127.0.0.1:1/x")))
    for name in ("DAGSTER_HOME", "ATFT_DATA"):
        monkeypatch.setenv(name, alpha.environ[name])
    assert main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("reaper: Dagster's database does not answer") and error.count("\n") == 1


def test_the_end_of_a_run_is_seen_soon(hosts: Sequence[Host], history: dg.DagsterInstance) -> None:
    """A timer's call is all it takes, while everything else stays up."""
    alpha, _ = hosts
    run_id = alpha.work("soon")
    alpha.kill()
    until(lambda: run_id in alpha.reaped(), "the reaper's word")
    record = history.get_run_record_by_id(run_id)
    assert record is not None and record.end_time is not None and record.end_time <= time.time() + 5
