"""Dividends: every column against plain Python over what an evening knew; revisions, deletions, terms of one minute."""

import math
from datetime import date, time, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, shift_trading_days, trading_days
from atft_assets.features.dividends import COLUMNS, FEATURES, QUOTES, TABLE, dividend_features
from atft_assets.jquants.endpoints import FINS_DIVIDEND
from atft_assets.raw.fins_dividend import CONTRACT
from tests.features.synthetic import raw_quotes

DAYS = trading_days(date(2018, 1, 4), date(2020, 12, 30))
CODES = ("13010", "13020")


def announcement(code: str, told: date, number: str, ex: date | None, rate: Any, **own: Any) -> dict[str, Any]:
    clock = own.pop("PubTime", "15:00")
    row: dict[str, Any] = {name: "" for name in CONTRACT.schema.columns}
    return row | {
        "date": told, "PubTime": clock, "code": code, "RefNo": number, "CARefNo": number, "StatCode": "1",
        "IFCode": "2", "FRCode": "2", "IFTerm": "2020-03", "ExDate": str(ex or "-"), "DivRate": str(rate),
        "CommSpecCode": "0",
        "available_at": FINS_DIVIDEND.rule.at(told, time.fromisoformat(clock)),
    } | own  # fmt: skip


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: column.dtype.type for name, column in CONTRACT.schema.columns.items()})


@cache
def world(seed: int) -> tuple[list[dict[str, Any]], pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    told: list[dict[str, Any]] = []
    for code in CODES:
        for half in range(8):
            ex = DAYS[0] + timedelta(days=int(60 + half * 150 + rng.integers(0, 60)))
            number, when = f"{code}{half}", ex - timedelta(days=int(rng.integers(5, 200)))
            own = {"CommSpecCode": str(rng.choice(["0", "1", "2"]))}
            told.append(announcement(code, max(when, DAYS[0]), number, ex, int(rng.integers(0, 60)), **own))
            for n in range(int(rng.integers(0, 3))):  # revised, moved, deleted, or told again under another number
                when = max(when, DAYS[0]) + timedelta(days=int(rng.integers(0, 60)))
                day = ex + timedelta(days=int(rng.choice([0, 0, 7])))
                way = str(rng.choice(["2", "2", "3", "1"]))
                first = f"{number}n{n}" if way == "1" else number
                rate = rng.choice(["-", str(int(rng.integers(1, 60)))], p=[0.2, 0.8])
                clock = str(rng.choice(["11:30", "15:00", "18:10", "19:30"]))
                row = announcement(code, when, f"{number}x{n}", day, rate, StatCode=way, CARefNo=first, PubTime=clock)
                told.append(row | own)
    quotes = raw_quotes(2, len(DAYS), seed, untraded=0.05, splits=True, first=DAYS[0])
    return told, quotes, quotes.select("date", "code")


def features(told: list[dict[str, Any]], quotes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return dividend_features(frame_of(told).select(COLUMNS), quotes.select(QUOTES), rows)


def standing(told: list[dict[str, Any]], code: str, day: date) -> dict[date, dict[str, Any]]:
    """What an evening takes for announced, by ex-date."""
    known = sorted(
        (a for a in told if a["code"] == code and a["available_at"] <= decision_instant(day)),
        key=lambda a: (a["available_at"], a["date"], a["PubTime"], a["RefNo"]),
    )
    newest = {a["CARefNo"]: i for i, a in enumerate(known)}
    by_day: dict[date, int] = {}
    for i, a in enumerate(known):
        if a["StatCode"] != "3" and a["ExDate"] != "-":
            by_day[date.fromisoformat(a["ExDate"])] = i
    return {ex: known[i] for ex, i in by_day.items() if newest[known[i]["CARefNo"]] == i}


def number(text: str) -> float:
    return float(text) if text not in ("-", "") else math.nan


def by_hand(told: list[dict[str, Any]], quotes: pl.DataFrame, code: str, day: date) -> dict[str, float]:
    out = dict.fromkeys((f.name for f in FEATURES), math.nan)
    rows = quotes.filter((pl.col("code") == code) & (pl.col("date") <= day))
    closes = rows["C"].tail(21).drop_nulls()
    price = closes[-1] if closes.len() else math.nan
    now = standing(told, code, day)
    ahead = {ex: len(trading_days(day, ex - timedelta(days=1))) for ex in now if ex > day}
    ahead = {ex: n for ex, n in ahead.items() if 1 <= n <= 60}
    for h in (1, 5, 20):
        paid = sum(x for ex, n in ahead.items() if n <= h and not math.isnan(x := number(now[ex]["DivRate"])))
        out[f"div_drop_{h}d"] = min(paid / price, 1.0)
    if ahead:
        ex = min(ahead, key=lambda ex: (ahead[ex], ex))
        out |= {
            "div_days_to_ex": float(ahead[ex]), "div_next_yield": min(number(now[ex]["DivRate"]) / price, 1.0),
            "div_special": float(now[ex]["CommSpecCode"] in ("1", "2", "3")),
        }  # fmt: skip
    past: dict[date, float] = {}
    for a in told:  # each ex-date that is over, as its own evening knew it
        if a["code"] == code and a["ExDate"] != "-":
            ex = date.fromisoformat(a["ExDate"])
            held = standing(told, code, first_session(ex))
            if first_session(ex) <= day and ex <= day and ex in held:
                past[ex] = number(held[ex]["DivRate"])
    if past:
        lately = [ex for ex in past if (day - ex).days < 365]
        total = 0.0
        for ex in lately:
            factors = rows.filter(pl.col("date") > ex)["AdjFactor"].to_list()
            total += 0.0 if math.isnan(past[ex]) else past[ex] * math.prod(factors)
        out["div_trailing_yield"] = min(total / price, 1.0)
        if lately:
            out["div_days_since_ex"] = float(len(trading_days(first_session(max(lately)), day)) - 1)
    return out


def first_session(day: date) -> date:
    return trading_days(day, day + timedelta(days=20))[0]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 300), data=st.data())
