"""Futures: every column against plain Python over the contracts of the day before; rolls, zero prices, the clock."""

import math
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, previous_trading_day, shift_trading_days, trading_days
from atft_assets.features.futures import COLUMNS, FEATURES, PRODUCTS, TABLE, futures_features
from atft_assets.jquants.endpoints import FUTURES
from atft_assets.raw.futures import CONTRACT
from tests.features.synthetic import topix
from tests.features.test_options import second_friday

DAYS = trading_days(date(2019, 1, 4), date(2019, 12, 30))
MARKET = topix(len(DAYS), 7, first=DAYS[0]).select("date", "C")


def contract(day: date, product: str, last: date, price: float, **own: Any) -> dict[str, Any]:
    row: dict[str, Any] = {name: 0.0 for name in CONTRACT.schema.columns}
    number = list(PRODUCTS.values()).index(product) if product in PRODUCTS.values() else 9
    return row | {
        "date": day, "code": f"16{number}{last:%y%m}00"[:9].ljust(9, "0"), "ProdCat": product, "CM": f"{last:%Y-%m}",
        "MO": "", "MH": "", "ML": "", "MC": "", "EO": "", "EH": "", "EL": "", "EC": "", "EmMrgnTrgDiv": "002",
        "LTD": str(last), "SQD": str(last), "CCMFlag": "0", "Settle": price, "C": price,
        "available_at": FUTURES.rule.at(day),
    } | own  # fmt: skip


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: column.dtype.type for name, column in CONTRACT.schema.columns.items()})


