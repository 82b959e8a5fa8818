"""Things are killed for real: whatever ends the Dagster run, no training process is left and the device is free.

The run is the real `dagster asset materialize` in a process of its own; the trainer is the fake one, which hangs.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atft_assets.training.endings import explain, last_words, lock_holder
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.runs import end_abandoned, latest_run
from atft_model.interchange.errors import RunError
from atft_model.interchange.run import STATE, end_record, held, read_record, write_record
from tests.patience import PATIENCE, until
from tests.training.small_market import World

from .test_phases import failure, train

HERE = Path(__file__).parent


def gone(pid: int) -> bool:
    """Whether the process has ended; one that only waits to be reaped has, once its last thread let go of its files."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(list((process / "task").iterdir())) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def hanging_run(
    world: World, home: Path, words: str, config: dict[str, Any] | None = None, ready: str = "*/ready"
) -> Iterator[tuple[subprocess.Popen, int, Path]]:
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
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-m", "worker_defs", "--select", "train_phase0"),
            *(("--config-json", json.dumps(config)) if config else ()),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("wb"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
    )
    trainer = None
    try:
        runs = world.runs(0)
        first, *_ = until(lambda: list(runs.glob(ready)), "the training", process=worker, log=home / "log")
        out = first.parent
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_terminating_the_run_interrupts_the_training(world: World, tmp_path: Path, number: signal.Signals) -> None:
    with hanging_run(world, tmp_path / "home", "hang") as (worker, trainer, out):
        assert os.getpgid(trainer) == trainer != os.getpgid(worker.pid)  # a group of its own
        worker.send_signal(number)
        until(lambda: gone(trainer), "the end of the trainer")
        assert worker.wait(PATIENCE) != 0
        assert signals(out) == ["SIGINT"]
    assert read_record(out).status == "interrupted"
    rule, what, why, _, todo, end = (tmp_path / "home" / "log").read_text().splitlines()[-6:]
    assert what.endswith("train_phase0 was interrupted") and why.endswith("nothing half-done was published")
    assert f"`resume_run: {out.name}`" in todo and rule == end
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        run = instance.get_runs()[0]
        assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
        told = [entry.user_message for entry in instance.all_logs(run.run_id) if "resume_run" in entry.user_message]
        assert any('--config-json \'{"ops": {"train_phase0": ' in text for text in told), told
    assert latest_run(out.parent) is None


def test_a_trainer_that_ignores_signals_is_killed(world: World, tmp_path: Path) -> None:
    with hanging_run(world, tmp_path / "home", "hang,deaf") as (worker, trainer, out):
        worker.send_signal(signal.SIGINT)
        until(lambda: gone(trainer), "the kill of the trainer")
        worker.wait(PATIENCE)
        assert signals(out) == ["SIGINT", "SIGTERM"]
    assert read_record(out).status == "interrupted"  # it could not say so itself


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
        until(lambda: gone(trainer), "the death of the trainer with the worker")
        assert signals(out) == []
        assert read_record(out).status == "running"  # nobody was left to say otherwise
        (line,) = end_abandoned(world.root / "runs")
        assert f"`resume_run: {out.name}`" in line and read_record(out).status == "interrupted"
        assert train(world, instance, "train_phase0").success


def test_what_a_living_training_holds_is_not_marked(world: World, tmp_path: Path) -> None:
    with hanging_run(world, tmp_path / "home", "hang") as (_, _, out):
        assert list(end_abandoned(world.root / "runs")) == []
        assert read_record(out).status == "running"
        with pytest.raises(RunError, match="being written by another training"), held(out):
            pass


def test_records_end_once_and_damaged_ones_are_left_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))
    monkeypatch.setenv("FAKE_TRAINER", "exit=1")
    with dg.instance_for_test() as instance:
        said = failure(train(world, instance, "train_phase0"))
    (out,) = [path for path in world.runs(0).iterdir() if path.is_dir()]
    assert "exit code 1" in said and read_record(out).status == "failed"
    assert not end_record(out, "interrupted") and read_record(out).status == "failed"
    write_record(out, replace(read_record(out), status="running"))
    kept = (out / "run.json").read_text()
    (out / "run.json").write_text(kept.replace('"seed"', '"sown"'))
    assert list(end_abandoned(world.root / "runs")) == []


@pytest.mark.parametrize("code", [130, 74, -9, -11])
def test_it_says_how_a_training_goes_on(tmp_path: Path, code: int) -> None:
    out = tmp_path / "runs" / "autumn" / "phase1" / "the-id"
    out.mkdir(parents=True)
    said = explain(code, ["x"], out=out, runs=tmp_path, lock=tmp_path / "lock")
    assert "start it again" in said and "resume_run" not in said  # no epoch has ended
    (out / STATE).touch()
    said = explain(code, ["x"], out=out, runs=tmp_path, lock=tmp_path / "lock")
    assert "`resume_run: the-id`" in said and "--select fold_phase1 --partition autumn --config-json" in said


def test_an_interrupted_run_leaves_ten_seconds_to_nobody() -> None:
    assert LocalLauncher().interrupt_seconds + LocalLauncher().terminate_seconds < 10


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
    assert said in explain(code, ["x"], out=tmp_path / "id", runs=tmp_path, lock=Path("/nowhere/x"))