def test_every_column_is_what_plain_python_makes_of_what_the_evening_knew(seed: int, data: Any) -> None:
    told, quotes, rows = world(seed)
    made = features(told, quotes, rows)
    assert made.select("date", "code").equals(rows)
    for place in data.draw(st.lists(st.integers(0, rows.height - 1), min_size=25, max_size=25)):
        row = made.row(place, named=True)
        for name, want in by_hand(told, quotes, row["code"], row["date"]).items():
            got = math.nan if row[name] is None else float(row[name])
            assert got == pytest.approx(want, rel=1e-4, abs=1e-6, nan_ok=True), (name, row["code"], row["date"])


def test_the_random_announcements_reach_every_column_and_have_the_shape_of_the_raw_table() -> None:
    made = pl.concat(features(*world(seed)) for seed in range(4))
    assert {f.name for f in FEATURES if made[f.name].drop_nulls().n_unique() < 2} == set()
    CONTRACT.schema.validate(frame_of(world(1)[0]), lazy=True)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 300), place=st.integers(100, len(DAYS) - 1))
def test_what_comes_later_changes_nothing(seed: int, place: int) -> None:
    told, quotes, rows = world(seed)
    day = DAYS[place]
    upto = pl.col("date") <= day
    whole = features(told, quotes, rows).filter(upto)
    known = [a for a in told if a["available_at"] <= decision_instant(day)]
    assert features(known, quotes.filter(upto), rows.filter(upto)).equals(whole)
    noise = [a if a in known else a | {"DivRate": "999", "StatCode": "2", "ExDate": str(day)} for a in told]
    spoiled = quotes.with_columns(pl.when(upto).then("C").otherwise(1.0).alias("C"))
    assert features(noise, spoiled, rows).filter(upto).equals(whole)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 300))
