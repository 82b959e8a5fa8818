"""Pressure: every product by hand, row by row, from the columns that it declares and from no others."""

import math
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.features import pressure
from atft_assets.features.lineage import inputs
from atft_assets.features.pressure import pressure_features
from atft_assets.features.registry import table

READ = sorted({column for f in pressure.FEATURES for _, column in inputs(pressure.TABLE, f)})
FLAGS = ("dmi_on_list",)
numbers = st.one_of(st.none(), st.floats(-3, 3).map(lambda x: round(x, 3)))
flags = st.one_of(st.none(), st.integers(0, 1))
ROW = st.fixed_dictionaries({name: flags if name in FLAGS else numbers for name in READ})


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {"date": pl.Date, "code": pl.String} | {n: pl.UInt8 if n in FLAGS else pl.Float32 for n in READ}
    keys = [{"date": date(2020, 1, 6), "code": f"{1301 + i}0"} for i in range(len(rows))]
    return pl.DataFrame([key | row for key, row in zip(keys, rows, strict=True)], schema=schema)


def row_by_hand(row: dict[str, Any]) -> dict[str, float]:
    c = {name: math.nan if value is None else float(value) for name, value in row.items()}

    def positive(x: float) -> float:
        return x if math.isnan(x) else max(x, 0.0)

    return {
        "x_flow_smart_rel": c["flow_smart_idx"] * c["rel_strength_5d"],
        "x_foreign_relsec": c["flow_foreign_net_z"] * c["rel_to_sec_5d"],
        "x_flow_reversal": c["flow_foreign_net_z"] * (0.5 - c["bb_pct_b"]),
        "x_squeeze_pressure": c["margin_short_to_adv20"] * positive(c["returns_5d"]),
        "x_credit_rev_bias": positive(c["margin_imbalance"]) * positive(0.5 - c["bb_pct_b"]),
        "x_alert_dir": c["dmi_on_list"] * c["returns_1d"],
        "x_alert_squeeze": c["dmi_short_to_adv20"] * positive(c["returns_5d"]),
        "x_cover_push": c["ss_pos_days_to_cover"] * positive(c["returns_5d"]),
    }


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=5))
def test_every_product_is_that_of_its_own_row(rows: list[dict[str, Any]]) -> None:
    made = pressure_features(frame_of(rows))
    for i, row in enumerate(rows):
        got = made.row(i, named=True)
        for name, want in row_by_hand(row).items():
            value = math.nan if got[name] is None else got[name]
            assert value == pytest.approx(want, rel=1e-4, abs=1e-5, nan_ok=True), name
        assert pressure_features(frame_of(rows)[i : i + 1]).equals(made[i : i + 1])  # no other row enters


def test_a_product_changes_with_each_column_that_it_declares_and_with_no_other() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {name: int(rng.integers(0, 2)) if name in FLAGS else float(rng.normal(0, 1)) for name in READ}
        for _ in range(100)
    ]
    before = pressure_features(frame_of(rows))
    for name in READ:
        moved = [row | {name: 1 - row[name] if name in FLAGS else -row[name]} for row in rows]
        after = pressure_features(frame_of(moved))
        changed = {f.name for f in pressure.FEATURES if not before[f.name].equals(after[f.name])}
        declared = {f.name for f in pressure.FEATURES if name in {c for _, c in inputs(pressure.TABLE, f)}}
        assert changed == declared, name


def test_it_reads_columns_that_their_tables_have() -> None:
    for f in pressure.FEATURES:
        for source, column in inputs(pressure.TABLE, f):
            assert column in table(source).columns, (source, column)
