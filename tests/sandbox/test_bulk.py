"""Files of whole months: which there are, what is in them, and the addresses behind which they lie."""

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jquantsapi
import polars as pl
import pytest
import requests

from atft_assets import calendar
from atft_assets.sandbox import Market, MarketConfig, SandboxServer, serve, simulate
from atft_assets.sandbox.bulk import DATA_SETS, SECONDS, csv_file
from atft_assets.sandbox.endpoints import ENDPOINTS
from atft_assets.settings import Plan
from tests.patience import PATIENCE

from .conftest import Caller

Open = Callable[..., Caller]
BARS, MASTER = "/equities/bars/daily", "/equities/master"
APRIL = "equities/bars/daily/historical/2022/equities_bars_daily_202204.csv.gz"


@pytest.fixture(scope="module")
def caller(market: Market) -> Iterator[Caller]:
    with serve(market, now=datetime(2022, 6, 20, 20)) as server:
        yield Caller(server)


def listed(caller: Caller, **params: Any) -> dict[str, dict[str, Any]]:
    answer = caller.get("/bulk/list", **params)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["data"]  # never in pages
    return {record["Key"]: record for record in answer.json()["data"]}


def address(caller: Caller, **params: Any) -> str:
    answer = caller.get("/bulk/get", **params)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["url"]
    return str(answer.json()["url"])


def fetched(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=PATIENCE)


def rows_of(data: bytes) -> list[dict[str, str]]:
    text = gzip.decompress(data)
    assert text.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))


def test_a_month_that_is_over_is_a_file_and_this_month_is_files_a_day(caller: Caller) -> None:
    keys = list(listed(caller, endpoint=BARS))
    months = [key for key in keys if "/historical/" in key]
    assert months == [
        f"equities/bars/daily/historical/{month[:4]}/equities_bars_daily_{month.replace('-', '')}.csv.gz"
        for month in calendar.months_between("2021-11", "2022-05")
    ]
    live = [key for key in keys if "/live/" in key]
    days = calendar.trading_days(date(2022, 6, 1), date(2022, 6, 17))
    assert live == [f"equities/bars/daily/live/equities_bars_daily_{day:%Y%m%d}.csv.gz" for day in days]


def test_early_in_a_month_live_files_repeat_the_month_before(open_sandbox: Open) -> None:
    caller = open_sandbox(now=datetime(2022, 6, 3, 20))
    found = listed(caller, endpoint=BARS)
    may = "equities/bars/daily/historical/2022/equities_bars_daily_202205.csv.gz"
    live = [key for key in found if "/live/" in key]
    assert may in found and sum("_202205" in key for key in live) == len(calendar.days_of_month("2022-05"))
    once = [row for key in live if "_202205" in key for row in rows_of(fetched(address(caller, key_=key)).content)]
    assert once == rows_of(fetched(address(caller, key_=may)).content)


def test_a_file_says_when_it_was_written_and_how_large_it_is(caller: Caller) -> None:
    record = listed(caller, endpoint=BARS, from_="2022-04", to="2022-04")[APRIL]
    assert record["LastModified"] == "2022-05-09T21:00:00.000Z"  # the tenth, 06:00 in Tokyo: written for the last time
    answer = fetched(address(caller, key_=APRIL))
    assert record["Size"] == len(answer.content) == int(answer.headers["Content-Length"])
    assert answer.headers["ETag"] == f'"{hashlib.md5(answer.content).hexdigest()}"'


def test_a_file_grows_until_the_tenth_with_what_comes_out_late(open_sandbox: Open) -> None:
    caller = open_sandbox(now=datetime(2022, 5, 2, 12))
    modified = []
    for now in (datetime(2022, 5, 2, 12), datetime(2022, 5, 3, 5), datetime(2022, 5, 12, 5)):
        caller.server.now = now
        modified.append(datetime.fromisoformat(listed(caller, endpoint=BARS)[APRIL]["LastModified"]).astimezone(UTC))
    assert [f"{one:%m-%d %H}" for one in modified] == ["05-01 21", "05-01 21", "05-09 21"]
    caller.server.now = datetime(2022, 5, 1, 5)
    assert APRIL not in listed(caller, endpoint=BARS)


