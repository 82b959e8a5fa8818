"""Fixtures of what deploy/ describes: a PostgreSQL, and Dagster on it."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.deploy.postgres import Cluster, made, storage
from tests.ports import free_port


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that nobody stops."""
    with made(free_port()) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def instance(cluster: Cluster) -> Iterator[dg.DagsterInstance]:
    """Dagster on a database of its own, by our storage class; one a module, as on SQLite."""
    with dg.instance_for_test(overrides={"storage": storage(cluster.url(cluster.copy()))}) as instance:
        yield instance
