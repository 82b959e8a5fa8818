"""Requests a minute: a sliding window a key, and five minutes of silence for a client that storms on."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.sandbox.limits import PENALTY_SECONDS, REQUESTS_A_MINUTE, RateLimiter

from .conftest import Caller

BARS = "/equities/bars/daily"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 30), min_size=1, max_size=200), st.integers(1, 20))
def test_never_more_than_the_limit_within_any_minute(gaps: list[float], limit: int) -> None:
    clock = Clock()
    limiter = RateLimiter(limit, clock)
    allowed: list[float] = []
    for gap in gaps:
        clock.now += gap
        if limiter.allow():
            allowed.append(clock.now)
    for i, start in enumerate(allowed):
        assert sum(start <= t < start + 60 for t in allowed[i:]) <= limit


def test_the_window_slides() -> None:
    clock = Clock()
    limiter = RateLimiter(3, clock)
    answers = []
    for second in (0, 20, 40, 50, 60, 70):
        clock.now = second
        answers.append(limiter.allow())
    # the refused request at 50 counts, so at 60 (20, 40, 50 in the window) there is no room either
    assert answers == [True, True, True, False, False, False]


def test_twice_the_limit_blocks_for_five_minutes() -> None:
    clock = Clock()
    limiter = RateLimiter(5, clock)
    assert [limiter.allow() for _ in range(10)] == [True] * 5 + [False] * 5
    clock.now = PENALTY_SECONDS - 0.1
    assert not limiter.allow()
    clock.now = PENALTY_SECONDS
    assert limiter.allow()


@pytest.mark.parametrize("plan", list(REQUESTS_A_MINUTE))
def test_the_server_keeps_the_plans_limit(open_sandbox: Callable[..., Caller], plan: str) -> None:
    clock = Clock()
    caller = open_sandbox(plan=plan, rate_limit=True, rate_clock=clock)
    limit = min(REQUESTS_A_MINUTE[plan], 150)  # type: ignore[index]
    codes = [caller.get(BARS).status_code for _ in range(limit)]
    assert set(codes) == {400}, "a bad request counts, too"
    if limit == REQUESTS_A_MINUTE[plan]:  # type: ignore[index]
        answer = caller.get(BARS, code="13000")
        assert answer.status_code == 429 and "Retry-After" not in answer.headers and list(answer.json()) == ["message"]
        clock.now = 61
        assert caller.get(BARS, code="13000").status_code == 200


def test_each_page_is_a_request_and_each_key_has_its_own_window(open_sandbox: Callable[..., Caller]) -> None:
    caller = open_sandbox(rate_limit=2)
    caller.server.keys["second"] = caller.server.keys[caller.server.api_key]
    assert len(caller.rows(BARS, date="2022-03-01")) > caller.server.page_rows
    assert caller.get(BARS, date="2022-03-01").status_code == 429
    assert caller.get(BARS, key="second", date="2022-03-01").status_code == 200


def test_without_the_switch_there_is_no_limit(open_sandbox: Callable[..., Caller]) -> None:
    caller = open_sandbox(plan="free")
    assert {caller.get("/equities/master", date="2022-03-01").status_code for _ in range(20)} == {200}
