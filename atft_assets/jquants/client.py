"""The J-Quants V2 client: one listing in, all its records out, or an error that says what to do.

It waits its turn in the rate limit, reads every page, tries again what may pass (5xx, connection faults, timeouts, half
an answer), cools down after a 429, never repeats what the service refused, and checks that every record carries the
declared fields. Values are handed on as the server sent them; typing them is the reader's work (`atft_assets.raw`).

The key lives in one private object that shows itself as ***; it is set on the request at the last moment and taken out
of every text that the server sends back. Errors are raised outside `except` blocks: no chained exception holds a
request object.
"""

import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from atft_assets.jquants.endpoints import BY_PATH, Endpoint
from atft_assets.jquants.errors import (
    ConnectionFault,
    JQuantsError,
    MalformedAnswer,
    MissingField,
    PaginationLoop,
    RateLimited,
    TransientError,
    UnknownEndpoint,
    record_text,
    refusal,
)
from atft_assets.jquants.limiter import Sleep, TokenBucket
from atft_assets.jquants.plans import BUCKET_LIMITS, REQUESTS_PER_MINUTE, USED_SHARE
from atft_assets.settings import Plan

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Query = Mapping[str, str | date]
T = TypeVar("T")

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_PAGES = 10_000
MAX_ANSWER_BYTES = 1 << 30
CHUNK = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long the client waits and how often it tries; seconds. Tests make it short.

    Attributes:
        attempts: tries of one request against transient faults.
        first_wait, longest_wait: exponential back-off between them, with as much jitter as `first_wait`.
        throttled: 429 answers to one request before it is given up.
        first_freeze: least and most seconds of silence after a 429.
        next_freeze: seconds after every further 429 in a row; the service's own penalty lasts about 300.
        listings: times a listing is begun again when its pages repeat.
        connect, read: socket timeouts.
        whole: time for one answer from the first byte to the last.
    """

    attempts: int = 10
    first_wait: float = 0.5
    longest_wait: float = 30.0
    throttled: int = 8
    first_freeze: tuple[float, float] = (60.0, 120.0)
    next_freeze: float = 310.0
    listings: int = 6
    connect: float = 10.0
    read: float = 60.0
    whole: float = 300.0


@dataclass
class Counters:
    """What the client has done so far."""

    requests: int = 0
    records: int = 0
    retries: int = 0
    throttled: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Cancelled(Exception):
    """A wait was cut short because another part of the same job failed or was interrupted."""


class _KeyHeader(AuthBase):
    """Puts the key on a request. Its repr shows nothing."""

    def __init__(self, key: str):
        self._reveal = lambda: key  # a closure: neither vars() nor repr() shows it

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._reveal()
        return request

    def clean(self, text: str) -> str:
        """The text without the key."""
        key = self._reveal()
        return text.replace(key, "***") if key else text

    def __repr__(self) -> str:
        return "<J-Quants key ***>"


class JQuantsClient:
    """A client for one key and one plan; its methods may be called from many threads.

    Args:
        base_url: up to and including the version, such as https://api.jquants.com/v2.
        api_key: the key of the J-Quants dashboard.
        plan: decides the rate limit.
        requests_per_minute: instead of 90 % of the plan's limit; 0 for none (a server of one's own).
        patience: waits and tries.
        threads: largest number of requests in flight of `fetch_many`.
        clock, sleep: of the rate limit and of every wait.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        plan: Plan,
        *,
        requests_per_minute: float | None = None,
        patience: Patience | None = None,
        threads: int = 4,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep | None = None,
    ):
        self.base_url, self.plan, self.threads = base_url.rstrip("/"), plan, threads
        self.patience = patience or Patience()
        self.counters = Counters()
        self._key = _KeyHeader(api_key)
        self._sleep = sleep
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._sessions_lock = threading.Lock()
        self._buckets = _buckets(plan, requests_per_minute, clock)
        # a proxy of the environment does not stand between us and a server on this machine
        self._through_proxy = urlsplit(base_url).hostname not in LOOPBACK

    def __repr__(self) -> str:
        return f"JQuantsClient({self.base_url}, plan={self.plan}, key=***)"

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._sessions_lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()
        self._local = threading.local()

    def __enter__(self) -> "JQuantsClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetch(
        self, endpoint: Endpoint | str, query: Query | None = None, *, cancel: threading.Event | None = None
    ) -> list[Record]:
        """All records of one listing, from every page; an empty list when nothing matched.

        Args:
            endpoint: a row of the endpoint table, or its path.
            query: parameters; dates may be `date` objects.
            cancel: once set, waits end at once.

        Returns:
            The records as the server sent them, in its order; unknown fields included. An endpoint whose answer is
            one object gives a list of that object.

        Raises:
            ValueError: a parameter that the endpoint does not take.
            PermanentError: the service refused, or its answer is not what the endpoint table declares.
            TransientError: it still failed after every retry.
            Cancelled: `cancel` was set.
        """
        row = _known(endpoint)
        asked = _parameters(row, query or {})
        for attempt in range(1, self.patience.listings + 1):
            records: list[Record] = []
            fault = ""
            for page, spoilt in self._pages(row, asked, cancel):
                records += page
                fault = spoilt
            if not fault:
                _require_fields(row, asked, records)
                self.counters.add(records=len(records))
                return records
            logger.warning("%s: %s; listing begun again (%d)", row.path, fault, attempt)
        raise PaginationLoop(row.path, asked, f"{fault}, in each of {self.patience.listings} listings")

    def fetch_many(
        self, endpoint: Endpoint | str, queries: Sequence[Query], then: Callable[[Query, list[Record]], T]
    ) -> Iterator[T]:
        """Several listings at once, at most `threads` in flight, in the order of `queries`.

        Args:
            then: called in the worker thread with the query and its records; its result is what is yielded, so that
                only a few raw listings are in memory at a time.

        Raises:
            The first error of a listing or of `then`; what has not begun is dropped, what waits is woken.
        """
        row = _known(endpoint)
        cancel = threading.Event()
        rest = iter(queries)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="jquants")

        def one(query: Query) -> T:
            return then(query, self.fetch(row, query, cancel=cancel))

        try:
            running: deque[Future[T]] = deque()
            for query in rest:
                running.append(pool.submit(one, query))
                if len(running) >= 2 * self.threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            cancel.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _pages(
        self, row: Endpoint, asked: dict[str, str], cancel: threading.Event | None
    ) -> Iterator[tuple[list[Record], str]]:
        """Pages with an empty text, then possibly an empty page with the text of a fault that spoils the listing."""
        keys: set[str] = set()
        digests: set[bytes] = set()
        query = dict(asked)
        for _ in range(MAX_PAGES):
            answer, digest = self._page(row, query, cancel)
            if row.envelope == "object":
                yield [answer], ""
                return
            page = answer["data"]
            if page and digest in digests:
                yield [], f"page {len(digests) + 1} repeats an earlier one"
                return
            digests.add(digest)
            yield page, ""
            key = answer.get("pagination_key")
            if not key:
                return
            if key in keys:
                yield [], f"the pagination key of page {len(digests)} repeats an earlier one"
                return
            keys.add(key)
            query = {**asked, "pagination_key": key}
        yield [], f"more than {MAX_PAGES} pages"

    def _page(
        self, row: Endpoint, query: dict[str, str], cancel: threading.Event | None
    ) -> tuple[dict[str, Any], bytes]:
        """One page: its decoded object and a digest of its records."""
        wait = self._waiter(cancel)
        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, TransientError) and not isinstance(error, RateLimited)
            ),
            stop=tenacity.stop_after_attempt(self.patience.attempts),
            wait=tenacity.wait_exponential_jitter(
                initial=self.patience.first_wait, max=self.patience.longest_wait, jitter=self.patience.first_wait
            ),
            sleep=wait,
            before_sleep=self._tell,
            reraise=True,
        )
        failure: JQuantsError | None = None
        for _ in range(self.patience.throttled):
            try:
                return again(self._once, row, query, wait)
            except JQuantsError as error:
                failure = error.with_traceback(None)
            if not isinstance(failure, RateLimited):
                break
        assert failure is not None  # the loop runs at least once
        raise failure

    def _tell(self, state: tenacity.RetryCallState) -> None:
        self.counters.add(retries=1)
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        logger.warning("%s; attempt %d, again in %.1f s", error, state.attempt_number, pause)

    def _waiter(self, cancel: threading.Event | None) -> Sleep:
        """A sleep that ends with `Cancelled` as soon as the job is given up."""

        def wait(seconds: float) -> None:
            if cancel is None:
                (self._sleep or time.sleep)(seconds)
            elif self._sleep is not None:
                self._sleep(seconds)
            else:
                cancel.wait(seconds)
            if cancel is not None and cancel.is_set():
                raise Cancelled("given up: another request of the same job failed")

        return wait

    def _once(self, row: Endpoint, query: dict[str, str], wait: Sleep) -> tuple[dict[str, Any], bytes]:
        buckets = [self._buckets[name] for name in _buckets_of(row)]
        sent_at = max([bucket.acquire(wait) for bucket in buckets])
        self.counters.add(requests=1)
        status, body, fault = self._get(row, query)
        if fault:
            raise ConnectionFault(row.path, query, fault)
        if status == 429:
            pauses = [b.strike(sent_at, self.patience.first_freeze, self.patience.next_freeze) for b in buckets]
            self.counters.add(throttled=1)
            logger.warning("J-Quants %s: rate limit (429); all requests pause for %.0f s", row.path, max(pauses))
        if status not in (200, 210):
            raise refusal(row, query, status, self._key.clean(_message(body)))
        for bucket in buckets:
            bucket.succeed(sent_at)
        if status == 210:  # nothing to serve at this hour; its body is a sentence, not records
            return {"data": []}, b""
        self.counters.add(bytes=len(body))
        answer, fault = _decode(row, body)
        if fault:
            raise MalformedAnswer(row.path, query, fault)
        return answer, _digest(answer.get("data"))

    def _get(self, row: Endpoint, query: dict[str, str]) -> tuple[int, bytes, str]:
        """Status and body of one request, or the text of a connection fault."""
        patience = self.patience
        try:
            # redirects are not followed: requests would carry the key to wherever they point
            with self._session().get(
                self.base_url + row.path,
                params=query,
                auth=self._key,
                timeout=(patience.connect, patience.read),
                allow_redirects=False,
                stream=True,
            ) as response:
                deadline = time.monotonic() + patience.whole
                body = bytearray()
                for chunk in response.iter_content(CHUNK):
                    body += chunk
                    if time.monotonic() > deadline:
                        return 0, b"", f"the answer took more than {patience.whole:.0f} s"
                    if len(body) > MAX_ANSWER_BYTES:
                        return 0, b"", f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB"
                return response.status_code, bytes(body), ""
        except requests.RequestException as error:
            return 0, b"", self._key.clean(_fault(error))

    def _session(self) -> requests.Session:
        """This thread's session: connections are reused, never shared between threads."""
        session = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = self._through_proxy
            session.headers.update({"Accept-Encoding": "gzip", "User-Agent": "atft"})
            adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            self._local.session = session
            with self._sessions_lock:
                self._sessions.append(session)
        return session


