"""Trainings ordered from a cluster over HTTP: against a real server that answers like Ray's, or not at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import pytest

from atft_assets.tools.ray_reaper import reap_ray, stop_ended_jobs
from atft_assets.training.ray_jobs import RUN_ID, JobsApi, NoAnswer, Refused
from atft_assets.training.ray_launcher import FOLDER, RayLauncher
from atft_model.interchange.attempts import begin, publish
from atft_model.interchange.batch import ENDED, Ending, Outcome, read_batch, write_outcome
from atft_model.interchange.exits import Exit
from atft_model.interchange.run import STATE
from tests.patience import PATIENCE, until
from tests.training.jobs_server import JobsServer, jobs_server
from tests.training.ordering import Order, fan_out, requests_of
from tests.training.small_market import World

HERE = Path(__file__).parent
TOKEN = "a-token-that-nobody-may-read"


@pytest.fixture
def head() -> Iterator[JobsServer]:
    with jobs_server(TOKEN) as server:
        yield server


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return str(path)


def launcher(head: JobsServer, token: str, **given) -> RayLauncher:
    return RayLauncher(url=head.url, token_path=token, module="fake_trainer", poll_seconds=0.05, **given)


def driver(head: JobsServer, *endings: Ending | None, status: str = "SUCCEEDED", message: str = "") -> None:
    """Let the driver end at once, every task as is said, with an epoch's message before."""

    def ends(job_id: str) -> None:
        batch = read_batch(head.folder(job_id) / "batch.json")
        for number, (task, ending) in enumerate(zip(batch.tasks, endings, strict=True)):
            attempt = begin(task.out)
            (attempt / STATE).write_text("an epoch is done")
            said = {"method": "report_custom_message", "params": {"payload": {"event": "epoch", "epoch": number}}}
            (task.messages / "attempt-1.jsonl").write_text(json.dumps(said) + '\n{"half a li')
            if ending is not None:
                publish(task.out, attempt)
        write_outcome(head.folder(job_id), Outcome(tuple(endings)))
        head.jobs[job_id] |= {"status": status, "message": message}

    head.on_submit = ends


def test_one_job_for_many_trainings(world: World, instance: dg.DagsterInstance, head: JobsServer, token: str) -> None:
    driver(head, Ending(0), Ending(3, ("atft_model: no gradient",)), Ending(why="the host died"), None)
    order = fan_out(launcher(head, token, cpus=2, gpus=0.5), requests_of(world, 1, 2, 3, 4), instance)
    (job,) = head.jobs.values()
    assert job["metadata"] == {RUN_ID: order.run_id, "atft/asset": "ordered"}
    assert job["entrypoint"].startswith("exec python -m atft_model fanout --spec ") and TOKEN not in json.dumps(job)
    good, bad, dead, silent = order.ends
    assert good is None
    assert bad is not None and bad.exit_code == Exit.GUARD and "no gradient" in str(bad)
    assert dead is not None and str(dead).startswith("the host died. It goes on with the config `resume_run: r3`")
    assert silent is not None and str(silent).startswith("the job ended without a word")
    heard = sorted((name, message["epoch"]) for name, message in order.heard)  # each run's messages come by themselves
    assert heard == [(f"r{i + 1}", i) for i in range(4)]
    assert list((world.root / FOLDER).iterdir()) == []  # nothing is left beside the runs


def test_what_a_task_is_told(world: World, instance: dg.DagsterInstance, head: JobsServer, token: str) -> None:
    batches = []
    driver(head, Ending(0))
    ends = head.on_submit
    head.on_submit = lambda job_id: (batches.append(read_batch(head.folder(job_id) / "batch.json")), ends(job_id))
    order = fan_out(launcher(head, token, cpus=2, gpus=0.5, retries=1), requests_of(world, 1), instance)
    (batch,) = batches
    assert (batch.threads, batch.cpus, batch.gpus, batch.retries, batch.module) == (2, 2.0, 0.5, 1, "fake_trainer")
    (task,) = batch.tasks
    assert task.out == world.runs(0) / "r1" and task.request == task.out / "request.json"
    assert task.pipes["ATFT_DAGSTER_RUN"] == order.run_id and "DAGSTER_PIPES_CONTEXT" in task.pipes


