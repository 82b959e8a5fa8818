"""The storage class on a real PostgreSQL: connections that are kept, outages that are outlasted, words that help."""

import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from atft_assets.host import HOST_TAG, this_host
from atft_assets.settings import SettingsError
from tests.deploy.postgres import PASSWORD, REPOSITORY, Cluster, made, storage
from tests.patience import PATIENCE, until
from tests.ports import free_port

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

psycopg2 = pytest.importorskip("psycopg2", reason="the extra `postgres` is not installed")
postgres = pytest.importorskip("atft_assets.postgres", reason="the extra `postgres` is not installed")

# A run that observes something again and again until a file lies there.
LOOP = """
import sys, time
from pathlib import Path
import dagster as dg

@dg.asset
def watched(context):
    number = 0
    while not Path(sys.argv[1]).exists():
        context.log_event(dg.AssetObservation("epoch", metadata={"number": number}))
        number += 1
        time.sleep(0.05)

with dg.DagsterInstance.get() as instance:
    dg.materialize([watched], instance=instance, tags={"name": sys.argv[2]})
"""


def shipped(url: str) -> dict[str, Any]:
    return {"postgres": {"postgres_url": url}}


class Worker:
    """A run in a process of its own."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any], patience: str):
        self.name, self.home, self.log = name, folder / name, folder / f"{name}.txt"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(str({"storage": config, "telemetry": {"enabled": False}}))
        self.enough = folder / "enough"
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(self.enough), name],
            env={**os.environ, "DAGSTER_HOME": str(self.home), "ATFT_PG_PATIENCE": patience, "ATFT_HOST": name},
            cwd=REPOSITORY,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )


def run_of(instance: dg.DagsterInstance, name: str) -> dg.DagsterRun | None:
    return next(iter(instance.get_runs(dg.RunsFilter(tags={"name": name}))), None)


def epochs(instance: dg.DagsterInstance, name: str) -> list[int]:
    """What the run of that name has observed, in order."""
    run = run_of(instance, name)
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION) if run else []
    seen = [entry.dagster_event.asset_observation_data.asset_observation.metadata for entry in logs]  # type: ignore[union-attr]
    return [int(str(metadata["number"].value)) for metadata in seen]


def under_way(instance: dg.DagsterInstance, name: str) -> bool:
    return len(epochs(instance, name)) > 3


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL that tests stop and start."""
    with made(free_port()) as cluster:
        yield cluster


def test_an_outage_in_mid_run_is_outlasted_where_the_shipped_class_gives_up(own: Cluster, tmp_path: Path) -> None:
    """The server stays away until the run on dagster-postgres' own class is dead, which takes some eleven seconds."""
    url = own.url(own.copy())
    workers = [
        Worker(tmp_path, "patient", storage(url), "900"),
        Worker(tmp_path, "shipped", shipped(url), "900"),
    ]
    patient, other = workers
    with dg.instance_for_test(overrides={"storage": storage(url)}) as instance:
        try:
            for one in workers:
                until(partial(under_way, instance, one.name), one.name, process=one.process, log=one.log)
            own.run("stop")
            until(lambda: other.process.poll() is not None, "the end of the run on the shipped class", log=other.log)
            assert patient.process.poll() is None
            own.run("start")
            before = len(epochs(instance, "patient"))
            until(lambda: len(epochs(instance, "patient")) > before, "a further epoch", log=patient.log)
            patient.enough.touch()
            assert patient.process.wait(PATIENCE) == 0, patient.log.read_text()[-3000:]
            ended = {worker.name: run_of(instance, worker.name) for worker in workers}
        finally:
            own.run("start")
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
        assert ended["patient"] is not None and ended["patient"].status is dg.DagsterRunStatus.SUCCESS
        assert ended["shipped"] is not None and ended["shipped"].status is not dg.DagsterRunStatus.SUCCESS
        assert ended["patient"].tags[HOST_TAG] == "patient"
        assert f"waiting for it up to {900} s" in patient.log.read_text()
        numbers = epochs(instance, "patient")
        # no epoch is lost; one that was stored in the very moment may stand there twice
        assert sorted(set(numbers)) == list(range(max(numbers) + 1)) and len(numbers) <= max(numbers) + 2


def test_without_patience_it_gives_up_and_the_first_question_after_a_restart_is_answered(own: Cluster) -> None:
    with dg.instance_for_test(overrides={"storage": storage(own.url(own.copy()))}) as instance:
        instance.optimize_for_webserver(15_000, 3_600, 20)
        assert instance.get_runs() == []
        own.run("stop")
        with pytest.raises(Exception, match="too many retries"):
            instance.get_runs()
        own.run("start")
        assert instance.get_runs() == []


