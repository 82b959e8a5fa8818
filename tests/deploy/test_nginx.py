"""The proxy: who gets in, what a foreign page cannot do, what the webserver never sees; with Debian's nginx."""

import html
import json
import shutil
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.browser import CHROMIUM, page
from tests.deploy.proxy import LOGINS, NAME, Echo, Nginx, authorization, echo, nginx, program, webservers
from tests.patience import PATIENCE, until
from tests.ports import free_port

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (program() and shutil.which("htpasswd") and shutil.which("openssl")),
        reason="no nginx, htpasswd or openssl on this machine (Debian: apt-get install nginx apache2-utils openssl)",
    ),
]

JSON = {"Content-Type": "application/json"}
LAUNCH = """mutation {launchRun(executionParams: {selector: {repositoryLocationName: "atft",
repositoryName: "__repository__", jobName: "__ASSET_JOB", assetSelection: [{path: ["trivial"]}]},
runConfigData: {}, mode: "default"}) {__typename}}"""
RELOAD = "mutation {reloadWorkspace {__typename}}"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx in front of the real webservers."""
    with webservers(tmp_path_factory.mktemp("ui")) as (operator, view), nginx(operator, view) as one:
        yield one


@pytest.fixture(scope="module")
def upstream() -> Iterator[Echo]:
    with echo() as one:
        yield one


@pytest.fixture(scope="module")
def mirror(upstream: Echo) -> Iterator[Nginx]:
    """nginx in front of a server that remembers what reached it."""
    with nginx(upstream.port, upstream.port) as one:
        yield one


def query(one: Nginx, document: str, login: str = "operators", path: str = "/graphql", **headers: str) -> dict:
    answer = one.ask("POST", path, login, json.dumps({"query": document}), {**JSON, **headers})
    assert answer.status == 200, answer
    return json.loads(answer.body)


def runs(one: Nginx) -> int:
    return query(one, "{runsOrError {... on Runs {count}}}")["data"]["runsOrError"]["count"]


@pytest.mark.parametrize("path", ["/", "/graphql", "/view/", "/view/graphql", "/server_info", "/logs/x", "/viewer"])
@pytest.mark.parametrize("login", [{}, authorization("ope", "wrong"), {"Authorization": "Bearer x"}])
def test_nobody_gets_in_without_a_login(mirror: Nginx, upstream: Echo, path: str, login: dict[str, str]) -> None:
    before = len(upstream.seen)
    answer = mirror.ask("POST", path, "", "{}", {**JSON, **login})
    assert answer.status == 401 and "ATFT" in answer.headers["WWW-Authenticate"]
    assert len(upstream.seen) == before


def test_each_login_opens_its_own_door(ui: Nginx) -> None:
    assert ui.ask("GET", "/").status == 200 and ui.ask("GET", "/view/", "viewers").status == 200
    assert ui.ask("GET", "/", "viewers").status == 401 and ui.ask("GET", "/view/", "operators").status == 401
    assert ui.ask("GET", "/view", "").headers["Location"] == f"{ui.origin}/view/"


@pytest.mark.parametrize(("path", "login"), [("/graphql", "operators"), ("/view/graphql", "viewers")])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("spelling", ["", "/", "//", "%67"])
def test_an_address_alone_changes_nothing(ui: Nginx, path: str, login: str, method: str, spelling: str) -> None:
    """Also not by another spelling of the same address: refused by the proxy, or by the webserver's guard."""
    before = runs(ui)
    path = {"": path, "/": f"{path}/", "//": f"/{path}", "%67": path.replace("graphql", "%67raphql")}[spelling]
    answer = ui.ask(method, f"{path}?{urllib.parse.urlencode({'query': LAUNCH})}", login)
    assert answer.status == 405 or (answer.status, spelling) == (404, "/")
    assert runs(ui) == before


def test_a_foreign_page_starts_nothing_and_the_own_one_and_a_script_do(ui: Nginx) -> None:
    before = runs(ui)
    for origin in ("https://evil.example", f"http://{NAME}:{ui.port}", f"https://{NAME}", "null"):
        answer = ui.ask("POST", "/graphql", body=json.dumps({"query": LAUNCH}), headers={**JSON, "Origin": origin})
        assert answer.status == 403, origin
    assert runs(ui) == before
    assert query(ui, LAUNCH, Origin=ui.origin)["data"]["launchRun"]["__typename"] == "LaunchRunSuccess"
    assert query(ui, LAUNCH)["data"]["launchRun"]["__typename"] == "LaunchRunSuccess"
    assert runs(ui) == before + 2