def test_a_job_that_fails_says_why(world: World, instance: dg.DagsterInstance, head: JobsServer, token: str) -> None:
    driver(head, None, status="FAILED", message="entrypoint failed:\n no host has 64 CPU")
    (end,) = fan_out(launcher(head, token), requests_of(world, 1), instance).ends
    assert end is not None and "ended as FAILED: entrypoint failed: no host has 64 CPU. It goes on with" in str(end)


@pytest.mark.parametrize("text", ["another-token", "", "two words", None])
def test_a_token_that_is_refused_is_one_sentence_without_it(
    world: World, instance: dg.DagsterInstance, head: JobsServer, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "wrong"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refused) as refused:
        JobsApi(head.url, str(path)).jobs()
    said = str(refused.value)
    assert "token" in said and TOKEN not in said and (not text or text not in said)
    with pytest.raises(Refused):
        fan_out(launcher(head, str(path)), requests_of(world, 1), instance)
    assert head.jobs == {} and list(world.runs(0).iterdir()) == []  # what never began leaves nothing behind
    assert TOKEN not in "".join(path.read_text() for path in (world.root / FOLDER).rglob("*.json"))


def test_without_a_token_nothing_is_sent(head: JobsServer) -> None:
    with pytest.raises(Refused, match="refuses the token"):
        JobsApi(head.url).jobs()
    head.token = ""
    assert JobsApi(head.url + "/").jobs() == []


