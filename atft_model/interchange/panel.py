"""The panel directory: features, labels and graph on one calendar and one list of names.

`panel.safetensors` holds the tensors below, `panel.json` what their axes mean. There are no split dates: one panel
serves every fold, and a panel of the last days serves tonight's scores. Written and read with NumPy alone; NumPy has no
bfloat16, so such a tensor is held as the upper sixteen bits of float32, in uint16.

`panel.json` holds a hash of each tensor (SHA-256 over the SHA-256 digests of its 16 MiB pieces) and, as `seal`, one of
itself. A reader checks a tensor when it first touches it. A panel of an earlier format is refused: it is built again.
"""

import hashlib
import json
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

from atft_model.interchange.disk import writing
from atft_model.interchange.errors import OldPanel, PanelError, damaged
from atft_model.interchange.fold import places
from atft_model.interchange.hashes import tensor_hash
from atft_model.interchange.records import entry, from_plain, read_json, read_pointer, to_plain, write_json, write_text
from atft_model.interchange.tensors import NAMES, Tensors

FORMAT = 3
TENSORS, DESCRIPTION, LATEST = "panel.safetensors", "panel.json", "latest"
STAGED_PREFIX = ".staged-"
BUILD = "run: dagster asset materialize --select training_panel"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of `panel.safetensors`.

    Attributes:
        dtype: as safetensors names it.
        axes: letters of its shape (see the package); digits are fixed sizes.
        optional: only in panels that need it.
    """

    name: str
    dtype: str
    axes: str
    doc: str
    optional: bool = False


SPECS = (
    TensorSpec("x", "BF16", "T N F", "Features, scaled within the day; missing is 0, never NaN"),
    TensorSpec("valid", "BOOL", "T N", "Eligible: in the universe, old enough, traded that day, and enough of late"),
    TensorSpec("y_cc", "F32", "H T N", "Raw return from the close of t to the close h days later, NaN where unknown"),
    TensorSpec("y_oo", "F32", "H T N", "Raw return from the open of t+1 to the open h days after it"),
    TensorSpec("y_neutral", "F32", "H T N", "The label, sector and 20-day volatility taken out", optional=True),
    TensorSpec("neighbours", "I32", "P N K", "Place of each neighbour on the axis of names; slot 0 is the name itself"),
    TensorSpec("neighbour_attr", "F32", "P N K 3", "Correlation, same market segment, same sector33"),
    TensorSpec("neighbour_mask", "BOOL", "P N K", "Slots in use"),
    TensorSpec("graph_period", "I32", "T", "Place of each day's graph on the axis of periods"),
)
NEUTRAL = "y_neutral"


@dataclass(frozen=True)
class PanelFeature:
    """One input, on the axis F."""

    name: str = entry("Column of the feature tables")
    family: str = entry("Family, by which importances are summed")
    kind: str = entry("How it was scaled: market over time, flag as it is, all others ranked within the day")
    sequence: bool = entry("Whether it is read over the look-back too, not on the newest day alone", False)


@dataclass(frozen=True)
class PanelDescription:
    """`panel.json`: what the tensors' axes mean and where they came from."""

    format: int = entry("Version of the panel directory")
    panel_id: str = entry("Name of the directory: hash of sources, catalogue and configuration")
    dates: tuple[date, ...] = entry("Axis T: trading days, ascending")
    codes: tuple[str, ...] = entry("Axis N: five-character codes, ascending")
    features: tuple[PanelFeature, ...] = entry("Axis F")
    catalogue_hash: str = entry("Hash of the feature set, the code that computes it included")
    horizons: tuple[int, ...] = entry("Axis H: label horizons in trading days")
    feature_set: str = entry("Name of the feature set", "")
    label: str = entry("Tensor on which figures are given", "y_cc")
    target: str = entry("Tensor that is learned and that chooses epochs", "y_cc")
    sources: Mapping[str, str] = entry("Data versions of the tables it was built from", factory=dict)
    sector33: tuple[str, ...] = entry("Newest sector33 code of each name, along N", ())
    turnover_floor: int = entry("Least mean turnover of an eligible name over its last 60 rows, yen a day; 0: none", 0)
    min_history: int = entry("Rows of a name in the universe before it is eligible", 60)
    most_liquid: int | None = entry("Names that are eligible in a calendar year, the most traded ones; null: all", None)
    created_at: str = entry("When it was built, UTC", "")
    bytes: int = entry("Size of panel.safetensors", 0)
    hashes: Mapping[str, str] = entry("Hash of each tensor", factory=dict)
    seal: str = entry("Hash of this file without this field", "")

    def places(self, first: date | None = None, last: date | None = None) -> range:
        """Places of the days from `first` to `last` (default: the panel's own ends) on the axis T.

        Raises:
            FoldError: the panel holds none of them.
        """
        what = f"the days that are asked of panel {self.panel_id}"
        return places(self.dates, first or self.dates[0], last or self.dates[-1], what)

    @property
    def sequences(self) -> tuple[int, ...]:
        """Places on the axis F of the R features that are read over the look-back, ascending."""
        return tuple(place for place, feature in enumerate(self.features) if feature.sequence)

    def sizes(self) -> dict[str, int]:
        """Sizes of the axes that this description fixes, by letter."""
        return {"T": len(self.dates), "N": len(self.codes), "F": len(self.features), "H": len(self.horizons)}


