"""Ray on two hosts, network namespaces of this machine: trainings on both, a host lost, cut off, and a cancel.

The small trainer is told by a file on the shared disk what to do, on whatever host it runs. The test itself stands in
the network of host a, as Dagster would.
"""

import ctypes
import os
import shutil
import subprocess
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
from tests.training.small_market import World
from tests.training.test_launcher import gone

pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt '.[ray]'")
REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "deploy" / "ray" / "netns.sh"
NETNS = 0x40000000  # CLONE_NEWNET
MISSING = [program for program in ("ip", "unshare") if shutil.which(program) is None]
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root alone"),
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing: install iproute2 and util-linux"),
]


class Hosts:
    """Host a, the head, and host b."""

    def __init__(self, folder: Path, words: Path, data: Path):
        self.folder, self.words = folder, words
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (programs / "ray").write_text(f'#!/bin/sh\nexec {sys.executable} -m ray.scripts.scripts "$@"\n')
        (programs / "ray").chmod(0o755)
        seen = [REPOSITORY, data, *(Path(p).resolve() for p in sys.path if p)]
        shared = sorted({path for path in seen if path.is_dir() and path.is_relative_to("/tmp")})
        whole = [path for path in shared if not any(path != other and path.is_relative_to(other) for other in shared)]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
            ),
            "ATFT_NETNS": f"/var/tmp/atft-netns-{os.getpid()}",
            "ATFT_NETNS_SHARED": ":".join(map(str, whole)),
            "FAKE_TRAINER": f"@{words}",
        }

    def do(self, *command: str) -> str:
        """Carry out a command of netns.sh; what it says goes to a file, for Ray's processes keep what they inherit."""
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run([SCRIPT, *command], env=self.environment, stdout=said, stderr=said, timeout=PATIENCE)
            said.seek(0)
            text = said.read()
        assert done.returncode == 0, f"{command}: {text}"
        return text

    def launcher(self, **given) -> RayLauncher:
        return RayLauncher(
            url="http://10.77.0.1:8265", token_path=f"{self.environment['ATFT_NETNS']}/token", module="fake_trainer",
            python=sys.executable, poll_seconds=0.2, **given,
        )  # fmt: skip

    def trainers(self, host: str) -> list[int]:
        """Trainers that run on a host."""
        found = []
        for pid in map(int, self.do("pids", host).split()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"fake_trainer" in words and not gone(pid):
                found.append(pid)
        return found


@contextmanager
def network_of(host: str) -> Iterator[None]:
    """This thread, and those that it starts, stand in a host's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before, open(f"/run/netns/atft-{host}") as there:
        assert libc.setns(there.fileno(), NETNS) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), NETNS) == 0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    made = Hosts(folder / "bin-and-said", folder / "words", tmp_path_factory.getbasetemp())
    made.words.write_text("")
    made.do("down")
    try:
        made.do("up")
        with network_of("a"):
            yield made
    finally:
        made.do("down")


@contextmanager
def under_way(
    hosts: Hosts, world: World, instance: dg.DagsterInstance, words: str
) -> Iterator[tuple[Order, dict[str, Path]]]:
    """Two trainings that hang, a host each; what is known of them, and the run directory by host."""
    hosts.words.write_text(words)
    order = Order()
    ordering = Thread(target=fan_out, args=(hosts.launcher(), requests_of(world, 3, 4), instance, order))
    ordering.start()
    try:
        places = until(lambda: by_host(world) if len(by_host(world)) == 2 else {}, "a training on each host")
        yield order, places
    finally:
        hosts.words.write_text("")
        ordering.join(PATIENCE)


def by_host(world: World) -> dict[str, Path]:
    return {(path.parent / "host").read_text(): path.parents[2] for path in world.runs(0).glob("*/attempt-1/*/ready")}


def test_trainings_run_on_both_hosts(world: World, instance: dg.DagsterInstance, hosts: Hosts) -> None:
    hosts.words.write_text("meet,seed=3")
    requests = requests_of(world, 3, 4, 5, 6)
    assert fan_out(hosts.launcher(), requests, instance).ends == [None] * 4
    assert {(one.out / "host").read_text() for one in requests} == {"atft-a", "atft-b"}
    assert hosts.trainers("a") == hosts.trainers("b") == []


def test_a_cancel_leaves_no_trainer_on_either_host(world: World, instance: dg.DagsterInstance, hosts: Hosts) -> None:
    with under_way(hosts, world, instance, "hang") as (order, places):
        assert len(hosts.trainers("a")) == len(hosts.trainers("b")) == 1
        assert len(hosts.launcher().cancel(order.run_id)) == 1
        until(lambda: not hosts.trainers("a") and not hosts.trainers("b"), "the end of both trainers")
        until(lambda: order.ends, "the end of the step")
    assert [read_record(run).status for run in places.values()] == ["interrupted"] * 2
    assert all(
        (run / STATE).exists() and (run / "signals").read_text().split() == ["SIGTERM"] for run in places.values()
    )


def test_a_host_that_loses_its_power(world: World, instance: dg.DagsterInstance, hosts: Hosts) -> None:
    """Its training goes on from its state on the other host, and the Dagster run knows of nothing."""
    with under_way(hosts, world, instance, "hang") as (order, places):
        hosts.do("kill", "b")
        assert hosts.trainers("b") == []
    assert order.ends == [None, None]
    moved = open_run(places["atft-b"])
    assert (moved.folder / "host").read_text() == "atft-a"
    assert (moved.folder / "resumed").read_text() == "an epoch is done"
    hosts.do("boot", "b")


def test_a_host_that_loses_the_network(world: World, instance: dg.DagsterInstance, hosts: Hosts) -> None:
    """The training begins again elsewhere, and once only is something published, whatever the isolated one does."""
    seeds = "hang,seed=3,seed=4"
    with under_way(hosts, world, instance, seeds) as (order, places):
        isolated, other = places["atft-b"], places["atft-a"]
        hosts.do("cut", "b")
        try:
            hosts.words.write_text(
                f"hang,seed={isolated.name.removeprefix('r')}"
            )  # the other one ends, its place is free
            until(lambda: (other / "run.json").exists(), "the end of the training on a")
            second = until(lambda: list(isolated.glob("attempt-2/*/ready")), "the second attempt")
            assert (second[0].parent / "host").read_text() == "atft-a"
            assert len(attempts(isolated)) == 2 and not (isolated / "checkpoint.safetensors").exists()
            hosts.words.write_text("")
            until(lambda: order.ends, "the end of the step")
        finally:
            hosts.do("join", "b")
    assert order.ends == [None, None]
    assert (isolated / "host").read_text() == "atft-a" and attempts(isolated) == []
    assert bits(isolated) != bits(other) and open_run(isolated).record.status == "finished"
    until(lambda: not hosts.trainers("b"), "the end of what was cut off")
