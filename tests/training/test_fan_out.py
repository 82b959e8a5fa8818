"""Several trainings at a time on this machine: real processes of the small trainer, killed and stopped for real."""

import fcntl
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest

from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.runs import end_abandoned, latest_run, open_run
from atft_assets.training.seeds import latest_ensemble
from atft_model.interchange.attempts import attempts, newest_state
from atft_model.interchange.config import PhaseChanges
from atft_model.interchange.exits import Exit
from atft_model.interchange.run import STATE, read_record
from tests.patience import PATIENCE, until
from tests.training.ordering import Order, bits, fan_out, one_by_one, requests_of
from tests.training.small_market import World
from tests.training.test_launcher import gone, hanging_run
from tests.training.test_phases import train

pytestmark = pytest.mark.usefixtures("trainer_on_path")

TWO = LocalLauncher(module="fake_trainer", threads=1, trainings=2, interrupt_seconds=1.5, terminate_seconds=0.5)
ONE = LocalLauncher(module="fake_trainer", threads=1)
SEEDS = {"ops": {"train_phase0": {"config": {"seeds": [0, 7]}}}}


def pids(world: World) -> list[int]:
    """Trainers that are under way and ready."""
    return [int((path.parent / "pid").read_text()) for path in world.runs(0).glob("*/attempt-*/*/ready")]


