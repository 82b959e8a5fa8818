"""The client against a real server that answers, refuses, breaks off and repeats itself."""

import threading
import time
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.jquants import errors
from atft_assets.jquants.client import JQuantsClient, Patience
from atft_assets.jquants.endpoints import DAILY_BARS, INDICES, TOPIX
from atft_assets.jquants.limiter import buckets
from atft_assets.jquants.plans import REQUESTS_PER_MINUTE
from atft_assets.settings import Plan

from .scripted_server import Answer, scripted

FAST = Patience(
    attempts=6, first_wait=0.001, longest_wait=0.002, throttled=5, first_freeze=(0.01, 0.02), next_freeze=0.03,
    connect=2, read=2, whole=5,
)  # fmt: skip
KEY = "key-for-tests"


def client_of(server, patience: Patience = FAST, **options) -> JQuantsClient:
    options.setdefault("requests_per_minute", 0)
    return JQuantsClient(server.base_url, KEY, Plan.PREMIUM, patience=patience, **options)


def topix(day: int, **more) -> dict:
    return {"Date": f"2024-01-{day:02d}", "O": 1.0, "H": 2.0, "L": 1.0, "C": 1.5, **more}


def page(*records: dict, key: str | None = None) -> Answer:
    return Answer({"data": list(records)} | ({"pagination_key": key} if key else {}))


# -- asking


def test_request_header_query_and_both_kinds_of_date():
    with scripted(page(topix(4))) as server, client_of(server) as client:
        client.fetch(TOPIX, {"from": date(2024, 1, 4), "to": "20240105"})
        request = server.requests[0]
    assert request.path == "/indices/bars/daily/topix"
    assert request.query == {"from": "2024-01-04", "to": "20240105"}
    assert request.headers["x-api-key"] == KEY
    assert "gzip" in request.headers["accept-encoding"]


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_every_page_is_read_in_order_with_the_same_query(sizes):
    days = iter(range(1, 31))
    pages = [[topix(next(days)) for _ in range(size)] for size in sizes]

    def script(request, number):
        assert request.query.get("from") == "2024-01-01"
        place = int(request.query.get("pagination_key", "key 0.&=").split()[1][:-3])
        return page(*pages[place], key=f"key {place + 1}.&=" if place + 1 < len(pages) else None)

    with scripted(script) as server, client_of(server) as client:
        records = client.fetch(TOPIX, {"from": date(2024, 1, 1)})
        assert len(server.requests) == len(pages)
    assert records == [record for one in pages for record in one]


@pytest.mark.parametrize("empty", [None, ""])
def test_a_null_or_empty_pagination_key_is_the_end(empty):
    with scripted(Answer({"data": [topix(4)], "pagination_key": empty})) as server, client_of(server) as client:
        assert len(client.fetch(TOPIX)) == 1


def test_nothing_matched():
    with scripted(page()) as server, client_of(server) as client:
        assert client.fetch(DAILY_BARS, {"date": date(2024, 1, 6)}) == []


def test_210_is_empty_whatever_its_body():
    with scripted(Answer(b"no content now", status=210)) as server, client_of(server) as client:
        assert client.fetch("/equities/bars/daily/am") == []


def test_an_object_answer():
    with scripted(Answer({"url": "https://example.org/file"})) as server, client_of(server) as client:
        assert client.fetch("/bulk/get", {"key": "k"}) == [{"url": "https://example.org/file"}]


def test_unknown_fields_are_kept_and_unknown_parameters_refused_before_asking():
    with scripted(page(topix(4, NewField={"a": 1}))) as server, client_of(server) as client:
        assert client.fetch(TOPIX)[0]["NewField"] == {"a": 1}
        with pytest.raises(ValueError, match=r"takes no parameter code \(it takes from, to\)"):
            client.fetch(TOPIX, {"code": "0000"})
        with pytest.raises(errors.UnknownEndpoint, match="endpoint table"):
            client.fetch("/prices/daily_quotes")
        with pytest.raises(errors.UnknownEndpoint, match="only as files"):
            client.fetch("/equities/trades")
        assert len(server.requests) == 1


def test_a_missing_field_is_an_error_that_names_endpoint_and_field_and_is_not_asked_again():
    renamed = {("Open" if name == "O" else name): value for name, value in topix(5).items()}
    with scripted(page(topix(4), renamed, renamed)) as server, client_of(server) as client:
        with pytest.raises(errors.MissingField) as caught:
            client.fetch(TOPIX)
        assert len(server.requests) == 1
    error = caught.value
    assert (error.endpoint, error.fields, error.failing_rows, error.unknown) == (TOPIX.path, ["O"], 2, ["Open"])


def test_connections_are_reused_and_sessions_are_not_shared_between_threads():
    with scripted(page(topix(4))) as server, client_of(server, threads=3) as client:
        list(client.fetch_many(TOPIX, [{"from": f"2024-01-{d:02d}"} for d in range(1, 31)], lambda *_: None))
        assert len(server.requests) == 30
        assert len({request.connection for request in server.requests}) <= 3


