"""Indices: every column against NumPy over levels, late and missing indices."""

import math
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, trading_days
from atft_assets.features.indices import COLUMNS, FEATURES, SECTORS, TABLE, index_features
from atft_assets.jquants.endpoints import INDICES
from atft_assets.raw.indices import CONTRACT
from atft_assets.raw.stamps import INSTANT
from tests.features.synthetic import topix

DAYS = trading_days(date(2019, 1, 4), date(2019, 12, 30))
MARKET = topix(len(DAYS), 9, first=DAYS[0]).select("date", "C")
CODES = ("0028", "002D", "8100", "8200", "0070", "0075", "0500", *SECTORS)


@cache
def world(seed: int) -> pl.DataFrame:
    """Levels of all indices; one begins later, some days are missing, one comes out late."""
    rng = np.random.default_rng(seed)
    frames = []
    for code in CODES:
        level = 1000 * np.exp(np.cumsum(rng.normal(0, 0.01, len(DAYS))))
        frame = pl.DataFrame({"date": DAYS, "code": code, "C": level})
        keep = rng.random(len(DAYS)) > (0.0005 if code in SECTORS else 0.005)
        keep &= np.arange(len(DAYS)) >= (60 if code == "0070" else 0)
        frames.append(frame.filter(pl.Series(keep)))
    frame = pl.concat(frames).sort("date", "code")
    instants = {day: INDICES.rule.at(day) for day in DAYS}
    known = pl.Series([instants[day] for day in frame["date"]], dtype=INSTANT)
    hours = pl.Series(np.where(rng.random(frame.height) < 0.002, 4, 0))
    return frame.with_columns(known.alias("available_at") + pl.duration(hours=hours))


def features(frame: pl.DataFrame, days: list[date] = DAYS, market: pl.DataFrame = MARKET) -> pl.DataFrame:
    return index_features(frame.select(COLUMNS), market, pl.DataFrame({"date": days}))


def by_hand(frame: pl.DataFrame, day: date) -> dict[str, float]:
    """Of the newest day of which everything was out; empty where it is not the day or the one before."""
    frame = frame.filter(pl.col("code") != "0500")  # an index that no column reads
    out_at = dict(frame.group_by("date").agg(pl.col("available_at").max()).iter_rows())
    known = sorted(one for one, instant in out_at.items() if instant <= decision_instant(day))
    if not known or len(trading_days(known[-1], day)) > 2:
        return {}
    past = [one for one in sorted(out_at) if one <= known[-1]]
    levels = {(one, code): level for one, code, level in frame.select("date", "code", "C").iter_rows()}
    market = dict(MARKET.iter_rows())

    def series(code: str) -> np.ndarray:
        return np.array([market[one] if code == "M" else levels.get((one, code), math.nan) for one in past])

    def ret(code: str, h: int, at: int = -1) -> float:
        x = series(code)
        return float(x[at] / x[at - h] - 1) if len(x) + at >= h else math.nan

    out = {f"idx_size_{h}d": ret("002D", h) - ret("0028", h) for h in (1, 5, 20)}
    out |= {f"idx_value_{h}d": ret("8100", h) - ret("8200", h) for h in (1, 5, 20)}
    out |= {f"idx_young_{h}d": ret("0070", h) - ret("M", h) for h in (5, 20)}
    out |= {f"idx_trusts_{h}d": ret("0075", h) for h in (5, 20)}
    size = [ret("002D", 1, at) - ret("0028", 1, at) for at in range(-20, 0)] if len(past) > 20 else [math.nan]
    out["idx_size_vol_20"] = float(np.std(size, ddof=1)) * math.sqrt(252) if len(size) > 1 else math.nan
    r = np.stack([np.append(np.nan, np.diff(series(code)) / series(code)[:-1]) for code in SECTORS])

    def across(x: np.ndarray, f: Any) -> float:
        held = x[~np.isnan(x)]
        return float(f(held)) if len(held) >= 20 else math.nan

    month = np.array([ret(code, 20) for code in SECTORS])
    out["idx_sector_spread_1d"] = across(r[:, -1], lambda x: np.std(x, ddof=1))
    out["idx_sector_spread_20d"] = across(month, lambda x: np.std(x, ddof=1))
    out["idx_sector_breadth_20d"] = across(month, lambda x: np.mean(x > 0))
    out["idx_sector_together_60"] = math.nan
    if r.shape[1] > 60:
        means = np.array([across(r[:, at], np.mean) for at in range(-60, 0)])
        own = across(np.var(r[:, -60:], axis=1, ddof=1), np.mean)
        out["idx_sector_together_60"] = float(np.var(means, ddof=1) / own)
    return out


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 30), places=st.lists(st.integers(0, len(DAYS) - 1), min_size=8, max_size=8))
def test_every_column_is_what_numpy_makes_of_the_levels_that_the_evening_knew(seed: int, places: list[int]) -> None:
    frame = world(seed)
    made = {row["date"]: row for row in features(frame).iter_rows(named=True)}
    for place in places:
        row, expected = made[DAYS[place]], by_hand(frame, DAYS[place])
        for f in FEATURES:
            got = math.nan if row[f.name] is None else row[f.name]
            want = expected.get(f.name, math.nan)
            assert got == pytest.approx(want, rel=1e-4, abs=1e-6, nan_ok=True), (f.name, DAYS[place])
        known = [expected.get(name, math.nan) for name in ("idx_size_1d", "idx_sector_spread_1d")]
        assert row["is_index_valid"] == int(not any(map(math.isnan, known)))


