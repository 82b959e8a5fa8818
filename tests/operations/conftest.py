"""Fixtures of this room's tests."""

from collections.abc import Iterator

import dagster as dg
import pytest


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """SQLite on disk, as `dagster` uses it by default; one a module, for it takes seconds to create."""
    with dg.instance_for_test() as instance:
        yield instance
