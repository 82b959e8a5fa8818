"""Shapes of real records that a plain table would refuse or lose, by hand: each passes its contract, none is merged.

What was counted on real records stands in tests/test_facts.py. Records here are made up; what they imitate is keys,
markers, dates and types.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atft_assets.calendar import HALF_DAYS, TOKYO, trading_days
from atft_assets.contracts import FEWEST_ROWS
from atft_assets.jquants.endpoints import BY_PATH
from atft_assets.raw import SOURCES, listed_info, margin_interest
from atft_assets.raw.beside import Beside
from atft_assets.raw.records import typed_frame
from atft_assets.raw.source import Released, Source
from atft_assets.settings import Plan

Record = dict[str, Any]
BY_NAME = {source.name: source for source in SOURCES}
EMPTY: dict[str, Any] = {"S": "", "S?": None, "N": 0.0, "N?": None, "NS": "", "SN?": None, "J": "-"}


def record(name: str, **values: Any) -> Record:
    """A record of a table's endpoint in which everything else is not there."""
    fields = BY_NAME[name].endpoint.fields
    return {field.name: EMPTY[field.kind] for field in fields if not field.optional} | values


def taken(name: str, records: Sequence[Record], refused: Sequence[str] = (), beside: Beside | None = None):
    """The records as a table, and the rules that they break, which must be those that are named."""
    source: Source = BY_NAME[name]
    frame = typed_frame(source.endpoint, records, source.contract, "all")
    found = list(source.rules(frame, beside or Beside())) if source.rules else []
    failures = source.contract.audit(frame, "all", also=found).failures
    assert [row["rule"] for row in failures.to_dicts()] == list(refused), failures.to_dicts()
    assert frame.height == len(records)
    return frame


# -- documents


def document(number: str, **values: Any) -> Record:
    made = {"DiscDate": "2024-05-10", "DiscTime": "15:30:00", "Code": "13010", "CurPerType": "FY", "DiscNo": number}
    return record("fins_summary", **{**made, "DocType": "FYFinancialStatements_Consolidated_JP", **values})


def test_documents_are_told_apart_by_their_number_alone() -> None:
    """Of one name on one day: results, a revision and one more of the same minute, the same figures twice."""
    frame = taken(
        "fins_summary",
        [
            document("20240510000001", Sales="100"),
            document("20240423000007", DocType="EarnForecastRevision", FOP="5"),  # registered weeks before
            document("20240510000003", DocType="EarnForecastRevision", FOP="6"),
            document("20240510000004", Sales="100"),
        ],
    )
    assert frame["DiscNo"].n_unique() == 4 and frame.select("date", "code", "DiscTime").n_unique() == 1
    twice = [document("20240510000001", Sales="100"), document("20240510000001", Sales="101")]
    taken("fins_summary", twice, refused=["unique key"])


def test_documents_of_every_kind_and_period_are_taken() -> None:
    """Old names of types, a fourth quarter that says nothing, and forms without any figure."""
    kinds = (
        "ForecastRevision",
        "NumericalCorrection",
        "FYFinancialStatements_REIT",
        "4QFinancialStatements_Consolidated_JP",
    )
    periods = ("FY", "", "FY", "4Q")
    records = [
        document(f"2024051000000{n}", DocType=kind, CurPerType=period)
        for n, (kind, period) in enumerate(zip(kinds, periods, strict=True))
    ]
    assert set(taken("fins_summary", records)["DocType"]) == set(kinds)
    assert taken("fins_summary", [document("1", DiscDate="2024-05-11")])["available_at"].to_list() == [
        datetime(2024, 5, 13, 18, 0, tzinfo=TOKYO)
    ], "a Saturday"


