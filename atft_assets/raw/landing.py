"""What is kept beside a table: days fetched but not yet published, and what its rows do not show of days asked for.

A run publishes all its months or none. On a small plan a long range takes hours (five requests a minute), so each
finished month is also set down beside its table, unaudited and invisible to readers; the next run takes it up, and its
contract judges it like any other rows. The file carries a hash: one that was damaged since is dropped, and its days are
fetched again.

An event table has days without records. That such a day was asked for is written down in `asked.json` beside the
table's files: lost, it costs the requests once more.
"""

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum

import polars as pl
from polars.exceptions import PolarsError
from upath import UPath

from atft_assets.store import Table, files

logger = logging.getLogger(__name__)

DIGEST_BYTES = hashlib.sha256().digest_size  # a file is the hash of the rest, then the rest: Parquet
LANDED = ".*.landed"  # pattern of the files
ASKED = "asked.json"


class Landing:
    """The set-down months of one table.

    Args:
        code_version: of the asset; what older code set down is not taken up.
    """

    def __init__(self, table: Table, code_version: str):
        self.table, self.code_version = table, code_version

    def load(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """What an earlier run set down for a month; None if nothing, or if it cannot be read."""
        path = self._path(key)
        try:
            return landed_rows(path.read_bytes(), columns)
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.warning("%s is damaged (%s): dropped, its days are fetched again", path, error)
            path.unlink(missing_ok=True)
            return None

    def save(self, key: str, frame: pl.DataFrame) -> None:
        """Set down a month's rows in place of what was there."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        rows = buffer.getvalue()
        files.write_atomically(self._path(key), hashlib.sha256(rows).digest() + rows)

    def clear(self, keys: list[str]) -> None:
        """Forget the months, also what older code set down: they are published, or broke their contract."""
        for key in keys:
            for path in list(self.table.folder.glob(f".{key}.v*.landed")):
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> UPath:
        return self.table.folder / f".{key}.v{self.code_version}.landed"


def landed_rows(data: bytes, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows of a set-down file.

    Raises:
        ValueError: it is not as it was set down.
    """
    rows = memoryview(data)[DIGEST_BYTES:]
    # held against its hash before it is parsed: damaged Parquet may also read as other values, or end the process
    if hashlib.sha256(rows).digest() != data[:DIGEST_BYTES]:
        raise ValueError("it is not as it was set down")
    try:
        return pl.read_parquet(io.BytesIO(rows), columns=list(columns) if columns else None)
    except PolarsError as error:
        raise ValueError(f"another Polars wrote it ({str(error)[:100]})") from None


class Asked(StrEnum):
    """What a table's rows do not show of a day that was asked for."""

    EMPTY = "empty"  # it had no records: nothing to ask for again
    EARLY = "early"  # it was asked for before all of it was out: to be asked for again


class AskedDays:
    """Those days of one table, in `asked.json`: month, day, what about it."""

    def __init__(self, table: Table):
        self._path = table.folder / ASKED

    def of(self, key: str) -> dict[date, Asked]:
        """The days of a month."""
        return {date.fromisoformat(day): Asked(what) for day, what in self._all().get(key, {}).items()}

    def note(self, key: str, days: Mapping[date, Asked | None]) -> None:
        """Set down what is known of days of a month; None: its rows show it.

        Two runs that write at the same instant may lose one another's days, which are then asked for once more.
        """
        before = self.of(key)
        after = {day: what for day, what in sorted((before | dict(days)).items()) if what}
        if after != before:
            months = self._all() | {key: {str(day): what.value for day, what in after.items()}}
            text = json.dumps({key: months[key] for key in sorted(months) if months[key]}, indent=1)
            files.write_atomically(self._path, text)

    def _all(self) -> dict[str, dict[str, str]]:
        try:
            months = json.loads(self._path.read_bytes())
            for days in months.values():
                for day, what in days.items():
                    date.fromisoformat(day), Asked(what)
        except (FileNotFoundError, ValueError, TypeError, AttributeError):  # half a file, or another one
            return {}
        return months
