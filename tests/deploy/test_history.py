"""Corrections and retention of Dagster's history, the same tests as in tests/operations, on PostgreSQL.

Those that take longest are in `test_history_whole`.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import pytest

from tests.deploy.postgres import Cluster, storage
from tests.operations import test_run_history as on_sqlite
from tests.operations.test_corrections import (
    BY_MONTH,
    FIRST,
    LAST,
    RAW,
    WHOLE,
    Road,
    settings,
    test_a_corrected_month_is_carried_through_what_reads_it_and_nothing_else,
    test_a_request_is_made_once_and_not_again_after_a_restart_or_a_failure,
    test_unchanged_bytes_ask_for_nothing,
)

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

__all__ = [
    "test_a_corrected_month_is_carried_through_what_reads_it_and_nothing_else",
    "test_a_request_is_made_once_and_not_again_after_a_restart_or_a_failure",
    "test_unchanged_bytes_ask_for_nothing",
]


def opened(cluster: Cluster, database: str) -> AbstractContextManager[dg.DagsterInstance]:
    return dg.instance_for_test(overrides={"storage": storage(cluster.url(database))})


@pytest.fixture(scope="module")
def history(cluster: Cluster) -> Iterator[tuple[Path, str]]:
    """Twenty-eight months, built by one run over all of them: the data, and the database that tells of them."""
    with tempfile.TemporaryDirectory() as folder:
        data, database = Path(folder, "data"), cluster.copy()
        with opened(cluster, database) as instance:
            Road(instance, data, settings(data)).run([*RAW, *BY_MONTH, *WHOLE], FIRST, LAST)
        yield data, database


@pytest.fixture
def road(history: tuple[Path, str], cluster: Cluster) -> Iterator[Road]:
    """A copy of the history that a test may change."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        shutil.copytree(history[0], data)
        with opened(cluster, cluster.copy(history[1])) as instance:
            yield Road(instance, data, settings(data))


def test_retention_deletes_a_runs_rows_and_its_compute_log(cluster: Cluster) -> None:
    database = cluster.copy()
    with opened(cluster, database) as instance:
        ids = [dg.materialize([on_sqlite.one], instance=instance).run_id for _ in range(4)]
        assert all(Path(instance.storage_directory(), run_id).exists() for run_id in ids)
        assert sorted(on_sqlite.retire(instance)) == sorted(ids[:-1])
        assert {row[0] for row in cluster.execute("SELECT run_id FROM event_logs", database)} == {ids[-1]}
        assert [Path(instance.storage_directory(), run_id).exists() for run_id in ids] == [False, False, False, True]
        assert instance.fetch_materializations(on_sqlite.one.key, limit=5).records[0].run_id == ids[-1]
