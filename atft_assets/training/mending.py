"""Folds, runs, baselines and figures that are damaged, and the pointers to the newest runs.

A run is whole with its record, its checkpoint and its scores. Scores that are lost alone are predicted again from the
checkpoint, and must come out as the record has them; with anything else the whole run goes aside.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from atft_assets.panel.mending import point_again, pointed, pointer_damage
from atft_assets.store.damage import Damage, Lost, said_of
from atft_assets.store.retired import RETIRED
from atft_assets.training.baselines import open_baselines
from atft_assets.training.evaluation import TEST_EVALUATION, TEST_FILE
from atft_assets.training.fold_scores import INDEX
from atft_assets.training.folds import NAME as FOLDS
from atft_assets.training.lanes import BASELINES, EVALUATION, FOLD_SCORES, WALK_FORWARD, lane_of
from atft_assets.training.looks import LEDGER_FILE, ledger, write_ledger
from atft_assets.training.runs import Run, scores_of
from atft_assets.training.seeds import MEMBERS, members
from atft_assets.training.walk_forward import FINAL
from atft_model.interchange.errors import FoldError, InterchangeError, OldRun, PanelError, RunError, damaged
from atft_model.interchange.fold import MAIN, read_fold
from atft_model.interchange.hashes import checked_state
from atft_model.interchange.panel import LATEST as LATEST_PANEL
from atft_model.interchange.panel import read_description
from atft_model.interchange.phases import PHASES
from atft_model.interchange.records import read_json
from atft_model.interchange.run import CHECKPOINT, LATEST, METRICS, RUN_JSON, SCORES, STATE, read_file, read_record


def fold_damages(root: Path) -> Iterator[Damage]:
    """Fold files that cannot be read, or whose blocks do not lie on the days of their panel as they must."""
    for path in sorted((root / "fold").glob("*/*.json")):
        panel = root / "panel" / path.parent.name
        try:
            fold = read_fold(path)
            if fold.name != path.stem:
                raise FoldError(damaged(path, f"it says that it is the fold {fold.name}"))
            if panel.is_dir():
                description = read_description(panel)
                fold.check(description.dates, description.horizons)
        except PanelError:
            continue  # of the panel something is said elsewhere
        except FoldError as error:
            newest = pointed(root / "panel" / LATEST_PANEL) == path.parent.name
            yield Damage(path, _about(path, error), (Lost(FOLDS),) if newest else ())


def run_damages(root: Path) -> Iterator[Damage]:
    """Damaged runs and sets of baselines of all folds, and pointers that name none that is whole."""
    for folder in sorted(path for path in (root / "runs").glob("[!.]*/[!.]*") if path.is_dir()):
        lost = _lost(folder)
        newest = pointed(folder / LATEST)
        runs = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
        found, published = list(_list_damages(folder, lost)), {newest}
        if newest and not found:
            published |= set(members(folder / newest))
        for run in runs:
            for damage in _set_damage(run) if folder.name == BASELINES else _run_damage(root, run):
                counts = damage.path == run and run.name in (*published, runs[-1].name)
                found.append(Damage(damage.path, damage.said, lost if counts else (), damage.command))
        yield from found
        gone = {damage.path.name for damage in found}
        finished = [run.name for run in runs if run.name not in gone and _ended_well(run)]
        if why := pointer_damage(folder / LATEST, finished):
            yield Damage(folder / LATEST, why, () if finished else lost)


def _list_damages(folder: Path, lost: tuple[Lost, ...]) -> Iterator[Damage]:
    """Lists of runs that are published together, of which one is not there, or that cannot be read.

    Of the one that `latest` stands for the phase must be trained again: with the list aside, one seed alone is left.
    """
    newest = pointed(folder / LATEST)
    for path in sorted(folder.glob(f"[!.]*{MEMBERS}")):
        run = folder / path.name.removesuffix(MEMBERS)
        try:
            if gone := [name for name in members(run) if not (folder / name).is_dir()]:
                raise RunError(damaged(path, f"it names {', '.join(gone)}, which is no run"))
        except RunError as error:
            yield Damage(path, said_of(error), lost if run.name == newest else ())


def point_at_newest_run(pointer: Path) -> Iterator[str]:
    """Set a pointer again that was put aside, to the newest of the runs beside it that ended well."""
    runs = [run for run in sorted(pointer.parent.glob("[!.]*")) if run.is_dir() and _ended_well(run)]
    if runs:  # ids of runs begin with their time, those of baselines are hashes
        newest = max(runs, key=lambda run: (run / RUN_JSON).stat().st_mtime) if _of_baselines(pointer) else runs[-1]
        yield point_again(pointer, newest)


def figure_damages(root: Path) -> Iterator[Damage]:
    """Damaged figures, predicted scores, and the ledger of test blocks."""
    for path in sorted((root / "evaluation").glob("*/*.json")):
        try:
            if not isinstance(board := read_json(path, "it is gone", RunError), dict) or not board:
                raise RunError(damaged(path, "it holds no figures"))
        except RunError as error:
            asset, config = _of_figures(path)
            fold = path.parent.name
            key = None if fold in (MAIN, WALK_FORWARD) else fold
            again = (
                f"dagster asset materialize --select {asset}  # with the config {config}: true, which counts as a "
                "second look"
            )
            yield Damage(path, said_of(error), () if config else (Lost(asset, key),), again if config else "")
    for path in sorted((root / "evaluation").glob("*/scores/*.parquet")):
        try:
            scores_of(path)
        except RunError as error:
            yield Damage(path, said_of(error))  # the figures made of them stand; the next scoring writes new ones
    try:
        ledger(root / "evaluation")
    except RunError as error:
        yield Damage(root / "evaluation" / LEDGER_FILE, said_of(error))


def _of_figures(path: Path) -> tuple[str, str]:
    """The asset that writes a file of figures, and the config that it needs because the file's days are seen once."""
    if path.name == TEST_FILE:
        return TEST_EVALUATION, "score_again"
    if path.parent.name == WALK_FORWARD:
        return WALK_FORWARD, "score_again" if path.stem == FINAL else ""
    return (FOLD_SCORES if path.name == INDEX else lane_of(path.parent.name).asset(EVALUATION)), ""


