"""The sensors and alerts of tests/operations, the same tests, with Dagster's history on PostgreSQL."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.deploy.postgres import Cluster, storage
from tests.operations.test_sensors import *  # noqa: F403 - every test, and its fixtures but the one below

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


@pytest.fixture(scope="module")
def instance(cluster: Cluster) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides={"storage": storage(cluster.url(cluster.copy()))}) as instance:
        yield instance
