"""A hostile proxy: it asks the sandbox, and spoils what it answers.

A `Move` gets one exchange and answers it, well or badly. Moves on the wire (statuses, broken gzip, half answers) are
functions of an exchange; moves on the contents are made of a function of the decoded document by `edit`, or of its
records by `records` and `each`. `on` restricts a move to a path, and to a day of it.
"""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from atft_assets.sandbox import SandboxServer
from tests.jquants.scripted_server import serving

JSON = "application/json; charset=utf-8"
HALF_OPEN_SECONDS = 5.0  # more than any patience of a test

Record = dict[str, Any]
Document = dict[str, Any]


class Proxy(ThreadingHTTPServer):
    """The proxy; `move` may be changed between two runs.

    Attributes:
        behind: the sandbox that is asked.
        asked: requests since the last change of move.
        struck: answers that the move has spoiled since then; a case that strikes nothing proves nothing.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behind: SandboxServer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.lock = behind, threading.Lock()
        self.use(passthrough)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2"

    def use(self, move: "Move") -> None:
        """Spoil answers in this way from now on."""
        self.move, self.asked, self.struck = move, 0, 0

    def strike(self) -> int:
        """Count a spoiled answer; how many there were before."""
        with self.lock:
            self.struck += 1
            return self.struck - 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client hung up, as it should in many of the cases."""


@contextmanager
def proxy(behind: SandboxServer) -> Iterator[Proxy]:
    """A running proxy in front of a running sandbox."""
    with serving(Proxy(behind)) as server:
        yield server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        with self.server.lock:
            self.server.asked += 1
        exchange = Exchange(self, self.server, url.path.removeprefix("/v2"), dict(parse_qsl(url.query)))
        self.server.move(exchange)

    def log_message(self, *args: Any) -> None:
        pass


@dataclass
class Exchange:
    """One request and the ways to answer it."""

    handler: Handler
    proxy: Proxy
    path: str
    query: dict[str, str]
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {name.lower(): value for name, value in self.handler.headers.items()}

    def ask(self, **changes: str) -> tuple[int, bytes]:
        """Status and body of the sandbox for this request, with changes of its query."""
        target = f"/v2{self.path}?{urlencode(self.query | changes)}"
        status, body, _ = self.proxy.behind.answer("GET", target, self.headers.get("x-api-key"))
        return status, body

    def everything(self, **query: str) -> list[Record]:
        """All records of another query of the same path, over its pages."""
        found, more = [], {}
        while True:
            target = f"/v2{self.path}?{urlencode(query | more)}"
            _, body, _ = self.proxy.behind.answer("GET", target, self.proxy.behind.api_key)
            document = json.loads(body)
            found += document["data"]
            if "pagination_key" not in document:
                return found
            more = {"pagination_key": document["pagination_key"]}

    def send(
        self, status: int, body: bytes | Document, kind: str = JSON, length: int | None = None, **headers: str
    ) -> None:
        """Answer; `length` is what the header claims, if it is to lie (the connection is then closed)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(len(data) if length is None else length))
        self.handler.end_headers()
        self.bytes(data, close=length is not None)

    def bytes(self, data: bytes, close: bool = True) -> None:
        """Raw bytes on the socket."""
        self.handler.wfile.write(data)
        self.handler.wfile.flush()
        self.handler.close_connection = self.handler.close_connection or close


Move = Callable[[Exchange], None]


def passthrough(exchange: Exchange) -> None:
    """What the sandbox answers."""
    exchange.send(*exchange.ask())


# ── where and how often ───────────────────────────────────────────────────────────────────────────────────────────


def on(path: str, move: Move, day: str | None = None, times: int | None = None) -> Move:
    """A move on the requests of a path, of one day (None: of all), at most so many times."""

    def restricted(exchange: Exchange) -> None:
        applies = exchange.path == path and (day is None or exchange.query.get("date") == day)
        if applies and (times is None or exchange.proxy.struck < times):
            exchange.proxy.strike()
            move(exchange)
        else:
            passthrough(exchange)

    return restricted


# ── on the wire ───────────────────────────────────────────────────────────────────────────────────────────────────


def status(number: int, message: str) -> Move:
    """A refusal in the service's own form."""
    return lambda exchange: exchange.send(number, {"message": message})