def test_a_head_that_falls_silent_is_given_up_after_the_bound(
    world: World, instance: dg.DagsterInstance, head: JobsServer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that is never answered, and the ones that are refused a connection later, count alike."""
    monkeypatch.setattr(RayLauncher, "api", lambda self: JobsApi(self.url, self.token_path, seconds=2.0))

    def begins_and_falls_silent(job_id: str) -> None:
        (task,) = read_batch(head.folder(job_id) / "batch.json").tasks
        (begin(task.out) / STATE).write_text("an epoch is done")
        Thread(target=lambda: (until(lambda: len(head.jobs) == 1), head.quiet.set())).start()

    head.on_submit = begins_and_falls_silent
    (end,) = fan_out(launcher(head, token, silence_seconds=3.0), requests_of(world, 1), instance).ends
    assert end is not None and "is lost" in str(end) and "does not answer" in str(end) and "for 3 s" in str(end)
    assert "`resume_run: r1`" in str(end)
    (folder,) = (world.root / FOLDER).iterdir()
    assert (folder / ENDED).exists()  # a driver that lives on, cut off, publishes nothing
    assert (world.runs(0) / "r1" / STATE).read_text() == "an epoch is done"


def test_an_order_that_is_answered_late_is_placed_once(
    world: World, instance: dg.DagsterInstance, head: JobsServer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head took it and was slow to say so: it is asked, in place of ordering twice or giving up."""
    monkeypatch.setattr(RayLauncher, "api", lambda self: JobsApi(self.url, self.token_path, seconds=2.0))
    driver(head, Ending(0))
    ends, placed = head.on_submit, []

    def late(job_id: str) -> None:
        placed.append(job_id)
        ends(job_id)
        head.over.wait(4.0)

    head.on_submit = late
    assert fan_out(launcher(head, token), requests_of(world, 1), instance).ends == [None]
    assert len(placed) == len(head.jobs) == 1


def test_a_head_that_was_started_anew_knows_no_job(
    world: World, instance: dg.DagsterInstance, head: JobsServer, token: str
) -> None:
    head.on_submit = lambda job_id: head.jobs.pop(job_id)
    (end,) = fan_out(launcher(head, token), requests_of(world, 1), instance).ends
    assert end is not None and "is lost" in str(end) and "does not exist" in str(end)


def test_nobody_listens_at_the_address(world: World, instance: dg.DagsterInstance) -> None:
    with jobs_server() as gone:
        url = gone.url
    with pytest.raises(NoAnswer, match="does not answer"):
        JobsApi(url).jobs()
    with pytest.raises(Refused, match="is the head up, and ATFT_RAY_URL its address"):
        fan_out(RayLauncher(url=url), requests_of(world, 1), instance)


@pytest.mark.parametrize("while_ordering", [False, True], ids=["waiting", "ordering"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_stops_its_job(
    world: World, tmp_path: Path, head: JobsServer, token: str, number: signal.Signals, while_ordering: bool
) -> None:
    """Also one that is interrupted after its order has arrived and before it is answered."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    variables = {
        "DAGSTER_HOME": str(home), "ATFT_DATA": str(world.root), "ATFT_RAY_URL": head.url, "ATFT_RAY_TOKEN_PATH": token,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "worker_defs", "--select", "train_phase0"],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("wb"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    looked = Event()

    def strikes(job_id: str) -> None:
        worker.send_signal(number)
        until(lambda: head.stopped == [job_id], "the stop of the job")

    head.on_submit = strikes if while_ordering else None
    head.on_look = looked.set
    try:
        (job_id,) = until(lambda: list(head.jobs), "the job", process=worker, log=home / "log")
        if not while_ordering:
            until(looked.is_set, "the wait", process=worker, log=home / "log")
            worker.send_signal(number)
        assert worker.wait(PATIENCE) != 0
    finally:
        worker.kill()
    assert head.stopped == [job_id]
    assert (head.folder(job_id) / ENDED).exists()
    assert TOKEN not in (home / "log").read_text()
    assert "train_phase0 was interrupted" in (home / "log").read_text()


def test_cancel_stops_the_jobs_of_one_run(
    world: World, instance: dg.DagsterInstance, head: JobsServer, token: str
) -> None:
    order = Order()
    ordering = Thread(target=fan_out, args=(launcher(head, token), requests_of(world, 1), instance, order))
    ordering.start()
    (job_id,) = until(lambda: list(head.jobs), "the job")
    assert launcher(head, token).cancel("another-run") == [] and head.stopped == []
    assert launcher(head, token).cancel(order.run_id) == [
        f"the Ray job {job_id} of the run {order.run_id} was told to stop"
    ]
    ordering.join(PATIENCE)
    assert order.ends[0] is not None and "ended as STOPPED" in str(order.ends[0])


def test_jobs_of_ended_runs_are_stopped_and_no_others(head: JobsServer, token: str, tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:

        @dg.op
        def nothing() -> None: ...

        @dg.job
        def done() -> None:
            nothing()

        ended = done.execute_in_process(instance=instance).run_id
        alive = instance.create_run_for_job(done, status=dg.DagsterRunStatus.STARTED).run_id
        for name, run_id, status in (
            ("of-ended", ended, "RUNNING"),
            ("of-ended-waiting", ended, "PENDING"),
            ("of-ended-over", ended, "SUCCEEDED"),
            ("of-alive", alive, "RUNNING"),
            ("of-another-instance", "5a5a5a5a-0000-0000-0000-000000000000", "RUNNING"),
        ):
            head.jobs[name] = {"submission_id": name, "status": status, "metadata": {RUN_ID: run_id}}
        head.jobs["by-hand"] = {"submission_id": "by-hand", "status": "RUNNING", "metadata": None}
        said = list(stop_ended_jobs(instance, JobsApi(head.url, token)))
        assert head.stopped == ["of-ended", "of-ended-waiting"] and len(said) == 2 and ended in said[0]
        assert list(reap_ray(instance, {})) == []
        exported = {"ATFT_RAY_URL": head.url, "ATFT_RAY_TOKEN_PATH": token}
        instance.report_run_failed(instance.get_run_by_id(alive))
        assert [one.split(":")[0] for one in reap_ray(instance, exported)] == ["Ray job of-alive"]
        head.quiet.set()
        (one,) = stop_ended_jobs(instance, JobsApi(head.url, token, seconds=0.2))
        assert one.startswith("Ray jobs were not looked at: ") and "does not answer" in one


def test_two_requests_of_one_directory(
    world: World, instance: dg.DagsterInstance, head: JobsServer, token: str
) -> None:
    (one,) = requests_of(world, 1)
    with pytest.raises(ValueError, match="the same run directory"):
        fan_out(launcher(head, token), [one, replace(one, seed=2)], instance)
    assert head.jobs == {}