def test_three_terms_of_one_announcement_are_three_dividends() -> None:
    def announced(number: str, term: str, ex: str, rate: Any) -> Record:
        return record(
            "fins_dividend", PubDate="2022-01-14", PubTime="15:00", Code="13010", RefNo=number, StatCode="1",
            IFCode="2", FRCode="2", IFTerm=term, ExDate=ex, CARefNo=number, DivRate=rate, PayDate="-",
        )  # fmt: skip

    three = [
        announced("1", "2022-03", "2022-03-30", 0), announced("2", "2022-09", "2022-09-29", "-"),
        announced("3", "2023-03", "2023-03-30", 12.5),
    ]  # fmt: skip
    frame = taken("fins_dividend", three)
    assert frame["DivRate"].to_list() == ["0", "-", "12.5"] and frame.select("date", "code").n_unique() == 1
    assert (date(2023, 3, 30) - frame["date"][2]).days > 365, "an ex-date may lie more than a year ahead"
    taken("fins_dividend", [*three, three[0]], refused=["unique key"])


# -- announced days


def test_words_of_the_older_calendar_are_kept_as_they_are() -> None:
    told = [
        ("3月31日", "第２四半期", "プライム"), ("2月末日", "本決算", "一部"), ("(注1)", "-", "ジャスダック"),
        ("9月30日", "第１四半期", "マザーズ"),
    ]  # fmt: skip
    records = [
        record("earnings_calendar", Date="2025-11-07", Code=f"{1301 + n}0", CoName=str(n), FY=fy, SectorNm="x", FQ=fq,
               Section=section)
        for n, (fy, fq, section) in enumerate(told)
    ]  # fmt: skip
    frame = taken("earnings_calendar", records)
    assert list(frame.select("FY", "FQ", "Section").iter_rows()) == told
    taken("earnings_calendar", records[:1])  # off season it is one


def test_announced_days_keep_their_zeros_and_may_move_within_a_publication() -> None:
    def told(day: str, published: str = "2026-04-03") -> Record:
        return record(
            "earnings_date", PubDate=published, SchDate=day, FQName="本決算", FYE="0331", Code="13010", CoName="x"
        )

    frame = taken("earnings_date", [told("2026-05-08"), told("2026-05-11"), told(""), told("2026-06-05", "2026-04-06")])
    assert set(frame["FYE"]) == {"0331"} and frame.select("code", "FQName").n_unique() == 1
    assert frame["available_at"][0] == datetime(2026, 4, 3, 16, 0, tzinfo=TOKYO)


# -- margin


def test_the_days_of_weekly_balances() -> None:
    """The last business day of each week; a week of two sessions is asked for in vain, which is no failure."""
    source = BY_NAME["margin_interest"]
    assert source.choose and source.empty_ok
    now = datetime(2026, 6, 30, 20, tzinfo=TOKYO)
    released = Released(source.endpoint, date(2023, 1, 4), None, Plan.STANDARD, now)
    asked = source.choose(trading_days(date(2023, 7, 3), date(2026, 6, 5)), released)
    thursdays = ("2023-08-10", "2023-11-02", "2024-02-22", "2024-05-02", "2026-03-19")
    assert {date.fromisoformat(day) for day in thursdays} <= set(asked)
    assert len({day.isocalendar()[:2] for day in asked}) == len(asked), "one a week"
    daily = trading_days(margin_interest.DAILY_SINCE, date(2026, 11, 20))
    assert source.choose(daily, released) == daily


def test_balances_of_nobody_and_of_every_kind_of_code() -> None:
    def balance(code: str, kind: str, of_each: float) -> Record:
        whole = {"ShrtVol": 2 * of_each, "LongVol": 2 * of_each}
        parts = {f"{side}{what}Vol": of_each for side in ("Shrt", "Long") for what in ("Neg", "Std")}
        return record("margin_interest", Date="2024-02-22", Code=code, IssType=kind, **whole, **parts)

    codes = [("13010", "1", 0.0), ("25935", "2", 100.0), ("130A0", "1", 50.0), ("94346", "3", 0.0)]
    frame = taken("margin_interest", [balance(*one) for one in codes])
    assert set(frame["available_at"]) == {datetime(2024, 2, 27, 16, 30, tzinfo=TOKYO)}
    broken = balance("13020", "1", 10.0) | {"ShrtVol": 21.0}
    taken("margin_interest", [balance("13010", "1", 5.0), broken], refused=["ShrtNegVol + ShrtStdVol = ShrtVol"])


