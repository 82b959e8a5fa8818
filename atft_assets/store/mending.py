"""Tables whose files or manifest are damaged: what is wrong, and the manifest that says what is left.

A manifest can be had again from the files: rows, last date, hash and schema are theirs. What it said besides is lost,
so each file without an entry is judged by its table's contract, and the version of the code that built it is unknown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from atft_assets.store.damage import Damage, Lost, said_of
from atft_assets.store.errors import DamagedTable
from atft_assets.store.manifest import UNPARTITIONED, Entry, Manifest, digest, entry_of
from atft_assets.store.tables import MANIFEST, Table
from atft_model.interchange.errors import damaged

UNKNOWN = "unknown"  # the code version of what a manifest was made from again

Judge = Callable[[str, pl.DataFrame], str]  # a key and its frame; what is wrong with it, or nothing


@dataclass(frozen=True)
class TableState:
    """What was found of a table.

    Attributes:
        damages: what goes aside.
        adopted: partitions that no manifest vouches for any more and that their contract passed.
        entries: of the manifest that is right.
    """

    table: Table
    damages: list[Damage]
    adopted: list[str]
    entries: dict[str, Entry]

    @property
    def whole(self) -> bool:
        return not self.damages and not self.adopted

    def mend(self, root: Path) -> Iterator[str]:
        """Put the damaged files aside and write the manifest; a line each. The table must be locked."""
        for damage in self.damages:
            yield damage.mend(root)
        if self.entries or (self.table.folder / MANIFEST).exists():
            self.table.write_manifest(Manifest(entries=self.entries))
        if self.adopted:
            yield f"{self.table.folder / MANIFEST}: {_shown(self.adopted)} entered again, as their contract passed"


def look_at_table(table: Table, judge: Judge) -> TableState:
    """Hold every file of a table on a local disk against its manifest.

    Args:
        judge: of files that no manifest vouches for.
    """
    damages: list[Damage] = []
    adopted: list[str] = []
    entries: dict[str, Entry] = {}
    folder = Path(str(table.folder))
    # a table that was copied from a bucket has files of other names, and some that its manifest no longer names
    files = {path.stem: path for path in sorted(folder.glob("[!.]*.parquet")) if "." not in path.stem}
    try:
        listed = table.manifest().entries
    except DamagedTable as error:
        listed = {}
        damages.append(Damage(folder / MANIFEST, said_of(error)))
    if files and not damages and not (folder / MANIFEST).exists():
        damages.append(Damage(folder / MANIFEST, said_of(damaged(folder / MANIFEST, "it is gone"))))
    for key in sorted({*files, *listed}):
        path = Path(str(table.place(key, listed.get(key))))
        entry, why = _held(path, listed.get(key), key, judge)
        if entry is None:
            lost = Lost(table.name, None if key == UNPARTITIONED else key)
            damages.append(Damage(path, said_of(damaged(path, why)), (lost,)))
            continue
        entries[key] = entry
        if key not in listed:
            adopted.append(key)
    return TableState(table, damages, adopted, entries)


def _held(path: Path, entry: Entry | None, key: str, judge: Judge) -> tuple[Entry | None, str]:
    """The entry of a file, and if it can have none, why."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, "it is gone, though its manifest lists it"
    except OSError as error:
        return None, error.strerror or str(error)
    if entry is not None:
        return (entry, "") if digest(data) == entry.sha256 else (None, "it is not the file that its manifest describes")
    try:
        frame = pl.read_parquet(data)
    except (PolarsError, PanicException, OSError, ValueError) as error:
        return None, f"no manifest lists it, and it is no Parquet file: {str(error)[:100]}"
    if wrong := judge(key, frame):
        return None, f"no manifest lists it, and {wrong}"
    return entry_of(frame, digest(data), code_version=UNKNOWN), ""


def _shown(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} … {keys[-1]} ({len(keys)} files)"
