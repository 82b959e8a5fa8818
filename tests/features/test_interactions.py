"""Interactions: every product by hand, row by row, from the columns that it declares and from no others."""

import math

import numpy as np
from hypothesis import given, settings

from atft_assets.features import interactions
from atft_assets.features.interactions import interaction_features
from tests.features.products import Products, Row

PRODUCTS = Products(
    interactions.TABLE, interactions.FEATURES, interaction_features, ("mkt_high_vol", "e_win_pre5", "e_win_post5")
)


def by_hand(c: dict[str, float]) -> dict[str, float]:
    def cut(x: float, low: float, high: float) -> float:
        return x if math.isnan(x) else min(max(x, low), high)

    def over(a: float, b: float) -> float:
        return cut(a / b, -20, 20) if b > 1e-9 else math.nan

    def sign(x: float) -> float:
        return math.nan if math.isnan(x) else float(np.sign(x))

    above, below = cut(c["bb_pct_b"] - 1, 0, 99), cut(-c["bb_pct_b"], 0, 99)
    surprise = (c["stmt_rev_fore_op"] + c["stmt_progress_op"]) * math.exp(-c["stmt_days_since"] / 5)
    known = not math.isnan(c["mkt_gap_5_20"] + c["sec_mom_20"])
    aligned = c["mkt_gap_5_20"] > 0 and c["sec_mom_20"] > 0
    return {
        "x_trend_intensity": c["ma_gap_5_20"] * c["mkt_gap_5_20"],
        "x_rel_sec_mom": c["rel_to_sec_5d"] * c["sec_mom_20"],
        "x_mom_sh_5": over(c["returns_5d"], c["volatility_20d"]),
        "x_mom_sh_5_mktneu": over(c["alpha_5d"], c["volatility_20d"]),
        "x_rvol5_dir": c["volume_ratio_5"] * sign(c["returns_1d"]),
        "x_rvol5_bb": c["volume_ratio_5"] * (c["bb_pct_b"] - 0.5),
        "x_rev_gate": c["mkt_high_vol"] * cut(0.5 - c["bb_pct_b"], 0, 99),
        "x_bo_gate": (1 - c["mkt_high_vol"]) * cut(c["ma_gap_5_20"], 0, 99),
        "x_alpha_meanrev_stable": -c["alpha_1d"] * c["beta_stability_60d"],
        "x_tri_align": (c["ma_gap_5_20"] if aligned else 0 * c["ma_gap_5_20"]) if known else math.nan,
        "x_bbpos_rvol5": above * c["volume_ratio_5"],
        "x_bbneg_rvol5": below * c["volume_ratio_5"],
        "x_liquidityshock_mom": cut(math.exp(c["log_turnover_change_1d"]) - 1, -0.5, 0.5) * c["returns_5d"],
        "x_pead_effect": surprise,
        "x_pead_times_mkt": surprise * sign(c["mkt_gap_5_20"]),
        "x_value_mom": c["stmt_earnings_yield"] * c["mom_240_20"],
        "x_quality_calm": over(c["stmt_roe"], c["volatility_60d"]),
        "x_yield_revised": c["stmt_fore_earnings_yield"] * c["stmt_rev_fore_np"],
        "x_due_volume": c["e_win_pre5"] * c["volume_ratio_5"],
        "x_out_alpha": c["e_win_post5"] * c["alpha_5d"],
    }


@settings(max_examples=60, deadline=None)
@given(rows=PRODUCTS.rows)
def test_every_product_is_that_of_its_own_row(rows: list[Row]) -> None:
    PRODUCTS.are_by_hand(rows, by_hand)


def test_every_product_moves_with_each_of_its_factors_and_with_no_other_column() -> None:
    """Else a declaration, or a factor, is there for nothing."""
    PRODUCTS.come_from_what_they_declare()


def test_nothing_known_is_nothing_said() -> None:
    PRODUCTS.say_nothing_of_nothing()
