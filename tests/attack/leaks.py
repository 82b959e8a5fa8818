"""Finds a secret in whatever a run leaves behind: encoded, packed, in a row of a database, in a dump."""

import base64
import gzip
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus

import polars as pl

DEPTH = 3  # a packed text in a packed text in a packed text
PACKED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")  # how zlib and gzip begin
HEX = re.compile(rb"(?:[0-9a-f]{2}){12,}")  # as dumps of PostgreSQL write bytes
BASE64 = re.compile(
    rb"(?:eJ|eN|eF|eA|H4sI)[A-Za-z0-9+/_-]{10,}={0,2}"
)  # of what is packed; plain is found by its forms
SQLITE = b"SQLite format 3\0"


@cache
def forms(secret: str) -> frozenset[bytes]:
    """How a secret may be written: as it is, in URLs, JSON and Python, UTF-16, hexadecimal, and base64 wherever it may
    begin in what is encoded."""
    plain = secret.encode()
    written = {
        plain, secret.encode("utf-16-le"), plain.hex().encode(), repr(secret)[1:-1].encode(),
        repr(plain)[2:-1].encode(), quote(secret).encode(),
        *(encode(secret, safe="").encode() for encode in (quote, quote_plus)),
    }  # fmt: skip
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            text = encode(b"\0" * before + plain)
            # six bits a letter: without those letters that hold bits of what stands before, or comes after
            written.add(text[-(-before * 8 // 6) : (before + len(plain)) * 8 // 6])
    return frozenset(written)


def unpacked(data: bytes, depth: int = DEPTH) -> Iterator[bytes]:
    """The bytes, and what is packed in them, wherever it begins."""
    yield data
    if depth == 0:
        return
    for found in PACKED.finditer(data):
        packer = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        try:
            inside = packer.decompress(data[found.start() :])
        except zlib.error:
            continue
        if len(inside) > 4:
            yield from unpacked(inside, depth - 1)
    for found in HEX.finditer(data):
        yield from unpacked(bytes.fromhex(found[0].decode()), depth - 1)
    for found in BASE64.finditer(data):
        text = found[0].rstrip(b"=")
        text = text[: len(text) - (len(text) % 4 == 1)]
        yield from unpacked(
            base64.b64decode(text + b"=" * (-len(text) % 4), b"-_" if {*b"-_"} & {*text} else None), depth - 1
        )


def told(data: bytes, secrets: Mapping[str, str]) -> set[str]:
    """Names of the secrets that stand in some bytes."""
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    return {
        name
        for text in unpacked(data)
        for name, written in wanted.items()
        if any(form in text for form in written)
    }  # fmt: skip


def parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """A file's bytes; the cells of its rows if it is a database, its rows if it is Parquet, whose pages are packed by
    other means."""
    data = path.read_bytes()
    yield path.name, data
    if data.startswith(SQLITE):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                rows = connection.execute(f'SELECT * FROM "{table}"')
                columns = [column[0] for column in rows.description]
                for row in rows:
                    for column, value in zip(columns, row, strict=True):
                        if isinstance(value, str | bytes):
                            cell = value.encode() if isinstance(value, str) else value
                            yield f"{path.name}, {table}.{column}", cell
        connection.close()
    elif path.suffix == ".parquet":
        for row in pl.read_parquet(path).select(pl.col(pl.String, pl.Binary, pl.List, pl.Struct)).iter_rows():
            yield f"{path.name}, its rows", repr(row).encode()


def leaks(root: Path, secrets: Mapping[str, str]) -> list[str]:
    """`name of the secret: where` for every place below a folder."""
    found = {
        f"{name}: {path.relative_to(root).parent / where}"
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
        for where, data in parts(path)
        for name in told(data, secrets)
    }
    return sorted(found)


def packed(text: str) -> dict[str, bytes]:
    """A text in the ways in which a detector must find it; for its own test."""
    data = text.encode()
    return {
        "plain": data,
        "in a URL": quote(text, safe="").encode(),
        "UTF-16": text.encode("utf-16-le"),
        "hexadecimal": data.hex().encode(),
        "base64": base64.b64encode(data),
        "base64, one letter later": base64.b64encode(b"u" + data + b"xy"),
        "base64, two letters later": base64.b64encode(b"u:" + data + b"x"),
        "zlib": zlib.compress(data * 3),
        "gzip": gzip.compress(data),
        "zlib at the lowest level": zlib.compress(data, 1),
        "zlib in the middle": b"\x00\x01 before" + zlib.compress(data) + b"after",
        "base64 of zlib": base64.b64encode(zlib.compress(data)),
        "base64 of gzip": base64.urlsafe_b64encode(gzip.compress(data)),
        "a dump's bytes": b"7\t\\\\x" + zlib.compress(data).hex().encode() + b"\tname\n",
        "zlib of base64 of zlib": zlib.compress(b"{" + base64.b64encode(zlib.compress(data)) + b"}"),
    }
