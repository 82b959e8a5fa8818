"""Clean up after a crash: `python -m atft_assets.tools.reaper`, which `make ui` and `make road` run first.

Dagster cannot tell that a run's process was killed together with everything else (power, out of memory, `kill -9`): the
run stays STARTED for ever and keeps its place in the queue and its slot in the pool. So it does where the database was
away for longer than a run's patience, or a code server was killed while all else stays up: a timer that calls the
reaper every few minutes ends such runs too.

The reaper asks the operating system. It touches only what provably has no process any more, so it is safe while runs
are alive. It knows the processes of its own host alone, so it must run where the runs run: where several hosts share a
database, each has its reaper, which judges the runs that carry its host's name.
"""

import argparse
import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import dagster as dg
import psutil
from filelock import FileLock, Timeout

from atft_assets.dagster_private import SqliteEventLogStorage
from atft_assets.home import walk
from atft_assets.host import HOST_TAG, named_process, this_host
from atft_assets.settings import SettingsError, data_root_of, lock_folder_of
from atft_assets.tools.home import claim
from atft_assets.tools.left_behind import end_services, remove_folders
from atft_assets.tools.ray_reaper import reap_ray
from atft_assets.training.runs import end_abandoned
from atft_model.interchange.devices import lock_folder
from atft_model.interchange.disk import DiskError

UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]

# a process is younger than the event that names its id only if the id was given away again; clocks differ a little
CLOCK_SLACK = 5.0

# What a writer leaves beside its target until it renames it: `.2026-11.4711-9f3a21bc.staged`, `.staged-4711`,
# `.latest.9f3a21bc.staged`, `.checkpoint.safetensors.4711.tmp`. 4711 is the writer's process.
STAGED = re.compile(r"^\.(?:staged-(?P<a>\d+)|.+\.(?P<b>\d+)-[0-9a-f]{8}\.staged|.+\.(?P<c>\d+)\.tmp|.+\.staged)$")
FORGOTTEN_SECONDS = 3600.0
LOCK = ".reaper.lock"  # in the home: a timer's reaper and one that a person calls do not mark the same run twice


def reap(
    instance: dg.DagsterInstance,
    data_root: Path | None,
    lock_folders: list[Path] | None = None,
    *,
    host: str | None = None,
    unnamed: bool | None = None,
) -> list[str]:
    """Clean up; returns what was done, one sentence each.

    Args:
        data_root: local root of tables, panels and runs.
        lock_folders: where device locks stand; default: the machine's temporary folder and the data root's `runs`.
        host: whose runs are judged; default: this one's.
        unnamed: judge runs that name no host as well; default: on SQLite, which one machine alone may open.
    """
    host = host or this_host()
    unnamed = not shared(instance) if unnamed is None else unnamed
    done = [*reap_runs(instance, host, unnamed), *free_slots(instance)]
    if data_root is not None and data_root.is_dir():
        if not works_elsewhere(instance, host):  # a file's name tells its writer's process, but not on which host
            done += remove_staged(data_root)
        done += end_abandoned(data_root / "runs")
        lock_folders = lock_folders or [lock_folder(lock_folder_of(os.environ)), data_root / "runs"]
    for folder in lock_folders or []:
        done += clear_locks(folder)
    return done


def shared(instance: dg.DagsterInstance) -> bool:
    """Whether runs of other hosts may stand in the same history."""
    return not instance.is_ephemeral and not isinstance(instance.event_log_storage, SqliteEventLogStorage)


