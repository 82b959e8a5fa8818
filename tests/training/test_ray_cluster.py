"""A real Ray on one node, with its token on: trainings as tasks, killed, cancelled, and left behind by their run."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import dagster as dg
import psutil
import pytest

from atft_assets.tools.ray_reaper import stop_ended_jobs
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.ray_jobs import JobsApi, NoAnswer, Refused
from atft_assets.training.ray_launcher import FOLDER, RayLauncher
from atft_assets.training.runs import open_run
from atft_model.interchange.attempts import attempts
from atft_model.interchange.batch import ENDED
from atft_model.interchange.config import PhaseChanges
from atft_model.interchange.exits import Exit
from atft_model.interchange.request import PredictRequest, TrainRequest
from atft_model.interchange.run import CHECKPOINT, STATE, read_record
from tests.patience import PATIENCE, until
from tests.tools.test_ui import free_port
from tests.training.ordering import Order, bits, fan_out, one_by_one, requests_of
from tests.training.small_market import World
from tests.training.test_fan_out import SEEDS, pids
from tests.training.test_launcher import gone, hanging_run

pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt '.[ray]'")
pytestmark = [pytest.mark.deploy, pytest.mark.machine, pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
AGENTS = ("dashboard-agent-grpc", "dashboard-agent-listen", "metrics-export", "runtime-env-agent")


@dataclass(frozen=True)
class Cluster:
    """One node that is head and worker at once."""

    url: str
    token_path: str

    def launcher(self, module: str = "fake_trainer", **given) -> RayLauncher:
        return RayLauncher(
            url=self.url, token_path=self.token_path, module=module, python=sys.executable, poll_seconds=0.2,
            silence_seconds=PATIENCE, **given,
        )  # fmt: skip

    @property
    def api(self) -> JobsApi:
        return JobsApi(self.url, self.token_path)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake trainer is told: the cluster's processes outlive a test, so it reads a file."""
    return tmp_path_factory.mktemp("words") / "words"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, words: Path) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "token").write_text(secrets.token_hex(16))
    (folder / "token").chmod(0o600)
    port, dashboard = free_port(), free_port()
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "RAY_worker_register_timeout_seconds": "300",  # a machine that has much else to do
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
        "FAKE_TRAINER": f"@{words}",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as sockets:  # the paths of its sockets must be short
        command = [
            *(sys.executable, str(HERE / "patient_ray.py"), "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", "--dashboard-host=127.0.0.1"),
            "--include-dashboard=true",  # else a head whose API comes up too late stays without one
            *(f"--dashboard-port={dashboard}", "--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000"),
            f"--temp-dir={sockets}",
            # told their ports, the raylet does not wait 15 s for its agents, which no variable changes
            *(f"--{name}-port={free_port()}" for name in AGENTS),
        ]
        log = folder / "log"
        with log.open("wb") as said:
            head = subprocess.Popen(
                command, env={**os.environ, **variables}, stdout=said, stderr=said, start_new_session=True
            )
        made = Cluster(f"http://127.0.0.1:{dashboard}", str(folder / "token"))
        try:
            until(lambda: _answers(made.api), "the head", process=head, log=log)
            yield made
        finally:
            head.terminate()
            with suppress(subprocess.TimeoutExpired):
                head.wait(20)
            # its children in the end too, whoever adopted them: all inherited the token's place
            until(lambda: not _killed(made.token_path), "the end of every process of the cluster")
            head.wait()


