"""The sensor `unrun_checks`, the same tests as in tests/operations, with Dagster's history on PostgreSQL."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.deploy.postgres import Cluster, storage
from tests.operations.test_unrun_checks import *  # noqa: F403 - every test, and its fixtures but the one below
from tests.operations.test_unrun_checks import state

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


@pytest.fixture
def instance(cluster: Cluster) -> Iterator[dg.DagsterInstance]:
    """One a test, as in memory."""
    state.update(broken=False, odd=False)
    with dg.instance_for_test(overrides={"storage": storage(cluster.url(cluster.copy()))}) as instance:
        yield instance