def test_view_reads_and_refuses_whatever_changes_something(ui: Nginx) -> None:
    before = runs(ui)
    reading = query(ui, "{runsOrError {... on Runs {count}}}", "viewers", "/view/graphql")
    assert reading["data"]["runsOrError"]["count"] == before
    launched = query(ui, LAUNCH, "viewers", "/view/graphql")["data"]["launchRun"]
    reloaded = query(ui, RELOAD, "viewers", "/view/graphql")["data"]["reloadWorkspace"]
    assert launched["__typename"] == reloaded["__typename"] == "UnauthorizedError"
    assert query(ui, RELOAD)["data"]["reloadWorkspace"]["__typename"] == "Workspace"  # the control
    assert runs(ui) == before


# each is refused before it looks for what it is about, so nothing of it needs to exist
CHANGES = (
    'deletePipelineRun(runId: "x")',
    'terminateRun(runId: "x")',
    'wipeAssets(assetPartitionRanges: [{assetKey: {path: ["trivial"]}}])',
    'shutdownRepositoryLocation(repositoryLocationName: "atft")',
    'reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, assetKey: {path: ["trivial"]}})',
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda text: text.partition("(")[0])
def test_view_refuses_each_kind_of_change(ui: Nginx, change: str) -> None:
    document = f"mutation {{{change} {{__typename}}}}"
    (answer,) = query(ui, document, "viewers", "/view/graphql")["data"].values()
    assert answer["__typename"] == "UnauthorizedError"


def test_view_takes_no_report_of_an_asset_without_graphql(ui: Nginx) -> None:
    """Dagster's own address for programs that materialize something elsewhere."""
    path = "/report_asset_materialization/trivial"
    assert ui.ask("POST", f"/view{path}", "viewers", "{}", JSON).status == 401
    assert ui.ask("POST", path, "operators", "{}", {**JSON, "Origin": "https://evil.example"}).status == 403
    materialized = '{assetOrError(assetKey: {path: ["trivial"]}) {... on Asset {assetMaterializations {timestamp}}}}'
    assert not query(ui, materialized)["data"]["assetOrError"].get("assetMaterializations")
    assert ui.ask("POST", path, "operators", "{}", JSON).status == 200  # the control
    assert query(ui, materialized)["data"]["assetOrError"]["assetMaterializations"]


@pytest.mark.parametrize(("path", "login"), [("/graphql", "operators"), ("/view/graphql", "viewers")])
def test_a_websocket_changes_nothing_whoever_opens_it(ui: Nginx, path: str, login: str) -> None:
    """It is for subscriptions alone."""
    before = runs(ui)
    opened = handshake(ui, path, {**authorization(*LOGINS[login]), "Origin": ui.origin})
    assert isinstance(opened, socket.socket)
    with opened:
        send(opened, {"type": "connection_init", "payload": {}})
        assert receive(opened)["type"] == "connection_ack"
        for number, document in enumerate((RELOAD, " ".join(LAUNCH.split()))):
            send(opened, {"type": "start", "id": f"{number}", "payload": {"query": document}})
            told = receive(opened)
            assert (told["type"], told["id"]) == ("error", f"{number}"), told
    assert runs(ui) == before


