"""Dagster's storage on PostgreSQL, for runs that last hours: `storage: custom` of deploy/dagster.postgres.yaml.

The storage of dagster-postgres opens a connection or two for every event, and gives a server that is away eleven
seconds: after that a run fails, or stays STARTED for ever. This one

* keeps its connections, and asks each whether it still lives before it is used;
* waits for the server as long as ATFT_PG_PATIENCE says. That is exported to the code server alone, whose run workers
  inherit it: a webserver that waits would hang every browser, so it and the daemon fail at once and are started again;
* stores an event once more where the server went down under it. One that was stored just then stands there twice;
* writes on each run which host works on it (`atft_assets.host`), before the first event that names its process.

It stands outside the rooms, since every process of Dagster loads it, and they would bring Polars along (114 MB each).
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import dagster as dg
import sqlalchemy as sa
from sqlalchemy import exc

from atft_assets.dagster_private import interrupt_waits
from atft_assets.host import HOST_TAG, named_process, this_host
from atft_assets.settings import PG_URL_VARIABLE, SettingsError

try:
    from dagster_postgres import DagsterPostgresStorage
    from dagster_postgres.event_log import PostgresEventLogStorage
    from dagster_postgres.run_storage import PostgresRunStorage
    from dagster_postgres.schedule_storage import PostgresScheduleStorage
    from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
except ImportError as error:
    raise ImportError(
        "Dagster's storage on PostgreSQL needs the extra `postgres`: pip install -c constraints.txt -e '.[postgres]'"
    ) from error

PATIENCE_VARIABLE = "ATFT_PG_PATIENCE"
DRIVER = "postgresql+psycopg2"  # SQLAlchemy takes plain `postgresql` for psycopg 3, which Dagster does not bring

FIRST_SECONDS = 10.0  # of patience with a server that is just starting too, when a process begins
PAUSE_SECONDS = 1.0
KEPT_CONNECTIONS, MORE_CONNECTIONS = 2, 18  # a worker writes from one thread and listens in another
RECYCLE_SECONDS = 600

# A server that vanished with its network is noticed after a minute; the kernel by itself takes two hours.
CONNECT_ARGS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# Refusals that waiting does not mend, as libpq words them.
HOPELESS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")

T = TypeVar("T")
log = logging.getLogger(__name__)


class NoDatabase(dg.DagsterError):
    """PostgreSQL does not answer, or does not let us in; the text says what it said, never a password."""


class Patience:
    """How long one process waits for its database.

    Args:
        seconds: from the first failure to the last attempt.
        clock, sleep: seconds, monotonic; waits that many.

    Attributes:
        since: when the server was first found away; None while it answers.
        interrupted: the process was asked to end while it waited; what it still has to say is not waited for.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.seconds, self.clock, self.sleep = seconds, clock, sleep
        self.since: float | None = None
        self.interrupted = False

    def connect(self, dialect: sa.Dialect, _record: object, args: Any, params: Any) -> Any:
        """What SQLAlchemy's event `do_connect` asks for: a connection, waited for.

        Raises:
            psycopg2.OperationalError: patience is at an end, or waiting cannot help.
        """
        while True:
            try:
                connection = dialect.connect(*args, **params)
            except dialect.loaded_dbapi.OperationalError as error:  # type of the driver, which is loaded by name
                if any(words in str(error) for words in HOPELESS) or not self.lasts():
                    raise
                self._pause()
            else:
                self.since, self.interrupted = None, False
                return connection

    def lasts(self) -> bool:
        """Whether to try once more; not when the run is to end. The first failure is told in the log."""
        if self.since is None:
            self.since = self.clock()
            if self.seconds:
                log.warning("PostgreSQL is away; waiting for it up to %.0f s", self.seconds)
        return self.clock() - self.since < self.seconds and not (self.interrupted or interrupt_waits())

    def _pause(self) -> None:
        try:
            self.sleep(PAUSE_SECONDS)
        except BaseException:  # a Ctrl-C, which Dagster raises as an exception of its own
            self.interrupted = True
            raise

    def again(self, write: Callable[[], T]) -> T:
        """Write, and once more where the server ended the connection under it.

        Args:
            write: may be done twice.
        """
        while True:
            try:
                return write()
            except exc.DBAPIError as error:
                if not error.connection_invalidated or not self.seconds or not self.lasts():
                    raise


def patience_of(environ: Mapping[str, str]) -> float:
    """Seconds of ATFT_PG_PATIENCE.

    Raises:
        SettingsError: it is no number of seconds.
    """
    text = environ.get(PATIENCE_VARIABLE, "").strip() or "0"
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) < float("inf"):
            return seconds
    raise SettingsError(
        f"{PATIENCE_VARIABLE} is {text!r}: give the seconds that a run waits for its database, e.g. 900"
    )


def address(text: str) -> sa.URL:
    """The address of a database with the driver that Dagster uses.

    Raises:
        SettingsError: it is none; what was given is not shown, for it may hold a password.
    """
    try:
        url = sa.make_url(text)
    except exc.ArgumentError:
        url = None
    if url is None or not url.drivername.startswith("postgresql"):
        raise SettingsError(f"{PG_URL_VARIABLE} is no address of a PostgreSQL, such as {DRIVER}://user@host:5432/atft")
    return url.set(drivername=DRIVER)


class PatientPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage on PostgreSQL that keeps its connections and outlasts a restart of the server.

    Args:
        postgres_url: `postgresql+psycopg2://…`; see `deploy/README.md`.
        should_autocreate_tables: make Dagster's tables where there are none.
        inst_data: what the instance file said; Dagster's.
        token_provider: of dagster-postgres, for clouds that give out tokens instead of passwords.

    Raises:
        NoDatabase: the server does not answer.
        SettingsError: the address or the patience cannot be used.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: Any = None,
        token_provider: Any = None,
    ):
        url = address(postgres_url).render_as_string(hide_password=False)
        self.patience = Patience(patience_of(os.environ))
        self._url, self._token_provider = url, token_provider
        self._noted: set[str] = set()
        self._meet()
        super().__init__(url, should_autocreate_tables, inst_data, token_provider)  # makes the tables
        self._run_storage = Runs(url, False, inst_data, token_provider)
        self._event_log_storage = Events(url, False, inst_data, token_provider)
        self._schedule_storage = Schedules(url, False, inst_data, token_provider)
        for part in self._parts():
            part.whole = self
        self._use(self._engine_of(self.patience, pool_size=KEPT_CONNECTIONS, max_overflow=MORE_CONNECTIONS))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "PatientPostgresStorage":
        """Dagster's way to make it, from the instance file."""
        return cls(
            pg_url_from_config(config_value),
            config_value.get("should_autocreate_tables", True),
            inst_data,
            get_token_provider_from_config(config_value),
        )

    def serve_pages(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """What `optimize_for_webserver` of each part asks for: connections for many requests, with a limit of time.

        Dagster's own leaves the engine of before open, and does not ask a connection whether it lives: the first
        request after a restart of the server is then an HTTP 500.

        Args:
            statement_timeout: milliseconds that a statement may take.
            pool_recycle: seconds after which a connection is replaced.
            max_overflow: connections beyond the one that is kept.
        """
        engine = self._engine_of(self.patience, pool_size=1, pool_recycle=pool_recycle, max_overflow=max_overflow)

        @sa.event.listens_for(engine, "connect")
        def limit(connection: Any, _record: object) -> None:
            with connection, connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = %s", [statement_timeout])

        self._use(engine)

    def note_host(self, run_id: str) -> None:
        """Write on a run that this host works on it, once a process."""
        if run_id not in self._noted:
            with suppress(dg.DagsterRunNotFoundError):  # deleted meanwhile
                self._run_storage.add_run_tags(run_id, {HOST_TAG: this_host()})
            self._noted.add(run_id)

    def _parts(self) -> tuple[Any, Any, Any]:
        return self._run_storage, self._event_log_storage, self._schedule_storage

    def _use(self, engine: sa.Engine) -> None:
        """Put an engine in the place of the parts' own; `_engine` is private, so a test holds it to the version."""
        for part in self._parts():
            if part._engine is not engine:
                part._engine.dispose()
            part._engine = engine

    def _engine_of(self, patience: Patience, **options: Any) -> sa.Engine:
        query = sa.make_url(self._url).query
        arguments = {name: value for name, value in CONNECT_ARGS.items() if name not in query}
        engine: sa.Engine = create_pg_engine(
            self._url,
            self._token_provider,
            **{
                "isolation_level": "AUTOCOMMIT",
                "pool_pre_ping": True,
                "pool_recycle": RECYCLE_SECONDS,
                "connect_args": arguments,
                **options,
            },
        )
        sa.event.listen(engine, "do_connect", patience.connect)
        return engine

    def _meet(self) -> None:
        """Wait for the server before dagster-postgres asks it, which has no patience."""
        engine = self._engine_of(Patience(max(self.patience.seconds, FIRST_SECONDS)), pool_size=1)
        try:
            engine.connect().close()
        except exc.OperationalError as error:
            said = " ".join(str(error.orig).split())
            raise NoDatabase(
                f"Dagster's database does not answer: {said}. Is it running, and is {PG_URL_VARIABLE} its address "
                f"({sa.make_url(self._url).render_as_string()})?"
            ) from None
        finally:
            engine.dispose()


class Events(PostgresEventLogStorage):
    """The event log; `whole` is the storage that it is a part of, as in the two classes below."""

    whole: PatientPostgresStorage

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event; before the first that names this process, its host is written on the run."""
        if named_process(event) == os.getpid():
            self.whole.patience.again(partial(self.whole.note_host, event.run_id))
        self.whole.patience.again(partial(super().store_event, event))

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """See `PatientPostgresStorage.serve_pages`."""
        self.whole.serve_pages(statement_timeout, pool_recycle, max_overflow)

    def dispose(self) -> None:
        """Close the connections as well."""
        super().dispose()
        self._engine.dispose()


class Runs(PostgresRunStorage):
    """Runs and their states."""

    whole: PatientPostgresStorage

    def handle_run_event(self, run_id: str, event: Any, *args: Any, **kwargs: Any) -> None:
        """Change a run's state by an event."""
        self.whole.patience.again(partial(super().handle_run_event, run_id, event, *args, **kwargs))

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Done once for all, by the event log."""


class Schedules(PostgresScheduleStorage):
    """Schedules, sensors and their ticks."""

    whole: PatientPostgresStorage

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Done once for all, by the event log."""
