"""The server speaks V2: envelope, paging, errors, plans, windows, the publication clock."""

import gzip
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

import numpy as np
import pytest
import requests

from atft_assets import calendar
from atft_assets.sandbox import Market
from atft_assets.sandbox.limits import NOT_SUBSCRIBED, SERVED
from atft_assets.settings import Plan, years_before
from tests.patience import PATIENCE

from .conftest import Caller

Open = Callable[..., Caller]
BARS = "/equities/bars/daily"
BAR_FIELDS = [
    "Date", "Code", "O", "H", "L", "C", "UL", "LL", "Vo", "Va", "AdjFactor", "AdjO", "AdjH", "AdjL", "AdjC", "AdjVo",
    "MktCap", "ExRT",
]  # fmt: skip
PRICES = ("O", "H", "L", "C")


@pytest.fixture(scope="module")
def caller(market: Market):  # type: ignore[no-untyped-def]
    from atft_assets.sandbox import serve

    with serve(market) as server:
        yield Caller(server)


# -- keys, paths, methods ---------------------------------------------------------------------------------------------


def test_keys(caller: Caller) -> None:
    caller.server.keys["orphan"] = None
    assert caller.refusal(BARS, key=None, date="20220104") == (403, "The api key is required.")
    assert caller.refusal(BARS, key="wrong", date="20220104") == (403, "The incoming api key is invalid or expired.")
    status, message = caller.refusal(BARS, key="orphan", date="20220104")
    assert status == 403 and "no active subscription" in message


@pytest.mark.parametrize("path", ["/fins/statements", "/indices/topix", "/", "/equities/trades", "/equities/master/"])
def test_unknown_paths_are_403_and_not_404(caller: Caller, path: str) -> None:
    status, message = caller.refusal(path)
    assert status == 403 and message.startswith("The requested endpoint does not exist.")


def test_paths_outside_v2_and_other_methods_do_not_exist(caller: Caller) -> None:
    root = caller.server.base_url.removesuffix("/v2")
    headers = {"x-api-key": caller.server.api_key}
    answers = [requests.get(f"{root}/v1/listed/info", headers=headers, timeout=PATIENCE)]
    answers += [
        requests.request(method, f"{root}/v2{BARS}?date=20220104", headers=headers, data="x", timeout=PATIENCE)
        for method in ("POST", "PUT", "DELETE")
    ]
    for answer in answers:
        assert answer.status_code == 403 and "does not exist" in answer.json()["message"]


def test_every_documented_endpoint_is_gated_by_plan(open_sandbox: Open) -> None:
    order = list(Plan)
    for plan in order:
        caller = open_sandbox(plan=plan)
        for path, cheapest in SERVED.items():
            answer = caller.get(
                path, **{"date": "20220301"} if "indices" in path or "derivatives" in path else {"code": "0000"}
            )
            gated = "not available on your subscription" in answer.text
            assert gated == (order.index(plan) < order.index(cheapest)), (plan, path, answer.text[:200])
            assert not gated or answer.status_code == 403
        for path in NOT_SUBSCRIBED:
            assert "not available on your subscription" in caller.refusal(path)[1]


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "message"),
    [
        (BARS, {}, "This API requires at least 1 parameter as follows; date, code"),
        (BARS, {"from_": "20220104"}, "This API requires at least 1 parameter as follows; date, code"),
        ("/indices/bars/daily", {}, "This API requires at least 1 parameter as follows; date, code"),
        (BARS, {"code": "13", "date": "20220104"}, "'code' must be 4 or 5 digits."),
        (BARS, {"code": "1300", "from_": "20220201", "to": "20220104"}, "'from' must be older than 'to'"),
        ("/indices/bars/daily/topix", {"from_": "2022-02-01", "to": "2022-01-04"}, "'from' must be older than 'to'"),
        (BARS, {"date": "20220230"}, "'date' is not a valid date."),
        (BARS, {"date": "2022/02/03"}, "'date' must be YYYYMMDD or YYYY-MM-DD."),
        (BARS, {"date": "20220104", "pagination_key": "1.abc."}, "'pagination_key' is invalid for this request."),
        ("/markets/calendar", {"hol_div": "7"}, "'hol_div' must be 0, 1, 2 or 3."),
    ],
)
def test_bad_parameters_are_400(caller: Caller, path: str, params: dict[str, str], message: str) -> None:
    assert caller.refusal(path, **params) == (400, message)


