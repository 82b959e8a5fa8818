"""`python -m atft_assets.tools.mend`: finds every damaged file of a data root, and mends what it can.

It looks at all of it first: month files and manifests of tables, what lies beside raw tables, panels, folds, runs,
baselines, figures, pointers. Then what is damaged is moved to `retired/`, nothing is deleted; manifests are made again
from their files, pointers name the newest panel or run that is whole, and modes that let others read are taken away. A
line for each thing, and at the end the commands that build again what is lacking now. Doing it again finds nothing.
A data root in a bucket is left alone: other machines write into it, and nothing there can be locked.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from atft_assets.failures import Refusal
from atft_assets.home import FOLDER, walk
from atft_assets.panel.mending import panel_damages, point_at_newest_panel
from atft_assets.raw.mending import raw_damages
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store
from atft_assets.store.damage import Damage, Lost
from atft_assets.store.mending import TableState, look_at_table
from atft_assets.tools.judges import judges
from atft_assets.tools.rebuilding import commands
from atft_assets.tools.writers import writers
from atft_assets.trading.mending import menders, trading_damages
from atft_assets.training.looks import LEDGER_FILE
from atft_assets.training.mending import figure_damages, fold_damages, keep_ledger, point_at_newest_run, run_damages
from atft_model.interchange.disk import DiskError, keep_private
from atft_model.interchange.run import LATEST

IN_A_BUCKET = (
    "{root} is a bucket, which is not mended from here: other machines may be writing into it. What is damaged there "
    "is made anew: docs/how-to/bucket.md, section Damage, tells how. Nothing was changed"
)
BUSY = "wait for it or end it; of what a crash left behind: python -m atft_assets.tools.reaper. Nothing was changed"


@dataclass(frozen=True)
class Findings:
    """What is damaged under a data root."""

    tables: list[TableState]
    files: list[Damage]
    loose: list[Path]  # files and folders that others may read

    @property
    def damages(self) -> list[Damage]:
        return [*(damage for state in self.tables for damage in state.damages), *self.files]

    @property
    def lost(self) -> list[Lost]:
        return [lost for damage in self.damages for lost in damage.lost]

    def lines(self, root: Path) -> Iterator[str]:
        """What is damaged, a line each."""
        yield from (damage.said for damage in self.damages)
        for state in self.tables:
            if state.adopted:
                yield f"{state.table.folder}: no manifest lists {', '.join(state.adopted)}, which their contract passed"
        if self.loose:
            yield f"{root}: {len(self.loose)} files and folders are open to other users of this machine"


def look(settings: Settings, root: Path) -> Findings:
    """Look at everything under a local data root; nothing is changed."""
    store = Store(root=str(root))
    tables = [look_at_table(store.table(*place), judge) for place, judge in judges(settings).items()]
    rooms = (raw_damages, panel_damages, fold_damages, run_damages, figure_damages, trading_damages)
    return Findings(
        tables=[state for state in tables if not state.whole],
        files=[damage for find in rooms for damage in find(root)],
        loose=loose_modes(root),
    )


def mend(findings: Findings, root: Path) -> Iterator[str]:
    """Mend what was found; a line for each thing done."""
    for state in findings.tables:
        yield from state.mend(root)
    pointers: list[Path] = []
    for damage in findings.files:
        if damage.path.name == LEDGER_FILE:
            yield from _mended_ledger(damage, root)
            continue
        if again := menders(root).get(damage.path):
            data = damage.path.read_bytes()
            yield damage.mend(root)
            yield from again(damage.path, data)
            continue
        yield damage.mend(root)
        if damage.path.name == LATEST:
            pointers.append(damage.path)
    for pointer in pointers:
        yield from point_at_newest_panel(root) if pointer.parent.name == "panel" else point_at_newest_run(pointer)
    for path in findings.loose:
        if path.exists():
            path.chmod(path.stat().st_mode & 0o700)
    if findings.loose:
        yield f"{root}: {len(findings.loose)} files and folders are closed to other users now"


def _mended_ledger(damage: Damage, root: Path) -> Iterator[str]:
    kept = damage.path.read_bytes()
    yield damage.mend(root)
    yield from keep_ledger(root, kept)


def loose_modes(root: Path) -> list[Path]:
    """Files and folders of this user that others may read or write, the root itself included."""

    def paths() -> Iterator[Path]:
        for folder, _, names in walk(root):
            yield Path(folder)
            yield from (Path(folder, name) for name in names)
        if (home := root / FOLDER).is_dir():  # closed itself, so what Dagster keeps in it needs no look
            yield home

    found = []
    for path in paths():
        if not path.is_symlink():
            status = path.stat()
            if status.st_mode & 0o077 and status.st_uid == os.geteuid():
                found.append(path)
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 if all is well or was mended, 1 if `--check` found damage or nothing may be changed now."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.mend", description=__doc__)
    parser.add_argument("--root", help="data root (default: ATFT_DATA, or ./data)")
    parser.add_argument("--check", "--dry-run", action="store_true", help="only say what is damaged; exit code 1 if so")
    given = parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
        store = Store(root=given.root or settings.data_root)
        if store.remote:
            print(IN_A_BUCKET.format(root=store.root), file=sys.stderr)
            return 1
        root = store.local().resolve()
        if not root.is_dir() or [path.name for path in root.iterdir()] == [FOLDER]:  # env.sh makes a root's home
            print(f"there is no data root {root}; set ATFT_DATA to the one that shall be mended", file=sys.stderr)
            return 1
        return check(settings, root) if given.check else mend_all(settings, root)
    except (Refusal, SettingsError, DiskError) as error:
        print(error, file=sys.stderr)
        return 1


def check(settings: Settings, root: Path) -> int:
    """Say what is damaged; 1 if anything is."""
    findings = look(settings, root)
    for line in findings.lines(root):
        print(line)
    if not findings.damages and not findings.tables:
        print(f"{root}: nothing is damaged")
        return 0
    print("\nTo mend it: python -m atft_assets.tools.mend")
    return 1


def mend_all(settings: Settings, root: Path) -> int:
    """Mend everything, unless something is being written just now."""
    keep_private()
    with ExitStack() as stack:
        try:
            if busy := [*writers(root)]:
                print(f"{'; '.join(busy)}: {BUSY}", file=sys.stderr)
                return 1
            for place in judges(settings):
                table = Store(root=str(root)).table(*place)
                if Path(str(table.folder)).is_dir():
                    stack.enter_context(table.locked(timeout=0))
        except Timeout as error:
            print(f"a table is being published ({error.lock_file}): {BUSY}", file=sys.stderr)
            return 1
        findings = look(settings, root)
        for line in mend(findings, root):
            print(line)
        if not findings.damages and not findings.tables:
            print(f"{root}: nothing is damaged")
        if rebuild := [*commands(findings.lost, settings), *(d.command for d in findings.damages if d.command)]:
            print("\nWhat is lacking now is built again by:\n")
            print("\n".join(f"    {command}" for command in rebuild))
        if adopted := [Lost(s.table.name, key) for s in findings.tables for key in s.adopted]:
            print("\nWhat was entered again stands on its contract alone. To be certain of it, build it again:\n")
            print("\n".join(f"    {command}" for command in commands(adopted, settings, refetch=True)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
