"""The run directory: `runs/<fold>/<phase>/<run_id>/`, written by the training process, immutable once it is finished.

`run.json` is the record below. Beside it lie `checkpoint.safetensors` (weights of the epoch that was kept, under
`<member>/<parameter>`), `metrics.parquet` (a row an epoch), `scores.parquet` (the validation block: date, code,
score_<h>d), `log.jsonl`, `request.json`, `telemetry.jsonl` (what the device did), and while the run is under way
`state.safetensors`, from which it is resumed.
Every reader holds checkpoint, scores and metrics against the hashes of the record; a file without one is read as it
stands. Scores that `predict` writes have their hash beside them, in `<file>.sha256`.
A text file `latest` beside the run directories names the newest published one; the side that judged the run writes it.
While a training writes a run directory it holds the directory's file lock, which no orphan can give away: a record that
says "running" without it is of a process that is gone.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from atft_model.interchange.errors import OldRun, RunError, damaged
from atft_model.interchange.fold import Fold
from atft_model.interchange.hashes import checked_bytes
from atft_model.interchange.phases import PHASES
from atft_model.interchange.records import entry, from_plain, read_json, write_json

FORMAT = 3

CHECKPOINT, STATE, RUN_JSON = "checkpoint.safetensors", "state.safetensors", "run.json"
METRICS, SCORES, LOG, REQUEST = "metrics.parquet", "scores.parquet", "log.jsonl", "request.json"
LATEST = "latest"

TRAIN_AGAIN = ",".join(f"train_{phase.key}" for phase in PHASES)

Status = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Parent:
    """The run whose weights a run started from."""

    run_id: str = entry("Its id")
    path: str = entry("Its directory when the training began")
    sha256: str = entry("Hash of its checkpoint")
    phase: int = entry("Its phase")


@dataclass(frozen=True)
class RunRecord:
    """`run.json`. The fields from `epochs` on are null until the run has ended."""

    format: int = entry("Version of this record")
    status: Status = entry(
        "running, finished, failed (degenerate, not finite, or crashed), or interrupted: resume goes on"
    )
    run_id: str = entry("Name of the directory")
    phase: int = entry("Place in the curriculum")
    name: str = entry("Name of the phase")
    fold: Fold = entry("The days that were learned from, chosen by and kept")
    panel_id: str = entry("Panel that was read")
    catalogue_hash: str = entry("Hash of the feature set, its code included")
    features: tuple[str, ...] = entry("Names of the inputs, in order")
    horizons: tuple[int, ...] = entry("Label horizons in trading days")
    label: str = entry("Tensor of the panel on which figures are given")
    target: str = entry("Tensor of the panel that was learned")
    config: Mapping[str, Any] = entry("Resolved preset: model and train")
    curriculum: Mapping[str, Any] = entry("Resolved row of the curriculum")
    switches: Mapping[str, bool] = entry("Modules that are on")
    parent: Parent | None = entry("The run that it started from; null: random weights")
    code_version: str = entry("Version of the trainer's numerics")
    seed: int = entry("Seed of the first member")
    n_seeds: int = entry("Members")
    mode: str = entry("safe or optimized")
    controls: Mapping[str, Any] = entry("Seeds of shuffled edges and permuted labels, null where the run is none")
    hardware: Mapping[str, Any] = entry("Host, machine, threads, device")
    versions: Mapping[str, str] = entry("Of Python, torch, CUDA")
    epochs: int | None = entry("Epochs that were trained, of the longest member", None)
    kept_epoch: int | None = entry("Epoch that was kept, of the first member; 0: the parent's weights", None)
    members: tuple[Mapping[str, Any], ...] = entry("Per member: kept_epoch, epochs, seconds, stopped_by", ())
    seconds: float | None = entry("Of training and validation", None)
    stock_days_per_s: float | None = entry("Predicted (day, name) pairs a second of training", None)
    validation: Mapping[str, Any] | None = entry("The trainer's own figures of the validation block", None)
    guards: Mapping[str, Any] | None = entry("Measurements of degeneracy, the verdict `passed`, `messages`", None)
    parameters: Mapping[str, int] | None = entry("Parameters by module", None)
    feature_importance: Mapping[str, float] | None = entry(
        "What the ranking loses by shuffling each feature, as shares that sum to 1", None
    )
    family_importance: Mapping[str, float] | None = entry("The same summed by family", None)
    checkpoint_sha256: str | None = entry("Hash of checkpoint.safetensors", None)
    scores_sha256: str | None = entry("Hash of scores.parquet", None)
    metrics_sha256: str | None = entry("Hash of metrics.parquet", None)
    sequences: tuple[str, ...] = entry("Names of the features that are read over the look-back, in order", ())
    telemetry: Mapping[str, Any] | None = entry(
        "What the device did, in the fields of Summary; null: no look was taken", None
    )

    def hash_of(self, file: str) -> str | None:
        """The hash of checkpoint, scores or metrics; None if the record has none."""
        return {
            CHECKPOINT: self.checkpoint_sha256,
            SCORES: self.scores_sha256,
            METRICS: self.metrics_sha256,
        }[file]


def read_record(folder: Path) -> RunRecord:
    """`run.json` of a run directory.

    Raises:
        RunError: it is missing, malformed, or of another format.
    """
    path = Path(folder) / RUN_JSON
    document = read_json(path, "the training wrote no record: give the directory of a finished run", RunError)
    found = document.get("format") if isinstance(document, Mapping) else None
    if not isinstance(found, int):
        raise RunError(damaged(path, "it is no record of a run"))
    if found != FORMAT:
        raise OldRun(
            f"{path} has format {found!r}, this version reads {FORMAT}: its network has other parts, so no phase can "
            f"start from it; train the phases again from phase 0 (dagster asset materialize --select {TRAIN_AGAIN})"
        )
    try:
        return from_plain(RunRecord, document, str(path), RunError)
    except RunError as error:
        raise RunError(damaged(path, error)) from error


def lineage(folder: Path) -> Iterator[RunRecord]:
    """The record of a run and of those that it started from, as far as they are still there; its own comes first.

    Raises:
        RunError: its own is missing or malformed.
    """
    record = read_record(folder)
    yield record
    while record.parent is not None and record.parent.phase in range(len(PHASES)):
        try:
            record = read_record(Path(folder).parents[1] / PHASES[record.parent.phase].key / record.parent.run_id)
        except RunError:
            return
        yield record


def read_finished(folder: Path) -> RunRecord:
    """The record of a finished run whose checkpoint is there.

    Raises:
        RunError: it did not finish, or is not whole.
    """
    record = read_record(folder)
    if record.status != "finished":
        raise RunError(f"{Path(folder) / RUN_JSON} says {record.status!r}, not 'finished': train the phase to its end")
    if not (Path(folder) / CHECKPOINT).exists():
        raise RunError(damaged(Path(folder) / CHECKPOINT, "it is gone"))
    return record


def read_file(folder: Path, record: RunRecord, file: str) -> bytes:
    """The bytes of a run's checkpoint, scores or metrics, held against its record.

    Raises:
        RunError: it is gone, or not the file that the record describes.
    """
    return checked_bytes(Path(folder) / file, record.hash_of(file), RunError)


def write_record(folder: Path, record: RunRecord) -> None:
    """Replace `run.json`."""
    write_json(Path(folder) / RUN_JSON, record)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run directory while writing it; the kernel gives it back when the process ends, however it ends.

    Raises:
        RunError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"{folder} is being written by another training: wait for it or end it") from None
    else:
        yield
    finally:
        os.close(handle)


def end_record(folder: Path, status: Status) -> bool:
    """Let the record of a training whose process is gone say how it ended; whether it said "running" until now.

    Raises:
        RunError: the directory is held by a training that lives, or the record cannot be read.
    """
    with held(folder):
        record = read_record(folder)
        if record.status != "running":
            return False
        write_record(folder, replace(record, status=status))
        return True
