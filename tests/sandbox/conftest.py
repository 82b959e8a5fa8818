"""One small market for the tests of the server, and a plain client that shows every answer as it came."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
import requests

from atft_assets.sandbox import Market, MarketConfig, SandboxServer, serve, simulate
from tests.patience import PATIENCE

CONFIG = MarketConfig(
    n_names=120, start=date(2021, 11, 1), end=date(2022, 6, 30), seed=5, listings=0.2, delistings=0.1, splits=0.4
)


@dataclass
class Caller:
    """GET against a sandbox; `rows` follows the pages to the end."""

    server: SandboxServer
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, key: str | None = "", **params: Any) -> requests.Response:
        key = self.server.api_key if key == "" else key
        query = {name.rstrip("_"): value for name, value in params.items()}
        headers = {"x-api-key": key} if key else {}
        return self.session.get(self.server.base_url + path, params=query, headers=headers, timeout=PATIENCE)

    def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for _ in range(1000):
            answer = self.get(path, **params)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            out += body["data"]
            if "pagination_key" not in body:
                return out
            params["pagination_key"] = body["pagination_key"]
        raise AssertionError("the pages do not end")

    def refusal(self, path: str, key: str | None = "", **params: Any) -> tuple[int, str]:
        answer = self.get(path, key, **params)
        assert list(answer.json()) == ["message"]
        return answer.status_code, answer.json()["message"]


@pytest.fixture(scope="session")
def market() -> Market:
    return simulate(CONFIG)


@pytest.fixture
def open_sandbox(market: Market) -> Iterator[Callable[..., Caller]]:
    """Start a server with the given options; all are closed at the end of the test."""
    running: list[Caller] = []

    def start(**options: Any) -> Caller:
        caller = Caller(serve(options.pop("market", market), **options).__enter__())
        running.append(caller)
        return caller

    yield start
    for caller in running:
        caller.session.close()
        caller.server.__exit__()