def sector_numbers(sectors: Sequence[str | None]) -> NDArray[np.int32]:
    """Sector codes as consecutive numbers [N]; names of an unknown sector share one."""
    _, index = np.unique([s or "" for s in sectors], return_inverse=True)
    return index.astype(np.int32)


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


def check_shapes(description: PanelDescription, found: Mapping[str, tuple[str, Sequence[int]]], where: str) -> None:
    """Hold tensors against the specification.

    Args:
        found: dtype (safetensors' name) and shape by tensor.

    Raises:
        PanelError: a tensor is missing, or has another dtype or shape than the description implies.
    """
    sizes = description.sizes()
    needed = {spec.name for spec in SPECS if not spec.optional} | {description.label, description.target}
    if missing := sorted(needed - set(found)):
        raise PanelError(f"{where} lacks {', '.join(missing)}; it holds {', '.join(sorted(found))}; {BUILD}")
    for spec in SPECS:
        if spec.name not in found:
            continue
        dtype, shape = found[spec.name]
        letters = spec.axes.split()
        wanted = [int(a) if a.isdigit() else sizes.get(a) for a in letters]
        fits = len(shape) == len(letters) and all(w in (None, s) for w, s in zip(wanted, shape, strict=False))
        if dtype != spec.dtype or not fits:
            implied = ", ".join(a if w is None else str(w) for a, w in zip(letters, wanted, strict=True))
            raise PanelError(
                f"{where}: {spec.name} is {dtype} {list(shape)}, {DESCRIPTION} implies {spec.dtype} [{implied}] "
                f"({spec.axes})"
            )
        sizes |= {a: s for a, s in zip(letters, shape, strict=True) if not a.isdigit()}


@dataclass(frozen=True)
class Panel:
    """A published panel; its tensors are mapped, not loaded."""

    folder: Path

    @cached_property
    def description(self) -> PanelDescription:
        """`panel.json`."""
        return read_description(self.folder)

    @cached_property
    def tensors(self) -> Tensors:
        """All tensors by name, read-only; bfloat16 as uint16 bits.

        Raises:
            PanelError: the file is damaged. Of a single tensor this is said when it is first asked for.
        """
        path = self.folder / TENSORS
        try:
            tensors = Tensors(path, self.description.hashes)
            check_shapes(self.description, tensors.shapes, str(path))
        except PanelError as error:
            raise PanelError(damaged(path, error)) from error
        return tensors

    @property
    def panel_id(self) -> str:
        return self.description.panel_id

    @property
    def dates(self) -> tuple[date, ...]:
        return self.description.dates

    @property
    def codes(self) -> tuple[str, ...]:
        return self.description.codes

    @property
    def horizons(self) -> tuple[int, ...]:
        return self.description.horizons

    @property
    def features(self) -> list[str]:
        """Names along F."""
        return [feature.name for feature in self.description.features]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Eligibility [T,N]."""
        return self.tensors["valid"]

    @property
    def y(self) -> NDArray[np.float32]:
        """The label: raw returns [H,T,N], NaN where unknown."""
        return self.tensors[self.description.label]

    @property
    def target(self) -> NDArray[np.float32]:
        """What models are fitted to, on the label's axes: the label itself or what is neutral of it."""
        return self.tensors[self.description.target]

    @property
    def one_day_returns(self) -> NDArray[np.float32]:
        """Close-to-close returns [T,N]; row t is the return from t to t+1, known on t+1."""
        return self.tensors["y_cc"][self.horizons.index(1)]

    def x(self, t: int) -> NDArray[np.float32]:
        """Features of one day [N,F]."""
        return from_bfloat16(self.tensors["x"][t])

    @cached_property
    def sectors(self) -> NDArray[np.int32]:
        """Sector33 of each name as numbers [N]; names of an unknown sector share one."""
        return sector_numbers(self.description.sector33)


