"""Earnings events: distances against plain Python over what an evening knew, and the faults of the seed system."""

import math
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, is_trading_day, shift_trading_days, trading_days
from atft_assets.features.earnings import COLUMNS, DOCUMENTS, FEATURES, TABLE, earnings_features
from atft_assets.jquants.endpoints import EARNINGS_DATE
from atft_assets.raw.earnings_date import CONTRACT
from atft_assets.raw.stamps import INSTANT
from tests.features.documents import discloser, document, frame_of
from tests.features.test_statements import CODES, holds_results, period_of

DAYS = trading_days(date(2017, 1, 4), date(2020, 12, 30))
YEAR = 2020 * 12 + 3


def announcement(code: str, told: date, day: date | None, period: str = "1Q", end: str = "0331") -> dict[str, Any]:
    return {
        "date": told, "SchDate": str(day or ""), "FQName": period, "FYE": end, "code": code, "CoName": "x",
        "CoNameEn": None, "available_at": EARNINGS_DATE.rule.at(told),
    }  # fmt: skip


def announced_frame(found: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {name: pl.String for name in ("SchDate", "FQName", "FYE", "code", "CoName", "CoNameEn")}
    schema = {"date": pl.Date, **schema, "available_at": INSTANT}
    return pl.DataFrame(found, schema=schema).unique(EARNINGS_DATE.key_columns, keep="first", maintain_order=True)


@cache
def world(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], pl.DataFrame]:
    """Names whose results are announced, moved, undecided, early, late or not at all."""
    rng = np.random.default_rng(seed)
    documents, told = [], []
    for i, code in enumerate(CODES):
        own = discloser(code, rng, range(2017, 2021), (3, 12)[i])
        documents += own
        for d in own:
            if not holds_results(d) or rng.random() < 0.2:
                continue
            day = d["date"] + timedelta(days=int(rng.choice([0, 0, 0, 1, 2, -3])))
            when = day - timedelta(days=int(rng.integers(12, 64)))
            end = f"0{i * 9 + 3}31"[-4:]
            while when < day:
                shown = day + timedelta(days=int(rng.choice([0, 0, 1, -4, 9])))
                told.append(announcement(code, when, None if rng.random() < 0.15 else shown, d["CurPerType"], end))
                when += timedelta(days=int(rng.integers(1, 60)))
    rows = pl.DataFrame({"date": DAYS}).join(pl.DataFrame({"code": CODES}), how="cross")
    return documents, told, rows


def features(documents: list[dict[str, Any]], told: list[dict[str, Any]], rows: pl.DataFrame) -> pl.DataFrame:
    return earnings_features(announced_frame(told).select(COLUMNS), frame_of(documents).select(DOCUMENTS), rows)


def evening(instant: Any) -> date:
    """The first trading day whose decision could use it."""
    day: date = instant.date()
    while not is_trading_day(day) or decision_instant(day) < instant:
        day += timedelta(days=1)
    return day


def between(a: date, b: date) -> int:
    """Trading days from a to b; a closed day stands for the next trading day."""
    return len(trading_days(a, b - timedelta(days=1)))


def first_results(documents: list[dict[str, Any]], code: str, day: date) -> list[dict[str, Any]]:
    known = sorted(
        (d for d in documents if d["code"] == code and d["available_at"] <= decision_instant(day) and holds_results(d)),
        key=lambda d: (d["available_at"], d["date"], d["DiscTime"], d["DiscNo"]),
    )
    found: list[dict[str, Any]] = []
    for d in known:
        if not found or period_of(d) > max(map(period_of, found)):
            found.append(d)
    return found


