"""Statements: every column against plain Python over what an evening knew, and the faults of the seed system."""

import math
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, shift_trading_days, trading_days
from atft_assets.features.statement_states import COLUMNS, FORECASTS
from atft_assets.features.statements import FEATURES, LOOKBACK_MONTHS, QUOTES, TABLE, statement_features
from atft_assets.raw.fins_summary import CONTRACT
from tests.features.documents import discloser, document, frame_of, month_end
from tests.features.synthetic import raw_quotes

FIRST = date(2017, 1, 4)
DAYS = trading_days(FIRST, date(2021, 12, 30))
CODES = ("13010", "13020")
ORDER = {"1Q": 1, "2Q": 2, "3Q": 3, "FY": 4}


@cache
def world(seed: int) -> tuple[list[dict[str, Any]], pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    found = [d for i, code in enumerate(CODES) for d in discloser(code, rng, range(2016, 2021), (3, 12)[i])]
    quotes = raw_quotes(2, len(DAYS), seed, untraded=0.05, splits=True, first=FIRST)
    return found, quotes, quotes.select("date", "code")


def features(documents: list[dict[str, Any]], quotes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return statement_features(frame_of(documents).select(COLUMNS), quotes.select(QUOTES), rows)


def number(text: str) -> float:
    return float(text) if text not in ("", "-") else math.nan


def year_of(d: dict[str, Any]) -> int:
    end = date.fromisoformat(d["CurFYEn"])
    return end.year * 12 + end.month


def holds_results(d: dict[str, Any]) -> bool:
    return "FinancialStatements" in d["DocType"] and any(d[name] for name in ("Sales", "OP", "NP"))


def period_of(d: dict[str, Any]) -> int:
    return year_of(d) + 3 * ORDER[d["CurPerType"]]


def is_twelve(d: dict[str, Any]) -> bool:
    return (date.fromisoformat(d["CurFYEn"]) - date.fromisoformat(d["CurFYSt"])).days > 330


def rel(new: float, old: float) -> float:
    return min(max((new - old) / abs(old), -10), 10) if abs(old) > 0 else math.nan


def over(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan


def cut(x: float, low: float, high: float) -> float:
    return x if math.isnan(x) else min(max(x, low), high)


def figures_of(d: dict[str, Any] | None) -> dict[str, float]:
    names = ("Sales", "OP", "NP", "CFO", "TA", "EqAR", "CashEq", "ShOutFY", "TrShFY")
    return {name: number(d[name]) if d else math.nan for name in names}


def by_hand(documents: list[dict[str, Any]], quotes: pl.DataFrame, code: str, day: date) -> dict[str, float]:
    """What the evening of a day says of a name, by the definitions; NaN where nothing is known."""
    known = sorted(
        (d for d in documents if d["code"] == code and d["available_at"] <= decision_instant(day)),
        key=lambda d: (d["available_at"], d["date"], d["DiscTime"], d["DiscNo"]),
    )
    results = [d for d in known if holds_results(d)]
    if not results:
        return {}
    newest = max(period_of(d) for d in results)
    versions = [d for d in results if period_of(d) == newest]
    first, now = versions[0], versions[-1]
    since = sum(decision_instant(x) >= first["available_at"] for x in trading_days(first["date"], day)) - 1
    if since > 260:
        return {}
    basis = now["DocType"].partition("_")[2]
    year, quarter = year_of(now), ORDER[now["CurPerType"]]

    def earlier(years: int, quarter: int) -> dict[str, float]:
        fitting = [
            d for d in results
            if year_of(d) == year - 12 * years and ORDER[d["CurPerType"]] == quarter and is_twelve(d)
            and d["DocType"].partition("_")[2] == basis
        ]  # fmt: skip
        if not fitting or (first["date"] - fitting[-1]["date"]).days > 790:
            return figures_of(None)
        return figures_of(fitting[-1])

    n, ly, fy, ly2, fy2 = figures_of(now), earlier(1, quarter), earlier(1, 4), earlier(2, quarter), earlier(2, 4)

    def four(name: str) -> float:
        if not is_twelve(now):
            return math.nan
        return n[name] if quarter == 4 else n[name] + fy[name] - ly[name]

    def four_before(name: str) -> float:
        return ly[name] if quarter == 4 else ly[name] + fy2[name] - ly2[name]

    whole = n if quarter == 4 else fy
    owners, owners_ly = n["EqAR"] * n["TA"], ly["EqAR"] * ly["TA"]
    out = {
        "stmt_opm": cut(over(four("OP"), four("Sales")), -1, 1),
        "stmt_npm": cut(over(four("NP"), four("Sales")), -1, 1),
        "stmt_opm_chg": cut(over(four("OP"), four("Sales")) - over(four_before("OP"), four_before("Sales")), -1, 1),
        "stmt_roe": cut(over(four("NP"), (owners + owners_ly) / 2), -3, 3),
        "stmt_roa": cut(over(four("NP"), (n["TA"] + ly["TA"]) / 2), -1, 1),
        "stmt_equity_ratio": cut(n["EqAR"], -2, 1),
        "stmt_cash_ratio": cut(over(n["CashEq"], n["TA"]), 0, 1),
        "stmt_accruals": cut(over(whole["NP"] - whole["CFO"], whole["TA"]), -1, 1),
        "stmt_change_in_est": float(now["ChgAcEst"] == "true"),
        "stmt_nc_flag": float("true" in (now["ChgByASRev"], now["ChgNoASRev"], now["RetroRst"])),
        "stmt_impulse": float(since == 0),
        "stmt_days_since": float(since),
        "is_stmt_valid": float(not math.isnan(n["NP"])),
    }
    for name in ("Sales", "OP", "NP"):
        out[f"stmt_yoy_{name.lower()}"] = rel(n[name], ly[name]) if is_twelve(now) else math.nan
    guess = Forecasts(known)
    out |= guess.revisions()
    for name, item in (("OP", "op"), ("NP", "np")):
        value, share = guess.standing(year, item, first["date"]), quarter / 4
        out[f"stmt_progress_{item}"] = cut((n[name] - share * value) / abs(value), -3, 3) if value else math.nan
    np_, payout = (guess.of_year(item, year, quarter) for item in ("np", "payout"))
    out["stmt_guide_growth_np"] = rel(np_, four("NP"))
    value = market_value(now, quotes.filter(pl.col("code") == code), day)
    out["stmt_earnings_yield"] = cut(over(four("NP"), value), -3, 3)
    out["stmt_fore_earnings_yield"] = cut(over(np_, value), -3, 3)
    out["stmt_fore_div_yield"] = cut(over(np_ * payout, value), 0, 1)
    out["stmt_book_to_price"] = cut(over(owners, value), -10, 10)
    sales = over(four("Sales"), value)
    out["stmt_sales_to_price"] = math.log(sales) if sales > 0 else math.nan
    out["stmt_log_market_value"] = math.log(value) if value > 0 else math.nan
    return out


class Forecasts:
    """What stands for each fiscal year, and how each item was revised last: documents one after the other."""

    def __init__(self, known: list[dict[str, Any]]):
        self.stands: dict[tuple[int, str], tuple[float, date]] = {}
        self.shares: dict[int, float] = {}
        self.revised: dict[str, tuple[float, date]] = {}
        self.last: dict[str, float] = {}
        self.target, self.at = -1, date.min
        newest = -1
        for d in known:
            if holds_results(d):
                newest = max(newest, period_of(d))
                if period_of(d) < newest:
                    continue
            for place in (0, 1):
                said = {item: number(d[pair[place]]) for item, pair in FORECASTS.items()}
                if not all(math.isnan(value) for value in said.values()):
                    self.say(year_of(d) + 12 * place, d["date"], said)
        self.day = known[-1]["date"]

    def say(self, target: int, day: date, said: dict[str, float]) -> None:
        before = self.shares.get(target, math.nan)
        if not math.isnan(said["np"]) and abs(said["eps"]) > 0:
            self.shares[target] = abs(said["np"]) / abs(said["eps"])
        moved = self.shares.get(target, math.nan) / before
        newest = target >= self.target
        for item, value in said.items():
            if math.isnan(value):
                continue
            old = self.standing(target, item, day)
            change = rel(value, old)
            split = not math.isnan(moved) and not 1 / 1.3 <= moved <= 1.3
            even = any(abs(value * k - old) <= 1e-6 * abs(old) for k in (2, 3, 4, 5, 10))
            if (item == "eps" and split) or (item == "div" and even):
                change = math.nan
            self.stands[target, item] = (value, day)
            if newest:
                self.revised[item] = (change, day)
        if newest:
            self.target, self.at = target, day
            self.last = {item: self.standing(target, item, day) for item in ("np", "payout")}

    def standing(self, target: int, item: str, day: date) -> float:
        value, at = self.stands.get((target, item), (math.nan, date.min))
        return value if (day - at).days <= 400 else math.nan

    def of_year(self, item: str, year: int, quarter: int) -> float:
        """The forecast of the newest year, while it runs."""
        running = self.target > year or (self.target == year and quarter < 4)
        return self.last[item] if running and (self.day - self.at).days <= 400 else math.nan

    def revisions(self) -> dict[str, float]:
        found = {item: self.revised.get(item, (math.nan, date.min)) for item in ("sales", "op", "np", "eps", "div")}
        return {
            f"stmt_rev_fore_{item}": change if (self.day - at).days <= 400 else math.nan
            for item, (change, at) in found.items()
        }


def market_value(now: dict[str, Any], quotes: pl.DataFrame, day: date) -> float:
    n, end = figures_of(now), date.fromisoformat(now["CurPerEn"])
    rows = quotes.filter(pl.col("date") <= day)
    price = rows["C"].tail(21).drop_nulls()
    if not price.len() or end < quotes["date"][0] or (day - end).days > 500:
        return math.nan
    factors = rows.filter(pl.col("date") > end)["AdjFactor"].to_list()
    treasury = 0.0 if math.isnan(n["TrShFY"]) else n["TrShFY"]
    return (n["ShOutFY"] - treasury) / math.prod(factors) * price[-1]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 500), data=st.data())
def test_every_column_is_what_plain_python_makes_of_what_the_evening_knew(seed: int, data: Any) -> None:
    documents, quotes, rows = world(seed)
    made = features(documents, quotes, rows)
    for place in data.draw(st.lists(st.integers(0, rows.height - 1), min_size=25, max_size=25)):
        row = made.row(place, named=True)
        expected = by_hand(documents, quotes, row["code"], row["date"])
        for f in (*FEATURES, *TABLE.features[len(FEATURES) :]):
            want = expected.get(f.name, 0.0 if f.name == "is_stmt_valid" else math.nan)
            got = math.nan if row[f.name] is None else float(row[f.name])
            assert got == pytest.approx(want, rel=1e-4, abs=1e-5, nan_ok=True), (f.name, row["code"], row["date"])


def test_the_random_names_reach_every_column() -> None:
    made = pl.concat(features(*world(seed)) for seed in range(8))
    assert {f.name for f in FEATURES if made[f.name].drop_nulls().n_unique() < 2} == set()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 500), place=st.integers(200, len(DAYS) - 1))