def read_description(folder: Path | str) -> PanelDescription:
    """`panel.json` of a panel directory.

    Raises:
        PanelError: it is missing or damaged.
        OldPanel: it is of another version.
    """
    path = Path(folder) / DESCRIPTION
    document = read_json(path, f"give a panel directory, or {BUILD}", PanelError)
    found = document.get("format") if isinstance(document, Mapping) else None
    if not isinstance(found, int):
        raise PanelError(damaged(path, "it describes no panel"))
    if found != FORMAT:
        raise OldPanel(f"{path} has format {found!r}, this version reads {FORMAT}; {BUILD}")
    try:
        description = from_plain(PanelDescription, document, str(path), PanelError)
    except PanelError as error:
        raise PanelError(damaged(path, error)) from error
    if any(later <= earlier for earlier, later in zip(description.dates, description.dates[1:], strict=False)):
        raise PanelError(damaged(path, "dates must increase strictly"))
    if not description.hashes or _seal(document) != description.seal:
        raise PanelError(damaged(path, "it is not as it was written"))
    return description


def open_panel(folder: Path) -> Panel:
    """The panel in a directory; its tensors are checked as they are touched.

    Raises:
        PanelError: the directory is no panel, or its tensor file is not as long as when it was published.
    """
    panel = Panel(folder)
    expected = panel.description.bytes
    try:
        size = (folder / TENSORS).stat().st_size
    except OSError as error:
        raise PanelError(damaged(folder, f"it is not a whole panel: {error.strerror}")) from error
    if size != expected:
        raise PanelError(damaged(folder / TENSORS, f"it has {size} bytes instead of {expected}"))
    return panel


def checked_panel(folder: Path) -> Panel:
    """The panel in a directory, every tensor held against its hash now.

    Raises:
        PanelError: the directory is no panel, or it is damaged.
    """
    panel = open_panel(folder)
    for _ in panel.tensors.values():
        continue
    return panel


def latest_panel(panels: Path) -> Panel:
    """The panel that the pointer `latest` names.

    Raises:
        PanelError: there is none yet, or it is damaged.
    """
    panel_id = read_pointer(panels / LATEST, PanelError)
    if panel_id is None:
        raise PanelError(f"there is no training panel under {panels}; {BUILD}")
    if not (panels / panel_id / DESCRIPTION).exists():
        raise PanelError(damaged(panels / LATEST, f"it names {panel_id}, which is no panel"))
    return open_panel(panels / panel_id)


def _seal(document: Mapping[str, Any]) -> str:
    """Hash of a description's fields but the seal itself."""
    text = json.dumps({name: value for name, value in document.items() if name != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_panel(folder: Path, tensors: Mapping[str, NDArray[Any]], description: PanelDescription) -> None:
    """Write a panel's two files and flush them to the disk.

    Args:
        tensors: as SPECS has them; uint16 means bfloat16 bits.
        description: its `bytes`, `hashes` and `seal` are filled in.

    Raises:
        PanelError: the tensors are not what the description implies.
        DiskFull, Unwritable: there is no room for them, or nobody may write there.
    """
    found = {name: (NAMES[tensor.dtype.type], tensor.shape) for name, tensor in tensors.items()}
    check_shapes(description, found, f"the panel {description.panel_id}")
    # as safetensors itself lays tensors out: the widest dtypes first, then by name, so that each is aligned
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"panel_id": description.panel_id}}
    offset = 0
    for name in order:
        dtype, shape = found[name]
        end = offset + tensors[name].nbytes
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    size = 8 + len(text) + offset
    with writing(folder / TENSORS, size):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / TENSORS).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
    hashes = {name: tensor_hash(tensors[name]) for name in order}  # of what is meant, whatever came to the disk
    write_description(folder, {**to_plain(description), "bytes": size, "hashes": hashes})


def write_description(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `panel.json` with its seal."""
    write_json(folder / DESCRIPTION, {**document, "seal": _seal(document)})


@contextmanager
def staged_panel(panels: Path) -> Iterator[Path]:
    """A temporary directory beside the panels, removed unless it was published."""
    with writing(panels):
        panels.mkdir(parents=True, exist_ok=True)
    for left_over in panels.glob(f"{STAGED_PREFIX}*"):
        if not _alive(int(left_over.name.rpartition("-")[2])):
            shutil.rmtree(left_over, ignore_errors=True)
    folder = panels / f"{STAGED_PREFIX}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_panel(staged: Path, panels: Path, panel_id: str) -> Path:
    """Rename a staged directory into place; `latest` is moved by `point_latest`, last."""
    target = panels / panel_id
    if target.exists():  # damaged, or it would have been used again
        shutil.rmtree(target)
    staged.rename(target)
    return target


def point_latest(panels: Path, panel_id: str) -> None:
    """Let `latest` name a panel."""
    write_text(panels / LATEST, panel_id + "\n")


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() if Path("/proc").exists() else True