def by_hand(documents: Any, told: Any, code: str, day: date) -> dict[str, float]:
    out = dict.fromkeys((f.name for f in (*FEATURES, *TABLE.features[len(FEATURES) :])), math.nan)
    firsts = first_results(documents, code, day)
    since = between(evening(firsts[-1]["available_at"]), day) if firsts else 999
    since_known = since <= 260
    known = sorted(
        (a for a in told if a["code"] == code and a["available_at"] <= decision_instant(day)),
        key=lambda a: (a["available_at"], a["date"], a["SchDate"]),
    )
    ways: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for a in known:
        ways.setdefault((a["FYE"], a["FQName"]), []).append(a)
    live = []
    for way in ways.values():
        a = way[-1]
        if not a["SchDate"]:
            continue
        due = date.fromisoformat(a["SchDate"])
        early = [d for d in firsts if max(a["date"] + timedelta(days=1), due - timedelta(days=30)) <= d["date"] <= due]
        # a closed day stands for the next trading day
        at = between(day, due) if due >= day else -between(due, day)
        if at < 0 or early or between(evening(a["available_at"]), day) > 180:
            continue
        before = way[-2] if len(way) > 1 and (a["date"] - way[-2]["date"]).days <= 180 else None
        moved = 0
        if before and before["SchDate"]:
            old = date.fromisoformat(before["SchDate"])
            moved = between(old, due) if due >= old else -between(due, old)
        live.append((at, -a["available_at"].timestamp(), max(min(moved, 20), -20)))
    to = min(live)[0] if live else None
    if to is not None:
        out |= {"e_days_to": float(to), "e_day_moved": float(min(live)[2])}
    if since_known:
        out["e_days_since"] = float(since)
    if to is not None or since_known:
        out["e_is_e0"] = float(to == 0 or since == 0)
    fresh = bool(known) and (day - known[-1]["date"]).days <= 180
    for w in (1, 3, 5):
        if fresh:
            out[f"e_win_pre{w}"] = float(to is not None and 1 <= to <= w)
        if since_known:
            out[f"e_win_post{w}"] = float(1 <= since <= w)
    return out | {"is_earnings_valid": float(fresh)}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 500), data=st.data())
def test_every_column_is_what_plain_python_makes_of_what_the_evening_knew(seed: int, data: Any) -> None:
    documents, told, rows = world(seed)
    made = features(documents, told, rows)
    assert made.select("date", "code").equals(rows)
    for place in data.draw(st.lists(st.integers(0, rows.height - 1), min_size=40, max_size=40)):
        row = made.row(place, named=True)
        expected = by_hand(documents, told, row["code"], row["date"])
        for name, want in expected.items():
            got = math.nan if row[name] is None else float(row[name])
            assert got == pytest.approx(want, nan_ok=True), (name, row["code"], row["date"])


def test_the_random_names_reach_every_column_and_the_shape_is_that_of_the_raw_table() -> None:
    made = pl.concat(features(*world(seed)) for seed in range(6))
    assert {f.name for f in FEATURES if made[f.name].drop_nulls().n_unique() < 2} == set()
    CONTRACT.schema.validate(announced_frame(world(1)[1]), lazy=True)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 500), place=st.integers(200, len(DAYS) - 1))
def test_what_comes_later_changes_nothing(seed: int, place: int) -> None:
    documents, told, rows = world(seed)
    day = DAYS[place]
    upto = pl.col("date") <= day
    whole = features(documents, told, rows).filter(upto)
    now = decision_instant(day)
    known = [d for d in documents if d["available_at"] <= now], [a for a in told if a["available_at"] <= now]
    assert features(*known, rows.filter(upto)).equals(whole)
    moved = [a if a["available_at"] <= now else {**a, "SchDate": str(day)} for a in told]
    gone = [d if d["available_at"] <= now else {**d, "CurFYEn": "2031-03-31"} for d in documents]
    assert features(gone, moved, rows).filter(upto).equals(whole)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 500), place=st.integers(900, len(DAYS) - 25))
def test_a_month_hangs_on_its_declared_history_alone(seed: int, place: int) -> None:
    documents, told, rows = world(seed)
    month = DAYS[place].replace(day=1)
    back = {name: pl.select(pl.lit(month).dt.offset_by(f"-{n}mo")).item() for name, n in TABLE.reads.items()}
    of_month = pl.col("date").dt.month_start() == month
    cut = features(
        [d for d in documents if d["date"] >= back["fins_summary"]],
        [a for a in told if a["date"] >= back["earnings_date"]],
        rows.filter(of_month),
    )
    assert cut.equals(features(documents, told, rows).filter(of_month))


# --- one name by hand