def test_what_comes_later_changes_nothing(seed: int, place: int) -> None:
    """Documents that were not out by the evening are taken away, or hold other figures; prices after it are noise."""
    documents, quotes, rows = world(seed)
    day = DAYS[place]
    whole = features(documents, quotes, rows).filter(pl.col("date") <= day)
    known = [d for d in documents if d["available_at"] <= decision_instant(day)]
    spoiled = known + [
        {**d, **{name: "7" for name in ("Sales", "OP", "NP", "FNP", "TA", "ShOutFY") if d[name]}, "CurPerType": "FY"}
        for d in documents
        if d not in known
    ]
    later = pl.col("date") > day
    noise = quotes.with_columns(
        pl.when(later).then(pl.col("C") * 3).otherwise("C").alias("C"),
        pl.when(later).then(0.25).otherwise("AdjFactor").alias("AdjFactor"),
    )
    for given_documents, given_quotes in ((known, quotes.filter(~later)), (spoiled, noise)):
        again = features(given_documents, given_quotes, rows)
        assert again.filter(~later).equals(whole)
    cut = features(known, quotes.filter(~later), rows.filter(~later))
    assert cut.equals(whole)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 500), place=st.integers(900, len(DAYS) - 25))
def test_a_month_hangs_on_its_declared_history_alone(seed: int, place: int) -> None:
    documents, quotes, rows = world(seed)
    month = DAYS[place].replace(day=1)
    back = {name: pl.select(pl.lit(month).dt.offset_by(f"-{n}mo")).item() for name, n in TABLE.reads.items()}
    assert TABLE.reads["fins_summary"] == LOOKBACK_MONTHS
    of_month = pl.col("date").dt.month_start() == month
    whole = features(documents, quotes, rows).filter(of_month)
    cut = features(
        [d for d in documents if d["date"] >= back["fins_summary"]],
        quotes.filter(pl.col("date") >= back["daily_quotes"]),
        rows.filter(of_month),
    )
    for name in whole.columns:
        if name in ("date", "code"):
            continue
        one, two = whole[name].cast(pl.Float64).to_numpy(), cut[name].cast(pl.Float64).to_numpy()
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6, err_msg=name)


