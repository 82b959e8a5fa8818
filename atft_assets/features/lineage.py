"""Which columns of which tables a column is computed from, read off the catalogue's formulas.

The formulas speak one notation (docs/features.md), so the declaration of what a column reads is the formula itself: a
column of the same table stands for what that one reads, a column of another table for itself, a letter or a term for
the raw columns below. tests/features/test_lineage.py changes each upstream column in turn and holds the answer against
what changes. Which rows a table has is not part of a column's lineage: it follows from the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import dagster as dg

from atft_assets.features.catalogue import CATALOGUE, features_of
from atft_assets.features.feature import Feature
from atft_assets.features.labels import CLOSE_LABELS, OPEN_LABELS

Column = tuple[str, str]  # table, column


def _of(table: str, *columns: str) -> frozenset[Column]:
    return frozenset((table, column) for column in columns)


def _bars(*columns: str) -> frozenset[Column]:
    return _of("daily_quotes", *columns)


# What a pattern in a formula stands for, by the table that the formula belongs to.
TERMS: Mapping[str, Mapping[str, frozenset[Column]]] = {
    "phase1_features": {
        **{rf"\b{letter}\b": _bars(letter) for letter in "OHLC"},
        r"\bV\b": _bars("Vo"),
        r"\bturnover\b": _bars("Va"),
        # prices or volumes of several days are brought on one basis; within a day the factor cancels
        r"\b[OHLCV]\[-|\b(mean|std|EMA|max|min|sum)\([HLCV],": _bars("AdjFactor"),
        r"\b(r1|RSI)\b": _bars("C", "AdjFactor"),
        r"\b(ATR|ADX|true range)\b": _bars("H", "L", "C", "AdjFactor"),
        r"\bRS\b": _bars("O", "H", "L", "C"),
        r"\btraded on t\b|\bown row\b": _bars("O", "H", "L", "C", "Vo"),
    },
    "market_features": {
        r"\b(M|m1)\b|z-scores exist": _of("topix", "C"),
        r"\b(ATR|true range)\b": _of("topix", "H", "L", "C"),
    },
    "stock_market_features": {
        r"": _of("phase1_features", "is_traded"),  # windows run over a stock's traded rows
        r"\br1\b": _of("phase1_features", "returns_1d"),
        r"\b(m1|m5)\b": _of("topix", "C"),
        r"above its EMA\(200\)": _of("market_features", "mkt_bull_200"),
    },
    "sector_features": {
        r"": _of("phase1_features", "is_traded"),
        r"\bsector\b|\bsector33|\bmembers\b": _of("universe", "s33"),
        r"\bsector17\b": _of("universe", "s17"),
        # the members of a day are the names with a return; "other" and "the sector's" members need the column alone
        r"\br1\b|(?<!other )(?<!sector's )\bmembers\b|\bday's names\b": _of("phase1_features", "returns_1d"),
        r"\by_cc_5d\b": _bars("C", "AdjFactor") | _of("universe", "code"),
    },
}
# Columns of the notation that a table's formulas name by another word.
ALIASES = {"sector_features": {"S": "sec_ret_1d_eq", "s1": "sec_ret_1d_eq_loo"}}

KEYS: Mapping[str, Mapping[str, frozenset[Column]]] = {
    "phase1_features": {key: _of("universe", key) for key in ("date", "code")},
    "market_features": {"date": _of("topix", "date")},
    "stock_market_features": {key: _of("phase1_features", key) for key in ("date", "code")},
    "sector_features": {key: _of("phase1_features", key) for key in ("date", "code")},
    "phase2_features": {key: _of("universe", key) for key in ("date", "code")},
}
_LISTED = _of("listed_info", "code", "Mkt", "ProdCat")
OTHERS: Mapping[str, Mapping[str, frozenset[Column]]] = {
    "universe": {
        "date": _bars("date"),
        "code": _bars("code") | _LISTED,
        "s33": _of("listed_info", "S33"),
        "s17": _of("listed_info", "S17"),
        "mkt": _of("listed_info", "Mkt"),
        "scale_cat": _of("listed_info", "ScaleCat"),
    },
    "labels": {
        "date": _of("universe", "date"),
        "code": _of("universe", "code"),
        **dict.fromkeys(CLOSE_LABELS, _bars("C", "AdjFactor")),
        **dict.fromkeys(OPEN_LABELS, _bars("O", "AdjFactor")),
    },
}

_BY_NAME = {feature.name: feature for feature in CATALOGUE}


@cache
def inputs(feature: Feature) -> frozenset[Column]:
    """The upstream columns that a feature is computed from.

    Raises:
        ValueError: its formula names none; the text says what to do.
    """
    formula = feature.formula.split("; not a model input")[0]
    if feature.family == "calendar":  # the exchange's calendar is no table: the day says it all
        return KEYS[feature.table]["date"]
    found = {column for term, read in TERMS[feature.table].items() if re.search(term, formula) for column in read}
    aliases = ALIASES.get(feature.table, {})
    for word in {aliases.get(word, word) for word in re.findall(r"[A-Za-z]\w*", formula)} - {feature.name}:
        if other := _BY_NAME.get(word):
            found |= inputs(other) if other.table == feature.table else {(other.table, word)}
    if not {column for column in found if column[1] != "is_traded"}:
        raise ValueError(
            f"the formula of {feature.name} ({feature.formula!r}) names no column that it is computed from; use the "
            "notation of docs/features.md, or add the term to TERMS in atft_assets/features/lineage.py"
        )
    return frozenset(found)


def lineage(table: str) -> dict[str, frozenset[Column]]:
    """The upstream columns of each column of a feature table, keys included.

    `phase2_features` takes every column from the table of its family.
    """
    if table in OTHERS:
        return dict(OTHERS[table])
    if table == "phase2_features":
        return {**KEYS[table], **{f.name: _of(f.table, f.name) for f in features_of(table)}}
    return {**KEYS[table], **{f.name: inputs(f) for f in features_of(table)}}


def lineage_metadata(table: str) -> dict[str, dg.TableColumnLineage]:
    """Metadata from which Dagster knows a table's column lineage."""
    deps = {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(source), column_name=name) for source, name in sorted(read)]
        for column, read in lineage(table).items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}
