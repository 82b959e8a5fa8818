"""What a path holds, in words: whatever passes over the wall, and the folders and pointers around it.

Only records and headers are read, and neither torch nor a GPU is needed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atft_model.interchange.errors import InterchangeError, RequestError, damaged
from atft_model.interchange.fold import BLOCKS, Fold, read_fold
from atft_model.interchange.hashes import SIDECAR, checked_bytes, checked_state, read_sidecar
from atft_model.interchange.panel import DESCRIPTION, TENSORS, Panel, open_panel
from atft_model.interchange.pointers import resolve
from atft_model.interchange.records import from_plain, read_json, read_pointer
from atft_model.interchange.request import PredictRequest, TrainRequest, predict_request, train_request
from atft_model.interchange.run import CHECKPOINT, LATEST, METRICS, REQUEST, RUN_JSON, STATE, RunRecord, read_record
from atft_model.listing import run_folders, runs_table
from atft_model.tables import p_cell

KNOWN = (
    "a run, panel or baselines directory, a folder of runs or of panels, a pointer `latest`, a fold file, a request, "
    "a score file, metrics, a checkpoint or the state of an unfinished run"
)


def describe(path: Path) -> str:
    """Lines about a path.

    Raises:
        InterchangeError: there is nothing, it is damaged, or it is nothing that passes over the wall.
    """
    try:
        if path.is_dir():
            return describe_folder(path)
        if path.name == LATEST:
            target = resolve(path)
            return f"pointer {path} to {target.name}\n{describe_folder(target)}"
        if not path.exists():
            raise InterchangeError(f"{path} does not exist: give {KNOWN}")
        return describe_file(path)
    except OSError as error:
        raise InterchangeError(f"{path} cannot be read ({error.strerror or error})") from error


def describe_folder(folder: Path) -> str:
    """Lines about a directory.

    Raises:
        InterchangeError: as `describe`.
    """
    if (folder / DESCRIPTION).exists():
        return describe_panel(open_panel(folder))
    if (folder / RUN_JSON).exists():
        document = read_json(folder / RUN_JSON, "give a run directory", InterchangeError)
        if isinstance(document, Mapping) and "baselines" in document:
            return describe_baselines(folder, document)
        return describe_run(read_record(folder))
    if (folder / REQUEST).exists():
        return f"run {folder.name}, which has no record yet: its training began, or never came that far\n" + (
            describe_file(folder / REQUEST)
        )
    if (folder / "runs").is_dir():
        parts = [f"data root {folder}"]
        for part in ("panel", "runs"):
            if (folder / part).is_dir() and any((folder / part).iterdir()):
                parts.append(describe_folder(folder / part))
        return "\n".join(parts)
    if panels := sorted(path.parent for path in folder.glob(f"[!.]*/{DESCRIPTION}")):
        newest = read_pointer(folder / LATEST, InterchangeError)
        names = [f"  {panel.name}{' (latest)' if panel.name == newest else ''}" for panel in panels]
        return "\n".join([f"folder of {len(panels)} panels", *names])
    if run_folders(folder):
        return f"folder of runs\n{runs_table(folder)}"
    if sets := sorted(path.parent for path in folder.glob(f"[!.]*/{RUN_JSON}")):
        newest = read_pointer(folder / LATEST, InterchangeError)
        return "\n".join(
            describe_folder(path) + (" (latest)" if path.name == newest and len(sets) > 1 else "") for path in sets
        )
    raise InterchangeError(f"{folder} is nothing that ATFT's trainer reads or writes: give {KNOWN}")


def describe_file(path: Path) -> str:
    """Lines about a file.

    Raises:
        InterchangeError: as `describe`.
    """
    if path.name in (RUN_JSON, DESCRIPTION, TENSORS):
        return describe_folder(path.parent)
    if path.suffix == ".json":
        return describe_document(path)
    if path.suffix == ".parquet":
        return describe_parquet(path)
    if path.name == CHECKPOINT and (path.parent / RUN_JSON).exists():
        record = read_record(path.parent)
        checked_bytes(path, record.checkpoint_sha256, InterchangeError)
        return f"checkpoint, weights of the epoch that was kept, {path.stat().st_size:,} bytes\n{describe_run(record)}"
    if path.suffix == ".safetensors":
        carried = checked_state(path, InterchangeError)
        what = "state of an unfinished run" if path.name == STATE else "tensors"
        return f"{what}, {path.stat().st_size:,} bytes; its header says {', '.join(sorted(carried)) or 'nothing'}"
    raise InterchangeError(f"{path} is nothing that ATFT's trainer reads or writes: give {KNOWN}")


def describe_document(path: Path) -> str:
    """Lines about a fold or a request.

    Raises:
        InterchangeError: it is neither.
    """
    document = read_json(path, "give a file", InterchangeError)
    if not isinstance(document, Mapping):
        raise InterchangeError(f"{path} is JSON, but neither a fold nor a request")
    if {"train", "validation", "test"} <= set(document):
        return describe_fold(read_fold(path))
    if "phase" in document:
        train = train_request(document, str(path))
        return f"request to train phase {train.phase} into {train.out}\n" + _fields(train, document)
    if "run" in document:
        predict = predict_request(document, str(path))
        return f"request to predict with {predict.run} into {predict.out}\n" + _fields(predict, document)
    raise InterchangeError(f"{path} is JSON, but neither a fold nor a request")


def _fields(request: TrainRequest | PredictRequest, document: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in document.items() if value not in (None, {}, False) and name != "fold"}
    lines = [f"  {name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in shown.items()]
    if isinstance(request, TrainRequest):
        lines.append("  " + describe_fold(request.fold))
    return "\n".join(lines)


def describe_fold(fold: Fold) -> str:
    """Name and blocks of a fold."""
    blocks = [f"{block} {first} to {last}" for block, (first, last) in ((b, fold.span(b)) for b in BLOCKS)]
    return f"fold {fold.name}: " + ", ".join(blocks) + f"; {fold.purge_days} days purged, {fold.embargo_days} embargoed"


def describe_parquet(path: Path) -> str:
    """Lines about scores or metrics.

    Raises:
        InterchangeError: it is no Parquet file, neither of the two, or not the one that its hash describes.
    """
    sha256 = None
    if path.with_name(path.name + SIDECAR).exists():
        sha256 = read_sidecar(path, InterchangeError)
    data = checked_bytes(path, sha256, InterchangeError)
    try:
        frame = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InterchangeError(damaged(path, f"no Parquet file: {str(error)[:100]}")) from error
    horizons = [match[1] for name in frame.column_names if (match := re.fullmatch(r"score_(\d+)d", name))]
    if horizons and {"date", "code"} <= set(frame.column_names):
        days, codes = pc.unique(frame["date"]), pc.unique(frame["code"])
        span = f"{pc.min(days)} to {pc.max(days)}" if len(days) else "no day"
        checked = "its hash holds" if sha256 else "no hash beside it"
        return (
            f"scores: {frame.num_rows:,} rows, {len(days):,} days ({span}), {len(codes):,} names, horizons "
            f"{', '.join(horizons)}; {checked}"
        )
    if path.name == METRICS:
        return f"metrics of a training: {frame.num_rows} rows, one an epoch; columns {', '.join(frame.column_names)}"
    raise InterchangeError(
        f"{path} holds neither scores (date, code, score_<h>d) nor metrics of a training; a table of the data root is "
        "read with examples/read_table.py"
    )


def describe_baselines(folder: Path, document: Mapping[str, Any]) -> str:
    """Models, fold and panel of a set of baselines.

    Raises:
        InterchangeError: the fold of its record is none.
    """
    fold = from_plain(Fold, document.get("fold"), f"{folder / RUN_JSON}: fold", RequestError)
    names = ", ".join(document["baselines"])
    return (
        f"baselines {folder.name}: {names}, {document.get('status')}, panel {document.get('panel_id')}\n"
        f"  {describe_fold(fold)}"
    )


def describe_panel(panel: Panel) -> str:
    """Sizes, features and graph of a panel."""
    description = panel.description
    neighbours, mask = panel.tensors["neighbours"], panel.tensors["neighbour_mask"]
    own = np.arange(neighbours.shape[1])[:, None]
    degree = (mask & (neighbours != own)).sum(-1)
    families = Counter(feature.family for feature in description.features)
    return "\n".join(
        [
            f"panel {panel.panel_id}: {len(panel.codes):,} names, {len(panel.dates):,} days "
            f"{panel.dates[0]} to {panel.dates[-1]}",
            f"{len(description.features)} features ({description.feature_set}), catalogue "
            f"{description.catalogue_hash}, label {description.label}, target {description.target}, "
            f"horizons {', '.join(map(str, description.horizons))}",
            "  families: " + ", ".join(f"{k} {v}" for k, v in families.items()),
            f"  graph: {neighbours.shape[0]} periods, {neighbours.shape[2]} slots, mean degree "
            f"{degree.mean():.1f}, {(degree == 0).mean():.1%} of names without neighbours",
        ]
    )


def describe_run(run: RunRecord) -> str:
    """Phase, blocks, figures and guards of a run."""
    lines = [f"run {run.run_id}: phase {run.phase} {run.name}, {run.status}, panel {run.panel_id}"]
    lines.append("  " + describe_fold(run.fold))
    if run.parent:
        lines.append(f"  started from {run.parent.run_id} ({run.parent.path})")
    if run.parameters:
        counts = run.parameters
        lines.append(f"  {sum(counts.values()):,} parameters: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()))
    if run.validation:
        v = run.validation
        ranks = ", ".join(f"{h}d {_figure(r, '+.4f')} ({_told(v, h)})" for h, r in v["rank_ic_by_horizon"].items())
        lines.append(f"  validation RankIC {v['rank_ic']:+.4f} on {v['days']} days: {ranks}")
        lines.append(
            f"  epoch {run.kept_epoch} of {run.epochs} kept, {run.seconds:.1f} s, "
            f"{run.stock_days_per_s:,.0f} stock-days/s"
        )
    if run.family_importance:
        shares = sorted(run.family_importance.items(), key=lambda item: -item[1])
        lines.append("  families: " + ", ".join(f"{k} {x:.1%}" for k, x in shares))
    if run.guards:
        lines.append("  guards: " + ("passed" if run.guards["passed"] else "; ".join(run.guards["messages"])))
    return "\n".join(lines)


def _told(validation: Mapping[str, Any], horizon: str) -> str:
    """t and p of a horizon; blocks of few days have no p, and records of earlier versions a t of another rule."""
    t = f"t {_figure(validation['t_newey_west_by_horizon'][horizon], '+.1f')}"
    if "p_by_horizon" not in validation:
        return f"{t} by the rule of an earlier version, too large"
    p = validation["p_by_horizon"][horizon]
    return f"{t}, too few days for a p" if p is None else f"{t}, p {p_cell(p)}"


def _figure(value: float | None, form: str) -> str:
    """A number; a dash where scores did not vary and there is none."""
    return "–" if value is None else format(value, form)
