"""What every table of events must survive: rows of an evening do not change with what was not out by then.

Not a test: the families' tests call it with their own records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

import numpy as np
import polars as pl

from atft_assets.calendar import decision_instant
from atft_assets.features.feature import Feature

Tables = Mapping[str, pl.DataFrame]
Make = Callable[[Tables], pl.DataFrame]
TOLERANCE = 2e-4


def known_by(tables: Tables, evening: date) -> dict[str, pl.DataFrame]:
    """What could be had by an evening; tables without `available_at` are cut by their date."""
    instant = decision_instant(evening)
    return {
        name: frame.filter(
            pl.col("available_at") <= instant if "available_at" in frame.columns else pl.col("date") <= evening
        )
        for name, frame in tables.items()
    }


def scrambled_after(tables: Tables, evening: date, seed: int) -> dict[str, pl.DataFrame]:
    """Every number that was not out by an evening replaced by another one."""
    rng = np.random.default_rng(seed)
    instant = decision_instant(evening)
    found = {}
    for name, frame in tables.items():
        later = (pl.col("available_at") > instant) if "available_at" in frame.columns else (pl.col("date") > evening)
        noise = {
            c: pl.Series(rng.permutation(np.exp(rng.normal(3, 2, frame.height))))
            for c, dtype in frame.schema.items()
            if dtype == pl.Float64
        }
        found[name] = frame.with_columns(
            pl.when(later).then(values).otherwise(pl.col(c)).alias(c) for c, values in noise.items()
        )
    return found


def differing(one: pl.DataFrame, two: pl.DataFrame) -> list[str]:
    """Columns in which two frames of the same rows differ by more than rounding."""
    one, two = (frame.sort("date", "code") for frame in (one, two))
    assert one.select("date", "code").equals(two.select("date", "code"))
    found = []
    for name in one.columns[2:]:
        a, b = one[name].cast(pl.Float64), two[name].cast(pl.Float64)
        off = ((a - b).abs() / (1 + a.abs())).max()
        if (a.is_null() != b.is_null()).any() or (off is not None and not off < TOLERANCE):
            found.append(name)
    return found


def assert_no_future(make: Make, tables: Tables, evening: date, seed: int = 0) -> None:
    """Truncated and scrambled after an evening, the rows up to it are the same."""
    rows = tables["rows"].filter(pl.col("date") <= evening)
    whole = make(tables).filter(pl.col("date") <= evening)
    for other in (known_by(tables, evening), scrambled_after(tables, evening, seed)):
        got = make({**other, "rows": rows})
        assert differing(whole, got) == [], evening


def assert_as_declared(frame: pl.DataFrame, features: tuple[Feature, ...]) -> None:
    """Columns in the catalogue's order, dtypes, ranges, finite; and each of them is somewhere present."""
    assert frame.columns == ["date", "code", *(f.name for f in features)]
    for f in features:
        values = frame[f.name]
        assert values.dtype == (pl.UInt8 if f.kind == "flag" else pl.Float32), f.name
        assert values.drop_nulls().is_finite().all() if values.dtype.is_float() else True, f.name
        low, high = values.min(), values.max()
        assert low is not None, f"{f.name} is null throughout"
        assert f.low is None or low >= f.low - 1e-6, f.name
        assert f.high is None or high <= f.high + 1e-6, f.name
