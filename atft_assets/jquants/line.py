"""One line to the service: a connection that is kept between requests, with an end to every request.

The timeouts of sockets are those of a single read: an answer that comes a byte a minute never meets them. So each
request has a timer that shuts the line's socket when its whole time is over, wherever it stands (connecting, TLS,
headers, body), and whoever waits in a read wakes at once. An interrupted job ends its requests in the same way.
"""

import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from atft_assets.jquants.errors import unsigned
from atft_assets.jquants.faults import AGAIN, explained
from atft_assets.jquants.patience import Patience

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# The largest page of the service is a few MiB. Four are in flight at once, and decoded they take several times this.
MAX_ANSWER_BYTES = 64 << 20
CHUNK = 1 << 16

T = TypeVar("T")
# what is made of a download: status, headers, body as it comes
Take = Callable[[int, Mapping[str, str], Iterator[bytes]], T]

# Whatever a hostile answer, or a key that no header can hold, makes the libraries raise; it may show the key.
RAISED = (
    OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, EOFError, http.client.HTTPException,
    requests.RequestException, urllib3.exceptions.HTTPError,
)  # fmt: skip


class LineFault(Exception):
    """No whole answer came. The text may hold what the server said; `remedy` says what to do.

    Attributes:
        permanent: the request could not be made of what was given; another try gives the same.
    """

    def __init__(self, text: str, remedy: str, permanent: bool = False):
        self.remedy, self.permanent = remedy, permanent
        super().__init__(text)


class Line:
    """A line to one server; one thread at a time may use it, any thread may cut it."""

    def __init__(self, base_url: str):
        url = urlsplit(base_url)
        self.place = url.netloc.rpartition("@")[2]
        self._handle: socket.socket | None = None
        self._lock = threading.Lock()
        self._cut = ""
        self._session = requests.Session()
        # a proxy of the environment does not stand between us and a server on this machine
        self._session.trust_env = url.hostname not in LOOPBACK
        self._session.headers.update({"Accept-Encoding": "gzip", "User-Agent": "atft"})
        adapter = _Adapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def get(
        self, url: str, params: Mapping[str, str], auth: AuthBase, patience: Patience, *, method: str = "GET"
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body (unpacked) and headers of one request.

        Raises:
            LineFault: no whole answer came within `patience.whole` seconds and 64 MiB.
        """
        return self._timed(lambda: self._exchange(method, url, params, auth, patience), patience.whole)

    def stream(self, url: str, headers: Mapping[str, str], take: Take[T], patience: Patience, seconds: float) -> T:
        """What `take` makes of the body of a GET, given as the bytes that come, not unpacked, whatever their number.

        Nothing is sent that tells who asks: the address says it.

        Raises:
            LineFault: no whole answer came within so many seconds.
        """

        def exchange() -> T:
            _CURRENT.line = self
            try:
                with self._session.get(
                    url, headers={"Accept-Encoding": "identity", **headers}, auth=_anonymous,
                    timeout=(patience.connect, patience.read), allow_redirects=False, stream=True,
                ) as response:  # fmt: skip
                    body = iter(lambda: response.raw.read1(CHUNK, decode_content=False) or b"", b"")  # as it comes
                    made = take(response.status_code, response.headers, body)
                if self._cut:
                    raise LineFault(self._cut, _LATE)
                return made
            finally:
                _CURRENT.line = None

        return self._timed(exchange, seconds)

    def _timed(self, exchange: Callable[[], T], seconds: float) -> T:
        timer = threading.Timer(seconds, self.cut, [f"the answer took more than {seconds:g} s in all"])
        timer.daemon = True
        timer.start()
        fault: LineFault | None = None
        try:
            return exchange()
        except LineFault as known:
            fault = known
        except RAISED as error:
            fault = self._fault(error)
        finally:
            timer.cancel()
            timer.join()  # a timer that strikes later would cut the next request
        self.close()
        raise fault  # outside the handlers: no request object is chained to it

    def _exchange(
        self, method: str, url: str, params: Mapping[str, str], auth: AuthBase, patience: Patience
    ) -> tuple[int, bytes, Mapping[str, str]]:
        _CURRENT.line = self
        try:
            # redirects are not followed: requests would carry the key to wherever they point
            with self._session.request(
                method, url, params=params, auth=auth, timeout=(patience.connect, patience.read),
                allow_redirects=False, stream=True,
            ) as response:  # fmt: skip
                body = bytearray()
                for chunk in response.iter_content(CHUNK):
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        size = f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB unpacked"
                        raise LineFault(size, f"No page of the service is: check JQUANTS_BASE_URL; else {AGAIN}")
                if self._cut:  # an answer without a length ends like a whole one
                    raise LineFault(self._cut, _LATE)
                return response.status_code, bytes(body), response.headers
        finally:
            _CURRENT.line = None

    def _fault(self, error: Exception) -> LineFault:
        if self._cut:
            return LineFault(self._cut, _LATE)
        if isinstance(error, (ValueError, TypeError)):  # a header, an address that cannot be written
            return LineFault(f"the request cannot be sent ({type(error).__name__})", "", permanent=True)
        return LineFault(*explained(error, self.place))

    def connect(self, host: str, port: int, timeout: float | None, options: Sequence[Any]) -> socket.socket:
        """A connection to the first address of a host that answers; it can be cut from its first packet on.

        Raises:
            OSError: no address answers, or the line was cut.
        """
        refused: OSError = ConnectionAbortedError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
            if not self.sound:
                break
            made = socket.socket(family, kind, protocol)
            try:
                for option in options:
                    made.setsockopt(*option)
                made.settimeout(timeout)
                self._hold(made)
                made.connect(address)
                return made
            except BaseException as error:
                made.close()
                if not isinstance(error, OSError):
                    raise
                refused = error
        raise refused

    def _hold(self, connecting: socket.socket) -> None:
        """Note the socket, so that it can be cut. A second handle on it is kept: TLS takes the first one away for as
        long as it shakes hands."""
        with self._lock:
            self._drop()
            self._handle = connecting.dup()
            if self._cut:
                self._shut()

    @property
    def sound(self) -> bool:
        """Whether another request may be made on it."""
        return not self._cut

    def cut(self, why: str) -> None:
        """End the request that is on the line, now; `get` raises with this text. The line is of no use after it."""
        with self._lock:
            self._cut = self._cut or why
            self._shut()

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()
        with self._lock:
            self._drop()

    def _shut(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):  # the other side was faster
                self._handle.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No name and no password, also none of a .netrc."""
    return request


class _Unsigned(logging.Filter):
    """Takes the query out of addresses that urllib3 logs: that of a signed one is a password."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(unsigned(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_Unsigned())

_LATE = f"The service is slow or the network is: {AGAIN}"
_CURRENT = threading.local()  # the line for which this thread connects


class _Held(HTTPConnection):
    """A connection whose socket the line holds from the first instant."""

    def _new_conn(self) -> socket.socket:
        line: Line | None = getattr(_CURRENT, "line", None)
        if line is None:
            return super()._new_conn()
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            return line.connect(self._dns_host, self.port, timeout, self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "failed") from error


class _HeldSecure(_Held, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Held


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _HeldSecure


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    """Makes connections of the kind above, through a proxy as well."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