def keep_ledger(root: Path, damaged_ledger: bytes) -> Iterator[str]:
    """The ledger again: the lines that can be read; for each other one, a look at every day, for it may be one."""
    entries, unread = [], 0
    for line in damaged_ledger.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            entries.append(entry)
        elif line.strip():
            unread += 1
            entries.append({"fold": MAIN, "runs": {}, "at": "a day that the ledger has lost", "again": False})
    write_ledger(root / "evaluation", entries)
    yield (
        f"{root / 'evaluation' / LEDGER_FILE}: {len(entries) - unread} scorings kept, {unread} lost; a lost one counts "
        "as a look at every day"
    )


def _run_damage(root: Path, run: Path) -> Iterator[Damage]:
    if not (run / RUN_JSON).exists():
        if (run / SCORES).exists():  # what a training writes before it says that it has ended
            yield Damage(run, said_of(damaged(run / RUN_JSON, "it is gone")))
        return
    try:
        record = read_record(run)
        if record.status != "finished":
            yield from _state_damage(run / STATE)
            return
        read_file(run, record, CHECKPOINT)
    except OldRun:
        return
    except RunError as error:
        yield Damage(run, said_of(error))
        return
    whole = Run(run)
    try:
        whole.scores()
    except RunError as error:
        tried = (root / RETIRED / (run / SCORES).relative_to(root)).exists() and (run / SCORES).exists()
        panel = root / "panel" / record.panel_id
        if tried or not _readable(panel):
            yield Damage(run, said_of(error))
            return
        first, last = record.fold.validation
        given = {"run": run, "panel": panel, "first": first, "last": last, "out": run / SCORES}
        settings = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in given.items())
        yield Damage(run / SCORES, said_of(error), command=f"python -m atft_model predict {settings}")
    try:
        whole.metrics()
    except RunError as error:
        if (run / METRICS).exists():  # its curve is lost, which nothing is computed from
            yield Damage(run / METRICS, said_of(error))


def _state_damage(path: Path) -> Iterator[Damage]:
    """Of an unfinished run, which without it begins anew where it is resumed."""
    try:
        if path.exists():
            checked_state(path, RunError)
    except RunError as error:
        yield Damage(path, f"{said_of(error)}; without it `resume_run: {path.parent.name}` begins at the first epoch")


def _set_damage(folder: Path) -> Iterator[Damage]:
    try:
        open_baselines(folder)
    except InterchangeError as error:
        yield Damage(folder, said_of(error))


def _lost(folder: Path) -> tuple[Lost, ...]:
    """What `runs/<fold>/<phase>` is materialized by."""
    fold = folder.parent.name
    lane = lane_of(fold)
    key = None if fold == MAIN else fold
    if folder.name == BASELINES:
        return (Lost(lane.asset(BASELINES), key),)
    return tuple(Lost(lane.phase(phase), key) for phase in PHASES if phase.key == folder.name)


def _ended_well(run: Path) -> bool:
    if _of_baselines(run):
        return (run / RUN_JSON).exists()
    try:
        return read_record(run).status == "finished"
    except OldRun:
        return True
    except RunError:
        return False


def _of_baselines(path: Path) -> bool:
    return path.parent.name == BASELINES


def _readable(panel: Path) -> bool:
    try:
        return bool(read_description(panel).dates)
    except PanelError:
        return False


def _about(path: Path, error: FoldError) -> str:
    text = said_of(error)
    return text if text.startswith(str(path)) else said_of(damaged(path, text))
