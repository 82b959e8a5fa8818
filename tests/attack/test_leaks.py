"""Secrets that were given are in nothing that a run leaves: history, dump, logs, data root, a trainer's environment.

And the detector finds them where they were planted, above all where Dagster puts a key that is given as a plain value.
"""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atft_assets.build import build_defs
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.operations.alerts import LOG_NAME
from atft_assets.sandbox import MarketConfig, SandboxServer, serve
from atft_assets.settings import Plan, Settings
from tests.attack.lab import END, START
from tests.attack.leaks import leaks, packed, told
from tests.deploy.postgres import PASSWORD
from tests.ports import free_port
from tests.training.jobs_server import jobs_server
from tests.training.ordering import fan_out, requests_of
from tests.training.small_market import World
from tests.training.test_ray_launcher import driver, launcher

REPOSITORY = Path(__file__).parents[2]
KEY, TOKEN, HOOK, WORD, CLUSTER = (
    "k3y+of/the=attack",
    "t0ken+in/alerts",
    "h00kOfTheAlerts",
    "buck3t+word",
    "r4y+token/xyz",
)
SECRETS = {"key": KEY, "alert's password": TOKEN, "alert's hook": HOOK, "password of PostgreSQL": PASSWORD,
           "bucket's key": WORD, "token of Ray": CLUSTER}  # fmt: skip


# ── the detector ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", packed(""))
def test_it_finds_what_was_planted(tmp_path: Path, way: str) -> None:
    """In a file, and in rows so long that the file holds them in pieces."""
    data = packed(f'{{"api_key": "{KEY}"}}')[way]
    assert told(data, SECRETS) == {"key"}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(random.Random(0).randbytes(5_000) + data)
    with sqlite3.connect(tmp_path / "history.db") as database:
        database.execute("CREATE TABLE snapshots (id INTEGER, body BLOB)")
        database.execute("INSERT INTO snapshots VALUES (1, ?)", (b"\1" * 3_993 + data + b"\2" * 90_000,))
    database.close()
    assert {"key: deep/file", "key: history.db, snapshots.body"} <= set(leaks(tmp_path, SECRETS))


def test_it_reads_tables(tmp_path: Path) -> None:
    pl.DataFrame({"note": ["x", f"asked with {KEY}"]}).write_parquet(tmp_path / "table.parquet")
    assert "key: table.parquet, its rows" in leaks(tmp_path, SECRETS)


def test_it_finds_nothing_in_noise(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}").write_bytes(random.Random(number).randbytes(100_000))
    assert leaks(tmp_path, SECRETS) == []


# ── Dagster's snapshots ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with serve(MarketConfig(n_names=40, start=START, end=END, seed=5), page_rows=30, api_key=KEY) as server:
        yield server


@pytest.mark.parametrize(("plain", "found"), [(True, ["key"]), (False, [])])
def test_a_key_as_a_plain_value_stands_in_the_snapshot_and_ours_does_not(
    sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool, found: list[str]
) -> None:
    """Packed by zlib, so that searching the file's bytes finds nothing."""
    monkeypatch.setenv("JQUANTS_API_KEY", KEY)
    settings = Settings(
        base_url=sandbox.base_url,
        plan=Plan.STANDARD,
        data_root=str(tmp_path / "data"),
        start=START,
        end=END,
        has_key=True,
    )
    given = {"jquants": JQuantsResource(api_key=KEY, base_url=sandbox.base_url, plan="standard")} if plain else {}
    home = tmp_path / "home"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as instance:
        job = build_defs(settings, resource_overrides=given).resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("trading_calendar")]).success
        places = leaks(tmp_path, SECRETS)
    assert sorted({place.partition(":")[0] for place in places}) == found, places
    if plain:
        assert all("snapshot" in place for place in places), places
        assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*.db*"))


# ── what a user runs ─────────────────────────────────────────────────────────────────────────────────────────────


