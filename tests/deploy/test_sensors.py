"""The sensors and alerts of tests/operations, the same tests, with Dagster's history on PostgreSQL."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.deploy.postgres import Cluster, storage
from tests.operations.test_sensors import *  # noqa: F403 - every test, and its fixtures but the one below
from tests.operations.test_unrun_checks import (
    test_a_verdict_that_stands_again_is_not_told_again,
    test_the_last_verdict_is_shown_again,
    test_the_sensor_looks_at_the_failed_run,
    test_without_any_verdict_nothing_is_made_up,
)

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

__all__ = [
    "test_a_verdict_that_stands_again_is_not_told_again",
    "test_the_last_verdict_is_shown_again",
    "test_the_sensor_looks_at_the_failed_run",
    "test_without_any_verdict_nothing_is_made_up",
]


@pytest.fixture(scope="module")
def instance(cluster: Cluster) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides={"storage": storage(cluster.url(cluster.copy()))}) as instance:
        yield instance