def test_both_date_notations_and_both_code_lengths(caller: Caller, market: Market) -> None:
    assert caller.rows(BARS, date="20220104") == caller.rows(BARS, date="2022-01-04")
    preferred = next(code for code in market.columns_of if not code.endswith("0"))
    ordinary = f"{preferred[:4]}0"
    assert {row["Code"] for row in caller.rows(BARS, code=preferred[:4])} == {ordinary}
    assert {row["Code"] for row in caller.rows(BARS, code=preferred)} == {preferred}
    letter = next(code for code in market.columns_of if not code.isdigit())
    assert caller.rows("/equities/master", code=letter[:4], date="20220104")[0]["Code"] == letter


def test_ranges_are_inclusive_and_one_side_is_enough(caller: Caller, market: Market) -> None:
    code = next(c for c, i in market.columns_of.items() if market.alive[:, i[0]].all())
    days = [row["Date"] for row in caller.rows(BARS, code=code)]
    assert days == [day.isoformat() for day in market.days]
    some = [row["Date"] for row in caller.rows(BARS, code=code, from_="2022-01-05", to="2022-01-11")]
    assert some == ["2022-01-05", "2022-01-06", "2022-01-07", "2022-01-11"]
    assert [r["Date"] for r in caller.rows(BARS, code=code, from_="20220601")] == [d for d in days if d >= "2022-06-01"]
    assert [r["Date"] for r in caller.rows(BARS, code=code, to="20211130")] == [d for d in days if d <= "2021-11-30"]
    one = caller.rows(BARS, code=code, date="20220105", from_="20220601", to="20220630")
    assert [row["Date"] for row in one] == ["2022-01-05"], "date wins over from and to"


def test_nothing_matching_is_an_empty_200_without_a_page_key(caller: Caller) -> None:
    for params in ({"date": "2022-01-01"}, {"code": "99990"}, {"code": "1300", "date": "2022-01-02"}):
        answer = caller.get(BARS, **params)
        assert answer.status_code == 200 and answer.json() == {"data": []}
    assert caller.get("/indices/bars/daily", date="2022-01-01").json() == {"data": []}


# -- rows -------------------------------------------------------------------------------------------------------------


def test_bars_of_a_day(caller: Caller, market: Market) -> None:
    rows = caller.rows(BARS, date="20220301")
    assert [row["Code"] for row in rows] == market.bars(date(2022, 3, 1))["Code"].to_list()
    assert [row["Code"] for row in rows] == sorted(row["Code"] for row in rows)
    for row in rows:
        assert list(row) == BAR_FIELDS
        assert row["Date"] == "2022-03-01" and row["UL"] in "01" and isinstance(row["AdjFactor"], float)
        numbers = [row[f] for f in (*PRICES, "Vo", "Va")]
        assert all(isinstance(x, float) for x in numbers) or numbers == [None] * 6
    etf = next(row for row in rows if row["Code"] == "13000")
    assert etf["MktCap"] is None and etf["C"] is not None


def test_numbers_are_sent_as_floats(caller: Caller) -> None:
    text = caller.get(BARS, date="20220301").text
    assert '"AdjFactor":1.0,' in text
    volumes = [part.split(",", 1)[0] for part in text.split('"Vo":')[1:]]
    assert all(v == "null" or v.endswith(".0") for v in volumes)


def test_session_fields_are_absent_below_premium_and_fit_the_day_on_it(open_sandbox: Open) -> None:
    rows = open_sandbox(plan="premium").rows(BARS, date="20220301")
    assert len(rows[0]) == 44
    for row in rows:
        if row["C"] is None:
            assert row["MO"] is None and row["AVo"] is None
            continue
        assert row["MO"] == row["O"] and row["AC"] == row["C"]
        assert max(row["MH"], row["AH"]) == row["H"] and min(row["ML"], row["AL"]) == row["L"]
        assert row["MVo"] + row["AVo"] == row["Vo"] and row["MVa"] + row["AVa"] == row["Va"]
        for s in "MA":
            assert row[f"{s}L"] <= min(row[f"{s}O"], row[f"{s}C"]) <= max(row[f"{s}O"], row[f"{s}C"]) <= row[f"{s}H"]