REASONS = ("Restricted", "DailyPublication", "Monitoring", "RestrictedByJSF", "PrecautionByJSF", "UnclearOrSecOnAlert")


def alert(published: str, balance: str, code: str = "13010", **values: Any) -> Record:
    flags = {name: str(int(name == "DailyPublication")) for name in REASONS}
    made = {"PubDate": published, "AppDate": balance, "Code": code, "PubReason": flags, "TSEMrgnRegCls": "002"}
    changes = {field.name: "-" for field in BY_NAME["margin_alert"].endpoint.fields if field.name.endswith("Chg")}
    return record(
        "margin_alert", **{**made, **changes, "ShrtOutRatio": 1.5, "LongOutRatio": 2.0, "SLRatio": 75.0, **values}
    )


def test_alerts_are_told_apart_by_publication_code_and_balance_date() -> None:
    rows = [
        alert("2021-08-27", "2021-08-25"), alert("2021-08-27", "2021-08-26"),  # two balance dates at once
        alert("2021-09-01", "2021-08-26", LongOut=100.0, LongStdOut=100.0),  # a correction: the same AppDate
        alert("2020-10-01", "2020-09-30"),  # published on the day of the halt
    ]  # fmt: skip
    frame = taken("margin_alert", rows)
    assert not frame.select("date", "code").is_unique().all() and not frame.select("code", "AppDate").is_unique().all()
    taken("margin_alert", [*rows, rows[0]], refused=["unique key"])
    taken("margin_alert", [alert("2021-08-27", "2021-08-27")], refused=["before the publication"])


def test_markers_of_alerts_stay_markers() -> None:
    fund = alert("2024-05-10", "2024-05-09", "13060", ShrtOutRatio="*", LongOutRatio="*")
    nobody = alert("2024-05-10", "2024-05-09", "13020", SLRatio=0.0, PubReason="")
    unknown = alert("2024-05-10", "2024-05-09", "13030", PubReason="-", SLRatio=938.6)
    frame = taken("margin_alert", [fund, nobody, unknown]).sort("code")
    assert frame["ShrtOutRatio"].to_list() == ["1.5", "1.5", "*"] and frame["SLRatio"].to_list() == ["0", "938.6", "75"]
    assert frame["PubReason"].to_list()[:2] == ["", "-"] and '"DailyPublication": "1"' in frame["PubReason"][2]


# -- short selling


def test_all_sectors_of_a_day_and_other_is_one_of_them() -> None:
    def sector(code: str, value: float) -> Record:
        return record("short_ratio", Date="2025-11-04", S33=code, SellExShortVa=value, ShrtWithResVa=value / 2,
                      ShrtNoResVa=value / 3)  # fmt: skip

    rows = [sector(code, 6e9 + n) for n, code in enumerate((*listed_info.SECTORS33, "9999"))]
    assert taken("short_ratio", rows).height == 34
    taken("short_ratio", rows[2:], refused=["all 33 sectors on every trading day"])


def report(disclosed: str, dated: str, code: str = "72800", holder: str = "個人", **values: Any) -> Record:
    made = {"ShrtPosToSO": 0.006, "ShrtPosShares": 229_106.0, "ShrtPosUnits": 2_291.0, "SSAddr": "1 Some Street "}
    texts = dict.fromkeys(("DICName", "DICAddr", "FundName"), "-")
    return record(
        "short_sale_report", DiscDate=disclosed, CalcDate=dated, Code=code, SSName=holder, **made | texts | values
    )


