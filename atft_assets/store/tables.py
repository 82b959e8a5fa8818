"""Tables on disk or in a bucket: month files, a manifest per table, atomic publication.

A partition is one zstd Parquet file `<root>/<group>/<table>/<key>.parquet`, the key being a month `YYYY-MM`, or `all`
for an unpartitioned table. A publication survives `kill -9` at any instant: staged files are flushed, the manifest
announces their hashes as pending, the files are renamed into place, the manifest confirms. Whatever step was the last,
each file is either the old one or the new one, both are vouched for by a hash, and both have passed their contract.
Two publishers of one table wait for each other there.

A bucket has neither locks nor renames. There each publication of a partition is a file of a name of its own,
`<key>.<12 hex digits>.parquet`, never written again, and the manifest names those that count: it is replaced in one
step, and only as it was read. So a reader goes through the manifest; what was replaced stays a while for whoever read
an older one (`store.leftovers`).
"""

import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
from filelock import FileLock
from pydantic import Field
from upath import UPath

from atft_assets.failures import PermanentFailure
from atft_assets.settings import cache_folder
from atft_assets.store import files, swap
from atft_assets.store.errors import DamagedTable, MissingColumns, MissingTable
from atft_assets.store.leftovers import leftovers
from atft_assets.store.manifest import Entry, Manifest, digest, entry_of
from atft_assets.store.mirror import Mirror
from atft_model.interchange.disk import DiskError, keep_private, make_root, writing

MANIFEST = "manifest.json"
READS = 5  # of a partition that others replace again and again


@dataclass(frozen=True)
class Staged:
    """A partition written beside its place, not yet visible to readers."""

    key: str
    path: UPath
    entry: Entry


class Store(dg.ConfigurableResource):
    """The root of tables, panels and runs."""

    root: str = Field(
        description="Absolute path, or a bucket URL that fsspec knows (its driver must be installed): ATFT_DATA"
    )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """What a run writes is for its user alone, and where it cannot be written is said before any work.

        Raises:
            PermanentFailure: the root cannot be made, or nothing can be written there.
        """
        keep_private()
        if context.run is not None and not self.remote:  # sensors read: they must work on a full disk
            try:
                make_root(self.local())
            except DiskError as error:
                raise PermanentFailure(f"this run cannot begin: {error}") from None

    def table(self, group: str, name: str) -> "Table":
        """The table `group/name`; it need not exist yet."""
        return Table(self.place, group, name)

    def local(self, *parts: str) -> Path:
        """A local path under the root, for panels and runs, which other processes open by path.

        Of a bucket it lies in this machine's mirror (`store.mirror`), to which what is new there is fetched.
        """
        if self.remote:
            return self.mirror().pull(*parts)
        return Path(self.root.removeprefix("file://")).joinpath(*parts)

    def push(self, *parts: str) -> None:
        """What was written under a local path is published: in a bucket it is pushed there; on a disk it is there."""
        if self.remote:
            self.mirror().push(*parts)

    @property
    def place(self) -> UPath:
        """The root as a path; of a bucket nothing is cached, for others write there too."""
        return UPath(self.root, use_listings_cache=False) if self.remote else UPath(self.root)

    @property
    def remote(self) -> bool:
        """Whether the root is a bucket."""
        return "://" in self.root and not self.root.startswith("file://")

    def mirror(self) -> Mirror:
        """This machine's mirror of the bucket."""
        return Mirror(self.place, cache_folder())