def test_topix_and_indices(caller: Caller, market: Market) -> None:
    topix = caller.rows("/indices/bars/daily/topix", from_="20220104", to="20220111")
    assert [list(row) for row in topix] == [["Date", "O", "H", "L", "C"]] * 5
    same = caller.rows("/indices/bars/daily", code="0000", from_="20220104", to="20220111")
    assert [{k: v for k, v in row.items() if k != "Code"} for row in same] == topix
    day = caller.rows("/indices/bars/daily", date="20220104")
    assert len(day) == 1 + 33 + 17 + 21, "TOPIX, sectors, TOPIX-17; sizes, markets, styles"
    assert {"0001", "0091", "0028", "8200"} <= {row["Code"] for row in day}
    assert "0500" not in {row["Code"] for row in day}, "begins on 2022-06-27"
    assert {"0040", "004A", "0050", "0060", "0090"} <= {row["Code"] for row in day}
    assert caller.refusal("/indices/bars/daily", code="topix")[0] == 400


def test_calendar(caller: Caller) -> None:
    rows = caller.rows("/markets/calendar", from_="2022-04-28", to="2022-05-06")
    assert [row["HolDiv"] for row in rows] == ["1", "0", "0", "0", "1", "0", "0", "0", "1"]
    closed = caller.rows("/markets/calendar", from_="2022-04-28", to="2022-05-06", hol_div="0")
    assert len(closed) == 6
    assert caller.rows("/markets/calendar", from_="2022-01-01")[-1]["Date"] == "2023-12-31", "to the end of next year"


# -- paging -----------------------------------------------------------------------------------------------------------


def test_a_day_takes_two_pages_and_the_pages_join_to_the_whole(caller: Caller, market: Market) -> None:
    first = caller.get(BARS, date="20220301").json()
    assert list(first) == ["data", "pagination_key"] and len(first["data"]) == caller.server.page_rows == 100
    second = caller.get(BARS, date="20220301", pagination_key=first["pagination_key"]).json()
    assert list(second) == ["data"]
    assert [row["Code"] for row in first["data"] + second["data"]] == market.bars(date(2022, 3, 1))["Code"].to_list()


def test_a_page_key_belongs_to_its_query(caller: Caller) -> None:
    key = caller.get(BARS, date="20220301").json()["pagination_key"]
    assert caller.get(BARS, date="20220301", pagination_key=key).status_code == 200
    for path, params in ((BARS, {"date": "20220302"}), ("/equities/master", {"date": "20220301"})):
        assert caller.refusal(path, pagination_key=key, **params)[0] == 400


@pytest.mark.parametrize("page_rows", [1, 7, 122, 10_000])
def test_any_page_size_gives_the_same_rows(open_sandbox: Open, market: Market, page_rows: int) -> None:
    rows = open_sandbox(page_rows=page_rows).rows(BARS, date="20220301")
    assert [row["Code"] for row in rows] == market.bars(date(2022, 3, 1))["Code"].to_list()


def test_shuffled_rows_are_the_same_rows(open_sandbox: Open, caller: Caller) -> None:
    shuffled = open_sandbox(shuffle=True).rows(BARS, date="20220301")
    ordered = caller.rows(BARS, date="20220301")
    assert shuffled != ordered and sorted(shuffled, key=lambda row: row["Code"]) == ordered


# -- plans, windows, the clock ----------------------------------------------------------------------------------------


def test_window_errors_are_400_and_name_the_covered_dates(open_sandbox: Open) -> None:
    now = datetime(2022, 6, 30, 20)
    for plan, first in (("light", "2017-06-30"), ("standard", "2012-06-30"), ("premium", "2002-06-30")):
        caller = open_sandbox(plan=plan, now=now)
        status, message = caller.refusal(BARS, date="2002-06-29")
        assert status == 400
        assert message.startswith(f"Your subscription covers the following dates: {first} ~ . If you want more data")
        assert caller.refusal(BARS, code="13000", from_="20020629")[0] == 400
        assert caller.get(BARS, date=first).status_code == 200
        assert caller.get(BARS, date="2022-07-04").json() == {"data": []}, "the future is empty, not an error"


