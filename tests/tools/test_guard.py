"""The guard as a pure ASGI application: what a browser sends for a foreign page is refused, all else is served."""

import asyncio
from typing import Any

import pytest

from atft_assets.tools.guard import Guard, only_reads

MUTATION = "query=mutation%7BlaunchRun%7Bid%7D%7D"
HOST = {"host": "127.0.0.1:3000"}


def asked(
    headers: dict[str, str] | list[tuple[str, str]],
    *,
    kind: str = "http",
    method: str = "GET",
    query: str = "",
    hosts: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """The messages that come back; those of the application behind the guard are `served`."""
    sent: list[dict[str, Any]] = []
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": kind,
        "path": "/graphql",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
        **({"method": method} if kind == "http" else {}),
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "served"})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app, hosts)(scope, receive, send))
    return sent


def status(*arguments: Any, **options: Any) -> int:
    """HTTP status; 200 is what the application behind it got to see."""
    first = asked(*arguments, **options)[0]
    return 200 if first["type"] == "served" else first["status"]


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "LOCALHOST", "[::1]:3000"])
def test_the_ui_asks_under_a_loopback_name(host: str) -> None:
    own = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert status(own, method="POST") == 200
    assert asked(own, kind="websocket") == [{"type": "served"}]


def test_a_script_without_origin_is_served() -> None:
    assert status(HOST, method="POST") == 200
    assert status(HOST, query="query=%7Bversion%7D") == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:3000", "origin": "http://evil.example:3000", "sec-fetch-site": "same-origin"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "127.0.0.1@evil.example"},
        {"host": "[::1"},
        {"host": ""},
        {},
        [("host", "127.0.0.1:3000"), ("host", "evil.example")],
    ],
    ids=str,
)
def test_another_name_is_refused(headers: Any) -> None:
    """DNS rebinding: the page's own name, which now resolves to this machine."""
    assert status(headers) == 421
    (close,) = asked(headers, kind="websocket")
    assert close["type"] == "websocket.close"


def test_a_name_that_was_allowed_is_served() -> None:
    assert status({"host": "ui.example:8443", "origin": "https://ui.example:8443"}, hosts=("UI.example",)) == 200
    assert status({"host": "other.example"}, hosts=("ui.example",)) == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:8000"},  # another server of this machine
        {"origin": "null"},  # a sandboxed frame, a file
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_origin_is_refused(headers: dict[str, str], method: str) -> None:
    assert status({**HOST, **headers}, method=method) == 403
    (close,) = asked({**HOST, **headers}, kind="websocket")
    assert (close["type"], close["code"]) == ("websocket.close", 1008)


def test_a_link_is_followed_but_a_foreign_form_is_not_sent() -> None:
    link = {**HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert status(link) == 200
    assert status(link, method="POST") == 403
    assert status({**link, "origin": "https://evil.example"}) == 403
    assert status(link, query=MUTATION) == 405


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_address_changes_nothing_whoever_asks(method: str) -> None:
    assert status(HOST, method=method, query=MUTATION) == 405
    assert status(HOST, method=method, query=f"query=%7Bversion%7D&{MUTATION}") == 405


@pytest.mark.parametrize(
    ("document", "reads"),
    [
        ("mutation { a }", False),
        ("query q { a } mutation m { b }", False),
        ("# mutation\n{ a }", True),
        ("fragment f on Mutation { a }", True),
        ("subscription { a }", True),
        ("mutation {", False),
        ("mutation " + "{a" * 2_000 + "}" * 2_000, False),
    ],
    ids=["plain", "second", "comment", "fragment", "subscription", "faulty", "too deep to tell"],
)
def test_mutations_are_told_by_parsing(document: str, reads: bool) -> None:
    assert only_reads(document) is reads


def test_what_is_no_request_passes() -> None:
    assert asked({}, kind="lifespan") == [{"type": "served"}]