def handshake(one: Nginx, path: str, headers: dict[str, str]) -> socket.socket | int:
    """A websocket that was opened (RFC 6455), or the status that refused it."""
    plain = socket.create_connection((NAME, one.port), timeout=PATIENCE)
    secure = one.context().wrap_socket(plain, server_hostname=NAME)
    lines = {
        "Host": f"{NAME}:{one.port}", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "graphql-ws", **headers,
    }  # fmt: skip
    secure.sendall(f"GET {path} HTTP/1.1\r\n".encode())
    secure.sendall("".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode() + b"\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += secure.recv(1) or b"\r\n\r\n"
    status = int(head.split()[1])
    if status == 101:
        return secure
    secure.close()
    return status


def send(open_socket: socket.socket, message: dict) -> None:
    """A text of less than 64 KiB, masked with zeros."""
    text = json.dumps(message).encode()
    size = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + len(text).to_bytes(2, "big")
    open_socket.sendall(b"\x81" + size + bytes(4) + text)


def receive(open_socket: socket.socket) -> dict:
    """A text of less than 64 KiB."""
    size = read(open_socket, 2)[1] & 0x7F
    return json.loads(read(open_socket, size if size < 126 else int.from_bytes(read(open_socket, 2), "big")))


def read(open_socket: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += open_socket.recv(count - len(found)) or pytest.fail("the websocket was closed")
    return found


@pytest.mark.parametrize(("path", "login"), [("/graphql", "operators"), ("/view/graphql", "viewers")])
def test_a_websocket_is_for_the_own_page_with_a_login(ui: Nginx, path: str, login: str) -> None:
    entry = authorization(*LOGINS[login])
    assert handshake(ui, path, {}) == 401
    assert handshake(ui, path, {**entry, "Origin": "https://evil.example"}) == 403
    opened = handshake(ui, path, {**entry, "Origin": ui.origin})
    assert isinstance(opened, socket.socket)
    with opened:
        send(opened, {"type": "connection_init", "payload": {}})
        assert receive(opened)["type"] == "connection_ack"


def test_the_webserver_never_sees_the_password(mirror: Nginx, upstream: Echo) -> None:
    for path, login in {"/runs": "operators", "/view/runs": "viewers"}.items():
        upstream.seen.clear()
        assert mirror.ask("POST", path, login, "{}", {"X-Forwarded-For": "10.0.0.1"}).status == 200
        ((asked, headers),) = upstream.seen
        assert asked == path and headers["Host"] == f"{NAME}:{mirror.port}"
        assert "Authorization" not in headers and LOGINS[login][1] not in str(headers)
        assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == ("127.0.0.1", "https")


def test_health_needs_no_login_and_tells_of_the_webserver(ui: Nginx) -> None:
    answer = ui.ask("GET", "/healthz", "")
    assert (answer.status, answer.body) == (200, "ok\n")
    with nginx(free_port(), free_port()) as nothing_behind:
        assert nothing_behind.ask("GET", "/healthz", "").status == 500
    assert ui.ask("GET", "/_alive").status == 404


def test_only_tls_and_only_the_name(ui: Nginx) -> None:
    with socket.create_connection((NAME, ui.plain)) as plain:
        plain.sendall(f"GET /x HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        said = until(lambda: plain.recv(4096), "an answer").decode()
    assert " 301 " in said and f"Location: https://{NAME}/x" in said
    plain = socket.create_connection((NAME, ui.port), timeout=PATIENCE)
    with plain, pytest.raises(ssl.SSLError):
        ui.context().wrap_socket(plain, server_hostname="other.example")
    headers = ui.ask("GET", "/").headers
    assert headers["Strict-Transport-Security"].startswith("max-age=") and headers["X-Frame-Options"] == "DENY"
    assert "nginx/" not in headers["Server"]


@pytest.mark.e2e
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("login", "prefix"), [("operators", ""), ("viewers", "/view")])
def test_the_ui_works_in_a_browser_its_websocket_included(ui: Nginx, tmp_path: Path, login: str, prefix: str) -> None:
    with page(tmp_path, LOGINS[login]) as tab:
        tab.open(f"{ui.origin}{prefix}/assets/trivial")
        until(lambda: "trivial" in tab.text() and tab.sockets, "the page and its websocket")
        until(lambda: tab.text() and (200, f"{ui.origin}{prefix}/graphql") in tab.addressed(), "an answer")
    # one that was opened may break where the machine is busy (0), and is opened anew; none may be refused
    assert tab.dialogs >= 1 and set(tab.sockets) - {0} == {101}
    assert [(status, address) for status, address in tab.statuses if status in (401, 403, 405)] == []


@pytest.mark.e2e
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_a_page_elsewhere_starts_nothing_in_a_browser_that_has_logged_in(ui: Nginx, tmp_path: Path) -> None:
    """The browser adds the login to whatever a page asks for: only the proxy's rules stand between."""
    before = runs(ui)
    address = f"{ui.origin}/graphql?{urllib.parse.urlencode({'query': LAUNCH})}"
    foreign = tmp_path / "foreign.html"
    body = json.dumps(json.dumps({"query": LAUNCH}))
    foreign.write_text(
        f"<img src='{html.escape(address, quote=True)}'><p id=tried></p><script>"
        f"const post = fetch('{ui.origin}/graphql', {{method: 'POST', mode: 'no-cors', credentials: 'include',"
        f" body: {body}}});"
        f"const socket = new Promise(done => {{const ws = new WebSocket('{ui.origin.replace('https', 'wss')}/graphql',"
        " 'graphql-ws'); ws.onopen = () => done('open'); ws.onerror = () => done('no socket');});"
        "Promise.allSettled([post, socket]).then(all => document.getElementById('tried').innerText ="
        " 'tried, ' + all[1].value);</script>"
    )
    with page(tmp_path, LOGINS["operators"]) as tab:
        tab.open(f"{ui.origin}/assets/trivial")
        until(lambda: tab.text() and tab.sockets, "the own page")
        tab.ask("Page.navigate", url=foreign.as_uri())
        until(lambda: "tried, no socket" in tab.text(), "the foreign page")
        until(lambda: tab.text() and {405, 403} <= set(tab.codes), "the refusals")
    assert runs(ui) == before
