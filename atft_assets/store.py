"""Tables on disk or in a bucket: month files, a manifest per table, atomic publication.

A partition is one zstd Parquet file `<root>/<group>/<table>/<key>.parquet`, the key being a month `YYYY-MM`, or `all`
for an unpartitioned table. A publication survives `kill -9` at any instant: staged files are flushed, the manifest
announces their hashes as pending, the files are renamed into place, the manifest confirms. Whatever step was the last,
each file is either the old one or the new one, both are vouched for by a hash, and both have passed their contract.
"""

import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
from filelock import FileLock
from pydantic import BaseModel
from upath import UPath

UNPARTITIONED = "all"
STAGED_SUFFIX = ".staged"


class StoreError(Exception):
    """A table cannot be read or written as asked; the text says what to do."""


class MissingTable(StoreError):
    """A table, or a partition of it, has not been published."""

    def __init__(self, group: str, table: str, keys: Sequence[str]):
        self.group, self.table, self.keys = group, table, list(keys)
        command = f"dagster asset materialize --select {table}"
        if self.keys and self.keys != [UNPARTITIONED]:
            what = f"the partition{'s' if len(self.keys) > 1 else ''} {_shorten(self.keys)} of the table"
            span = f"{self.keys[0]}...{self.keys[-1]}"
            command += f" --partition-range {span}" if len(self.keys) > 1 else f" --partition {self.keys[0]}"
        else:
            what = "the table"
        super().__init__(f"{what} {group}/{table} has not been published; run: {command}")


class MissingColumns(StoreError):
    """A published table lacks columns that a reader needs."""

    def __init__(self, table: str, key: str, columns: Sequence[str], present: Sequence[str]):
        self.table, self.key, self.columns = table, key, list(columns)
        super().__init__(
            f"{table} {key} lacks the column{'s' if len(self.columns) > 1 else ''} {', '.join(self.columns)} "
            f"(it has {', '.join(present)}); materialize {table} again"
        )


class Entry(BaseModel):
    """What the manifest says of one partition."""

    rows: int
    through_date: date | None
    sha256: str
    schema_fingerprint: str
    contract_passed: bool
    code_version: str
    published_at: datetime


class Manifest(BaseModel):
    """`manifest.json` beside a table's files."""

    entries: dict[str, Entry] = {}
    pending: dict[str, Entry] = {}  # announced by a publication that has not confirmed yet, or died before it could


@dataclass(frozen=True)
class Staged:
    """A partition written beside its place, not yet visible to readers."""

    key: str
    path: UPath
    entry: Entry


class Store(dg.ConfigurableResource):
    """The root of tables, panels and runs.

    Attributes:
        root: absolute path, or a bucket URL that fsspec knows (its driver must be installed).
    """

    root: str

    def table(self, group: str, name: str) -> "Table":
        """The table `group/name`; it need not exist yet."""
        return Table(UPath(self.root), group, name)

    def local(self, *parts: str) -> Path:
        """A local path under the root, for panels and runs, which other processes open by path.

        Raises:
            StoreError: the root is a bucket.
        """
        if "://" in self.root and not self.root.startswith("file://"):
            raise StoreError(
                f"ATFT_DATA is {self.root}: panels and training runs need a local disk; set ATFT_DATA to a local path"
            )
        return Path(self.root.removeprefix("file://")).joinpath(*parts)


