"""A PostgreSQL of the tests' own, made and driven by deploy/postgres.sh as a person would."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "deploy" / "postgres.sh"
TEMPLATE = "with_tables"
PASSWORD = "not-a-secret-7Xq"  # pragma: allowlist secret


def require_postgres() -> None:
    """Skip where the server's programs, or the extra, are missing."""
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("no PostgreSQL here: apt-get install --no-install-recommends postgresql-15")
    pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")


def storage(url: Any) -> dict[str, Any]:
    """`storage:` of an instance file with our class; `url` may be what names an environment variable."""
    return {
        "custom": {
            "module": "atft_assets.postgres",
            "class": "PatientPostgresStorage",
            "config": {"postgres_url": url},
        }
    }


class Cluster:
    """A cluster with a socket, and with TCP for those who give PASSWORD."""

    def __init__(self, folder: Path, port: int, environ: Mapping[str, str]):
        """
        Args:
            environ: what the server is given beside our own environment.
        """
        self.folder, self.port, self.environ = folder, port, environ
        self.socket = folder / "pg" / "socket"
        self._numbers = count(1)

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """deploy/postgres.sh with one of its words."""
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "PG"))},
            "ATFT_PG_CLUSTER": str(self.folder / "pg"),
            "ATFT_PG_PORT": str(self.port),
            "ATFT_PG_LISTEN": "127.0.0.1",
            "ATFT_PG_PASSWORD_FILE": str(self.folder / "password"),
            **self.environ,
        }
        done = subprocess.run([SCRIPT, command], env=environ, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """A statement of SQL as the cluster's owner; its rows."""
        import psycopg2

        connection = psycopg2.connect(host=str(self.socket), port=self.port, dbname=database)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def url(self, database: str) -> str:
        """Address of a database over the socket."""
        return self.run("url").stdout.strip().replace("/atft?", f"/{database}?")

    def empty(self) -> str:
        """Name of a new database without tables."""
        name = f"d{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def copy(self, database: str = "") -> str:
        """Name of a new database like another, which nobody may be connected to; default: with Dagster's tables."""
        if not database and not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{TEMPLATE}'"):
            from atft_assets.postgres import PatientPostgresStorage

            self.execute(f"CREATE DATABASE {TEMPLATE}")
            PatientPostgresStorage(self.url(TEMPLATE)).event_log_storage.dispose()
        name = f"d{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {database or TEMPLATE}")
        # A copied sequence believes that its next thirty numbers are in the log, where they are only for the original:
        # a crash before the next checkpoint would count from the copy again.
        self.execute("CHECKPOINT")
        return name


@contextmanager
def made(port: int, environ: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A running cluster, gone afterwards."""
    require_postgres()
    # not pytest's folder: the server runs as another user when root tests, and a socket's path is short
    with tempfile.TemporaryDirectory(prefix="atft-pg-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "password").write_text(PASSWORD)
        cluster = Cluster(folder, port, environ or {})
        cluster.run("init")
        try:
            cluster.run("start")
            yield cluster
        finally:
            cluster.run("stop")
            shutil.rmtree(folder / "pg")
