"""Lineage of the tables of events: what is changed upstream changes the columns that name it, and no others.

As in test_lineage.py; here columns hold dates, holders, reasons and instants as well as numbers.
"""

from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest

from atft_assets.features.breakdown import breakdown_features
from atft_assets.features.daily_margin import daily_margin_features
from atft_assets.features.flow import flow_features
from atft_assets.features.lineage import lineage
from atft_assets.features.margin import margin_features
from atft_assets.features.registry import table
from atft_assets.features.short import short_features
from tests.features import synthetic_records as records
from tests.features.synthetic import members_of, raw_quotes
from tests.features.test_lineage import changed

Tables = dict[str, pl.DataFrame]
NAMES, DAYS = 6, 400
QUOTES = raw_quotes(NAMES, DAYS, seed=5, untraded=0.02, splits=True)
FIRST, LAST = date(2019, 1, 4), QUOTES["date"].max()
SECTORS = ("0050", "1050")
UNIVERSE = members_of(QUOTES).with_columns(
    pl.col("s33").replace_strict({"0": SECTORS[0], "1": SECTORS[1]}), pl.lit("0101").alias("mkt")
)


def stock() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    returns = {f"returns_{h}d": pl.Series(rng.normal(0, 0.03, QUOTES.height), dtype=pl.Float32) for h in (1, 5)}
    return QUOTES.select("date", "code").with_columns(**returns)


UPSTREAM: Tables = {
    "daily_quotes": QUOTES.select("date", "code", "Vo", "AdjFactor"),
    "stock_features": stock(),
    "universe": UNIVERSE,
    "margin_interest": records.margin_interest(NAMES, FIRST, LAST, lacking=0.02).drop("PubDate"),
    "margin_alert": records.margin_alert(NAMES, FIRST, LAST, on_list=0.7),
    "short_ratio": records.short_ratio((*SECTORS, "9999"), FIRST, LAST),
    "short_sale_report": records.short_sale_report(NAMES, FIRST, LAST, share=0.05),
    "investor_types": records.investor_types(FIRST, LAST),
    "breakdown": records.breakdown(QUOTES),
}
ROWS = QUOTES.select("date", "code")
BUILD: dict[str, Callable[[Tables], pl.DataFrame]] = {
    "margin_features": lambda t: margin_features(t["margin_interest"], t["daily_quotes"], ROWS),
    "daily_margin_features": lambda t: daily_margin_features(
        t["margin_alert"], t["daily_quotes"], t["stock_features"], ROWS
    ),
    "short_features": lambda t: short_features(
        t["short_ratio"], t["short_sale_report"], t["daily_quotes"], t["stock_features"], t["universe"]
    ),
    "flow_features": lambda t: flow_features(t["investor_types"], t["universe"]),
    "breakdown_features": lambda t: breakdown_features(t["breakdown"], ROWS),
}
KEYS = ("date", "code", "available_at")  # which rows there are, and when they count
OTHERS = {
    "S33": [*SECTORS, "9999"],
    "s33": [*SECTORS, "9999"],
    "Section": ["TSE1st", "TSE2nd"],
    "mkt": ["0111", "0101", "0102"],
    "IssType": ["1", "2", "3"],
    "TSEMrgnRegCls": ["001", "003", "101"],
    "SSName": ["Alpha Capital", records.PERSON],
}


def moved(column: pl.Series) -> pl.Series:
    """Other values of the same kind in some of the rows."""
    rng = np.random.default_rng(7)
    place = np.arange(column.len()) / column.len()  # and some stretch of days as a whole
    some = pl.Series((rng.random(column.len()) < 0.2) | ((place > 0.5) & (place < 0.6)))
    values: pl.Series
    if column.name in OTHERS:
        values = pl.Series(rng.choice(OTHERS[column.name], column.len()))
    elif column.name == "PubReason":
        values = pl.Series([records.reasons(*rng.choice(records.REASONS, 2)) for _ in range(column.len())])
    elif column.name in ("AppDate", "CalcDate", "PrevRptDate", "EnDate"):
        days = column.str.to_date(strict=False)
        shifted = pl.select(pl.lit(days).dt.offset_by("-7d")).to_series()
        values = shifted.cast(pl.String).fill_null("")
    elif column.name in ("DICName", "FundName"):
        values = pl.Series(rng.choice(["A", "B"], column.len()))
    elif column.name in ("LongOutRatio", "ShrtOutRatio", "SLRatio"):
        values = pl.Series([f"{x:.2f}" for x in rng.uniform(0.1, 3, column.len())])
    elif column.name == "AdjFactor":
        values = pl.Series(rng.choice([1.0, 0.5], column.len(), p=[0.95, 0.05]))
    elif column.name == "PrevRptRatio":
        values = pl.Series(np.full(column.len(), 0.9))
    elif column.name.startswith("returns"):
        values = -column
    else:
        values = column * pl.Series(np.exp(rng.normal(0, 0.5, column.len())))
    return pl.select(pl.when(some).then(values.cast(column.dtype)).otherwise(column).alias(column.name)).to_series()


def lowered(column: pl.Series) -> pl.Series:
    """The other sign of everything; of what has none, nothing."""
    return -column if column.dtype.is_float() else column


CHANGES: dict[str, tuple[Callable[[pl.Series], pl.Series], ...]] = {"flow_features": (moved, lowered)}


@pytest.mark.parametrize("name", BUILD)
def test_a_column_changes_with_what_it_is_computed_from_and_with_nothing_else(name: str) -> None:
    row = table(name)
    declared = {c: {r for r in reads if r[1] not in KEYS} for c, reads in lineage(row).items() if c not in KEYS}
    seen: dict[str, set[tuple[str, str]]] = {c: set() for c in declared}
    before = BUILD[name](UPSTREAM)
    sources = [source for source in row.reads if source in UPSTREAM]
    for source in sources:
        for column in row.declared[source] - set(KEYS):
            for change in CHANGES.get(name, (moved,)):
                spoiled = UPSTREAM[source].with_columns(change(UPSTREAM[source][column]))
                for changing in changed(before, BUILD[name]({**UPSTREAM, source: spoiled})):
                    seen[changing].add((source, column))
    undeclared = {c: sorted(found - declared[c]) for c, found in seen.items() if found - declared[c]}
    assert not undeclared, "columns change with what their lineage lacks"
    unseen = {c: sorted(reads - seen[c]) for c, reads in declared.items() if reads - seen[c]}
    assert not unseen, "lineage names columns that change nothing"
