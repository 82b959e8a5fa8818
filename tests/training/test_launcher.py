"""Things are killed for real: whatever ends the Dagster run, no training process is left and the device is free.

The run is the real `dagster asset materialize` in a process of its own; the trainer is the fake one, which hangs.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.training.launcher import explain, last_words, lock_holder
from atft_assets.training.runs import latest_run

from .small_market import World
from .test_phases import failure, train

HERE = Path(__file__).parent
PATIENCE = 60  # seconds; a busy machine takes long to start Python


def wait_for(condition, what: str):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain for {what}"
        time.sleep(0.05)
    return found


def gone(pid: int) -> bool:
    """Whether the process has ended; one that only waits to be reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def hanging_run(world: World, home: Path, words: str) -> Iterator[tuple[subprocess.Popen, int, Path]]:
    """A run whose trainer hangs: its worker, the trainer's pid, the run directory. Nothing survives the block."""
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "ATFT_DATA": str(world.root),
        "FAKE_TRAINER": words,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "worker_defs", "--select", "train_phase0"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("wb"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
    )
    trainer = None
    try:
        runs = world.store.local("runs", "train_phase0")
        ready = wait_for(lambda: worker.poll() is not None or list(runs.glob("*/ready")), "the training to start")
        assert ready is not True, (home / "log").read_text()[-3000:]
        out = ready[0].parent
        trainer = int((out / "pid").read_text())
        assert not gone(trainer)
        yield worker, trainer, out
    finally:
        for pid in (worker.pid, trainer):
            if pid and not gone(pid):
                os.kill(pid, signal.SIGKILL)
        worker.wait()


def signals(out: Path) -> list[str]:
    return (out / "signals").read_text().split() if (out / "signals").exists() else []


def test_terminating_the_run_interrupts_the_training(world: World, tmp_path: Path) -> None:
    with hanging_run(world, tmp_path / "home", "hang") as (worker, trainer, out):
        assert os.getpgid(trainer) == trainer != os.getpgid(worker.pid)  # a group of its own
        worker.send_signal(signal.SIGINT)
        wait_for(lambda: gone(trainer), "the trainer to end")
        assert worker.wait(PATIENCE) != 0
        assert signals(out) == ["SIGINT"]
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        assert instance.get_runs()[0].status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
    assert latest_run(out.parent) is None


def test_a_trainer_that_ignores_signals_is_killed(world: World, tmp_path: Path) -> None:
    with hanging_run(world, tmp_path / "home", "hang,deaf") as (worker, trainer, out):
        worker.send_signal(signal.SIGINT)
        wait_for(lambda: gone(trainer), "the trainer to be killed")
        worker.wait(PATIENCE)
        assert signals(out) == ["SIGINT", "SIGTERM"]


def test_kill_9_of_the_worker_ends_the_training_and_frees_the_device(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))
    with (
        dg.instance_for_test() as instance,
        hanging_run(world, tmp_path / "home", "hang,deaf") as (worker, trainer, out),
    ):
        # meanwhile the device is taken, and the second run says by whom
        said = failure(train(world, instance, "train_phase0"))
        assert f"the device is in use by process {trainer} (" in said and "fake_trainer" in said
        worker.kill()
        wait_for(lambda: gone(trainer), "the trainer to die with the worker")
        assert signals(out) == []
        assert train(world, instance, "train_phase0").success


def test_lock_holder_without_a_holder(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "none") == "another process"
    (tmp_path / "free").touch()
    assert lock_holder(tmp_path / "free") == "another process"


def test_last_words() -> None:
    assert last_words(["Traceback", "  File x", "ValueError: bad", ""]) == "ValueError: bad"
    assert last_words(["noise", "atft_model: does not fit:", "  a: 1", "  b: 2"]) == "does not fit: a: 1 b: 2"
    assert last_words([]) == "it said nothing"


@pytest.mark.parametrize(
    ("code", "said"),
    [(-9, "ran out of memory"), (-11, "signal 11 (SIGSEGV)"), (75, "lock /nowhere/x"), (1, "exit code 1")],
)
def test_ends_of_a_process(tmp_path: Path, code: int, said: str) -> None:
    assert said in explain(code, ["x"], out=tmp_path / "runs" / "stage" / "id", lock=Path("/nowhere/x"))
