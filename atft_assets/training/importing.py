"""A run that was trained elsewhere, taken in as if it had been trained here.

The asset of its phase does it, with `import_run` in its config: the same look before, the same checks after, the same
materialization with its lineage. What must hold beyond that stands here. The files are copied beside the runs and
renamed into place; nothing of the run's own directory is changed.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from atft_assets.failures import Refusal
from atft_assets.reports.scoreboard import TOLERANCE
from atft_assets.scoring.block import Block
from atft_assets.training.preflight import Ready, unfit
from atft_assets.training.runs import Run, open_run
from atft_model.interchange.disk import writing
from atft_model.interchange.fold import BLOCKS, Fold
from atft_model.interchange.phases import Phase
from atft_model.interchange.pointers import resolve
from atft_model.interchange.records import POINTED
from atft_model.interchange.run import CHECKPOINT, LOG, METRICS, REQUEST, RUN_JSON, SCORES, RunRecord, write_record
from atft_model.interchange.telemetry import TELEMETRY

TIMED = re.compile(r"\d{8}T\d{6}")  # how ids of runs begin: by name they are in the order of their time
STAGED = ".staged-"  # and the process that writes; the reaper knows whose process is gone
KEPT = (CHECKPOINT, SCORES, METRICS, REQUEST, LOG, TELEMETRY)


class NotImportable(Refusal):
    """A run must not become one of ours; the text is one sentence with the remedy."""


def take_in(given: str, phase: Phase, ready: Ready, folder: Path) -> Run:
    """The run in a directory, copied to where the runs of its phase lie; one that is there already stays as it is.

    Args:
        given: its directory, or a pointer `latest`.
        ready: what the phase would be trained from here: the run must have been trained from the same.
        folder: `runs/<fold>/<phase>`.

    Raises:
        NotImportable: it was trained on or from something else, or its place is taken.
        RunError: it is not finished, or a file of it is not as its record says.
        DiskFull, Unwritable: it cannot be copied.
    """
    source = resolve(Path(given).expanduser())
    theirs = open_run(source)
    theirs.metrics()  # held against their hash, as checkpoint and scores were
    for why in _objections(theirs, phase, ready):
        raise NotImportable(f"the run {source} {why}")
    record = _as_ours(theirs.record, _id_of(source, theirs.record), ready)
    target = folder / record.run_id
    if target.exists():
        if open_run(target).record != record:
            raise NotImportable(
                f"{target} exists and holds another run: rename {source}, so that its name begins with its time, for "
                "instance 20260131T180000-gpu"
            )
        return open_run(target)
    _copy(source, record, target)
    return open_run(target)


def origin(run: Run, given: str) -> str:
    """Where a run came from, in words: its directory, and the machine that trained it."""
    found = run.record.hardware
    machine = ", ".join(str(found[name]) for name in ("host", "gpu", "machine", "device") if found.get(name))
    versions = ", ".join(f"{name} {version}" for name, version in run.record.versions.items())
    return "; ".join(part for part in (given, machine, versions) if part)


def _objections(run: Run, phase: Phase, ready: Ready) -> Iterator[str]:
    """What keeps a run from standing where one that was trained here would stand."""
    record, panel, fold = run.record, ready.panel, ready.fold
    if record.phase != phase.index:
        yield f"is of phase {record.phase} ({record.name}), not of phase {phase.index}: import it as that"
    if controls := [name for name, seed in record.controls.items() if seed is not None]:
        yield f"is a control ({', '.join(controls)}), made to learn nothing real: import the run itself"
    if record.panel_id != panel.panel_id:
        yield (
            f"was trained on panel {record.panel_id}; the newest here is {panel.panel_id}, and its lineage would be "
            "another: copy that panel and train there on it"
        )
    if why := unfit(record, panel, fold):
        yield why
    if list(record.features) != panel.features:
        yield f"has other inputs than panel {panel.panel_id}, or in another order: train on a fresh copy of the panel"
    if why := _other_days(record.fold, fold):
        yield f"{why}: train it there again with the fold in fold/{panel.panel_id}/{fold.name}.json"
    yield from _other_parent(record, ready)
    reported = (record.validation or {}).get("rank_ic")
    ours = Block.of(panel, fold, "validation").score(run.scores()).rank_ic
    if reported is None or not abs(ours - reported) <= TOLERANCE:
        yield (
            f"reports a validation RankIC of {reported}, but on the panel here its scores give {ours:.6f}: the panels "
            "differ. Copy the panel anew and train there again"
        )


def _other_days(theirs: Fold, ours: Fold) -> str:
    """How a run's fold differs from the one here; nothing if it does not."""
    if theirs == ours:
        return ""
    for block in BLOCKS:
        if theirs.span(block) != ours.span(block):
            (first, last), (our_first, our_last) = theirs.span(block), ours.span(block)
            return f"was trained with the {block} block {first} to {last}, here it is {our_first} to {our_last}"
    return f"was trained on the fold {theirs.name}, not {ours.name}, or with other purge and embargo"


def _other_parent(record: RunRecord, ready: Ready) -> Iterator[str]:
    """The weights that it started from must be those that a training here would start from."""
    if ready.parent is None:
        return  # a run of the first phase; of a later one the look before a training has found its parent
    if record.parent is None:
        yield "started from random weights, and its phase starts from the one before: give `init` and train again"
    elif record.parent.sha256 != ready.parent.record.checkpoint_sha256:
        yield (
            f"started from {record.parent.run_id}, whose checkpoint is another than that of {ready.parent.run_id}, "
            f"the newest run of that phase here: import {record.parent.run_id} first, also if it is here already"
        )


def _id_of(source: Path, record: RunRecord) -> str:
    """Its id here: its own if that begins with a time, else the time when it ended before it."""
    name = record.run_id
    if not TIMED.match(name):
        ended = datetime.fromtimestamp((source / RUN_JSON).stat().st_mtime, UTC)
        name = f"{ended:%Y%m%dT%H%M%S}-{name}"
    if not POINTED.fullmatch(name):
        raise NotImportable(f"the run {source} is called {record.run_id!r}: a name may hold letters, digits, . _ and -")
    return name


def _as_ours(record: RunRecord, run_id: str, ready: Ready) -> RunRecord:
    """The record with the ids by which it and its parent are known here."""
    parent = record.parent
    if parent is not None and ready.parent is not None:
        parent = replace(parent, run_id=ready.parent.run_id)
    return replace(record, run_id=run_id, parent=parent)


def _copy(source: Path, record: RunRecord, target: Path) -> None:
    """Copy beside the runs, flush, rename: a reader sees the whole run or none."""
    staged = target.parents[1] / f"{STAGED}{os.getpid()}"
    files = [source / name for name in KEPT if (source / name).is_file()]
    try:
        with writing(target, sum(path.stat().st_size for path in files)):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            target.parent.mkdir(exist_ok=True)
            for path in files:
                shutil.copyfile(path, staged / path.name)
                with (staged / path.name).open("rb") as file:
                    os.fsync(file.fileno())
            write_record(staged, record)
            staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