def test_the_free_plan_lags_by_twelve_weeks(open_sandbox: Open) -> None:
    caller = open_sandbox(plan="free", now=datetime(2022, 6, 30, 20))
    text = "Your subscription covers the following dates: 2020-04-07 ~ 2022-04-07."
    for params in ({"date": "2022-04-08"}, {"date": "2020-04-06"}):
        status, message = caller.refusal(BARS, **params)
        assert status == 400 and message.startswith(text)
    assert caller.rows(BARS, date="2022-04-07")
    assert caller.rows(BARS, code="13000")[-1]["Date"] == "2022-04-07"
    assert caller.refusal("/markets/calendar", from_="2022-06-01")[0] == 400
    assert caller.rows("/markets/calendar", from_="2022-04-01")[-1]["Date"] == "2022-04-07"
    assert caller.rows("/equities/master")[0]["Date"] == "2022-04-07"


def test_free_prices_are_already_adjusted_for_the_events_in_the_embargo(open_sandbox: Open, market: Market) -> None:
    last = market.row_of[date(2022, 4, 7)]
    event = int(market.event_name[market.event_day > last][0])
    caller = open_sandbox(plan="free", now=datetime(2022, 6, 30, 20))
    row = next(r for r in reversed(caller.rows(BARS, code=market.names.code[event])) if r["C"] is not None)
    assert row["AdjC"] != row["C"]


def test_windows_on_leap_days() -> None:
    assert years_before(date(2024, 2, 29), 5) == date(2019, 2, 28)
    assert years_before(date(2024, 2, 29), 4) == date(2020, 2, 29)


def test_rows_appear_at_their_publication_time(open_sandbox: Open) -> None:
    caller = open_sandbox(now=datetime(2022, 6, 15, 16, 29))
    assert caller.get(BARS, date="20220615").json() == {"data": []}
    assert caller.rows("/indices/bars/daily/topix")[-1]["Date"] == "2022-06-14"
    assert caller.rows(BARS, code="13000")[-1]["Date"] == "2022-06-14"
    caller.server.now = datetime(2022, 6, 15, 16, 30)
    assert caller.rows(BARS, date="20220615")
    assert caller.rows("/indices/bars/daily", date="20220615")
    assert caller.rows("/indices/bars/daily/topix")[-1]["Date"] == "2022-06-15"
    assert caller.server.now.tzinfo is calendar.TOKYO
    caller.server.now = datetime.fromisoformat("2022-06-16T07:30:00+00:00")  # 16:30 in Tokyo
    assert caller.rows(BARS, date="20220616")


def test_adjusted_prices_follow_the_clock(open_sandbox: Open, market: Market) -> None:
    row, name = int(market.event_day[-1]), int(market.event_name[-1])
    code, ex_date = market.names.code[name], market.days[row]
    earlier = [e for e in market.event_day[market.event_name == name] if e < row]
    start = market.days[max(earlier, default=0)].isoformat()
    caller = open_sandbox(now=datetime(ex_date.year, ex_date.month, ex_date.day, 9))
    before = [r for r in caller.rows(BARS, code=code, from_=start) if r["C"] is not None]
    assert all(r["AdjC"] == r["C"] for r in before)
    caller.server.now = datetime(ex_date.year, ex_date.month, ex_date.day, 17)
    after = [r for r in caller.rows(BARS, code=code, from_=start, to=before[-1]["Date"]) if r["C"] is not None]
    assert [r["C"] for r in after] == [r["C"] for r in before], "raw prices never change"
    for r in after:
        assert r["AdjC"] == pytest.approx(r["C"] * market.event_factor[-1], abs=0.051)


def test_master_rolls_closed_days_forward_and_clamps_the_future(open_sandbox: Open) -> None:
    caller = open_sandbox(now=datetime(2022, 6, 15, 17, 29))  # a Wednesday

    def applied(**params: str) -> str:
        dates = {row["Date"] for row in caller.rows("/equities/master", **params)}
        assert len(dates) == 1
        return dates.pop()

    assert applied() == "2022-06-15"
    assert applied(date="2022-06-11") == "2022-06-13", "Saturday shows Monday's list"
    assert applied(date="2022-06-30") == "2022-06-15"
    caller.server.now = datetime(2022, 6, 15, 17, 30)
    assert applied(date="2022-06-30") == "2022-06-16" and applied() == "2022-06-15"
    caller.server.now = datetime(2022, 6, 18, 12)
    assert applied() == "2022-06-20", "on a closed day, the next business day's"
    assert applied(date="2012-07-02") == "2021-11-01", "before the first list, the first list"
    caller.server.now = datetime(2022, 6, 30, 20)
    assert applied(date="2022-12-30") == "2022-07-01", "the next business day after the market's last"


