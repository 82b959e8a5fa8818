"""Contracts of the feature tables, derived from the catalogue: dtypes, ranges, keys, coverage, look-back."""

from __future__ import annotations

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.features.bars import CODE_PATTERN
from atft_assets.features.catalogue import features_of
from atft_assets.features.feature import Feature
from atft_assets.features.labels import CLOSE_LABELS, OPEN_LABELS
from atft_assets.features.lineage import inputs
from atft_assets.features.universe import MARKET_CODES

_DATE = pa.Column(pl.Date, nullable=False, description="Trading day; the row holds what was known at 18:30 JST")
_CODE = pa.Column(pl.String, pa.Check.str_matches(CODE_PATTERN), nullable=False, description="Five characters, opaque")


def feature_contract(table: str) -> Contract:
    """The contract of a feature table.

    `phase2_features` repeats columns whose ranges its parts have been judged by; keys, dtypes, finiteness, coverage and
    variation are judged again, for a join can break them.

    Flags, and columns that are equal for all names of a day, may be constant over a month (whose first evening
    holds one day); every other column must vary, and be present in its least share of rows once its look-back has
    passed.
    """
    features = features_of(table)
    by_day = table == "market_features"
    keys = {"date": _DATE} if by_day else {"date": _DATE, "code": _CODE}
    constant = {"date", "code"} | {
        f.name for f in features if f.may_be_constant or f.kind == "flag" or (f.kind == "market" and not by_day)
    }
    return Contract(
        table=table,
        schema=pa.DataFrameSchema(
            {**keys, **{f.name: _column(f, ranges=table == f.table) for f in features}},
            strict=True,
            unique=list(keys),
            ordered=True,
        ),
        coverage={f.name: f.coverage for f in features if f.kind != "flag"},
        # a look-back of 0 still waits for a first day of history: a market that stood still has no row to judge
        lookback={f.name: max(f.lookback, 1) for f in features},
        constant_ok=frozenset(constant),
    )


def _column(feature: Feature, ranges: bool) -> pa.Column:
    check = None
    if ranges and feature.low is not None:
        check = pa.Check.ge(feature.low) if feature.high is None else pa.Check.in_range(feature.low, feature.high)
    return pa.Column(
        pl.UInt8 if feature.kind == "flag" else pl.Float32,
        check,
        nullable=feature.family != "validity",
        description=describe(feature),
    )


def describe(feature: Feature) -> str:
    """One line for the UI: what it is, how far it looks back, from what, when it is known, whether a model input."""
    read: dict[str, list[str]] = {}
    for table, column in sorted(inputs(feature)):
        read.setdefault(table, []).append(column)
    sources = "; ".join(f"{table}: {', '.join(columns)}" for table, columns in read.items())
    use = "model input" if feature.model_input else "not a model input"
    return (
        f"{feature.formula} [{feature.family}, {feature.kind}; window {feature.window}, look-back {feature.lookback} "
        f"rows; from {sources} (source {feature.source}); {feature.availability}; {use}]"
    )


UNIVERSE = Contract(
    table="universe",
    schema=pa.DataFrameSchema(
        {
            "date": _DATE,
            "code": _CODE,
            "s33": pa.Column(pl.String, nullable=False, description="33-sector code as of the date (S33)"),
            "s17": pa.Column(pl.String, nullable=False, description="17-sector code as of the date (S17)"),
            "mkt": pa.Column(
                pl.String, pa.Check.isin(MARKET_CODES), nullable=False, description="Market code as of the date (Mkt)"
            ),
            "scale_cat": pa.Column(pl.String, nullable=True, description="TOPIX size class as of the date (ScaleCat)"),
        },
        strict=True,
        unique=["date", "code"],
        ordered=True,
    ),
    constant_ok=frozenset({"date", "code", "s33", "s17", "mkt", "scale_cat"}),
    nullable_ok=frozenset({"scale_cat"}),
)

LABELS = Contract(
    table="labels",
    schema=pa.DataFrameSchema(
        {
            "date": _DATE,
            "code": _CODE,
            **{
                name: pa.Column(
                    pl.Float32,
                    pa.Check.ge(-1.0),
                    nullable=True,
                    description=f"{text}, raw return; null when either price is missing",
                )
                for names, text in (
                    (CLOSE_LABELS, "Close of t to the close h trading days later"),
                    (OPEN_LABELS, "Open of t+1 to the open h trading days after it"),
                )
                for name in names
            },
        },
        strict=True,
        unique=["date", "code"],
        ordered=True,
    ),
    # the last 20 (21) days have no label yet: a history that short has none to judge
    lookback=dict.fromkeys((*CLOSE_LABELS, *OPEN_LABELS), 25),
    constant_ok=frozenset({"date", "code"}),
)
