"""Investor flow against a search through all publications; its hour, late rows, corrections, the reform of sections."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, trading_days
from atft_assets.features.flow import ACTORS, FEATURES, FLAG, SECTIONS, STALE, TABLE, VALIDITY, flow_features
from atft_assets.features.schemas import contract_of
from tests.features.events_proof import assert_as_declared, assert_no_future, differing
from tests.features.synthetic_records import at, investor_types, with_instants

FIRST, LAST = date(2020, 9, 7), date(2022, 6, 24)
WEEKS = investor_types(FIRST, LAST, seed=1, corrected=0.1)
CALENDAR = trading_days(date(2020, 8, 3), date(2022, 7, 29))
PLACES = {day: i for i, day in enumerate(CALENDAR)}
REFORM = date(2022, 4, 4)
NAMES = {"13010": ("0101", "0111"), "13020": ("0107", "0112"), "13030": ("0106", "0112"), "13040": ("0104", "0113")}


def rows_of(days: list[date]) -> pl.DataFrame:
    cells = [(day, code, mkt[day >= REFORM]) for day in days for code, mkt in NAMES.items()]
    return pl.DataFrame(cells, schema={"date": pl.Date, "code": pl.String, "mkt": pl.String}, orient="row")


ROWS = rows_of(trading_days(FIRST, LAST))
DAYS = ROWS["date"].unique().sort().to_list()


def make(t) -> pl.DataFrame:
    return flow_features(t["weeks"], t["rows"])


GOT = make({"weeks": WEEKS, "rows": ROWS})


def known_weeks(weeks: pl.DataFrame, section: str, evening: date) -> dict[date, dict]:
    """Weeks of a section by their Monday, in the newest version that an evening knew."""
    found: dict[date, dict] = {}
    known = weeks.filter((pl.col("Section") == section) & (pl.col("available_at") <= decision_instant(evening)))
    for row in known.sort("available_at", maintain_order=True).iter_rows(named=True):
        end = date.fromisoformat(row["EnDate"])
        monday = end - timedelta(days=end.weekday())
        first = found.get(monday, {"first": row["available_at"]})["first"]
        found[monday] = {**row, "first": first}
    return found


def mondays() -> list[date]:
    """Mondays of the weeks with a session."""
    return sorted({day - timedelta(days=day.weekday()) for day in CALENDAR})


def of_weeks(known: dict[date, dict], evening: date) -> dict[str, float]:
    if not known:
        return {}
    newest = max(known)
    day = known[newest]["first"].date()
    day = day if known[newest]["first"] <= decision_instant(day) else CALENDAR[PLACES[day] + 1]
    age = PLACES[evening] - PLACES[day]
    if age > STALE:
        return {}
    every = mondays()

    def lately(value, monday: date, length: int) -> list[float]:
        span = every[max(every.index(monday) - length + 1, 0) : every.index(monday) + 1]
        return [value(known[m]) for m in span if m in known]

    def net(who: str):
        return lambda row: row[f"{who}Bal"] / row[f"{who}Tot"]

    def z(who: str, monday: date, length: int, least: int) -> float | None:
        values = lately(net(who), monday, length)
        return (values[-1] - np.mean(values)) / np.std(values, ddof=1) if len(values) >= least else None

    row = known[newest]
    sizes = [abs(row[f"{who}Bal"]) for who in ACTORS]
    found = {
        "flow_foreign_net_ratio": net("Frgn")(row),
        "flow_individual_net_ratio": net("Ind")(row),
        "flow_trust_net_ratio": net("TrstBnk")(row),
        "flow_proprietary_net_ratio": net("Prop")(row),
        "flow_foreign_share": row["FrgnTot"] / row["TotTot"],
        "flow_breadth_pos": np.mean([row[f"{who}Bal"] > 0 for who in ACTORS]),
        "flow_concentration": sum((s / sum(sizes)) ** 2 for s in sizes),
        "flow_days_since": age,
    }
    turnover = lately(
        lambda w: (
            w["TotTot"]
            / len(
                trading_days(
                    date.fromisoformat(w["EnDate"]) - timedelta(days=date.fromisoformat(w["EnDate"]).weekday()),
                    date.fromisoformat(w["EnDate"]),
                )
            )
        ),
        newest,
        13,
    )
    if len(turnover) >= 10:
        found["flow_activity"] = np.log(turnover[-1] / np.mean(turnover))
    signs = lately(lambda w: np.sign(w["FrgnBal"]), newest, 10)
    if len(signs) >= 8:
        found["flow_foreign_persistence"] = np.mean(signs)
    before = every[every.index(newest) - 1]
    if before in known:
        found["flow_foreign_wow"] = net("Frgn")(row) - net("Frgn")(known[before])
    if (z13 := z("Frgn", newest, 13, 10)) is not None:
        found["flow_foreign_net_z13"] = z13
    smart = {m: z("Frgn", m, 52, 26) - z("Ind", m, 52, 26) for m in known if z("Frgn", m, 52, 26) is not None}
    if newest in smart:
        found |= {
            "flow_foreign_net_z": z("Frgn", newest, 52, 26),
            "flow_individual_net_z": z("Ind", newest, 52, 26),
            "flow_smart_idx": smart[newest],
            "flow_shock_flag": float(abs(smart[newest]) >= 2),
        }
        month = [smart[m] for m in every[every.index(newest) - 3 : every.index(newest) + 1] if m in smart]
        if len(month) >= 3:
            found["flow_smart_mom4"] = smart[newest] - np.mean(month)
    return found


def against_hand(got: pl.DataFrame, weeks: pl.DataFrame, days: list[date]) -> None:
    for day in days:
        known = known_weeks(weeks, "TokyoNagoya", day)
        whole = of_weeks(known, day)
        for row in got.filter(pl.col("date") == day).iter_rows(named=True):
            expected = dict(whole)
            section = known_weeks(weeks, SECTIONS[NAMES[row["code"]][day >= REFORM]], day)
            part = of_weeks(section, day)
            if part and whole and max(section) == max(known):
                for who in ("foreign", "individual"):
                    expected[f"flow_section_{who}_rel"] = part[f"flow_{who}_net_ratio"] - whole[f"flow_{who}_net_ratio"]
            assert row[FLAG] == int(bool(whole))
            for f in FEATURES:
                if f.name in expected:
                    assert row[f.name] == pytest.approx(expected[f.name], rel=2e-4, abs=2e-5), (
                        day,
                        row["code"],
                        f.name,
                    )
                else:
                    assert row[f.name] is None, (day, row["code"], f.name, row[f.name])


def test_every_column_against_a_search_through_all_publications():
    change = DAYS.index(REFORM)
    against_hand(GOT, WEEKS, [*DAYS[:8], *DAYS[60 : len(DAYS) : 47], *DAYS[change - 1 : change + 10 : 2]])
    assert_as_declared(GOT, (*FEATURES, *VALIDITY))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(20, 430))
def test_corrections_and_late_weeks_against_the_same_search(seed, place):
    rng = np.random.default_rng(seed)
    weeks = investor_types(FIRST, LAST, seed=seed, corrected=0.3)
    late = pl.Series(rng.integers(0, 12, weeks.height))  # days later, after newer weeks sometimes
    hours = rng.choice([18, 19], weeks.height)
    instants = [
        at(CALENDAR[min(PLACES[day] + (n if n > 8 else 0), len(CALENDAR) - 1)], int(hour))
        for day, n, hour in zip(weeks["date"], late, hours, strict=True)
    ]
    weeks = with_instants(weeks.drop("available_at"), instants)
    day = DAYS[place]
    against_hand(flow_features(weeks, rows_of([day])), weeks, [day])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(10, 430))
def test_what_is_not_out_changes_nothing(seed, place):
    weeks = investor_types(FIRST, LAST, seed=seed, corrected=0.3)
    assert_no_future(make, {"weeks": weeks, "rows": ROWS}, DAYS[place], seed)


def test_a_week_enters_on_the_evening_of_its_publication_and_not_on_its_last_day():
    """Joined by EnDate, 86 of 100 rows would know the week too early."""
    week = date(2021, 3, 12)
    one = WEEKS.filter(pl.col("EnDate") == str(week))
    got = flow_features(one, ROWS)
    assert got.filter(pl.col(FLAG) == 1)["date"].min() == date(2021, 3, 18)
    for clock, first in (((18, 0), date(2021, 3, 18)), ((18, 30), date(2021, 3, 18)), ((18, 31), date(2021, 3, 19))):
        moved = with_instants(one.drop("available_at"), [at(date(2021, 3, 18), *clock)] * one.height)
        assert flow_features(moved, ROWS).filter(pl.col(FLAG) == 1)["date"].min() == first
    after = got.filter(pl.col(FLAG) == 1)["date"].max()
    assert PLACES[after] - PLACES[date(2021, 3, 18)] == STALE


def test_a_correction_counts_from_its_own_evening():
    week = WEEKS.filter((pl.col("EnDate") == "2021-03-12") & (pl.col("Section") == "TokyoNagoya"))[:1]
    corrected = with_instants(
        week.drop("available_at").with_columns(
            (pl.col("FrgnBal") + 5e4).alias("FrgnBal"), pl.lit(date(2021, 3, 22)).alias("date")
        ),
        [at(date(2021, 3, 22), 18)],
    ).select(week.columns)
    got = flow_features(pl.concat([week, corrected]), ROWS).filter(pl.col("code") == "13010")
    value = dict(got.select("date", "flow_foreign_net_ratio").iter_rows())
    before, after = week["FrgnBal"][0] / week["FrgnTot"][0], (week["FrgnBal"][0] + 5e4) / week["FrgnTot"][0]
    assert value[date(2021, 3, 19)] == pytest.approx(before, rel=1e-5)
    assert value[date(2021, 3, 22)] == pytest.approx(after, rel=1e-5)
    age = dict(got.select("date", "flow_days_since").iter_rows())
    assert age[date(2021, 3, 22)] == 2  # as old as the week that it corrects


def test_the_whole_market_goes_on_over_the_reform_and_sections_do_not_run_into_each_other():
    code = GOT.filter(pl.col("code") == "13010").sort("date")
    around = code.filter(pl.col("date").is_between(date(2022, 4, 1), date(2022, 5, 31)))
    assert around["flow_foreign_net_z"].null_count() == 0 and around["flow_smart_mom4"].null_count() == 0
    first_new = date(2022, 4, 14)  # the week from 4 April on is out on the fourth business day after 8 April
    assert (
        around.filter(pl.col("date").is_between(REFORM, date(2022, 4, 13)))["flow_section_foreign_rel"].null_count()
        == 8
    )
    assert around.filter(pl.col("date") == first_new)["flow_section_foreign_rel"].null_count() == 0


def test_the_month_of_the_reform_passes_the_contract_though_no_section_is_known_for_eight_days():
    """A tenth of the names has no section at all, such as funds; `bench-plants` met it on the real road."""
    fund = ROWS.filter(pl.col("code") == "13010").with_columns(code=pl.lit("13100"), mkt=pl.lit("0109"))
    twice = [ROWS.with_columns(code=pl.col("code").str.head(4) + letter) for letter in "AB"]
    rows = pl.concat([*twice, fund]).sort("date", "code")
    month = flow_features(WEEKS, rows.filter(pl.col("date").is_between(date(2022, 4, 1), date(2022, 4, 30))))
    verdict = contract_of(TABLE).audit(month, "2022-04", 400)
    assert verdict.passed, verdict
    none = month.with_columns(flow_section_foreign_rel=pl.lit(None, pl.Float32))
    assert not contract_of(TABLE).audit(none, "2022-04", 400).passed


def test_sections_by_market_of_the_day():
    """JASDAQ's two markets are one section, and neither is Mothers; an unknown market has none."""
    before = GOT.filter(pl.col("date") == date(2021, 6, 10))
    value = dict(before.select("code", "flow_section_foreign_rel").iter_rows())
    assert value["13020"] == value["13030"] and len({value["13010"], value["13020"], value["13040"]}) == 3
    unknown = ROWS.with_columns(pl.lit("0109").alias("mkt"))
    got = flow_features(WEEKS, unknown)
    assert got["flow_section_foreign_rel"].null_count() == got.height
    assert got["flow_foreign_net_ratio"].drop_nulls().len() > 0


def test_the_whole_market_is_not_the_sum_of_the_sections():
    only = WEEKS.filter(pl.col("Section") != "TokyoNagoya")
    got = flow_features(only, ROWS)
    assert got[FLAG].sum() == 0 and got["flow_foreign_net_ratio"].null_count() == got.height


def test_market_columns_are_equal_for_all_names_of_a_day():
    market = [f.name for f in FEATURES if f.kind == "market"]
    spread = GOT.group_by("date").agg(pl.col(market).n_unique())
    assert all((spread[name] == 1).all() for name in market)
    assert GOT["flow_smart_idx"].n_unique() > 20 and GOT["flow_shock_flag"].drop_nulls().n_unique() == 2  # it does move


def test_a_month_alone_equals_the_month_within_a_longer_history():
    rows = ROWS.filter(pl.col("date") >= date(2022, 6, 1))
    alone = flow_features(WEEKS.filter(pl.col("date") >= date(2021, 3, 1)), rows)
    assert differing(flow_features(WEEKS, rows), alone) == []


def test_nothing_known_nothing_said():
    got = flow_features(WEEKS.clear(), ROWS)
    assert got[FLAG].sum() == 0 and all(got[f.name].null_count() == got.height for f in FEATURES)
