"""From the cells of a bulk file to the frame that the same records of the API give.

Every cell is text. What it stands for follows from the field's kind in the endpoint table: an empty cell is "" of a
string and null of whatever may be null; a number is a number; a nested object is a Python dict in single quotes. Of
fields of an open kind (`records.plain`) both ways give one text, however a number was written.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import polars as pl
from polars.exceptions import PolarsError

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoint import Endpoint, Field
from atft_assets.raw.records import plain
from atft_assets.raw.stamps import stamped

BLOCK = 32 << 20  # bytes of text that are looked at together; a month of minute bars has a gibibyte
LONGEST_LINE = 32 << 20  # bytes; a document's statements have some thousand
MOST_PACKED = 100  # times that text may be larger than its file
BOM = b"\xef\xbb\xbf"


class UnfitFile(Exception):
    """A file does not hold what the API would answer; the text says why."""


def blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The text of a gzip file of `size` bytes in blocks of whole lines, each with the header.

    Raises:
        UnfitFile: it is no gzip, is cut off, does not fit its checksum, or never ends.
    """
    header, rest, whole = b"", b"", 0
    text = gzip.GzipFile(fileobj=file)
    fault = ""
    try:
        while True:
            piece = text.read(BLOCK)
            whole += len(piece)
            if whole > MOST_PACKED * size + BLOCK:
                raise UnfitFile(f"it holds more than {MOST_PACKED} times its size")
            rest += piece
            if len(rest) > BLOCK + LONGEST_LINE:
                raise UnfitFile("a line of it does not end")
            if not header and rest:
                line, newline, after = rest.removeprefix(BOM).partition(b"\n")
                if newline or not piece:
                    header, rest = line.rstrip(b"\r") + b"\n", after
            end = _whole_lines(rest) if piece else len(rest)
            if header and (end or not piece):
                yield header + rest[:end]
                rest = rest[end:]
            if not piece:
                break
    except EOFError:
        fault = "it is cut off"
    except (OSError, zlib.error) as error:
        fault = f"it is damaged ({error})"
    if fault:
        raise UnfitFile(fault)
    if not header:
        raise UnfitFile("it is empty")


def _whole_lines(text: bytes) -> int:
    """Length of the whole lines at the beginning of a text; a line end between quotes ends none."""
    end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end


def cells(block: bytes) -> pl.DataFrame:
    """A block as a frame of strings, in the names of its header; an empty cell is null.

    Raises:
        UnfitFile: it is no table.
    """
    fault = ""
    try:
        line, _, rows = block.decode().partition("\n")
        names = next(csv.reader([line]), [])
        if len(set(names)) != len(names) or not all(re.fullmatch(r"\w+", name) for name in names):
            raise UnfitFile(f"its first line does not name columns: {line[:80]!r}")
        if not rows.strip():
            return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
        return pl.read_csv(io.StringIO(rows), has_header=False, schema=dict.fromkeys(names, pl.String), quote_char='"')
    except UnicodeDecodeError:
        fault = "it is not UTF-8"
    except PolarsError as error:
        fault = f"it is no table ({str(error).splitlines()[0][:120]})"
    raise UnfitFile(fault)


def typed_cells(
    endpoint: Endpoint, frame: pl.DataFrame, contract: Contract, partition: str, left_out: frozenset[str] = frozenset()
) -> pl.DataFrame:
    """Cells as `records.typed_frame` gives the records that they stand for.

    Args:
        frame: strings, named as the API names fields.
        left_out: fields that the table does not hold; a file may lack them.

    Raises:
        UnfitFile: a field is lacking, or a cell is not of its kind.
        ContractViolation: records without an instant.
    """
    lacking = sorted(endpoint.required - left_out - set(frame.columns))
    if lacking:
        raise UnfitFile(f"it has no column {', '.join(lacking)}")
    columns: list[pl.Series] = []
    for field in endpoint.fields:
        name = endpoint.column(field.name)
        schema = contract.schema.columns.get(name)
        if field.name in frame.columns:
            columns.append(typed(field, frame[field.name]).alias(name))
        elif schema is not None and schema.required:
            columns.append(pl.Series(name, [None] * frame.height, pl.Float64 if field.numeric else pl.String))
    unknown = sorted(set(frame.columns) - endpoint.declared.keys())
    columns += [_mapped(frame[name], lambda text: plain(text) or None) for name in unknown]
    made = pl.DataFrame(columns)
    days = made["date"].str.to_date("%Y-%m-%d", strict=False)
    if days.null_count():
        raise UnfitFile(f"{endpoint.dated_by} is no date in {days.null_count()} rows")
    return stamped(endpoint, made.with_columns(days), contract.table, partition)


def typed(field: Field, text: pl.Series) -> pl.Series:
    """The cells of a field as they are stored.

    Raises:
        UnfitFile: one is no number.
    """
    if field.numeric:
        filled = text.replace("", None)
        numbers = filled.cast(pl.Float64, strict=False)
        bad = filled.filter(filled.is_not_null() & ~numbers.is_finite().fill_null(False))
        if bad.len():
            raise UnfitFile(f"{field.name} is no number in {bad.len()} rows, e.g. {bad[0]!r}")
        return numbers
    if field.kind == "S":
        return text.fill_null("")
    if field.kind == "S?":
        return text.replace("", None)
    if field.kind == "SN?":
        return _mapped(text, lambda cell: plain(cell) or None)
    return _mapped(text.fill_null(""), plain)  # a marker, or a nested object


def _mapped(text: pl.Series, change: Callable[[str], str | None]) -> pl.Series:
    """The series with each text changed, each only once."""
    seen = text.drop_nulls().unique()
    changed = pl.Series([change(cell) for cell in seen], dtype=pl.String)
    return text.replace_strict(seen, changed, default=None, return_dtype=pl.String)
