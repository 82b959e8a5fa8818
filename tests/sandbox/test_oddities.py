"""Every oddity that was counted on real records occurs in the sandbox, about as often.

Shares are those of some 23,000 documents, 240,000 reports of short positions and 49,000 options; the bounds leave
room for the draw of a small market. Records are taken from the generators, as the server sends them.
"""

import json
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from atft_assets import calendar
from atft_assets.sandbox import (
    Market,
    MarketConfig,
    dividends,
    flow,
    margin,
    more_indices,
    options,
    orders,
    schedule,
    shorts,
    simulate,
    statements,
    valuation,
    wire,
)
from atft_assets.sandbox.figures import fiscal
from atft_assets.sandbox.names import ETF

FORECASTS = ["Sales", "OP", "NP", "EPS"]


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(MarketConfig(n_names=400, start=date(2022, 1, 4), end=date(2024, 12, 30), seed=5))


def plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as they are sent."""
    rows: list[dict[str, Any]] = json.loads(wire.rows_json(frame))
    return rows


# -- statements --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents(market: Market) -> pl.DataFrame:
    places = statements.documents(market, 0, date(2024, 12, 31).toordinal())
    return statements.summary(market, places)


@pytest.fixture(scope="module")
def results(documents: pl.DataFrame) -> pl.DataFrame:
    return documents.filter(pl.col("DocType").str.contains("FinancialStatements"))


def share(values: pl.Series) -> float:
    return float((values != "").mean())  # type: ignore[arg-type]


def test_the_number_alone_tells_documents_apart(documents: pl.DataFrame) -> None:
    assert documents["DiscNo"].is_unique().all()
    days = documents.group_by("DiscDate", "Code").agg(pl.len(), pl.col("DiscTime").n_unique().alias("times"))
    several = days.filter(pl.col("len") > 1)
    assert 0.03 < several.height / days.height < 0.3
    assert (several["times"] == 1).mean() > 0.8  # type: ignore[operator]


def test_the_date_within_a_number_is_not_that_of_the_disclosure_and_orders_nothing(documents: pl.DataFrame) -> None:
    stamped = documents["DiscNo"].str.slice(0, 8) == documents["DiscDate"].str.replace_all("-", "")
    assert 0.35 < 1 - float(stamped.mean()) < 0.47  # type: ignore[arg-type]
    assert documents.sort("DiscNo")["DiscDate"].to_list() != sorted(documents["DiscDate"].to_list())


def test_a_whole_year_carries_the_next_years_forecast_and_none_of_its_own(results: pl.DataFrame) -> None:
    annual = results.filter(pl.col("CurPerType") == "FY")
    quarters = results.filter(pl.col("CurPerType") != "FY")
    for item in FORECASTS:
        assert share(annual[f"F{item}"]) == 0
        assert 0.82 < share(annual[f"NxF{'Np' if item == 'NP' else item}"]) < 0.97
        assert 0.85 < share(quarters[f"F{item}"]) < 1
    assert 0.2 < share(annual["NxFOP2Q"]) < 0.5
    # the first quarter mostly repeats what the whole year said of it
    first = results.filter(pl.col("CurPerType") == "1Q").select("Code", "CurFYEn", "FOP").filter(pl.col("FOP") != "")
    said = annual.select("Code", pl.col("NxtFYEn").alias("CurFYEn"), "NxFOP").filter(pl.col("NxFOP") != "")
    both = first.unique().join(said.unique(), on=["Code", "CurFYEn"])
    assert both.height > 300 and 0.88 < float((both["FOP"] == both["NxFOP"]).mean()) < 0.97  # type: ignore[arg-type]


def test_fields_are_filled_as_often_as_they_are(results: pl.DataFrame) -> None:
    standard = results.with_columns(pl.col("DocType").str.split("_").list.last().alias("standard"))
    quarters = standard.filter(~pl.col("CurPerType").is_in(["FY", "2Q"]))
    annual = standard.filter(pl.col("CurPerType") == "FY")
    assert share(standard.filter(pl.col("standard").is_in(["IFRS", "US"]))["OdP"]) == 0
    assert share(standard.filter(pl.col("standard") == "JP")["OdP"]) == 1
    assert share(annual["BPS"]) == 1 and 0.1 < share(quarters["BPS"]) < 0.3
    since_april = quarters["DiscDate"] >= "2024-04-01"
    assert 0.2 < share(quarters.filter(~since_april)["CFO"]) < share(quarters.filter(since_april)["CFO"]) < 0.4
    assert share(annual["CFO"]) == 1
    assert 0.15 < share(standard.filter(pl.col("standard") == "JP")["DEPS"]) < 0.4
    assert share(standard.filter(pl.col("standard") == "IFRS")["DEPS"]) > 0.5
    consolidated = annual.filter(pl.col("DocType").str.contains("_Consolidated"))
    assert 0.6 < share(consolidated["NCSales"]) < 0.95 and share(quarters["NCSales"]) == 0
    before = results.filter(pl.col("DiscDate") < "2024-07-22")
    assert share(before["SigChgInC"]) == 0 and share(results["SigChgInC"]) > 0


def test_cash_flows_are_finer_than_the_figures_beside_them(results: pl.DataFrame) -> None:
    with_flow = results.filter(pl.col("CFO") != "")
    assert with_flow["Sales"].str.ends_with("000000").all()
    assert not with_flow["CFO"].str.ends_with("000000").all() and with_flow["CFO"].str.ends_with("000").all()


def test_ratios_go_by_the_owners_equity(results: pl.DataFrame) -> None:
    numbers = results.select(pl.col("Eq", "ShEq", "TA", "EqAR").cast(pl.Float64))
    assert (numbers["Eq"] > numbers["ShEq"]).any() and (numbers["Eq"] >= numbers["ShEq"]).all()
    assert (numbers["ShEq"] / numbers["TA"] - numbers["EqAR"]).abs().max() < 6e-4  # type: ignore[operator]


def test_results_are_cumulative(market: Market, documents: pl.DataFrame) -> None:
    known = fiscal(market)
    first = documents.filter(pl.col("DocType").str.contains("FinancialStatements"))
    sales = first.select("Code", "CurFYEn", "CurPerType", pl.col("Sales").cast(pl.Float64)).unique(
        ["Code", "CurFYEn", "CurPerType"]
    )
    wide = sales.pivot(on="CurPerType", index=["Code", "CurFYEn"], values="Sales").drop_nulls()
    assert wide.height > 300 and len(known.col) > 0
    for earlier, later in pairwise(("1Q", "2Q", "3Q", "FY")):
        assert (wide[earlier] < wide[later]).all()


def test_some_documents_hold_no_results_and_some_names_never_disclose(market: Market, documents: pl.DataFrame) -> None:
    without = documents.filter(pl.col("Sales") == "")
    assert 0.1 < without.height / documents.height < 0.25
    assert set(without["DocType"]) == {"EarnForecastRevision", "DividendForecastRevision"}
    assert set(without["CurPerType"]) == {"FY"}
    of_dividends = without.filter(pl.col("DocType") == "DividendForecastRevision")
    assert share(of_dividends["FOP"]) == 0 and share(of_dividends["FDivAnn"]) > 0.8
    silent = 1 - documents["Code"].n_unique() / len(
        {c for c, k in zip(market.names.code, market.names.kind, strict=True) if k == 0}
    )
    assert 0.01 < silent < 0.15, "with those that left early"


def test_in_a_year_with_a_split_the_dividend_adds_halves_of_two_scales(market: Market, results: pl.DataFrame) -> None:
    annual = results.filter((pl.col("CurPerType") == "FY") & (pl.col("DivAnn") != "") & (pl.col("DivAnn") != "0.0"))
    ratio = annual.select("Code", "CurFYSt", "CurFYEn", pl.col("Div2Q").cast(float) / pl.col("DivFY").cast(float))
    odd = ratio.filter(~pl.col("Div2Q").is_between(0.6, 1.6))
    assert 0 < odd.height < 0.15 * ratio.height
    split = {
        (market.names.code[name], str(market.days[day]))
        for day, name in zip(market.event_day, market.event_name, strict=True)
    }
    for code, first, last, _ in odd.filter(pl.col("Div2Q") > 1.9).iter_rows():
        later = str(date.fromisoformat(last) + timedelta(days=60))
        assert any(one == code and first <= day <= later for one, day in split), (code, last)
    total = annual.select(pl.col("Div2Q", "DivFY", "DivAnn").cast(float))
    assert (total["Div2Q"] + total["DivFY"] - total["DivAnn"]).abs().max() < 0.011  # type: ignore[operator]


def test_a_revision_of_the_dividend_changes_its_forecast(documents: pl.DataFrame) -> None:
    ordered = documents.filter(pl.col("FDivAnn") != "").sort("DiscDate", "DiscTime", "DiscNo")
    before = ordered.with_columns(pl.col("FDivAnn").shift(1).over("Code", "CurFYEn").alias("before"))
    revised = before.filter((pl.col("DocType") == "DividendForecastRevision") & pl.col("before").is_not_null())
    moved = revised.filter(pl.col("FDivAnn") != "0.0")
    assert moved.height > 20
    # with the results of the same minute, which come with the new forecast already, it may only say so again
    assert float((moved["FDivAnn"] != moved["before"]).mean()) > 0.4  # type: ignore[arg-type]


def test_one_result_in_fourteen_is_a_correction_up_to_two_years_later(results: pl.DataFrame) -> None:
    period = ["Code", "CurFYEn", "CurPerType"]
    ordered = results.sort("DiscDate", "DiscTime", "DiscNo").with_columns(
        pl.int_range(pl.len()).over(period).alias("nth")
    )
    later = ordered.filter(pl.col("nth") > 0)
    assert 0.04 < later.height / results.height < 0.1
    both = later.join(ordered.filter(pl.col("nth") == 0), on=period, suffix="_first")
    lag = both["DiscDate"].str.to_date() - both["DiscDate_first"].str.to_date()
    assert timedelta(days=400) < lag.max() <= timedelta(days=690) and lag.min() < timedelta(days=20)  # type: ignore[operator]
    same = (both["OP"] == both["OP_first"]) & (both["NP"] == both["NP_first"])
    assert 0.2 < float(same.mean()) < 0.7  # type: ignore[arg-type]
    assert (both["Sales"] == both["Sales_first"]).all()


def test_hours_of_disclosure(documents: pl.DataFrame, results: pl.DataFrame) -> None:
    new = results.filter(pl.col("DiscDate") >= "2024-11-05")["DiscTime"]
    assert 0.2 < float((new < "15:30:00").mean()) < 0.35  # type: ignore[arg-type]
    assert 0.4 < float((new == "15:30:00").mean()) < 0.55  # type: ignore[arg-type]
    assert 0.1 < float((new == "16:00:00").mean()) < 0.2  # type: ignore[arg-type]
    assert "15:30:00" not in set(results.filter(pl.col("DiscDate") < "2024-11-01")["DiscTime"])
    late = documents.filter(pl.col("DiscTime") > "18:00:00")
    assert 0.003 < late.height / documents.height < 0.02 and late["DiscTime"].max() <= "23:00:00"  # type: ignore[operator]
    closed = [day for day in documents["DiscDate"] if not calendar.is_trading_day(date.fromisoformat(day))]
    assert closed and {date.fromisoformat(day).weekday() for day in closed} == {5}
    busiest = documents.group_by("DiscDate").len()["len"]
    assert busiest.max() > 10 * busiest.median()  # type: ignore[operator]


def test_statements_are_objects_with_other_labels_and_other_spellings_of_numbers(market: Market) -> None:
    places = statements.documents(market, date(2024, 5, 1).toordinal(), date(2024, 6, 30).toordinal())
    rows = plain(statements.details(market, places))
    assert len(rows) < len(places), "documents without results have no statements"
    assert all(isinstance(row["FS"], dict) and all(isinstance(v, str) for v in row["FS"].values()) for row in rows)
    values = [v for row in rows for v in row["FS"].values() if v.lstrip("-").replace(".", "").isdigit()]
    assert any("." in v for v in values) and any("." not in v for v in values)
    assert len({tuple(row["FS"]) for row in rows}) > 3, "an item that a company has not is no key"
    ifrs = [row["FS"] for row in rows if row["DocType"].endswith("IFRS")]
    assert any({"Equity (IFRS)", "Equity attributable to owners of parent (IFRS)"} <= set(fs) for fs in ifrs)


# -- dividends, calendars, valuation ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def announced(market: Market) -> list[dict[str, Any]]:
    places = dividends.dividends(market, 0, date(2024, 12, 31).toordinal())
    return plain(dividends.rows(market, places))


def test_dividends_are_events(announced: list[dict[str, Any]]) -> None:
    assert len({row["RefNo"] for row in announced}) == len(announced)
    assert {row["StatCode"] for row in announced} == {"1", "2", "3"}
    first = {row["RefNo"] for row in announced}
    followers = [row for row in announced if row["CARefNo"] != row["RefNo"]]
    assert followers and sum(row["CARefNo"] in first for row in followers) / len(followers) > 0.5
    terms = Counter((row["PubDate"], row["Code"]) for row in announced)
    assert max(terms.values()) >= 3
    assert 1.4 < len(announced) / len({(row["Code"], row["ExDate"]) for row in announced}) < 3
    three = next(key for key, count in terms.items() if count == 3)
    assert len({(row["IFTerm"], row["RefNo"]) for row in announced if (row["PubDate"], row["Code"]) == three}) == 3
    lags = [(date.fromisoformat(row["ExDate"]) - date.fromisoformat(row["PubDate"])).days for row in announced]
    assert 250 < max(lags) < 380 and all(row["ExDate"] for row in announced)
    rates = [row["DivRate"] for row in announced]
    assert 0.0 in rates and "-" in rates and all(isinstance(rate, float) or rate == "-" for rate in rates)
    assert "" in {row["DeemDiv"] for row in announced} and "-" in {row["PayDate"] for row in announced}
    assert any(isinstance(row["SpecDivRate"], float) for row in announced)


def test_announced_days_move_and_are_sometimes_missed(market: Market) -> None:
    rows = plain(schedule.earnings_date(market, date(2024, 12, 30)))
    assert {row["FQName"] for row in rows} == {"第１四半期", "第２四半期", "第３四半期", "本決算"}
    assert {"0331", "0930"} <= {row["FYE"] for row in rows} and all(len(row["FYE"]) == 4 for row in rows)
    assert "" in {row["SchDate"] for row in rows}
    ahead = [(date.fromisoformat(r["SchDate"]) - date.fromisoformat(r["PubDate"])).days for r in rows if r["SchDate"]]
    assert min(ahead) <= 12 and 55 < max(ahead) < 75
    by_period = Counter((row["Code"], row["FQName"]) for row in rows)
    assert max(by_period.values()) > 1, "not unique on code and period"
    # against the results themselves
    places = statements.documents(market, 0, date(2024, 12, 31).toordinal())
    filed = statements.summary(market, places).filter(pl.col("DocType").str.contains("FinancialStatements"))
    days = set(zip(filed["Code"], filed["DiscDate"], strict=True))
    past = [row for row in rows if row["SchDate"] and "2022-03-01" < row["SchDate"] < "2024-12-01"]
    kept = [(row["Code"], row["SchDate"]) in days for row in past]
    assert 0.93 < np.mean(kept) < 0.995
    day_before = [
        (row["Code"], str(calendar.previous_trading_day(date.fromisoformat(row["SchDate"])))) in days for row in past
    ]
    assert any(early and not on_time for early, on_time in zip(day_before, kept, strict=True)), (
        "not before SchDate is unsafe"
    )


def test_the_older_calendar_in_words(market: Market) -> None:
    rows = [row for day in market.days[400:] for row in plain(schedule._calendar_day(market, day.toordinal()))]
    assert {row["FY"] for row in rows} == {"3月31日", "9月30日"}
    assert {row["FQ"] for row in rows} == {"第１四半期", "第２四半期", "第３四半期", "本決算"}
    assert "" in {row["Date"] for row in rows} and {row["Section"] for row in rows} == {
        "プライム",
        "スタンダード",
        "グロース",
    }


def test_a_valuation_counts_a_disclosure_from_the_next_day(market: Market) -> None:
    known = fiscal(market)
    row = market.row_of[date(2024, 5, 15)]
    columns = market.listed_on(row)
    frames = {k: valuation.valuation(market, np.full(len(columns), row + k), columns) for k in (-1, 0, 1)}
    filed = np.array([(known.day[c] == market.ordinals[row]).any() and not known.silent[c] for c in columns])
    # on the day of the disclosure the figures are those of the day before, on the next they are new
    same = frames[0]["EPS"].to_numpy() == frames[-1]["EPS"].to_numpy()
    assert filed.any() and same[filed & frames[0]["EPS"].is_not_null().to_numpy()].all()
    changed = frames[1]["EPS"].to_numpy() != frames[0]["EPS"].to_numpy()
    assert changed[filed & frames[1]["EPS"].is_not_null().to_numpy()].mean() > 0.9
    fund = frames[0].filter(pl.col("Code") == "13000")
    assert fund.drop("Date", "Code").row(0) == (None,) * 9
    silent = frames[0].filter(pl.col("EPS").is_null() & pl.col("MktCap").is_not_null())
    assert silent.height > 0
    per = frames[0]["PER"].drop_nulls()
    assert 8 < per.median() < 30 and per.min() > 0  # type: ignore[operator]


# -- margin ------------------------------------------------------------------------------------------------------------


def test_weeks_of_the_margin_balances() -> None:
    market = simulate(MarketConfig(n_names=5, start=date(2023, 7, 3), end=date(2026, 10, 30), seed=1))
    days = [market.days[row] for row in margin.balance_rows(market, 0, len(market.days))]
    weekly = [day for day in days if day < margin.DAILY_SINCE]
    for thursday in ("2023-08-10", "2023-11-02", "2024-02-22", "2024-05-02", "2026-03-19"):
        assert date.fromisoformat(thursday) in weekly
    for absent in ("2024-01-05", "2025-01-03", "2026-01-02", "2026-05-08"):
        assert date.fromisoformat(absent) not in weekly
    assert all((b - a).days in (6, 7, 8, 13, 14, 15) for a, b in pairwise(weekly))
    assert [day for day in days if day >= margin.DAILY_SINCE] == [
        day for day in market.days if day >= margin.DAILY_SINCE
    ]
    assert margin.published(date(2024, 2, 22)) == date(2024, 2, 27), "the second business day of the next week"


def test_margin_balances(market: Market) -> None:
    rows = plain(margin.interest_day(market, 300, True))
    assert len(rows) == len(market.listed_on(300))
    for row in rows:
        for side in ("Shrt", "Long"):
            assert row[f"{side}Vol"] == row[f"{side}NegVol"] + row[f"{side}StdVol"]
    types = Counter(row["IssType"] for row in rows)
    assert set(types) == {"1", "2", "3"} and types["3"] < 0.03 * len(rows)
    empty = [row for row in rows if row["LongVol"] == row["ShrtVol"] == 0]
    assert 0 < len(empty) < 0.06 * len(rows)
    assert any(row["Code"].endswith("5") for row in rows) and any(not row["Code"].isdigit() for row in rows)


def test_margin_alerts(market: Market) -> None:
    seen: dict[str, set[str]] = {}
    reasons, empty, corrected = Counter[tuple[str, str]](), 0, 0
    for k in range(40, 140):
        rows = plain(margin.alerts(market, k))
        before = str(market.days[k - 1])
        seen[str(market.days[k])] = {row["Code"] for row in rows if row["AppDate"] == before}
        for row in rows:
            assert (
                row["ShrtOut"] == row["ShrtNegOut"] + row["ShrtStdOut"]
                and row["LongOut"] == row["LongNegOut"] + row["LongStdOut"]
            )
            fund = row["Code"] == "13000"
            assert (row["ShrtOutRatio"] == "*") is fund and (row["LongOutRatio"] == "*") is fund
            corrected += row["AppDate"] != before
            if row["AppDate"] == before and before in seen:
                assert (row["ShrtOutChg"] == "-") is (row["Code"] not in seen[before])
            if row["LongOut"] == 0:
                assert row["SLRatio"] == 0.0
                empty += 1
            if isinstance(row["PubReason"], dict):
                flags = "".join(row["PubReason"].values())
                assert len(flags) == 6 and set(flags) <= {"0", "1"} and "1" in flags
                reasons[row["TSEMrgnRegCls"], flags] += 1
            else:
                assert row["PubReason"] == "-"
                reasons["-", "-"] += 1
    shares = [len(codes) for codes in seen.values()]
    assert 0.03 < np.mean(shares) / 400 < 0.1
    assert empty and corrected and ("-", "-") in reasons
    assert {cls for cls, _ in reasons} >= {"001", "002", "003", "101", "102"}
    assert any(flags.count("1") > 1 for _, flags in reasons), "several flags at once"
    for cls, needed in (("101", {5}), ("102", {2}), ("003", {0}), ("002", {1}), ("001", {3, 4})):
        raised = [{k for k, flag in enumerate(flags) if flag == "1"} for one, flags in reasons if one == cls]
        assert all(needed & flags for flags in raised), f"{cls} goes with its own flag"
        assert cls != "001" or all(flags <= needed for flags in raised), "of JSF alone"


def test_a_day_without_alerts_comes_the_day_after() -> None:
    market = simulate(MarketConfig(n_names=200, start=date(2021, 8, 2), end=date(2021, 9, 10), seed=1))
    silent = market.row_of[date(2021, 8, 26)]
    assert margin.alerts(market, silent).is_empty()
    after = margin.alerts(market, silent + 1)
    assert set(after["AppDate"]) >= {"2021-08-25", "2021-08-26"}
    assert not after.select("PubDate", "Code").is_unique().all()
    assert after.select("PubDate", "Code", "AppDate").is_unique().all()


# -- short selling -----------------------------------------------------------------------------------------------------


def test_turnover_of_short_sales_has_34_rows(market: Market) -> None:
    for k in (5, 200, 500):
        frame = shorts.short_ratio(market, k)
        assert frame.height == 34 and frame["S33"].is_unique().all()
        total = frame.with_columns(pl.sum_horizontal(pl.col("^.*Va$")).alias("all"))
        other = total.filter(pl.col("S33") == "9999")["all"][0]
        assert 0.01 < other / (total["all"].sum() - other) < 0.25, "9999 is what has no sector, not the total"


@pytest.fixture(scope="module")
def reports(market: Market) -> pl.DataFrame:
    return shorts.short_sale_report(market, date(2022, 1, 4), date(2024, 12, 30))


def test_lags_of_reported_positions(market: Market, reports: pl.DataFrame) -> None:
    disclosed = np.array([date.fromisoformat(day).toordinal() for day in reports["DiscDate"]])
    counted = np.array([date.fromisoformat(day).toordinal() for day in reports["CalcDate"]])
    lag = np.searchsorted(market.ordinals, disclosed) - np.searchsorted(market.ordinals, counted)
    assert 0.70 < (lag == 2).mean() < 0.80 and 0.19 < (lag == 1).mean() < 0.27
    assert 0 < (lag == 0).mean() < 0.005 and 0.003 < (lag > 2).mean() < 0.02
    assert (disclosed - counted).max() > 100, "some come months later"
    closed = [day for day in set(reports["CalcDate"]) if not calendar.is_trading_day(date.fromisoformat(day))]
    assert closed, "a position may be dated on a closed day"
    assert all(calendar.is_trading_day(date.fromisoformat(day)) for day in set(reports["DiscDate"]))


def test_nothing_tells_reports_apart(reports: pl.DataFrame) -> None:
    people = reports.filter(pl.col("SSName") == "個人")
    assert 0.002 < people.height / reports.height < 0.03
    assert not people.select("Code", "CalcDate").is_unique().all(), "different people under one name"
    named = reports.filter(pl.col("SSName") != "個人")
    holder = named.group_by("Code", "SSName", "CalcDate").agg(
        pl.col("ShrtPosToSO").n_unique(), pl.col("DiscDate").n_unique().alias("days")
    )
    assert holder.filter((pl.col("ShrtPosToSO") > 1) & (pl.col("days") > 1)).height > 0, "a correction is not flagged"
    days = reports.group_by("DiscDate", "Code").len()
    assert days.height < 0.9 * reports.height


def test_exits_below_half_a_per_cent(reports: pl.DataFrame) -> None:
    below = reports.filter(pl.col("ShrtPosToSO") < 0.005)
    assert 0.07 < below.height / reports.height < 0.14
    assert (below["ShrtPosShares"] == 0).any()
    assert reports["ShrtPosToSO"].max() < 0.06 and (reports["PrevRptRatio"].drop_nulls() < 0.005).any()  # type: ignore[operator]
    # a holder's report names its report before
    first = reports.filter(pl.col("PrevRptDate") == "")
    assert first["PrevRptRatio"].null_count() == first.height and 0 < first.height < reports.height / 4
    assert {"-", ""} <= set(reports["Notes"]) and reports["SSAddr"].str.ends_with(" ").all()
    assert (reports["ShrtPosUnits"] == (reports["ShrtPosShares"] / 100).floor()).all()


def test_breakdown_adds_up_and_has_no_row_where_nobody_traded(market: Market) -> None:
    frame, bars = orders.day(market, 321), market.bars(market.days[321]).filter(pl.col("Vo").is_not_null())
    assert frame["Code"].to_list() == bars["Code"].to_list() and frame.height < len(market.listed_on(321))
    sold = frame.select(pl.sum_horizontal("LongSellVo", "ShrtNoMrgnVo", "MrgnSellNewVo", "MrgnSellCloseVo")).to_series()
    bought = frame.select(pl.sum_horizontal("LongBuyVo", "MrgnBuyNewVo", "MrgnBuyCloseVo")).to_series()
    assert (sold == bars["Vo"]).all() and (bought == bars["Vo"]).all()


def test_nothing_was_sold_on_the_day_of_the_halt() -> None:
    market = simulate(MarketConfig(n_names=40, start=date(2020, 9, 1), end=date(2020, 10, 30), seed=1))
    row = market.row_of[date(2020, 10, 1)]
    assert shorts.short_ratio(market, row).is_empty() and orders.day(market, row).is_empty()
    assert margin.alerts(market, row).height > 0, "published all the same"
    for bars in more_indices.more_indices(market).values():
        if np.isfinite(bars[row]).all():
            assert (bars[row] == bars[row - 1, 3]).all(), "flat at the close of the day before"
    assert valuation.day(market, row).height == len(market.listed_on(row))


# -- flow --------------------------------------------------------------------------------------------------------------


def test_weeks_of_the_flow(market: Market) -> None:
    frame = flow.investor_types(market, None, None, None)
    for who in flow.GROUPS:
        assert (frame[f"{who}Tot"] == frame[f"{who}Sell"] + frame[f"{who}Buy"]).all()
        assert (frame[f"{who}Bal"] == frame[f"{who}Buy"] - frame[f"{who}Sell"]).all()
    assert (frame["TotTot"] == frame["PropTot"] + frame["BrkTot"]).all()
    assert (frame["BrkTot"] == frame.select(pl.sum_horizontal(f"{who}Tot" for who in flow.CLIENTS)).to_series()).all()
    assert all(isinstance(row["FrgnBal"], int) for row in plain(frame.head(3)))
    lag = [
        len(calendar.trading_days(date.fromisoformat(end), date.fromisoformat(published))) - 1
        for end, published in zip(frame["EnDate"], frame["PubDate"], strict=True)
    ]
    assert min(lag) == 4 and max(lag) > 4 and 0.75 < np.mean(np.array(lag) == 4) < 0.99
    sections = frame.group_by("Section").agg(
        pl.col("EnDate").min().alias("first"), pl.col("EnDate").max().alias("last")
    )
    assert sections.filter(pl.col("Section").is_in(flow.OLD))["last"].max() == "2022-04-01"
    assert sections.filter(pl.col("Section").is_in(flow.NEW))["first"].min() == "2022-04-08"
    versions = frame.group_by("EnDate", "Section").agg(
        pl.col("PubDate").n_unique(), pl.col("TotTot").n_unique().alias("values")
    )
    again = versions.filter(pl.col("PubDate") > 1)
    assert again.height and (again["values"] > 1).any() and again["EnDate"].min() > "2023-03"  # type: ignore[operator]
    one = frame.filter((pl.col("StDate") == pl.col("EnDate")) & (pl.col("Section") == "TokyoNagoya"))
    assert one.height, "a week of one session"
    whole = frame.filter(pl.col("EnDate") == "2024-06-28")
    parts = whole.filter(pl.col("Section") != "TokyoNagoya")["TotTot"].sum()
    assert whole.filter(pl.col("Section") == "TokyoNagoya")["TotTot"][0] != parts


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(market: Market) -> pl.DataFrame:
    return pl.concat([options.options_225(market, k) for k in range(100, 240)])


def test_most_options_are_not_traded_and_a_zero_price_says_nothing_of_volume(chain: pl.DataFrame) -> None:
    untraded = chain.filter(pl.col("Vo") == 0)
    assert 0.9 < untraded.height / chain.height < 0.98
    assert (untraded.select("O", "H", "L", "C").max_horizontal() == 0).all()
    off = chain.filter((pl.col("Vo") > 0) & (pl.col("VoOA") == 0))
    assert off.height and (off.select("O", "H", "L", "C").max_horizontal() == 0).all()
    made = chain.filter(pl.col("VoOA") > 0)
    assert (made["L"] <= made["C"]).all() and (made["C"] <= made["H"]).all() and (made["L"] > 0).all()


def test_a_new_strike_has_no_night(chain: pl.DataFrame) -> None:
    first = chain.group_by("Code").agg(pl.col("Date").min().alias("first"))
    rows = chain.join(first, on="Code").filter(pl.col("first") > chain["Date"].min())
    empty = rows.filter(pl.col("EO") == "")
    assert empty.height > 0 and (empty["Date"] == empty["first"]).all()
    assert rows.filter(pl.col("Date") == pl.col("first"))["EO"].eq("").all()
    assert empty["Date"].n_unique() > 0.2 * chain["Date"].n_unique(), "new ones come on many days"


def test_figures_of_options(chain: pl.DataFrame) -> None:
    assert chain["IV"].min() == 1.0 and chain["IV"].max() == 320.0 and chain["Settle"].min() == 1.0
    assert chain.filter(pl.col("IV") == 320.0).height > 10 and chain.filter(pl.col("IV") == 1.0).height > 10
    days = chain.group_by("Date").agg(pl.col("UnderPx", "BaseVol").n_unique(), pl.col("IR").n_unique().alias("rates"))
    assert (days["UnderPx"] == 1).all() and (days["BaseVol"] == 1).all() and (days["rates"] > 1).all()
    assert chain["Code"].str.len_chars().eq(9).all() and not chain["Code"].str.contains(r"^\d{9}$").all()
    puts, calls = chain.filter(pl.col("PCDiv") == "1"), chain.filter(pl.col("PCDiv") == "2")
    assert puts["Code"].str.starts_with("13").all() and calls["Code"].str.starts_with("14").all()
    one = chain.filter((pl.col("Date") == chain["Date"].max()) & (pl.col("EmMrgnTrgDiv") == "002"))
    near = one.filter(pl.col("CM") == one["CM"].min())
    below = near.filter((pl.col("PCDiv") == "1") & (pl.col("Strike") / pl.col("UnderPx")).is_between(0.92, 0.98))["IV"]
    above = near.filter((pl.col("PCDiv") == "2") & (pl.col("Strike") / pl.col("UnderPx")).is_between(1.02, 1.08))["IV"]
    assert below.median() > above.median(), "what lies below the money costs more"  # type: ignore[operator]


def test_emergency_margin_settles_twice(market: Market) -> None:
    level = options.nikkei(market)
    moved = 1 + np.flatnonzero(np.abs(level[1:] / level[:-1] - 1) >= options.EMERGENCY_MOVE)
    assert len(moved)
    frame = options.options_225(market, int(moved[0]))
    twice = frame.filter(pl.col("EmMrgnTrgDiv") == "001")
    assert twice.height and not frame["Code"].is_unique().all()
    assert frame.select("Date", "Code", "EmMrgnTrgDiv").is_unique().all()


def test_volatilities_are_empty_before_they_were_published() -> None:
    market = simulate(MarketConfig(n_names=20, start=date(2016, 7, 11), end=date(2016, 7, 22), seed=1))
    before, after = (plain(options.options_225(market, market.row_of[date(2016, 7, day)])) for day in (15, 19))
    for row in before:
        assert [row[name] for name in ("Settle", "IV", "VoOA", "UnderPx", "LTD", "SQD")] == [None] * 4 + ["", ""]
    assert all(row["IV"] and row["LTD"] for row in after)


def test_prices_are_expected_payoffs_of_a_lognormal_underlying() -> None:
    under, strike, years, rate, vol = 29_000.0, 28_000.0, 0.2, 0.003, 0.25

    def payoff(z: float, side: int) -> float:
        end = under * np.exp(rate * years - vol**2 * years / 2 + vol * np.sqrt(years) * z)
        return max(side * (end - strike), 0.0) * norm.pdf(z)

    for call, side in ((True, 1), (False, -1)):
        expected = np.exp(-rate * years) * quad(payoff, -10, 10, args=(side,), limit=400)[0]
        ours = options.black(under, *(np.array([x]) for x in (strike, years, vol, rate)), np.array([call]))[0]
        assert ours == pytest.approx(expected, rel=1e-5)


def test_indices_begin_and_end_where_they_do() -> None:
    market = simulate(MarketConfig(n_names=200, start=date(2022, 3, 1), end=date(2023, 8, 31), seed=2))

    def codes(day: date) -> set[str]:
        return set(market.index_day(day)["Code"])

    assert {"0001", "0091"} <= codes(date(2022, 4, 1)) and not {"0001", "0091"} & codes(date(2022, 4, 4))
    assert "0500" not in codes(date(2022, 6, 24)) and {"0500", "0501", "0502"} <= codes(date(2022, 6, 27))
    early = market.index_bars("0503", date(2023, 5, 1), date(2023, 7, 4))
    assert early["Date"][0] == "2023-05-29" and early.filter(pl.col("O").is_null())["Date"].to_list()[-1] < "2023-07-03"
    assert early.filter(pl.col("Date") >= "2023-07-03")["O"].null_count() == 0 and early["C"].null_count() == 0


def test_there_is_one_fund_in_the_market(market: Market) -> None:
    """What the markers for funds are tested on."""
    assert (market.names.kind == ETF).sum() == 1 and market.names.code[
        int(np.argmax(market.names.kind == ETF))
    ] == "13000"
