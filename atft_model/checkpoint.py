"""Files of a run directory: atomic writes, disk-space checks, checkpoints and their lineage, the rotating log.

Every file is written to a temporary sibling, flushed to the disk and renamed, so a reader sees the old file or the
new one. A full disk or an exhausted quota removes the temporary file, leaves the last good one, and surfaces as
`DiskFull`. Weights live in `checkpoint.safetensors` under `<member>/<parameter>`; `run.json` says what they are.
`state.safetensors` exists only while a run is under way and is what `--resume` continues from: one file (plain values
in its header), so it is never torn.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from atft_model.config import Preset, to_json
from atft_model.panel import PanelMeta

CHECKPOINT, STATE, RUN_JSON = "checkpoint.safetensors", "state.safetensors", "run.json"
METRICS, SCORES, LOG = "metrics.parquet", "scores.parquet", "log.jsonl"
RESERVE_BYTES = 1 << 20
LOG_BYTES, LOG_FILES = 4 << 20, 3


class DiskFull(OSError):
    """No space or quota left for a file; the message names the file, what it needs and what is free."""


class Mismatch(ValueError):
    """A checkpoint that does not fit the panel or the network; the message lists every difference."""


def require_space(directory: Path, needed: int, what: str) -> None:
    """Raises DiskFull when the file system of `directory` has less than `needed` bytes (plus a reserve) free."""
    free = shutil.disk_usage(directory).free
    if free < needed + RESERVE_BYTES:
        raise DiskFull(
            errno.ENOSPC,
            f"{what} needs {needed / 1e6:.1f} MB in {directory} but {free / 1e6:.1f} MB are free: "
            "remove old runs or choose another --out; what was saved before is intact",
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step; DiskFull on ENOSPC or EDQUOT, with the old file untouched."""
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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full" if error.errno == errno.ENOSPC else "the quota is exhausted"
            raise DiskFull(error.errno, f"{path} was not written: {reason}; the file from before is intact") from error
        raise


def plain(value: Any) -> Any:
    """`value` as strict JSON: tensors and numpy scalars become numbers, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(plain(document), indent=1) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> str:
    """Writes safetensors (equal weights give equal bytes), `values` as JSON in its header; the sha256 of the file."""
    metadata = None if values is None else {"values": json.dumps(plain(values))}
    data = save_tensors({k: tensors[k].detach().cpu().contiguous() for k in sorted(tensors)}, metadata)
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    return load_tensors(path.read_bytes())


def read_values(path: Path) -> dict[str, Any]:
    """The plain values that `write_tensors` put beside the tensors."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {})["values"])


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    """Writes columns (arrays or lists of equal length) as one zstd parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of numbers and strings as parquet; a key that a row lacks is null there."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    write_parquet(path, {k: [plain(row.get(k)) for row in rows] for k in keys})


class RunLog:
    """log.jsonl: one JSON object a line, rotated at LOG_BYTES to log.jsonl.1 .. so a run cannot fill a disk with
    words.
    """

    def __init__(self, directory: Path, limit: int = LOG_BYTES, files: int = LOG_FILES) -> None:
        self.path, self.limit, self.files = directory / LOG, limit, files

    def write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(plain(record)) + "\n"
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > self.limit:
                self.rotate()
            with open(self.path, "a") as file:
                file.write(line)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(error.errno, f"{self.path} could not grow: no space or quota left") from error
            raise

    def rotate(self) -> None:
        for i in range(self.files - 1, 0, -1):
            older = self.path.with_name(f"{LOG}.{i}")
            newer = self.path if i == 1 else self.path.with_name(f"{LOG}.{i - 1}")
            if newer.exists():
                os.replace(newer, older)


def read_run(directory: Path | str) -> dict[str, Any]:
    """run.json of a run directory; Mismatch says that it is missing or not JSON."""
    path = Path(directory) / RUN_JSON
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Mismatch(f"{path} does not exist: give the directory of a finished run") from error
    except json.JSONDecodeError as error:
        raise Mismatch(f"{path} is not JSON ({error})") from error


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def check_fit(run: Mapping[str, Any], meta: PanelMeta, config: Preset | None, *, same_panel: bool) -> None:
    """Raises Mismatch unless the weights of `run` may be used on the panel (and with `config`), listing the
    differences.

    same_panel: training from these weights needs the very panel they were trained on, because another panel may hold
    their training days in its validation block. Scoring needs the same catalogue and horizons only.
    """
    problems = []
    if run["catalogue_hash"] != meta.catalogue_hash:
        words = feature_difference([f.name for f in meta.features], run["features"])
        problems.append(f"catalogue hash: checkpoint {run['catalogue_hash']}, panel {meta.catalogue_hash} ({words})")
    if list(run["horizons"]) != list(meta.horizons):
        problems.append(f"horizons: checkpoint {list(run['horizons'])}, panel {list(meta.horizons)}")
    if same_panel and run["panel_id"] != meta.panel_id:
        problems.append(f"panel: checkpoint was trained on {run['panel_id']}, this is {meta.panel_id}")
    if config is not None:
        theirs, ours = run["config"]["model"], to_json(config)["model"]
        for key in sorted(set(theirs) | set(ours)):
            if theirs.get(key) != ours.get(key) and key not in ("gat_backend", "dropout"):
                problems.append(f"{key}: checkpoint {theirs.get(key)}, this network {ours.get(key)}")
    if problems:
        raise Mismatch("the checkpoint does not fit:\n  " + "\n  ".join(problems))


def load_members(directory: Path | str) -> list[dict[str, Tensor]]:
    """State dicts of a run's ensemble members, in order; Mismatch if the file is missing or its hash is not
    run.json's.
    """
    path = Path(directory) / CHECKPOINT
    if not path.exists():
        raise Mismatch(f"{path} does not exist: the run has no checkpoint")
    run = read_run(directory)
    if run.get("checkpoint_sha256") and file_sha256(path) != run["checkpoint_sha256"]:
        raise Mismatch(
            f"{path} is not the file that run.json describes (sha256 differs): restore it or retrain the phase"
        )
    return split_members(read_tensors(path))


def split_members(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    members: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/", 1)
        members.setdefault(int(index), {})[name] = tensor
    return [members[i] for i in sorted(members)]


def join_members(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{i}/{name}": tensor for i, member in enumerate(members) for name, tensor in member.items()}


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Strict load; Mismatch lists missing, unknown and differently shaped parameters."""
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
