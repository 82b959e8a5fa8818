"""Faults on command: each kind does what it says, strikes its share, and does so again under the same seed."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from atft_assets.sandbox import Fault, Faults, Market

from .conftest import Caller

Open = Callable[..., Caller]
BARS = "/equities/bars/daily"
DAY = "2022-03-01"


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "504", "413", "210"])
def test_statuses(open_sandbox: Open, kind: str) -> None:
    caller = open_sandbox(faults=[kind])
    answer = caller.get(BARS, date=DAY)
    assert answer.status_code == int(kind) and list(answer.json()) == ["message"]
    assert "Retry-After" not in answer.headers
    caller.server.faults.clear()
    assert caller.rows(BARS, date=DAY)


def test_truncated_is_half_an_answer_that_looks_complete(open_sandbox: Open) -> None:
    caller = open_sandbox(faults=["truncated"])
    answer = caller.get(BARS, date=DAY)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_cut_and_reset_break_the_connection_and_the_next_request_works(open_sandbox: Open) -> None:
    caller = open_sandbox()
    for kind in ("cut", "reset"):
        caller.server.faults.add(kind, times=1)
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            caller.get(BARS, date=DAY)
        assert caller.get(BARS, date=DAY).status_code == 200


def test_slow_waits(open_sandbox: Open) -> None:
    caller = open_sandbox(faults=[Fault("slow", seconds=0.3)])
    start = time.monotonic()
    assert caller.get(BARS, date=DAY).status_code == 200
    assert time.monotonic() - start >= 0.3


def test_duplicate_page_repeats_and_endless_pages_never_end(open_sandbox: Open) -> None:
    caller = open_sandbox(faults=["duplicate_page"])
    rows = caller.rows(BARS, date=DAY)
    page = caller.server.page_rows
    assert rows[page:] == rows[:page], "the second page is the first again"
    caller.server.faults.clear()
    caller.server.faults.add("endless_pages")
    first = caller.get(BARS, date=DAY).json()["pagination_key"]
    assert caller.get(BARS, date=DAY, pagination_key=first).json()["pagination_key"] == first


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ("rename_column,column=Vo", lambda row: "Vo" not in row and "VoRenamed" in row),
        ("drop_column,column=C", lambda row: "C" not in row and "AdjC" in row),
        ("add_column,column=Fresh", lambda row: row.get("Fresh") == "new"),
        ("text_for_number,column=C", lambda row: isinstance(row["C"], str)),
        ("null_column,column=Va", lambda row: row["Va"] is None and "Va" in row),
    ],
)
def test_columns(open_sandbox: Open, rule: str, check: Callable[[dict[str, Any]], bool]) -> None:
    caller = open_sandbox(faults=[f"{rule},path={BARS},date={DAY}"])
    rows = caller.rows(BARS, date=DAY)
    assert rows and all(check(row) for row in rows)
    assert not any(check(row) for row in caller.rows(BARS, date="2022-03-02") if row["C"] is not None)
    assert caller.rows("/equities/master", date=DAY)


def test_empty(open_sandbox: Open) -> None:
    assert open_sandbox(faults=["empty"]).get(BARS, date=DAY).json() == {"data": []}


def statuses(caller: Caller, days: list[str], threads: int) -> dict[str, list[int]]:
    with ThreadPoolExecutor(threads) as pool:
        answers = pool.map(lambda day: [caller.get(BARS, date=day).status_code for _ in range(3)], days)
        return dict(zip(days, answers, strict=True))


def test_the_share_is_kept_and_the_same_seed_strikes_the_same_requests(open_sandbox: Open, market: Market) -> None:
    days = [day.isoformat() for day in market.days[:90]]
    rules = ["500:0.1", "503:0.1"]
    runs = [
        statuses(open_sandbox(faults=rules, fault_seed=seed), order, threads)
        for seed, order, threads in ((1, days, 1), (1, days[::-1], 6), (2, days, 1))
    ]
    assert runs[0] == runs[1], "whatever the order and the threads"
    assert runs[0] != runs[2]
    flat = [status for answers in runs[0].values() for status in answers]
    assert 0.12 < sum(status != 200 for status in flat) / len(flat) < 0.27
    assert {500, 503} < set(flat)


def test_rules_can_be_bounded_and_are_counted(open_sandbox: Open) -> None:
    caller = open_sandbox()
    caller.server.faults.add("500", times=2)
    assert [caller.get(BARS, date=DAY).status_code for _ in range(4)] == [500, 500, 200, 200]
    assert caller.server.faults.struck == {"500": 2}
    assert caller.server.requests[BARS, 500] == 2 and caller.server.requests[BARS, 200] == 2


def test_rules_are_checked() -> None:
    assert Fault.parse("slow:0.25,seconds=2,times=3") == Fault("slow", 0.25, times=3, seconds=2.0)
    for text, word in (
        ("nonsense", "unknown fault"),
        ("500:1.5", "0 to 1"),
        ("null_column", "needs a column"),
        ("500,when=now", "when"),
    ):
        with pytest.raises(ValueError, match=word):
            Fault.parse(text)
    with pytest.raises(ValueError, match="unknown fault"):
        Faults().add("nonsense")
