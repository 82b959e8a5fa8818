"""Column lineage of the tables of events and days is true, as tests/features/test_lineage.py has it for prices.

Each raw column is changed in turn, in several ways; the columns that change must name it, and each that names it must
change at least once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import polars as pl
import pytest

from atft_assets.features import dividends, earnings, futures, indices, options, statements
from atft_assets.features.lineage import inputs
from atft_assets.features.statement_states import DOCUMENT
from atft_assets.features.table import FeatureTable
from tests.features import raw_tables
from tests.features.synthetic import raw_quotes, topix
from tests.features.test_lineage import changed

DAYS = 400
KEYS = ("date", "code", "available_at")
Tables = Mapping[str, pl.DataFrame]


@cache
def _tables() -> tuple[tuple[str, pl.DataFrame], ...]:
    quotes = raw_quotes(6, DAYS, seed=2, splits=True)
    found = raw_tables.of_market(quotes, seed=3)
    return tuple({**found, "daily_quotes": quotes, "topix": topix(DAYS, 4)}.items())


def rows_of(t: Tables) -> pl.DataFrame:
    return t["daily_quotes"].select("date", "code")


BUILD: dict[str, tuple[FeatureTable, Callable[[Tables], pl.DataFrame]]] = {
    "statements": (
        statements.TABLE,
        lambda t: statements.statement_features(
            t["fins_summary"].select(statements.COLUMNS), t["daily_quotes"].select(statements.QUOTES), rows_of(t)
        ),
    ),
    "earnings": (
        earnings.TABLE,
        lambda t: earnings.earnings_features(
            t["earnings_date"].select(earnings.COLUMNS), t["fins_summary"].select(earnings.DOCUMENTS), rows_of(t)
        ),
    ),
    "dividends": (
        dividends.TABLE,
        lambda t: dividends.dividend_features(
            t["fins_dividend"].select(dividends.COLUMNS), t["daily_quotes"].select(dividends.QUOTES), rows_of(t)
        ),
    ),
    "options": (
        options.TABLE,
        lambda t: options.option_features(
            t["options_225"].select(options.COLUMNS), t["topix"], t["topix"].select("date")
        ),
    ),
    "indices": (
        indices.TABLE,
        lambda t: indices.index_features(t["indices"].select(indices.COLUMNS), t["topix"], t["topix"].select("date")),
    ),
    "futures": (
        futures.TABLE,
        lambda t: futures.futures_features(t["futures"].select(futures.COLUMNS), t["topix"], t["topix"].select("date")),
    ),
}
# what tells records apart or puts them in order: it need not show in every column that reads the records
CHOOSING = {("fins_summary", column) for column in (*DOCUMENT, "CurFYSt")} | {
    *(("fins_dividend", column) for column in ("PubTime", "RefNo", "CARefNo", "StatCode")),
    ("earnings_date", "FYE"), ("earnings_date", "FQName"), ("futures", "Vo"), ("futures", "C"),
    ("futures", "EmMrgnTrgDiv"), ("futures", "CCMFlag"), ("options_225", "EmMrgnTrgDiv"), ("options_225", "LTD"),
}  # fmt: skip
# a forecast made with the results of the year before, which the first quarter mostly says again
SELDOM = {("fins_summary", "NxFOP"), ("fins_summary", "NxFNp")}
# text that is no number, and what a change of it means
OTHERS = {
    "DocType": ["1QFinancialStatements_Consolidated_US", "DividendForecastRevision"],
    "CurPerType": ["1Q", "FY", ""],
    "CurFYSt": ["2019-01-01", "2018-04-01"],
    "CurFYEn": ["2019-12-31", "2020-03-31"],
    "CurPerEn": ["2019-02-28", "2019-12-31"],
    "SchDate": ["", "2020-05-11", "2019-11-01"],
    "FYE": ["0331", "1130"],
    "FQName": ["1Q", "5Q"],
    "ExDate": ["", "2020-03-27", "2019-09-26"],
    "PubTime": ["12:30", "18:10"],
    "RefNo": ["0", "9"],
    "CARefNo": ["0", ""],
    "StatCode": ["1", "2", "3"],
    "CommSpecCode": ["0", "1"],
    "PCDiv": ["1", "2"],
    "EmMrgnTrgDiv": ["001", "002"],
    "LTD": ["2020-06-11", "2019-09-12"],
    "ProdCat": ["TOPIXF", "NK225F", "JGBLF", "NKVIF", "REITF"],
    "CCMFlag": ["0", "1"],
    "DiscTime": ["09:00:00", "17:00:00"],
    "DiscNo": ["00", "99"],
    **{flag: ["true", "false"] for flag in ("ChgByASRev", "ChgNoASRev", "ChgAcEst", "RetroRst")},
}  # fmt: skip


def other(column: pl.Series, way: str, seed: int) -> pl.Series:
    """Other values in the same rows: a part of them moved, of the other sign, or gone."""
    rng = np.random.default_rng(seed)
    some = pl.Series(rng.random(column.len()) < 0.3)
    if column.name in OTHERS:
        drawn = pl.Series(rng.choice(OTHERS[column.name], column.len()))
        return pl.select(pl.when(some).then(drawn).otherwise(column)).to_series().alias(column.name)
    number = column.cast(pl.Float64, strict=False)
    gone = pl.lit("" if column.dtype == pl.String else None)
    if column.name == "AdjFactor":
        values = pl.select(pl.when(some).then(number * 0.5).otherwise(number)).to_series()
    else:
        values = number * (-1 if way == "turned" else pl.Series(np.exp(rng.normal(0, 0.1, column.len()))))
    values = values.cast(column.dtype).fill_null("") if column.dtype == pl.String else values
    if way == "gone":
        return pl.select(pl.when(some).then(gone.cast(column.dtype)).otherwise(values)).to_series().alias(column.name)
    return values.alias(column.name)


@pytest.mark.parametrize("name", BUILD)
def test_a_column_changes_with_what_it_is_computed_from_and_with_nothing_else(name: str) -> None:
    table, build = BUILD[name]
    tables = dict(_tables())
    before = build(tables)
    declared = {f.name: {one for one in inputs(table, f) if one[1] not in KEYS} for f in table.features}
    read = {one for columns in declared.values() for one in columns}
    seen: dict[str, set[tuple[str, str]]] = {name: set() for name in declared}
    for number, (source, column) in enumerate(sorted(read)):
        ways = ("moved",) if column in OTHERS or column == "AdjFactor" else ("moved", "gone", "turned")
        for way in ways:
            spoiled = tables[source].with_columns(other(tables[source][column], way, number))
            found = changed(before, build({**tables, source: spoiled}))
            undeclared = sorted(c for c in found if (source, column) not in declared[c])
            assert not undeclared or way == "gone", f"{source}.{column} changes {undeclared}, whose lineage lacks it"
            for c in found:
                seen[c].add((source, column))
    unseen = {
        c: sorted(columns - seen[c] - CHOOSING - SELDOM)
        for c, columns in declared.items()
        if not c.startswith("is_") and columns - seen[c] - CHOOSING - SELDOM
    }
    assert not unseen, f"lineage names columns that change nothing: {unseen}"
