"""A panel with some of its columns: what a model sees when a family of features is left out, or added."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from atft_model.interchange.panel import Panel, PanelDescription, from_bfloat16
from atft_model.interchange.tensors import Tensors


class DayColumns:
    """Some columns of a day's features [N,F], cut out when rows are asked for, so that no second panel is held."""

    def __init__(self, day: NDArray[np.uint16], places: NDArray[np.intp]):
        self._day, self._places = day, places

    def __getitem__(self, rows: Any) -> NDArray[np.uint16]:
        return self._day[rows][..., self._places]


class Columns:
    """Some columns of the features [T,N,F], a day at a time."""

    def __init__(self, x: NDArray[np.uint16], places: Sequence[int]):
        self._x, self._places = x, np.asarray(places, np.intp)

    def __getitem__(self, t: int) -> DayColumns:
        return DayColumns(self._x[t], self._places)


class NarrowedTensors(dict[str, Any]):
    """The tensors of a panel, its features narrowed; the others are read, and checked, when they are asked for."""

    def __init__(self, whole: Panel, places: Sequence[int]):
        super().__init__(x=Columns(whole.tensors["x"], places))
        self._whole = whole

    def __missing__(self, name: str) -> NDArray[Any]:
        found: NDArray[Any] = self._whole.tensors[name]
        return found


@dataclass(frozen=True)
class NarrowedPanel(Panel):
    """A panel with some of its columns, in its own order. For baselines: they read features by day and rows.

    Attributes:
        whole: the panel.
        places: of the columns that are kept, ascending.
    """

    whole: Panel
    places: tuple[int, ...]

    @cached_property
    def description(self) -> PanelDescription:
        every = self.whole.description
        return replace(every, features=tuple(every.features[place] for place in self.places))

    @cached_property
    def tensors(self) -> Tensors:
        return cast(Tensors, NarrowedTensors(self.whole, self.places))

    def x(self, t: int) -> NDArray[np.float32]:
        return from_bfloat16(self.tensors["x"][t][:])


def narrowed(panel: Panel, families: Collection[str]) -> NarrowedPanel:
    """The panel with the columns of some families alone."""
    places = tuple(i for i, feature in enumerate(panel.description.features) if feature.family in families)
    return NarrowedPanel(panel.folder, panel, places)
