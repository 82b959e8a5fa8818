"""Options: every column against NumPy over the chain of the day before, and the faults of the seed system."""

import math
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from atft_assets.calendar import decision_instant, previous_trading_day, shift_trading_days, trading_days
from atft_assets.features.options import COLUMNS, FEATURES, TABLE, option_features
from atft_assets.jquants.endpoints import OPTIONS_225
from atft_assets.raw.options_225 import CONTRACT
from tests.features.synthetic import topix

DAYS = trading_days(date(2019, 1, 4), date(2020, 9, 30))
FEW = 35  # days of the worlds in which no window is long
MARKET = topix(len(DAYS), 5, first=DAYS[0]).select("date", "C")


def second_friday(year: int, month: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 7)


def expiries(day: date, count: int = 3) -> list[date]:
    """Last trading days of the next contracts: the day before the second Friday."""
    found, month = [], day.year * 12 + day.month - 1
    while len(found) < count:
        last = previous_trading_day(second_friday(month // 12, month % 12 + 1))
        if last >= day:
            found.append(last)
        month += 1
    return found


def contract(day: date, last: date, strike: float, kind: str, **own: Any) -> dict[str, Any]:
    row = {name: 0.0 for name in CONTRACT.schema.columns}
    return row | {
        "date": day, "code": f"1{kind}{last:%y%m}{int(strike) // 125 % 1000:03}"[:9].ljust(9, "0"),
        "CM": f"{last:%Y-%m}", "EO": "", "EH": "", "EL": "", "EC": "", "EmMrgnTrgDiv": "002", "LTD": str(last),
        "SQD": str(last), "Strike": strike,
        "PCDiv": kind, "UnderPx": 20_000.0, "IV": 20.0, "available_at": OPTIONS_225.rule.at(day),
    } | own  # fmt: skip


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {name: column.dtype.type for name, column in CONTRACT.schema.columns.items()}
    return pl.DataFrame(rows, schema=schema)


@cache
def world(seed: int, length: int = FEW) -> list[dict[str, Any]]:
    """Chains with a smile, clipped volatilities, extra settlements, contracts without volume or price."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    s, level = 20_000.0, 0.2
    for day in DAYS[:length]:
        s *= math.exp(rng.normal(0, 0.01))
        level = float(np.clip(level * math.exp(rng.normal(0, 0.05)), 0.1, 0.6))
        for n, last in enumerate(expiries(day)):
            for k in np.arange(round(s * 0.86 / 250) * 250, s * 1.14, 250.0 * (1 + n)):
                for kind in "12":
                    iv = 100 * (level + 0.02 * n + 0.5 * (k / s - 1) ** 2 - 0.2 * (k / s - 1) + rng.normal(0, 0.003))
                    iv = float(rng.choice([iv, 1.0, 320.0], p=[0.94, 0.03, 0.03]))
                    own = {
                        "IV": iv, "UnderPx": s, "Vo": float(rng.integers(0, 50)), "OI": float(rng.integers(1, 500)),
                        "Va": float(rng.integers(0, 10**6)),
                    }  # fmt: skip
                    rows.append(contract(day, last, float(k), kind, **own))
                    if rng.random() < 0.02:
                        rows.append(rows[-1] | {"EmMrgnTrgDiv": "001", "IV": 99.0, "Vo": 1e6, "OI": 1e6})
    return rows


def features(rows: list[dict[str, Any]], days: list[date] | None = None, market: pl.DataFrame = MARKET) -> pl.DataFrame:
    frame = pl.DataFrame({"date": days if days is not None else DAYS[: FEW + 5]}, schema={"date": pl.Date})
    return option_features(frame_of(rows).select(COLUMNS), market, frame)


def day_by_hand(rows: list[dict[str, Any]], day: date) -> dict[str, float]:
    """What the chain of one day says, without windows."""
    chain = [r for r in rows if r["date"] == day and r["EmMrgnTrgDiv"] == "002"]
    total = {
        name: {kind: sum(r[name] for r in chain if r["PCDiv"] == kind) for kind in "12"} for name in ("OI", "Vo", "Va")
    }
    usable = [
        r | {"tau": (date.fromisoformat(r["LTD"]) - day).days, "m": r["Strike"] / r["UnderPx"], "v": r["IV"] / 100}
        for r in chain
        if 1.0 < r["IV"] < 320.0
    ]
    usable = [r for r in usable if r["tau"] >= 3]
    taus = sorted({r["tau"] for r in usable if abs(math.log(r["m"])) <= 0.02})
    atm = {
        t: float(np.median([r["v"] for r in usable if r["tau"] == t and abs(math.log(r["m"])) <= 0.02])) for t in taus
    }
    out = {"_oi": sum(total["OI"].values()), "_vo": sum(total["Vo"].values()), "_va": sum(total["Va"].values())}
    out["opt_oi_put_call"] = math.log(total["OI"]["1"] / total["OI"]["2"])
    out["opt_vol_put_call"] = math.log((total["Vo"]["1"] + 1) / (total["Vo"]["2"] + 1))
    out["opt_iv_atm_near"], out["opt_iv_atm_next"] = atm[taus[0]], atm[taus[1]] if taus[1:] else math.nan
    for days in (30, 60):
        variance = np.interp(days, taus, [atm[t] ** 2 * t for t in taus])
        if not taus[0] <= days <= taus[-1]:
            edge = taus[0] if days < taus[0] else taus[-1]
            variance = atm[edge] ** 2 * days
        out[f"opt_iv_cmat_{days}d"] = math.sqrt(variance / days)
    out["opt_term_slope_30_60"] = out["opt_iv_cmat_60d"] - out["opt_iv_cmat_30d"]
    wings = [r for r in usable if r["tau"] == taus[0] and ((r["PCDiv"] == "1") == (r["m"] < 1))]

    def near(kind: str, place: float, width: float, where: str) -> float:
        held = [(max(0.0, 1 - abs(r[where] - place) / width), r["v"]) for r in wings if r["PCDiv"] == kind]
        weights = sum(w for w, _ in held)
        return sum(w * v for w, v in held) / weights if weights else math.nan

    for r in wings:
        sd = r["v"] * math.sqrt(r["tau"] / 365)
        r["away"], r["d1"] = r["m"] - 1, -math.log(r["m"]) / sd + sd / 2
    out["opt_skew_5pct"] = near("1", -0.05, 0.025, "away") - near("2", 0.05, 0.025, "away")
    quarter = norm.ppf(0.75)
    out["opt_rr25"] = near("1", quarter, 0.3, "d1") - near("2", -quarter, 0.3, "d1")
    out["opt_smile_width"] = float(np.std([r["v"] for r in wings if abs(r["away"]) <= 0.1], ddof=1))
    out["_near"] = float((day + timedelta(days=taus[0])).toordinal())
    return out


def by_hand(rows: list[dict[str, Any]], day: date) -> dict[str, float]:
    before = previous_trading_day(day)
    days = DAYS[: DAYS.index(before) + 1][-253:]
    found = [day_by_hand(rows, one) for one in days]
    out, n = dict(found[-1]), len(found)
    out["opt_days_to_expiry"] = max(out["_near"] - day.toordinal(), 0.0)
    iv = np.array([one["opt_iv_cmat_30d"] for one in found])
    closes = MARKET.filter(pl.col("date") <= before)["C"].to_numpy()[-21:]
    rv = float(np.std(closes[1:] / closes[:-1] - 1, ddof=1)) * math.sqrt(252) if len(closes) == 21 else math.nan
    out |= {"opt_vrp": iv[-1] - rv, "opt_vrp_ratio": math.log(iv[-1] / rv)}
    out["opt_iv_shock"] = (iv[-1] - iv[-20:].mean()) / iv[-20:].std(ddof=1) if n >= 20 else math.nan
    for w in (60, 252):
        out[f"opt_iv_pctrank_{w}"] = float((iv[-w:] < iv[-1]).sum() / (w - 1)) if n >= w else math.nan
    out["opt_iv_chg_5d"] = math.log(iv[-1] / iv[-6]) if n >= 6 else math.nan
    pcr = [one["opt_vol_put_call"] for one in found]
    out["opt_pcr_mom5"] = pcr[-1] - float(np.mean(pcr[-5:])) if n >= 5 else math.nan
    for name, key in (("opt_vol_chg_20", "_vo"), ("opt_value_chg_20", "_va")):
        held = [one[key] for one in found][-20:]
        out[name] = math.log(held[-1] / float(np.mean(held))) if n >= 20 else math.nan
    out["opt_oi_chg_1d"] = math.log(out["_oi"] / found[-2]["_oi"]) if n >= 2 else math.nan
    return {name: value for name, value in out.items() if not name.startswith("_")}


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 50), places=st.lists(st.integers(1, FEW), min_size=3, max_size=3))
def test_every_column_is_what_numpy_makes_of_the_chain_of_the_day_before(seed: int, places: list[int]) -> None:
    rows = world(seed)
    made = {row["date"]: row for row in features(rows).iter_rows(named=True)}
    for place in places:
        row, expected = made[DAYS[place]], by_hand(rows, DAYS[place])
        for f in FEATURES:
            got = math.nan if row[f.name] is None else row[f.name]
            assert got == pytest.approx(expected[f.name], rel=1e-4, abs=1e-5, nan_ok=True), (f.name, DAYS[place])
        assert row["is_opt_mkt_valid"] == 1


def long_chain() -> list[dict[str, Any]]:
    """Two strikes and kinds a day for a year and more."""
    rng = np.random.default_rng(1)
    return [
        contract(day, last, k, kind, IV=float(20 + rng.normal(0, 3)), Vo=1.0, OI=1.0, Va=1.0)
        for day in DAYS[:300]
        for last in expiries(day, 2)
        for k in (19_750.0, 20_000.0)
        for kind in "12"
    ]


def test_the_rank_within_a_year_is_a_share_and_not_a_distance_to_the_median() -> None:
    rows = long_chain()
    made = {row["date"]: row for row in features(rows, DAYS[:305]).iter_rows(named=True)}
    for place in (254, 280, 300):
        expected = by_hand(rows, DAYS[place])
        for name in ("opt_iv_pctrank_60", "opt_iv_pctrank_252"):
            assert not math.isnan(expected[name])
            assert made[DAYS[place]][name] == pytest.approx(expected[name], abs=1e-6)
    assert made[DAYS[251]]["opt_iv_pctrank_252"] is None


def test_the_chain_has_the_shape_of_the_raw_table() -> None:
    held = frame_of(world(1)).unique(OPTIONS_225.key_columns)
    CONTRACT.schema.validate(held, lazy=True)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 50), place=st.integers(22, FEW - 1))
def test_what_comes_later_changes_nothing(seed: int, place: int) -> None:
    """The options of the evening's own day are later: they come at 03:00 of the next. The index of the day is not."""
    rows, day = world(seed), DAYS[place]
    upto = pl.col("date") <= day
    whole = features(rows).filter(upto)
    known = [r for r in rows if r["available_at"] <= decision_instant(day)]
    assert {r["date"] for r in known} == set(DAYS[:place])
    assert features(known, market=MARKET.filter(upto)).filter(upto).equals(whole)
    noise = [r if r in known else r | {"IV": 77.0, "Vo": 9.0, "OI": 9.0, "LTD": "2031-01-01"} for r in rows]
    spoiled = MARKET.with_columns(pl.when(~upto).then(1.0).otherwise("C").alias("C"))
    assert features(noise, market=spoiled).filter(upto).equals(whole)


def test_a_month_hangs_on_its_declared_history_alone() -> None:
    rows = long_chain()
    month = DAYS[280].replace(day=1)
    back = pl.select(pl.lit(month).dt.offset_by(f"-{TABLE.reads['options_225']}mo")).item()
    days = [day for day in DAYS if day.replace(day=1) == month]
    cut = features([r for r in rows if r["date"] >= back], days, MARKET.filter(pl.col("date") >= back))
    whole = features(rows, DAYS[:305]).filter(pl.col("date").is_in(days))
    for name in whole.columns[1:]:
        one, two = whole[name].cast(pl.Float64).to_numpy(), cut[name].cast(pl.Float64).to_numpy()
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5, err_msg=name)


# --- one chain by hand

DAY = date(2019, 3, 15)
NEXT = shift_trading_days(DAY, 1)


def chain(ivs: dict[tuple[int, float, str], float], **own: Any) -> list[dict[str, Any]]:
    """A day of contracts: (days to expiry, K/S, kind) to IV in percent."""
    return [
        contract(DAY, DAY + timedelta(days=days), 20_000 * m, kind, IV=iv, Vo=1.0, OI=1.0, **own)
        for (days, m, kind), iv in ivs.items()
    ]


def of_next(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return features(rows, [DAY, NEXT]).row(1, named=True)


def test_the_evening_does_not_know_the_options_of_its_day() -> None:
    """The seed system stamped them 15:10 of the same day; they come at 03:00 of the next."""
    rows = chain({(20, 1.0, "1"): 20.0, (50, 1.0, "2"): 20.0})
    assert rows[0]["available_at"] == datetime.fromisoformat("2019-03-16T03:00:00+09:00")
    made = features(rows, [DAY, NEXT])
    assert made["opt_iv_cmat_30d"].to_list() == [None, pytest.approx(0.2)]
    assert made["is_opt_mkt_valid"].to_list() == [0, 1]


def test_volatility_between_expiries_is_interpolated_in_total_variance() -> None:
    rows = chain({(20, 1.0, "1"): 10.0, (50, 1.0, "1"): 30.0})
    total = (0.01 * 20 * 20 + 0.09 * 50 * 10) / 30  # a third of the way from 20 to 50 days
    assert of_next(rows)["opt_iv_cmat_30d"] == pytest.approx(math.sqrt(total / 30))
    assert of_next(rows)["opt_iv_cmat_30d"] != pytest.approx(0.1 * 2 / 3 + 0.3 / 3, abs=0.01)  # linear in volatility
    assert of_next(rows)["opt_iv_cmat_60d"] == pytest.approx(0.3)  # beyond the last: the last


def test_far_strikes_do_not_enter_the_volatility_at_the_money() -> None:
    rows = chain({(20, 1.0, "1"): 20.0, (50, 1.0, "2"): 20.0, **{(20, m, "2"): 60.0 for m in (1.1, 1.12, 1.15)}})
    assert of_next(rows)["opt_iv_cmat_30d"] == pytest.approx(0.2)


def test_the_skew_is_of_options_out_of_the_money() -> None:
    """The seed system filtered S/K for K/S, and took the options in the money."""
    out = {(20, 1.0, "1"): 20.0, (20, 0.95, "1"): 27.0, (20, 1.05, "2"): 18.0}
    inside = {(20, 1.05, "1"): 90.0, (20, 0.95, "2"): 90.0}
    assert of_next(chain(out | inside))["opt_skew_5pct"] == pytest.approx(0.09)
    assert of_next(chain(out | inside))["opt_smile_width"] < 0.2


def test_clipped_volatilities_are_no_numbers() -> None:
    real = {(20, 1.0, "1"): 20.0, (50, 1.0, "2"): 20.0}
    for clip in (1.0, 320.0):
        rows = chain(real | {(20, 1.01, "1"): clip, (20, 0.99, "2"): clip, (20, 0.95, "1"): clip})
        assert of_next(rows)["opt_iv_atm_near"] == pytest.approx(0.2) and of_next(rows)["opt_skew_5pct"] is None
        gone = of_next(chain(dict.fromkeys(real, clip)))
        assert gone["opt_iv_cmat_30d"] is None and gone["is_opt_mkt_valid"] == 0
        assert gone["opt_oi_put_call"] == pytest.approx(0.0)  # the contracts are there


def test_puts_are_one_and_calls_are_two() -> None:
    """The seed system compared with "P" and "C": its ratios were constant."""
    rows = chain({(20, 1.0, "1"): 20.0, (20, 1.0, "2"): 20.0})
    rows[0] |= {"OI": 300.0, "Vo": 29.0}
    rows[1] |= {"OI": 100.0, "Vo": 9.0}
    assert of_next(rows)["opt_oi_put_call"] == pytest.approx(math.log(3))
    assert of_next(rows)["opt_vol_put_call"] == pytest.approx(math.log(3))


def test_a_price_of_zero_has_a_volume_and_an_extra_settlement_has_none() -> None:
    rows = chain({(20, 1.0, "1"): 20.0, (20, 1.0, "2"): 20.0})
    rows[0] |= {"O": 0.0, "C": 0.0, "Vo": 19.0}
    extra = rows[1] | {"EmMrgnTrgDiv": "001", "Vo": 1e6, "IV": 99.0}
    assert of_next([*rows, extra])["opt_vol_put_call"] == pytest.approx(math.log(20 / 2))
    assert of_next([*rows, extra])["opt_iv_atm_near"] == pytest.approx(0.2)


def test_the_last_days_of_an_expiry_are_left_to_the_next_one() -> None:
    rows = chain({(2, 1.0, "1"): 90.0, (30, 1.0, "1"): 20.0})
    assert of_next(rows)["opt_iv_atm_near"] == pytest.approx(0.2)
    assert of_next(rows)["opt_days_to_expiry"] == 30 - (NEXT - DAY).days


def test_what_is_older_than_a_few_trading_days_is_gone_however_long_the_holidays_were() -> None:
    before = date(2019, 4, 26)  # the last day before ten days of holidays
    rows = [contract(before, before + timedelta(days=n), 20_000.0, "1", Vo=1.0, OI=1.0) for n in (20, 50)]
    days = trading_days(before, date(2019, 5, 14))
    valid = features(rows, days)["is_opt_mkt_valid"].to_list()
    assert days[1] == date(2019, 5, 7) and valid[:5] == [0, 1, 1, 1, 0]


def test_no_options_at_all_leave_every_column_blank() -> None:
    made = features([], [DAY, NEXT])
    assert made.height == 2 and made["is_opt_mkt_valid"].sum() == 0
    assert all(made[f.name].null_count() == 2 for f in FEATURES)
