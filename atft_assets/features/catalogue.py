"""The catalogue: every feature column of the platform, in order.

It is what the rows of the registry declare, one after the other. The ordered inputs of a feature set have a hash, in
which the code that computes them counts; panels, checkpoints and scores carry it.
`python -m atft_assets.features.catalogue` prints docs/features.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from atft_assets.features.feature import Feature
from atft_assets.features.names import STOCK
from atft_assets.features.registry import TABLES, table
from atft_assets.features.table import FeatureTable

__all__ = ["CATALOGUE", "SETS", "Feature", "catalogue", "catalogue_hash", "feature_set", "features_of"]

SETS = {
    "core": "few columns of every family: what the demo trains on",
    "stock": "a stock's own columns and the calendar",
    "full": "every column that is a model input: the stock's, the market's, their product, the sector's",
}


def catalogue(tables: Iterable[FeatureTable] = TABLES) -> tuple[Feature, ...]:
    """Every feature of the tables, in order."""
    return tuple(feature for one in tables for feature in one.features)


CATALOGUE = catalogue()


def feature_set(name: str, tables: Iterable[FeatureTable] = TABLES) -> tuple[Feature, ...]:
    """The model inputs of a named set, in the catalogue's order.

    "core" spans every family with few columns, "stock" is all of a stock's own columns and the calendar, "full" is
    every model input of every table.

    Raises:
        ValueError: there is no such set.
    """
    inputs = tuple(f for f in catalogue(tables) if f.model_input)
    match name:
        case "core":
            return tuple(f for f in inputs if f.core)
        case "stock":
            return tuple(f for f in features_of(STOCK, tables) if f.model_input)
        case "full":
            return inputs
    raise ValueError(f"feature set {name!r} is not known: use core, stock or full")


def features_of(name: str, tables: Iterable[FeatureTable] = TABLES) -> tuple[Feature, ...]:
    """All columns of a table, in order; "all_features" holds the whole catalogue.

    Raises:
        KeyError: there is no such table.
    """
    return table(name, tables).features


def catalogue_hash(features: Iterable[Feature], tables: Iterable[FeatureTable] = TABLES) -> str:
    """Sixteen hex digits over names, formulas, kinds and sequences, in order, and over the code that computes them."""
    features = tuple(features)
    names = {f.name for f in features}
    lines = [f"{f.name}\t{f.formula}\t{f.kind}\t{f.sequence}" for f in features]
    lines += [f"{one.name}\t{one.code_version}" for one in tables if names & set(one.columns)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


INTRODUCTION = """# Features

Rendered from the catalogue in code (`python -m atft_assets.features.catalogue > docs/features.md`); a test keeps the
two equal. How the tables are built is in [data.md](data.md), how to add a column in
[how-to/adding-a-feature.md](how-to/adding-a-feature.md).

{columns} columns. Feature sets, in the catalogue's order. Panels, checkpoints and scores carry the set's hash, in which
names, formulas, kinds, sequences and the code of the tables count (`python -m atft_assets.features.catalogue --hashes`
prints it):
"""

NOTATION = """
Notation: C, O, H, L adjusted prices of day t, V adjusted volume, X[-n] the row n earlier, r1 = C/C[-1] - 1, m1 the
same of the TOPIX. Windows count the stock's own traded rows, or days of the market or sector. *Look-back* is the number
of earlier rows that a value needs, chained windows included: until then it is null. Recursive averages have a finite
memory, so a value does not depend on where the history begins. Prices and volumes enter as ratios only, so it does not
depend on the anchor of the split adjustment either. *Kind* is how the panel scales a column: `market` is equal for all
names of a day and standardised over time, `flag` is 0 or 1, the others are ranked within the day. Every value is known
at 18:30 JST of its date. *Set* is the smallest set that holds the column; without one it is stored but no model input.
*Sequence* marks what the network reads day by day over its look-back as well; of other inputs it sees the newest day.
"""


def render(tables: Iterable[FeatureTable] = TABLES) -> str:
    """The catalogue as Markdown: docs/features.md."""
    tables = tuple(tables)
    sets = {name: feature_set(name, tables) for name in SETS}
    lines = [INTRODUCTION.format(columns=len(catalogue(tables)))]
    lines += ["| set | inputs | sequences | what |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {len(features)} | {sum(f.sequence for f in features)} | {SETS[name]} |"
        for name, features in sets.items()
    ]
    lines += [NOTATION.rstrip()]
    for one in tables:
        if not one.features:
            continue
        sources = ", ".join(dict.fromkeys(source for f in one.features for source in f.source.split(", ")))
        lines += ["", f"## {one.name}", "", f"From {sources}."]
        for family in dict.fromkeys(f.family for f in one.features):
            lines += ["", f"### {family}", ""]
            lines += [
                "| column | formula | window | look-back | kind | set | sequence |",
                "|---|---|---|---|---|---|---|",
            ]
            for f in one.features:
                if f.family == family:
                    smallest = next((name for name, features in sets.items() if f in features), "")
                    formula = f.formula.replace("|", "\\|")
                    mark = "yes" if f.sequence else ""
                    cells = (f"`{f.name}`", formula, f.window, f.lookback, f.kind, smallest, mark)
                    lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    if "--hashes" in sys.argv:
        print("\n".join(f"{name} {catalogue_hash(feature_set(name))}" for name in SETS))
    else:
        print(render(), end="")