def page_of(number: int, text: str = "We will be back") -> Move:
    """A page for people where a program asked."""
    body = f"<html><head><title>Maintenance</title></head><body><h1>{text}</h1></body></html>".encode()
    return lambda exchange: exchange.send(number, body, "text/html")


def echo(number: int) -> Move:
    """A page of some box on the way that shows the header of the request, the key in it."""
    return lambda exchange: page_of(number, f"bad key {exchange.headers.get('x-api-key')}")(exchange)


def redirect(exchange: Exchange) -> None:
    exchange.send(302, b"", Location="http://127.0.0.1:9/elsewhere")


def no_content(exchange: Exchange) -> None:
    exchange.bytes(b"HTTP/1.1 204 No Content\r\n\r\n", close=False)


def other_kind(exchange: Exchange) -> None:
    exchange.send(*exchange.ask(), kind="text/plain")


def zipped(spoil: Callable[[bytearray], bytearray], cut: bool = False) -> Move:
    """A gzip answer that is spoiled after it was compressed; `cut`: the header claims the whole length."""

    def move(exchange: Exchange) -> None:
        number, body = exchange.ask()
        whole = bytearray(gzip.compress(body))
        length = len(whole)
        exchange.send(number, bytes(spoil(whole)), length=length if cut else None, Content_Encoding="gzip")

    return move


def first_half(data: bytearray) -> bytearray:
    return data[: len(data) // 2]


def flipped(place: Callable[[int], int]) -> Callable[[bytearray], bytearray]:
    def flip(data: bytearray) -> bytearray:
        data[place(len(data))] ^= 0xFF
        return data

    return flip


def not_zipped(exchange: Exchange) -> None:
    number, body = exchange.ask()
    exchange.send(number, body, Content_Encoding="gzip")


def closed_early(exchange: Exchange) -> None:
    number, body = exchange.ask()
    exchange.send(number, body[: len(body) // 2], length=len(body))


def half_without_length(exchange: Exchange) -> None:
    """As HTTP/1.0 did it: the end of the connection is the end of the answer."""
    _, body = exchange.ask()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    exchange.bytes(head + body[: len(body) // 2])


def garbage(exchange: Exchange) -> None:
    exchange.bytes(b"\x16\x03\x01\x02\x00 this is no status line\r\n\r\n")


def half_open(exchange: Exchange) -> None:
    """The request is taken, and nothing comes."""
    time.sleep(HALF_OPEN_SECONDS)
    exchange.handler.close_connection = True


# ── on the contents ───────────────────────────────────────────────────────────────────────────────────────────────


def edit(change: Callable[[Document], Document | bytes]) -> Move:
    """The sandbox's answer after a change of the decoded document."""

    def move(exchange: Exchange) -> None:
        number, body = exchange.ask()
        exchange.send(number, change(json.loads(body)))

    return move


def records(change: Callable[[list[Record]], list[Any]]) -> Move:
    """After a change of its records."""
    return edit(lambda document: document | {"data": change(document["data"])})


def each(change: Callable[[Record], Record]) -> Move:
    """After a change of every record."""
    return records(lambda rows: [change(row) for row in rows])


def first(change: Callable[[Record], Record]) -> Move:
    """After a change of a page's first record."""
    return records(lambda rows: [change(row) for row in rows[:1]] + rows[1:])


def literal(text: str) -> Move:
    """Such characters where the first close stood."""
    mark = 987654321.25

    def change(document: Document) -> bytes:
        document["data"][0]["C"] = mark
        return json.dumps(document).replace(str(mark), text).encode()

    return edit(change)


def put(**fields: Any) -> Callable[[Record], Record]:
    """Set fields of a record."""
    return lambda row: row | fields


def scaled(change: Callable[[float], float], names: str = "OHLC") -> Callable[[Record], Record]:
    """Change the prices of a record, the adjusted ones with them."""
    keys = [prefix + name for name in names for prefix in ("", "Adj")]
    return lambda row: row | {key: change(row[key]) for key in keys if row.get(key) is not None}


def yesterday(previous: str) -> Move:
    """The bars of the day before under the date that was asked for."""

    def move(exchange: Exchange) -> None:
        rows = exchange.everything(date=previous)
        exchange.send(200, {"data": [row | {"Date": exchange.query["date"]} for row in rows]})

    return move
