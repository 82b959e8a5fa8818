"""What a file system refuses, as one sentence: a full disk, a quota, a folder in which nobody may write.

These are `OSError`s, so that a writer that knows nothing of them still cleans up after itself. On the other side of the
wall the edge of an asset makes a failure of them that is not tried again; here they end the process with an exit code.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
PRIVATE = 0o077  # umask: nothing of a data root is for others
PROBE_BYTES = 4096


class DiskError(OSError):
    """A file cannot be written; its text is one sentence with the remedy."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


class DiskFull(DiskError):
    """No space or quota left for a file; the message names the file, what it needs and what is free."""


class Unwritable(DiskError):
    """This user may not write a file there, or nobody may."""


@contextmanager
def writing(path: object, needed: int | None = None) -> Iterator[None]:
    """Whatever is refused while a file is written becomes a sentence about that file.

    Args:
        needed: its size in bytes, where it is known.

    Raises:
        DiskFull, Unwritable: as the system said.
    """
    try:
        yield
    except OSError as error:
        if (refused := disk_error(error, path, needed)) is None:
            raise
        raise refused from error


def disk_error(error: OSError, path: object = None, needed: int | None = None) -> DiskError | None:
    """An error of the system as a sentence; None if it is about something else than where may be written.

    Args:
        path: what was written; by default the file that the error names.
        needed: its size in bytes, where it is known.
    """
    if isinstance(error, DiskError):
        return error
    place = path or error.filename
    cannot = f"{place or 'a file'} cannot be {'written' if path else 'used'}"
    if error.errno in FULL:
        reason = "the disk is full" if error.errno == errno.ENOSPC else "the quota is exhausted"
        need = f"it needs {_size(needed)}, " if needed else ""
        return DiskFull(
            error.errno,
            f"{cannot}: {reason} ({need}{_free(place)}). What was there before is intact. "
            "Free space there, or set ATFT_DATA to a larger disk, and run it again",
        )
    if error.errno in DENIED and place:
        return Unwritable(
            error.errno,
            f"{cannot}: {(error.strerror or 'refused').lower()}. What was there before is intact. Give "
            "this user the right to write there, or set ATFT_DATA to a folder of its own, and run it again",
        )
    return None


def keep_private() -> None:
    """Whatever this process writes from now on is readable for its user alone."""
    os.umask(PRIVATE)


def make_root(root: Path) -> None:
    """Make the folder of a data root, for its user alone, and try whether a file can be written there.

    Raises:
        DiskFull, Unwritable: it cannot.
    """
    probe = root / f".probe.{os.getpid()}-{uuid.uuid4().hex[:8]}.staged"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with probe.open("wb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        refused = disk_error(error, root)
        if refused is None:  # whatever else it is: a folder under /proc says that it does not exist
            refused = disk_error(OSError(errno.EACCES, error.strerror or str(error)), root)
        assert refused is not None
        raise refused from error


def size_of(path: Path) -> int:
    """Bytes of a file, or of everything in a folder; what vanishes meanwhile counts nothing."""
    files = [path]
    if path.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(_bytes(file) for file in files)


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:
        return 0


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


def _free(place: object) -> str:
    """What is free where a path leads, in words."""
    path = Path(str(place)).absolute() if place else Path.cwd()
    for folder in (path, *path.parents):
        if folder.is_dir():
            return f"{_size(shutil.disk_usage(folder).free)} are free in {folder}"
    return "free space unknown"
