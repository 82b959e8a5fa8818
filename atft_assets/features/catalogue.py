"""The catalogue: every feature column of the platform, in order.

A family is a module with a tuple of `Feature` beside the function that computes them, and one line here. The ordered
inputs of a feature set have a hash; panels, checkpoints and scores carry it. `python -m atft_assets.features.catalogue`
prints docs/features.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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


def feature_set(name: str) -> tuple[Feature, ...]:
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


INTRODUCTION = """# Features

Rendered from the catalogue in code (`python -m atft_assets.features.catalogue > docs/features.md`); a test keeps the
two equal. How the tables are built, and how to add a family, is in [data.md](data.md).

{columns} columns. Feature sets, in the catalogue's order, with the hash that panels, checkpoints and scores carry:
"""

NOTATION = """
Notation: C, O, H, L adjusted prices of day t, V adjusted volume, X[-n] the row n earlier, r1 = C/C[-1] - 1, m1 the
same of the TOPIX. Windows count the stock's own traded rows, or days of the market or sector. *Look-back* is the number
of earlier rows that a value needs, chained windows included: until then it is null. Recursive averages have a finite
memory, so a value does not depend on where the history begins. Prices and volumes enter as ratios only, so it does not
depend on the anchor of the split adjustment either. *Kind* is how the panel scales a column: `market` is equal for all
names of a day and standardised over time, `flag` is 0 or 1, the others are ranked within the day. Every value is known
at 18:30 JST of its date. *Set* is the smallest set that holds the column; without one it is stored but no model input.
"""


def render() -> str:
    """The catalogue as Markdown: docs/features.md."""
    sets = {name: feature_set(name) for name in ("core", "phase1", "phase2")}
    lines = [
        INTRODUCTION.format(columns=len(CATALOGUE)),
        "| set | inputs | hash | what |",
        "|---|---|---|---|",
    ]
    what = {
        "core": "few columns of every family: what the demo trains on",
        "phase1": "a stock's own columns and the calendar",
        "phase2": "Phase 1, market, stock x market, sector",
    }
    lines += [f"| {n} | {len(fs)} | `{catalogue_hash(fs)}` | {what[n]} |" for n, fs in sets.items()]
    lines += [NOTATION.rstrip()]
    for table in dict.fromkeys(f.table for f in CATALOGUE):
        features = features_of(table)
        lines += ["", f"## {table}", "", f"From {', '.join(dict.fromkeys(f.source for f in features))}."]
        for family in dict.fromkeys(f.family for f in features):
            lines += ["", f"### {family}", ""]
            lines += ["| column | formula | window | look-back | kind | set |", "|---|---|---|---|---|---|"]
            for f in features:
                if f.family == family:
                    smallest = next((name for name, fs in sets.items() if f in fs), "")
                    formula = f.formula.replace("|", "\\|")
                    lines.append(f"| `{f.name}` | {formula} | {f.window} | {f.lookback} | {f.kind} | {smallest} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
