"""From a panel directory to the tensors that are resident: padded, checked, on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atft_model.interchange.errors import PanelError
from atft_model.interchange.panel import PanelDescription

LOAD_ROWS = 64  # days that are read at a time: bounds the temporary memory


def padded(names: int, multiple: int) -> int:
    """The number of names rounded up to a multiple."""
    return -(-names // multiple) * multiple


def as_torch(array: NDArray[Any]) -> Tensor:
    """A copy of an array of a panel; uint16, which holds the bits of bfloat16, becomes bfloat16."""
    copied = np.array(array)  # the file is mapped read-only
    return (
        torch.from_numpy(copied.view(np.int16)).view(torch.bfloat16)
        if copied.dtype == np.uint16
        else torch.from_numpy(copied)
    )


def sequences_of(x: Tensor, places: Sequence[int], lookback: int) -> Tensor:
    """The sequence inputs [R, L-1 + T, N] of features x [T, N, F]: L - 1 rows of zeros first, zero being "missing"."""
    days, names, _ = x.shape
    found = torch.zeros(len(places), lookback - 1 + days, names, dtype=x.dtype, device=x.device)
    for r, place in enumerate(places):
        found[r, lookback - 1 :] = x[..., place]
    return found


@dataclass(frozen=True)
class Loader:
    """Reads one panel.

    Attributes:
        stored: the tensors of the directory; bfloat16 as uint16.
        where: the directory, for messages.
        names: N, padding included.
    """

    description: PanelDescription
    stored: Mapping[str, NDArray[Any]]
    where: str
    device: torch.device
    lookback: int
    dtype: torch.dtype
    names: int

    def tensors(self) -> dict[str, Tensor]:
        """As `DevicePanel` wants them.

        Raises:
            PanelError: a feature holds a value that is not finite, or the graph points to nobody.
        """
        label, target = self.description.label, self.description.target
        x = self._features()
        found = {"x": x, "sequences": sequences_of(x, self.description.sequences, self.lookback)}
        found["valid"] = self._padded(self.stored["valid"], False)
        found["returns"] = self._padded(self.stored[label], torch.nan)
        if target != label:
            found["learned"] = self._padded(self.stored[target], torch.nan)
        if 1 in self.description.horizons:
            found["one_day"] = self._padded(self.stored["y_cc"][self.description.horizons.index(1)], torch.nan)
        else:
            found["one_day"] = torch.full_like(found["valid"], torch.nan, dtype=torch.float32)
        return found | self._graph()

    def _padded(self, array: NDArray[Any], filler: float | bool) -> Tensor:
        """[..., n] -> [..., N]."""
        tensor = as_torch(array).to(self.device)
        return torch.nn.functional.pad(tensor, (0, self.names - tensor.shape[-1]), value=filler)

    def _features(self) -> Tensor:
        """[T, n, F] as stored -> [T, N, F]."""
        source, dates = self.stored["x"], self.description.dates
        days, names, features = source.shape
        x = torch.zeros(days, self.names, features, dtype=self.dtype, device=self.device)
        for start in range(0, days, LOAD_ROWS):
            rows = as_torch(source[start : start + LOAD_ROWS]).to(self.device, self.dtype)
            finite = torch.isfinite(rows)
            if not finite.all():
                bad = int((~finite).any(0).any(0).nonzero()[0])
                raise PanelError(
                    f"{self.where}: feature {self.description.features[bad].name} holds a value that is not finite "
                    f"between {dates[start]} and {dates[min(start + LOAD_ROWS, days) - 1]}; missing must be 0"
                )
            x[start : start + len(rows), :names] = rows
        return x

    def _graph(self) -> dict[str, Tensor]:
        """Neighbour tables; a padded name's only neighbour is itself, masked."""
        raw, device = as_torch(self.stored["neighbours"]), self.device
        periods, names, k = raw.shape
        if raw.min() < 0 or raw.max() >= names:
            raise PanelError(f"{self.where}: neighbours must be name indices 0..{names - 1}")
        period = as_torch(self.stored["graph_period"]).to(device, torch.int64)
        if period.min() < 0 or period.max() >= periods:
            raise PanelError(f"{self.where}: graph_period must lie in 0..{periods - 1}")
        neighbours = torch.arange(self.names, dtype=torch.int32, device=device).view(1, -1, 1).repeat(periods, 1, k)
        neighbours[:, :names] = raw.to(device)
        mask = torch.zeros(periods, self.names, k, dtype=torch.bool, device=device)
        mask[:, :names] = as_torch(self.stored["neighbour_mask"]).to(device)
        attr = torch.ones(periods, self.names, k, 3, dtype=self.dtype, device=device)
        attr[:, :names] = torch.nan_to_num(as_torch(self.stored["neighbour_attr"]).to(device, self.dtype))
        return {"neighbours": neighbours, "neighbour_mask": mask, "neighbour_attr": attr, "graph_period": period}
