"""The panel directory: what passes over the wall to the training process, written and read with NumPy alone.

`panel.safetensors` holds the tensors, `panel.json` the dates, codes, features and splits that give them meaning.
NumPy has no bfloat16: such a tensor is held as the upper sixteen bits of float32, in uint16.
"""

import json
import mmap
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.store import write_text_atomically

TENSORS, DESCRIPTION, LATEST = "panel.safetensors", "panel.json", "latest"
STAGED_PREFIX = ".staged-"

# safetensors names (https://github.com/huggingface/safetensors, format) of the dtypes a panel uses
_NUMPY_DTYPES = {"BF16": np.uint16, "BOOL": np.bool_, "F32": np.float32, "I32": np.int32}
_SPEC_DTYPES = {np.uint16: "bfloat16", np.bool_: "bool", np.float32: "float32", np.int32: "int32"}


class PanelError(Exception):
    """There is no panel, or it is not whole; the text says what to run."""


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even (IEEE 754 roundTiesToEven on the upper half of the word).

    Args:
        values: finite float32; a NaN could round to an infinity, and a panel holds neither.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 values of bfloat16 bits; exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Panel:
    """A published panel; its tensors are mapped, not loaded.

    Shapes: T days, N names, F features, H horizons, P graph periods, K neighbour slots (the first is the name itself).
    """

    folder: Path

    @cached_property
    def description(self) -> dict[str, Any]:
        """`panel.json`."""
        return json.loads((self.folder / DESCRIPTION).read_text())

    @cached_property
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """x [T,N,F] uint16 (bfloat16 bits), valid [T,N] bool, y_cc and y_oo [H,T,N] float32 (y_neutral too if that is
        the target), neighbours [P,N,K] int32,
        neighbour_attr [P,N,K,3] float32, neighbour_mask [P,N,K] bool, graph_period [T] int32; all read-only."""
        with (self.folder / TENSORS).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack("<Q", mapped[:8])
        header = json.loads(mapped[8 : 8 + length])
        header.pop("__metadata__", None)
        return {
            name: np.frombuffer(
                mapped,
                _NUMPY_DTYPES[spec["dtype"]],
                int(np.prod(spec["shape"])),
                8 + length + spec["data_offsets"][0],
            ).reshape(spec["shape"])
            for name, spec in header.items()
        }

    @property
    def panel_id(self) -> str:
        return self.description["panel_id"]

    @cached_property
    def dates(self) -> list[date]:
        return [date.fromisoformat(day) for day in self.description["dates"]]

    @cached_property
    def codes(self) -> list[str]:
        return list(self.description["codes"])

    @property
    def horizons(self) -> list[int]:
        return list(self.description["horizons"])

    @property
    def features(self) -> list[str]:
        return [feature["name"] for feature in self.description["features"]]

    @property
    def valid(self) -> NDArray[np.bool_]:
        return self.tensors["valid"]

    @property
    def y(self) -> NDArray[np.float32]:
        """The label the panel names: raw returns [H,T,N], NaN where unknown."""
        return self.tensors[self.description["label"]]

    @property
    def target(self) -> NDArray[np.float32]:
        """What models are fitted to, on the label's axes: the label itself or what is neutral of it."""
        return self.tensors[self.description.get("target", self.description["label"])]

    def x(self, t: int) -> NDArray[np.float32]:
        """Features of one day [N,F]."""
        return from_bfloat16(self.tensors["x"][t])

    @cached_property
    def sectors(self) -> NDArray[np.int32]:
        """Sector33 of each name as numbers [N]; names of an unknown sector share one."""
        return sector_numbers(self.description["sector33"])

    def block(self, name: str) -> range:
        """Day indices of a block ("train", "validation", "test")."""
        first, last = (date.fromisoformat(day) for day in self.description["split"][name])
        inside = [t for t, day in enumerate(self.dates) if first <= day <= last]
        return range(inside[0], inside[-1] + 1) if inside else range(0)


