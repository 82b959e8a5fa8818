"""What a failed connection means, and what to do about it, in words of our own: libraries' texts are cut anywhere."""

import ssl
from collections.abc import Iterator

import requests
import urllib3.exceptions

CHECK_URL = "Check JQUANTS_BASE_URL (the service is https://api.jquants.com/v2)"
AGAIN = "run the same command later, it goes on where this one stopped"


def explained(error: BaseException, place: str) -> tuple[str, str]:
    """What happened, and what to do.

    Args:
        error: whatever a request raised.
        place: host and port that were asked.
    """
    causes = list(_causes(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if has(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        remedy = f"Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY; else {AGAIN}"
        return f"the proxy of the environment failed ({_detail(causes)})", remedy
    if has(urllib3.exceptions.NameResolutionError):
        remedy = f"{CHECK_URL}, and this machine's network and DNS"
        return f"the connection failed: the name of {place} does not resolve", remedy
    if has(ssl.SSLCertVerificationError):
        reason = next(c.verify_message for c in causes if isinstance(c, ssl.SSLCertVerificationError))
        remedy = (
            f"{CHECK_URL} and this machine's clock; behind a proxy that opens TLS, name its certificate in "
            "REQUESTS_CA_BUNDLE"
        )
        return f"TLS failed: the certificate of {place} is not trusted ({reason})", remedy
    if has(requests.exceptions.SSLError, ssl.SSLError):
        return f"TLS with {place} failed ({_detail(causes)})", f"{CHECK_URL}: does that port speak https?"
    if has(ConnectionRefusedError):
        remedy = f"{CHECK_URL}: nothing listens there; a local server must be started first"
        return f"the connection failed: {place} refuses it", remedy
    if has(requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return f"could not connect to {place} in time", f"{CHECK_URL}, the network and any firewall; else {AGAIN}"
    if has(requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return f"no answer in time from {place}", f"The service is slow or the network is: {AGAIN}"
    if has(requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError):
        return (
            "the answer is not valid gzip",
            f"A proxy on the way may have damaged it: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY; else {AGAIN}",
        )
    if has(requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError):
        return f"the answer of {place} broke off ({_detail(causes)})", f"The network or the service failed: {AGAIN}"
    return f"the connection failed: {place} ({_detail(causes)})", f"{CHECK_URL} and the network; else {AGAIN}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and whatever it was made of: chained, wrapped as an argument, or named as its reason."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [getattr(one, "reason", None), *one.args, one.__cause__, one.__context__]


def _detail(causes: list[BaseException]) -> str:
    """The innermost cause by its own short words: an operating system's text, else its kind."""
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason.replace("_", " ").lower()
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return type(causes[-1]).__name__