@pytest.mark.parametrize("path", [path for path in DATA_SETS if path in ENDPOINTS and not DATA_SETS[path].one_file])
def test_a_file_holds_what_the_endpoint_answers(open_sandbox: Open, path: str) -> None:
    caller = open_sandbox(plan=Plan.PREMIUM)
    asked, name = DATA_SETS[path], path[1:].replace("/", "_")
    days = [date(2022, 4, 1) + timedelta(days=n) for n in range(30)]
    if asked.by:
        rows = [
            row for day in days for row in caller.rows(path, **{asked.by: str(day)}) if row[asked.dated] == str(day)
        ]
    else:
        rows = caller.rows(path, from_="2022-04-01", to="2022-04-30")
    found = rows_of(fetched(address(caller, endpoint=path, date="2022-04")).content)
    assert f"{path[1:]}/historical/2022/{name}_202204.csv.gz" in listed(caller, endpoint=path)
    fields = [field for field in (rows or found or [{}])[0] if not re.search("Adj(O|H|L|C|Vo)$", field)]
    assert list((found or [{}])[0]) == fields and len(found) == len(rows)
    for cells, row in zip(found, rows, strict=True):
        for field in fields:
            value = row[field]
            if isinstance(value, float | int):
                assert float(cells[field]) == value
            else:
                assert cells[field] == ("" if value is None else str(value))


def test_no_adjusted_price_is_in_a_file_of_bars_but_the_factor_is(caller: Caller) -> None:
    header = rows_of(fetched(address(caller, key_=APRIL)).content)[0]
    assert [name for name in header if "Adj" in name] == ["AdjFactor"]


def test_nested_cells_are_dicts_in_single_quotes() -> None:
    frame = pl.DataFrame({"Code": ["1", "2"], "FS": [{"売上": "5.0", "it's": None}, None], "T": ["", 'a\n"b"']})
    text = gzip.decompress(csv_file(frame)).decode("utf-8-sig")
    assert text.splitlines()[1] == """1,"{'売上': '5.0', ""it's"": None}","""
    assert list(csv.reader(io.StringIO(text)))[2] == ["2", "", 'a\n"b"']


def test_the_plan_stands_in_the_key_of_months_that_a_smaller_one_does_not_reach() -> None:
    old = simulate(MarketConfig(n_names=10, start=date(2019, 1, 4), end=date(2019, 3, 29), seed=2))
    with serve(old, plan=Plan.STANDARD, now=datetime(2026, 2, 1, 20)) as server:
        caller = Caller(server)
        keys = list(listed(caller, endpoint=BARS))
        assert keys[0] == "equities/bars/daily/standard/historical/2019/equities_bars_daily_201901.csv.gz"
        assert rows_of(fetched(address(caller, key_=keys[0])).content)[0]["Date"] == "2019-01-04"
        server.now = datetime(2023, 2, 1, 20)
        assert next(iter(listed(caller, endpoint=BARS))).startswith("equities/bars/daily/historical/2019/")


def test_the_calendar_is_one_file_without_a_date_in_its_name(open_sandbox: Open) -> None:
    caller = open_sandbox(plan=Plan.FREE, now=datetime(2022, 6, 20, 20))
    assert list(listed(caller, endpoint="/markets/calendar")) == ["markets/calendar/markets_calendar.csv.gz"]
    assert len(rows_of(fetched(address(caller, key_="markets/calendar/markets_calendar.csv.gz")).content)) > 365


@pytest.mark.parametrize(
    ("path", "params", "status", "said"),
    [
        ("/bulk/list", {}, 400, "endpoint, date"),
        ("/bulk/list", {"endpoint": BARS, "date": "2022-04"}, 400, "together"),
        ("/bulk/list", {"endpoint": "/equities/earnings-calendar"}, 400, "not available in bulk"),
        ("/bulk/list", {"endpoint": BARS, "from_": "2022-13"}, 400, "must be"),
        ("/bulk/list", {"endpoint": BARS, "from_": "2022-02-30"}, 400, "not a valid date"),
        ("/bulk/list", {"endpoint": BARS, "from_": "2022-05", "to": "2022-04"}, 400, "older"),
        ("/bulk/get", {}, 400, "key, endpoint and date"),
        ("/bulk/get", {"key_": "equities/bars/daily/historical/1999/nothing.csv.gz"}, 400, "does not exist"),
        ("/bulk/get", {"endpoint": BARS, "date": "2022-06"}, 400, "does not exist"),  # under way
    ],
)
def test_refusals(caller: Caller, path: str, params: dict[str, str], status: int, said: str) -> None:
    assert caller.refusal(path, **params)[0] == status
    assert said in caller.refusal(path, **params)[1]


