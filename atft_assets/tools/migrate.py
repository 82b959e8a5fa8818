"""`python -m atft_assets.tools.migrate`: brings a data root of an older version to the names of this one.

Raw tables stay where they are: their bytes are good. Feature tables whose content did not change are renamed. Panels of
an older format and runs in the folders of the first one cannot be read any more, and are put aside under `retired/`,
nothing is deleted. The ledger of test blocks stays, with the days of each block filled in: what was looked at stays
looked at. Doing it again does nothing.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atft_assets.failures import Refusal
from atft_assets.features.names import GROUP
from atft_assets.features.old_roots import RENAMED
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.store.retired import aside
from atft_assets.training.looks import LEDGER_FILE
from atft_model.interchange.disk import keep_private
from atft_model.interchange.panel import FORMAT as PANEL_FORMAT
from atft_model.interchange.records import write_text
from atft_model.interchange.run import FORMAT as RUN_FORMAT

NEXT = """What comes next: the universe has new columns, and tables are now built by versions of their code. Build all
months once more; what comes out as it was is not written again:

    make road

(or, a range of months at a time, dagster asset materialize --select
"(group:road2_features or group:road3_graph) and not tag:atft/partitions=none" --partition-range FIRST...LAST, and then
labels, the panel and the training). Raw data are not fetched again."""


@dataclass(frozen=True)
class Move:
    """A folder and where it goes."""

    source: Path
    target: Path
    why: str


def moves(root: Path) -> Iterator[Move]:
    """What has to be moved under a data root, in order; nothing if it was migrated already."""
    features = root / GROUP
    for old, new in RENAMED.items():
        if (features / old).is_dir():
            if (features / new).exists():
                yield Move(features / old, aside(root, features / old), f"{new} is there already")
            else:
                yield Move(features / old, features / new, "the same table under its new name")
    old_format = [folder for folder in _folders(root / "panel") if _is_old(folder / "panel.json", PANEL_FORMAT)]
    for folder in old_format:
        yield Move(folder, aside(root, folder), "a panel of an older format")
    runs = [run for run in sorted((root / "runs").glob("*/*/run.json")) if _is_old(run, RUN_FORMAT)]
    folders = sorted({run.parent.parent for run in runs})
    for folder in folders:
        yield Move(folder, aside(root, folder), "runs of an older format")
    if old_format or folders:
        for figures in sorted((root / "evaluation").glob("*")):  # of no use without panel and runs
            if figures.name != LEDGER_FILE:
                yield Move(figures, aside(root, figures), "figures of runs of an older format")
        pointer = root / "panel" / "latest"
        if pointer.exists() and pointer.read_bytes().decode(errors="replace").strip() in {
            folder.name for folder in old_format
        }:
            yield Move(pointer, aside(root, pointer), "it names a panel of an older format")


def migrate(root: Path, *, dry_run: bool = False) -> list[Move]:
    """Move what has to be moved; what was moved, or would be.

    Raises:
        FileNotFoundError: there is no such data root.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data root {root}; set ATFT_DATA to the one that shall be migrated")
    planned = list(moves(root))
    if not dry_run:
        date_ledger(root)  # while the panels are where they were
        for move in planned:
            move.target.parent.mkdir(parents=True, exist_ok=True)
            move.source.rename(move.target)
    return planned


def date_ledger(root: Path) -> None:
    """Give each scoring of a test block its days, which the first format kept in the panel.

    One whose panel is gone stays without: it counts as having seen every day.
    """
    ledger = root / "evaluation" / LEDGER_FILE
    if not ledger.is_file():
        return
    lines = [json.loads(line) for line in ledger.read_text().splitlines() if line]
    for line in lines:
        panel = root / "panel" / str(line.get("panel_id")) / "panel.json"
        if "first" not in line and panel.is_file():
            line["first"], line["last"] = json.loads(panel.read_text())["split"]["test"]
    write_text(ledger, "".join(json.dumps(line) + "\n" for line in lines))


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _is_old(description: Path, current: int) -> bool:
    """Whether a panel.json or run.json was written in an older format; a folder without one is none of ours."""
    if not description.is_file():
        return False
    try:
        document = json.loads(description.read_bytes())
    except ValueError:
        return False  # damaged: the business of atft_assets.tools.mend
    found = document.get("format", 1) if isinstance(document, dict) else None
    return isinstance(found, int) and found < current


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0, also where there is nothing to do; 1 where the root cannot be migrated."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.migrate", description=__doc__)
    parser.add_argument("--root", help="data root (default: ATFT_DATA, or ./data)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    given = parser.parse_args(arguments)
    keep_private()
    try:
        root = Store(root=given.root or Settings.from_env().data_root).local()
        done = migrate(root, dry_run=given.dry_run)
    except (Refusal, FileNotFoundError) as error:
        print(error)
        return 1
    for move in done:
        verb = "would move" if given.dry_run else "moved"
        print(f"{verb} {move.source.relative_to(root)} to {move.target.relative_to(root)}: {move.why}")
    if not done:
        print(f"{root} needs no migration.")
    elif not given.dry_run:
        print(f"\n{NEXT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