# --- one name by hand

YEAR = 2020 * 12 + 3  # the fiscal year that ends in March 2020


def one_name(*documents: dict[str, Any], until: date = date(2021, 6, 30)) -> pl.DataFrame:
    """The features of 13010 on all days; a thousand yen a share, ten shares."""
    days = trading_days(date(2018, 1, 4), until)
    quotes = pl.DataFrame({"date": days, "code": "13010", "C": 1000.0, "AdjFactor": 1.0})
    return features(list(documents), quotes, quotes.select("date", "code"))


def on(frame: pl.DataFrame, day: date) -> dict[str, Any]:
    return frame.filter(pl.col("date") == day).row(0, named=True)


def results(day: date, period: str, year: int = YEAR, **figures: Any) -> dict[str, Any]:
    return document("13010", day, period, year, **({"NP": 1, "number": f"{day}{period}{len(figures)}"} | figures))


def test_the_documents_have_the_shape_of_the_raw_table() -> None:
    CONTRACT.schema.validate(frame_of(world(1)[0]), lazy=True)


def test_four_quarters_are_not_a_sum_of_cumulative_figures() -> None:
    """The seed system added four cumulative figures, and began at the filing before."""
    frame = one_name(
        results(date(2018, 11, 9), "2Q", YEAR - 12, NP=40, Sales=400),
        results(date(2019, 5, 10), "FY", YEAR - 12, NP=100, Sales=1000),
        results(date(2019, 8, 9), "1Q", NP=30, Sales=300),
        results(date(2019, 11, 8), "2Q", NP=70, Sales=500),
    )
    day = on(frame, date(2019, 11, 11))
    assert day["stmt_npm"] == pytest.approx((70 + 100 - 40) / (500 + 1000 - 400))
    assert on(frame, date(2019, 8, 13))["stmt_npm"] is None  # no first quarter of the year before
    assert on(frame, date(2019, 5, 13))["stmt_npm"] == pytest.approx(0.1)
    assert day["stmt_yoy_np"] == pytest.approx(70 / 40 - 1)


