"""Files that are replaced as a whole: a reader sees the old one or the new one, whatever kills the writer.

Written beside their place, flushed to the disk, renamed. On a bucket a copy and a delete stand for the rename.
"""

import os
import uuid
from pathlib import Path
from typing import IO

from upath import UPath

from atft_model.interchange.disk import writing

STAGED_SUFFIX = ".staged"


def write_atomically(path: UPath, data: str | bytes) -> None:
    """Replace a file of the store.

    Raises:
        DiskFull, Unwritable: there is no room for it, or nobody may write there; the old file stands.
    """
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{STAGED_SUFFIX}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write(sibling, data.encode() if isinstance(data, str) else data, path)
    with writing(path):
        replace(sibling, path)


def write(sibling: UPath, data: bytes | memoryview, path: UPath) -> None:
    """Write a file beside its place and flush it to the disk; of one that cannot be written nothing is left.

    Args:
        path: its place, for the message.

    Raises:
        DiskFull, Unwritable: there is no room for it, or nobody may write there.
    """
    try:
        with writing(path, len(data)), sibling.open("wb") as file:
            file.write(data)
            flush(file)
    except BaseException:
        sibling.unlink(missing_ok=True)
        raise


def is_local(path: UPath) -> bool:
    """Whether the operating system can lock and rename it."""
    return path.protocol in ("", "file")


def flush(file: IO[bytes]) -> None:
    """Bring what was written to the disk itself."""
    file.flush()
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError, ValueError):
        return  # a bucket's or memory's file object has no descriptor; closing it commits it
    os.fsync(descriptor)


def replace(source: UPath, target: UPath) -> None:
    """Rename a file over another; on a local disk the folder is flushed too, without which a rename may be lost."""
    if is_local(source):
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
