"""What may go under the data root: run directories, sets of baselines, panels, and what was put aside.

Nothing goes that is younger than the given days. A run or a set of baselines stays as long as a keeper names it
(`KEEPERS`, one function a reason), and with it the runs that it started from. A panel stays that a run which stays was
made with. What cannot be read stays where it is: that is a case for `mend`.
"""

import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from atft_assets.operations.going import Going
from atft_assets.store.retired import RETIRED
from atft_assets.trading.champion import FOLDER as TRADING
from atft_assets.trading.champion import kept_ids, promotions
from atft_assets.training.lanes import BASELINES
from atft_assets.training.runs import all_runs, panel_of, panels_in_use
from atft_assets.training.seeds import members, members_file
from atft_model.interchange.disk import size_of
from atft_model.interchange.errors import PanelError, RunError
from atft_model.interchange.panel import DESCRIPTION
from atft_model.interchange.panel import LATEST as LATEST_PANEL
from atft_model.interchange.records import read_json, read_pointer
from atft_model.interchange.run import LATEST, RUN_JSON, SCORES, held, read_record

RUN, BASELINE_SET, PANEL, ASIDE = "run", "baselines", "panel", "put aside"
DAGSTER_RUN = re.compile(r"-([0-9a-f]{8})$")  # see `new_run_id`


@dataclass(frozen=True)
class RunFolder:
    """A run directory, or a set of baselines, as retention sees it.

    Attributes:
        changed: when a file of it changed last, seconds of the epoch.
        status: what its record says; empty if there is none, None if it cannot be read.
        rank_ic: validation RankIC of a finished run.
        parent: id of the run that it started from.
    """

    path: Path
    changed: float
    status: str | None
    rank_ic: float | None = None
    parent: str | None = None

    @property
    def baselines(self) -> bool:
        return self.path.parent.name == BASELINES

    @classmethod
    def of(cls, path: Path) -> "RunFolder":
        """Look at a directory."""
        changed = max((_changed(file) for file in (path, *path.iterdir())), default=0.0)
        if not (path / RUN_JSON).exists():
            return cls(path, changed, None if (path / SCORES).exists() else "")
        try:
            if path.parent.name == BASELINES:
                document = read_json(path / RUN_JSON, "it is gone", RunError)
                return cls(path, changed, "finished" if isinstance(document, dict) else None)
            record = read_record(path)
        except RunError:
            return cls(path, changed, None)
        found = (record.validation or {}).get("rank_ic") if record.status == "finished" else None
        rank_ic = found if isinstance(found, int | float) and math.isfinite(found) else None
        return cls(path, changed, record.status, rank_ic, record.parent.run_id if record.parent else None)


@dataclass(frozen=True)
class DataRoot:
    """Everything that keepers may ask.

    Attributes:
        path: a local data root.
        before: what changed since then stays, seconds of the epoch.
        keep_runs: how many of the newest finished runs of each fold and phase stay.
    """

    path: Path
    before: float
    keep_runs: int

    @cached_property
    def runs(self) -> tuple[RunFolder, ...]:
        folders = (folder for folder in sorted(all_runs(self.path / "runs")) if not folder.name.startswith("."))
        return tuple(RunFolder.of(folder) for folder in folders)

    @cached_property
    def phases(self) -> Mapping[Path, tuple[RunFolder, ...]]:
        """Runs by `runs/<fold>/<phase>`, the oldest first."""
        found: dict[Path, tuple[RunFolder, ...]] = {}
        for run in sorted(
            self.runs, key=lambda run: (run.changed, run.path.name) if run.baselines else (0.0, run.path.name)
        ):
            found[run.path.parent] = (*found.get(run.path.parent, ()), run)  # ids of runs begin with their time
        return found

    @cached_property
    def figures(self) -> str:
        """All that evaluation has written, and the names of its files: boards, predicted scores, the test ledger."""
        files = [path for path in sorted((self.path / "evaluation").rglob("*")) if path.is_file()]
        read = [path.read_text(errors="replace") for path in files if path.suffix in (".json", ".jsonl")]
        return "\n".join([*(path.name for path in files), *read])


Keeper = Callable[[DataRoot], Iterator[tuple[RunFolder, str]]]


