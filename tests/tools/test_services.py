"""Services that are watched, with small processes and a clock of our own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from atft_assets.operations.alerts import Alert
from atft_assets.tools.services import CHILDLESS_LOOKS, HEALTHY_SECONDS, CodeServer, Service, Supervisor, living
from tests.patience import until

SLEEPER = [sys.executable, "-c", "import time; time.sleep(300)"]
DEAF = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
    "time.sleep(300)",
]


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process has set a signal to be ignored, as the kernel tells it."""
    (mask,) = re.findall(r"SigIgn:\t(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


class Watched:
    """A supervisor whose clock we move."""

    def __init__(self, *services: Service):
        self.now = 1000.0
        self.told: list[Alert] = []
        self.services = services
        self.supervisor = Supervisor(services, self.told.append, "welcome", clock=lambda: self.now)
        self.supervisor.look()

    def kill(self, service: Service) -> int:
        assert service.process is not None
        killed = service.process.pid
        service.process.kill()
        until(lambda: psutil.Process(killed).status() == psutil.STATUS_ZOMBIE)
        return killed


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(*services: Service) -> Watched:
        made.append(Watched(*services))
        return made[-1]

    yield make
    for one in made:
        one.supervisor.stop()


def test_a_dead_service_is_told_and_started_again(
    watched: Callable[..., Watched], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Service("daemon", SLEEPER), Service("webserver", SLEEPER)
    one = watched(first, second)
    killed = one.kill(first)
    one.supervisor.look()
    assert first.process is not None and first.process.pid != killed and first.process.poll() is None
    (alert,) = one.told
    assert (alert.kind, alert.where["service"], alert.where["process"]) == ("service_failure", "daemon", str(killed))
    assert alert.why == "killed by SIGKILL"
    assert "the daemon is dead (killed by SIGKILL); starting it again now" in capsys.readouterr().out


def test_what_dies_again_and_again_waits_longer_and_longer(watched: Callable[..., Watched]) -> None:
    service = Service("daemon", SLEEPER)
    one = watched(service)
    pauses = []
    for _ in range(9):
        one.kill(service)
        one.supervisor.look()
        pauses.append(service.due - one.now if service.process is None else 0.0)
        one.now = max(one.now, service.due) - 0.5
        one.supervisor.look()
        assert service.process is None or pauses[-1] == 0
        one.now += 0.5
        one.supervisor.look()
    assert pauses == [0, 2, 4, 8, 16, 32, 60, 60, 60] and len(one.told) == 9
    one.now += HEALTHY_SECONDS + 1
    one.kill(service)
    one.supervisor.look()
    assert service.process is not None  # it had proved itself: at once


def test_a_service_waits_for_those_before_it(watched: Callable[..., Watched], tmp_path: Path) -> None:
    server = CodeServer("code server", SLEEPER, tmp_path / "socket")
    daemon = Service("daemon", SLEEPER)
    one = watched(server, daemon)
    assert server.process is not None and daemon.process is None
    (tmp_path / "socket").touch()
    one.supervisor.look()
    assert daemon.process is not None


def test_a_code_server_without_its_child_is_dead(watched: Callable[..., Watched], tmp_path: Path) -> None:
    server = CodeServer("code server", PARENT, tmp_path / "socket")
    one = watched(server)
    assert server.process is not None
    before = server.process.pid
    until(lambda: psutil.Process(before).children())
    one.supervisor.look()
    psutil.Process(before).children()[0].kill()
    until(lambda: psutil.Process(before).children()[0].status() == psutil.STATUS_ZOMBIE)
    for _ in range(CHILDLESS_LOOKS - 1):
        one.supervisor.look()
    assert not one.told and server.process.pid == before
    one.supervisor.look()
    assert one.told[0].why == "its process with our code is gone"
    assert server.process.pid != before and not psutil.pid_exists(before)


def test_the_end_takes_everything_the_deaf_and_grandchildren_included(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft_assets.tools.services.GOODBYE_SECONDS", 0.5)
    parent, deaf = Service("parent", PARENT), Service("deaf", DEAF)
    one = watched(parent, deaf)
    assert parent.process is not None and deaf.process is not None
    until(lambda: psutil.Process(parent.process.pid).children())
    until(lambda: ignores(deaf.process.pid, signal.SIGTERM))
    mine = [psutil.Process(service.process.pid) for service in (parent, deaf)]
    family = [member for process in mine for member in (process, *process.children(recursive=True))]
    one.supervisor.stop()
    assert len(family) == 3 and not any(living(process) for process in family)


def test_services_die_with_a_supervisor_that_is_killed() -> None:
    """`kill -9`: nobody is left to end them but the kernel."""
    code = (
        "import sys, time\n"
        "from atft_assets.tools.services import Service\n"
        "service = Service('s', [sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "service.start(0.0)\nprint(service.process.pid, flush=True)\ntime.sleep(300)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert supervisor.stdout is not None
    service = psutil.Process(int(supervisor.stdout.readline()))
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    until(lambda: not living(service))


def test_an_interrupt_ends_the_watch(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service("daemon", SLEEPER)
    looked: list[float] = []

    def interrupted(seconds: float) -> None:
        looked.append(seconds)
        if len(looked) == 2:
            raise KeyboardInterrupt

    Supervisor([service], lambda alert: None, "welcome", sleep=interrupted).run()
    assert service.process is not None and service.process.returncode == -signal.SIGTERM
    assert capsys.readouterr().out.splitlines() == ["ui: starting the daemon …", "ui: welcome", "ui: ending …"]