def sector_numbers(sectors: Sequence[str | None]) -> NDArray[np.int32]:
    """Sector codes as consecutive numbers [N]; names of an unknown sector share one."""
    _, index = np.unique([s or "" for s in sectors], return_inverse=True)
    return index.astype(np.int32)


def open_panel(folder: Path) -> Panel:
    """The panel in a directory.

    Raises:
        PanelError: the directory is no panel, or its tensor file is not as long as when it was published.
    """
    panel = Panel(folder)
    try:
        expected = panel.description["bytes"]
        size = (folder / TENSORS).stat().st_size
    except (FileNotFoundError, NotADirectoryError, KeyError, json.JSONDecodeError) as error:
        raise PanelError(
            f"{folder} is not a whole panel ({error}); run: dagster asset materialize --select training_panel"
        ) from error
    if size != expected:
        raise PanelError(
            f"{folder / TENSORS} has {size} bytes instead of {expected}; delete {folder} and run: "
            "dagster asset materialize --select training_panel"
        )
    return panel


def latest_panel(panels: Path) -> Panel:
    """The panel that the pointer `latest` names.

    Raises:
        PanelError: there is none yet, or it is damaged.
    """
    try:
        panel_id = (panels / LATEST).read_text().strip()
    except FileNotFoundError:
        raise PanelError(
            f"there is no training panel under {panels}; run: dagster asset materialize --select training_panel"
        ) from None
    return open_panel(panels / panel_id)


@contextmanager
def staged_panel(panels: Path) -> Iterator[Path]:
    """A temporary directory beside the panels, removed unless it was published."""
    panels.mkdir(parents=True, exist_ok=True)
    for left_over in panels.glob(f"{STAGED_PREFIX}*"):
        if not _alive(int(left_over.name.rpartition("-")[2])):
            shutil.rmtree(left_over, ignore_errors=True)
    folder = panels / f"{STAGED_PREFIX}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_panel(folder: Path, tensors: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> None:
    """Write a panel's two files and flush them to the disk.

    Args:
        tensors: uint16 means bfloat16 bits.
        description: `panel.json` without the size, which is added.
    """
    from safetensors import TensorSpec, serialize_file

    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}  # held until they are written
    serialize_file(
        {
            name: TensorSpec(
                dtype=_SPEC_DTYPES[tensor.dtype.type],
                shape=list(tensor.shape),
                data_ptr=tensor.ctypes.data,
                data_len=tensor.nbytes,
            )
            for name, tensor in tensors.items()
        },
        folder / TENSORS,
        {"panel_id": description["panel_id"]},
    )
    with (folder / TENSORS).open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    text = json.dumps({**description, "bytes": size}, indent=1, ensure_ascii=False)
    write_text_atomically(folder / DESCRIPTION, text + "\n")


def publish_panel(staged: Path, panels: Path, panel_id: str) -> Path:
    """Rename a staged directory into place; `latest` is moved by `point_latest`, last."""
    target = panels / panel_id
    if target.exists():  # damaged, or it would have been used again
        shutil.rmtree(target)
    staged.rename(target)
    return target


def point_latest(panels: Path, panel_id: str) -> None:
    """Let `latest` name a panel."""
    write_text_atomically(panels / LATEST, panel_id + "\n")


def prune_panels(panels: Path, keep: set[str], newest: int = 3) -> list[str]:
    """Remove panels that are neither among the newest nor in `keep`; returns their ids."""
    found = [p for p in panels.iterdir() if (p / DESCRIPTION).exists() and not p.name.startswith(".")]
    found.sort(key=lambda p: (p / DESCRIPTION).stat().st_mtime, reverse=True)
    removed = [p for p in found[newest:] if p.name not in keep]
    for folder in removed:
        shutil.rmtree(folder)
    return [p.name for p in removed]


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() if Path("/proc").exists() else True
