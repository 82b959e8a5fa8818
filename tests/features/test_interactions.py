"""Interactions and regimes: every product by hand, row by row; exposures against NumPy; nothing from later."""

import math
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.features import interactions, regimes
from atft_assets.features.interactions import interaction_features
from atft_assets.features.lineage import inputs
from atft_assets.features.regimes import regime_features
from tests.features.synthetic import sessions

READ = sorted({column for f in interactions.FEATURES for _, column in inputs(interactions.TABLE, f)})
FLAGS = ("mkt_high_vol", "e_win_pre5", "e_win_post5")
numbers = st.one_of(st.none(), st.floats(-3, 3).map(lambda x: round(x, 3)))
flags = st.one_of(st.none(), st.integers(0, 1))


def row_by_hand(row: dict[str, Any]) -> dict[str, float]:
    """The products of one row, NaN for null."""
    c = {name: math.nan if value is None else float(value) for name, value in row.items()}
    nan = math.nan

    def cut(x: float, low: float, high: float) -> float:
        return x if math.isnan(x) else min(max(x, low), high)

    def over(a: float, b: float) -> float:
        return cut(a / b, -20, 20) if b > 1e-9 else nan

    def sign(x: float) -> float:
        return nan if math.isnan(x) else float(np.sign(x))

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
        "x_tri_align": (c["ma_gap_5_20"] if aligned else 0 * c["ma_gap_5_20"]) if known else nan,
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


ROW = st.fixed_dictionaries({name: flags if name in FLAGS else numbers for name in READ})


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {name: pl.UInt8 if name in FLAGS else pl.Float32 for name in READ}
    keys = [{"date": date(2020, 1, 6), "code": f"{1301 + i}0"} for i in range(len(rows))]
    return pl.DataFrame([key | row for key, row in zip(keys, rows, strict=True)],
                        schema={"date": pl.Date, "code": pl.String, **schema})  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=5))
def test_every_product_is_that_of_its_own_row(rows: list[dict[str, Any]]) -> None:
    made = interaction_features(frame_of(rows))
    for i, row in enumerate(rows):
        got = made.row(i, named=True)
        for name, want in row_by_hand(row).items():
            value = math.nan if got[name] is None else got[name]
            assert value == pytest.approx(want, rel=1e-4, abs=1e-5, nan_ok=True), name
        assert interaction_features(frame_of(rows)[i : i + 1]).equals(made[i : i + 1])  # no other row enters


@settings(max_examples=30, deadline=None)
@given(row=ROW, data=st.data())
def test_a_product_changes_with_the_columns_that_it_declares_and_with_no_others(row: dict[str, Any], data: Any) -> None:
    name = data.draw(st.sampled_from(READ))
    other = data.draw(flags if name in FLAGS else numbers)
    before, after = interaction_features(frame_of([row])), interaction_features(frame_of([row | {name: other}]))
    changed = {c for c in before.columns if not before[c].equals(after[c], null_equal=True)}
    declared = {f.name for f in interactions.FEATURES if name in {c for _, c in inputs(interactions.TABLE, f)}}
    assert changed <= declared


def test_every_product_moves_with_each_of_its_factors() -> None:
    """Else a declaration, or a factor, is there for nothing."""
    rng = np.random.default_rng(0)
    rows = [
        {name: int(rng.integers(0, 2)) if name in FLAGS else float(rng.normal(0, 1)) for name in READ}
        for _ in range(200)
    ]
    before = interaction_features(frame_of(rows))
    for f in interactions.FEATURES:
        for _, name in inputs(interactions.TABLE, f):
            moved = [row | {name: 1 - row[name] if name in FLAGS else -row[name]} for row in rows]
            assert not interaction_features(frame_of(moved))[f.name].equals(before[f.name]), (f.name, name)


def test_nothing_known_is_nothing_said() -> None:
    made = interaction_features(frame_of([dict.fromkeys(READ)]))
    assert all(made[f.name].null_count() == 1 for f in interactions.FEATURES)


# --- regimes

DAYS = sessions(260)


