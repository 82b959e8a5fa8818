"""A data root in a bucket as a folder of this machine: panels, folds, runs and boards, which processes open by path.

What a bucket has is fetched where a part of the root is asked for, each file once; what was made here is pushed where
it is published. Both sides are compared by an index beside the folder, so that nothing is read to find out that it has
not changed. Files that others replaced meanwhile are not overwritten: of a record that is only added to (`.jsonl`) the
lines of both are kept, in the order in which they were pushed; of a pointer the last publisher's word stands, as on one
machine; of anything else a name is written once, for it holds a hash or the id of a run.
"""

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock
from upath import UPath

from atft_assets.store import swap
from atft_assets.store.files import STAGED_SUFFIX
from atft_model.interchange.disk import writing
from atft_model.interchange.run import LATEST

MANIFEST = "manifest.json"  # of a table
INDEX, LOCK = "mirror.json", "mirror.lock"
LINES = ".jsonl"
PANELS = "panel"  # of which only the newest is fetched whole, and what was fetched before stays
SMALL = 1 << 20  # bytes; smaller files of other panels, which say what they are, are fetched too
OWN = "trading/panel/"  # each machine makes the panel of the last evenings for itself
POINTERS = (LATEST, "champion")  # they name what must be there already, so they are pushed last


@dataclass(frozen=True)
class Same:
    """A file that is the same on both sides.

    Attributes:
        version: the bucket's, its ETag.
        size, modified: of the local file, bytes and nanoseconds.
    """

    version: str
    size: int
    modified: int


@dataclass(frozen=True)
class There:
    """A file of the bucket.

    Attributes:
        version: its ETag.
        size: bytes.
        written: when, nanoseconds of the epoch; None where the store does not tell.
    """

    version: str
    size: int
    written: int | None

    @classmethod
    def of(cls, info: dict[str, Any]) -> "There":
        """What a listing tells, or a question for one file."""
        at = info.get("LastModified")
        written = round(at.timestamp() * 1e9) if isinstance(at, datetime) else None
        return cls(_version(info), int(info["size"]), written)