def test_a_month_hangs_on_its_declared_history_alone(seed: int) -> None:
    told, quotes, rows = world(seed)
    of_month = pl.col("date").dt.month_start() == date(2020, 11, 1)
    back = {
        name: pl.select(pl.lit(date(2020, 11, 1)).dt.offset_by(f"-{n}mo")).item() for name, n in TABLE.reads.items()
    }
    whole = features(told, quotes, rows).filter(of_month)
    cut = features(
        [a for a in told if a["date"] >= back["fins_dividend"]],
        quotes.filter(pl.col("date") >= back["daily_quotes"]),
        rows.filter(of_month),
    )
    for name in whole.columns[2:]:
        one, two = (frame[name].cast(pl.Float64).to_numpy() for frame in (whole, cut))
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6, err_msg=name)


# --- one name by hand

EX = date(2019, 9, 27)


def one_name(*told: dict[str, Any]) -> dict[date, dict[str, Any]]:
    days = trading_days(date(2019, 6, 3), date(2019, 10, 31))
    quotes = pl.DataFrame({"date": days, "code": "13010", "C": 1000.0, "AdjFactor": 1.0})
    made = features(list(told), quotes, quotes.select("date", "code"))
    return {row["date"]: row for row in made.iter_rows(named=True)}


def test_the_evening_before_the_ex_date_knows_what_will_fall() -> None:
    days = one_name(announcement("13010", date(2019, 8, 1), "a", EX, 20))
    before = shift_trading_days(EX, -1)
    assert days[before]["div_drop_1d"] == pytest.approx(0.02) and days[before]["div_days_to_ex"] == 1
    assert days[shift_trading_days(EX, -2)]["div_drop_1d"] == 0 and days[EX]["div_drop_1d"] == 0
    assert days[EX]["div_trailing_yield"] == pytest.approx(0.02) and days[EX]["div_days_since_ex"] == 0
    assert days[date(2019, 7, 31)]["div_days_to_ex"] is None


def test_the_newest_of_a_dividend_counts_and_a_deletion_leaves_nothing() -> None:
    first = announcement("13010", date(2019, 8, 1), "a", EX, 20)
    days = one_name(first, announcement("13010", date(2019, 8, 20), "b", EX, 30, StatCode="2", CARefNo="a"))
    assert [days[date(2019, 8, n)]["div_next_yield"] for n in (19, 20)] == [pytest.approx(0.02), pytest.approx(0.03)]
    days = one_name(first, announcement("13010", date(2019, 8, 20), "b", EX, 20, StatCode="3", CARefNo="a"))
    assert days[date(2019, 8, 20)]["div_days_to_ex"] is None and days[EX]["div_trailing_yield"] is None


def test_a_revision_that_moves_the_ex_date_leaves_no_dividend_behind() -> None:
    moved = EX + timedelta(days=14)
    days = one_name(
        announcement("13010", date(2019, 8, 1), "a", EX, 20),
        announcement("13010", date(2019, 8, 20), "b", moved, 20, StatCode="2", CARefNo="a"),
    )
    assert days[shift_trading_days(EX, -1)]["div_drop_1d"] == 0
    assert days[shift_trading_days(moved, -1)]["div_drop_1d"] == pytest.approx(0.02)


def test_a_decision_under_a_number_of_its_own_replaces_the_forecast_for_its_ex_date() -> None:
    days = one_name(
        announcement("13010", date(2019, 8, 1), "a", EX, 20),
        announcement("13010", date(2019, 9, 2), "b", EX, 25, FRCode="1"),
    )
    assert days[shift_trading_days(EX, -1)]["div_drop_5d"] == pytest.approx(0.025)  # not 0.045


def test_an_undecided_rate_is_no_zero_and_a_zero_is_one() -> None:
    days = one_name(announcement("13010", date(2019, 8, 1), "a", EX, "-"))
    assert days[date(2019, 8, 20)]["div_next_yield"] is None and days[date(2019, 8, 20)]["div_days_to_ex"] > 0
    assert one_name(announcement("13010", date(2019, 8, 1), "a", EX, 0))[date(2019, 8, 20)]["div_next_yield"] == 0


def test_an_announcement_after_the_decision_counts_from_the_next_evening() -> None:
    days = one_name(announcement("13010", date(2019, 8, 1), "a", EX, 20, PubTime="18:30"))
    assert days[date(2019, 8, 1)]["div_days_to_ex"] is None and days[date(2019, 8, 2)]["div_days_to_ex"] is not None