def test_growth_is_against_one_document_however_many_there_were() -> None:
    """A join by period fans out where it has several filings."""
    frame = one_name(
        results(date(2018, 8, 9), "1Q", YEAR - 12, NP=10),
        results(date(2018, 8, 20), "1Q", YEAR - 12, NP=20),
        results(date(2018, 8, 20), "1Q", YEAR - 12, NP=25, number="z", clock="16:00:00"),
        results(date(2019, 8, 9), "1Q", NP=50),
    )
    assert frame.height == frame.select("date", "code").n_unique()
    assert on(frame, date(2019, 8, 13))["stmt_yoy_np"] == pytest.approx(1.0)


def test_a_correction_of_the_year_before_counts_from_its_evening_and_takes_no_newer_period_away() -> None:
    frame = one_name(
        results(date(2018, 8, 9), "1Q", YEAR - 12, NP=10),
        results(date(2019, 8, 9), "1Q", NP=50),
        results(date(2019, 10, 1), "1Q", YEAR - 12, NP=25, clock="18:00:00"),  # in the batch of half past midnight
    )
    before, after = on(frame, date(2019, 10, 1)), on(frame, date(2019, 10, 2))
    assert before["stmt_yoy_np"] == pytest.approx(4.0) and after["stmt_yoy_np"] == pytest.approx(1.0)
    assert after["stmt_days_since"] == before["stmt_days_since"] + 1 and not after["stmt_impulse"]


def test_a_disclosure_after_the_batch_counts_from_the_next_evening() -> None:
    for clock, first in (
        ("15:30:00", date(2019, 8, 9)),
        ("17:59:00", date(2019, 8, 9)),
        ("18:00:00", date(2019, 8, 13)),
    ):
        frame = one_name(results(date(2019, 8, 9), "1Q", clock=clock))
        assert frame.filter(pl.col("stmt_impulse") == 1)["date"].to_list() == [first], clock
    saturday = one_name(results(date(2019, 8, 10), "1Q"))
    assert saturday.filter(pl.col("stmt_impulse") == 1)["date"].to_list() == [date(2019, 8, 13)]


