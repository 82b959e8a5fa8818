"""What the store refuses; each text says what to do."""

from collections.abc import Sequence

from atft_assets.failures import Refusal
from atft_assets.store.manifest import UNPARTITIONED
from atft_model.interchange.errors import damaged


class StoreError(Refusal):
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


class DamagedTable(StoreError):
    """A file of a table, or its manifest, is not as it was written."""

    def __init__(self, table: str, path: object, why: str, key: str | None = None):
        self.table, self.key = table, key
        super().__init__(damaged(path, why))


class MissingColumns(StoreError):
    """A published table lacks columns that a reader needs."""

    def __init__(self, table: str, key: str, columns: Sequence[str], present: Sequence[str]):
        self.table, self.key, self.columns = table, key, list(columns)
        super().__init__(
            f"{table} {key} lacks the column{'s' if len(self.columns) > 1 else ''} {', '.join(self.columns)} "
            f"(it has {', '.join(present)}); materialize {table} again"
        )


def _shorten(keys: Sequence[str]) -> str:
    return ", ".join(keys) if len(keys) <= 4 else f"{keys[0]}, {keys[1]} … {keys[-1]} ({len(keys)} in all)"