def test_reports_have_no_key_and_days_of_their_own() -> None:
    rows = [
        *[report("2026-01-06", "2025-12-30")] * 3,  # people of one name with one number
        report("2026-01-06", "2026-01-01", "130A0", "A plc"),  # a holiday
        report("2026-01-06", "2026-01-05", "13010", "A plc", ShrtPosToSO=0.0061),  # a day later
        report("2026-01-13", "2026-01-05", "13010", "A plc", ShrtPosToSO=0.0057),  # again, with another number
        report(
            "2026-01-06", "2024-12-10", "13020", "B LLC", Notes="顧客取引に係るヘッジポジションも含む"
        ),  # a year late
        report("2026-01-06", "2026-01-06", "13030", "B LLC", ShrtPosToSO=0.0, ShrtPosShares=0.0, ShrtPosUnits=0.0),
        report("2026-01-06", "2025-12-30", "13040", "B LLC", PrevRptDate="2025-12-04", PrevRptRatio=0.0047, Notes="-"),
    ]
    frame = taken("short_sale_report", rows)
    assert frame["available_at"].dt.date().to_list() == frame["date"].to_list(), "known by its disclosure alone"
    early = report("2026-01-06", "2026-01-07", "13010")
    taken("short_sale_report", [*rows, early], refused=["not after the disclosure"])


@pytest.mark.parametrize("count", [1, 4, FEWEST_ROWS - 1])
def test_a_month_with_a_handful_of_reports_may_hold_one_name(count: int) -> None:
    """Of a month of four reports all may be of one code: nobody can call the column constant by mistake."""
    days = trading_days(date(2017, 11, 1), date(2018, 1, 31))[:count]
    taken("short_sale_report", [report(str(day), str(day), holder="A plc") for day in days])


def test_a_full_month_of_one_name_is_no_month() -> None:
    days = trading_days(date(2017, 11, 1), date(2018, 1, 31))[:FEWEST_ROWS]
    rows = [report(str(day), str(day), ShrtPosToSO=0.005 + n / 1e4) for n, day in enumerate(days)]
    taken("short_sale_report", rows, refused=["not one constant value"] * 4)


# -- flow


def week(published: str, first: str, last: str, section: str, size: float) -> Record:
    values: dict[str, float] = {}

    def side(who: str, sell: float, buy: float) -> None:
        values.update({f"{who}Sell": sell, f"{who}Buy": buy, f"{who}Tot": sell + buy, f"{who}Bal": buy - sell})

    clients = ("Ind", "Frgn", "SecCo", "InvTr", "BusCo", "OthCo", "InsCo", "Bank", "TrstBnk", "OthFin")
    for place, who in enumerate(clients):
        side(who, size + place, size + 2 * place)
    side("Prop", size, size + 7)
    side("Brk", *(sum(values[f"{who}{what}"] for who in clients) for what in ("Sell", "Buy")))
    side("Tot", *(values[f"Prop{what}"] + values[f"Brk{what}"] for what in ("Sell", "Buy")))
    return record("investor_types", PubDate=published, StDate=first, EnDate=last, Section=section, **values)


def test_weeks_of_any_length_lag_and_number_type() -> None:
    """A week of one session, a correction, the sections of 2008, sums that are no sums of sections."""
    weeks = [
        *(week("2008-01-16", "2008-01-04", "2008-01-04", section, 1e6 * (n + 1))
          for n, section in enumerate(("TSE1st", "TSE2nd", "TSEMothers"))),
        week("2008-01-16", "2008-01-04", "2008-01-04", "TokyoNagoya", 9e6),
        week("2008-01-21", "2008-01-07", "2008-01-11", "TSE1st", 3e6),
        week("2008-01-30", "2008-01-07", "2008-01-11", "TSE1st", 3.1e6),
    ]  # fmt: skip
    by_file = taken("investor_types", weeks)
    whole = [{name: int(v) if isinstance(v, float) else v for name, v in one.items()} for one in weeks]
    assert_frame_equal(taken("investor_types", whole), by_file)  # the API sends integers, a file floats
    assert by_file["available_at"][0] == datetime(2008, 1, 16, 18, 0, tzinfo=TOKYO)
    wrong = weeks[0] | {"FrgnTot": weeks[0]["FrgnTot"] + 100}
    taken("investor_types", [wrong], refused=["the sum: sales + purchases", "the sum: the kinds of clients"])


