"""The panel's contract: what a directory must be before it may be trained on.

The tables were judged one by one; what is judged here arises when they are joined: days without names, labels that
are missing in a whole block, features that are constant once ranked, a feature that has seen the future.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from atft_assets.contracts import Verdict, failures_frame
from atft_assets.training.panel_file import from_bfloat16
from atft_assets.training.ranking import gaussian_ranks
from atft_assets.training.splits import Split

HORIZONS = (1, 5, 10, 20)
LABELS = ("y_cc", "y_oo")

LEAST_SPREAD = 1e-3  # standard deviation of a feature over the panel, below which it is constant
LEAST_COVERAGE = 0.02
LEAST_LABELLED = 0.8
LEAK_IC = 0.15  # a single feature that ranks tomorrow better than this has seen it
LEAK_EVERY = 5  # training days between two looks for a leak
SAMPLE = 5

Failure = tuple[str, str, int, str]  # column, rule, failing rows, sample


class PanelFeature(Protocol):
    """What the panel needs to know of a feature; the catalogue's rows have more."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def lookback(self) -> int: ...


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
        """Sums of one day's normalised values [n,F], which are 0 where `missing`."""
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


def audit_panel(
    tensors: Mapping[str, NDArray[Any]],
    *,
    days: Sequence[date],
    features: Sequence[PanelFeature],
    split: Split,
    sums: FeatureSums,
    panel_id: str,
    min_names: int,
) -> Verdict:
    """Finite, populated, labelled, no constant feature, no label and no leak among the features, a whole graph."""
    found = [
        *_feature_failures(features, sums),
        *_cell_failures(tensors, days, min_names),
        *_label_failures(tensors, days, split),
        *_leaks(tensors, days, features, split),
    ]
    index, mask = tensors["neighbours"], tensors["neighbour_mask"]
    if not mask[:, :, 0].all() or (index < 0).any() or (index >= mask.shape[1]).any():
        found.append(("neighbours", "self edge first, every index a name of the panel", 0, ""))
    return Verdict("training_panel", panel_id, failures_frame(found))


def _feature_failures(features: Sequence[PanelFeature], sums: FeatureSums) -> Iterator[Failure]:
    if not features:
        yield "(features)", "at least one feature", 0, ""
    cells, counted = max(sums.cells, 1), np.maximum(sums.present, 1)
    mean = sums.total / counted
    spread = np.sqrt(np.maximum(sums.square / counted - mean**2, 0))
    for i, feature in enumerate(features):
        missing = int(cells - sums.present[i])
        if feature.name.startswith("y_"):
            yield feature.name, "labels are never among the features", 0, feature.name
        if missing > (1 - LEAST_COVERAGE) * cells:
            rule = f"present in {LEAST_COVERAGE:.0%} of the valid rows"
            yield feature.name, rule, missing, f"{1 - missing / cells:.2%} are"
        elif spread[i] < LEAST_SPREAD:
            yield feature.name, "not constant", cells, f"value {mean[i]:.3g}, standard deviation {spread[i]:.1e}"


def _cell_failures(tensors: Mapping[str, NDArray[Any]], days: Sequence[date], min_names: int) -> Iterator[Failure]:
    x, populated = tensors["x"], tensors["valid"].sum(axis=1)
    # all exponent bits set: an infinity or NaN of bfloat16
    broken = [day for t, day in enumerate(days) if ((x[t] & 0x7F80) == 0x7F80).any()]
    if broken:
        yield "x", "finite", len(broken), ", ".join(map(str, broken[:SAMPLE]))
    if np.median(populated) < min_names:
        sample = ", ".join(f"{days[t]}: {populated[t]}" for t in np.argsort(populated)[:SAMPLE])
        yield "valid", f"at least {min_names} names on half of the days", int((populated < min_names).sum()), sample


def _label_failures(tensors: Mapping[str, NDArray[Any]], days: Sequence[date], split: Split) -> Iterator[Failure]:
    valid = tensors["valid"]
    for label in LABELS:
        y = tensors[label]
        if infinite := int(np.isinf(y).sum()):
            yield label, "finite where present", infinite, ""
        for name in ("train", "validation"):
            rows = _rows_of(days, getattr(split, name))
            eligible = valid[rows.start : rows.stop]
            for i, h in enumerate(HORIZONS):
                known = np.isfinite(y[i, rows.start : rows.stop])[eligible]
                if known.size == 0 or known.mean() < LEAST_LABELLED:
                    rule = f"known for {LEAST_LABELLED:.0%} of the valid rows of the {name} block"
                    yield f"{label}_{h}d", rule, int((~known).sum()), f"{known.sum()} of {known.size} are"


def _leaks(
    tensors: Mapping[str, NDArray[Any]], days: Sequence[date], features: Sequence[PanelFeature], split: Split
) -> Iterator[Failure]:
    """Features whose mean daily correlation with the rank of the next day's return is beyond belief."""
    daily = []
    for t in _rows_of(days, split.train)[::LEAK_EVERY]:
        y = tensors["y_cc"][0, t]
        rows = tensors["valid"][t] & np.isfinite(y)
        if rows.sum() < 20:
            continue
        target = gaussian_ranks(y[rows, None])[:, 0]
        x = from_bfloat16(tensors["x"][t][rows])
        x, target = x - x.mean(axis=0), target - target.mean()
        scale = np.sqrt((x * x).sum(axis=0) * (target @ target))
        daily.append(np.where(scale > 1e-6, target @ x / np.maximum(scale, 1e-6), 0))
    if len(daily) < 2:
        return
    ic, error = np.mean(daily, axis=0), np.std(daily, axis=0) / np.sqrt(len(daily))
    for i in np.flatnonzero(np.abs(ic) - 2 * error > LEAK_IC).tolist():  # beyond the noise of a small panel
        rule = f"|mean daily correlation with the next day's return| at most {LEAK_IC}; more has seen the future"
        yield features[i].name, rule, len(daily), f"{ic[i]:+.3f} over {len(daily)} days"


def _rows_of(days: Sequence[date], block: tuple[date, date]) -> range:
    inside = [t for t, day in enumerate(days) if block[0] <= day <= block[1]]
    return range(inside[0], inside[-1] + 1)
