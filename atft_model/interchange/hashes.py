"""Hashes of what passes over the wall: whether a file is the one that its record describes.

SHA-256 throughout. A tensor is hashed in pieces of 16 MiB, several at a time (hashlib gives the interpreter's lock up
while it computes), and its hash is that of the pieces' digests in order.
"""

import hashlib
import json
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_model.interchange.errors import InterchangeError, damaged
from atft_model.interchange.records import read_text, write_text

PIECE = 16 << 20
MAX_THREADS = 8
SIDECAR = ".sha256"
HASH = "sha256"  # in the header of a file that carries its own


def tensor_hash(tensor: NDArray[Any]) -> str:
    """Hash of a tensor's values in C order, 64 hexadecimal digits; dtype and shape are not part of it."""
    values = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    pieces = [values[start : start + PIECE] for start in range(0, len(values), PIECE)]
    if len(pieces) < 2:
        digests = [hashlib.sha256(piece.data).digest() for piece in pieces]
    else:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
            digests = list(pool.map(lambda piece: hashlib.sha256(piece.data).digest(), pieces))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_bytes(path: Path, sha256: str | None, error: type[InterchangeError]) -> bytes:
    """The bytes of a file, held against its hash.

    Args:
        sha256: None where its record is of a time before files had hashes: then the bytes are not checked.
        error: what to raise.

    Raises:
        InterchangeError: as `error`; it is not there, cannot be read, or is another file.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise error(damaged(path, problem.strerror or str(problem))) from problem
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise error(damaged(path, "it is not the file that its record describes"))
    return data


def write_sidecar(path: Path, sha256: str) -> None:
    """Set down the hash of a file that no record describes beside it, in the form that `sha256sum --check` reads."""
    write_text(path.with_name(path.name + SIDECAR), f"{sha256}  {path.name}\n")


def read_sidecar(path: Path, error: type[InterchangeError]) -> str:
    """The hash that stands beside a file.

    Raises:
        InterchangeError: as `error`; there is none, or it is damaged.
    """
    sidecar = path.with_name(path.name + SIDECAR)
    text = read_text(sidecar, error)
    if text is None or not re.fullmatch(r"[0-9a-f]{64}  [^\n]+\n?", text):
        raise error(damaged(sidecar, "it is not there" if text is None else "it holds no hash"))
    return text[:64]


def state_hash(data: bytes) -> str:
    """Hash of a safetensors file: of its tensors, and of all that its header says but this hash itself.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, struct.error: it has no header of such a file.
    """
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"].pop(HASH, None)
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    found.update(memoryview(data)[8 + length :])
    return found.hexdigest()


def checked_state(path: Path, error: type[InterchangeError]) -> dict[str, str]:
    """What the header of a safetensors file carries beside its tensors, held against the hash that stands there too.

    A file of version 0.2 and before carries no hash and is taken as it stands.

    Raises:
        InterchangeError: as `error`; it is gone or damaged.
    """
    data = checked_bytes(path, None, error)
    try:
        expected = state_hash(data)
        (length,) = struct.unpack("<Q", data[:8])
        carried: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as problem:
        raise error(damaged(path, f"its header is none: {problem}")) from problem
    if carried.get(HASH, expected) != expected:
        raise error(damaged(path, "it is not as it was written"))
    return carried
