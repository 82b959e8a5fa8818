"""Which columns of which tables a column is computed from, as the rows of the registry declare it.

tests/features/test_lineage.py changes each upstream column in turn and holds the declarations against what changes.
Which rows a table has is not part of a column's lineage: it follows from the keys.
"""

from __future__ import annotations

import dagster as dg

from atft_assets.features.feature import Feature
from atft_assets.features.table import FeatureTable

Column = tuple[str, str]  # table, column


def inputs(table: FeatureTable, feature: Feature) -> frozenset[Column]:
    """The upstream columns that a feature is computed from; one of its own table stands for what that one reads."""
    return _upstream(table, feature.reads)


def _upstream(table: FeatureTable, reads: tuple[str, ...]) -> frozenset[Column]:
    found: set[Column] = set()
    for read in reads:
        source, _, column = read.rpartition(".")
        if source:
            found.add((source, column))
        else:
            found |= next(inputs(table, f) for f in table.features if f.name == column)
    return frozenset(found)


def lineage(table: FeatureTable) -> dict[str, frozenset[Column]]:
    """The upstream columns of each column of a table, keys included."""
    others = {column: _upstream(table, reads) for column, reads in table.lineage.items()}
    return {**others, **{f.name: inputs(table, f) for f in table.features}}


def lineage_metadata(table: FeatureTable) -> dict[str, dg.TableColumnLineage]:
    """Metadata from which Dagster knows a table's column lineage."""
    deps = {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(source), column_name=name) for source, name in sorted(read)]
        for column, read in lineage(table).items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}