@dataclass(frozen=True)
class Table:
    """One table of the store."""

    root: UPath
    group: str
    name: str

    @property
    def folder(self) -> UPath:
        """Where its files lie."""
        return self.root / self.group / self.name

    def path(self, key: str) -> UPath:
        """The file of a partition, published or not.

        Raises:
            DamagedTable: in a bucket, where the manifest alone names it, that cannot be read.
        """
        try:
            return self.place(key, self.manifest().entries.get(key))
        except DamagedTable:
            if not files.is_local(self.folder):
                raise
            return self.place(key)

    def place(self, key: str, entry: Entry | None = None) -> UPath:
        """The file that an entry is about; without one, where a partition is published on a local disk."""
        return self.folder / ((entry and entry.file) or f"{key}.parquet")

    def manifest(self) -> Manifest:
        """What has been published; empty for a table that does not exist yet.

        Where a publication died half way, its renamed files count as published.

        Raises:
            DamagedTable: it cannot be read.
        """
        path = self.folder / MANIFEST
        try:
            return self._parsed(swap.read(path)[0])
        except OSError as error:
            raise DamagedTable(self.name, path, str(error.strerror or error)) from error

    def _parsed(self, data: bytes | None) -> Manifest:
        """A manifest from its file; what was announced and has arrived counts as published."""
        if data is None:
            return Manifest()
        try:
            manifest = Manifest.model_validate_json(data)
        except ValueError as error:
            raise DamagedTable(self.name, self.folder / MANIFEST, "it is no manifest") from error
        for key, entry in manifest.pending.items():
            if self._holds(key, entry):
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
        return digest(text.encode())

    def read(self, keys: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of the given partitions (default: all) in order of partition, date and code.

        A column that only some partitions have (the server added it) is null in the others.

        Raises:
            MissingTable: a partition has not been published.
            MissingColumns: a partition lacks a column that was asked for.
            DamagedTable: a file, or the manifest, is not as it was written.
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
        """A partition's file, held against its hash; by what the manifest says by then, if it is no longer there.

        Raises:
            DamagedTable: it is not the file that the manifest describes.
        """
        why = ""
        for _ in range(READS):
            path = self.place(key, entry)
            try:
                data = path.read_bytes()
                if digest(data) == entry.sha256:
                    return data
                why = "it is not the file that its manifest describes"
            except FileNotFoundError:
                why = "it is gone, though its manifest lists it"
            except OSError as error:
                raise DamagedTable(self.name, path, str(error.strerror or error), key) from error
            newer = self.manifest().entries.get(key)
            if newer is None or newer == entry:
                break
            entry = newer
        raise DamagedTable(self.name, path, why, key)

    def stage(self, key: str, frame: pl.DataFrame, *, code_version: str, contract_passed: bool = True) -> Staged:
        """Write a partition beside its place and flush it to the disk, or into a bucket; readers do not see it.

        Raises:
            DiskFull, Unwritable: there is no room for it, or nobody may write there.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        frame = _in_order(frame)
        file = None if files.is_local(self.folder) else f"{key}.{uuid.uuid4().hex[:12]}.parquet"
        path = self.folder / (file or f".{key}.{os.getpid()}-{uuid.uuid4().hex[:8]}{files.STAGED_SUFFIX}")
        frame = frame.rechunk()  # equal frames must give equal bytes, and the layout in memory shows in them
        buffer = io.BytesIO()  # through memory: the hash needs no second read, and a full disk is a plain OSError
        # level 1: floats hardly compress, and higher levels take a fifth more time for a hundredth of the size
        frame.write_parquet(buffer, compression="zstd", compression_level=1)
        files.write(path, buffer.getbuffer(), self.place(key))
        sha256 = hashlib.sha256(buffer.getbuffer()).hexdigest()
        entry = entry_of(frame, sha256, code_version=code_version, contract_passed=contract_passed, file=file)
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
        """Make staged partitions visible: announce, rename, confirm. A file that would not change is not touched.

        Raises:
            StoreError: in a bucket others were first again and again.
        """
        if not files.is_local(self.folder):
            self._publish_among_others(staged)
            return
        with self.locked():
            manifest = self.manifest()
            held = {key: entry.sha256 for key, entry in manifest.entries.items()}
            manifest.pending = {one.key: one.entry for one in staged}
            self.write_manifest(manifest)
            self._rename(staged, held)
            manifest.entries |= manifest.pending
            manifest.pending = {}
            self.write_manifest(manifest)

    def _rename(self, staged: Sequence[Staged], held: Mapping[str, str]) -> None:
        """Move staged files to their places; those that are there already are not touched.

        Args:
            held: sha256 of what is published, by partition.
        """
        for one in staged:
            if held.get(one.key) != one.entry.sha256 or not self._holds(one.key, one.entry):
                with writing(self.place(one.key)):
                    files.replace(one.path, self.place(one.key))
            else:
                one.path.unlink(missing_ok=True)

    def _publish_among_others(self, staged: Sequence[Staged]) -> None:
        """Publish where nothing can be locked: one manifest takes the place of the one that was read, else again.

        Of two publishers of one partition the one who comes last stands.
        """
        now = datetime.now(UTC)
        announced = {one.key: one.entry.model_copy(update={"published_at": now}) for one in staged}

        def added(data: bytes | None) -> bytes:
            return Manifest(entries=self._parsed(data).entries | announced).text().encode()

        path = self.folder / MANIFEST
        with writing(path):
            swap.update(path, added)
        with suppress(OSError, DamagedTable):  # it is published; what is left is found again
            for one in leftovers(self.folder, self.manifest(), now):
                one.path.unlink(missing_ok=True)

    def _holds(self, key: str, entry: Entry) -> bool:
        try:
            return digest(self.place(key, entry).read_bytes()) == entry.sha256
        except OSError:
            return False

    def discard(self, staged: Sequence[Staged]) -> None:
        """Remove staged partitions that could not be published; of those that were, nothing."""
        named: set[str | None] = set()
        if not files.is_local(self.folder):
            try:
                named = {entry.file for entry in self.manifest().entries.values()}
            except DamagedTable:
                return  # whether they were published nobody can tell; a later publication removes what was not
        for one in staged:
            if one.path.name not in named:
                one.path.unlink(missing_ok=True)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        files.write_atomically(self.folder / MANIFEST, manifest.text())

    @contextmanager
    def locked(self, timeout: float = -1) -> Iterator[None]:
        """One publisher at a time on a local disk. In a bucket nothing is locked: `publish` needs no lock there, and
        whoever mends a table must be alone with it.

        Args:
            timeout: seconds to wait for another one; -1: as long as it takes.

        Raises:
            filelock.Timeout: another one is still writing.
        """
        if files.is_local(self.folder):
            with writing(self.folder):
                lock = FileLock(str(self.folder / ".lock"), mode=0o600)
                lock.acquire(timeout)
            try:
                yield
            finally:
                lock.release()
        else:
            yield


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorted by date and code, as far as it has them; a wide frame that is in order already is not copied."""
    order = [c for c in ("date", "code") if c in frame.columns]
    if not order:
        return frame
    places = frame.select(pl.arg_sort_by(order, maintain_order=True)).to_series()
    return frame if places.is_sorted() else frame[places]
