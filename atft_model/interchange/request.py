"""What the training process is asked to do: one JSON document, the same from Dagster's launchpad to the trainer.

Its paths are those of the machine on which it was written. On another one they are set over: `python -m atft_model
train request.json --set panel=... --set init=... --set out=...` (docs/how-to/gpu-box.md). `fold` may also be given as
the path of a fold file.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from atft_model.interchange.config import DEVICE, MODE, Device, Mode, PhaseChanges, PresetName
from atft_model.interchange.errors import RequestError
from atft_model.interchange.fold import Fold, read_fold
from atft_model.interchange.phases import PHASES
from atft_model.interchange.pointers import resolve
from atft_model.interchange.records import entry, from_plain, read_json, to_plain, write_json


@dataclass(frozen=True)
class TrainRequest:
    """One phase to train on one fold of a panel into a run directory."""

    panel: Path = entry("Panel directory to read")
    fold: Fold = entry("The days that are learned from, chosen by and kept for the end")
    phase: int = entry("Place of the phase in the curriculum, 0 to 3")
    out: Path = entry("Run directory to write")
    init: Path | None = entry("Finished run of the phase before, whose weights are the start", None)
    preset: PresetName | None = entry("Size of the network; null: the parent's, and without a parent small", None)
    network: Mapping[str, Any] = entry("Knobs of ModelConfig that differ from the preset's", factory=dict)
    training: Mapping[str, Any] = entry("Knobs of TrainConfig that differ from the preset's", factory=dict)
    curriculum: PhaseChanges = entry("What differs from the curriculum's row of the phase", factory=PhaseChanges)
    seed: int = entry("Seed of the first member", 0)
    n_seeds: int = entry("Networks that are trained and averaged", 1)
    device: Device = entry(DEVICE, "auto")
    mode: Mode = entry(MODE, "safe")
    max_seconds: float | None = entry("No epoch starts that would end later than this many seconds from now", None)
    resume: bool = entry("`out` holds an interrupted training that is to go on", False)
    shuffle_edges: int | None = entry("Control: replace neighbours by random names, by this seed", None)
    permute_labels: int | None = entry("Control: shuffle each day's labels among its names, by this seed", None)
    telemetry_seconds: float = entry(
        "Seconds between two looks at the device, which are written to telemetry.jsonl; 0: none are taken", 1.0
    )

    def __post_init__(self) -> None:
        known = [phase.index for phase in PHASES]
        if self.phase not in known:
            raise RequestError(f"there is no phase {self.phase}; the phases are {', '.join(map(str, known))}")
        if self.n_seeds < 1:
            raise RequestError(f"n_seeds is {self.n_seeds}: at least one network must be trained")
        if not self.telemetry_seconds >= 0:
            raise RequestError(f"telemetry_seconds is {self.telemetry_seconds}: it must be 0 or more")


@dataclass(frozen=True)
class Scoring:
    """A run, and where its scores go."""

    run: Path = entry("Finished run directory")
    out: Path = entry("Parquet file to write: date, code, score_<h>d")


@dataclass(frozen=True)
class PredictRequest:
    """Days of a panel to score with a finished run, which need not have been trained on it."""

    panel: Path = entry("Panel directory to read")
    run: Path = entry("Finished run directory")
    out: Path = entry("Parquet file to write: date, code, score_<h>d")
    first: date | None = entry("First day to score; null: the panel's first", None)
    last: date | None = entry("Last day to score; null: the panel's last", None)
    exact: bool = entry("Encode every day on its own: slower, and independent of where the panel begins", False)
    device: Device = entry(DEVICE, "auto")
    mode: Mode = entry(MODE, "safe")
    also: tuple[Scoring, ...] = entry("Further runs, the other seeds, that score the same days in the same process", ())

    @property
    def scorings(self) -> tuple[Scoring, ...]:
        """Every run that is to score, the first one among them."""
        return (Scoring(self.run, self.out), *self.also)


def train_request(document: Any, where: str = "the training request") -> TrainRequest:
    """The request that a JSON document describes; a text as `fold` is the path of a fold file.

    `panel` and `init` may name a pointer `latest`, or the folder of one; the request has what it points to.

    Raises:
        RequestError, FoldError: it is malformed.
        InterchangeError: a pointer is not there or damaged.
    """
    if isinstance(document, Mapping) and isinstance(document.get("fold"), str):
        document = {**document, "fold": to_plain(read_fold(Path(document["fold"])))}
    request = from_plain(TrainRequest, document, where, RequestError)
    return dataclasses.replace(
        request, panel=resolve(request.panel), init=None if request.init is None else resolve(request.init)
    )


def predict_request(document: Any, where: str = "the prediction request") -> PredictRequest:
    """The request that a JSON document describes; `panel` and `run` may name pointers, as those of a training.

    Raises:
        RequestError: it is malformed.
        InterchangeError: a pointer is not there or damaged.
    """
    request = from_plain(PredictRequest, document, where, RequestError)
    return dataclasses.replace(
        request,
        panel=resolve(request.panel),
        run=resolve(request.run),
        also=tuple(Scoring(resolve(one.run), one.out) for one in request.also),
    )


def read_document(path: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """A request document from a file, single fields set over it.

    Args:
        path: JSON file; None starts from nothing.
        settings: `name=value` or `part.name=value`; a value that is no JSON is taken as text.

    Raises:
        RequestError: no such file, or a setting without `=`.
    """
    document = read_json(path, "give a request file", RequestError) if path else {}
    if not isinstance(document, dict):
        raise RequestError(f"{path} must hold an object with fields")
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise RequestError(
                f"{setting!r} sets nothing: write name=value, for instance seed=1 or network.dropout=0.2"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        place = document
        *parents, last = name.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise RequestError(f"{setting!r}: {parent} is no object with fields")
        place[last] = value
    return document


def write_request(path: Path, request: TrainRequest | PredictRequest) -> None:
    """Write `request.json`."""
    write_json(path, request)
