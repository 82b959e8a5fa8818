"""Ray on two hosts, network namespaces of this machine: trainings on both, a host lost, cut off, and a cancel.

The small trainer is told by a file on the shared disk what to do, on whatever host it runs. The test itself stands in
the network of host a, as Dagster would.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest

from atft_assets.training.ray_launcher import RayLauncher
from atft_assets.training.runs import open_run
from atft_model.interchange.attempts import attempts
from atft_model.interchange.run import STATE, read_record
from tests.patience import PATIENCE, until
from tests.training.ordering import Order, bits, fan_out, requests_of
from tests.training.ray_hosts import URL, Hosts, network_of, two_hosts, why_not
from tests.training.small_market import World

pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt '.[ray]'")
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the small trainer is told, on whatever host it runs."""
    path = tmp_path_factory.mktemp("words") / "words"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, words: Path) -> Iterator[Hosts]:
    folder, seen = tmp_path_factory.mktemp("hosts"), [tmp_path_factory.getbasetemp()]
    with two_hosts(folder / "programs", seen, {"FAKE_TRAINER": f"@{words}"}) as made, network_of(made, "a"):
        yield made


def launcher(hosts: Hosts) -> RayLauncher:
    return RayLauncher(
        url=URL, token_path=hosts.token_path, module="fake_trainer", python=sys.executable, poll_seconds=0.2,
        silence_seconds=PATIENCE,
    )  # fmt: skip


def trainers(hosts: Hosts, host: str) -> list[int]:
    return hosts.processes(host, "fake_trainer")


@contextmanager
def under_way(
    hosts: Hosts, world: World, instance: dg.DagsterInstance, words: Path, told: str
) -> Iterator[tuple[Order, dict[str, Path]]]:
    """Two trainings that hang, a host each; what is known of them, and the run directory by host."""
    words.write_text(told)
    order = Order()
    ordering = Thread(target=fan_out, args=(launcher(hosts), requests_of(world, 3, 4), instance, order))
    ordering.start()
    try:
        places = until(lambda: by_host(world) if len(by_host(world)) == 2 else {}, "a training on each host")
        yield order, places
    finally:
        words.write_text("")
        ordering.join(PATIENCE)


def by_host(world: World) -> dict[str, Path]:
    return {(path.parent / "host").read_text(): path.parents[2] for path in world.runs(0).glob("*/attempt-1/*/ready")}


def test_trainings_run_on_both_hosts(world: World, instance: dg.DagsterInstance, hosts: Hosts, words: Path) -> None:
    words.write_text("meet,seed=3")
    requests = requests_of(world, 3, 4, 5, 6)
    assert fan_out(launcher(hosts), requests, instance).ends == [None] * 4
    assert {(one.out / "host").read_text() for one in requests} == {"atft-a", "atft-b"}
    assert trainers(hosts, "a") == trainers(hosts, "b") == []


def test_a_cancel_leaves_no_trainer_on_either_host(
    world: World, instance: dg.DagsterInstance, hosts: Hosts, words: Path
) -> None:
    with under_way(hosts, world, instance, words, "hang") as (order, places):
        assert len(trainers(hosts, "a")) == len(trainers(hosts, "b")) == 1
        assert len(launcher(hosts).cancel(order.run_id)) == 1
        until(lambda: not trainers(hosts, "a") and not trainers(hosts, "b"), "the end of both trainers")
        until(lambda: order.ends, "the end of the step")
    assert [read_record(run).status for run in places.values()] == ["interrupted"] * 2
    assert all(
        (run / STATE).exists() and (run / "signals").read_text().split() == ["SIGTERM"] for run in places.values()
    )


def test_a_host_that_loses_its_power(world: World, instance: dg.DagsterInstance, hosts: Hosts, words: Path) -> None:
    """Its training goes on from its state on the other host, and the Dagster run knows of nothing."""
    with under_way(hosts, world, instance, words, "hang") as (order, places):
        hosts.do("kill", "b")
        assert trainers(hosts, "b") == []
    assert order.ends == [None, None]
    moved = open_run(places["atft-b"])
    assert (moved.folder / "host").read_text() == "atft-a"
    assert (moved.folder / "resumed").read_text() == "an epoch is done"
    hosts.do("boot", "b")


def test_a_host_that_loses_the_network(world: World, instance: dg.DagsterInstance, hosts: Hosts, words: Path) -> None:
    """The training begins again elsewhere, and once only is something published, whatever the isolated one does."""
    seeds = "hang,seed=3,seed=4"
    with under_way(hosts, world, instance, words, seeds) as (order, places):
        isolated, other = places["atft-b"], places["atft-a"]
        hosts.do("cut", "b")
        try:
            # the other one ends, its place is free
            words.write_text(f"hang,seed={isolated.name.removeprefix('r')}")
            until(lambda: (other / "run.json").exists(), "the end of the training on a")
            second = until(lambda: list(isolated.glob("attempt-2/*/ready")), "the second attempt")
            assert (second[0].parent / "host").read_text() == "atft-a"
            assert len(attempts(isolated)) == 2 and not (isolated / "checkpoint.safetensors").exists()
            words.write_text("")
            until(lambda: order.ends, "the end of the step")
        finally:
            hosts.do("join", "b")
    assert order.ends == [None, None]
    assert (isolated / "host").read_text() == "atft-a" and attempts(isolated) == []
    assert bits(isolated) != bits(other) and open_run(isolated).record.status == "finished"
    until(lambda: not trainers(hosts, "b"), "the end of what was cut off")
