"""One study: what Optuna remembers between commands, and by how many workers it may be continued at once.

Its database is the platform's own where that is PostgreSQL, in a schema of its own (both Dagster and Optuna keep their
version in a table `alembic_version`), so that workers on several machines may go on with it; else the file
`hpo/<study>/study.db`, which a data root in a bucket cannot have. A worker that is killed leaves a trial behind that
still says "running"; its heartbeat stops, and the next worker marks it as failed and tries its values again. Whatever
is compared must be comparable, so a study belongs to one panel, one list of folds, one space and one measure, and
refuses others.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from atft_assets.failures import Refusal
from atft_model.interchange.records import to_plain

if TYPE_CHECKING:
    import dagster as dg
    import optuna
    import sqlalchemy as sa

DATABASE = "study.db"
SCHEMA = "atft_hpo"  # of PostgreSQL
LOCK = 0x61746674  # of a transaction that makes tables there; any number that nobody else takes
IDENTITY = "made for"  # user attribute of a study
WHY = "why"  # user attribute of a trial that failed
HEARTBEAT_SECONDS = 30
BUSY_SECONDS = 120.0  # how long a worker waits for another one that writes


class OtherStudy(Refusal):
    """A study of this name was made for something else."""


def objective_of(by_fold: Mapping[str, float], spread_penalty: float) -> float:
    """Mean over the folds minus `spread_penalty` times their standard deviation (ddof 0; none with one fold)."""
    values = list(by_fold.values())
    return fmean(values) - spread_penalty * pstdev(values)


def platform_database(instance: "dg.DagsterInstance") -> str | None:
    """Address of the PostgreSQL that Dagster writes its events to, with its password; None where it writes to files."""
    return getattr(instance.event_log_storage, "postgres_url", None)


def database_of(instance: "dg.DagsterInstance", *, bucket: bool) -> str | None:
    """Address of the database of studies; None where each is a file of the data root.

    Args:
        bucket: whether the data root is one.

    Raises:
        Refusal: it is, and there is no PostgreSQL: of a file that several machines push, one machine's trials are lost.
    """
    database = platform_database(instance)
    if bucket and database is None:
        raise Refusal(
            "a study is a database, and a bucket holds none: let Dagster write its history to PostgreSQL "
            "(deploy/README.md), and the studies are kept there; or search on a data root that is a folder (ATFT_DATA)"
        )
    return database


def storage_of(folder: Path, database: str | None = None) -> "optuna.storages.RDBStorage":
    """Where a study is kept.

    Args:
        folder: of the study, for the file.
        database: SQLAlchemy address of a PostgreSQL; None for the file.
    """
    import optuna

    connect: dict[str, Any] = {"timeout": BUSY_SECONDS}
    if database:
        connect = {"options": f"-c search_path={SCHEMA}", "connect_timeout": int(BUSY_SECONDS)}
    return optuna.storages.RDBStorage(
        _address(database).render_as_string(hide_password=False) if database else f"sqlite:///{folder / DATABASE}",
        engine_kwargs={"connect_args": connect, "pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT_SECONDS,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2),
    )


@contextmanager
def alone(folder: Path, database: str | None) -> Iterator[None]:
    """Two workers that begin a study at once must not both make its tables: on this machine, or in the database."""
    with ExitStack() as stack:
        if database is None:
            stack.enter_context(FileLock(folder / ".lock"))
        else:
            import sqlalchemy as sa

            engine = sa.create_engine(_address(database))
            stack.callback(engine.dispose)
            with engine.begin() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
                connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            # a transaction of its own: what Optuna makes meanwhile is committed by Optuna
            held = stack.enter_context(engine.begin())
            held.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        yield


def _address(database: str) -> "sa.URL":
    """With the driver that is installed: without one SQLAlchemy takes psycopg 3."""
    import sqlalchemy as sa

    return sa.make_url(database).set(drivername="postgresql+psycopg2")


def open_study(
    folder: Path,
    name: str,
    identity: Mapping[str, Any],
    *,
    seed: int,
    startup_trials: int,
    database: str | None = None,
) -> "optuna.Study":
    """A study, made or gone on with.

    Args:
        folder: of the study.
        identity: what its trials have in common.
        seed: of the sampler; trials that a study has already count, lest the draws be repeated.
        startup_trials: that are drawn at random before the sampler learns, and before any is pruned.
        database: see `storage_of`.

    Raises:
        OtherStudy: there is one of that name with another identity.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)  # it holds the best config, wherever the trials are
    with alone(folder, database), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=storage_of(folder, database),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup_trials),
        )
        # trials that are under way, of this worker or another, count as bad: nobody draws near them meanwhile
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=startup_trials, seed=seed + len(study.trials), constant_liar=True
        )
        ours, theirs = to_plain(dict(identity)), study.user_attrs.get(IDENTITY)
        if theirs is None:
            study.set_user_attr(IDENTITY, ours)
    if theirs not in (None, ours):
        apart = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        was = "; ".join(f"{key} is {ours.get(key)}, there {theirs.get(key)}" for key in apart)
        raise OtherStudy(f"the study {name} was made for something else ({was}): give this one another name")
    return study


def counted(study: "optuna.Study") -> int:
    """Trials that have come to an end of their own: complete, pruned, or failed for a reason."""
    return sum(
        trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and WHY in trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    )


def best_of(study: "optuna.Study") -> "optuna.trial.FrozenTrial | None":
    """The complete trial with the highest objective; None if there is none."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)
