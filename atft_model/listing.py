"""The runs of a folder, one a line. Records alone are read: no torch, no checkpoint, and a damaged one is a row too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atft_model.interchange.config import PRESETS, Preset, knobs_apart
from atft_model.interchange.errors import OldRun, RunError
from atft_model.interchange.records import read_pointer
from atft_model.interchange.run import LATEST, REQUEST, RUN_JSON, RunRecord, read_record
from atft_model.tables import table

HEADER = ("fold/phase", "id", "", "status", "preset", "hidden", "epochs", "kept epoch", "RankIC", "seconds")
NEWEST, BASELINES = "*", "baselines"
LEGEND = (
    f"{NEWEST}: the newest that passed its checks, which `latest` names. RankIC: of the validation block. "
    "preset+n: n knobs differ from it."
)


def default_runs() -> Path:
    """Where runs lie unless it is said: `runs` in the data root that ATFT_DATA names, or in ./data."""
    return Path(os.environ.get("ATFT_DATA") or "data").expanduser() / "runs"


def run_folders(runs: Path) -> list[Path]:
    """Every directory that the training of a phase made, at or up to three levels below a folder, in order of time."""
    found = [runs, *(path for depth in (1, 2, 3) for path in sorted(runs.glob("/".join("*" * depth))))]
    return [path for path in found if is_training(path) and not path.name.startswith(".")]


def is_training(folder: Path) -> bool:
    """Whether a directory was made by the training of a phase; a set of baselines was not."""
    return (folder / REQUEST).is_file() or ((folder / RUN_JSON).is_file() and folder.parent.name != BASELINES)


def runs_table(runs: Path) -> str:
    """A table of the runs at or below a folder.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    folders = run_folders(runs) if runs.is_dir() else []
    if not folders:
        what = "holds no run" if runs.is_dir() else "does not exist"
        raise RunError(f"{runs} {what}: give another folder with --runs DIR, or train a phase")
    newest = {phase: _newest(phase) for phase in {folder.parent for folder in folders}}
    rows = [_row(folder, folder.name == newest[folder.parent]) for folder in folders]
    return f"{table(HEADER, rows)}\n{LEGEND}"


def _newest(phase: Path) -> str | None:
    try:
        return read_pointer(phase / LATEST, RunError)
    except RunError:
        return None  # `info` says what is wrong with it; here the runs are listed


def _row(folder: Path, newest: bool) -> tuple[str, ...]:
    start = (f"{folder.parent.parent.name}/{folder.parent.name}", folder.name, NEWEST if newest else "")
    try:
        return (*start, *_cells(read_record(folder)))
    except RunError as error:
        status = "older" if isinstance(error, OldRun) else "damaged" if (folder / RUN_JSON).exists() else "no record"
        return (*start, status, *[""] * 6)


def _cells(run: RunRecord) -> tuple[str, ...]:
    figures = ("",) * 4
    if run.epochs is not None:
        rank_ic = (run.validation or {}).get("rank_ic")
        figures = (
            str(run.epochs),
            "" if run.kept_epoch is None else str(run.kept_epoch),
            "" if rank_ic is None else f"{rank_ic:+.4f}",
            "" if run.seconds is None else f"{run.seconds:.1f}",
        )
    return (run.status, preset_name(run.config), str(run.config.get("model", {}).get("hidden_size", "")), *figures)


def preset_name(config: Mapping[str, Any]) -> str:
    """The preset that a resolved configuration is, or the nearest one and how many knobs differ from it."""
    count, name = min((_differing(config, preset), name) for name, preset in PRESETS.items())
    return f"{name}+{count}" if count else name


def _differing(config: Mapping[str, Any], preset: Preset) -> int:
    """Knobs with another value; one that the configuration lacks is none."""
    return sum(knob in config.get(part, {}) for part, knob in knobs_apart(config, preset))
