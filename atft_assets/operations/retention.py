"""Retention: the job `retention`, and the schedule `weekly_retention` that keeps Dagster's home from growing for ever.

Two things grow. Dagster's history (runs with their events and compute logs) grows by itself, every evening, and nothing
is lost with an old run that no page and no sensor asks for (`run_history`). So the schedule is on, and deletes it.

Under the data root lie checkpoints, panels and what `mend` put aside. They grow when a person trains, cost hours to
make again, and which of them matters only that person knows. They are never deleted by what runs by itself: the
schedule lists what of them may go (`run_folders`), the alert of a full disk names the command, and a person gives it.

Of a data root in a bucket only what tables left behind is listed and removed (`bucket_files`).

Ticks of sensors and schedules are no concern of this job: `retention` in dagster.yaml prunes them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from atft_assets.calendar import TOKYO
from atft_assets.operations.bucket_files import LEFT_ALONE, LEFTOVER, left_in_tables, names_in_runs, remove_file
from atft_assets.operations.going import Going, by_kind, markdown
from atft_assets.operations.jobs import KIND_TAG
from atft_assets.operations.run_folders import DataRoot, dagster_runs, going_folders, kept_runs, remove
from atft_assets.operations.run_history import (
    KIND,
    ORPHAN,
    delete_files,
    delete_run,
    give_space_back,
    going_runs,
    orphans,
)
from atft_assets.store import Store

RETENTION = "retention"
OP = "remove_what_is_old"  # Dagster wants the names of jobs and of ops apart
DAYS, KEEP_RUNS = 90, 5
DAY_SECONDS = 86_400.0
COMMAND = "python -m atft_assets.tools.retention"
OF_HISTORY = (KIND, ORPHAN)


class RetentionConfig(dg.Config):
    """What goes. The defaults remove nothing: they show what would go."""

    days: int = Field(DAYS, ge=1, description="Nothing younger than so many days goes.")
    keep_runs: int = Field(
        KEEP_RUNS,
        ge=0,
        description="Of each fold and phase, so many of the newest finished runs stay; so do the one that `latest` "
        "names, the best, and whatever else is still referred to.",
    )
    dry_run: bool = Field(True, description="Remove nothing, only list what would go.")
    history_only: bool = Field(
        True,
        description="Of what is listed, remove Dagster's old runs alone, with events and compute logs. With `false`, "
        "and `dry_run: false`, run directories, panels and what was put aside under the data root go as well.",
    )


@dataclass
class Plan:
    """What may go."""

    history: list[Going] = field(default_factory=list)
    folders: list[Going] = field(default_factory=list)

    @property
    def everything(self) -> list[Going]:
        return [*self.history, *self.folders]


def plan(
    instance: dg.DagsterInstance,
    store: Store,
    days: int,
    keep_runs: int,
    *,
    folders_go: bool = True,
    clock: Callable[[], float] = time.time,
) -> Plan:
    """What may go; nothing is removed.

    Args:
        folders_go: whether run directories go with it: the Dagster runs that made those which stay, stay.
        clock: seconds of the epoch, as `time.time`.

    Raises:
        StoreError: the data root is a bucket, which does not answer.
    """
    before = clock() - days * DAY_SECONDS
    if store.remote:
        folders = left_in_tables(store)
        trainings = dagster_runs(names_in_runs(store))
    else:
        root = DataRoot(store.local(), before, keep_runs)
        folders = going_folders(root)
        staying = kept_runs(root) if folders_go else [run.path for run in root.runs]
        trainings = dagster_runs([path.name for path in staying])
    history = [*going_runs(instance, before, trainings), *orphans(instance, before)]
    return Plan(history, folders)


def carry_out(
    instance: dg.DagsterInstance, store: Store, going: Sequence[Going], say: Callable[[str], None]
) -> tuple[list[Going], int]:
    """Remove it all; what went, and the bytes won, those that a shared database gave back among them."""
    gone = []
    for one in going:
        if one.kind == KIND:
            delete_run(instance, one.name)
        elif one.kind == ORPHAN:
            delete_files(instance, one.name)
        elif one.kind == LEFTOVER:
            remove_file(store, one.name)
        elif not remove(store.local(), one):
            say(f"{one.name} stays: something has begun to need it")
            continue
        gone.append(one)
    won = sum(one.size for one in gone)
    if any(one.kind in OF_HISTORY for one in gone):
        shrunk, why_not = give_space_back(instance)
        won += shrunk
        if why_not:
            say(why_not)
    return gone, won


def retention_job() -> dg.JobDefinition:
    """One op; its outcome stands on the run's page."""

    @dg.op(
        name=OP,
        out=dg.Out(dg.Nothing),
        description="Remove what is old and no longer needed; by default only list it.",
    )
    def remove_what_is_old(context: dg.OpExecutionContext, config: RetentionConfig, store: Store) -> None:
        found = plan(
            context.instance,
            store,
            config.days,
            config.keep_runs,
            folders_go=not config.history_only,
        )
        chosen = found.history if config.history_only else found.everything
        gone, won = ([], 0) if config.dry_run else carry_out(context.instance, store, chosen, context.log.warning)
        stays = [one for one in found.everything if one not in gone]
        context.log.info(sentence(gone, stays, won))
        if store.remote:
            context.log.info(LEFT_ALONE)
        context.add_output_metadata(report(gone, stays, won))

    @dg.job(
        name=RETENTION,
        tags={KIND_TAG: RETENTION},
        description="Remove Dagster's old runs and, if told so, old run directories and panels. By default it removes "
        "nothing and lists what would go.",
    )
    def job() -> None:
        remove_what_is_old()

    return job


def sentence(gone: Sequence[Going], stays: Sequence[Going], won: int) -> str:
    """The outcome."""
    went = ", ".join(f"{count} × {kind}" for kind, (count, _) in by_kind(gone).items()) or "nothing"
    may = ", ".join(f"{count} × {kind}, {size / 1e6:.1f} MB" for kind, (count, size) in by_kind(stays).items())
    return f"removed: {went}; {won / 1e6:.1f} MB won" + (f"; may go as well: {may} ({COMMAND})" if may else "")


def report(gone: Sequence[Going], stays: Sequence[Going], won: int) -> dict[str, Any]:
    """What the run's page shows: the outcome, tables, and numbers by kind."""
    numbers = {
        f"{what}_{kind.replace(' ', '_').lower()}_{unit}": number
        for what, those in (("removed", gone), ("listed", stays))
        for kind, figures in by_kind(those).items()
        for unit, number in zip(("count", "bytes"), figures, strict=True)
    }
    return {
        "outcome": sentence(gone, stays, won),
        "bytes_won": won,
        **numbers,
        "removed": dg.MetadataValue.md(markdown(gone) if gone else "nothing"),
        "may_go": dg.MetadataValue.md(markdown(stays) if stays else "nothing"),
    }


def weekly_retention(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Sundays at six in the morning in Tokyo, when no market and no refresh is near; on by itself.

    It deletes Dagster's own history and only lists the rest. On, because a home that grows for ever fills the disk of
    whoever forgot it, and what goes is asked for by nothing. Not the rest, because a checkpoint that is deleted unasked
    is a worse surprise than a full disk, of which an alert warns.
    """
    config = {"days": DAYS, "dry_run": False, "history_only": True}
    return dg.ScheduleDefinition(
        name="weekly_retention",
        cron_schedule="0 6 * * 0",
        execution_timezone=TOKYO.key,
        job=job,
        run_config={"ops": {OP: {"config": config}}},
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Delete Dagster runs of more than 90 days ago that nothing asks for; list old run directories and "
        "panels, delete none.",
    )
