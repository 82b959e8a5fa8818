"""Short selling: sectors and market against sums by hand, positions against a replay of every disclosure."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets import calendar
from atft_assets.calendar import decision_instant, next_trading_day, shift_trading_days, trading_days
from atft_assets.features.share_basis import with_basis
from atft_assets.features.short import FEATURES, POSITIONS_FLAG, SALES_FLAG, TABLE, VALIDITY, short_features
from atft_assets.features.short_positions import positions
from tests.features.events_proof import assert_as_declared, assert_no_future, differing
from tests.features.synthetic import raw_quotes
from tests.features.synthetic_records import (
    PERSON,
    at,
    report,
    reports_of,
    short_ratio,
    short_sale_report,
    with_instants,
)

NAMES = 3
FIRST = date(2019, 1, 4)
QUOTES = raw_quotes(NAMES, 470, seed=2, untraded=0.03, splits=True)
LAST = QUOTES["date"].max()
SALES = short_ratio(("0050", "1050", "9999"), FIRST, LAST, seed=1)
REPORTS = short_sale_report(NAMES, date(2018, 12, 3), LAST, seed=3)
SECTOR = {"13010": "0050", "13020": "1050", "13030": "9999"}
ROWS = QUOTES.select("date", "code").with_columns(pl.col("code").replace_strict(SECTOR).alias("s33"))
DAYS = ROWS["date"].unique().sort().to_list()
CALENDAR = trading_days(date(2017, 1, 4), date(2022, 1, 31))
PLACES = {day: i for i, day in enumerate(CALENDAR)}


def stock_of(rows: pl.DataFrame) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    returns = {f"returns_{h}d": pl.Series(rng.normal(0, 0.03, rows.height), dtype=pl.Float32) for h in (1, 5)}
    return rows.select("date", "code").with_columns(**returns)


STOCK = stock_of(ROWS)


def tables(**changed: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {"sales": SALES, "reports": REPORTS, "quotes": QUOTES, "stock": STOCK, "rows": ROWS, **changed}


def make(t) -> pl.DataFrame:
    return short_features(t["sales"], t["reports"], t["quotes"], t["stock"], t["rows"])


GOT = make(tables())


def known_sales(sales: pl.DataFrame, evening: date) -> dict[str, dict[date, tuple[float, float, float]]]:
    """Sales by sector and day, and those of all sectors, as an evening knew them."""
    found: dict[str, dict[date, tuple[float, float, float]]] = {"all": {}}
    columns = ("date", "S33", "SellExShortVa", "ShrtWithResVa", "ShrtNoResVa")
    for day, s33, *amounts in (
        sales.filter(pl.col("available_at") <= decision_instant(evening)).select(columns).iter_rows()
    ):
        found.setdefault(s33, {})[day] = tuple(amounts)
        before = found["all"].get(day, (0.0, 0.0, 0.0))
        found["all"][day] = tuple(a + b for a, b in zip(before, amounts, strict=True))
    return found


def of_series(series: dict[date, tuple[float, float, float]], evening: date, who: str) -> dict[str, float]:
    """The columns of a sector, or of the market, on an evening."""
    newest = max(series, default=None)
    if newest is None or PLACES[evening] - PLACES[newest] > 1:
        return {}
    share = {PLACES[d]: (w + n) / (w + n + x) for d, (x, w, n) in series.items()}
    restrict = {PLACES[d]: w / (w + n) for d, (x, w, n) in series.items()}
    ln = {PLACES[d]: np.log(w + n) for d, (x, w, n) in series.items()}
    t = PLACES[newest]

    def window(values: dict[int, float], length: int, least: int) -> list[float] | None:
        lately = [values[p] for p in range(t - length + 1, t + 1) if p in values]
        return lately if len(lately) >= least else None

    found = {f"{who}_short_share": share[t], f"{who}_restrict_share": restrict[t]}
    if five := window(share, 5, 4):
        found[f"{who}_short_mom5"] = share[t] - np.mean(five)
    if sixty := window(share, 60, 50):
        found[f"{who}_short_share_z60"] = (share[t] - np.mean(sixty)) / np.std(sixty, ddof=1)
    if who == "ss_sec":
        if t - 1 in share:
            found["ss_sec_short_share_d1"] = share[t] - share[t - 1]
            found["ss_sec_restrict_share_d1"] = restrict[t] - restrict[t - 1]
            if t - 2 in share:
                found["ss_sec_short_accel"] = share[t] - 2 * share[t - 1] + share[t - 2]
        if year := window(ln, 252, 200):
            found["ss_sec_short_turnover_z252"] = (ln[t] - np.mean(year)) / np.std(year, ddof=1)
    return found


def sector_by_hand(sales, stock, code: str, s33: str, evening: date) -> dict[str, float]:
    known = known_sales(sales, evening)
    market = of_series(known["all"], evening, "ss_mkt")
    sector = of_series(known.get(s33, {}), evening, "ss_sec") if s33 != "9999" else {}
    found = market | sector
    if sector and market:
        found["ss_rel_short_share"] = sector["ss_sec_short_share"] - market["ss_mkt_short_share"]
    if "ss_sec_short_share_z60" in sector:
        row = stock.filter((pl.col("code") == code) & (pl.col("date") == evening))
        high = sector["ss_sec_short_share_z60"] > 1
        found["ss_cond_pressure"] = float(row["returns_1d"].item() < 0 and high)
        found["ss_squeeze_setup"] = float(row["returns_5d"].item() > 0 and high)
    return found


SECTOR_COLUMNS = [f.name for f in FEATURES if not f.name.startswith("ss_pos_")]


def sectors_against_hand(got: pl.DataFrame, sales: pl.DataFrame, days: list[date]) -> None:
    for day in days:
        for row in got.filter(pl.col("date") == day).iter_rows(named=True):
            expected = sector_by_hand(sales, STOCK, row["code"], SECTOR[row["code"]], day)
            assert row[SALES_FLAG] == int("ss_sec_short_share" in expected)
            for name in SECTOR_COLUMNS:
                if name in expected:
                    assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=2e-5), (day, row["code"], name)
                else:
                    assert row[name] is None, (day, row["code"], name, row[name])


def test_sectors_and_market_against_sums_by_hand():
    halt = date(2020, 10, 1)
    assert halt in DAYS and SALES.filter(pl.col("date") == halt).is_empty()
    sectors_against_hand(
        GOT, SALES, [*DAYS[:7], DAYS[58], DAYS[60], DAYS[210], DAYS[260], *DAYS[DAYS.index(halt) - 1 :][:5]]
    )
    assert_as_declared(GOT, (*FEATURES, *VALIDITY))


def test_the_day_of_the_halt_holds_the_evening_before():
    before, halt = (
        GOT.filter((pl.col("date") == d) & (pl.col("code") == "13010")) for d in (date(2020, 9, 30), date(2020, 10, 1))
    )
    assert halt["ss_sec_short_share"].equals(before["ss_sec_short_share"]) and halt[SALES_FLAG].to_list() == [1]


def test_other_is_not_the_total_and_all_sectors_are_the_market():
    day = SALES.filter(pl.col("date") == DAYS[100])
    sums = day.select(pl.col("SellExShortVa", "ShrtWithResVa", "ShrtNoResVa").sum()).row(0)
    market = (sums[1] + sums[2]) / sum(sums)
    rows = GOT.filter(pl.col("date") == DAYS[100])
    assert rows["ss_mkt_short_share"].to_list() == pytest.approx([market] * NAMES, rel=1e-5)
    assert rows.filter(pl.col("code") == "13030")["ss_sec_short_share"].to_list() == [None]  # 9999 is no sector


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(55, 460))
def test_sales_that_come_late_against_the_same_sums(seed, place):
    """Some rows are out after the evening, some days later and after newer ones."""
    rng = np.random.default_rng(seed)
    late = [
        at(shift_trading_days(d, int(rng.integers(0, 4))), int(rng.choice([16, 19])))
        if rng.random() < 0.1
        else at(d, 16, 30)
        for d in SALES["date"]
    ]
    sales = with_instants(SALES.drop("available_at"), late)
    day = DAYS[place]
    rows = ROWS.filter(pl.col("date") == day)
    sectors_against_hand(make(tables(sales=sales, rows=rows)), sales, [day])


# -- positions


def factor_between(quotes: pl.DataFrame, code: str, early: date, late: date) -> float:
    rows = quotes.filter((pl.col("code") == code) & (pl.col("date") > early) & (pl.col("date") <= late))
    return float(np.prod(1 / rows["AdjFactor"].to_numpy()))


def first_evening(instant) -> date:
    day = instant.date() if instant.date() in PLACES else next_trading_day(instant.date())
    return day if instant <= decision_instant(day) else next_trading_day(day)


class Book:
    """The holders of a name, as somebody would keep them who reads every disclosure in turn."""

    def __init__(self, reports: pl.DataFrame, code: str):
        self.rows = [
            row
            for row in reports.filter(pl.col("code") == code)
            .sort("available_at", "CalcDate", maintain_order=True)
            .iter_rows(named=True)
            if row["ShrtPosToSO"] is not None
        ]

    def on(self, evening: date) -> dict[str, dict]:
        """The positions that stand on an evening, by holder."""
        standing: dict[str, dict] = {}
        newest: dict[str, str] = {}
        for number, row in enumerate(self.rows):
            if row["available_at"] > decision_instant(evening):
                break
            holder = f"{row['SSName'].strip()}|{row['DICName'].strip('-')}|{row['FundName'].strip('-')}"
            if row["SSName"] == PERSON:
                standing_before = [
                    h
                    for h, p in standing.items()
                    if h.startswith("person")
                    and p["CalcDate"] == row["PrevRptDate"]
                    and (row["PrevRptRatio"] is None or abs(row["PrevRptRatio"] - p["ShrtPosToSO"]) < 1e-4)
                    and row["available_at"] - p["available_at"] <= timedelta(days=365)
                ]
                holder = standing_before[0] if standing_before else f"person{number}"
            if row["CalcDate"] < newest.get(holder, ""):
                continue  # of an older day
            newest[holder] = row["CalcDate"]
            standing.pop(holder, None)
            if row["ShrtPosToSO"] >= 0.005:
                standing[holder] = {**row, "evening": first_evening(row["available_at"])}
        # a year of silence: out on the first evening a year after
        return {h: p for h, p in standing.items() if evening < p["evening"] + timedelta(days=365)}


def positions_by_hand(reports: pl.DataFrame, quotes: pl.DataFrame, code: str, evening: date) -> dict[str, float]:
    book = Book(reports, code)
    now, then5, then20 = (book.on(CALENDAR[PLACES[evening] - n]) for n in (0, 5, 20))
    total = sum(p["ShrtPosToSO"] for p in now.values())
    found = {
        "ss_pos_ratio": total,
        "ss_pos_holders": len(now),
        "ss_pos_chg_5d": total - sum(p["ShrtPosToSO"] for p in then5.values()),
        "ss_pos_chg_20d": total - sum(p["ShrtPosToSO"] for p in then20.values()),
    }
    came = left = 0
    for n in range(5):
        today, before = (set(book.on(CALENDAR[PLACES[evening] - k])) for k in (n, n + 1))
        came, left = came + len(today - before), left + len(before - today)
    found |= {"ss_pos_new_5d": came, "ss_pos_left_5d": left}
    known = reports.filter((pl.col("code") == code) & (pl.col("available_at") <= decision_instant(evening)))
    if known.height:
        age = PLACES[evening] - PLACES[first_evening(known["available_at"].max())]
        if age <= 245:
            found["ss_pos_days_since"] = age
    if now:
        found["ss_pos_concentration"] = sum((p["ShrtPosToSO"] / total) ** 2 for p in now.values())
    traded = quotes.filter((pl.col("code") == code) & (pl.col("date") <= evening)).sort("date").tail(20)
    if traded.height == 20:
        volumes = [
            (v or 0.0) * factor_between(quotes, code, d, evening) for d, v in traded.select("date", "Vo").iter_rows()
        ]
        held = [
            p["ShrtPosShares"] * factor_between(quotes, code, date.fromisoformat(p["CalcDate"]), evening)
            for p in now.values()
        ]
        found["ss_pos_days_to_cover"] = sum(held) / np.mean(volumes)
    return found


POSITIONS = (
    "ss_pos_ratio",
    "ss_pos_holders",
    "ss_pos_chg_5d",
    "ss_pos_chg_20d",
    "ss_pos_new_5d",
    "ss_pos_left_5d",
    "ss_pos_concentration",
    "ss_pos_days_to_cover",
    "ss_pos_days_since",
)


def positions_against_hand(got: pl.DataFrame, reports: pl.DataFrame, quotes: pl.DataFrame, days: list[date]) -> None:
    for day in days:
        rows = got.filter(pl.col("date") == day)
        hand = {code: positions_by_hand(reports, quotes, code, day) for code in rows["code"]}
        whole_year = day >= reports["date"].min() + timedelta(days=365)
        for row in rows.iter_rows(named=True):
            assert row[POSITIONS_FLAG] == whole_year
            for name in POSITIONS:
                if whole_year and name in hand[row["code"]]:
                    assert row[name] == pytest.approx(hand[row["code"]][name], rel=1e-5, abs=1e-7), (
                        day,
                        row["code"],
                        name,
                    )
                else:
                    assert row[name] is None, (day, row["code"], name)


def test_positions_against_a_replay_of_every_disclosure():
    positions_against_hand(GOT, REPORTS, QUOTES, [DAYS[3], *DAYS[226:470:61], *DAYS[300:303]])
    later = GOT.filter(pl.col(POSITIONS_FLAG) == 1)
    assert later["ss_pos_ratio"].max() > 0 and later["ss_pos_holders"].n_unique() > 2


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.004, 0.03, 0.3]))
def test_random_disclosures_against_the_same_replay(seed, share):
    """Rare reports lapse; the oldest days come late; the same day comes again; persons come and go."""
    rng = np.random.default_rng(seed)
    reports = short_sale_report(2, date(2018, 6, 1), LAST, seed=seed, share=share).drop("available_at")
    far = pl.Series(rng.random(reports.height) < 0.1)
    older = pl.Series([CALENDAR[max(PLACES[d] - int(rng.integers(1, 200)), 0)].isoformat() for d in reports["date"]])
    reports = reports.with_columns(pl.when(far).then(older).otherwise("CalcDate").alias("CalcDate"))
    reports = reports_of(reports.rows())
    days = [DAYS[i] for i in (120, 250, 251, 400)]
    rows = ROWS.filter(pl.col("date").is_in(days) & (pl.col("code") < "13030"))
    positions_against_hand(positions(reports, with_basis(QUOTES), rows), reports, QUOTES, days)


def quiet(rows: list[tuple], days: list[date] = DAYS) -> pl.DataFrame:
    """The positions of the first name, a year after a first report of another name."""
    begin = report(date(2018, 1, 9), date(2018, 1, 5), "13020", "Alpha Capital", 0.006, 1e5)
    asked = pl.DataFrame({"date": days, "code": ["13010"] * len(days)})
    return positions(reports_of([begin, *rows]), with_basis(QUOTES), asked)


def on(frame: pl.DataFrame, day: date, name: str) -> float | None:
    return frame.filter(pl.col("date") == day)[name].item()


MONDAY = date(2019, 5, 20)


def test_a_report_is_known_by_its_disclosure_and_not_two_days_after_its_day():
    """Three quarters come two business days after CalcDate, a quarter one, some a year later."""
    for calculated in (date(2019, 5, 17), date(2019, 5, 15), date(2018, 8, 1), date(2019, 5, 19)):  # a Sunday, too
        got = quiet([report(MONDAY, calculated, "13010", "Alpha Capital", 0.01, 1e5)])
        assert on(got, date(2019, 5, 17), "ss_pos_ratio") == 0.0 and on(got, MONDAY, "ss_pos_ratio") == pytest.approx(
            0.01
        )


def test_older_days_that_come_late_do_not_displace_the_newest():
    """One holder disclosed 176 rows of a year on one day."""
    year = [
        report(MONDAY, d, "13010", "Alpha Capital", 0.02, 1e5)
        for d in trading_days(date(2018, 8, 1), date(2019, 4, 26))
    ]
    newest = report(date(2019, 5, 8), date(2019, 5, 7), "13010", "Alpha Capital", 0.008, 1e5)
    got = quiet([newest, *year])
    assert on(got, MONDAY, "ss_pos_ratio") == pytest.approx(0.008) and on(got, MONDAY, "ss_pos_holders") == 1
    alone = quiet(year)
    assert on(alone, MONDAY, "ss_pos_ratio") == pytest.approx(0.02) and on(alone, MONDAY, "ss_pos_holders") == 1


def test_the_same_day_again_is_a_correction():
    first = report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.01, 1e5)
    again = report(date(2019, 5, 27), date(2019, 5, 16), "13010", "Alpha Capital", 0.013, 1.3e5)
    got = quiet([first, again])
    assert on(got, date(2019, 5, 24), "ss_pos_ratio") == pytest.approx(0.01)
    assert (
        on(got, date(2019, 5, 27), "ss_pos_ratio") == pytest.approx(0.013)
        and on(got, date(2019, 5, 27), "ss_pos_holders") == 1
    )


def test_a_report_below_the_threshold_is_an_exit_and_silence_before_it_means_unchanged():
    come = report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.01, 1e5)
    leave = report(date(2019, 8, 5), date(2019, 8, 1), "13010", "Alpha Capital", 0.0049, 4e4)
    got = quiet([come, leave])
    assert on(got, date(2019, 8, 2), "ss_pos_ratio") == pytest.approx(0.01)  # eleven weeks of silence
    assert on(got, date(2019, 8, 5), "ss_pos_ratio") == 0.0 and on(got, date(2019, 8, 5), "ss_pos_days_to_cover") == 0.0
    assert on(got, date(2019, 8, 5), "ss_pos_left_5d") == 1 and on(got, date(2019, 8, 13), "ss_pos_left_5d") == 0
    assert on(got, date(2019, 8, 5), "ss_pos_concentration") is None
    at_threshold = quiet([report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.005, 1e5)])
    assert on(at_threshold, MONDAY, "ss_pos_holders") == 1
    nothing = quiet([come, report(date(2019, 8, 5), date(2019, 8, 1), "13010", "Alpha Capital", 0.0, 0.0)])
    assert on(nothing, date(2019, 8, 5), "ss_pos_holders") == 0


def test_a_year_of_silence_is_an_exit_too():
    got = quiet([report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.01, 1e5)])
    end = date(2020, 5, 19)  # a year later, in a leap year
    assert on(got, date(2020, 5, 18), "ss_pos_ratio") == pytest.approx(0.01) and on(got, end, "ss_pos_ratio") == 0.0


def test_persons_are_told_apart_by_the_reports_that_they_name():
    one = report(date(2019, 5, 8), date(2019, 5, 7), "13010", PERSON, 0.006, 6e4)
    two = report(date(2019, 5, 8), date(2019, 5, 7), "13010", PERSON, 0.009, 9e4)  # another one, the same day
    more = report(MONDAY, date(2019, 5, 16), "13010", PERSON, 0.012, 12e4, date(2019, 5, 7), 0.009)
    gone = report(date(2019, 6, 3), date(2019, 5, 30), "13010", PERSON, 0.004, 4e4, date(2019, 5, 7), 0.006)
    got = quiet([one, two, more, gone])
    assert on(got, date(2019, 5, 8), "ss_pos_holders") == 2
    assert on(got, MONDAY, "ss_pos_ratio") == pytest.approx(0.018) and on(got, MONDAY, "ss_pos_holders") == 2
    assert on(got, date(2019, 6, 3), "ss_pos_ratio") == pytest.approx(0.012)


def test_older_days_that_come_after_an_exit_bring_nobody_back():
    come = report(date(2019, 5, 8), date(2019, 5, 7), "13010", "Alpha Capital", 0.006, 6e4)
    leave = report(date(2019, 5, 15), date(2019, 5, 14), "13010", "Alpha Capital", 0.004, 4e4, date(2019, 5, 7), 0.006)
    late = report(MONDAY, date(2019, 5, 10), "13010", "Alpha Capital", 0.008, 8e4)
    assert on(quiet([come, leave, late]), MONDAY, "ss_pos_holders") == 0


def test_an_exit_of_two_years_ago_that_overrules_a_late_report_is_among_what_is_read():
    """A report of 2018 that comes late in the year is older than an exit that came before all other reports ended."""
    leave = report(date(2018, 1, 17), date(2018, 1, 15), "13010", "Alpha Capital", 0.004, 4e4)
    late = report(date(2018, 12, 20), date(2018, 1, 10), "13010", "Alpha Capital", 0.008, 8e4)
    first = calendar.first_of_month(calendar.shift_month("2019-05", -TABLE.reads["short_sale_report"]))
    assert first <= date(2018, 1, 17) and on(quiet([leave, late]), MONDAY, "ss_pos_holders") == 0
    assert on(quiet([late]), MONDAY, "ss_pos_holders") == 1


def test_what_is_disclosed_more_than_a_year_late_is_no_news():
    for calculated, holders in ((date(2018, 5, 18), 0), (date(2018, 5, 21), 1)):
        got = quiet([report(MONDAY, calculated, "13010", "Alpha Capital", 0.008, 8e4)])
        assert on(got, MONDAY, "ss_pos_holders") == holders


def test_one_house_for_two_principals_is_two_holders_and_markers_are_no_names():
    a = report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital ", 0.006, 6e4, principal="Fund A")
    b = report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.007, 7e4, principal="Fund B")
    assert on(quiet([a, b]), MONDAY, "ss_pos_ratio") == pytest.approx(0.013)
    c = report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.006, 6e4, principal="-", fund="-")
    d = report(date(2019, 5, 27), date(2019, 5, 23), "13010", "Alpha Capital ", 0.008, 8e4)
    assert on(quiet([c, d]), date(2019, 5, 27), "ss_pos_ratio") == pytest.approx(0.008)


def test_a_report_after_the_evening_enters_the_next_one():
    rows = reports_of(
        [
            report(date(2018, 1, 9), date(2018, 1, 5), "13020", "Alpha Capital", 0.006, 1e5),
            report(MONDAY, date(2019, 5, 16), "13010", "Alpha Capital", 0.01, 1e5),
        ]
    )
    late = with_instants(rows.drop("available_at"), [at(date(2018, 1, 9), 18, 5), at(MONDAY, 18, 31)])
    asked = pl.DataFrame({"date": [MONDAY, date(2019, 5, 21)], "code": ["13010"] * 2})
    assert positions(late, with_basis(QUOTES), asked)["ss_pos_ratio"].to_list() == pytest.approx([0.0, 0.01])
    assert positions(rows, with_basis(QUOTES), asked)["ss_pos_ratio"].to_list() == pytest.approx([0.01, 0.01])


def test_the_risk_is_ranked_among_the_names_of_the_day_alone():
    late = DAYS[300]
    later = REPORTS.with_columns(
        pl.when(pl.col("date") > late).then(pl.col("ShrtPosToSO") * 10).otherwise("ShrtPosToSO").alias("ShrtPosToSO")
    )
    one, two = (f.filter(pl.col("date") <= late)["ss_pos_squeeze_risk"] for f in (GOT, make(tables(reports=later))))
    assert one.equals(two)
    day = GOT.filter((pl.col("date") == DAYS[320]) & (pl.col("ss_pos_ratio") > 0))
    ranks = [day[c].rank() / day.height for c in ("ss_pos_ratio", "ss_pos_days_to_cover", "ss_pos_chg_5d")]
    assert day["ss_pos_squeeze_risk"].to_list() == pytest.approx((sum(ranks) / 3).to_list(), rel=1e-5)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(20, 465))
def test_what_is_not_out_changes_nothing(seed, place):
    assert_no_future(make, tables(), DAYS[place], seed)


def test_a_month_alone_equals_the_month_within_a_longer_history():
    month = date(2020, 11, 1)
    since = date(2019, 8, 1)
    rows = ROWS.filter(pl.col("date") >= month)
    whole = make(tables(rows=rows))
    alone = make(
        tables(
            sales=SALES.filter(pl.col("date") >= since),
            reports=REPORTS.filter(pl.col("date") >= since),
            quotes=QUOTES.filter(pl.col("date") >= since),
            rows=rows,
        )
    )
    assert rows.height and differing(whole, alone) == []


def test_nothing_known_nothing_said():
    got = make(tables(sales=SALES.clear(), reports=REPORTS.clear()))
    assert got[SALES_FLAG].sum() == 0 and got[POSITIONS_FLAG].sum() == 0
    assert all(got[f.name].null_count() == got.height for f in FEATURES)
