"""An upgrade: a history that an older Dagster wrote is migrated as docs/deploy.md says, and the next evening works.

The older Dagster is installed into an environment of its own from the package index; where that cannot be, nothing is
said of upgrades. The way back is the backup of before: Dagster's migrations know no other.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from tests.deploy.postgres import REPOSITORY, Cluster

pytestmark = [pytest.mark.deploy, pytest.mark.machine, pytest.mark.slow]

OLD = ("dagster==1.8.13", "dagster-postgres==0.24.13", "psycopg2-binary", "six", "setuptools<80")
MONTHS = ["2022-01", "2022-02"]
# What that version ran: two months of a table of ours, and a run that failed.
BEFORE = """
import sys
import dagster as dg

@dg.asset(partitions_def=dg.MonthlyPartitionsDefinition("2022-01", fmt="%Y-%m"))
def daily_quotes(context):
    if context.partition_key == "2022-02" and sys.argv[1:] == ["fail"]:
        raise ValueError("of before")
    return dg.MaterializeResult(metadata={"rows": 7})

with dg.DagsterInstance.get() as instance:
    for month in ("2022-01", "2022-02"):
        done = dg.materialize([daily_quotes], instance=instance, partition_key=month, raise_on_error=False)
        print(done.run_id, dg.__version__)
    sys.argv[1:] = ["fail"]
    dg.materialize([daily_quotes], instance=instance, partition_key="2022-02", raise_on_error=False)
"""
EVENING = "trading_calendar,listed_info,topix,daily_quotes"


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the Dagster of two years ago."""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *OLD],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"{OLD[0]} cannot be installed here: {done.stderr.strip()[-200:]}")
    return python


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home that nobody has used, and what names it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "JQUANTS_", "DAGSTER"))}
    named = {"DAGSTER_HOME": str(tmp_path / "home"), "ATFT_DATA": str(tmp_path / "data")}
    (tmp_path / "home").mkdir()
    if request.param == "PostgreSQL":
        cluster: Cluster = request.getfixturevalue("cluster")
        named["ATFT_PG_URL"] = cluster.url(cluster.empty())
    span = {"ATFT_START": "2022-01-04", "ATFT_END": "2022-02-28", "PYTHONWARNINGS": "ignore"}
    yield {**kept, **named, **span, "DAGSTER_DISABLE_TELEMETRY": "yes", "PYTHONPATH": str(REPOSITORY)}


def called(environ: dict[str, str], *words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], env=environ, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def lived(environ: dict[str, str], python: Path) -> list[str]:
    """Let the older version live in the home; ids of its good runs."""
    home = Path(environ["DAGSTER_HOME"])
    storage = "storage: {postgres: {postgres_url: {env: ATFT_PG_URL}}}\n" if "ATFT_PG_URL" in environ else ""
    (home / "dagster.yaml").write_text(f"{storage}telemetry: {{enabled: false}}\n")
    code = home.parent / "before.py"
    code.write_text(BEFORE)
    said = called({**environ, "PYTHONPATH": ""}, python, code).split()
    assert set(said[1::2]) == {OLD[0].partition("==")[2]}
    (home / "dagster.yaml").unlink()
    return said[::2]


def version(instance: dg.DagsterInstance) -> str:
    """Of the schema of runs: on SQLite that of events is brought up to date by whoever opens it, this one is not."""
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())


def opened(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    for name in ("DAGSTER_HOME", "ATFT_PG_URL"):
        if name in environ:
            monkeypatch.setenv(name, environ[name])
    return dg.DagsterInstance.get()


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """The schema's version of a home that this Dagster makes."""

    def found() -> str:
        with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("new"))) as instance:
            return version(instance)

    return found


@pytest.mark.timeout(1800)
def test_the_history_of_an_older_version_goes_on(
    environ: dict[str, str], old_python: Path, head: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = lived(environ, old_python)
    home = Path(environ["DAGSTER_HOME"])
    instance_file = "deploy/dagster.postgres.yaml" if "ATFT_PG_URL" in environ else "dagster.yaml"
    (home / "dagster.yaml").symlink_to(REPOSITORY / instance_file)
    with opened(environ, monkeypatch) as instance:
        old = version(instance)
    backup = home.parent / "backup"
    called(environ, sys.executable, "-m", "atft_assets.tools.backup", "save", backup)
    called({**environ, "ATFT_PYTHON": sys.executable}, REPOSITORY / "deploy" / "prepare.sh")
    with opened(environ, monkeypatch) as instance:
        assert version(instance) == head() != old
        records = instance.fetch_materializations(dg.AssetKey("daily_quotes"), limit=9).records
        assert [(record.run_id, record.partition_key) for record in records] == [*zip(ids, MONTHS, strict=True)][::-1]
        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert len(failed) == 1 and instance.all_logs(failed[0].run_id)
    called(
        {**environ, "DAGSTER_MODULE_NAME": "atft_assets.definitions"}, sys.executable, "-m", "dagster", "asset",
        "materialize", "--select", EVENING, "--partition", "2022-02", "-m", "atft_assets.definitions",
    )  # fmt: skip
    with opened(environ, monkeypatch) as instance:
        newest = instance.fetch_materializations(dg.AssetKey("daily_quotes"), limit=9).records
        assert len(newest) == 3 and newest[0].partition_key == "2022-02" and newest[0].run_id not in ids
        status = instance.get_run_by_id(newest[0].run_id)
        assert status is not None and status.status is dg.DagsterRunStatus.SUCCESS
