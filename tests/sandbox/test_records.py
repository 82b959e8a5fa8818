"""The endpoints beside prices answer in the wire format: fields, types, parameters, hours and plans."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from atft_assets import calendar
from atft_assets.jquants.endpoints import BY_PATH
from atft_assets.sandbox import Market, MarketConfig, serve, simulate
from atft_assets.sandbox.query import Query
from atft_assets.sandbox.records import RECORDS
from atft_assets.settings import Plan

from .conftest import Caller

Open = Callable[..., Caller]
# a market over the change of the margin edition, the last of the new fields and the first currencies
CONFIG = MarketConfig(n_names=70, start=date(2025, 9, 1), end=date(2026, 10, 30), seed=11, listings=0.2, delistings=0.1)
NOW = datetime(2026, 10, 30, 23, 0)
DAY = "2026-02-13"  # a day of many results
ASKED: dict[str, dict[str, str]] = {
    "/equities/earnings-calendar": {},
    "/equities/investor-types": {"from": "2026-01-01", "to": "2026-06-30"},
    "/markets/short-sale-report": {"disc_date": DAY},
    "/markets/margin-interest": {"date": "2026-02-13"},
}


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def caller(market: Market) -> Iterator[Caller]:
    with serve(market, plan="premium", now=NOW, page_rows=500) as server:
        yield Caller(server)


def asked(path: str) -> dict[str, str]:
    """Parameters with which an endpoint has rows."""
    return ASKED.get(path, {"date": DAY})


@pytest.mark.parametrize("path", sorted(RECORDS))
def test_records_have_the_declared_fields_in_order_and_values_of_their_types(caller: Caller, path: str) -> None:
    rows = caller.rows(path, **{f"{k}_" if k == "from" else k: v for k, v in asked(path).items()})
    assert rows, path
    endpoint = BY_PATH[path]
    declared = endpoint.declared
    for row in rows:
        assert set(row) - set(declared) == set(), "nothing that the client does not know"
        assert endpoint.required <= set(row)
        for name, value in row.items():
            assert declared[name].accepts(type(value)), (path, name, value)
            assert value is not None or declared[name].kind.endswith("?"), (path, name)
    assert all(list(row) == list(rows[0]) for row in rows)
    if endpoint.keys:
        assert len({tuple(row[key] for key in endpoint.keys) for row in rows}) == len(rows)


# of derivatives the code is that of the underlying share
BY_CODE = sorted(path for path in RECORDS if "code" in BY_PATH[path].parameters and "derivatives" not in path)


@pytest.mark.parametrize("path", BY_CODE)
def test_by_code_is_the_same_as_by_day(caller: Caller, market: Market, path: str) -> None:
    day = asked(path)
    whole = caller.rows(path, **day)
    code = max({row["Code"] for row in whole}, key=lambda one: sum(row["Code"] == one for row in whole))
    mine = [row for row in whole if row["Code"] == code]
    field = next(iter(day))
    span = {"from_": "2026-02-02", "to": "2026-02-27"} if "minute" in path else {}  # thousands of minutes a month
    by_code = caller.rows(path, code=code, **span)
    key = {"date": BY_PATH[path].dated_by, "disc_date": "DiscDate"}[field]
    if path == "/markets/margin-interest":
        key = "Date"
    found = [row for row in by_code if row[key] == day[field]]
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, mine))
    assert {row["Code"] for row in by_code} == {code}
    four = caller.rows(path, code=code[:4], **span) if code.endswith("0") else by_code
    assert four == by_code
    assert caller.get(path, code="99990").json() == {"data": []}


@pytest.mark.parametrize("path", sorted(path for path in RECORDS if "date" in BY_PATH[path].parameters))
def test_a_closed_day_and_a_day_to_come_are_empty(caller: Caller, path: str) -> None:
    for day in ("2026-01-02", "2026-12-28"):
        assert caller.get(path, date=day).json() == {"data": []}


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("/equities/valuation", {}, "at least 1 parameter"),
        ("/equities/bars/minute", {}, "at least 1 parameter"),
        ("/fins/summary", {}, "at least 1 parameter"),
        ("/fins/details", {}, "at least 1 parameter"),
        ("/fins/dividend", {}, "at least 1 parameter"),
        ("/markets/breakdown", {}, "at least 1 parameter"),
        ("/markets/margin-alert", {}, "at least 1 parameter"),
        ("/markets/margin-interest", {}, "at least 1 parameter"),
        ("/markets/margin-interest", {"published_date": DAY, "date": DAY}, "cannot be combined"),
        ("/markets/short-ratio", {}, "at least 1 parameter"),
        ("/markets/short-sale-report", {}, "at least 1 parameter"),
        ("/derivatives/bars/daily/options/225", {}, "at least 1 parameter"),
        ("/derivatives/bars/daily/options", {}, "at least 1 parameter"),
        ("/derivatives/bars/daily/futures", {}, "at least 1 parameter"),
        ("/fins/earnings-date", {}, "exactly one"),
        ("/fins/earnings-date", {"code": "1300", "date": DAY}, "exactly one"),
        ("/markets/breakdown", {"code": "1300", "from_": "2026-03-01", "to": "2026-02-01"}, "older"),
    ],
)
def test_bad_parameters_are_400(caller: Caller, path: str, params: dict[str, str], words: str) -> None:
    status, message = caller.refusal(path, **params)
    assert status == 400 and words in message


def test_further_parameters(caller: Caller) -> None:
    for sector in ("50", "0050"):
        rows = caller.rows("/markets/short-ratio", s33=sector, from_="2026-02-02", to="2026-02-06")
        assert [row["S33"] for row in rows] == ["0050"] * 5
    prime = caller.rows("/equities/investor-types", section="TSEPrime", from_="2026-02-01", to="2026-03-31")
    assert {row["Section"] for row in prime} == {"TSEPrime"}
    calls = caller.rows("/derivatives/bars/daily/options", date=DAY, category="EQOP")
    share = calls[0]["UndSSO"]
    assert {row["ProdCat"] for row in calls} == {"EQOP"}
    own = caller.rows("/derivatives/bars/daily/options", date=DAY, category="EQOP", code=share)
    assert own == [row for row in calls if row["UndSSO"] == share] and len(own) < len(calls)
    central = caller.rows("/derivatives/bars/daily/futures", date=DAY, contract_flag="1")
    assert len({row["ProdCat"] for row in central}) == len(central) > 8
    by_day = caller.rows("/markets/short-sale-report", disc_date=DAY)
    counted = by_day[0]["CalcDate"]
    assert {row["CalcDate"] for row in caller.rows("/markets/short-sale-report", calc_date=counted)} == {counted}
    both = caller.rows("/markets/short-sale-report", disc_date=DAY, calc_date=counted)
    assert both == [row for row in by_day if row["CalcDate"] == counted]


def test_margin_balances_by_publication(caller: Caller) -> None:
    rows = caller.rows("/markets/margin-interest", published_date="2026-10-06")
    assert {(row["PubDate"], row["Date"]) for row in rows} == {("2026-10-06", "2026-10-05")}
    assert caller.get("/markets/margin-interest", published_date="2026-02-17").json() == {"data": []}
    weekly = caller.rows("/markets/margin-interest", date="2026-02-13")
    assert {row["PubDate"] for row in weekly} == {None} and {row["LongVal"] for row in weekly} == {None}
    assert {row["Date"] for row in caller.rows("/markets/margin-interest", code=weekly[0]["Code"])} >= {
        "2026-09-18", "2026-09-25", "2026-09-28", "2026-09-29"
    }  # fmt: skip


def test_the_margin_answer_had_nine_fields_before_the_daily_edition(open_sandbox: Open, market: Market) -> None:
    caller = open_sandbox(market=market, now=datetime(2026, 9, 18, 20))
    rows = caller.rows("/markets/margin-interest", date="2026-09-11")
    assert list(rows[0]) == [
        "Date", "Code", "ShrtVol", "LongVol", "ShrtNegVol", "LongNegVol", "ShrtStdVol", "LongStdVol", "IssType",
    ]  # fmt: skip


# when a day's rows are there: the last minute without them and the first with them
HOURS: list[tuple[str, dict[str, str], str]] = [
    ("/equities/bars/minute", {"date": DAY}, "2026-02-13T16:30"),
    ("/equities/valuation", {"date": DAY}, "2026-02-13T16:30"),
    ("/markets/short-ratio", {"date": DAY}, "2026-02-13T16:30"),
    ("/markets/margin-alert", {"date": DAY}, "2026-02-13T16:30"),
    ("/markets/breakdown", {"date": DAY}, "2026-02-13T18:00"),
    ("/markets/short-sale-report", {"disc_date": DAY}, "2026-02-13T17:33"),
    ("/markets/margin-interest", {"date": DAY}, "2026-02-17T16:30"),
    ("/markets/margin-interest", {"date": "2026-10-05"}, "2026-10-06T16:30"),
    ("/derivatives/bars/daily/options/225", {"date": DAY}, "2026-02-14T03:00"),
    ("/derivatives/bars/daily/options", {"date": DAY}, "2026-02-14T03:00"),
    ("/derivatives/bars/daily/futures", {"date": DAY}, "2026-02-14T03:00"),
    ("/fins/earnings-date", {"date": DAY}, "2026-02-13T16:00"),
    ("/equities/investor-types", {"from_": "2026-02-05", "to": "2026-02-05"}, "2026-02-05T18:00"),
]


@pytest.mark.parametrize(("path", "params", "instant"), HOURS)
def test_rows_appear_at_their_hour(
    open_sandbox: Open, market: Market, path: str, params: dict[str, str], instant: str
) -> None:
    at = datetime.fromisoformat(instant)
    caller = open_sandbox(market=market, plan="premium", now=at - timedelta(minutes=1), page_rows=5000)
    assert caller.get(path, **{k.rstrip("_") if k == "from_" else k: v for k, v in params.items()}).json() == {
        "data": []
    }
    caller.server.now = at
    assert caller.rows(path, **params)


@pytest.mark.parametrize("plan", ["standard", "premium"])
def test_documents_come_in_batches_and_on_premium_at_once(open_sandbox: Open, market: Market, plan: str) -> None:
    caller = open_sandbox(market=market, plan=plan, now=NOW)
    late = next(row for row in iter_documents(caller) if row["DiscTime"] >= "18:00:00" and is_open(row["DiscDate"]))
    disclosed = datetime.fromisoformat(f"{late['DiscDate']}T{late['DiscTime']}")
    midnight = datetime.combine(disclosed.date() + timedelta(days=1), datetime.min.time())
    first = disclosed if plan == "premium" else midnight + timedelta(minutes=30)
    for now, there in ((first - timedelta(minutes=1), False), (first, True)):
        caller.server.now = now
        shown = {row["DiscNo"] for row in caller.rows("/fins/summary", date=late["DiscDate"])}
        assert (late["DiscNo"] in shown) is there
    caller.server.now = datetime.fromisoformat(f"{DAY}T17:59")
    assert bool(caller.rows("/fins/summary", date=DAY)) is (plan == "premium")
    caller.server.now = datetime.fromisoformat(f"{DAY}T18:00")
    rows = caller.rows("/fins/summary", date=DAY)
    assert rows and all(row["DiscTime"] < "18:00:00" or plan == "premium" for row in rows)


def iter_documents(caller: Caller) -> Iterator[dict[str, Any]]:
    for day in caller.server.market.days:
        yield from caller.rows("/fins/summary", date=day.isoformat())


def is_open(day: str) -> bool:
    return calendar.is_trading_day(date.fromisoformat(day))


def test_documents_come_in_the_order_of_their_numbers(caller: Caller) -> None:
    numbers = [row["DiscNo"] for row in caller.rows("/fins/summary", date=DAY)]
    assert numbers == sorted(numbers) and all(len(number) == 14 for number in numbers)


def test_on_the_free_plan_announced_days_lag_without_an_error(open_sandbox: Open, market: Market) -> None:
    caller = open_sandbox(market=market, plan=Plan.FREE, now=NOW)
    assert caller.get("/fins/earnings-date", date="2026-10-30").json() == {"data": []}
    assert caller.rows("/fins/earnings-date", date="2026-07-13")
    assert (
        max(row["PubDate"] for row in caller.rows("/fins/earnings-date", scheduled_date="2026-08-07")) <= "2026-08-07"
    )
    assert caller.refusal("/fins/summary", date="2026-10-30")[0] == 400


def test_the_older_calendar_speaks_of_the_next_business_day_until_something_new_comes(
    open_sandbox: Open, market: Market
) -> None:
    caller = open_sandbox(market=market, now=datetime(2026, 2, 12, 18, 59))
    before = {row["Date"] for row in caller.rows("/equities/earnings-calendar")}
    caller.server.now = datetime(2026, 2, 12, 19, 0)
    assert {row["Date"] for row in caller.rows("/equities/earnings-calendar")} - {""} == {"2026-02-13"} != before
    caller.server.now = datetime(2026, 4, 1, 20, 0)  # off season
    assert {row["Date"] for row in caller.rows("/equities/earnings-calendar")} - {""} < {
        f"2026-0{m}-{d:02d}" for m in (2, 3) for d in range(1, 32)
    }


def test_a_market_that_ends_earlier_has_the_same_records(market: Market) -> None:
    """And asking in another order changes nothing."""
    part = simulate(MarketConfig(**{**CONFIG.__dict__, "end": date(2026, 3, 31)}))
    with (
        serve(market, plan="premium", now=NOW, page_rows=3000) as one,
        serve(part, plan="premium", now=NOW, page_rows=3000) as two,
    ):
        whole, other = Caller(one), Caller(two)
        for path in reversed(sorted(RECORDS)):
            params = {f"{k}_" if k == "from" else k: v for k, v in asked(path).items()}
            if path == "/equities/investor-types":
                params = {"from_": "2026-01-01", "to": "2026-03-20"}
            if path != "/equities/earnings-calendar":
                assert other.rows(path, **params) == whole.rows(path, **params), path


@settings(max_examples=8, deadline=None)
@given(end=st.dates(date(2025, 3, 3), date(2025, 12, 29)), back=st.integers(0, 40), seed=st.integers(0, 99))
def test_records_know_nothing_of_the_days_after_them(end: date, back: int, seed: int) -> None:
    """A day's answer of a market that ends on any day, against that of the market that goes on."""
    config = MarketConfig(n_names=25, start=date(2024, 10, 1), end=date(2025, 12, 30), seed=seed, splits=0.3)
    whole, part = simulate(config), simulate(replace(config, end=end))
    day = part.days[max(0, len(part.days) - 1 - back)]
    now = datetime.combine(day, time(23, 0), calendar.TOKYO)
    for path, answer in RECORDS.items():
        asked_for = {"disc_date": str(day)} if path.endswith("short-sale-report") else {"date": str(day)}
        if path in ("/equities/investor-types", "/equities/earnings-calendar"):
            asked_for = {}
        if path.startswith("/derivatives"):
            asked_for = {"date": str(calendar.previous_trading_day(day))}
        query = Query(path, Plan.PREMIUM, now, asked_for)
        assert_frame_equal(answer(part, query), answer(whole, query))