def environment(world: World, home: Path, sandbox: SandboxServer, **more: str) -> dict[str, str]:
    """As a person exports it, every secret of SECRETS among it."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("ATFT_", "JQUANTS_", "DAGSTER", "PG", "AWS_"))}
    return {
        **clean, "DAGSTER_HOME": str(home), "ATFT_DATA": str(world.root), "DAGSTER_DISABLE_TELEMETRY": "yes",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "training")]),
        "JQUANTS_API_KEY": KEY, "JQUANTS_BASE_URL": sandbox.base_url, "JQUANTS_PLAN": "standard",
        "ATFT_START": f"{START}", "ATFT_END": f"{END}",
        "ATFT_ALERT_URLS": f"json://robot:{TOKEN.replace('/', '%2F').replace('+', '%2B')}@127.0.0.1:9/{HOOK}",
        "PGPASSWORD": PASSWORD, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": WORD,
        "RAY_AUTH_TOKEN": CLUSTER, **more,
    }  # fmt: skip


def user_runs(environ: dict[str, str]) -> None:
    """A table from the service, a training, and an alert that cannot be delivered, each by its command."""
    materialize = [sys.executable, "-W", "ignore", "-m", "dagster", "asset", "materialize"]
    for command, code in (
        ([*materialize, "-m", "atft_assets.definitions", "--select", "trading_calendar"], 0),
        ([*materialize, "-m", "worker_defs", "--select", "train_phase0"], 0),
        ([sys.executable, "-W", "ignore", "-m", "atft_assets.tools.test_alert"], 1),
    ):
        done = subprocess.run(command, env=environ, cwd=environ["DAGSTER_HOME"], capture_output=True, text=True)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        assert told((done.stdout + done.stderr).encode(), SECRETS) == set()


def prove_the_runs_left_something(world: World, home: Path) -> None:
    """Else there is nothing in which to find a secret."""
    trained = list(world.runs(0).glob("*/environ"))
    assert trained and "PGPASSWORD" not in trained[0].read_text()
    assert (world.root / LOG_NAME).exists() and list((world.root / "raw" / "trading_calendar").glob("*.parquet"))
    assert [path for path in home.rglob("*") if path.suffix in (".err", ".out") and path.stat().st_size]


def test_secrets_are_in_nothing_that_runs_leave_on_sqlite(
    world: World,
    sandbox: SandboxServer,
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
    user_runs(environment(world, home, sandbox))
    prove_the_runs_left_something(world, home)
    assert list(home.rglob("runs.db"))
    assert leaks(tmp_path, SECRETS) == []


@pytest.mark.deploy
def test_secrets_are_in_nothing_that_runs_leave_on_postgresql(
    world: World,
    sandbox: SandboxServer,
    tmp_path: Path,
) -> None:
    """Over TCP, with the password that libpq is given; and its dump, into which the same is planted afterwards."""
    from tests.deploy.postgres import made

    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(REPOSITORY / "deploy" / "dagster.postgres.yaml")
    with made(free_port()) as cluster:
        database = cluster.empty()
        role = cluster.execute("SELECT current_user")[0][0]
        url = f"postgresql+psycopg2://{role}@127.0.0.1:{cluster.port}/{database}"
        user_runs(environment(world, home, sandbox, ATFT_PG_URL=url))
        prove_the_runs_left_something(world, home)
        assert leaks(tmp_path, SECRETS) == []
        runs = cluster.execute("SELECT count(*) FROM runs", database)[0][0]
        assert runs == 2 and told(dump(cluster.socket, cluster.port, database), SECRETS) == set()
        cluster.execute(
            "CREATE TABLE planted AS SELECT decode('" + packed(f"a {KEY}")["zlib"].hex() + "', 'hex') AS body", database
        )
        assert told(dump(cluster.socket, cluster.port, database), SECRETS) == {"key"}


def dump(socket: Path, port: int, database: str) -> bytes:
    program = max(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    command = [str(program), "-h", str(socket), "-p", str(port), "-d", database]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_the_clusters_token_is_in_nothing_that_a_job_leaves(world: World, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(CLUSTER)
    home = tmp_path / "home"
    home.mkdir()
    with jobs_server(CLUSTER) as head, dg.instance_for_test(temp_dir=str(home)) as instance:
        driver(head, None, status="FAILED", message="the driver was lost")
        order = fan_out(launcher(head, str(tmp_path / "token")), requests_of(world, 1), instance)
        assert order.ends[0] is not None and head.jobs
        assert told(repr(head.jobs).encode(), SECRETS) == set()
        assert leaks(tmp_path, SECRETS) == ["token of Ray: token"]