def works_elsewhere(instance: dg.DagsterInstance, host: str) -> bool:
    """Whether another host is known to work on a run."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return any(run.tags.get(HOST_TAG, host) != host for run in runs)


def reap_runs(instance: dg.DagsterInstance, host: str, unnamed: bool) -> Iterator[str]:
    """Mark this host's unfinished runs whose process is gone; see `reap` for the arguments."""
    for run, why in dead_runs(instance, host, unnamed):
        text = f"{why}: killed, out of memory, or the machine went down. Nothing half-written was published."
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, f"The run was being cancelled, and {text}")
        else:
            instance.report_run_failed(run, f"The run ended without a word: {text} Run it again.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        yield f"run {run.run_id} ({run.job_name}) was {run.status.value}, but {why}: marked as ended"


def dead_runs(instance: dg.DagsterInstance, host: str, unnamed: bool) -> Iterator[tuple[dg.DagsterRun, str]]:
    """Unfinished runs of a host whose process is gone, and how one knows.

    Nothing is said of a run that named no process yet: run monitoring gives up on those that never start.
    """
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        if run.tags.get(HOST_TAG, host if unnamed else None) != host:
            continue
        processes = recorded_processes(instance, run.run_id)
        if processes and all(process_gone(pid, at) for pid, at in processes):
            yield run, f"its process {processes[-1][0]} is gone"
        elif not processes and record.start_time is not None and record.start_time < psutil.boot_time():
            yield run, "the machine was started anew since"


def free_slots(instance: dg.DagsterInstance) -> Iterator[str]:
    """Give back pool slots that runs took to their grave."""
    storage = instance.event_log_storage
    holders = {
        slot.run_id: pool
        for pool in storage.get_concurrency_keys()
        for slot in storage.get_concurrency_info(pool).claimed_slots
    }
    for run_id, pool in holders.items():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
            yield f"pool {pool}: the slot of the ended run {run_id} was given back"


def recorded_processes(instance: dg.DagsterInstance, run_id: str) -> list[tuple[int, float]]:
    """Processes that worked on a run as a whole: id, and when the run named it."""
    events = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    entries = [record.event_log_entry for record in events]
    return [(pid, entry.timestamp) for entry in entries if (pid := named_process(entry)) is not None]


def process_gone(pid: int, named_at: float) -> bool:
    """Whether the process that had this id at `named_at` (seconds of the epoch) has ended."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > named_at + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False  # somebody else's, but there


def remove_staged(root: Path) -> Iterator[str]:
    """Remove temporary siblings whose writer is gone; where the name holds no process, after an hour."""
    for folder, folders, files in walk(root):
        for name in [*folders, *files]:
            match = STAGED.match(name)
            if not match:
                continue
            path = Path(folder, name)
            if name in folders:
                folders.remove(name)  # its content goes with it, or is still being written
            pid = next((int(number) for number in match.groups() if number), None)
            try:
                written = path.stat().st_mtime
                if not (process_gone(pid, written) if pid else time.time() - written > FORGOTTEN_SECONDS):
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except FileNotFoundError:
                continue  # renamed into place meanwhile
            yield f"{path.relative_to(root)}: left behind by a write that never ended, removed"


def clear_locks(folder: Path) -> Iterator[str]:
    """Empty lock files that name a process although nobody holds the lock, lest a reader believe the text."""
    for path in sorted({*folder.glob("atft-*.lock"), *folder.glob(".cpu*.lock"), *folder.glob("*/.cpu*.lock")}):
        try:
            with path.open("r+") as file:
                if not file.read().strip():
                    continue  # asked before locking: a training that begins now finds the lock free
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.truncate(0)
        except (BlockingIOError, FileNotFoundError, PermissionError):
            continue  # held by a training, or another user's
        yield f"{path}: named a holder, but nobody holds it; emptied"


def main(arguments: list[str] | None = None) -> int:
    """Reap on the instance of DAGSTER_HOME; prints only what was done. 2 if there is no instance to look at."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.reaper", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--unnamed",
        action="store_true",
        help="judge runs that name no host too: where this host is the only one that works on the database",
    )
    given = parser.parse_args(arguments)
    data_root = data_root_of(os.environ)
    try:
        claim(data_root)
        instance = dg.DagsterInstance.get()
    except (SettingsError, DiskError) as error:
        print(f"reaper: {error}", file=sys.stderr)
        return 2
    except dg.DagsterError as error:
        hint = "" if os.environ.get("DAGSTER_HOME") else "; activate the environment: . ./env.sh"
        print(f"reaper: {error}".strip().splitlines()[0] + hint, file=sys.stderr)
        return 2
    with instance, suppress(Timeout), FileLock(Path(instance.root_directory, LOCK), timeout=0, mode=0o600):
        for line in chain(
            end_services(Path(instance.root_directory)),
            remove_folders(),
            reap(instance, None if "://" in data_root else Path(data_root), unnamed=given.unnamed or None),
            reap_ray(instance),
        ):
            print(f"reaper: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
