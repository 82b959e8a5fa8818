"""What may go of a data root in a bucket: files of tables that no manifest names any more. The rest is left alone.

Which run directories and panels are needed is told by their files, records and times, and by the locks of trainings
that go on: of other machines' trainings no lock is seen here. So none of them is listed, or removed, from here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from atft_assets.operations.going import Going
from atft_assets.store import Store
from atft_assets.store.errors import StoreError
from atft_assets.store.leftovers import leftovers
from atft_assets.store.tables import MANIFEST

LEFTOVER = "replaced file"
LEFT_ALONE = (
    "In a bucket run directories, sets of baselines and panels are left alone, for another machine may be using them: "
    "docs/how-to/bucket.md tells what to remove there, and how"
)


def left_in_tables(store: Store) -> list[Going]:
    """Files of the tables of a bucket that no manifest names, and that nobody reads or will name.

    Raises:
        StoreError: the bucket cannot be looked through, or a manifest is damaged.
    """
    now, found = datetime.now(UTC), []
    with _answering(store):
        for path in store.place.glob(f"*/*/{MANIFEST}"):
            table = store.table(path.parent.parent.name, path.parent.name)
            found += [
                Going(LEFTOVER, f"{table.group}/{table.name}/{one.path.name}", "its manifest names others", one.size)
                for one in leftovers(table.folder, table.manifest(), now)
            ]
    return found


def names_in_runs(store: Store) -> set[str]:
    """Names of all folders and files under a bucket's `runs`, the ids of runs among them.

    Raises:
        StoreError: the bucket cannot be looked through.
    """
    with _answering(store):
        runs = store.place / "runs"
        return {part for path in runs.fs.find(runs.path) for part in str(path).split("/")}


def remove_file(store: Store, name: str) -> None:
    """Remove a file that `left_in_tables` found.

    Raises:
        StoreError: the bucket does not let it go.
    """
    with _answering(store):
        (store.place / name).unlink(missing_ok=True)


@contextmanager
def _answering(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{store.root} does not answer as a bucket should ({type(error).__name__}: {error}); run: "
            "python -m atft_assets.tools.doctor"
        ) from error