def expiries(day: date) -> list[date]:
    found, month = [], day.year * 12 + day.month - 1
    while len(found) < 3:
        if (
            month % 12 in (2, 5, 8, 11)
            and (last := previous_trading_day(second_friday(month // 12, month % 12 + 1))) >= day
        ):
            found.append(last)
        month += 1
    return found


@cache
def world(seed: int) -> list[dict[str, Any]]:
    """Four products with three contracts each: rolls a few days early, missing marks, prices and nights."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    level = dict.fromkeys(PRODUCTS.values(), 1500.0)
    for day in DAYS:
        marked = rng.random() < 0.9
        for product in level:
            level[product] *= math.exp(rng.normal(0, 0.01))
            central = int((expiries(day)[0] - day).days < 4)
            for n, last in enumerate(expiries(day)):
                price = level[product] * (1 + rng.normal(0.002, 0.001) * n)
                night = price * math.exp(rng.normal(0, 0.005))
                own: dict[str, Any] = {
                    "Settle": float(rng.choice([price, 0.0], p=[0.97, 0.03])), "C": price * 1.001,
                    "CCMFlag": "1" if marked and n == central else "0", "Vo": float(rng.integers(1, 1000)),
                    "OI": float(rng.integers(1, 1000)),
                }  # fmt: skip
                if rng.random() < 0.9:
                    own |= {
                        "EC": str(night),
                        "EH": str(night * rng.uniform(1, 1.02)),
                        "EL": str(night * 0.99),
                        "EO": str(night),
                    }
                elif rng.random() < 0.5:
                    own |= {"EC": "0.0", "EH": "0.0", "EL": "0.0", "EO": "0.0"}
                rows.append(contract(day, product, last, price, **own))
                if rng.random() < 0.02:
                    rows.append(rows[-1] | {"EmMrgnTrgDiv": "001", "Settle": 9.0, "Vo": 1e9, "OI": 1e9})
        rows.append(contract(day, "NK225MF", expiries(day)[0], 9.0, Vo=1e9, OI=1e9, CCMFlag="1"))
    return rows


def features(rows: list[dict[str, Any]], days: list[date] = DAYS, market: pl.DataFrame = MARKET) -> pl.DataFrame:
    return futures_features(frame_of(rows).select(COLUMNS), market, pl.DataFrame({"date": days}))


def price_of(row: dict[str, Any] | None) -> float:
    if row is None:
        return math.nan
    return row["Settle"] if row["Settle"] > 0 else row["C"] if row["C"] > 0 else math.nan


def number(text: str) -> float:
    return float(text) if text and float(text) > 0 else math.nan


def ln(a: float, b: float) -> float:
    return math.log(a / b) if a > 0 and b > 0 else math.nan


def of_product(rows: list[dict[str, Any]], product: str) -> dict[date, dict[str, float]]:
    """What each day says of a product, without windows."""
    regular = [r for r in rows if r["EmMrgnTrgDiv"] == "002"]
    by_key = {(r["date"], r["code"]): r for r in regular}
    every = sorted({r["date"] for r in regular})
    found: dict[date, dict[str, float]] = {}
    for day in every:
        own = [r for r in regular if r["date"] == day and r["ProdCat"] == product]
        if not own:
            continue
        front = sorted(own, key=lambda r: (r["CCMFlag"] != "1", -r["Vo"], r["code"]))[0]
        earlier = [one for one in every if one < day]
        before = price_of(by_key.get((earlier[-1], front["code"]))) if earlier else math.nan
        later = sorted((r for r in own if r["LTD"] > front["LTD"]), key=lambda r: r["LTD"])
        carry = math.nan
        if later:
            apart = (date.fromisoformat(later[0]["LTD"]) - date.fromisoformat(front["LTD"])).days
            carry = float(np.clip(ln(price_of(later[0]), price_of(front)) * 365 / apart, -1, 1))
        found[day] = {
            "f": price_of(front), "ret": price_of(front) / before - 1, "night": number(front["EC"]) / before - 1,
            "range": ln(number(front["EH"]), number(front["EL"])), "carry": carry, "oi": sum(r["OI"] for r in own),
            "vo": sum(r["Vo"] for r in own),
        }  # fmt: skip
    return found


def by_hand(rows: list[dict[str, Any]], day: date) -> dict[str, float]:
    before = previous_trading_day(day)
    out: dict[str, float] = {}
    moved: dict[str, dict[int, float]] = {}
    held: dict[str, dict[date, dict[str, float]]] = {}
    for name, product in PRODUCTS.items():
        held[name] = {one: value for one, value in of_product(rows, product).items() if one <= before}
        past = list(held[name].values())
        rets = np.array([one["ret"] for one in past])
        moved[name] = {w: float(np.prod(1 + rets[-w:]) - 1) if len(past) >= w else math.nan for w in (5, 20)}
        now = past[-1]
        five = ln(now["oi"], past[-6]["oi"]) if len(past) > 5 else math.nan
        if name in ("topix", "nikkei"):
            twenty = float(np.mean([one["vo"] for one in past[-20:]])) if len(past) >= 20 else math.nan
            out |= {
                f"fut_{name}_ret_1d": now["ret"], f"fut_{name}_night_ret": now["night"],
                f"fut_{name}_night_range": now["range"], f"fut_{name}_carry": now["carry"],
                f"fut_{name}_oi_chg_5d": five, f"fut_{name}_vol_chg_20": ln(now["vo"], twenty),
                f"fut_{name}_price_oi_5d": moved[name][5] * float(np.sign(five)),
            }  # fmt: skip
    close = dict(MARKET.iter_rows())
    basis = np.array([ln(value["f"], close[one]) for one, value in held["topix"].items()])
    out["fut_topix_basis"] = basis[-1]
    last = basis[-60:]
    out["fut_topix_basis_z"] = (basis[-1] - last.mean()) / last.std(ddof=1) if len(last) == 60 else math.nan
    out["fut_nikkei_topix_5d"] = moved["nikkei"][5] - moved["topix"][5]
    out |= {"fut_bond_ret_5d": moved["bond"][5], "fut_bond_ret_20d": moved["bond"][20], "fut_vi_chg_5d": moved["vi"][5]}
    return out


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 20), places=st.lists(st.integers(2, 110), min_size=2, max_size=2))
def test_every_column_is_what_plain_python_makes_of_the_contracts_of_the_day_before(
    seed: int, places: list[int]
) -> None:
    rows = [r for r in world(seed) if r["date"] <= DAYS[max(places)]]
    made = {row["date"]: row for row in features(rows).iter_rows(named=True)}
    for place in places:
        row, expected = made[DAYS[place]], by_hand(rows, DAYS[place])
        for f in FEATURES:
            got = math.nan if row[f.name] is None else row[f.name]
            assert got == pytest.approx(expected[f.name], rel=1e-4, abs=1e-5, nan_ok=True), (f.name, DAYS[place])
        assert row["is_fut_valid"] == int(not math.isnan(expected["fut_topix_ret_1d"]))


def test_the_random_contracts_reach_every_column_and_have_the_shape_of_the_raw_table() -> None:
    made = features(world(1))
    assert {f.name for f in FEATURES if made[f.name].drop_nulls().n_unique() < 50} == set()
    CONTRACT.schema.validate(frame_of(world(1)), lazy=True)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 20), place=st.integers(25, len(DAYS) - 1))
def test_what_comes_later_changes_nothing(seed: int, place: int) -> None:
    """The futures of the evening's own day come at 03:00 of the next, its night session among them."""
    rows, day = world(seed), DAYS[place]
    upto = pl.col("date") <= day
    whole = features(rows).filter(upto)
    known = [r for r in rows if r["available_at"] <= decision_instant(day)]
    assert max(r["date"] for r in known) == DAYS[place - 1]
    assert features(known, market=MARKET.filter(upto)).filter(upto).equals(whole)
    frame = frame_of(rows).select(COLUMNS)
    late = pl.col("date") >= day
    noise = frame.with_columns(
        pl.when(late).then(7.0).otherwise("Settle").alias("Settle"),
        pl.when(late).then(pl.lit("0")).otherwise("CCMFlag").alias("CCMFlag"),
        pl.when(late).then(9.0).otherwise("OI").alias("OI"),
    )
    spoiled = MARKET.with_columns(pl.when(~upto).then(1.0).otherwise("C").alias("C"))
    assert futures_features(noise, spoiled, MARKET.select("date")).filter(upto).equals(whole)


def test_a_month_hangs_on_its_declared_history_alone() -> None:
    rows = world(3)
    days = [day for day in DAYS if day.month == 12]
    back = pl.select(pl.lit(date(2019, 12, 1)).dt.offset_by(f"-{TABLE.reads['futures']}mo")).item()
    cut = features([r for r in rows if r["date"] >= back], days, MARKET.filter(pl.col("date") >= back))
    whole = features(rows).filter(pl.col("date").is_in(days))
    for name in whole.columns[1:]:
        one, two = whole[name].cast(pl.Float64).to_numpy(), cut[name].cast(pl.Float64).to_numpy()
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5, err_msg=name)


# --- by hand

DAY = date(2019, 3, 12)
BEFORE, NEXT = previous_trading_day(DAY), shift_trading_days(DAY, 1)
NEAR, FAR = date(2019, 3, 13), date(2019, 6, 12)


def of_next(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return features(rows, [DAY, NEXT]).row(1, named=True)


def test_a_roll_is_no_return() -> None:
    """The central month changes from one day to the next, the two are twenty points apart, and neither moves."""
    rows = [
        contract(day, "TOPIXF", last, price, CCMFlag="1" if (last == FAR) == (day == DAY) else "0")
        for day in (BEFORE, DAY)
        for last, price in ((NEAR, 1500.0), (FAR, 1520.0))
    ]
    assert of_next(rows)["fut_topix_ret_1d"] == pytest.approx(0.0)
    assert of_next(rows)["fut_topix_basis"] == pytest.approx(
        math.log(1520 / MARKET.filter(pl.col("date") == DAY)["C"][0]), abs=1e-6
    )


def test_the_evening_does_not_know_the_futures_of_its_day() -> None:
    rows = [contract(day, "TOPIXF", FAR, price) for day, price in ((BEFORE, 1000.0), (DAY, 1100.0))]
    made = features(rows, [DAY, NEXT])
    assert made["fut_topix_ret_1d"].to_list() == [None, pytest.approx(0.1)]
    assert made["is_fut_valid"].to_list() == [0, 1]


def test_a_price_of_zero_is_no_price_and_a_night_that_was_not_is_no_return() -> None:
    rows = [contract(BEFORE, "NK225F", FAR, 1000.0), contract(DAY, "NK225F", FAR, 0.0, Vo=5.0, EC="0.0", EH="", EL="")]
    row = of_next(rows)
    assert row["fut_nikkei_ret_1d"] is None and row["fut_nikkei_night_ret"] is None
    assert row["fut_nikkei_night_range"] is None
    night = of_next([rows[0], contract(DAY, "NK225F", FAR, 1100.0, EC="1050.0", EH="1060.0", EL="1040.0")])
    assert night["fut_nikkei_night_ret"] == pytest.approx(0.05)
    assert night["fut_nikkei_night_range"] == pytest.approx(math.log(1060 / 1040))


def test_the_carry_is_a_year_of_what_lies_between_two_contracts() -> None:
    rows = [
        contract(DAY, "TOPIXF", last, price, CCMFlag=mark)
        for last, price, mark in ((NEAR, 1000.0, "1"), (FAR, 990.0, "0"))
    ]
    assert of_next(rows)["fut_topix_carry"] == pytest.approx(math.log(0.99) * 365 / (FAR - NEAR).days)


def test_products_that_are_not_there_leave_the_others_whole() -> None:
    rows = [r for r in world(2) if r["ProdCat"] in ("TOPIXF", "NK225F")]
    made, whole = features(rows), features(world(2))
    gone = {"fut_bond_ret_5d", "fut_bond_ret_20d", "fut_vi_chg_5d"}
    assert all(made[name].null_count() == made.height for name in gone)
    assert made.drop(gone).equals(whole.drop(gone))
    assert features([])["is_fut_valid"].sum() == 0


def test_what_is_older_than_a_few_trading_days_is_gone() -> None:
    rows = [contract(day, "TOPIXF", FAR, 1000.0) for day in (previous_trading_day(BEFORE), BEFORE)]
    days = [DAY + timedelta(days=n) for n in range(4)]
    assert features(rows, days)["is_fut_valid"].to_list() == [1, 1, 1, 0]