def one_name(documents: list[dict[str, Any]], told: list[dict[str, Any]]) -> dict[date, dict[str, Any]]:
    rows = pl.DataFrame({"date": trading_days(date(2019, 6, 3), date(2019, 10, 31)), "code": "13010"})
    return {row["date"]: row for row in features(documents, told, rows).iter_rows(named=True)}


def test_days_before_the_results_are_no_constant_zero() -> None:
    """With the calendar of the evening before, and an early clock, it could only be 0: every window was empty."""
    due = date(2019, 8, 9)
    days = one_name([document("13010", due, "1Q", YEAR, NP=1)], [announcement("13010", date(2019, 7, 1), due)])
    assert days[date(2019, 6, 28)]["e_days_to"] is None and days[date(2019, 6, 28)]["is_earnings_valid"] == 0
    before = [shift_trading_days(due, -n) for n in range(1, 7)]
    assert [days[day]["e_days_to"] for day in before] == [1, 2, 3, 4, 5, 6]
    assert [days[day]["e_win_pre3"] for day in before] == [1, 1, 1, 0, 0, 0]
    assert days[due]["e_days_to"] is None and days[due]["e_is_e0"] == 1 and days[due]["e_days_since"] == 0
    after = [shift_trading_days(due, n) for n in range(1, 7)]
    assert [days[day]["e_win_post5"] for day in after] == [1, 1, 1, 1, 1, 0]
    assert days[after[0]]["e_win_pre5"] == 0


def test_late_results_are_still_due_on_their_evening() -> None:
    due = date(2019, 8, 9)
    late = document("13010", due, "1Q", YEAR, clock="19:00:00", NP=1)
    days = one_name([late], [announcement("13010", date(2019, 7, 1), due)])
    assert days[due]["e_days_to"] == 0 and days[due]["e_is_e0"] == 1 and days[due]["e_days_since"] is None
    assert days[shift_trading_days(due, 1)]["e_days_since"] == 0


def test_results_that_come_a_day_early_are_not_due_any_more() -> None:
    due, early = date(2019, 8, 9), date(2019, 8, 8)
    days = one_name([document("13010", early, "1Q", YEAR, NP=1)], [announcement("13010", date(2019, 7, 1), due)])
    assert days[early]["e_days_to"] is None and days[early]["e_win_pre1"] == 0 and days[early]["e_days_since"] == 0
    assert days[shift_trading_days(early, -1)]["e_days_to"] == 2


def test_a_day_that_moves_counts_from_its_publication() -> None:
    told = [
        announcement("13010", date(2019, 7, 1), date(2019, 8, 9)),
        announcement("13010", date(2019, 7, 22), date(2019, 8, 14)),
        announcement("13010", date(2019, 8, 5), None),
    ]
    days = one_name([], told)
    assert days[date(2019, 7, 19)]["e_days_to"] == 15 and days[date(2019, 7, 19)]["e_day_moved"] == 0
    assert days[date(2019, 7, 22)]["e_days_to"] == 16 and days[date(2019, 7, 22)]["e_day_moved"] == 2
    assert days[date(2019, 8, 5)]["e_days_to"] is None and days[date(2019, 8, 5)]["e_win_pre5"] == 0


def test_a_correction_is_no_announcement_of_results() -> None:
    documents = [
        document("13010", date(2019, 8, 9), "1Q", YEAR, NP=1),
        document("13010", date(2019, 9, 2), "1Q", YEAR, number="z", NP=2),
        document("13010", date(2019, 9, 3), "FY", YEAR - 12, number="y", NP=2),
        document("13010", date(2019, 9, 4), "FY", YEAR, kind="EarnForecastRevision", FNP=2),
    ]
    days = one_name(documents, [])
    assert days[date(2019, 9, 5)]["e_days_since"] == 18 and days[date(2019, 9, 5)]["e_win_post5"] == 0
    assert days[date(2019, 9, 5)]["e_win_pre5"] is None and days[date(2019, 9, 5)]["e_is_e0"] == 0


def test_a_table_without_any_record_is_blank() -> None:
    days = one_name([], [])
    assert all(value is None for row in days.values() for name, value in row.items() if name.startswith("e_"))