def test_many_listings_come_in_order_and_only_a_few_at_a_time():
    running, most = 0, 0
    lock = threading.Lock()

    def script(request, number):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (7 - int(request.query["from"][-2:]) % 7))
        with lock:
            running -= 1
        return page({**topix(4), "Date": request.query["from"]})

    days = [f"2024-01-{d:02d}" for d in range(1, 29)]
    with scripted(script) as server, client_of(server, threads=4) as client:
        came = list(client.fetch_many(TOPIX, [{"from": day} for day in days], lambda _, records: records[0]["Date"]))
    assert came == days
    assert 1 < most <= 4


# -- faults that may pass


def fault_script(faults):
    def script(request, number):
        return faults[number - 1] if number <= len(faults) else page(topix(4), topix(5))

    return script


FAULTS = {
    "500": Answer({"message": "Unexpected error."}, 500),
    "502 html": Answer(b"<html>bad gateway</html>", 502),
    "503": Answer({}, 503),
    "504": Answer({"message": "x"}, 504),
    "truncated json": Answer(b'{"data": [{"Date": "2024-01-04", "O": 1'),
    "broken off": Answer(b'{"data": []}   ', cut=5),
    "reset": Answer(reset=True),
    "html under 200": Answer(b"<html>maintenance</html>"),
    "no data key": Answer({"message": "?"}),
    "data is no list": Answer({"data": {"Date": "2024-01-04"}}),
    "nan": Answer(b'{"data": [{"Date": "2024-01-04", "O": NaN}]}'),
    "not gzip": Answer(b"xxxx", headers={"Content-Encoding": "gzip"}),
    "redirect": Answer({}, 302, headers={"Location": "/v2/elsewhere"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_is_tried_again(name):
    with scripted(fault_script([FAULTS[name]] * 2)) as server, client_of(server) as client:
        assert [record["Date"] for record in client.fetch(TOPIX)] == ["2024-01-04", "2024-01-05"]
        assert len(server.requests) == 3
        assert client.counters.retries == 2


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([None, *FAULTS]), max_size=14))
def test_any_mixture_of_faults_gives_the_records_of_a_clean_run(mixture):
    pages = {"": ([topix(1), topix(2)], "a"), "a": ([topix(3)], "b"), "b": ([topix(4)], None)}
    left = list(mixture)

    def script(request, number):
        fault = left.pop(0) if left else None
        if fault:
            return FAULTS[fault]
        records, key = pages[request.query.get("pagination_key", "")]
        return page(*records, key=key)

    patient = Patience(attempts=20, first_wait=0.0001, longest_wait=0.0002, connect=2, read=2)
    with scripted(script) as server, client_of(server, patient) as client:
        assert client.fetch(TOPIX) == [topix(day) for day in (1, 2, 3, 4)]


def test_slow_answers_time_out_and_are_tried_again():
    patience = Patience(attempts=3, first_wait=0.001, longest_wait=0.002, connect=1, read=0.15, whole=0.3)
    slow, dripping = Answer({"data": []}, delay=0.5), Answer(b'{"data": []}' + b" " * 60, drip=0.02)
    with scripted(fault_script([slow, dripping])) as server, client_of(server, patience) as client:
        assert len(client.fetch(TOPIX)) == 2
        assert len(server.requests) == 3


def test_a_fault_that_stays_is_told_with_its_kind():
    with scripted(FAULTS["503"]) as server, client_of(server) as client:
        with pytest.raises(errors.ServerError, match="HTTP 503"):
            client.fetch(TOPIX)
        assert len(server.requests) == FAST.attempts
    with client_of(server) as client, pytest.raises(errors.ConnectionFault, match="connection failed"):
        client.fetch(TOPIX)  # the server is gone


def test_waits_grow_and_stay_below_the_longest():
    slept = []
    patience = Patience(attempts=8, first_wait=0.5, longest_wait=5.0)
    with scripted(FAULTS["500"]) as server, client_of(server, patience, sleep=slept.append) as client:
        with pytest.raises(errors.ServerError):
            client.fetch(TOPIX)
        assert len(server.requests) == 8
    assert len(slept) == 7
    assert all(0.5 <= wait <= 5.0 for wait in slept)
    assert slept[-1] == 5.0 and slept[0] <= 1.0


# -- refusals


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "This API requires at least 1 parameter as follows; date, code", errors.BadRequest),
        (400, "Your subscription covers the following dates: 2016-09-21 ~ .", errors.OutsideWindow),
        (403, "The incoming api key is invalid or expired.", errors.WrongKey),
        (403, "This API is not available on your subscription.", errors.PlanGate),
    ],
)
def test_refusals_are_never_repeated(status, message, kind):
    with scripted(Answer({"message": message}, status)) as server, client_of(server) as client:
        with pytest.raises(kind):
            client.fetch(INDICES, {"date": date(2024, 1, 5)})
        assert len(server.requests) == 1


