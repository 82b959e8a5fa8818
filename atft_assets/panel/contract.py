"""The panel's contract: what a directory must be before it may be read.

The tables were judged one by one; what is judged here arises when they are joined: days without names, features that
are constant once ranked, a label among the features. What needs a fold, labels known in its blocks and features that
have seen the future, is judged when the folds are cut (`training.fold_contract`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.contracts import Verdict, failures_frame
from atft_model.interchange.horizons import LABELS
from atft_model.interchange.panel import PanelDescription

LEAST_SPREAD = 1e-3  # standard deviation of a feature over the panel, below which it is constant
LEAST_COVERAGE = 0.02
SAMPLE = 5

Failure = tuple[str, str, int, str]  # column, rule, failing rows, sample
Tensors = Mapping[str, NDArray[Any]]


@dataclass
class FeatureSums:
    """Sums over the valid cells of each feature [F], gathered while a panel is filled."""

    present: NDArray[np.int64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]
    cells: int = 0

    @classmethod
    def zeros(cls, features: int) -> "FeatureSums":
        return cls(np.zeros(features, np.int64), np.zeros(features), np.zeros(features))

    @classmethod
    def of(cls, filled: NDArray[np.float32], missing: NDArray[np.bool_]) -> "FeatureSums":
        """Sums of one day's scaled values [n,F], which are 0 where `missing`."""
        return cls(
            present=len(filled) - missing.sum(axis=0),
            total=filled.sum(axis=0, dtype=np.float64),
            square=np.einsum("nf,nf->f", filled, filled).astype(np.float64),
            cells=len(filled),
        )

    def add(self, other: "FeatureSums") -> None:
        self.present += other.present
        self.total += other.total
        self.square += other.square
        self.cells += other.cells


def audit_panel(tensors: Tensors, description: PanelDescription, sums: FeatureSums, min_names: int) -> Verdict:
    """Finite, populated, no constant feature, no label among the features, a whole graph."""
    found = [
        *_feature_failures(description, sums),
        *_cell_failures(tensors, description.dates, min_names),
        *_graph_failures(tensors),
    ]
    return Verdict("training_panel", description.panel_id, failures_frame(found))


def _feature_failures(description: PanelDescription, sums: FeatureSums) -> Iterator[Failure]:
    if not description.features:
        yield "(features)", "at least one feature", 0, ""
    cells, counted = max(sums.cells, 1), np.maximum(sums.present, 1)
    mean = sums.total / counted
    spread = np.sqrt(np.maximum(sums.square / counted - mean**2, 0))
    for i, feature in enumerate(description.features):
        missing = int(cells - sums.present[i])
        if feature.name.startswith("y_"):
            yield feature.name, "labels are never among the features", 0, feature.name
        if missing > (1 - LEAST_COVERAGE) * cells:
            rule = f"present in {LEAST_COVERAGE:.0%} of the valid rows"
            yield feature.name, rule, missing, f"{1 - missing / cells:.2%} are"
        elif spread[i] < LEAST_SPREAD:
            yield feature.name, "not constant", cells, f"value {mean[i]:.3g}, standard deviation {spread[i]:.1e}"


def _cell_failures(tensors: Tensors, days: Sequence[date], min_names: int) -> Iterator[Failure]:
    x, populated = tensors["x"], tensors["valid"].sum(axis=1)
    # all exponent bits set: an infinity or NaN of bfloat16
    broken = [day for t, day in enumerate(days) if ((x[t] & 0x7F80) == 0x7F80).any()]
    if broken:
        yield "x", "finite", len(broken), ", ".join(map(str, broken[:SAMPLE]))
    for label in LABELS:
        if infinite := int(np.isinf(tensors[label]).sum()):
            yield label, "finite where present", infinite, ""
    if np.median(populated) < min_names:
        sample = ", ".join(f"{days[t]}: {populated[t]}" for t in np.argsort(populated)[:SAMPLE])
        yield "valid", f"at least {min_names} names on half of the days", int((populated < min_names).sum()), sample


def _graph_failures(tensors: Tensors) -> Iterator[Failure]:
    index, mask = tensors["neighbours"], tensors["neighbour_mask"]
    if not mask[:, :, 0].all() or (index < 0).any() or (index >= mask.shape[1]).any():
        yield "neighbours", "self edge first, every index a name of the panel", 0, ""