def test_two_at_a_time_give_the_bits_of_one_after_another(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = requests_of(world, 3, 4, 5, 6)
    alone = requests_of(world, 3, 4, 5, 6, tag="alone")
    one_by_one(ONE, alone, instance)
    monkeypatch.setenv("FAKE_TRAINER", "meet,seed=3")  # the first ends only if a second one runs beside it
    order = fan_out(TWO, together, instance)
    assert order.ends == [None] * 4
    assert [bits(one.out) for one in together] == [bits(one.out) for one in alone]
    for request in together:
        run = open_run(request.out)
        assert (run.run_id, run.record.seed) == (request.out.name, request.seed)
        assert attempts(request.out) == [] and not (request.out / STATE).exists()
        heard = [message["epoch"] for name, message in order.heard if name == request.out.name]
        assert heard == [1, 2, 3]
        assert json.loads((request.out / "request.json").read_text())["out"] == str(request.out)


def test_one_place_trains_them_in_their_order(world: World, instance: dg.DagsterInstance) -> None:
    order = fan_out(ONE, requests_of(world, 9, 2, 5), instance)
    assert order.ends == [None] * 3 and order.names == ["r9", "r2", "r5"]
    assert [name for name, _ in order.heard] == sorted((name for name, _ in order.heard), key=order.names.index)


def test_no_two_requests_have_one_run_directory(world: World, instance: dg.DagsterInstance) -> None:
    with pytest.raises(ValueError, match="the same run directory"):
        fan_out(TWO, requests_of(world, 1, 1), instance)
    assert not world.runs(0).exists()


def test_one_that_fails_leaves_the_others_alone(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "exit=3,seed=4")
    requests = requests_of(world, 3, 4, 5)
    good, bad, last = fan_out(TWO, requests, instance).ends
    assert good is None and last is None
    assert bad is not None and bad.exit_code == Exit.GUARD
    assert "a guard was violated" in str(bad) and str(bad).endswith("the reason and its second line")
    assert [read_record(one.out).status for one in requests] == ["finished", "failed", "finished"]


def test_kill_9_of_one_is_told_and_it_goes_on_from_its_state(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "hang,seed=4")
    requests, order = requests_of(world, 3, 4), Order()
    ordering = Thread(target=fan_out, args=(TWO, requests, instance, order))
    ordering.start()
    until(lambda: (requests[0].out / "run.json").exists(), "the end of the other one")
    (victim,) = until(lambda: pids(world), "the training that hangs")
    os.kill(victim, signal.SIGKILL)
    ordering.join(PATIENCE)
    other, killed = order.ends
    assert other is None and killed is not None and killed.exit_code == -signal.SIGKILL
    assert "`resume_run: r4`" in str(killed)
    assert read_record(requests[1].out).status == "interrupted" and (requests[1].out / STATE).exists()
    monkeypatch.setenv("FAKE_TRAINER", "")
    assert fan_out(TWO, [replace(requests[1], resume=True)], instance).ends == [None]
    assert (requests[1].out / "resumed").read_text() == "an epoch is done"
    assert open_run(requests[1].out).record.status == "finished" and attempts(requests[1].out) == []


def test_cancel_ends_what_a_run_has_started_and_nothing_else(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "hang")
    order = Order()
    ordering = Thread(target=fan_out, args=(TWO, requests_of(world, 3, 4), instance, order))
    ordering.start()
    trainers = until(lambda: pids(world) if len(pids(world)) == 2 else [], "both trainings")
    assert TWO.cancel("another-run") == [] and not any(map(gone, trainers))
    said = TWO.cancel(order.run_id)
    assert len(said) == 2 and all("was told to stop" in one and "fake_trainer" in one for one in said)
    ordering.join(PATIENCE)
    assert all(map(gone, trainers))
    assert [end.exit_code for end in order.ends if end] == [Exit.INTERRUPTED] * 2
    assert TWO.cancel(order.run_id) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_leaves_no_process_and_goes_on(
    world: World, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("ATFT_TRAININGS", "2")
    with hanging_run(world, tmp_path / "home", "hang", SEEDS, ready="*/attempt-*/*/ready") as (worker, *_):
        trainers = until(lambda: pids(world) if len(pids(world)) == 2 else [], "both trainings")
        worker.send_signal(number)
        until(lambda: all(map(gone, trainers)), "the end of the trainers")
        assert worker.wait(PATIENCE) != 0
    begun = sorted(path for path in world.runs(0).iterdir() if path.is_dir())
    assert [read_record(run).status for run in begun] == ["interrupted"] * 2
    assert all(attempts(run) == [] and (run / STATE).exists() for run in begun)
    assert latest_run(world.runs(0)) is None
    assert "resume_run" in (tmp_path / "home" / "log").read_text().splitlines()[-2]
    monkeypatch.setenv("FAKE_TRAINER", "")
    assert train(world, instance, "train_phase0", seeds=[0, 7], resume_run=begun[0].name).success
    ensemble = latest_ensemble(world.runs(0))
    assert ensemble is not None and [run.folder for run in ensemble.runs] == begun  # both went on
    assert all((run / "resumed").exists() for run in begun)


def test_kill_9_of_the_worker_ends_all_trainings_and_their_states_are_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATFT_TRAININGS", "2")
    with hanging_run(world, tmp_path / "home", "hang,deaf", SEEDS, ready="*/attempt-*/*/ready") as (worker, *_):
        trainers = until(lambda: pids(world) if len(pids(world)) == 2 else [], "both trainings")
        begun = [path for path in world.runs(0).iterdir() if path.is_dir()]
        assert list(end_abandoned(world.root / "runs")) == []  # they live
        worker.kill()
        until(lambda: all(map(gone, trainers)), "the death of the trainers with the worker")
    assert all(attempts(run) and newest_state(run) == attempts(run)[0] for run in begun)
    said = list(end_abandoned(world.root / "runs"))
    assert len(said) == 2 and all("It goes on with the config" in one for one in said)
    assert all(attempts(run) == [] and read_record(run).status == "interrupted" for run in begun)


def test_each_of_two_places_has_a_lock_of_its_own(world: World, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """Two that hold one lock could not run at a time; the second run of the test above would end as busy."""
    locked = TWO.model_copy(update={"lock": str(tmp_path / "device")})
    assert fan_out(locked, requests_of(world, 1, 2), instance).ends == [None, None]
    assert (tmp_path / "device").exists() and (tmp_path / "device.1").exists()
    with (tmp_path / "device").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ends = fan_out(locked, requests_of(world, 5, 6), instance).ends
    assert (
        ends[0] is not None
        and ends[0].exit_code == Exit.LOCK_BUSY
        and "the device is in use by process" in str(ends[0])
    )
    assert ends[1] is None and not (world.runs(0) / "r5").exists()


def test_a_real_network_is_the_same_to_the_bit(world: World, instance: dg.DagsterInstance) -> None:
    knobs = {"preset": "demo", "curriculum": PhaseChanges(epochs=1)}
    real = LocalLauncher(threads=1, trainings=2)
    together, alone = requests_of(world, 1, 2, **knobs), requests_of(world, 1, 2, tag="alone", **knobs)
    assert fan_out(real, together, instance).ends == [None, None]
    one_by_one(real, alone, instance)
    assert [bits(one.out) for one in together] == [bits(one.out) for one in alone]
    assert bits(together[0].out) != bits(together[1].out)