def test_morning_bars_are_there_from_noon_to_six(open_sandbox: Open) -> None:
    caller = open_sandbox(plan="premium", now=datetime(2022, 6, 15, 11, 59))
    path = "/equities/bars/daily/am"
    assert caller.refusal(path)[0] == 210
    for now in (datetime(2022, 6, 15, 12), datetime(2022, 6, 15, 23), datetime(2022, 6, 16, 5, 59)):
        caller.server.now = now
        rows = caller.rows(path)
        assert list(rows[0]) == ["Date", "Code", "MO", "MH", "ML", "MC", "MVo", "MVa"]
        assert {row["Date"] for row in rows} == {"2022-06-15"}
    assert len(caller.rows(path, code="1300")) == 1
    assert caller.refusal(path, code="99990")[0] == 210
    caller.server.now = datetime(2022, 6, 16, 6)
    assert caller.refusal(path)[0] == 210


# -- transport --------------------------------------------------------------------------------------------------------


def test_gzip_only_when_asked(caller: Caller) -> None:
    headers = {"x-api-key": caller.server.api_key}
    url = f"{caller.server.base_url}{BARS}?date=20220301"
    plain = requests.get(url, headers=headers | {"Accept-Encoding": "identity"}, timeout=PATIENCE, stream=True)
    zipped = requests.get(url, headers=headers | {"Accept-Encoding": "gzip"}, timeout=PATIENCE, stream=True)
    assert "Content-Encoding" not in plain.headers and zipped.headers["Content-Encoding"] == "gzip"
    text, packed = plain.raw.read(), zipped.raw.read()
    assert json.loads(text) == json.loads(gzip.decompress(packed)) and len(packed) < len(text) / 2
    assert plain.headers["Content-Type"] == "application/json; charset=utf-8"


def test_one_connection_serves_many_requests_also_after_errors(caller: Caller) -> None:
    host = ("127.0.0.1", caller.server.port)
    head = f"Host: x\r\nx-api-key: {caller.server.api_key}\r\n\r\n"
    with socket.create_connection(host, timeout=PATIENCE) as connection:
        for query, status in (("?date=20220301", b"200"), ("", b"400"), ("?date=20220302", b"200")):
            connection.sendall(f"GET /v2{BARS}{query} HTTP/1.1\r\n{head}".encode())
            with connection.makefile("rb") as stream:
                assert stream.readline().split()[1] == status
                headers = [line.split(b":") for line in iter(stream.readline, b"\r\n")]
                length = next(int(value) for name, value, *_ in headers if name == b"Content-Length")
                assert b'"' in stream.read(length)


def test_many_threads_get_the_same_answers_as_one(caller: Caller, market: Market) -> None:
    days = [day.isoformat() for day in market.days[:40]]
    alone = [caller.rows(BARS, date=day) for day in days]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda day: Caller(caller.server).rows(BARS, date=day), days)) == alone


def test_corrections_and_splits_at_run_time(open_sandbox: Open, market: Market) -> None:
    caller = open_sandbox()
    code = market.names.code[next(i for i in np.flatnonzero(market.traded.all(axis=0)) if i not in market.event_name)]
    day = market.days[20]
    caller.server.correct(code, day, C=123.4)
    row = next(r for r in caller.rows(BARS, date=day.isoformat()) if r["Code"] == code)
    assert row["C"] == 123.4 and row == caller.rows(BARS, code=code, date=day.isoformat())[0]
    with pytest.raises(KeyError, match="99990"):
        caller.server.correct("99990", day, C=1.0)
    old = caller.rows(BARS, code=code, to=market.days[10].isoformat())
    caller.server.split(code, market.days[-1], 0.5)
    new = caller.rows(BARS, code=code, to=market.days[10].isoformat())
    assert [r["C"] for r in new] == [r["C"] for r in old]
    assert all(n["AdjC"] == pytest.approx(o["AdjC"] / 2, abs=0.11) for n, o in zip(new, old, strict=True))
    last = caller.rows(BARS, code=code)[-1]
    assert last["AdjFactor"] == 0.5 and last["ExRT"] == "1"
