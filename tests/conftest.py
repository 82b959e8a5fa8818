"""What every room's tests rely on."""

import signal

import pytest

from tests.slow import SLOW

# A shell starts background jobs with SIGINT ignored, and all that they start inherit it: the processes that tests
# interrupt would never notice. A handler of our own is not inherited; they start with the default again.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROAD = "tests/e2e/"


@pytest.hookimpl(tryfirst=True)  # before xdist writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what tests/slow.py lists; deal files to workers, those that walk the road together, the long ones first."""
    long: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        file = test.partition("::")[0]
        if any(test == entry or test.startswith(f"{entry}::") for entry in SLOW):
            item.add_marker(pytest.mark.slow)
            long.add(file)
        item.add_marker(pytest.mark.xdist_group(ROAD if file.startswith(ROAD) else file))
    items.sort(key=lambda item: (not item.nodeid.startswith(ROAD), item.nodeid.partition("::")[0] not in long))
