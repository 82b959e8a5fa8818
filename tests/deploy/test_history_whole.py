"""The rest of the tests of tests/operations about corrections and retention, on PostgreSQL; minutes."""

from pathlib import Path

import pytest

from tests.deploy.postgres import Cluster
from tests.deploy.test_history import history, opened, road
from tests.operations import test_run_history as on_sqlite
from tests.operations.test_corrections import (
    test_a_tick_during_a_refresh_waits_for_it,
    test_corrections_far_apart_are_runs_of_their_own_and_whole_tables_are_built_once,
    test_labels_alone_follow,
)

pytestmark = [pytest.mark.deploy, pytest.mark.machine, pytest.mark.slow]

__all__ = [
    "history",
    "road",
    "test_a_tick_during_a_refresh_waits_for_it",
    "test_corrections_far_apart_are_runs_of_their_own_and_whole_tables_are_built_once",
    "test_labels_alone_follow",
]


def test_every_answer_is_the_same_after_retention(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_sqlite, "opened", lambda *_: opened(cluster, cluster.copy()))
    on_sqlite.test_every_answer_is_the_same_afterwards(tmp_path, "PostgreSQL", 4)
