"""Files of a run directory: atomic writes, disk-space checks, checkpoints and whether they fit, the rotating log.

Every file is written to a temporary sibling, flushed to the disk and renamed, so a reader sees the old file or the
new one. A full disk or an exhausted quota removes the temporary file, leaves the last good one, and surfaces as
`DiskFull`. What the files are is defined in `interchange.run`. `state.safetensors` exists only while a run is under way
and is what a request with `resume` continues from: one file (plain values in its header), so it is never torn.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from atft_model.interchange.config import ModelConfig
from atft_model.interchange.disk import FULL, DiskFull
from atft_model.interchange.errors import InterchangeError, RunError, damaged
from atft_model.interchange.hashes import HASH, checked_state, file_sha256, state_hash
from atft_model.interchange.panel import PanelDescription
from atft_model.interchange.records import to_plain
from atft_model.interchange.run import CHECKPOINT, LOG, RunRecord, read_finished

RESERVE_BYTES = 1 << 20
LOG_BYTES, LOG_FILES = 4 << 20, 3


class Mismatch(InterchangeError):
    """A checkpoint that does not fit the panel or the network; the message lists every difference."""


def require_space(directory: Path, needed: int, what: str) -> None:
    """Look whether the file system of a directory has `needed` bytes, and a reserve, free.

    Raises:
        DiskFull: it has not.
    """
    free = shutil.disk_usage(directory).free
    if free < needed + RESERVE_BYTES:
        raise DiskFull(
            errno.ENOSPC,
            f"{what} needs {needed / 1e6:.1f} MB in {directory} but {free / 1e6:.1f} MB are free: "
            "remove old runs or choose another `out`; what was saved before is intact",
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step.

    Raises:
        DiskFull: no space or quota left; the old file is untouched.
    """
    require_space(path.parent, len(data), path.name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in FULL:
            reason = "the disk is full" if error.errno == errno.ENOSPC else "the quota is exhausted"
            raise DiskFull(error.errno, f"{path} was not written: {reason}; the file from before is intact") from error
        raise


def write_tensors(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> str:
    """Write a safetensors file; equal tensors give equal bytes.

    Args:
        values: plain values that are put into its header as JSON, with a hash of them and of the tensors.

    Returns:
        The sha256 of the file.

    Raises:
        DiskFull: no space or quota left; the old file is untouched.
    """
    ordered = {k: tensors[k].detach().cpu().contiguous() for k in sorted(tensors)}
    data = save_tensors(ordered)
    if values is not None:
        carried = {"values": json.dumps(to_plain(values))}
        carried[HASH] = state_hash(save_tensors(ordered, carried))
        data = save_tensors(ordered, carried)
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    return load_tensors(path.read_bytes())


def read_values(path: Path) -> dict[str, Any]:
    """The plain values that `write_tensors` put beside the tensors.

    Raises:
        RunError: the file is gone or damaged.
    """
    values: dict[str, Any] = json.loads(checked_state(path, RunError)["values"])
    return values


def write_parquet(path: Path, columns: Mapping[str, Any]) -> str:
    """Write columns (arrays or lists of equal length) as one zstd parquet file.

    Returns:
        The sha256 of the file.

    Raises:
        DiskFull: no space or quota left; the old file is untouched.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows of numbers and strings as parquet; a key that a row lacks is null there. Returns the file's sha256."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    return write_parquet(path, {k: [to_plain(row.get(k)) for row in rows] for k in keys})


class RunLog:
    """log.jsonl: one JSON object a line, rotated at LOG_BYTES to log.jsonl.1 and so on: words cannot fill a disk."""

    def __init__(self, directory: Path, limit: int = LOG_BYTES, files: int = LOG_FILES) -> None:
        self.path, self.limit, self.files = directory / LOG, limit, files

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line; DiskFull if there is no room for it."""
        line = json.dumps(to_plain(record)) + "\n"
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > self.limit:
                self.rotate()
            with open(self.path, "a") as file:
                file.write(line)
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull(error.errno, f"{self.path} could not grow: no space or quota left") from error
            raise

    def rotate(self) -> None:
        """Move each file one number up; the last one goes."""
        for i in range(self.files - 1, 0, -1):
            older = self.path.with_name(f"{LOG}.{i}")
            newer = self.path if i == 1 else self.path.with_name(f"{LOG}.{i - 1}")
            if newer.exists():
                os.replace(newer, older)


def feature_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Words for how two ordered feature lists differ."""
    gone, new = [f for f in theirs if f not in set(ours)], [f for f in ours if f not in set(theirs)]
    parts = []
    if gone:
        parts.append(f"missing in the panel: {', '.join(gone[:10])}{' …' if len(gone) > 10 else ''}")
    if new:
        parts.append(f"unknown to the checkpoint: {', '.join(new[:10])}{' …' if len(new) > 10 else ''}")
    if not parts and list(ours) != list(theirs):
        at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        parts.append(f"same names in another order from column {at} ({theirs[at]} -> {ours[at]})")
    return "; ".join(parts) or "the names agree, their formulas or kinds do not"


FREE_KNOBS = ("gat_backend", "dropout")  # may differ between a checkpoint and the network that takes its weights


def check_fit(run: RunRecord, panel: PanelDescription, model: ModelConfig | None = None) -> None:
    """Hold the weights of a run against a panel, and against the network that is to take them.

    Raises:
        Mismatch: they were made for other features, horizons or shapes; the message lists every difference.
    """
    problems = []
    if run.catalogue_hash != panel.catalogue_hash:
        words = feature_difference([f.name for f in panel.features], run.features)
        problems.append(f"catalogue hash: checkpoint {run.catalogue_hash}, panel {panel.catalogue_hash} ({words})")
    if run.horizons != panel.horizons:
        problems.append(f"horizons: checkpoint {list(run.horizons)}, panel {list(panel.horizons)}")
    marked = tuple(panel.features[place].name for place in panel.sequences)
    if run.sequences != marked:
        words = feature_difference(marked, run.sequences)
        problems.append(f"sequence inputs: checkpoint {len(run.sequences)}, panel {len(marked)} ({words})")
    if model is not None:
        theirs, ours = run.config["model"], to_plain(model)
        for key in sorted(set(theirs) | set(ours)):
            if theirs.get(key) != ours.get(key) and key not in FREE_KNOBS:
                problems.append(f"{key}: checkpoint {theirs.get(key)}, this network {ours.get(key)}")
    if problems:
        raise Mismatch("the checkpoint does not fit:\n  " + "\n  ".join(problems))


def load_members(directory: Path) -> list[dict[str, Tensor]]:
    """Weights of a finished run's ensemble members, by parameter, in order.

    Raises:
        RunError: the run is not finished or not whole.
        Mismatch: the checkpoint is not the file that run.json describes.
    """
    run, path = read_finished(directory), directory / CHECKPOINT
    if file_sha256(path) != run.checkpoint_sha256:
        raise Mismatch(damaged(path, "it is not the file that run.json describes: its sha256 differs"))
    return split_members(read_tensors(path))


def split_members(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """`<member>/<parameter>` as one dict a member; inverse of `join_members`."""
    members: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/", 1)
        members.setdefault(int(index), {})[name] = tensor
    return [members[i] for i in sorted(members)]


def join_members(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The members' weights under `<member>/<parameter>`."""
    return {f"{i}/{name}": tensor for i, member in enumerate(members) for name, tensor in member.items()}


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a network, all of them and nothing else.

    Raises:
        Mismatch: parameters are missing, unknown or of another shape; the message lists them.
    """
    own = model.state_dict()
    problems = [f"{k}: missing in the checkpoint" for k in own if k not in weights]
    problems += [f"{k}: unknown to this network" for k in weights if k not in own]
    problems += [
        f"{k}: checkpoint {tuple(weights[k].shape)}, network {tuple(own[k].shape)}"
        for k in own
        if k in weights and own[k].shape != weights[k].shape
    ]
    if problems:
        raise Mismatch("the checkpoint does not fit:\n  " + "\n  ".join(problems[:20]))
    model.load_state_dict(dict(weights))
