"""A page of another origin in a real browser, while the UI is open: it starts nothing, and the UI itself works."""

import html
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest

from tests.e2e.locations import LOADED, locations
from tests.patience import PATIENCE, until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]

LAUNCH = """mutation {launchRun(executionParams: {selector: {repositoryLocationName: "atft",
repositoryName: "__repository__", jobName: "__ASSET_JOB", assetSelection: [{path: ["trading_calendar"]}]},
runConfigData: {}, mode: "default"}) {__typename}}"""

# Each way by which a page can make a browser send something: an image, a fetch whose answer it may not read (the
# document in the address, or in the body), one that asks first, a form in a frame, a websocket.
PAGE = """<!doctype html><title>weather</title>
<img src="{address}">
<iframe name="frame"></iframe><form id="form" target="frame" method="post" action="{address}"></form>
<script>
document.getElementById("form").submit();
const launch = {body};
const socket = new Promise(done => {{
  const ws = new WebSocket("{socket}", "graphql-ws");
  const start = {{type: "start", id: "1", payload: {{query: launch}}}};
  ws.onopen = () => {{ ws.send(JSON.stringify(start)); done("open"); }};
  ws.onerror = () => done("no socket");
}});
Promise.allSettled([
  fetch("{address}&n=2", {{mode: "no-cors"}}),
  fetch("{address}", {{mode: "no-cors", method: "POST"}}),
  fetch("{graphql}", {{mode: "no-cors", method: "POST", body: JSON.stringify({{query: launch}})}}),
  fetch("{graphql}", {{method: "POST", headers: {{"Content-Type": "application/json"}},
                      body: JSON.stringify({{query: launch}})}}),
  socket,
]).then(all => document.body.append("tried " + all.length + ", " + all[4].value));
</script>"""

REQUESTS = 6  # of that page, one each; its websocket says by itself that it was refused


@pytest.fixture(scope="module")
def url(new_shell):
    """The UI as `make ui` starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ui = new_shell().popen(
        f". ./env.sh && exec python -m atft_assets.tools.ui --port {port}",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    lines = []
    try:
        for line in ui.stdout:
            lines.append(line)
            if "There is no login" in line:
                break
        else:
            raise AssertionError("".join(lines))
        threading.Thread(target=ui.stdout.read, daemon=True).start()  # nobody reads on: the pipe must not fill
        url = f"http://127.0.0.1:{port}"
        until(lambda: locations(url) == LOADED, "its code", process=ui)  # it serves before its code is there
        yield url
    finally:
        ui.terminate()
        ui.wait(PATIENCE)


def query(url: str, document: str):
    """As a script of this machine asks."""
    request = urllib.request.Request(
        f"{url}/graphql", json.dumps({"query": document}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["data"]


def runs(url: str) -> int:
    return query(url, "{runsOrError {... on Runs {count}}}")["runsOrError"]["count"]


def browse(page: str, folder) -> tuple[str, str]:
    """The page's DOM after its scripts ran, and the browser's log of the network."""
    log = folder / "network.json"
    folder.mkdir()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--window-size=1600,1400",
        "--virtual-time-budget=20000", "--dump-dom", page,
    ]  # fmt: skip
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return dom, log.read_text()


@pytest.fixture(params=["localhost", "127.0.0.1"])
def elsewhere(request, url):
    """A page on another port of this machine: another site, and the same site but another origin."""
    address = f"{url}/graphql?{urllib.parse.urlencode({'query': LAUNCH})}"
    page = PAGE.format(
        address=html.escape(address),
        body=json.dumps(LAUNCH),
        graphql=f"{url}/graphql",
        socket=f"{url.replace('http', 'ws')}/graphql",
    )

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{request.param}:{server.server_port}/"
        server.shutdown()


def test_a_foreign_page_starts_no_run(url, elsewhere, tmp_path):
    dom, network = browse(elsewhere, tmp_path / "foreign")
    assert "tried 5, no socket" in dom
    assert network.count("HTTP/1.1 403 Forbidden") >= REQUESTS, "some did not arrive"
    time.sleep(1)
    assert runs(url) == 0


def test_the_ui_itself_works_its_websocket_included(url, tmp_path):
    dom, network = browse(f"{url}/assets/train_phase2", tmp_path / "own")
    assert "train_phase2" in dom and "refused:" not in dom
    assert "101 Switching Protocols" in network and "403 Forbidden" not in network


def test_the_same_words_of_a_script_do_start_one(url):
    """The control: it was the guard that kept the page from it."""
    assert query(url, LAUNCH)["launchRun"]["__typename"] == "LaunchRunSuccess"
    assert runs(url) == 1