def _killed(token_path: str) -> list[int]:
    """Processes of the cluster that still live; each is killed."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("RAY_AUTH_TOKEN_PATH") == token_path and not gone(process.pid):
                found.append(process.pid)
                process.kill()
    return found


def _answers(api: JobsApi) -> bool:
    with suppress(NoAnswer):
        api.jobs()
        return True
    return False


@pytest.fixture(autouse=True)
def quiet(words: Path) -> None:
    words.write_text("")


def test_two_at_a_time_give_the_bits_of_one_after_another(
    world: World, instance: dg.DagsterInstance, cluster: Cluster, words: Path, trainer_on_path: None
) -> None:
    words.write_text("meet,seed=3")
    together, alone = requests_of(world, 3, 4, 5), requests_of(world, 3, 4, 5, tag="alone")
    order = fan_out(cluster.launcher(), together, instance)
    assert order.ends == [None] * 3
    one_by_one(LocalLauncher(module="fake_trainer", threads=1), alone, instance)
    assert [bits(one.out) for one in together] == [bits(one.out) for one in alone]
    for request in together:
        assert open_run(request.out).run_id == request.out.name and attempts(request.out) == []
        assert [m["epoch"] for name, m in order.heard if name == request.out.name] == [1, 2, 3]
    assert list((world.root / FOLDER).iterdir()) == []


def test_the_real_network_is_the_same_to_the_bit_and_scores(
    world: World, instance: dg.DagsterInstance, cluster: Cluster
) -> None:
    knobs = {"preset": "demo", "curriculum": PhaseChanges(epochs=1)}
    together, alone = requests_of(world, 1, 2, **knobs), requests_of(world, 1, 2, tag="alone", **knobs)
    real = cluster.launcher("atft_model")
    assert fan_out(real, together, instance).ends == [None, None]
    one_by_one(LocalLauncher(threads=1), alone, instance)
    assert [bits(one.out) for one in together] == [bits(one.out) for one in alone]

    first, last = world.fold().test
    outs = [world.root / f"{name}.parquet" for name in ("there", "here")]

    @dg.asset
    def scored(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for launcher, out in zip((real, LocalLauncher(threads=1)), outs, strict=True):
            launcher.predict(
                context,
                PredictRequest(world.newest().folder, together[0].out, out, first=first, last=last, device="cpu"),
            )
        return dg.MaterializeResult()

    assert dg.materialize([scored], instance=instance).success
    there, here = (Path(f"{out}.sha256").read_text().split()[0] for out in outs)
    assert there == here and all(out.exists() for out in outs)


def test_a_token_that_is_refused(world: World, instance: dg.DagsterInstance, cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another")
    stranger = RayLauncher(url=cluster.url, token_path=str(tmp_path / "token"))
    with pytest.raises(Refused, match="refuses the token"):
        fan_out(stranger, requests_of(world, 1), instance)
    with pytest.raises(Refused, match="refuses the token"):
        JobsApi(cluster.url).jobs()


def test_a_training_that_no_host_can_hold_is_refused(
    world: World, instance: dg.DagsterInstance, cluster: Cluster
) -> None:
    (end,) = fan_out(cluster.launcher(gpus=1), requests_of(world, 1), instance).ends
    assert end is not None and "no host of the cluster has 1 CPU and 1 GPU for a training; they have 2 CPU" in str(end)


@contextmanager
def under_way(
    world: World, instance: dg.DagsterInstance, cluster: Cluster, words: Path, *seeds: int
) -> Iterator[tuple[list[TrainRequest], list[int], Order]]:
    """Trainings that hang: requests, processes and order; at the end their step has ended too."""
    words.write_text("hang")
    requests, order = requests_of(world, *seeds), Order()
    ordering = Thread(target=fan_out, args=(cluster.launcher(), requests, instance, order))
    ordering.start()
    yield requests, until(lambda: found if len(found := pids(world)) == len(seeds) else [], "the trainings"), order
    ordering.join(PATIENCE)
    assert not ordering.is_alive()


def test_a_lost_worker_takes_its_trainer_along_and_the_training_goes_on_elsewhere(
    world: World, instance: dg.DagsterInstance, cluster: Cluster, words: Path
) -> None:
    with under_way(world, instance, cluster, words, 3) as ((request,), (trainer,), order):
        words.write_text("")
        worker = psutil.Process(trainer).parent()
        assert worker is not None and worker.name().startswith("ray::")
        worker.kill()
        until(lambda: gone(trainer), "the death of the trainer with its worker")
    assert order.ends == [None] and open_run(request.out).record.status == "finished"
    assert (request.out / "resumed").read_text() == "an epoch is done"
    assert attempts(request.out) == [] and not (request.out / STATE).exists()


def test_cancel_lets_every_trainer_save_and_leaves_no_process(
    world: World, instance: dg.DagsterInstance, cluster: Cluster, words: Path
) -> None:
    with under_way(world, instance, cluster, words, 3, 4) as (requests, trainers, order):
        assert len(cluster.launcher().cancel(order.run_id)) == 1
    until(lambda: all(map(gone, trainers)), "the end of the trainers")
    assert [end.exit_code for end in order.ends if end] == [Exit.INTERRUPTED] * 2
    for request in requests:
        assert (request.out / "signals").read_text().split() == ["SIGTERM"]
        assert read_record(request.out).status == "interrupted" and (request.out / STATE).exists()


def test_an_interrupted_run_leaves_nothing_on_the_cluster(
    world: World, tmp_path: Path, cluster: Cluster, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATFT_RAY_URL", cluster.url)
    monkeypatch.setenv("ATFT_RAY_TOKEN_PATH", cluster.token_path)
    words.write_text("hang")
    with hanging_run(world, tmp_path / "home", "", SEEDS, ready="*/attempt-*/*/ready") as (worker, *_):
        trainers = until(lambda: pids(world) if len(pids(world)) == 2 else [], "both trainings")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(PATIENCE) != 0
        until(lambda: all(map(gone, trainers)), "the end of the trainers")
    assert all(job.over for job in cluster.api.jobs())
    begun = [path for path in world.runs(0).iterdir() if path.is_dir()]
    assert [read_record(run).status for run in begun] == ["interrupted"] * 2


def test_a_step_that_is_killed_leaves_a_job_that_the_reaper_stops(
    world: World, tmp_path: Path, cluster: Cluster, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATFT_RAY_URL", cluster.url)
    monkeypatch.setenv("ATFT_RAY_TOKEN_PATH", cluster.token_path)
    words.write_text("hang")
    with hanging_run(world, tmp_path / "home", "", None, ready="*/attempt-*/*/ready") as (worker, trainer, _):
        worker.kill()
        worker.wait()
        with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
            assert list(stop_ended_jobs(instance, cluster.api)) == [] and not gone(trainer)  # the run is not ended yet
            (run,) = instance.get_runs()
            instance.report_run_failed(run)
            (said,) = stop_ended_jobs(instance, cluster.api)
            assert run.run_id in said
            until(lambda: gone(trainer), "the end of the trainer")
            until(lambda: all(job.over for job in cluster.api.jobs()), "the end of the job")


def test_a_withdrawn_order_is_noticed_by_a_driver_that_nobody_reaches(
    world: World, instance: dg.DagsterInstance, cluster: Cluster, words: Path
) -> None:
    with under_way(world, instance, cluster, words, 3) as ((request,), (trainer,), order):
        (folder,) = (world.root / FOLDER).iterdir()
        (folder / ENDED).touch()
        until(lambda: gone(trainer), "the end of the trainer")
    assert order.ends[0] is not None and "`resume_run: r3`" in str(order.ends[0])
    assert read_record(request.out).status == "interrupted" and not (request.out / CHECKPOINT).exists()
