"""The run directory, `runs/<fold>/<phase>/<run_id>/`: what comes back over the wall, read and pointed at.

It is written by the training process and immutable once `run.json` says finished; the pointer `latest` beside it is
written here, after the checks of a run have passed. Runs whose process is gone are marked here, and panels that no run
refers to are removed: which those are, only the runs can tell.
"""

import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from atft_assets.training.lanes import lane_of
from atft_model.interchange.attempts import attempts, settle
from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.hashes import checked_bytes, read_sidecar
from atft_model.interchange.panel import DESCRIPTION
from atft_model.interchange.phases import PHASES
from atft_model.interchange.records import read_pointer, write_text
from atft_model.interchange.run import (
    CHECKPOINT,
    LATEST,
    METRICS,
    REQUEST,
    RUN_JSON,
    SCORES,
    RunRecord,
    end_record,
    read_file,
    read_finished,
)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path

    @property
    def run_id(self) -> str:
        return self.folder.name

    @cached_property
    def record(self) -> RunRecord:
        """`run.json`."""
        return read_finished(self.folder)

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def metrics(self) -> pl.DataFrame:
        """One row an epoch.

        Raises:
            RunError: they are gone, or not those of the record.
        """
        return self._frame(METRICS)

    def scores(self) -> pl.DataFrame:
        """Validation scores: date, code, score_1d, score_5d, score_10d, score_20d.

        Raises:
            RunError: they are gone, or not those of the record.
        """
        return self._frame(SCORES).with_columns(pl.col("date").cast(pl.Date))

    def _frame(self, file: str) -> pl.DataFrame:
        return parquet(read_file(self.folder, self.record, file), self.folder / file)


def parquet(data: bytes, path: Path) -> pl.DataFrame:
    """The frame in a Parquet file's bytes.

    Raises:
        RunError: they are none. Polars panics on some, and a panic is no Exception.
    """
    try:
        return pl.read_parquet(data)
    except (PolarsError, PanicException, OSError, ValueError) as error:
        raise RunError(damaged(path, f"no Parquet file: {str(error)[:100]}")) from error


def scores_of(path: Path) -> pl.DataFrame:
    """Scores as `predict` wrote them, held against the hash beside them.

    Raises:
        RunError: scores or hash are gone or damaged.
    """
    return parquet(checked_bytes(path, read_sidecar(path, RunError), RunError), path)


def open_run(folder: Path) -> Run:
    """The finished run in a directory.

    Raises:
        RunError: `run.json` is missing, unreadable or of another format, does not say finished, or checkpoint or
            scores are gone or not those that it describes.
    """
    run = Run(folder)
    for file in (CHECKPOINT, SCORES):  # now, so that a run that is not whole is found here
        read_file(folder, run.record, file)
    return run


def is_finished(folder: Path) -> bool:
    """Whether the run in a directory has ended well and must not be touched any more."""
    try:
        return read_finished(folder).status == "finished"
    except RunError:
        return False


def latest_run(folder: Path) -> Run | None:
    """The run that `latest` in `runs/<fold>/<phase>` names; None when nothing was trained yet.

    Raises:
        RunError: the pointer names a run that is not whole.
    """
    run_id = read_pointer(folder / LATEST, RunError)
    if run_id is None:
        return None
    if not (folder / run_id).is_dir():
        raise RunError(damaged(folder / LATEST, f"it names {run_id}, which is no run"))
    return open_run(folder / run_id)


def point_latest_run(folder: Path) -> None:
    """Let `latest` name a run."""
    write_text(folder.parent / LATEST, folder.name + "\n")


def new_run_id(dagster_run_id: str, seed: int | None = None) -> str:
    """Sortable by time, traceable to the Dagster run.

    Args:
        seed: one of several that one Dagster run trains.
    """
    which = "" if seed is None else f"-s{seed}"
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}{which}-{dagster_run_id[:8]}"


def all_runs(runs: Path) -> Iterator[Path]:
    """Every run directory and every set of baselines, of all folds, finished or not."""
    yield from (path for path in runs.glob("*/*/*") if path.is_dir())


def end_abandoned(runs: Path) -> Iterator[str]:
    """Mark as interrupted what says "running" although no process holds it any more; a sentence for each."""
    for folder in all_runs(runs):
        with suppress(RunError, OSError):  # an attempt that lives holds its own directory
            if all(_made_here(attempt) for attempt in attempts(folder)):
                settle(folder)
        if _document(folder / RUN_JSON).get("status") != "running":
            continue
        with suppress(RunError, OSError):  # a training that lives holds it; what is damaged is for another to mend
            if end_record(folder, "interrupted"):
                yield f"{folder}: no process trains it any more; marked as interrupted. {how_to_resume(folder)}"


def _made_here(attempt: Path) -> bool:
    """Whether an attempt was made on this host; of another one the lock need not be seen here, so it is left to the
    training that resumes it."""
    hardware = _document(attempt / RUN_JSON).get("hardware")
    return not isinstance(hardware, dict) or hardware.get("host", platform.node()) == platform.node()


def how_to_resume(folder: Path) -> str:
    """How an interrupted training goes on: the config to give in the launchpad, and the command."""
    fold, key, run_id = folder.parts[-3:]
    lane = lane_of(fold)
    asset = next(lane.phase(phase) for phase in PHASES if phase.key == key)
    config = json.dumps({"ops": {asset: {"config": {"resume_run": run_id}}}})
    return (
        f"It goes on with the config `resume_run: {run_id}`, beside what it was given; "
        f"run: {lane.command([asset], fold)} --config-json '{config}'"
    )


def panels_in_use(runs: Path) -> set[str]:
    """Panels that a run or a set of baselines was made with, or that an unfinished run may be reading."""
    return {panel for folder in all_runs(runs) if (panel := panel_of(folder))}


def panel_of(folder: Path) -> str | None:
    """The panel that a run or a set of baselines was made with, or that an unfinished run may be reading."""
    record, request = _document(folder / RUN_JSON), _document(folder / REQUEST)
    if panel_id := record.get("panel_id"):
        return str(panel_id)
    panel = request.get("panel")  # started, and nothing written yet
    return Path(str(panel)).name if panel else None


def prune_panels(panels: Path, runs: Path, newest_id: str, keep: int) -> list[str]:
    """Remove panels that are neither among the newest nor referred to; returns their ids.

    Args:
        newest_id: a panel that stays in any case.
        keep: how many of the newest stay.
    """
    found = [path.parent for path in panels.glob(f"[!.]*/{DESCRIPTION}")]
    found.sort(key=lambda folder: (folder / DESCRIPTION).stat().st_mtime, reverse=True)
    used = panels_in_use(runs) | {newest_id}
    removed = [folder for folder in found[max(keep, 0) :] if folder.name not in used]
    for folder in removed:
        shutil.rmtree(folder)
    return [folder.name for folder in removed]


def _document(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
