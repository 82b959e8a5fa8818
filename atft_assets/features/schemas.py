"""Contracts of the feature tables, derived from their features: dtypes, ranges, keys, coverage, look-back."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.features.feature import FIRST_BAR, Feature
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.features.lineage import inputs
from atft_assets.features.table import FeatureTable


@cache
def contract_of(table: FeatureTable) -> Contract:
    """The contract of a table: its own, or the one that its features make.

    Flags, and columns that are equal for all names of a day, may be constant over a month (whose first evening
    holds one day); every other column must vary, and be present in its least share of rows once its look-back has
    passed. Columns of events are judged where their validity flag is 1, and the flag by how often it is.
    """
    if table.contract:
        return table.contract
    features = table.features
    by_day = table.per == "day"
    keys = {"date": DATE} if by_day else {"date": DATE, "code": CODE}
    among = {f.name: getattr(f, "among", "") for f in features}
    flags = {flag for flag in among.values() if flag}
    constant = {"date", "code"} | {
        f.name for f in features if f.may_be_constant or f.kind == "flag" or (f.kind == "market" and not by_day)
    }
    return Contract(
        table=table.name,
        schema=pa.DataFrameSchema(
            {**keys, **{f.name: _column(table, f) for f in features}},
            strict=True,
            unique=list(keys),
            ordered=True,
        ),
        coverage={f.name: f.coverage for f in features if f.kind != "flag"},
        # a look-back of 0 still waits for a first day of history: a market that stood still has no row to judge
        lookback={f.name: max(f.lookback, 1) for f in features},
        constant_ok=frozenset(constant),
        nullable_ok=frozenset(f.name for f in features if getattr(f, "may_be_absent", False)),
        among={name: flag for name, flag in among.items() if flag},
        valid={f.name: f.coverage for f in features if f.name in flags},
        since={f.name: f.valid_from for f in features if f.valid_from > FIRST_BAR},
    )


def _column(table: FeatureTable, feature: Feature) -> pa.Column:
    check = None
    if feature.low is not None:
        check = pa.Check.ge(feature.low) if feature.high is None else pa.Check.in_range(feature.low, feature.high)
    return pa.Column(
        pl.UInt8 if feature.kind == "flag" else pl.Float32,
        check,
        nullable=feature.family != "validity",
        description=describe(table, feature),
    )


def describe(table: FeatureTable, feature: Feature) -> str:
    """One line for the UI: what it is, how far it looks back, from what, whether a model input.

    When it is known is said once for the table (see `availability`), and here only where a column differs.
    """
    read: dict[str, list[str]] = {}
    for source, column in sorted(inputs(table, feature)):
        read.setdefault(source, []).append(column)
    sources = "; ".join(f"{source}: {', '.join(columns)}" for source, columns in read.items())
    use = "model input" if feature.model_input else "not a model input"
    origin = "" if set(feature.source.split(", ")) == set(read) else f" (source {feature.source})"
    known = "" if feature.availability == availability(table) else f"; {feature.availability}"
    return (
        f"{feature.formula} [{feature.family}, {feature.kind}; window {feature.window}, look-back {feature.lookback} "
        f"rows; from {sources}{origin}{known}; {use}]"
    )


def availability(table: FeatureTable) -> str:
    """When the values of a table can first be known: of most of its columns."""
    return Counter(feature.availability for feature in table.features).most_common(1)[0][0]


def known(table: FeatureTable) -> dict[str, str]:
    """Metadata of a table: when its columns can first be known; empty for a table without features."""
    return {"columns_known": availability(table)} if table.features else {}