def _buckets(plan: Plan, requests_per_minute: float | None, clock: Callable[[], float]) -> dict[str, TokenBucket]:
    def bucket(limit: float) -> TokenBucket:
        if requests_per_minute is None:
            return TokenBucket(USED_SHARE * limit, clock=clock)
        return TokenBucket(requests_per_minute or None, clock=clock)

    limits = {"plan": REQUESTS_PER_MINUTE[plan], **BUCKET_LIMITS}
    return {name: bucket(limit) for name, limit in limits.items()}


def _buckets_of(row: Endpoint) -> tuple[str, ...]:
    """The buckets a request takes a token from. Whether statement requests also count against the plan's limit is not
    documented, so they take one from both; the add-ons are documented to have limits of their own."""
    return ("plan", "statements") if row.bucket == "statements" else (row.bucket,)


def _known(endpoint: Endpoint | str) -> Endpoint:
    row = BY_PATH.get(endpoint) if isinstance(endpoint, str) else endpoint
    if row is None:
        raise UnknownEndpoint(str(endpoint), {}, "not in the endpoint table; nothing was requested")
    if row.bulk_only:
        raise UnknownEndpoint(row.path, {}, "served only as files, through /bulk/list and /bulk/get")
    return row


def _parameters(row: Endpoint, query: Query) -> dict[str, str]:
    unknown = sorted(set(query) - set(row.parameters))
    if unknown:
        takes = ", ".join(row.parameters) or "none"
        raise ValueError(f"{row.path} takes no parameter {', '.join(unknown)} (it takes {takes})")
    return {name: value.isoformat() if isinstance(value, date) else str(value) for name, value in query.items()}


