"""The J-Quants V2 client: one listing in, all its records out, or an error that says what to do.

It waits its turn in the rate limit, reads every page, tries again what may pass (5xx, connection faults, timeouts, half
an answer), cools down after a 429, never repeats what the service refused, and checks that every record carries the
declared fields. Values are handed on as the server sent them; typing them is the reader's work (`atft_assets.raw`).
Time, size and number of answers are bounded (`line`, and below), and an interrupt ends every wait and every request.

The key lives in one private object that shows itself as ***; it is set on the request at the last moment and taken out
of every text that the server sends back. Errors are raised outside `except` blocks: no chained exception holds a
request object.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity
from requests.auth import AuthBase

from atft_assets.jquants.answers import Record, decode, message_of, page_digest, require_fields
from atft_assets.jquants.endpoint import Endpoint
from atft_assets.jquants.endpoints import BY_PATH
from atft_assets.jquants.errors import (
    ConnectionFault,
    JQuantsError,
    MalformedAnswer,
    PaginationLoop,
    RateLimited,
    TransientError,
    UnknownEndpoint,
    Unsendable,
    refusal,
    unsigned,
)
from atft_assets.jquants.jobs import GIVEN_UP, Cancelled, in_order
from atft_assets.jquants.limiter import Sleep, buckets, buckets_of
from atft_assets.jquants.line import Line, LineFault, Take
from atft_assets.jquants.patience import Counters, Patience
from atft_assets.settings import Plan

logger = logging.getLogger(__name__)

Query = Mapping[str, str | date]
T = TypeVar("T")

# Bounds of one listing. The largest are a day's bars of every name and a name's bars of twenty years: a few pages, a
# few MiB. A server without an end is thus heard of after seconds, and cannot fill the memory.
MAX_PAGES = 1_000
MAX_EMPTY_PAGES = 10  # in a row
MAX_LISTING_BYTES = 256 << 20
SERVER_HEADER = "X-ATFT-Market"  # by which a sandbox says which market it serves


class _KeyHeader(AuthBase):
    """Puts the key on a request. Its repr shows nothing."""

    def __init__(self, key: str):
        self._reveal = lambda: key  # a closure: neither vars() nor repr() shows it

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._reveal()
        return request

    def clean(self, text: str) -> str:
        """A text of the service without the key, and without what signs an address."""
        key = self._reveal()
        return unsigned(text.replace(key, "***") if key else text)

    def __repr__(self) -> str:
        return "<J-Quants key ***>"


class JQuantsClient:
    """A client for one key and one plan; its methods may be called from many threads.

    Args:
        base_url: up to and including the version, such as https://api.jquants.com/v2.
        api_key: the key of the J-Quants dashboard.
        plan: decides the rate limit.
        requests_per_minute: instead of the plan's own rate (`plans.own_rate`); 0 for none (a server of one's own).
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
        self._lines_lock = threading.Lock()
        self._idle: list[Line] = []
        self._busy: dict[Line, threading.Event | None] = {}  # and what gives its job up
        self._buckets = buckets(plan, requests_per_minute, clock)

    def __repr__(self) -> str:
        return f"JQuantsClient({self.base_url}, plan={self.plan}, key=***)"

    def close(self) -> None:
        """Close the idle connections."""
        with self._lines_lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

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
                require_fields(row, asked, records)
                self.counters.add(records=len(records))
                return records
            logger.warning("%s: %s; listing begun again (%d)", row.path, fault, attempt)
        raise PaginationLoop(row.path, asked, f"{fault}, in each of {self.patience.listings} listings")

    def market(self) -> str:
        """What the server says of the market that it serves; only a sandbox does, anything else gives an empty text.

        Raises:
            ConnectionFault: it cannot be reached.
        """
        return self._get("/", {}, None, method="HEAD")[2].get(SERVER_HEADER, "")

    def fetch_many(
        self, endpoint: Endpoint | str, queries: Sequence[Query], then: Callable[[Query, list[Record]], T]
    ) -> Iterator[T]:
        """Several listings at once, at most `threads` in flight, in the order of `queries`.

        Args:
            then: called in the worker thread with the query and its records; its result is what is yielded, so that
                only a few raw listings are in memory at a time.

        Raises:
            The first error of a listing or of `then`, or the interrupt of the caller; what has not begun is dropped,
            what waits is woken, and requests in flight are cut, so that it is raised at once.
        """
        row = _known(endpoint)
        return in_order(
            queries, lambda query, cancel: then(query, self.fetch(row, query, cancel=cancel)), self.threads, self.cut
        )

    def stream(
        self, address: str, headers: Mapping[str, str], take: Take[T], seconds: float,
        cancel: threading.Event | None = None,
    ) -> T:  # fmt: skip
        """What `take` makes of the bytes behind an address that the service gave; the key is not sent there.

        Raises:
            LineFault: no whole answer came within so many seconds.
            Cancelled: `cancel` was set.
        """
        url = urlsplit(address)
        fault: LineFault | None = None
        with self._line(cancel, f"{url.scheme}://{url.netloc}") as line:
            try:
                return line.stream(address, headers, take, self.patience, seconds)
            except LineFault as error:
                fault = error.with_traceback(None)
        if cancel is not None and cancel.is_set():
            raise Cancelled(GIVEN_UP)
        raise fault

    def _pages(
        self, row: Endpoint, asked: dict[str, str], cancel: threading.Event | None
    ) -> Iterator[tuple[list[Record], str]]:
        """Pages with an empty text, then possibly an empty page with the text of a fault that spoils the listing."""
        keys: set[str] = set()
        digests: set[bytes] = set()
        query, empty, size = dict(asked), 0, 0
        for number in range(1, MAX_PAGES + 1):
            answer, digest, length = self._page(row, query, cancel)
            if row.envelope == "object":
                yield [answer], ""
                return
            page = answer["data"]
            if page and digest in digests:
                yield [], f"page {number} repeats an earlier one"
                return
            digests.add(digest)
            yield page, ""
            key = answer.get("pagination_key")
            if not key:
                return
            if key in keys:
                yield [], f"the pagination key of page {number} repeats an earlier one"
                return
            empty, size = (0 if page else empty + 1), size + length
            if empty >= MAX_EMPTY_PAGES:
                raise PaginationLoop(row.path, asked, f"{empty} empty pages in a row, each of which names a next one")
            if size > MAX_LISTING_BYTES:
                raise PaginationLoop(row.path, asked, f"{number} pages hold more than {MAX_LISTING_BYTES >> 20} MiB")
            keys.add(key)
            query = {**asked, "pagination_key": key}
        raise PaginationLoop(row.path, asked, f"more than {MAX_PAGES} pages")

    def _page(
        self, row: Endpoint, query: dict[str, str], cancel: threading.Event | None
    ) -> tuple[dict[str, Any], bytes, int]:
        """One page: its decoded object, a digest of its records, and its length in bytes."""
        wait = self.waiter(cancel)
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
                return again(self._once, row, query, cancel, wait)
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
        said = getattr(error, "said", error)  # the remedy is for when it is given up
        logger.warning("%s; attempt %d, again in %.1f s", said, state.attempt_number, pause)

    def waiter(self, cancel: threading.Event | None) -> Sleep:
        """A sleep that ends with `Cancelled` as soon as the job is given up."""

        def wait(seconds: float) -> None:
            if cancel is None:
                (self._sleep or time.sleep)(seconds)
            elif self._sleep is not None:
                self._sleep(seconds)
            else:
                cancel.wait(seconds)
            if cancel is not None and cancel.is_set():
                raise Cancelled(GIVEN_UP)

        return wait

    def _once(
        self, row: Endpoint, query: dict[str, str], cancel: threading.Event | None, wait: Sleep
    ) -> tuple[dict[str, Any], bytes, int]:
        taken = [self._buckets[name] for name in buckets_of(row.bucket)]
        sent_at = max([bucket.acquire(wait) for bucket in taken])
        self.counters.add(requests=1)
        status, body, _ = self._get(row.path, query, cancel)
        if status == 429:
            pauses = [b.strike(sent_at, self.patience.first_freeze, self.patience.next_freeze) for b in taken]
            self.counters.add(throttled=1)
            logger.warning("J-Quants %s: rate limit (429); all requests pause for %.0f s", row.path, max(pauses))
        if status not in (200, 210):
            raise refusal(row, query, status, self._key.clean(message_of(body)))
        for bucket in taken:
            bucket.succeed(sent_at)
        if status == 210:  # nothing to serve at this hour; its body is a sentence, not records
            return {"data": []}, b"", 0
        self.counters.add(bytes=len(body))
        answer, fault = decode(row, body)
        digest = b""
        if not fault:
            try:
                digest = page_digest(answer.get("data"))
            except RecursionError:
                fault = "a record is nested deeper than anything that the API serves"
        if fault:
            raise MalformedAnswer(row.path, query, self._key.clean(fault))
        return answer, digest, len(body)

    def _get(
        self, path: str, query: Mapping[str, str], cancel: threading.Event | None, method: str = "GET"
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of one request.

        Raises:
            ConnectionFault: no whole answer came.
            Unsendable: the request cannot be made.
            Cancelled: the job was given up.
        """
        fault: LineFault | None = None
        with self._line(cancel) as line:
            try:
                return line.get(self.base_url + path, query, self._key, self.patience, method=method)
            except LineFault as error:
                fault = error.with_traceback(None)
        if cancel is not None and cancel.is_set():
            raise Cancelled(GIVEN_UP)
        kind = Unsendable if fault.permanent else ConnectionFault
        raise kind(path, query, self._key.clean(str(fault)), fault.remedy)

    @contextmanager
    def _line(self, cancel: threading.Event | None, elsewhere: str = "") -> Iterator[Line]:
        """A line for one request: an idle one if there is one. It goes back unless the request was broken off, or went
        elsewhere than to the service."""
        with self._lines_lock:
            line = self._idle.pop() if self._idle and not elsewhere else Line(elsewhere or self.base_url)
            self._busy[line] = cancel
        whole = False
        try:
            # looked at after the line was noted: who gives the job up now finds the line
            if cancel is not None and cancel.is_set():
                raise Cancelled(GIVEN_UP)
            yield line
            whole = line.sound and not elsewhere
        finally:
            with self._lines_lock:
                del self._busy[line]
                if whole:
                    self._idle.append(line)
            if not whole:
                line.close()

    def cut(self, cancel: threading.Event) -> None:
        """End the requests in flight of a job."""
        with self._lines_lock:
            lines = [line for line, job in self._busy.items() if job is cancel]
        for line in lines:
            line.cut(GIVEN_UP)


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