def test_a_document_number_says_nothing_of_order() -> None:
    frame = one_name(
        results(date(2019, 8, 9), "1Q", EqAR=0.5, number="20190101999999"),
        results(date(2019, 8, 20), "1Q", EqAR=0.4, number="20180101000000"),
    )
    assert on(frame, date(2019, 8, 21))["stmt_equity_ratio"] == pytest.approx(0.4)


def test_of_two_revisions_of_a_day_the_later_counts_by_time_and_then_by_number() -> None:
    day = date(2019, 9, 2)
    for first, second in (
        ({"clock": "15:00:00", "number": "20190902000009"}, {"clock": "16:00:00", "number": "20190831000001"}),
        ({"number": "20190902000001"}, {"number": "20190902000009"}),
    ):
        revisions = [
            document("13010", day, "FY", YEAR, kind="EarnForecastRevision", FNP=net, **at)
            for net, at in ((90, second), (120, first))
        ]
        frame = one_name(results(date(2019, 8, 9), "1Q", FNP=100), *revisions)
        assert on(frame, day)["stmt_rev_fore_np"] == pytest.approx(90 / 120 - 1), first


def test_a_fourth_quarter_and_other_names_of_documents_say_nothing_of_results() -> None:
    """Forms of a changed fiscal year are mostly empty; documents of 2022 had names of their own."""
    frame = one_name(
        results(date(2019, 8, 9), "1Q", EqAR=0.5),
        document("13010", date(2019, 9, 2), "4Q", YEAR, NP=999, EqAR=0.9),
        document("13010", date(2019, 9, 3), "1Q", YEAR, kind="NumericalCorrection", NP=999, EqAR=0.9),
        document("13010", date(2019, 9, 4), "FY", YEAR, kind="ForecastRevision", FNP=10),
        document("13010", date(2019, 9, 5), "FY", YEAR, kind="ForecastRevision", FNP=12),
    )
    day = on(frame, date(2019, 9, 6))
    assert day["stmt_equity_ratio"] == pytest.approx(0.5) and day["stmt_days_since"] == 19
    assert day["stmt_rev_fore_np"] == pytest.approx(0.2), "a forecast is one, whatever its document is called"


def test_a_revision_is_against_the_forecast_of_the_same_year() -> None:
    """The seed system shifted by one filing whatever year it spoke of: with each new year it saw a revision."""
    frame = one_name(
        results(date(2019, 5, 10), "FY", YEAR - 12, NxFNp=100),
        results(date(2019, 8, 9), "1Q", FNP=100),
        document("13010", date(2019, 9, 2), "FY", YEAR, kind="EarnForecastRevision", FNP=120),
        document("13010", date(2019, 9, 3), "FY", YEAR, kind="DividendForecastRevision", FDivAnn=30),
        results(date(2020, 5, 11), "FY", NP=130, NxFNp=60),
        results(date(2020, 8, 11), "1Q", YEAR + 12, FNP=90),
    )
    name = "stmt_rev_fore_np"
    assert on(frame, date(2019, 5, 10))[name] is None  # nothing stood before
    assert on(frame, date(2019, 8, 9))[name] == 0.0  # NxF* of the year before is F* of this one
    assert on(frame, date(2019, 9, 2))[name] == pytest.approx(0.2)
    assert on(frame, date(2019, 9, 3))[name] == pytest.approx(0.2)  # a word on dividends is none on profits
    assert on(frame, date(2020, 5, 11))[name] is None
    assert on(frame, date(2020, 8, 11))[name] == pytest.approx(0.5)
    assert on(frame, date(2020, 5, 11))["stmt_progress_np"] == pytest.approx((130 - 120) / 120)


def test_a_late_correction_of_an_old_year_brings_its_forecast_not_back() -> None:
    frame = one_name(
        results(date(2019, 5, 10), "FY", YEAR - 12, NxFNp=100),
        results(date(2019, 8, 9), "1Q", FNP=150),
        results(date(2019, 9, 2), "FY", YEAR - 12, NxFNp=100),
    )
    assert on(frame, date(2019, 9, 3))["stmt_rev_fore_np"] == pytest.approx(0.5)
    assert on(frame, date(2019, 9, 3))["stmt_fore_earnings_yield"] is None  # no shares were told


def test_documents_without_results_say_nothing_of_results() -> None:
    frame = one_name(
        results(date(2019, 8, 9), "1Q", EqAR=0.5),
        document("13010", date(2019, 9, 2), "FY", YEAR, kind="EarnForecastRevision", FNP=1),
        document("13010", date(2019, 9, 2), "2Q", YEAR, EqAR=0.9),  # a form that holds no figures
    )
    assert on(frame, date(2019, 9, 3))["stmt_equity_ratio"] == pytest.approx(0.5)
    assert on(frame, date(2019, 9, 3))["stmt_days_since"] == 16