def test_pages_join_to_the_whole(open_sandbox: Open, market: Market) -> None:
    whole = open_sandbox(market=market, plan="premium", now=NOW, page_rows=100_000)
    for path in ("/fins/summary", "/markets/margin-alert", "/derivatives/bars/daily/options", "/equities/bars/minute"):
        small = open_sandbox(market=market, plan="premium", now=NOW, page_rows=7 if "minute" not in path else 100)
        assert small.rows(path, date=DAY) == whole.rows(path, date=DAY)


@pytest.mark.parametrize("path", sorted(path for path in RECORDS if path != "/equities/earnings-calendar"))
def test_a_record_is_there_at_the_instant_that_the_client_stamps_it_with(
    open_sandbox: Open, market: Market, path: str
) -> None:
    """On the plan below Premium where there is one: `available_at` never claims what the service did not have yet."""
    endpoint = BY_PATH[path]
    plan = Plan.STANDARD if endpoint.plan is not Plan.PREMIUM else Plan.PREMIUM
    caller = open_sandbox(market=market, plan=plan, now=NOW, page_rows=100_000)
    params = {f"{k}_" if k == "from" else k: v for k, v in asked(path).items()}

    def there(row: dict[str, Any]) -> bool:
        """Whether a record is served now; its shape may be an older one."""
        keys = endpoint.keys or tuple(row)
        return any(all(other[key] == row[key] for key in keys) for other in caller.rows(path, **params))

    rows = caller.rows(path, **params)
    for row in rows[:: max(1, len(rows) // 4)]:
        values = []
        for field in endpoint.rule.fields:
            text = row.get(field)
            values.append(None if not text else time.fromisoformat(text) if field in endpoint.rule.clock_fields
                          else date.fromisoformat(text))  # fmt: skip
        instant = endpoint.rule.at(*values)
        caller.server.now = instant
        assert there(row), (path, row, instant)
        caller.server.now = instant - timedelta(days=1)
        if caller.server.now.date() < date.fromisoformat(row[endpoint.dated_by]) or plan is Plan.STANDARD:
            assert not there(row), (path, row)
