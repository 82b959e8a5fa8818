"""Child processes that are watched: what dies is told, and started again after a growing pause.

They die with their parent (Linux), stand in sessions of their own, so that Ctrl-C reaches them through the supervisor
alone, and are ended together.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from atft_assets.operations.alerts import Alert

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)

PARENT = "ATFT_UI_PROCESS"  # in the environment of a service: the process that watches it; the reaper asks for it

FOLDER = "atft-ui-"  # begins the name of the UI's folder; the process follows, then something random

LOOK_SECONDS = 1.0
HEALTHY_SECONDS = 300.0  # after that long a service has proved itself, and its next death is a first one
LONGEST_PAUSE = 60.0
GOODBYE_SECONDS = 12.0
CHILDLESS_LOOKS = 3
GLANCE_SECONDS = 0.05


def die_with_parent() -> None:
    """In a child before it begins: let the kernel ask it to end when its parent dies."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Service:
    """One child process.

    Args:
        answers: whether it can be asked; the next service starts after that.

    Attributes:
        deaths: how often it died without having been healthy in between.
        due: when it may be started (seconds of the monotonic clock).
    """

    def __init__(self, name: str, command: Sequence[str], answers: Callable[[], bool] = lambda: True):
        self.name = name
        self.command = list(command)
        self.ready = answers
        self.process: subprocess.Popen[bytes] | None = None
        self.started = self.due = 0.0
        self.deaths = 0

    def start(self, now: float) -> None:
        """Start it; `now` in seconds of the monotonic clock."""
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # the supervisor has one thread: safe
        )
        self.started = now

    def death(self) -> str:
        """Why it does not serve any more; empty while it does."""
        if self.process is None or (code := self.process.poll()) is None:
            return ""
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended by itself with exit code {code}"

    def bury(self, now: float) -> float:
        """Make sure that it is gone; returns the seconds until it may start again."""
        if self.process is not None and self.process.poll() is None:
            end([psutil.Process(self.process.pid)], GOODBYE_SECONDS / 2)
            self.process.wait()
        self.process = None
        self.deaths = 1 if now - self.started > HEALTHY_SECONDS else self.deaths + 1
        pause = 0.0 if self.deaths == 1 else min(2.0**self.deaths / 2, LONGEST_PAUSE)
        self.due = now + pause
        return pause


class CodeServer(Service):
    """Dagster's code server: a process that answers, and a child of it that holds the code.

    Dagster starts the child anew for *Reload*, but does not notice that it was killed.
    """

    def __init__(self, name: str, command: Sequence[str], socket: Path):
        super().__init__(name, command, socket.exists)  # opened when the code is loaded, also if loading failed
        self.socket = socket
        self.had_child = False
        self.childless = 0

    def start(self, now: float) -> None:
        """Start it, on a fresh socket."""
        self.socket.unlink(missing_ok=True)
        self.had_child, self.childless = False, 0
        super().start(now)

    def death(self) -> str:
        """As for any service, or the child that holds the code is gone."""
        why = super().death()
        if why or self.process is None:
            return why
        if any(living(child) for child in children(self.process.pid)):
            self.had_child, self.childless = True, 0
        elif self.had_child:
            self.childless += 1
        return "its process with our code is gone" if self.childless >= CHILDLESS_LOOKS else ""


class Supervisor:
    """Starts services in their order, keeps them alive, and ends them.

    Args:
        services: each starts when those before it are ready.
        tell: sends an alert; called for every death.
        welcome: said once, when all were started.
        clock: seconds, monotonic.
        sleep: waits that many seconds; a KeyboardInterrupt in it ends everything.
    """

    def __init__(
        self,
        services: Sequence[Service],
        tell: Callable[[Alert], object],
        welcome: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.services, self.tell, self.welcome = list(services), tell, welcome
        self.clock, self.sleep = clock, sleep

    def run(self) -> None:
        """Watch until a KeyboardInterrupt."""
        welcomed = False
        say("starting the " + ", the ".join(service.name for service in self.services) + " …")
        try:
            while True:
                self.look()
                if not welcomed and all(service.process and service.ready() for service in self.services):
                    say(self.welcome)
                    welcomed = True
                self.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            say("ending …")
        finally:
            self.stop()

    def look(self) -> None:
        """One look at each service: what died is told and put down for another start; what is due is started."""
        for service in self.services:
            if why := service.death():
                self.mourn(service, why)
            if service.process is None and self.clock() >= service.due:
                service.start(self.clock())
            if not service.ready():
                return

    def mourn(self, service: Service, why: str) -> None:
        """Tell of a death, after the service was started again where that needs no pause."""
        process = service.process.pid if service.process else "none"
        pause = service.bury(self.clock())
        say(f"the {service.name} is dead ({why}); starting it again " + (f"in {pause:.0f} s" if pause else "now"))
        if not pause:
            service.start(self.clock())
        self.tell(
            Alert(
                kind="service_failure",
                fingerprint=f"service_failure/{service.name}",
                what=f"the {service.name} of the UI died",
                where={"service": service.name, "process": str(process)},
                why=why,
                todo="nothing, if it happened once: it was started again, and runs under way go on. If it recurs, read "
                "what `make ui` printed before it, then: make doctor",
            )
        )

    def stop(self) -> None:
        """End every service and what they started, in seconds."""
        with uninterrupted():
            mine = [service.process for service in self.services if service.process is not None]
            family = [one for process in mine for one in [*children(process.pid, recursive=True), *itself(process.pid)]]
            end(family, GOODBYE_SECONDS)
            for process in mine:
                process.wait()


def end(processes: Sequence[psutil.Process], patience: float) -> None:
    """Ask processes to end, and kill those that have not after `patience` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            send(process, number)
        latest = time.monotonic() + patience
        while any(living(process) for process in processes):
            if time.monotonic() > latest:
                break
            time.sleep(GLANCE_SECONDS)
        else:
            return


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process unless it is gone; psutil knows when its id was given away again."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def children(pid: int, recursive: bool = False) -> list[psutil.Process]:
    """Children of a process; none when it is gone."""
    return [child for one in itself(pid) for child in one.children(recursive=recursive)]


def itself(pid: int) -> list[psutil.Process]:
    """The process with that id, if there is one."""
    try:
        return [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []


def living(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended and was not fetched by its parent yet, or never will be, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no second Ctrl-C leave half of the services behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def say(sentence: str) -> None:
    """A line on the terminal, if there still is one."""
    try:
        print(f"ui: {sentence}", flush=True)
    except OSError:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
