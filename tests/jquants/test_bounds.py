"""Time, memory and number of answers are bounded, whatever a server sends; and an interrupt ends what is in flight."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from atft_assets.jquants import errors, line
from atft_assets.jquants.client import MAX_EMPTY_PAGES, Cancelled, JQuantsClient
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.jquants.patience import Patience
from atft_assets.settings import Plan

from .scripted_server import Answer, scripted

# a read is allowed far longer than the whole answer: only the deadline of the whole can end a dribble
DRIBBLED = Patience(attempts=1, connect=2, read=30, whole=0.4)
KEY = "key-for-tests"
HANGS = 30.0  # a generous end for what must not hang
HEAD = b"HTTP/1.1 200 OK\r\n"


def client_of(base_url: str, patience: Patience = DRIBBLED, **options) -> JQuantsClient:
    return JQuantsClient(base_url, KEY, Plan.PREMIUM, requests_per_minute=0, patience=patience, **options)


@contextmanager
def dribbling(first: bytes, drop: bytes) -> Iterator[str]:
    """A server that sends `first` and then `drop` for ever, a byte at a time; gives its base URL."""
    stop = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(4096)
                    connection.sendall(first)
                    while not stop.wait(0.05):
                        connection.sendall(drop)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANGS)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
        stop.set()


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"H"),  # the status line
        (HEAD, b"X-Long: x\r\n"[:1]),  # one endless header
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        (HEAD + b"\r\n", b" "),  # a body without a length: its end is the connection's
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n", b"\x00"),
    ],
    ids=["status line", "headers", "body", "body without length", "chunk head", "gzip"],
)
def test_an_answer_that_dribbles_ends_at_the_deadline(first, drop):
    with dribbling(first, drop) as url, client_of(url) as client:
        began = time.monotonic()
        with pytest.raises(errors.ConnectionFault, match=r"more than 0\.4 s in all.*goes on where"):
            client.fetch(TOPIX)
        assert time.monotonic() - began < HANGS / 2


def test_a_deadline_that_was_met_does_not_cut_the_next_request():
    patience = Patience(attempts=1, connect=2, read=2, whole=1.5)
    with scripted(Answer({"data": []})) as server, client_of(server.base_url, patience) as client:
        for _ in range(3):
            client.fetch(TOPIX)
            time.sleep(0.8)
        assert len({request.connection for request in server.requests}) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_an_answer_larger_than_memory_should_hold_is_refused(monkeypatch, zipped):
    monkeypatch.setattr(line, "MAX_ANSWER_BYTES", 1 << 20)
    body = b'{"data": [{"x": "' + b"0" * (8 << 20) + b'"}]}'
    answer = Answer(gzip.compress(body), headers={"Content-Encoding": "gzip"}) if zipped else Answer(body)
    patience = Patience(attempts=1, connect=2, read=5, whole=20)
    with (
        scripted(answer) as server,
        client_of(server.base_url, patience) as client,
        pytest.raises(errors.ConnectionFault, match=r"larger than 1 MiB unpacked.*JQUANTS_BASE_URL"),
    ):
        client.fetch(TOPIX)


def test_the_real_bound_is_a_fraction_of_a_machine():
    assert line.MAX_ANSWER_BYTES * 4 <= 256 << 20  # four are in flight


def test_empty_pages_with_fresh_keys_end_soon():
    def script(request, number):
        return Answer({"data": [], "pagination_key": f"key {number}"})

    with scripted(script) as server, client_of(server.base_url) as client:
        with pytest.raises(errors.PaginationLoop, match=r"10 empty pages in a row.*JQUANTS_BASE_URL"):
            client.fetch(TOPIX)
        assert len(server.requests) == MAX_EMPTY_PAGES


def test_pages_without_an_end_are_bounded_in_number_and_in_bytes(monkeypatch):
    def script(request, number):
        return Answer({"data": [{"Date": f"{number}"}], "pagination_key": f"key {number}"})

    monkeypatch.setattr("atft_assets.jquants.client.MAX_PAGES", 20)
    with scripted(script) as server, client_of(server.base_url) as client:
        with pytest.raises(errors.PaginationLoop, match="more than 20 pages"):
            client.fetch(TOPIX)
        assert len(server.requests) == 20
        monkeypatch.setattr("atft_assets.jquants.client.MAX_LISTING_BYTES", 200)
        with pytest.raises(errors.PaginationLoop, match="MiB"):
            client.fetch(TOPIX)
        assert len(server.requests) < 30


def test_what_ends_a_job_cuts_its_requests_in_flight():
    """An interrupt reaches the caller, not its threads: they hang in reads, and must be woken."""
    release = threading.Event()

    def script(request, number):
        if request.query["from"] != "2024-01-01":
            release.wait(HANGS)
        return Answer({"data": []})

    patience = Patience(attempts=3, connect=2, read=HANGS, whole=HANGS)
    queries = [{"from": f"2024-01-{day:02d}"} for day in range(1, 9)]
    with scripted(script) as server, client_of(server.base_url, patience, threads=4) as client:
        listings = client.fetch_many(TOPIX, queries, lambda *_: None)
        next(listings)
        while len(server.requests) < 5:
            time.sleep(0.01)
        began = time.monotonic()
        listings.close()  # what happens to the generator when its caller is interrupted
        assert time.monotonic() - began < HANGS / 3
        asked = len(server.requests)
        release.set()
        time.sleep(0.1)
        assert len(server.requests) == asked  # nothing is asked for after it
        assert client.fetch(TOPIX, {"from": "2024-01-01"}) == []  # the client is as good as before


def test_a_job_that_was_given_up_sends_nothing():
    cancel = threading.Event()
    cancel.set()
    with scripted(Answer({"data": []})) as server, client_of(server.base_url) as client:
        with pytest.raises(Cancelled):
            client.fetch(TOPIX, cancel=cancel)
        assert server.requests == []


@contextmanager
def unanswering() -> Iterator[str]:
    """A port whose queue is full: whoever connects waits for an answer that does not come."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        time.sleep(0.05)
        yield f"http://127.0.0.1:{address[1]}/v2"
        for one in waiting:
            one.close()


def test_a_connection_that_does_not_come_ends_at_the_deadline_too():
    patience = Patience(attempts=1, connect=HANGS, read=HANGS, whole=0.3)
    with unanswering() as url, client_of(url, patience) as client:
        began = time.monotonic()
        with pytest.raises(errors.ConnectionFault, match=r"more than 0\.3 s in all"):
            client.fetch(TOPIX)
        assert time.monotonic() - began < HANGS / 2


def test_a_connection_that_does_not_come_is_told_as_such():
    patience = Patience(attempts=1, connect=0.2, read=HANGS, whole=HANGS)
    with (
        unanswering() as url,
        client_of(url, patience) as client,
        pytest.raises(errors.ConnectionFault, match=r"could not connect to 127.0.0.1:\d+ in time.*firewall"),
    ):
        client.fetch(TOPIX)


def test_a_connection_that_does_not_come_is_cut_by_an_interrupt():
    patience = Patience(attempts=1, connect=HANGS, read=HANGS, whole=HANGS)
    with unanswering() as url:
        one = line.Line(url)
        threading.Timer(0.2, one.cut, ["interrupted"]).start()
        began = time.monotonic()
        with pytest.raises(line.LineFault, match="interrupted"):
            one.get(url, {}, lambda request: request, patience)
        assert time.monotonic() - began < HANGS / 2 and not one.sound