def _require_fields(row: Endpoint, query: Mapping[str, str], records: Sequence[Record]) -> None:
    required = row.required
    incomplete = [record for record in records if not required <= record.keys()]
    if incomplete:
        first = incomplete[0]
        missing = [field.name for field in row.fields if field.name in required and field.name not in first]
        count = sum(missing[0] not in record for record in incomplete)
        unknown = sorted(first.keys() - row.declared.keys())
        shown = {name: first[name] for name in dict.fromkeys([*list(first)[:3], *unknown])}
        raise MissingField(row.path, query, missing, count, record_text(shown), unknown)


def _message(body: bytes) -> str:
    """The `message` of an error body; the service does not promise that there is one."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body[:200].decode("utf-8", "replace").strip()
    return str(answer.get("message", "")) if isinstance(answer, dict) else ""


def _decode(row: Endpoint, body: bytes) -> tuple[dict[str, Any], str]:
    """The answer's object, or what is wrong with it."""
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except ValueError as error:
        return {}, f"the body of {len(body)} bytes is not JSON ({type(error).__name__}: {str(error)[:80]})"
    if not isinstance(answer, dict):
        return {}, f"the body is a {type(answer).__name__}, not an object"
    if row.envelope == "data":
        data = answer.get("data")
        if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
            return {}, f"the body has no list of records under `data` (it has {', '.join(sorted(answer)) or 'nothing'})"
    return answer, ""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _digest(data: Any) -> bytes:
    """Tells pages apart by their size and their outer records; whole pages would cost more than decoding them."""
    if not isinstance(data, list) or not data:
        return b""
    return hashlib.blake2b(repr((len(data), data[0], data[-1])).encode(), digest_size=16).digest()


def _fault(error: requests.RequestException) -> str:
    """A connection fault as one short line."""
    kind = {
        requests.exceptions.ConnectTimeout: "could not connect in time",
        requests.exceptions.ReadTimeout: "no answer in time",
        requests.exceptions.SSLError: "TLS failed",
        requests.exceptions.ProxyError: "the proxy failed",
        requests.exceptions.ChunkedEncodingError: "the answer broke off",
        requests.exceptions.ContentDecodingError: "the answer is not valid gzip",
        requests.exceptions.ConnectionError: "the connection failed",
    }.get(type(error), type(error).__name__)
    return f"{kind} ({str(error)[:160]})"
