"""Who is writing under a data root just now: Dagster's runs, trainings, publications."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from atft_assets.home import homes_of, opened, walk
from atft_assets.settings import lock_folder_of
from atft_assets.tools.reaper import STAGED, UNFINISHED
from atft_model.interchange.devices import locks_of


def writers(root: Path) -> Iterator[str]:
    """A sentence for each."""
    for home in homes_of(root):
        with opened(home) as instance:
            for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
                yield f"the run {run.run_id} ({run.job_name}) is {run.status.value}"
    for lock in locks_of(root / "runs", lock_folder_of(os.environ)):
        if _held(lock):
            yield f"a training holds {lock}"
    for folder, folders, names in walk(root):
        for name in [*folders, *names]:
            match = STAGED.match(name)
            pid = next((int(number) for number in match.groups() if number), None) if match else None
            if pid is not None and pid != os.getpid() and Path(f"/proc/{pid}").exists():
                yield f"the process {pid} is writing {Path(folder, name)}"


def _held(lock: Path) -> bool:
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
