"""Tables of products: rows of any values for the columns that are read, and what must hold of every row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

from atft_assets.features.feature import Feature
from atft_assets.features.lineage import inputs
from atft_assets.features.table import FeatureTable

Row = dict[str, Any]
NUMBERS = st.one_of(st.none(), st.floats(-3, 3).map(lambda x: round(x, 3)))
BITS = st.one_of(st.none(), st.integers(0, 1))


@dataclass(frozen=True)
class Products:
    """A table each of whose features comes from columns of its own row.

    Attributes:
        make: the columns from a frame of `READ`.
        flags: columns that are read and are 0 or 1.
    """

    table: FeatureTable
    features: tuple[Feature, ...]
    make: Callable[[pl.DataFrame], pl.DataFrame]
    flags: tuple[str, ...]

    @cached_property
    def read(self) -> list[str]:
        return sorted({column for f in self.features for _, column in inputs(self.table, f)})

    @property
    def rows(self) -> st.SearchStrategy[list[Row]]:
        row = st.fixed_dictionaries({name: BITS if name in self.flags else NUMBERS for name in self.read})
        return st.lists(row, min_size=1, max_size=5)

    def frame(self, rows: list[Row]) -> pl.DataFrame:
        schema = {name: pl.UInt8 if name in self.flags else pl.Float32 for name in self.read}
        keys = [{"date": date(2020, 1, 6), "code": f"{1301 + i}0"} for i in range(len(rows))]
        both = [key | row for key, row in zip(keys, rows, strict=True)]
        return pl.DataFrame(both, schema={"date": pl.Date, "code": pl.String, **schema})

    def are_by_hand(self, rows: list[Row], by_hand: Callable[[dict[str, float]], dict[str, float]]) -> None:
        """Each row is what `by_hand` says of its values, NaN for null, and no other row enters."""
        frame = self.frame(rows)
        made = self.make(frame)
        for i, row in enumerate(rows):
            got = made.row(i, named=True)
            values = {name: math.nan if value is None else float(value) for name, value in row.items()}
            for name, want in by_hand(values).items():
                value = math.nan if got[name] is None else got[name]
                assert value == pytest.approx(want, rel=1e-4, abs=1e-5, nan_ok=True), name
            assert self.make(frame[i : i + 1]).equals(made[i : i + 1])

    def come_from_what_they_declare(self) -> None:
        """Each moves with every column that it declares, and with no other."""
        rng = np.random.default_rng(0)
        rows = [
            {n: int(rng.integers(0, 2)) if n in self.flags else float(rng.normal(0, 1)) for n in self.read}
            for _ in range(200)
        ]
        before = self.make(self.frame(rows))
        declares = {f.name: {column for _, column in inputs(self.table, f)} for f in self.features}

        def changed(name: str, other: Callable[[Any], Any]) -> set[str]:
            after = self.make(self.frame([row | {name: other(row[name])} for row in rows]))
            return {f.name for f in self.features if not before[f.name].equals(after[f.name])}

        for name in self.read:
            declared = {made for made, columns in declares.items() if name in columns}
            flipped = (lambda x: 1 - x) if name in self.flags else (lambda x: -x)
            assert changed(name, flipped) == declared, name
            assert changed(name, lambda _: None) <= declared, name

    def say_nothing_of_nothing(self) -> None:
        made = self.make(self.frame([dict.fromkeys(self.read)]))
        assert all(made[f.name].null_count() == 1 for f in self.features)