@cache
def world(seed: int) -> tuple[pl.DataFrame, ...]:
    rng = np.random.default_rng(seed)

    def column(n: int, gone: float = 0.0) -> pl.Series:
        values = rng.normal(0, 1, n).astype(np.float32)
        return pl.Series(values).set(pl.Series(rng.random(n) < gone), None)

    days = pl.DataFrame({"date": DAYS})
    grid = days.join(pl.DataFrame({"code": ["13010", "13020"]}), how="cross")
    n, d = grid.height, len(DAYS)
    traded = pl.Series((rng.random(n) > 0.05).astype(np.uint8))
    stock = grid.with_columns(
        traded.alias("is_traded"),
        *(column(n, 0.01).alias(c) for c in ("volatility_60d", "bb_pct_b", "returns_5d")),
    )
    pair = grid.with_columns(column(n, 0.002).alias("beta_60d"), column(n, 0.002).alias("alpha_1d"))
    options = days.with_columns(column(d, 0.1).alias(c) for c in regimes.OPTION_COLUMNS[1:])
    indices = days.with_columns(column(d, 0.002).alias(c) for c in regimes.INDEX_COLUMNS[1:])
    return stock, pair, options, indices


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 20), places=st.lists(st.integers(0, 480), min_size=20, max_size=20))
def test_exposures_are_slopes_over_a_names_own_rows(seed: int, places: list[int]) -> None:
    stock, pair, options, indices = world(seed)
    made = regime_features(stock, pair, options, indices)
    joined = (
        stock.filter(pl.col("is_traded") == 1)
        .join(pair, on=["date", "code"])
        .join(options, on="date")
        .join(indices, on="date")
        .sort("code", "date")
    )
    assert made.select("code", "date").equals(joined.select("code", "date"))
    for place in (place for place in places if place < made.height):
        row = joined.row(place, named=True)
        past = joined[: place + 1].filter(pl.col("code") == row["code"])
        c = {name: math.nan if value is None else value for name, value in row.items() if name not in ("date", "code")}
        expected = {
            "x_iv_beta": (c["beta_60d"] * c["opt_iv_shock"], 60),
            "x_term_vol": (c["volatility_60d"] * c["opt_term_slope_30_60"], 60),
            "x_vrp_rev": ((0.5 - c["bb_pct_b"]) * c["opt_vrp"], 22),
            "x_pcr_mom": (c["returns_5d"] * c["opt_pcr_mom5"], 6),
        }
        for name in regimes.SPREADS:
            x, s = (
                past[c].tail(60).cast(pl.Float64).fill_null(math.nan).to_numpy() for c in ("alpha_1d", f"idx_{name}_1d")
            )
            slope = float(np.cov(x, s)[0, 1] / np.var(s, ddof=1)) if len(x) == 60 else math.nan
            expected |= {f"x_{name}_beta": (slope, 120), f"x_{name}_push": (slope * c[f"idx_{name}_5d"], 120)}
        for name, (value, least) in expected.items():
            want = value if past.height > least else math.nan  # not before its look-back is there
            got = made[name][place]
            assert (math.nan if got is None else got) == pytest.approx(want, rel=1e-3, abs=1e-4, nan_ok=True), name


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 20), place=st.integers(125, len(DAYS) - 2))
def test_later_rows_change_nothing(seed: int, place: int) -> None:
    frames = world(seed)
    upto = pl.col("date") <= DAYS[place]
    whole = regime_features(*frames).filter(upto)
    assert regime_features(*(frame.filter(upto) for frame in frames)).equals(whole)
    spoiled = [
        frame.with_columns(
            pl.when(upto).then(pl.col(c)).otherwise(pl.col(c) * -7).alias(c)
            for c in frame.columns
            if frame.schema[c] == pl.Float32
        )
        for frame in frames
    ]
    assert regime_features(*spoiled).filter(upto).equals(whole)


def test_an_exposure_is_found_where_one_was_planted() -> None:
    stock, pair, options, indices = world(1)
    planted = pair.join(indices, on="date").with_columns(
        (pl.col("idx_size_1d") * 0.7 + pl.col("alpha_1d") * 0.1).alias("alpha_1d")
    )
    made = regime_features(stock, planted.select(pair.columns), options, indices)
    assert made["x_size_beta"].drop_nulls().mean() == pytest.approx(0.7, abs=0.03)
    assert abs(made["x_value_beta"].drop_nulls().mean()) < 0.1