# -- derivatives


def option(code: str, **values: Any) -> Record:
    made = {
        "Date": "2025-10-24",
        "Code": code,
        "CM": "2025-12",
        "Strike": 40_125.0,
        "EmMrgnTrgDiv": "002",
        "PCDiv": "1",
    }
    known = {"LTD": "2025-12-11", "SQD": "2025-12-12", "Settle": 1.0, "Theo": 0.5, "BaseVol": 20.0, "UnderPx": 49_000.0}
    return record("options_225", **{**made, **known, "IV": 30.0, "IR": 0.5, "VoOA": 0.0, **values})


def test_prices_volumes_and_volatilities_of_options() -> None:
    rows = [
        option("131120018"),  # new: no night session
        option("131120118", Vo=19.0, Va=19_000.0, EO=0.0, IV=1.0),  # outside the auction: a volume without a price
        option(
            "1411200A8",
            PCDiv="2",
            O=5.0,
            H=6.0,
            L=5.0,
            C=6.0,
            Vo=3.0,
            VoOA=3.0,
            EO=5.0,
            IV=320.0,
            IR=0.7,
            Strike=40_250.0,
        ),
    ]
    frame = taken("options_225", rows)
    assert frame["EO"].to_list() == ["", "0", "5"] and frame["IV"].to_list() == [30.0, 1.0, 320.0]
    taken("options_225", [*rows, rows[0]], refused=["unique key"])
    taken("options_225", [*rows, option("131120099", UnderPx=48_000.0)], refused=["one level of the index a day"])


def test_options_of_before_2016_have_neither_settlement_nor_volatility() -> None:
    old = dict.fromkeys(("VoOA", "LTD", "SQD", "Settle", "Theo", "BaseVol", "UnderPx", "IV", "IR"))
    rows = [option(f"1330500{n}8", Date="2008-05-07", CM="2008-05", **old) for n in range(2)]
    frame = taken("options_225", rows)  # two rows, all alike
    assert frame["Settle"].null_count() == frame["IV"].null_count() == 2
    excerpt = [option(f"13305{n:02d}18", Date="2008-05-07", CM="2008-05", **old) for n in range(FEWEST_ROWS)]
    source = BY_NAME["options_225"]
    typed = typed_frame(source.endpoint, excerpt, source.contract, "all")
    assert "O" in source.contract.audit(typed, "all").failures["column"].to_list(), (
        "a day of which all prices are equal"
    )


def test_codes_of_contracts_are_nine_characters_and_not_all_digits() -> None:
    share = {
        "ProdCat": "EQOP",
        "UndSSO": "2402A",
        "Date": "2026-04-20",
        "CM": "2026-06",
        "EmMrgnTrgDiv": "002",
        "PCDiv": "1",
    }
    frame = taken(
        "options", [record("options", Code="1402A06C1", **share), record("options", Code="140240600", **share)]
    )
    assert frame["UndSSO"].to_list() == ["2402A"] * 2
    products = [("1900404A0", "GOLDF"), ("1900406C0", "UDJY"), ("1900406C1", "CHJY"), ("1900406C2", "ERJY")]
    rows = [
        record("futures", Code=code, ProdCat=product, Date="2026-04-20", CM="2026-06", EmMrgnTrgDiv="002")
        for code, product in products
    ]
    assert dict(taken("futures", rows).select("code", "ProdCat").iter_rows()) == dict(products)
    with pytest.raises(AssertionError, match="str_matches"):
        taken("futures", [rows[0] | {"Code": "19004A0"}])


