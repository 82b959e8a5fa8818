"""The run directory: what comes back over the wall, read and pointed at.

`runs/<asset>/<run_id>/` is written by the training process and immutable once `run.json` says finished; the pointer
`latest` beside it is written here, after the checks of a run have passed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from atft_assets.store import write_text_atomically

LATEST = "latest"
FINISHED = "finished"


class RunError(Exception):
    """There is no finished run, or it is not whole."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def stage(self) -> str:
        """Name of the asset that made it."""
        return self.folder.parent.name

    @cached_property
    def record(self) -> dict[str, Any]:
        """`run.json`."""
        return json.loads((self.folder / "run.json").read_text())

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def metrics(self) -> pl.DataFrame:
        """One row an epoch."""
        return pl.read_parquet(self.folder / "metrics.parquet")

    def scores(self) -> pl.DataFrame:
        """Validation scores: date, code, score_1d, score_5d, score_10d, score_20d."""
        return pl.read_parquet(self.folder / "scores.parquet").with_columns(pl.col("date").cast(pl.Date))


def open_run(folder: Path) -> Run:
    """The finished run in a directory.

    Raises:
        RunError: `run.json` is missing or unreadable, does not say finished, or the checkpoint is gone.
    """
    run = Run(folder)
    try:
        status = run.record.get("status")
    except FileNotFoundError:
        raise RunError(f"{folder} has no run.json: the training did not finish") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{folder / 'run.json'} cannot be read ({error})") from error
    if status != FINISHED:
        raise RunError(f"{folder / 'run.json'} says {status!r}, not {FINISHED!r}")
    if not run.checkpoint.exists():
        raise RunError(f"{run.checkpoint} is gone")
    return run


def latest_run(stage_folder: Path) -> Run | None:
    """The run that `latest` names; None when nothing was trained yet.

    Raises:
        RunError: the pointer names a run that is not whole.
    """
    try:
        run_id = (stage_folder / LATEST).read_text().strip()
    except FileNotFoundError:
        return None
    return open_run(stage_folder / run_id)


def point_latest_run(run: Run) -> None:
    """Let `latest` name a run."""
    write_text_atomically(run.folder.parent / LATEST, run.run_id + "\n")


def new_run_id(dagster_run_id: str) -> str:
    """Sortable by time, traceable to the Dagster run."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{dagster_run_id[:8]}"


def all_runs(runs: Path) -> Iterator[Path]:
    """Every run directory, finished or not."""
    yield from (path for path in runs.glob("*/*") if path.is_dir())


def panels_in_use(runs: Path) -> set[str]:
    """Panels that a finished run or a set of baselines refers to, or that an unfinished run may be reading."""
    used = set()
    for folder in all_runs(runs):
        for name in ("run.json", "state.json"):
            try:
                record = json.loads((folder / name).read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                continue
            if panel_id := record.get("panel_id"):
                used.add(panel_id)
    return used
