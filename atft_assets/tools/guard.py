"""Who may ask the webserver: a small ASGI layer around Dagster's, which has no login and asks nobody's name.

A browser carries requests of any page to loopback. Three things tell such a request from the UI's own: the name it was
addressed to (`Host`; a foreign name that resolves to this machine is DNS rebinding), the page that sent it (`Origin`,
`Sec-Fetch-Site`; cross-site request forgery), and, where a browser sends neither, that it wants something changed by
an address alone (an image's `src`). Scripts and `curl` send no `Origin` and are served: whoever runs one is on this
machine.

Terms: W3C *Fetch Metadata Request Headers*; RFC 6454 (origins).
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OWN_PAGES = frozenset({"same-origin", "none"})  # `none`: the person typed the address or opened a bookmark
POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


@dataclass(frozen=True)
class Refused:
    """Why a request is not served: HTTP status and a sentence."""

    status: int
    why: str


class Guard:
    """ASGI application: serves what `refusal` lets through, HTTP and websockets alike.

    Args:
        app: the application behind it.
        hosts: names by which the server may be addressed, without port; loopback names always may.
    """

    def __init__(self, app: App, hosts: Collection[str] = ()):
        self.app = app
        self.hosts = LOOPBACK | {name.lower().strip("[]") for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = refusal(scope, self.hosts)
        if refused is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the request to connect; a close before `accept` is answered with 403
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refused.why})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": refused.status, "headers": headers})
            await send({"type": "http.response.body", "body": f"refused: {refused.why}\n".encode()})


def refusal(scope: Scope, hosts: Collection[str]) -> Refused | None:
    """Why a connection is not served, or None.

    Args:
        scope: ASGI scope of a request or a websocket.
        hosts: names by which the server may be addressed, lower case, without port.
    """
    addressed = values(scope, b"host")
    if len(addressed) != 1 or (name_of(addressed[0]) or "") not in hosts:
        return Refused(421, "this server is not known by that name; start it with --allow-host NAME if it should be")
    for origin in values(scope, b"origin"):
        if urlsplit(origin).netloc.lower() != addressed[0].lower():
            return Refused(403, "a page of another origin asked")
    sites = values(scope, b"sec-fetch-site")
    if not OWN_PAGES.issuperset(sites) and not followed_link(scope):
        return Refused(403, "a page of another origin asked")
    if scope["type"] == "http" and not all(only_reads(query) for query in queries(scope)):
        return Refused(405, "an address must not change anything; send a mutation in the body of a POST")
    return None


def followed_link(scope: Scope) -> bool:
    """Whether a person followed a link to a page of the UI (from an alert, say), in a tab of its own."""
    return (
        scope.get("method") == "GET"
        and values(scope, b"sec-fetch-mode") == ["navigate"]
        and values(scope, b"sec-fetch-dest") == ["document"]
    )


def queries(scope: Scope) -> list[str]:
    """GraphQL documents in the address; Dagster reads them there for GET and for a POST that is not JSON."""
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("query", [])


def only_reads(query: str) -> bool:
    """Whether a GraphQL document can be parsed here and holds no mutation.

    What cannot be parsed here may still be parsed behind the guard: how deep a document may be nested depends on the
    stack that is left.
    """
    try:
        document = parse(query)
    except (GraphQLError, RecursionError):
        return False
    return not any(
        isinstance(part, OperationDefinitionNode) and part.operation is OperationType.MUTATION
        for part in document.definitions
    )


def values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def name_of(host: str) -> str | None:
    """The name in a `Host` header, lower case, without port and brackets; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
