"""`manifest.json` beside a table's files: what is published, and what a publication has announced and not confirmed."""

import hashlib
import json
from datetime import UTC, date, datetime

import polars as pl
from pydantic import BaseModel, Field

UNPARTITIONED = "all"  # the only key of a table without months


class Entry(BaseModel):
    """What the manifest says of one partition.

    Attributes:
        file: name of its file, where each publication has one of its own (in a bucket); None: `<key>.parquet`.
    """

    rows: int
    through_date: date | None
    sha256: str
    schema_fingerprint: str
    contract_passed: bool
    code_version: str
    published_at: datetime
    file: str | None = Field(None, exclude_if=lambda name: name is None)


def entry_of(
    frame: pl.DataFrame, sha256: str, *, code_version: str, contract_passed: bool = True, file: str | None = None
) -> Entry:
    """The entry of a partition.

    Args:
        sha256: of its file.
        file: its name, if it is not the partition's.
    """
    through = frame["date"].max() if "date" in frame.columns and frame.schema["date"] == pl.Date else None
    return Entry(
        rows=frame.height,
        through_date=through if isinstance(through, date) else None,
        sha256=sha256,
        schema_fingerprint=schema_fingerprint(frame.schema),
        contract_passed=contract_passed,
        code_version=code_version,
        published_at=datetime.now(UTC),
        file=file,
    )


class Manifest(BaseModel):
    """`manifest.json` beside a table's files."""

    entries: dict[str, Entry] = {}
    pending: dict[str, Entry] = {}  # announced by a publication that has not confirmed yet, or died before it could

    def text(self) -> str:
        """The file's content; equal manifests give equal bytes."""
        return json.dumps(json.loads(self.model_dump_json()), indent=1, sort_keys=True)


def digest(data: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def schema_fingerprint(schema: pl.Schema) -> str:
    """Sixteen hex digits over column names and dtypes, in order."""
    text = "\n".join(f"{name}:{dtype}" for name, dtype in schema.items())
    return digest(text.encode())[:16]
