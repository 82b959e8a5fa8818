"""A safetensors file mapped into memory, each tensor held against its hash when it is first touched."""

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_model.interchange.errors import PanelError, damaged
from atft_model.interchange.hashes import tensor_hash

# safetensors names (https://github.com/huggingface/safetensors, format) and NumPy's dtypes, the widest first
DTYPES: Mapping[str, type] = {"F32": np.float32, "I32": np.int32, "BF16": np.uint16, "BOOL": np.bool_}
NAMES = {numpy: name for name, numpy in DTYPES.items()}


class Tensors(Mapping[str, NDArray[Any]]):
    """The tensors of a file by name, read-only; bfloat16 as uint16 bits.

    Args:
        path: the file.
        hashes: of its tensors (`hashes.tensor_hash`).

    Raises:
        PanelError: it has no header of such a file.
    """

    def __init__(self, path: Path, hashes: Mapping[str, str]) -> None:
        self._path, self._hashes = path, hashes
        self._checked: set[str] = set()
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            (length,) = struct.unpack("<Q", mapped[:8])
            header = json.loads(mapped[8 : 8 + length])
            header.pop("__metadata__", None)
            self.shapes = {name: (str(spec["dtype"]), tuple(spec["shape"])) for name, spec in header.items()}
            self._views = {
                name: np.frombuffer(
                    mapped, DTYPES[dtype], int(np.prod(shape)), 8 + length + header[name]["data_offsets"][0]
                ).reshape(shape)
                for name, (dtype, shape) in self.shapes.items()
                if dtype in DTYPES  # of another one its reader says what it should be
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
            raise PanelError(f"its header is none: {error}") from error

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor.

        Raises:
            KeyError: there is no such tensor.
            PanelError: it is not the one that was written.
        """
        view = self._views[name]
        if name not in self._checked:
            if tensor_hash(view) != self._hashes.get(name):
                raise PanelError(damaged(self._path, f"the tensor {name} is not the one that was written"))
            self._checked.add(name)
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)
