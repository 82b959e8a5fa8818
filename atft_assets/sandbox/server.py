"""The server: J-Quants API V2 over a simulated market, on a real socket.

It answers as the service is documented to: envelope `data` with an opaque `pagination_key` (absent at the end), error
bodies and statuses, plan gates, request limits; which rows, by which clock, is in `endpoints`. What makes it a sandbox
are switches: no rate limit unless asked for, faults on command, a movable `now`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import secrets
import socket
import struct
import threading
import time as clock
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.sandbox import bulk
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.endpoints import BARS, ENDPOINTS, MESSAGES, PAGE_FACTOR
from atft_assets.sandbox.faults import COLUMN_KINDS, EMPTY, STATUS_KINDS, Fault, Faults, break_column
from atft_assets.sandbox.limits import (
    NOT_IN_PLAN,
    NOT_SUBSCRIBED,
    REQUESTS_A_MINUTE,
    SERVED,
    RateLimiter,
    includes,
)
from atft_assets.sandbox.market import Market, simulate
from atft_assets.sandbox.query import Query, Refusal
from atft_assets.sandbox.wire import rows_json
from atft_assets.settings import Plan

NO_KEY = "The api key is required."
WRONG_KEY = "The incoming api key is invalid or expired."
NO_PLAN = "There is no active subscription for this account."
NO_ENDPOINT = "The requested endpoint does not exist. Please check the URL, HTTP method and API version."
BAD_PAGE = "'pagination_key' is invalid for this request."


class SandboxServer:
    """A running sandbox. Use `serve` to make one, and it as a context manager.

    Attributes:
        base_url: `http://127.0.0.1:PORT/v2`.
        api_key: the key that was made for `plan`; `keys` maps every accepted key to its plan (None: no subscription).
        market: what is served; may be replaced while running (see `correct` and `split`).
        faults: the rules in force.
        shuffle: rows in an order that is fixed by the query but otherwise arbitrary, as nothing else is promised.
        page_rows: rows of a page.
        requests: how many requests were answered, by (path, status).
    """

    def __init__(
        self, market: Market, plan: Plan, faults: Faults, now: datetime, page_rows: int, rate_limit: bool | int,
        shuffle: bool, api_key: str | None, port: int, rate_clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.faults, self.page_rows, self.shuffle = faults, page_rows, shuffle
        self.shelf = bulk.Shelf(self._rows, (market.config.start, market.config.end), rate_clock)
        self._market = market
        self.api_key = api_key or f"sandbox-{secrets.token_hex(12)}"
        self.keys: dict[str, Plan | None] = {self.api_key: plan}
        self.requests: dict[tuple[str, int], int] = {}
        self.now = now
        self._rate_limit, self._rate_clock = rate_limit, rate_clock
        self._limiters: dict[str, RateLimiter] = {}
        self._corrections: dict[tuple[date, str], dict[str, Any]] = {}
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"sandbox": self})
        self._http = _HTTPServer(("127.0.0.1", port), handler)
        self.port = int(self._http.server_address[1])
        self.base_url = f"http://127.0.0.1:{self.port}/v2"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> SandboxServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)

    def wait(self) -> None:
        """Serve until interrupted."""
        while self._thread.is_alive():
            self._thread.join(timeout=1)

    # -- the clock and the data behind it -------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The instant the service believes it is; rows appear when it passes their publication time."""
        return self._now

    @now.setter
    def now(self, value: datetime) -> None:
        self._now = value.replace(tzinfo=calendar.TOKYO) if value.tzinfo is None else value.astimezone(calendar.TOKYO)

    @property
    def market(self) -> Market:
        """What is served."""
        return self._market

    @market.setter
    def market(self, value: Market) -> None:
        self._market = value
        self.shelf.change(self.now)

    def correct(self, code: str, day: date, **fields: Any) -> None:
        """Change fields of one past bar from now on, as a late correction does: `correct("13010", day, C=100.0)`."""
        if day not in self.market.row_of or code not in self.market.columns_of:
            raise KeyError(f"no bar of {code} on {day} to correct")
        with self._lock:
            self._corrections.setdefault((day, code), {}).update(fields)
        self.shelf.change(self.now)

    def split(self, code: str, ex_date: date, factor: float) -> None:
        """Add a split (factor < 1) or consolidation (> 1): raw prices from `ex_date` on and all Adj* before change."""
        self.market = self.market.with_split(code, ex_date, factor)

    # -- requests -----------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, key: str | None) -> tuple[int, bytes, list[Fault]]:
        """Status, JSON body and transport faults for one request line."""
        url = urlsplit(target)
        path = url.path.removeprefix("/v2") if url.path.startswith("/v2/") else ""
        params = {k: v for k, v in parse_qsl(url.query) if v}
        struck: list[Fault] = []
        try:
            if method != "GET" or (path not in SERVED and path not in NOT_SUBSCRIBED):
                raise Refusal(403, NO_ENDPOINT)
            plan = self._plan_of(key)
            if not includes(plan, path):
                raise Refusal(403, NOT_IN_PLAN)
            self._count_against_limit(str(key), plan)
            struck = self.faults.strike(path, params)
            for rule in struck:
                if rule.kind in STATUS_KINDS:
                    status = STATUS_KINDS[rule.kind]
                    raise Refusal(status, MESSAGES[status])
            status, body = 200, self._body(Query(path, plan, self.now, params), struck)
        except Refusal as refusal:
            status, body = refusal.status, json.dumps({"message": refusal.message}).encode()
        self.count(path, status)
        return status, body, struck

    def count(self, path: str, status: int) -> None:
        """Note that a request was answered."""
        with self._lock:
            self.requests[path, status] = self.requests.get((path, status), 0) + 1

    def _plan_of(self, key: str | None) -> Plan:
        if not key:
            raise Refusal(403, NO_KEY)
        if key not in self.keys:
            raise Refusal(403, WRONG_KEY)
        plan = self.keys[key]
        if plan is None:
            raise Refusal(403, NO_PLAN)
        return plan

    def _count_against_limit(self, key: str, plan: Plan) -> None:
        if self._rate_limit is False:
            return
        limit = REQUESTS_A_MINUTE[plan] if self._rate_limit is True else self._rate_limit
        with self._lock:
            limiter = self._limiters.setdefault(key, RateLimiter(limit, self._rate_clock))
        if not limiter.allow():
            raise Refusal(429, MESSAGES[429])

    def _body(self, query: Query, struck: list[Fault]) -> bytes:
        if query.path in bulk.PATHS:
            return self.shelf.answer(query, struck, self.base_url.removesuffix("/v2"))
        return self._page(query, struck)

    def _rows(self, query: Query) -> pl.DataFrame:
        frame = ENDPOINTS[query.path](self.market, query)
        return self._corrected(frame) if query.path == BARS else frame

    def _page(self, query: Query, struck: list[Fault]) -> bytes:
        """One page of the query's rows as the JSON envelope."""
        kinds = {rule.kind for rule in struck}
        frame = self._rows(query)
        if EMPTY in kinds:
            frame = frame.clear()
        for rule in struck:
            if rule.kind in COLUMN_KINDS:
                frame = break_column(frame, rule)
        question = {k: v for k, v in query.params.items() if k != "pagination_key"}
        bound = f"{query.path}?{json.dumps(sorted(question.items()))}"
        if self.shuffle:
            seed = int.from_bytes(hashlib.sha256(bound.encode()).digest()[:4])
            frame = frame[np.random.default_rng(seed).permutation(len(frame)).tolist()]
        start = self._offset(query.params.get("pagination_key"), bound)
        size = self.page_rows * PAGE_FACTOR.get(query.path, 1)
        end = start + size
        shown = max(0, start - size) if "duplicate_page" in kinds else start
        rows = rows_json(frame.slice(shown, size))
        if "endless_pages" in kinds:
            end = start or size
        if end >= len(frame) and "endless_pages" not in kinds:
            return b'{"data":' + rows + b"}"
        return b'{"data":' + rows + b',"pagination_key":' + json.dumps(self._page_key(end, bound)).encode() + b"}"

    def _page_key(self, offset: int, bound: str) -> str:
        digest = hashlib.blake2b(f"{offset}|{bound}".encode(), key=self._secret, digest_size=12).hexdigest()
        return f"{offset:x}.{digest}."

    def _offset(self, key: str | None, bound: str) -> int:
        if key is None:
            return 0
        head = key.split(".", 1)[0]
        if not re.fullmatch(r"[0-9a-f]{1,12}", head) or key != self._page_key(int(head, 16), bound):
            raise Refusal(400, BAD_PAGE)
        return int(head, 16)

    def _corrected(self, frame: pl.DataFrame) -> pl.DataFrame:
        for (day, code), fields in list(self._corrections.items()):
            row = (pl.col("Date") == day.isoformat()) & (pl.col("Code") == code)
            frame = frame.with_columns(
                pl.when(row).then(pl.lit(value, frame.schema[name])).otherwise(pl.col(name)).alias(name)
                for name, value in fields.items()
                if name in frame.columns
            )
        return frame


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not worth a traceback; anything else is."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Every answer says which market is served (the service has no such header, and nobody needs it for the API)."""

    sandbox: SandboxServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        if self.path.startswith(bulk.FILES):
            self._file()
            return
        status, body, struck = self.sandbox.answer("GET", self.path, self.headers.get("x-api-key"))
        kinds = {rule.kind for rule in struck}
        for rule in struck:
            if rule.kind == "slow":
                clock.sleep(rule.seconds)
        if "reset" in kinds:
            self._reset()
            return
        if "truncated" in kinds:
            body = body[: len(body) // 2]
        self._send(status, body, cut="cut" in kinds)

    def _file(self) -> None:
        """A download: bytes as they lie, no key asked for; who sends one all the same is counted as 400."""
        sandbox, sent = self.sandbox, {name.lower(): value for name, value in self.headers.items()}
        status, about, body, struck = sandbox.shelf.download(self.path, sent, sandbox.faults.strike)
        if "x-api-key" in sent:
            status, body = 400, b"this address takes no key"
        kinds = {rule.kind for rule in struck}
        for rule in struck:
            if rule.kind == "slow":
                clock.sleep(rule.seconds)
        sandbox.count(bulk.FAULT_PATH, status)
        if "reset" in kinds:
            self._reset()
            return
        self.send_response(status)
        for name, value in {**about, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if "cut" in kinds else body)
        self.wfile.flush()
        self.close_connection = self.close_connection or "cut" in kinds

    def _other(self) -> None:
        self.close_connection = True  # a body, if any, is not read
        status, body, _ = self.sandbox.answer(self.command, self.path, self.headers.get("x-api-key"))
        self._send(status, body)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _other  # J-Quants answers them so

    def _send(self, status: int, body: bytes, cut: bool = False) -> None:
        zipped = "gzip" in self.headers.get("Accept-Encoding", "")
        if zipped:
            body = gzip.compress(body, compresslevel=1)
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("X-ATFT-Market", self.sandbox.market.config.fingerprint)
        if zipped:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        if cut:
            self.close_connection = True

    def _reset(self) -> None:
        """Close with RST instead of FIN: the client sees a connection reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: a request line holds no secret, but thousands of them drown what matters."""


def serve(
    market: MarketConfig | Market,
    *,
    plan: Plan | str = Plan.STANDARD,
    faults: Faults | Iterable[Fault | str] | None = None,
    fault_seed: int = 0,
    now: datetime | None = None,
    page_rows: int | None = None,
    rate_limit: bool | int = False,
    shuffle: bool = False,
    api_key: str | None = None,
    port: int = 0,
    rate_clock: Callable[[], float] = clock.monotonic,
) -> SandboxServer:
    """A server over a market, listening already; entered as a context manager it answers.

    Args:
        market: the market, or the config of one to simulate first.
        plan: of the key that the server makes; gates endpoints and dates, and sets the limit.
        faults: rules (`Fault` or their text, see `Fault.parse`).
        now: Japanese time of the service; default: the evening of the market's last day.
        page_rows: rows of a page; default: 60 % of the names, at least 100, so that a day of bars takes two pages.
        rate_limit: False for none, True for the plan's, or requests a minute.
        rate_clock: seconds, for the rate limit.

    Raises:
        OSError: the port is taken.
    """
    if isinstance(market, MarketConfig):
        market = simulate(market)
    if not isinstance(faults, Faults):
        faults = Faults([Fault.parse(f) if isinstance(f, str) else f for f in faults or ()], fault_seed)
    return SandboxServer(
        market=market,
        plan=Plan(plan),
        faults=faults,
        now=now or datetime.combine(market.days[-1], time(20, 0), calendar.TOKYO),
        page_rows=page_rows or max(100, int(0.6 * market.config.n_names)),
        rate_limit=rate_limit,
        shuffle=shuffle,
        api_key=api_key,
        port=port,
        rate_clock=rate_clock,
    )
