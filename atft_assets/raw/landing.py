"""Days fetched but not yet published, so that a killed back-fill does not ask for them twice.

A run publishes all its months or none. On a small plan a long range takes hours (five requests a minute), so each
finished month is also set down beside its table, unaudited and invisible to readers; the next run takes it up, and its
contract judges it like any other rows.
"""

import uuid
from collections.abc import Sequence

import polars as pl
from polars.exceptions import PolarsError

from atft_assets.store import Table

LANDED = ".*.landed"  # pattern of the files


class Landing:
    """The set-down months of one table.

    Args:
        code_version: of the asset; what older code set down is not taken up.
    """

    def __init__(self, table: Table, code_version: str):
        self.table, self.code_version = table, code_version

    def load(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """What an earlier run set down for a month; None if nothing, or if it cannot be read."""
        try:
            with self._path(key).open("rb") as file:
                return pl.read_parquet(file.read(), columns=list(columns) if columns else None)
        except (FileNotFoundError, PolarsError):
            return None

    def save(self, key: str, frame: pl.DataFrame) -> None:
        """Set down a month's rows in place of what was there."""
        self.table.folder.mkdir(parents=True, exist_ok=True)
        sibling = self._path(f"{key}.{uuid.uuid4().hex[:8]}")
        with sibling.open("wb") as file:
            frame.write_parquet(file, compression="zstd")
        if self._path(key).exists():
            self._path(key).unlink()
        sibling.rename(self._path(key))

    def clear(self, keys: list[str]) -> None:
        """Forget the months: they are published, or broke their contract."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str):
        return self.table.folder / f".{key}.v{self.code_version}.landed"