def test_plans(open_sandbox: Open) -> None:
    free = open_sandbox(plan=Plan.FREE)
    assert "not available on your subscription" in free.refusal("/bulk/list", endpoint=BARS)[1]
    light = open_sandbox(plan=Plan.LIGHT)
    assert listed(light, endpoint=BARS)
    assert light.refusal("/bulk/list", endpoint="/indices/bars/daily")[0] == 403
    by_date = listed(light, date="202204")
    assert APRIL in by_date and not any(key.startswith("indices/bars/daily/historical") for key in by_date)
    assert listed(light, date="2022-06-27").keys() and all(
        "20220627" in key for key in listed(light, date="2022-06-27")
    )


# -- addresses --------------------------------------------------------------------------------------------------------


def test_an_address_takes_no_key_serves_ranges_and_ends_after_five_minutes(market: Market) -> None:
    seconds = [0.0]
    with serve(market, rate_clock=lambda: seconds[0]) as server:
        caller = Caller(server)
        url = address(caller, key_=APRIL)
        assert not url.startswith(server.base_url) and server.api_key not in url
        whole = fetched(url)
        part = fetched(url, Range="bytes=100-")
        assert part.status_code == 206 and part.content == whole.content[100:]
        size = len(whole.content)
        assert part.headers["Content-Range"] == f"bytes 100-{size - 1}/{size}"
        assert fetched(url, Range="bytes=100-", **{"If-Range": whole.headers["ETag"]}).status_code == 206
        assert fetched(url, Range="bytes=100-", **{"If-Range": '"another"'}).content == whole.content
        assert fetched(url, Range=f"bytes={size}-").status_code == 416
        assert fetched(url, **{"x-api-key": "anything"}).status_code == 400
        assert fetched(url.replace("202204", "202203")).status_code == 403
        assert fetched(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
        seconds[0] = SECONDS
        late = fetched(url)
        assert late.status_code == 403 and "Request has expired" in late.text


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("503", lambda answer, good: answer.status_code == 503 and "SlowDown" in answer.text),
        ("expired", lambda answer, good: answer.status_code == 403),
        ("corrupt", lambda answer, good: len(answer.content) == len(good) and answer.content != good),
        ("truncated", lambda answer, good: answer.content == good[: len(good) // 2]),
    ],
)
def test_faults_of_downloads(open_sandbox: Open, kind: str, holds: Callable[[requests.Response, bytes], bool]) -> None:
    caller = open_sandbox()
    good = fetched(address(caller, key_=APRIL)).content
    caller.server.faults.add(kind, path="/bulk/file", times=1)
    assert holds(fetched(address(caller, key_=APRIL)), good)
    assert fetched(address(caller, key_=APRIL)).content == good


def test_a_wrong_size_in_the_list(open_sandbox: Open) -> None:
    caller = open_sandbox()
    good = listed(caller, endpoint=BARS)[APRIL]["Size"]
    caller.server.faults.add("wrong_size", path="/bulk/list", times=1)
    assert listed(caller, endpoint=BARS)[APRIL]["Size"] != good
    assert listed(caller, endpoint=BARS)[APRIL]["Size"] == good


def test_a_correction_is_in_the_file_that_is_written_after_it(open_sandbox: Open) -> None:
    caller = open_sandbox(now=datetime(2022, 6, 20, 20))
    code = rows_of(fetched(address(caller, key_=APRIL)).content)[0]["Code"]
    before = listed(caller, endpoint=BARS)[APRIL]["LastModified"]
    caller.server.correct(code, date(2022, 4, 1), Vo=12300.0)
    assert listed(caller, endpoint=BARS)[APRIL]["LastModified"] > before
    assert rows_of(fetched(address(caller, key_=APRIL)).content)[0]["Vo"] == "12300.0"


def test_the_official_client_lists_and_downloads(market: Market, tmp_path: Path) -> None:
    with serve(market, plan=Plan.PREMIUM, now=datetime(2022, 6, 30, 20)) as server:
        official = _official(server)
        frame = official.get_bulk_list(endpoint=BARS, from_date="2022-03", to_date="2022-04")
        assert frame["Key"].tolist() == [APRIL.replace("04.csv", "03.csv"), APRIL]
        official.download_bulk(APRIL, str(tmp_path / "one"))
        official.download_bulk_by_endpoint(BARS, "2022-04", str(tmp_path / "two"))
        data = (tmp_path / "one").read_bytes()
        assert data == (tmp_path / "two").read_bytes() and len(data) == frame["Size"].tolist()[1]
        assert {row["Date"][:7] for row in rows_of(data)} == {"2022-04"}


def _official(server: SandboxServer) -> jquantsapi.ClientV2:
    class Local(jquantsapi.ClientV2):
        JQUANTS_API_BASE = server.base_url

    return Local(api_key=server.api_key)
