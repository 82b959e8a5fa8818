"""Pressure: every product by hand, row by row, from the columns that it declares and from no others."""

import math

from hypothesis import given, settings

from atft_assets.features import pressure
from atft_assets.features.lineage import inputs
from atft_assets.features.pressure import pressure_features
from atft_assets.features.registry import table
from tests.features.products import Products, Row

PRODUCTS = Products(pressure.TABLE, pressure.FEATURES, pressure_features, ("dmi_on_list",))


def by_hand(c: dict[str, float]) -> dict[str, float]:
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
@given(rows=PRODUCTS.rows)
def test_every_product_is_that_of_its_own_row(rows: list[Row]) -> None:
    PRODUCTS.are_by_hand(rows, by_hand)


def test_a_product_changes_with_each_column_that_it_declares_and_with_no_other() -> None:
    PRODUCTS.come_from_what_they_declare()


def test_nothing_known_is_nothing_said() -> None:
    PRODUCTS.say_nothing_of_nothing()


def test_it_reads_columns_that_their_tables_have() -> None:
    for f in pressure.FEATURES:
        for source, column in inputs(pressure.TABLE, f):
            assert column in table(source).columns, (source, column)
