"""Every raw table, taken in from the sandbox through the real client: its contract passes, oddities and all."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from atft_assets import calendar
from atft_assets.jquants.endpoints import BY_PATH
from atft_assets.raw import SOURCES
from atft_assets.sandbox import MarketConfig, SandboxServer, bulk, serve, simulate
from atft_assets.sandbox.endpoints import ENDPOINTS
from atft_assets.sandbox.limits import SERVED
from atft_assets.sandbox.market import Market
from atft_assets.settings import Plan

from .conftest import failure_text, materialized
from .test_with_sandbox import SandboxLab

BY_NAME = {source.name: source for source in SOURCES}
MONTHLY = tuple(name for name in BY_NAME if name not in ("earnings_calendar", "minute_bars"))
Made = Callable[..., SandboxLab]


@cache
def market_of(start: date, end: date, names: int) -> Market:
    return simulate(MarketConfig(n_names=names, start=start, end=end, seed=3))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """A laboratory on the evening of a market's last day; all servers are closed at the end."""
    running: list[SandboxServer] = []

    def make(start: str, end: str, names: int = 60, plan: Plan = Plan.PREMIUM, now: str = "") -> SandboxLab:
        first, last = date.fromisoformat(start), date.fromisoformat(end)
        instant = datetime.fromisoformat(now) if now else datetime.combine(last, time(20))
        server = serve(market_of(first, last, names), plan=plan, page_rows=200, now=instant)
        running.append(server.__enter__())
        root = tmp_path / str(len(running))
        return SandboxLab(None, server, root, now=instant.isoformat(), plan=plan, start=first, end=last)

    yield make
    for server in running:
        server.__exit__()


def taken_in(lab: SandboxLab, name: str, *months: str) -> pl.DataFrame:
    """The table after a run, which must have passed the contract and known every field."""
    told = materialized(lab.run(name, months[0], months[-1] if len(months) > 1 else ""))
    assert told["new_fields"] == "none"
    frame = lab.read(name)
    assert frame["available_at"].null_count() == 0
    if keys := BY_NAME[name].endpoint.key_columns:
        assert frame.select(keys).is_unique().all()
    return frame


def test_the_sandbox_serves_every_endpoint_that_has_a_raw_table() -> None:
    assert {source.endpoint.path for source in SOURCES} <= set(ENDPOINTS)
    assert set(ENDPOINTS) | set(bulk.PATHS) == set(SERVED)
    assert {path: plan for path, plan in SERVED.items() if plan is not BY_PATH[path].plan} == {}


@pytest.mark.parametrize("name", MONTHLY)
def test_a_month_of_the_table_passes_its_contract(made: Made, name: str) -> None:
    lab = made("2023-11-01", "2024-02-29")
    frame = taken_in(lab, name, "2024-01")
    assert frame.height > 0
    inside = pl.col("date").is_between(date(2023, 12, 29), date(2024, 1, 31))  # of investor types the week before, too
    assert frame.filter(inside).height == frame.height


def test_minutes_of_a_few_names(made: Made) -> None:
    frame = taken_in(made("2024-11-01", "2024-11-08", names=4), "minute_bars", "2024-11")
    last = frame.group_by("date").agg(pl.col("Time").max()).sort("date")["Time"].to_list()
    assert last == ["15:00", *["15:30"] * 4], "a longer afternoon from 2024-11-05"
    assert not frame.filter(pl.col("Time").is_between(pl.lit("11:30"), pl.lit("12:29"))).height


def test_the_next_days_announcements(made: Made) -> None:
    lab = made("2023-11-01", "2024-02-14", names=300, now="2024-02-14T08:00")  # the list of the evening before
    frame = taken_in(lab, "earnings_calendar", "2024-02")
    assert set(frame["date"]) == {date(2024, 2, 14)} and set(frame["FQ"]) <= {"第１四半期", "第３四半期", "本決算"}


@pytest.mark.parametrize("plan", [Plan.FREE, Plan.PREMIUM])
def test_after_seven_the_announcements_are_those_of_the_next_trading_day(made: Made, plan: Plan) -> None:
    """Each evening adds its day to those that came before; a month that has no newest day is left as it stands."""
    lab = made("2023-11-01", "2024-02-14", names=300, plan=plan, now="2024-02-13T18:59")
    before = taken_in(lab, "earnings_calendar", "2024-02")
    assert set(before["date"]) == {date(2024, 2, 13)}
    later = made("2023-11-01", "2024-02-14", names=300, plan=plan, now="2024-02-13T19:01")
    later.root = lab.root
    frame = taken_in(later, "earnings_calendar", "2024-01", "2024-02")
    assert set(frame["date"]) == {date(2024, 2, 13), date(2024, 2, 14)}
    assert frame.filter(pl.col("date") == date(2024, 2, 13)).equals(before)
    out = frame.filter(pl.col("date") == date(2024, 2, 14))["available_at"].unique().to_list()
    assert out == [datetime(2024, 2, 13, 19, 0, tzinfo=calendar.TOKYO)]