def test_the_random_levels_reach_every_column_and_have_the_shape_of_the_raw_table() -> None:
    made = features(world(1))
    assert {f.name for f in FEATURES if made[f.name].drop_nulls().n_unique() < 15} == set()
    whole = world(1).with_columns(pl.col("C").alias("O"), pl.col("C").alias("H"), pl.col("C").alias("L"))
    CONTRACT.schema.validate(whole.select(*CONTRACT.schema.columns), lazy=True)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 30), place=st.integers(2, len(DAYS) - 1))
def test_what_comes_later_changes_nothing(seed: int, place: int) -> None:
    frame, day = world(seed), DAYS[place]
    upto = pl.col("date") <= day
    whole = features(frame).filter(upto)
    known = pl.col("available_at") <= decision_instant(day)
    unknown = frame.filter(~known & upto)["date"].unique()  # a day counts when the last of its indices is out
    noise = frame.with_columns(pl.when(known).then("C").otherwise(1.0).alias("C"))
    spoiled = MARKET.with_columns(pl.when(upto).then("C").otherwise(1.0).alias("C"))
    assert features(noise, market=spoiled).filter(upto).equals(whole)
    if unknown.is_empty():
        assert features(frame.filter(known), market=MARKET.filter(upto)).filter(upto).equals(whole)


def test_a_month_hangs_on_its_declared_history_alone() -> None:
    frame = world(3)
    days = [day for day in DAYS if day.month == 12]
    back = pl.select(pl.lit(date(2019, 12, 1)).dt.offset_by(f"-{TABLE.reads['indices']}mo")).item()
    cut = features(frame.filter(pl.col("date") >= back), days, MARKET.filter(pl.col("date") >= back))
    whole = features(frame).filter(pl.col("date").is_in(days))
    for name in whole.columns[1:]:
        one, two = whole[name].cast(pl.Float64).to_numpy(), cut[name].cast(pl.Float64).to_numpy()
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6, err_msg=name)


def test_an_index_that_has_not_begun_leaves_the_others_whole() -> None:
    frame = world(2)
    gone = {f"idx_young_{h}d" for h in (5, 20)}
    made = features(frame.filter(pl.col("code") != "0070"))
    assert all(made[name].null_count() == made.height for name in gone)
    at_once = frame["available_at"].dt.hour() < 18
    whole = features(frame.filter(at_once))
    assert features(frame.filter(at_once & (frame["code"] != "0070"))).drop(gone).equals(whole.drop(gone))
    assert features(frame.clear())["is_index_valid"].sum() == 0


def test_index_codes_are_no_sector_codes() -> None:
    """Index 0050 is the seventeenth sector index, and sector 0050 is fishery."""
    assert len(SECTORS) == 33 and SECTORS[0] == "0040" and SECTORS[16] == "0050" and SECTORS[-1] == "0060"


def test_a_day_that_is_late_is_bridged_by_the_day_before_and_no_further() -> None:
    frame = world(1).with_columns(pl.lit(DAYS[0]).alias("_"))
    on_time = frame.with_columns(
        (pl.col("date").cast(pl.Datetime("us")) + timedelta(hours=16, minutes=30))
        .dt.replace_time_zone("Asia/Tokyo")
        .alias("available_at")
    )
    cut = on_time.filter(pl.col("date") < DAYS[100])
    made = features(cut, DAYS[98:103])
    assert made["idx_trusts_5d"].is_not_null().to_list() == [True, True, True, False, False]
    assert made["idx_trusts_5d"][2] == made["idx_trusts_5d"][1]
