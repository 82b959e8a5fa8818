"""A real HTTP server on loopback that answers from a script and remembers what it was asked."""

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

S = TypeVar("S", bound=ThreadingHTTPServer)


@dataclass
class Answer:
    """One answer: a status and a body (an object is sent as JSON), or a way of breaking off.

    Attributes:
        cut: bytes of the body that are sent under a correct length header before the connection ends; None: all.
        reset: end the connection with a reset instead of an answer.
        delay: seconds before the answer; `drip`: seconds between single bytes of it.
    """

    body: Any = field(default_factory=dict)
    status: int = 200
    cut: int | None = None
    reset: bool = False
    delay: float = 0.0
    drip: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    connection: int
    at: float


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Callable[[Request, int], Answer]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.lock = script, [], threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2"

    def handle_error(self, request, client_address):  # the client hung up: not worth a traceback
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ScriptedServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        request = Request(
            url.path.removeprefix("/v2"),
            dict(parse_qsl(url.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            self.client_address[1],
            time.monotonic(),
        )
        with self.server.lock:
            self.server.requests.append(request)
            number = len(self.server.requests)
        answer = self.server.script(request, number)
        time.sleep(answer.delay)
        if answer.reset:
            # a zero linger time turns close() into a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "gzip" in request.headers.get("accept-encoding", "") and not isinstance(answer.body, bytes):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if answer.cut is not None:
            body, self.close_connection = body[: answer.cut], True
        if answer.drip:
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                self.wfile.flush()
                time.sleep(answer.drip)
        else:
            self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@contextmanager
def serving(server: S) -> Iterator[S]:
    """A server that answers in a thread of its own until the block ends."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def scripted(script: Callable[[Request, int], Answer] | list[Answer] | Answer) -> Iterator[ScriptedServer]:
    """Serve a function of (request, number), a list of answers in order (the last one repeats), or one answer."""
    if isinstance(script, Answer):
        script = [script]
    answers = script
    if isinstance(answers, list):

        def script(request: Request, number: int) -> Answer:
            return answers[min(number, len(answers)) - 1]

    with serving(ScriptedServer(script)) as server:
        yield server
