"""What fitting a baseline gives."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from atft_assets.baselines.config import BaselineConfig
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel

Predict = Callable[[Panel, range], Floats]  # scores [H, len(days), N] of days; NaN where a name is not scored


class Fitted(NamedTuple):
    """A fitted baseline, and what was chosen: plain values, kept beside its scores.

    Attributes:
        models: what it needs to score other days, text by name; kept beside its scores. Empty for what keeps nothing.
    """

    predict: Predict
    facts: dict[str, Any]
    models: Mapping[str, str] = {}


class CannotFit(Exception):
    """The panel lacks what a baseline needs; the text says what."""


Fit = Callable[[Panel, Fold, BaselineConfig], Fitted]