# -- names


def listed(day: str, code: str, **values: Any) -> Record:
    made = {
        "S17": "1",
        "S17Nm": "食品",
        "S33": "0050",
        "S33Nm": "水産・農林業",
        "ScaleCat": "TOPIX Small 1",
        "Mkt": "0101",
    }
    return record("listed_info", **{"Date": day, "Code": code, "CoName": code, **made, "MktNm": "東証一部", "Mrgn": "2",
                                     "MrgnNm": "貸借", **values})  # fmt: skip


CODES = [f"{1301 + n}0" for n in range(40)]


def test_a_list_of_before_the_product_category_is_taken() -> None:
    frame = taken("listed_info", [listed("2017-02-27", code) for code in CODES])
    assert frame["ProdCat"].null_count() == len(CODES) and frame["CoNameEn"].null_count() == len(CODES)
    taken("listed_info", [listed("2026-06-01", code, ProdCat="011") for code in CODES])


def test_segments_and_size_classes_may_all_change_at_once_and_sectors_may_not() -> None:
    before = [listed("2022-03-28", code) for code in CODES]
    reform = [listed("2022-04-04", code, Mkt="0111", MktNm="プライム") for code in CODES]
    wrong_size = [listed("2022-04-25", code, Mkt="0111", ScaleCat="-") for code in CODES]  # and back in May
    taken("listed_info", [*before, *reform, *wrong_size])
    assert len({row["S33"] for row in before}) == 1
    moved = [row | {"Date": "2022-04-04", "S33": "9050"} for row in before]
    with pytest.raises(AssertionError, match="change their sector"):
        taken("listed_info", [*before, *moved])
    taken("listed_info", [before[0] | {"S33": ""}, *before[1:]], refused=[f"isin({[*listed_info.SECTORS33, '9999']})"])


def test_names_may_vanish_and_return_and_have_any_fifth_character() -> None:
    days = ("2023-03-27", "2023-04-03", "2023-04-10")
    others = [listed(day, code) for day in days for code in CODES]
    back = [listed(day, "83030", Mkt="0105") for day in (days[0], days[2])]
    classes = [listed(days[1], code) for code in ("25935", "94346", "21649", "130A0")]
    assert taken("listed_info", [*others, *back, *classes]).filter(pl.col("code") == "83030").height == 2


def test_half_days_have_no_list_and_the_next_day_opens_the_week() -> None:
    source = BY_NAME["listed_info"]
    assert source.choose
    for first in (date(2008, 12, 1), date(2008, 12, 30), date(2009, 1, 5)):
        released = Released(source.endpoint, first, None, Plan.PREMIUM, datetime(2026, 1, 9, 20, tzinfo=TOKYO))
        asked = source.choose(trading_days(first, date(2009, 1, 16)), released)
        assert not HALF_DAYS & set(asked) and {date(2009, 1, 6), date(2009, 1, 13)} <= set(asked)
        assert date(2009, 1, 7) not in asked
    assert all(day + timedelta(days=1) not in HALF_DAYS for day in HALF_DAYS)


# -- since when


@pytest.mark.parametrize(
    ("path", "month"),
    [
        ("/fins/summary", "2008-07"), ("/fins/details", "2009-01"), ("/fins/dividend", "2013-02"),
        ("/markets/short-sale-report", "2013-11"), ("/fins/earnings-date", "2014-09"),
        ("/markets/breakdown", "2015-04"), ("/markets/margin-interest", "2012-02"),
        ("/markets/margin-alert", "2008-05"), ("/markets/short-ratio", "2008-11"),
        ("/equities/investor-types", "2008-01"),
    ],
)  # fmt: skip
def test_first_months_are_those_that_were_seen(path: str, month: str) -> None:
    assert f"{BY_PATH[path].since:%Y-%m}" == month
