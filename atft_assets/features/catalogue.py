"""The catalogue: every feature column of the platform, in order.

A family is a module with a tuple of `Feature` beside the function that computes them, and one line here. The ordered
inputs of a feature set have a hash; panels, checkpoints and scores carry it. `python -m atft_assets.features.catalogue`
prints docs/features.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from atft_assets.features import calendar_features, market, price, sector, stock_market, technical, volatility
from atft_assets.features.feature import Feature

__all__ = ["CATALOGUE", "Feature", "catalogue_hash", "feature_set", "features_of"]

CATALOGUE: tuple[Feature, ...] = (
    *price.FEATURES,
    *technical.FEATURES,
    *volatility.FEATURES,
    *calendar_features.FEATURES,
    *price.VALIDITY,
    *market.FEATURES,
    *market.VALIDITY,
    *stock_market.FEATURES,
    *stock_market.VALIDITY,
    *sector.FEATURES,
    *sector.VALIDITY,
)

FeatureSet = Literal["core", "phase1", "phase2"]


def feature_set(name: FeatureSet) -> tuple[Feature, ...]:
    """The model inputs of a named set, in the catalogue's order.

    "core" spans every family with few columns, "phase1" is all of a stock's own columns and the calendar, "phase2" adds
    market, stock x market and sector.
    """
    inputs = tuple(f for f in CATALOGUE if f.model_input)
    match name:
        case "core":
            return tuple(f for f in inputs if f.core)
        case "phase1":
            return tuple(f for f in inputs if f.table == "phase1_features")
        case "phase2":
            return inputs
    raise ValueError(f"feature set {name!r} is not known: use core, phase1 or phase2")


def features_of(table: str) -> tuple[Feature, ...]:
    """All columns of a table, in order; "phase2_features" holds the whole catalogue."""
    return tuple(f for f in CATALOGUE if table in (f.table, "phase2_features"))


def catalogue_hash(features: Iterable[Feature]) -> str:
    """Sixteen hex digits over names, formulas and kinds, in order."""
    text = "\n".join(f"{f.name}\t{f.formula}\t{f.kind}" for f in features)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