def test_a_body_without_message_is_told_by_its_text():
    with scripted(Answer(b"no", 400)) as server, client_of(server) as client:
        with pytest.raises(errors.BadRequest, match="HTTP 400, 'no'"):
            client.fetch(TOPIX)
        assert len(server.requests) == 1


# -- rate limit


class FakeTime:
    def __init__(self):
        self.now, self.slept, self.lock = 0.0, [], threading.Lock()

    def clock(self) -> float:
        with self.lock:
            return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.slept.append(seconds)
            self.now += seconds


def test_the_cool_down_after_429_is_a_minute_or_two_then_five_then_forgiven():
    time_ = FakeTime()
    too_many = Answer({"message": "Too Many Requests"}, 429)
    answers = [too_many, too_many, page(topix(4)), too_many, page(topix(5))]
    with (
        scripted(answers) as server,
        client_of(server, Patience(), clock=time_.clock, sleep=time_.sleep) as client,
    ):
        client.fetch(TOPIX)
        client.fetch(TOPIX)
    first, second, third = time_.slept
    assert 60 <= first <= 120 and second == 310 and 60 <= third <= 120
    assert client.counters.throttled == 3 and client.counters.retries == 0


def test_a_freeze_stops_every_thread():
    def script(request, number):
        return Answer({}, 429) if number == 5 else page(topix(4))

    patience = Patience(first_freeze=(0.4, 0.4))
    with scripted(script) as server, client_of(server, patience, threads=4) as client:
        list(client.fetch_many(TOPIX, [{"from": "2024-01-04"}] * 40, lambda *_: None))
        at = [request.at for request in server.requests]
    struck = sorted(at)[4]
    quiet = [t for t in at if struck + 0.1 < t < struck + 0.35]
    assert len(at) == 41 and not quiet


def test_a_storm_that_stays_is_given_up():
    with scripted(Answer({}, 429)) as server, client_of(server) as client:
        with pytest.raises(errors.RateLimited, match="JQUANTS_PLAN"):
            client.fetch(TOPIX)
        assert len(server.requests) == FAST.throttled


def test_plan_and_statement_limits():
    time_ = FakeTime()
    with scripted(Answer({"data": []})) as server:
        client = JQuantsClient(server.base_url, KEY, Plan.PREMIUM, clock=time_.clock, sleep=time_.sleep)
        with client:
            for _ in range(200):
                client.fetch("/fins/summary", {"code": "13010"})
            statements = time_.now
            for _ in range(200):
                client.fetch(DAILY_BARS, {"code": "13010"})
            bars = time_.now - statements
    assert statements >= 200 / 54 * 60 - 60  # 60 a minute on every plan
    assert bars <= 60  # 500 a minute


def test_the_rate_stays_below_what_was_refused():
    """Answers 429 came at 428 a minute on Premium, and at 120 on Light, whose limit is 60."""
    rates = {plan: buckets(plan, None, time.monotonic)["plan"].per_minute for plan in Plan}
    assert rates[Plan.PREMIUM] < 428 and rates[Plan.LIGHT] < 60
    assert all(rate and rate >= 0.75 * REQUESTS_PER_MINUTE[plan] for plan, rate in rates.items())


# -- pages that repeat


def test_a_repeated_page_begins_the_listing_again():
    first, second = page(topix(4), key="a"), page(topix(5))
    repeated = page(topix(4), key="b")
    with scripted([first, repeated, first, second]) as server, client_of(server) as client:
        assert [record["Date"] for record in client.fetch(TOPIX)] == ["2024-01-04", "2024-01-05"]
        assert len(server.requests) == 4


def test_a_loop_of_keys_ends_in_an_error():
    def script(request, number):
        return page(topix(number), key="same")

    with scripted(script) as server, client_of(server) as client:
        with pytest.raises(errors.PaginationLoop, match="pagination key"):
            client.fetch(TOPIX)
        assert len(server.requests) == 2 * FAST.listings


# -- giving up together


def test_one_refusal_wakes_threads_that_wait_for_a_cool_down():
    def script(request, number):
        if request.query["from"] == "2024-01-01":
            return Answer({"message": "The incoming api key is invalid or expired."}, 403, delay=0.2)
        return Answer({}, 429)

    patience = Patience(first_freeze=(60, 60))
    queries = [{"from": f"2024-01-{day:02d}"} for day in range(1, 9)]
    with scripted(script) as server, client_of(server, patience, threads=3) as client:
        began = time.monotonic()
        with pytest.raises(errors.WrongKey):
            list(client.fetch_many(TOPIX, queries, lambda *_: None))
        assert time.monotonic() - began < 30  # the cool-down lasts 60