def young(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """Whatever changed lately, resumable runs among it."""
    yield from ((run, "it is young") for run in root.runs if run.changed >= root.before)


def unreadable(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """What `mend` must look at first, or what another version of the code wrote."""
    yield from ((run, "its record cannot be read") for run in root.runs if run.status is None)


def pointed(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """The published runs of each fold and phase, a seed each; where the pointer is damaged, it may be any of them."""
    for folder, runs in root.phases.items():
        try:
            newest = read_pointer(folder / LATEST, RunError)
            published = members(folder / newest) if newest else ()
        except RunError:
            yield from ((run, "`latest` beside it cannot be read") for run in runs)
            continue
        for run in runs:
            if run.path.name in published:
                yield run, "`latest` names it" if run.path.name == newest else f"{newest} is published with it"


def best(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """The best of each fold and phase."""
    for runs in root.phases.values():
        if judged := [run for run in runs if run.rank_ic is not None]:
            yield max(judged, key=lambda run: run.rank_ic or 0.0), "the best validation RankIC of its fold and phase"


def last(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """The newest of each fold and phase."""
    for runs in root.phases.values():
        finished = [run for run in runs if run.status == "finished"]
        yield from ((run, "among the newest") for run in finished[max(len(finished) - root.keep_runs, 0) :])


def in_figures(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """Runs that a board, predicted scores or the ledger of test blocks names."""
    yield from ((run, "figures or the test ledger name it") for run in root.runs if run.path.name in root.figures)


def promoted(root: DataRoot) -> Iterator[tuple[RunFolder, str]]:
    """Runs and sets of baselines that a champion consists of, or consisted of; where nobody can tell, all of them."""
    try:
        names = kept_ids(promotions(root.path / TRADING))
    except RunError:
        yield from ((run, "the record of promotions cannot be read") for run in root.runs)
        return
    yield from ((run, "a champion is made of it, or was") for run in root.runs if run.path.name in names)


# One function a reason to stay. A record that will name runs of its own is one more.
KEEPERS: tuple[Keeper, ...] = (young, unreadable, pointed, best, last, in_figures, promoted)


def kept_runs(root: DataRoot) -> dict[Path, str]:
    """Directories that stay, each with a reason: what a keeper names, and the runs that those started from."""
    kept: dict[Path, str] = {}
    for keeper in KEEPERS:
        for run, why in keeper(root):
            kept.setdefault(run.path, why)
    by_id = {run.path.name: run for run in root.runs}
    waiting = [run for run in root.runs if run.path in kept]
    while waiting:
        child = waiting.pop()
        parent = by_id.get(child.parent or "")
        if parent and parent.path not in kept:
            kept[parent.path] = f"{child.path.name} started from it"
            waiting.append(parent)
    return kept


def going_folders(root: DataRoot) -> list[Going]:
    """Runs and sets of baselines, panels, and what was put aside."""
    kept = kept_runs(root)
    runs = [run for run in root.runs if run.path not in kept]
    found = [
        Going(
            BASELINE_SET if run.baselines else RUN,
            str(run.path.relative_to(root.path)),
            "fitted long ago, not among the newest" if run.baselines else _why(run),
            size_of(run.path),
        )
        for run in runs
    ]
    return [*found, *_going_panels(root, kept), *_going_aside(root)]


def dagster_runs(names: Collection[str]) -> set[str]:
    """How the ids of the Dagster runs begin that made the runs with these ids."""
    return {match[1] for name in names if (match := DAGSTER_RUN.search(name))}


def remove(root: Path, going: Going) -> bool:
    """Remove it, if nothing has begun to need it since; whether it is gone."""
    path = root / going.name
    if going.kind == ASIDE:
        for file in [file for file in path.iterdir() if not file.is_dir()]:
            file.unlink()
        while path != root / RETIRED and not any(path.iterdir()):
            path.rmdir()
            path = path.parent
        return True
    if going.kind == PANEL and path.name in panels_in_use(root / "runs"):
        return False
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path))  # a training that goes on in it holds it
        except (RunError, FileNotFoundError):
            return False
        # out of sight in one step: a reader finds all of it or nothing. The reaper removes what a crash leaves
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        path.rename(aside)
        members_file(path).unlink(missing_ok=True)
        shutil.rmtree(aside)
    return True


def _why(run: RunFolder) -> str:
    score = "" if run.rank_ic is None else f", RankIC {run.rank_ic:.4f}"
    return f"{run.status or 'no record'}{score}; neither newest, nor best, nor needed by another"


def _going_panels(root: DataRoot, kept: Collection[Path]) -> Iterator[Going]:
    folder = root.path / "panel"
    panels = sorted(
        (path.parent for path in folder.glob(f"[!.]*/{DESCRIPTION}")), key=lambda path: _changed(path / DESCRIPTION)
    )
    if not panels:
        return
    try:
        pointer = read_pointer(folder / LATEST_PANEL, PanelError)
    except PanelError:
        return  # it may be any of them
    used = {panel_of(path) for path in kept} | {pointer, panels[-1].name}
    for panel in panels:
        young = max(_changed(panel), _changed(panel / DESCRIPTION)) >= root.before
        if not young and panel.name not in used and panel.name not in root.figures:
            yield Going(PANEL, str(panel.relative_to(root.path)), "no run that stays was made with it", size_of(panel))


def _going_aside(root: DataRoot) -> Iterator[Going]:
    """Folders under `retired/` into which nothing came for so many days; a renamed file keeps its time of writing."""
    for place, folders, names in os.walk(root.path / RETIRED):
        files = [Path(place, name) for name in names]
        moved = max((_moved(path) for path in (Path(place), *files)), default=0.0)
        if files and moved < root.before:
            yield Going(ASIDE, str(Path(place).relative_to(root.path)), "put aside long ago", sum(map(size_of, files)))
        folders.sort()


def _changed(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _moved(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_ctime  # moving a file changes this time alone
    return 0.0
