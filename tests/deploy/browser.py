"""A real Chromium that is told what to do over its DevTools protocol, so that it can answer the dialog of a login."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.patience import PATIENCE, until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """One tab.

    Attributes:
        statuses: of every answer over HTTP that its page may read, with its address.
        codes: of every answer on the wire.
        sockets: status of every websocket that was answered, and 0 for one that broke.
        dialogs: how often a login was asked for.
    """

    def __init__(self, wire: ClientConnection, login: tuple[str, str]):
        self.wire, self.login = wire, login
        self.number = 0
        self.statuses: list[tuple[int, str]] = []
        self.codes: list[int] = []
        self.sockets: list[int] = []
        self.dialogs = 0

    def send(self, method: str, **parameters: Any) -> int:
        """Tell it something; the number of the message."""
        self.number += 1
        self.wire.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        return self.number

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Tell it something and wait for the answer, attending to what happens meanwhile."""
        number = self.send(method, **parameters)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = json.loads(self.wire.recv(timeout=PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.attend(message.get("method", ""), message.get("params", {}))
        raise AssertionError(f"no answer to {method}")

    def attend(self, method: str, event: dict[str, Any]) -> None:
        """Something happened."""
        match method:
            case "Fetch.requestPaused":
                self.send("Fetch.continueRequest", requestId=event["requestId"])
            case "Fetch.authRequired":
                self.dialogs += 1
                user, password = self.login
                answer = {"response": "ProvideCredentials", "username": user, "password": password}
                if self.dialogs > 20:  # a wrong password would be asked for again and again
                    answer = {"response": "CancelAuth"}
                self.send("Fetch.continueWithAuth", requestId=event["requestId"], authChallengeResponse=answer)
            case "Network.responseReceived":
                self.statuses.append((event["response"]["status"], event["response"]["url"]))
            case "Network.responseReceivedExtraInfo":
                self.codes.append(event["statusCode"])
            case "Network.webSocketHandshakeResponseReceived":
                self.sockets.append(event["response"]["status"])
            case "Network.webSocketFrameError":
                self.sockets.append(0)

    def open(self, url: str) -> None:
        """Go to a page."""
        self.ask("Network.enable")
        self.ask("Security.enable")
        self.ask("Security.setIgnoreCertificateErrors", ignore=True)
        self.ask("Fetch.enable", handleAuthRequests=True)
        self.ask("Page.navigate", url=url)

    def addressed(self) -> set[tuple[int, str]]:
        """Statuses with their addresses as far as the question mark."""
        return {(status, address.partition("?")[0]) for status, address in self.statuses}

    def text(self) -> str:
        """What a person reads on it."""
        found = self.ask("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        time.sleep(0.2)
        return str(found["result"]["value"])


@contextmanager
def page(folder: Path, login: tuple[str, str]) -> Iterator[Page]:
    """An empty tab of a browser with a profile of its own."""
    log = folder / "chromium.log"
    port = folder / "profile" / "DevToolsActivePort"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1400", "--remote-debugging-port=0",
                "about:blank",
            ],
            stdout=said, stderr=said,
        )  # fmt: skip
    try:
        until(lambda: port.exists() and port.read_text().strip(), "Chromium", process=process, log=log)
        address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/list"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            (tab,) = (one for one in json.load(answer) if one["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=PATIENCE) as wire:
            yield Page(wire, login)
    finally:
        process.terminate()
        process.wait(PATIENCE)