def test_the_first_request_after_a_restart_fails_with_the_shipped_class(own: Cluster) -> None:
    """Why `optimize_for_webserver` is replaced; if this fails, dagster-postgres has mended it."""
    from sqlalchemy.exc import OperationalError

    with dg.instance_for_test(overrides={"storage": shipped(own.url(own.copy()))}) as instance:
        instance.optimize_for_webserver(15_000, 3_600, 20)
        assert instance.get_runs() == []
        own.run("stop")
        own.run("start")
        with pytest.raises(OperationalError):
            instance.get_runs()


def connections(cluster: Cluster, database: str) -> set[int]:
    return {row[0] for row in cluster.execute(f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}'")}


def test_connections_are_kept_and_closed_in_the_end(cluster: Cluster) -> None:
    database = cluster.copy()
    with dg.instance_for_test(overrides={"storage": storage(cluster.url(database))}) as instance:
        instance.report_runless_asset_event(dg.AssetObservation("a"))
        before = connections(cluster, database)
        for _ in range(20):
            instance.report_runless_asset_event(dg.AssetObservation("a"))
        assert before and connections(cluster, database) == before  # Dagster's own opens forty, and keeps none
        instance.optimize_for_webserver(12_345, 3_600, 20)
        instance.get_runs()
        served = connections(cluster, database)
        assert served and not served & before  # the engine of before left none open
        with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "12345ms"
    until(lambda: not connections(cluster, database), "the end of the last connection")


def test_a_run_carries_the_host_that_works_on_it(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.asset
    def one() -> None: ...

    assert this_host() == os.uname().nodename
    monkeypatch.setenv("ATFT_HOST", "host-of-this-test")
    run = instance.get_run_by_id(dg.materialize([one], instance=instance).run_id)
    assert run is not None and run.tags[HOST_TAG] == "host-of-this-test"


def test_over_tcp_the_password_comes_from_a_file_and_stands_in_no_message(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, role = cluster.copy(), cluster.execute("SELECT current_user")[0][0]
    address = f"{role}@127.0.0.1:{cluster.port}/{database}"
    passes = tmp_path / "pgpass"
    passes.write_text(f"127.0.0.1:{cluster.port}:{database}:{role}:{PASSWORD}\n")
    passes.chmod(0o600)
    with pytest.raises(postgres.NoDatabase, match="no password supplied"):
        postgres.PatientPostgresStorage(f"postgresql://{address}")
    monkeypatch.setenv("PGPASSFILE", str(passes))
    found = postgres.PatientPostgresStorage(f"postgresql://{address}")  # the driver is put in
    assert found.postgres_url.startswith("postgresql+psycopg2://") and found.run_storage.get_runs() == []
    found.event_log_storage.dispose()
    wrong = f"{role}:wrong-{PASSWORD}@127.0.0.1:{cluster.port}/{database}"
    with pytest.raises(postgres.NoDatabase, match="authentication failed") as caught:
        postgres.PatientPostgresStorage(f"postgresql+psycopg2://{wrong}")
    assert PASSWORD not in str(caught.value) and caught.value.__cause__ is None


def test_a_server_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "FIRST_SECONDS", 0.0)
    with pytest.raises(postgres.NoDatabase, match=r"Connection refused.*Is it running, and is ATFT_PG_URL its address"):
        postgres.PatientPostgresStorage(f"postgresql://nobody:{PASSWORD}@127.0.0.1:{free_port()}/x")


@pytest.mark.parametrize("url", ["", "sqlite:///x", f"host=db password={PASSWORD}"])
def test_an_address_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="ATFT_PG_URL is no address of a PostgreSQL") as caught:
        postgres.address(url)
    assert PASSWORD not in str(caught.value)


def test_patience_is_a_number_of_seconds() -> None:
    assert [postgres.patience_of({"ATFT_PG_PATIENCE": text}) for text in ("", " 90 ", "0.5")] == [0, 90, 0.5]
    for text in ("long", "-1", "inf", "nan"):
        with pytest.raises(SettingsError, match="ATFT_PG_PATIENCE is"):
            postgres.patience_of({"ATFT_PG_PATIENCE": text})


class Driver(PGDialect_psycopg2):
    """A dialect whose connections are given: an error is raised, anything else returned."""

    def __init__(self, answers: list[Any]):
        super().__init__()
        self.answers = iter(answers)

    @property
    def loaded_dbapi(self) -> Any:
        return psycopg2

    def connect(self, *_: Any, **__: Any) -> Any:
        if isinstance(answer := next(self.answers), Exception):
            raise answer
        return answer


def test_patience_counts_from_the_first_failure_and_begins_anew_after_a_success() -> None:
    """Dagster asks six times for a connection; together they take no longer than one."""
    now = [0.0]
    refused = psycopg2.OperationalError("Connection refused")
    driver = Driver([*[refused] * 12, "connection", *[refused] * 99])
    patience = postgres.Patience(10.0, lambda: now[0], lambda seconds: now.__setitem__(0, now[0] + seconds))
    for _ in range(2):
        with pytest.raises(psycopg2.OperationalError):
            patience.connect(driver, None, [], {})
        assert now[0] == 10.0
    assert patience.connect(driver, None, [], {}) == "connection" and patience.since is None
    with pytest.raises(psycopg2.OperationalError):
        patience.connect(driver, None, [], {})
    assert now[0] == 20.0


def test_what_waiting_cannot_mend_is_not_waited_for() -> None:
    for said in ("password authentication failed for user", 'database "x" does not exist', "no pg_hba.conf entry for"):
        with pytest.raises(psycopg2.OperationalError):
            postgres.Patience(900.0, sleep=pytest.fail).connect(Driver([psycopg2.OperationalError(said)]), None, [], {})


def test_an_interrupt_ends_the_wait_and_what_is_said_after_it_is_not_waited_for() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    refused = psycopg2.OperationalError("Connection refused")
    driver = Driver([refused, refused, "connection", refused])
    patience = postgres.Patience(900.0, sleep=interrupted)
    with pytest.raises(KeyboardInterrupt):
        patience.connect(driver, None, [], {})
    with pytest.raises(psycopg2.OperationalError):  # the event that tells of the end
        patience.connect(driver, None, [], {})
    assert patience.connect(driver, None, [], {}) == "connection"
    with pytest.raises(KeyboardInterrupt):  # it waits again: the server was there meanwhile
        patience.connect(driver, None, [], {})


def test_a_write_under_which_the_server_went_down_is_done_again() -> None:
    from sqlalchemy.exc import OperationalError

    def write(lost: list[bool]) -> str:
        if lost:
            raise OperationalError("INSERT", {}, Exception("ended"), connection_invalidated=lost.pop())
        return "written"

    assert postgres.Patience(900.0).again(partial(write, [True, True])) == "written"
    for seconds, lost in ((900.0, [False]), (0.0, [True])):
        with pytest.raises(OperationalError):
            postgres.Patience(seconds).again(partial(write, lost))


def test_the_private_names_that_are_replaced_are_those_of_the_installed_version() -> None:
    """`_engine` of the three parts, and the attributes in which the whole holds them; nothing else is private."""
    import dagster_postgres
    from dagster_postgres.event_log import PostgresEventLogStorage
    from dagster_postgres.run_storage import PostgresRunStorage
    from dagster_postgres.schedule_storage import PostgresScheduleStorage

    pinned = re.search(r"^dagster-postgres==(.*)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and dagster_postgres.__version__ == pinned[1], "read the storage again, then move this pin"
    whole = inspect.getsource(dagster_postgres.DagsterPostgresStorage)
    for attribute, part in (
        ("_run_storage", PostgresRunStorage),
        ("_event_log_storage", PostgresEventLogStorage),
        ("_schedule_storage", PostgresScheduleStorage),
    ):
        assert re.search(rf"self\.{attribute} = {part.__name__}\(", whole)
        source = inspect.getsource(part)
        engines = set(re.findall(r"self\.(_\w*engine\w*)", source)) - {"_get_engine"}
        assert engines == {"_engine"}, f"{part.__name__} holds its engine elsewhere too"
        methods = dict(re.findall(r"\n    def (\w+)\((.*?)(?=\n    (?:def|@)|\Z)", source, re.DOTALL))
        made_in = {name for name, body in methods.items() if "self._engine = " in body}
        assert made_in == {"__init__", "optimize_for_webserver"}


def test_without_the_extra_the_sentence_names_it(tmp_path: Path) -> None:
    (tmp_path / "dagster_postgres.py").write_text("raise ImportError('not installed')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import atft_assets.postgres"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "pip install -c constraints.txt -e '.[postgres]'" in done.stderr


def test_loading_it_brings_neither_polars_nor_torch() -> None:
    """Webserver and daemon load it; the rooms would cost each of them 114 MB."""
    code = textwrap.dedent("""
        import sys, atft_assets.postgres
        sys.exit(bool({"polars", "torch", "pandera"} & set(sys.modules)))
    """)
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