def test_only_like_is_held_against_like() -> None:
    before = results(date(2018, 8, 9), "1Q", YEAR - 12, NP=10)
    for change in (
        {"kind": "1QFinancialStatements_Consolidated_IFRS"},
        {"kind": "1QFinancialStatements_NonConsolidated_JP"},
        {"length": 9},
    ):
        frame = one_name(before, results(date(2019, 8, 9), "1Q", NP=20, **change))
        assert on(frame, date(2019, 8, 13))["stmt_yoy_np"] is None, change
    moved = one_name(before, results(date(2019, 8, 9), "1Q", YEAR - 3, NP=20))  # the year's end has moved
    assert on(moved, date(2019, 8, 13))["stmt_yoy_np"] is None


def test_shares_follow_splits_after_the_period_and_not_before() -> None:
    days = trading_days(date(2019, 1, 4), date(2019, 12, 30))
    split = date(2019, 9, 27)
    quotes = pl.DataFrame({"date": days, "code": "13010"}).with_columns(
        pl.when(pl.col("date") < split).then(1000.0).otherwise(500.0).alias("C"),
        pl.when(pl.col("date") == split).then(0.5).otherwise(1.0).alias("AdjFactor"),
    )
    rows = quotes.select("date", "code")
    frame = features([results(date(2019, 8, 9), "1Q", ShOutFY=110, TrShFY=10)], quotes, rows)
    values = frame.drop_nulls("stmt_log_market_value")["stmt_log_market_value"].exp().unique()
    np.testing.assert_allclose(values.to_numpy(), 100_000, rtol=1e-5)
    counted_after = features([results(date(2019, 11, 8), "2Q", ShOutFY=210, TrShFY=10)], quotes, rows)
    assert math.exp(on(counted_after, date(2019, 12, 2))["stmt_log_market_value"]) == pytest.approx(100_000, rel=1e-5)


def test_a_split_is_no_revision_of_what_is_told_a_share() -> None:
    def revised(**figures: Any) -> dict[str, Any]:
        frame = one_name(
            results(date(2019, 8, 9), "1Q", FNP=100, FEPS=50, FDivAnn=30),
            document("13010", date(2019, 9, 2), "FY", YEAR, kind="EarnForecastRevision", **figures),
        )
        return on(frame, date(2019, 9, 3))

    assert revised(FNP=110, FEPS=55)["stmt_rev_fore_eps"] == pytest.approx(0.1)
    assert revised(FNP=100, FEPS=25)["stmt_rev_fore_eps"] is None  # two for one
    assert revised(FDivAnn=15)["stmt_rev_fore_div"] is None and revised(FDivAnn=10)["stmt_rev_fore_div"] is None
    assert revised(FDivAnn=20)["stmt_rev_fore_div"] == pytest.approx(-1 / 3)


def test_what_is_a_year_old_is_no_longer_known() -> None:
    frame = one_name(results(date(2019, 5, 10), "FY", YEAR - 12, EqAR=0.5))
    last = shift_trading_days(date(2019, 5, 10), 260)
    assert on(frame, last)["stmt_equity_ratio"] == 0.5 and on(frame, last)["is_stmt_valid"] == 1
    after = on(frame, shift_trading_days(last, 1))
    assert {value for name, value in after.items() if name.startswith("stmt_")} == {None} and not after["is_stmt_valid"]


def test_a_name_without_documents_and_a_table_without_any_are_blank() -> None:
    days = trading_days(date(2019, 1, 4), date(2019, 3, 1))
    quotes = pl.DataFrame({"date": days, "code": "13010", "C": 1000.0, "AdjFactor": 1.0})
    frame = features([], quotes, quotes.select("date", "code"))
    assert frame.height == len(days)
    assert frame["is_stmt_valid"].sum() == 0 and all(frame[f.name].null_count() == len(days) for f in FEATURES)


def test_month_end() -> None:
    assert month_end(2020 * 12 + 2) == date(2020, 2, 29) and month_end(2019 * 12 + 12) == date(2019, 12, 31)
    assert date(2020, 2, 29) + timedelta(days=1) == month_end(2020 * 12 + 2) + timedelta(days=1)
