"""The token bucket: its promise over any rolling minute, freezes, and threads."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.jquants.limiter import TokenBucket


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds

    def bucket(self, per_minute: float | None) -> TokenBucket:
        return TokenBucket(per_minute, clock=self.clock, sleep=self.sleep)


def busiest_minute(instants: list[float]) -> int:
    return max(sum(start <= t < start + 60 for t in instants) for start in instants)


@settings(max_examples=60, deadline=None)
@given(
    per_minute=st.sampled_from([4.5, 54.0, 108.0, 450.0]),
    pauses=st.lists(st.floats(0, 90), min_size=1, max_size=25),
    burst=st.integers(1, 40),
)
def test_never_more_than_the_limit_in_a_rolling_minute(per_minute, pauses, burst):
    time = FakeTime()
    bucket = time.bucket(per_minute)
    taken = []
    for pause in pauses:
        time.now += pause
        taken += [bucket.acquire() for _ in range(burst)]
    assert busiest_minute(taken) <= per_minute


@pytest.mark.parametrize("per_minute", [4.5, 54.0, 450.0])
def test_sustained_rate_comes_close_to_the_limit(per_minute):
    time = FakeTime()
    bucket = time.bucket(per_minute)
    taken = [bucket.acquire() for _ in range(int(20 * per_minute))]
    assert len(taken) / (taken[-1] - taken[0]) * 60 >= 0.75 * per_minute


def test_a_freeze_holds_everybody_and_no_burst_follows():
    time = FakeTime()
    bucket = time.bucket(60)
    bucket.freeze(90)
    bucket.freeze(10)  # a shorter one does not end it
    first, second = bucket.acquire(), bucket.acquire()
    assert first == 1090
    assert second - first > 0.9


def test_strikes_escalate_once_a_storm_and_a_success_forgives():
    time = FakeTime()
    bucket = time.bucket(None)
    sent = time.now
    assert 60 <= bucket.strike(sent, (60, 120), 310) <= 120
    time.now += 1
    assert bucket.strike(sent, (60, 120), 310) < 120  # was in flight before the freeze: the same storm
    again = bucket.acquire()
    assert bucket.strike(again, (60, 120), 310) == 310
    bucket.succeed(sent)  # of an old request: says nothing about now
    later = bucket.acquire()
    assert bucket.strike(later, (60, 120), 310) == 310
    bucket.succeed(bucket.acquire())
    assert bucket.strike(time.now, (60, 120), 310) <= 120


def test_threads_share_one_limit():
    # 1,500 a minute: 75 tokens at once, then 23.75 a second; 95 requests of 8 threads need at least 0.84 s
    bucket = TokenBucket(1500)
    taken, lock = [], threading.Lock()

    def work():
        for _ in range(12):
            instant = bucket.acquire()
            with lock:
                taken.append(instant)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 96
    assert max(taken) - min(taken) >= (96 - 75 - 1) / 23.75


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError):
        TokenBucket(0)
