"""What every room's tests rely on."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.slow import MINUTES, SLOW, listed

# A worker a core, and a thread a worker: two threads of OpenMP in each of two workers on two cores wait for each other
# at every one of a step's thousand small loops, spinning, and a training of seven seconds takes minutes. Read when
# torch is first loaded, in this process and in those that tests start; the trainer sets its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell starts background jobs with SIGINT ignored, and all that they start inherit it: the processes that tests
# interrupt would never notice. A handler of our own is not inherited; they start with the default again.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROAD = "tests/e2e/"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a tenth of a test's time is waiting for processes that it started."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays with one worker, and so do all that walk the road. xdist's groups would say it, but they are written
    into names that pytest no longer reads since 9.2, so that each worker walked the road.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return ROAD if file.startswith(ROAD) else file

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Our commands keep what they write to themselves (umask 077); one that a test calls must not for the next test."""
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what tests/slow.py lists; the road first, then what is long."""
    long: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        file = test.partition("::")[0]
        if listed(test, MINUTES):
            item.add_marker(pytest.mark.machine)
        if listed(test, SLOW) or listed(test, MINUTES):
            item.add_marker(pytest.mark.slow)
            long.add(file)
    items.sort(key=lambda item: (not item.nodeid.startswith(ROAD), item.nodeid.partition("::")[0] not in long))