class Mirror:
    """The folder that stands for a bucket.

    Args:
        root: the data root in the bucket.
        cache: folder of this machine's mirrors; each root has one of its own.
    """

    def __init__(self, root: UPath, cache: Path):
        self.root = root
        name = str(root).rstrip("/")
        self.home = cache / f"{sha256(name.encode()).hexdigest()[:16]}"
        self.folder = self.home / "root"

    def pull(self, *parts: str) -> Path:
        """Fetch what the bucket has under a part of the root and this machine has not; the local path of that part.

        What was removed there is removed here, unless it was changed here.

        Raises:
            OSError: the bucket does not answer, or lets nobody read.
        """
        prefix = "/".join(parts)
        with self._alone():
            index = self._index()
            there = self._there(prefix)
            newest = self._newest_panel(there)
            for name, theirs in there.items():
                if _heavy_panel(name, theirs.size, newest) and name not in index:
                    continue
                mine = self.folder / name
                if name in index and index[name].version == theirs.version and mine.exists():
                    continue
                if name in index and mine.exists() and _changed(mine, index[name]):
                    continue  # changed on both sides: `push` brings them together
                index[name] = self._fetch(name, theirs)
            for name in [name for name in index if _below(name, prefix) and name not in there]:
                mine = self.folder / name
                if mine.exists() and not _changed(mine, index[name]):
                    mine.unlink()
                del index[name]
            self._write(index)
        return self.folder.joinpath(*parts)

    def push(self, *parts: str) -> list[str]:
        """Bring what was made or removed here under a part of the root into the bucket; names of what was written.

        Raises:
            OSError: the bucket does not answer, or lets nobody write.
            StoreError: others replaced a record again and again.
        """
        prefix, written = "/".join(parts), []
        with self._alone():
            index = self._index()
            here = sorted(self._here(prefix), key=lambda name: (name.rpartition("/")[2] in POINTERS, name))
            for name in here:
                mine = self.folder / name
                if name in index and not _changed(mine, index[name]):
                    continue
                index[name] = self._store(name)
                self._write(index)  # killed in between, what was pushed is not pushed again
                written.append(name)
            for name in [name for name in index if _below(name, prefix) and not (self.folder / name).exists()]:
                (self.root / name).unlink(missing_ok=True)
                del index[name]
            self._write(index)
        return written

    def _fetch(self, name: str, theirs: There) -> Same:
        """Fetch a file beside its place and rename it; its time is the bucket's, by which newer states are told."""
        target = self.folder / name
        staged = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{STAGED_SUFFIX}")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.root.fs.get_file((self.root / name).path, str(staged))
                if theirs.written is not None:
                    os.utime(staged, ns=(theirs.written, theirs.written))
                os.replace(staged, target)
            except BaseException:
                staged.unlink(missing_ok=True)
                raise
        return _same(target, theirs.version)

    def _store(self, name: str) -> Same:
        """Write a file of this machine into the bucket."""
        mine, path = self.folder / name, self.root / name
        if name.endswith(LINES):
            ours = mine.read_bytes()
            merged = ours

            def merge(theirs: bytes | None) -> bytes:
                nonlocal merged
                lines = dict.fromkeys((theirs or b"").splitlines(keepends=True))
                merged = b"".join(dict.fromkeys([*lines, *ours.splitlines(keepends=True)]))
                return merged

            version = swap.update(path, merge)
            if merged != ours:
                mine.write_bytes(merged)
            return _same(mine, _version({"ETag": version, "size": len(merged)}))
        path.fs.put_file(str(mine), path.path)
        path.fs.invalidate_cache(path.path)
        return _same(mine, _version(path.fs.info(path.path, refresh=True)))

    def _there(self, prefix: str) -> dict[str, There]:
        """Every file in the bucket under a prefix, by its name under the root."""
        self.root.fs.invalidate_cache()  # a listing of before knows nothing of what others wrote
        start = (self.root / prefix).path if prefix else self.root.path
        found = self.root.fs.find(start, detail=True)
        base = self.root.path.rstrip("/") + "/"
        names = {path.removeprefix(base): info for path, info in found.items() if path.startswith(base)}
        tables = {name.rpartition("/")[0] for name in names if name.endswith("/" + MANIFEST)}
        return {
            name: There.of(info)
            for name, info in sorted(names.items())
            if _mirrored(name) and _below(name, prefix) and not _of_table(name, tables)
        }

    def _here(self, prefix: str) -> Iterator[str]:
        """Every file of this machine under a prefix that belongs into the bucket."""
        start = self.folder / prefix if prefix else self.folder
        paths = [start] if start.is_file() else start.rglob("*")
        for path in paths:
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and _mirrored(name):
                yield name

    def _newest_panel(self, there: dict[str, There]) -> str | None:
        name = f"{PANELS}/{LATEST}"
        return (self.root / name).read_text().strip() if name in there else None

    def _alone(self) -> FileLock:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(self.home / LOCK, mode=0o600)

    def _index(self) -> dict[str, Same]:
        try:
            known: dict[str, Any] = json.loads((self.home / INDEX).read_text())
        except (FileNotFoundError, ValueError):
            return {}  # everything is compared anew: fetched once more, and pushed once more
        return {name: Same(**same) for name, same in known.items()}

    def _write(self, index: dict[str, Same]) -> None:
        staged = self.home / f".{INDEX}.{os.getpid()}"
        staged.write_text(json.dumps({name: asdict(same) for name, same in sorted(index.items())}))
        os.replace(staged, self.home / INDEX)


def _mirrored(name: str) -> bool:
    """Whether a file belongs on both sides: not what is staged, locked or hidden."""
    parts = name.split("/")
    hidden = any(part.startswith(".") or part.endswith((STAGED_SUFFIX, ".lock")) for part in parts)
    return not hidden and not name.startswith(OWN)


def _of_table(name: str, tables: set[str]) -> bool:
    """Whether it is a month of a table, or its manifest, which are read where they lie."""
    folder, _, file = name.rpartition("/")
    return folder in tables and (file == MANIFEST or file.endswith(".parquet"))


def _heavy_panel(name: str, size: int, newest: str | None) -> bool:
    parts = name.split("/")
    return len(parts) > 2 and parts[0] == PANELS and parts[1] != newest and size > SMALL


def _below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + "/")


def _same(path: Path, version: str) -> Same:
    status = path.stat()
    return Same(version, status.st_size, status.st_mtime_ns)


def _changed(path: Path, same: Same) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) != (same.size, same.modified)


def _version(info: dict[str, Any]) -> str:
    """ETag of an object as a listing, or a question for one, has it; other stores have a time."""
    return str(info.get("ETag") or info.get("created") or info.get("mtime") or info["size"]).strip('"')
