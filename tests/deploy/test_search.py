"""A search whose study lies in the platform's PostgreSQL: workers begin at once, on machines that share no disk."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.hpo.study import DATABASE, SCHEMA, OtherStudy, counted, open_study, platform_database
from tests.deploy.postgres import Cluster
from tests.patience import PATIENCE

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

WORKER = """
import sys
from pathlib import Path
from atft_assets.hpo.study import open_study
folder, seed, url = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
study = open_study(folder, "s", {"panel": "p"}, seed=seed, startup_trials=2, database=url)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
"""


def test_the_database_is_that_of_dagster_and_the_file_where_there_is_none(
    instance: dg.DagsterInstance, cluster: Cluster
) -> None:
    address = platform_database(instance)
    assert address is not None and str(cluster.port) in address
    with dg.instance_for_test() as files:
        assert platform_database(files) is None


def test_workers_that_begin_at_once_make_one_study(cluster: Cluster, tmp_path: Path) -> None:
    """Each has a folder of its own, as on another machine; Dagster's tables, and its version, stay as they are."""
    name = cluster.copy()
    url, version = cluster.url(name), cluster.execute("SELECT version_num FROM alembic_version", name)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / str(seed)), str(seed), url], stderr=subprocess.PIPE, text=True
        )
        for seed in range(3)
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, said
    study = open_study(tmp_path / "here", "s", {"panel": "p"}, seed=9, startup_trials=2, database=url)
    assert counted(study) == 9 and sorted(trial.number for trial in study.trials) == list(range(9))
    assert not any(tmp_path.rglob(DATABASE))
    assert cluster.execute("SELECT version_num FROM alembic_version", name) == version
    assert cluster.execute(f"SELECT count(*) FROM {SCHEMA}.trials", name) == [(9,)]
    with pytest.raises(OtherStudy, match="panel is q, there p"):
        open_study(tmp_path / "here", "s", {"panel": "q"}, seed=9, startup_trials=2, database=url)
