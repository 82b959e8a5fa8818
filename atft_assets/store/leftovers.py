"""Files of a table in a bucket that nobody reads any more: replaced a while ago, or staged by a publisher that died.

A publication there adds files and then names them in the manifest, so what it replaces is still there, for readers who
hold the manifest of before. Each publication removes what is left of earlier ones; `python -m
atft_assets.tools.retention` finds what is left of a table into which nothing is published any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from upath import UPath

from atft_assets.store.files import STAGED_SUFFIX
from atft_assets.store.manifest import Manifest

GRACE = timedelta(hours=1)  # a reader of an older manifest is through with its files
LONGEST_PUBLICATION = timedelta(days=2)  # whoever staged a file longer ago will not name it any more


@dataclass(frozen=True)
class Leftover:
    """A file that no manifest names; `size` in bytes."""

    path: UPath
    size: int


def leftovers(folder: UPath, manifest: Manifest, now: datetime) -> Iterator[Leftover]:
    """What may go of a table's folder in a bucket.

    Args:
        manifest: as it is now; what it names stays.

    Raises:
        OSError: the bucket does not answer.
    """
    named = {entry.file or f"{key}.parquet" for key, entry in (*manifest.entries.items(), *manifest.pending.items())}
    for info in folder.fs.ls(folder.path, detail=True):
        name = str(info["name"]).rpartition("/")[2]
        if info["type"] != "file" or name in named or not name.endswith((".parquet", STAGED_SUFFIX)):
            continue
        current = manifest.entries.get(name.partition(".")[0])
        replaced = current.published_at if current else datetime.min.replace(tzinfo=UTC)
        if _written(info) < now - LONGEST_PUBLICATION and replaced < now - GRACE:
            yield Leftover(folder / name, int(info["size"]))


def _written(info: dict[str, object]) -> datetime:
    """When an object was written; without a time it is as if just now, and stays."""
    found = info.get("LastModified") or info.get("created")
    return found.astimezone(UTC) if isinstance(found, datetime) else datetime.max.replace(tzinfo=UTC)