def test_margin_over_the_change_of_the_edition_is_one_table(made: Made) -> None:
    frame = taken_in(made("2026-07-01", "2026-10-30", names=20), "margin_interest", "2026-08", "2026-09", "2026-10")
    weekly, daily = frame.filter(pl.col("PubDate").is_null()), frame.filter(pl.col("PubDate").is_not_null())
    assert weekly["date"].max() == date(2026, 9, 18) and daily["date"].min() == date(2026, 9, 25)
    assert weekly["LongVal"].null_count() == weekly.height and daily["LongVal"].null_count() == 0
    out = daily.filter(pl.col("date") == date(2026, 10, 5))["available_at"].unique().to_list()
    assert out == [datetime(2026, 10, 6, 16, 30, tzinfo=calendar.TOKYO)]


def test_margin_of_a_month_before_the_change_has_no_values(made: Made) -> None:
    frame = taken_in(made("2023-07-03", "2023-09-29", names=20), "margin_interest", "2023-08")
    assert date(2023, 8, 10) in set(frame["date"]), "Thursday of a week without a Friday"
    assert "PubDate" not in frame.columns and "LongVal" not in frame.columns


def test_alerts_of_two_days_in_one_publication(made: Made) -> None:
    frame = taken_in(made("2021-08-02", "2021-09-10", names=200), "margin_alert", "2021-08")
    assert date(2021, 8, 26) not in set(frame["date"])
    assert {"2021-08-25", "2021-08-26"} <= set(frame.filter(pl.col("date") == date(2021, 8, 27))["AppDate"])
    assert set(frame.filter(pl.col("code") == "13000")["ShrtOutRatio"]) <= {"*"}


@pytest.mark.parametrize("name", ["short_ratio", "breakdown", "indices", "valuation", "margin_alert"])
def test_the_month_of_the_system_halt(made: Made, name: str) -> None:
    frame = taken_in(made("2020-09-01", "2020-11-30", names=40), name, "2020-10")
    there = date(2020, 10, 1) in set(frame["date"])
    assert there is (name not in ("short_ratio", "breakdown"))


def test_half_days_are_days_of_the_market_without_a_list_of_names(made: Made) -> None:
    lab = made("2008-12-01", "2009-01-30", names=20)
    materialized(lab.run("trading_calendar"))
    kinds = dict(lab.read("trading_calendar").select("date", "HolDiv").iter_rows())
    assert {day for day, kind in kinds.items() if kind == "2"} == {date(2008, 12, 30), date(2009, 1, 5)}
    days = set(taken_in(lab, "listed_info", "2008-12", "2009-01")["date"])
    assert {date(2008, 12, 29), date(2009, 1, 6)} <= days and not calendar.HALF_DAYS & days
    assert all(lab.server.market.bars(day).height for day in calendar.HALF_DAYS)


def test_options_before_their_volatilities_were_published(made: Made) -> None:
    frame = taken_in(made("2016-07-01", "2016-08-10", names=20), "options_225", "2016-07")
    first = frame.filter(pl.col("IV").is_not_null())["date"].min()
    assert first == date(2016, 7, 19)


def test_flow_over_the_reform_of_the_market(made: Made) -> None:
    lab = made("2022-02-01", "2022-06-30")
    frame = taken_in(lab, "investor_types", "2022-03", "2022-04", "2022-05")
    assert {"TSE1st", "TSEJASDAQ", "TSEPrime", "TokyoNagoya"} <= set(frame["Section"])


def test_documents_of_saturdays_and_nights_carry_the_instant_at_which_they_were_served(made: Made) -> None:
    lab = made("2023-11-01", "2024-08-30", names=300)
    frame = taken_in(lab, "fins_summary", *(f"2024-0{month}" for month in (4, 5)))
    night = frame.filter(pl.col("DiscTime") >= "18:00:00")
    assert night.height and (night["available_at"].dt.time() != time(18, 0)).any()
    assert (frame["available_at"].dt.date() >= frame["date"]).all()
    details = taken_in(lab, "fins_details", "2024-05")
    assert set(details["DiscNo"]) < set(frame["DiscNo"])


def test_a_smaller_plan_is_refused_before_the_first_request(made: Made) -> None:
    lab = made("2023-11-01", "2024-02-29", plan=Plan.LIGHT)
    for name in ("fins_details", "options_225", "margin_interest"):
        source = BY_NAME[name]
        before = dict(lab.server.requests)
        result = lab.run(name, "2024-01")
        assert result.success is source.optional and lab.server.requests == before
    assert taken_in(lab, "fins_summary", "2024-01").height
    lab.plan = Plan.STANDARD  # what a wrong JQUANTS_PLAN does
    assert "Set JQUANTS_PLAN to the plan of your key" in failure_text(lab.run("short_ratio", "2024-01"))


def test_a_run_that_meets_faults_stores_the_same(made: Made) -> None:
    names = ("fins_summary", "margin_alert", "short_sale_report", "options_225")
    clean = made("2023-11-01", "2024-02-29")
    shaken = made("2023-11-01", "2024-02-29")
    shaken.server.shuffle = True
    shaken.server.page_rows = 90
    for kind in ("500", "503", "429", "truncated", "reset", "duplicate_page"):
        shaken.server.faults.add(kind, share=0.04)
    for name in names:
        assert taken_in(clean, name, "2024-01").equals(taken_in(shaken, name, "2024-01")), name
    assert sum(shaken.server.faults.struck.values()) > 10