@dataclass(frozen=True)
class Table:
    """One table of the store."""

    root: UPath
    group: str
    name: str

    @property
    def folder(self) -> UPath:
        return self.root / self.group / self.name

    def path(self, key: str) -> UPath:
        """The file of a partition."""
        return self.folder / f"{key}.parquet"

    def manifest(self) -> Manifest:
        """What has been published; empty for a table that does not exist yet.

        Where a publication died half way, its renamed files count as published.
        """
        try:
            text = (self.folder / "manifest.json").read_text()
        except FileNotFoundError:
            return Manifest()
        manifest = Manifest.model_validate_json(text)
        for key, entry in manifest.pending.items():
            if self._holds(key, entry.sha256):
                manifest.entries[key] = entry
        return manifest

    def keys(self) -> list[str]:
        """Published partitions in order."""
        return sorted(self.manifest().entries)

    def version(self, keys: Sequence[str] | None = None) -> str:
        """Hash over the contents of the given partitions (default: all): the data version of what a reader sees.

        Raises:
            MissingTable: a given partition has not been published.
        """
        entries = self._entries(keys)
        text = "\n".join(f"{key} {entry.sha256}" for key, entry in sorted(entries.items()))
        return _digest(text.encode())

    def read(self, keys: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of the given partitions (default: all) in order of partition, date and code.

        A column that only some partitions have (the server added it) is null in the others.

        Raises:
            MissingTable: a partition has not been published.
            MissingColumns: a partition lacks a column that was asked for.
            StoreError: a file is not the one that the manifest describes.
        """
        frames = []
        for key, entry in sorted(self._entries(keys).items()):
            data = self._bytes(key, entry)
            present = pl.read_parquet_schema(io.BytesIO(data))
            if columns is not None and (missing := [c for c in columns if c not in present]):
                raise MissingColumns(self.name, key, missing, list(present))
            frame = pl.read_parquet(data, columns=None if columns is None else list(columns))
            if columns is not None:
                frame = frame.select(columns)
            frames.append(frame)
        return pl.concat(frames, how="diagonal") if frames else pl.DataFrame()

    def _entries(self, keys: Sequence[str] | None) -> dict[str, Entry]:
        entries = self.manifest().entries
        if keys is None:
            if not entries:
                raise MissingTable(self.group, self.name, [])
            return entries
        if missing := [key for key in keys if key not in entries]:
            raise MissingTable(self.group, self.name, missing)
        return {key: entries[key] for key in keys}

    def _bytes(self, key: str, entry: Entry) -> bytes:
        """A partition's file, held against its hash; read again once, for it may just have been replaced."""
        data = self._file(key)
        if _digest(data) == entry.sha256:
            return data
        data, newer = self._file(key), self.manifest().entries.get(key)
        if newer and _digest(data) == newer.sha256:
            return data
        raise StoreError(
            f"{self.path(key)} is not the file that its manifest describes: it was changed or damaged outside the "
            f"platform; delete it and run: dagster asset materialize --select {self.name}"
            + ("" if key == UNPARTITIONED else f" --partition {key}")
        )

    def _file(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            raise MissingTable(self.group, self.name, [key]) from None

    def stage(self, key: str, frame: pl.DataFrame, *, code_version: str, contract_passed: bool = True) -> Staged:
        """Write a partition beside its place and flush it to the disk; readers do not see it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        frame = _in_order(frame)
        path = self.folder / f".{key}.{os.getpid()}-{uuid.uuid4().hex[:8]}{STAGED_SUFFIX}"
        frame = frame.rechunk()  # equal frames must give equal bytes, and the layout in memory shows in them
        buffer = io.BytesIO()  # through memory: the hash needs no second read, and a full disk is a plain OSError
        # level 1: floats hardly compress, and higher levels take a fifth more time for a hundredth of the size
        frame.write_parquet(buffer, compression="zstd", compression_level=1)
        try:
            with path.open("wb") as file:
                file.write(buffer.getbuffer())
                _flush(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        through = frame["date"].max() if "date" in frame.columns and frame.schema["date"] == pl.Date else None
        entry = Entry(
            rows=frame.height,
            through_date=through if isinstance(through, date) else None,
            sha256=hashlib.sha256(buffer.getbuffer()).hexdigest(),
            schema_fingerprint=schema_fingerprint(frame.schema),
            contract_passed=contract_passed,
            code_version=code_version,
            published_at=datetime.now(UTC),
        )
        return Staged(key, path, entry)

    def stage_all(self, frames: Iterable[tuple[str, pl.DataFrame]], *, code_version: str) -> list[Staged]:
        """Stage partitions, each by a thread of its own while the next is computed; all of them, or an error and none.

        Args:
            frames: (key, frame), computed as they are asked for; no more than one waits to be written.
        """
        writing: list[Future[Staged]] = []
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="stage") as writer:
                for key, frame in frames:
                    if writing:
                        writing[-1].result()  # a full disk is heard of here, before more is computed
                    writing.append(writer.submit(self.stage, key, frame, code_version=code_version))
            return [one.result() for one in writing]
        except BaseException:
            self.discard([one.result() for one in writing if one.exception() is None])
            raise

    def publish(self, staged: Sequence[Staged]) -> None:
        """Make staged partitions visible: announce, rename, confirm. A file that would not change is not touched."""
        with self._locked():
            manifest = self.manifest()
            held = {key: entry.sha256 for key, entry in manifest.entries.items()}
            manifest.pending = {one.key: one.entry for one in staged}
            self._write_manifest(manifest)
            for one in staged:
                if held.get(one.key) != one.entry.sha256 or not self._holds(one.key, one.entry.sha256):
                    _replace(one.path, self.path(one.key))
            manifest.entries |= manifest.pending
            manifest.pending = {}
            self._write_manifest(manifest)

    def _holds(self, key: str, sha256: str) -> bool:
        try:
            return _digest(self.path(key).read_bytes()) == sha256
        except FileNotFoundError:
            return False

    def discard(self, staged: Sequence[Staged]) -> None:
        """Remove staged partitions that are not to be published."""
        for one in staged:
            one.path.unlink(missing_ok=True)

    def _write_manifest(self, manifest: Manifest) -> None:
        text = json.dumps(json.loads(manifest.model_dump_json()), indent=1, sort_keys=True)
        _write_atomically(self.folder / "manifest.json", text)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One publisher at a time on a local disk; a bucket must be written by one run at a time."""
        if _is_local(self.folder):
            with FileLock(str(self.folder / ".lock")):
                yield
        else:
            yield


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorted by date and code, as far as it has them; a wide frame that is in order already is not copied."""
    order = [c for c in ("date", "code") if c in frame.columns]
    if not order:
        return frame
    places = frame.select(pl.arg_sort_by(order, maintain_order=True)).to_series()
    return frame if places.is_sorted() else frame[places]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def schema_fingerprint(schema: pl.Schema) -> str:
    """Sixteen hex digits over column names and dtypes, in order."""
    text = "\n".join(f"{name}:{dtype}" for name, dtype in schema.items())
    return _digest(text.encode())[:16]


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a small local file (a pointer, a report) so that a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_atomically(UPath(path), text)


def _write_atomically(path: UPath, text: str) -> None:
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{STAGED_SUFFIX}")
    with sibling.open("wb") as file:
        file.write(text.encode())
        _flush(file)
    _replace(sibling, path)


def _is_local(path: UPath) -> bool:
    return path.protocol in ("", "file")


def _flush(file) -> None:
    file.flush()
    try:
        os.fsync(file.fileno())
    except (AttributeError, OSError, ValueError):
        return  # a bucket's or memory's file object has no descriptor; closing it commits it


def _replace(source: UPath, target: UPath) -> None:
    if _is_local(source):
        os.replace(str(source), str(target))
        _sync_folder(Path(str(target.parent)))
    else:
        source.fs.mv(source.path, target.path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shorten(keys: Sequence[str]) -> str:
    return ", ".join(keys) if len(keys) <= 4 else f"{keys[0]}, {keys[1]} … {keys[-1]} ({len(keys)} in all)"
