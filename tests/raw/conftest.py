"""Runs raw assets in Dagster against the tiny exchange."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.raw import SOURCES, Source, definitions
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store, Table
from tests.jquants.scripted_server import ScriptedServer, scripted

from .tiny_exchange import TinyExchange

START, END = date(2024, 1, 1), date(2024, 6, 28)
LATER = "2024-12-01T12:00"


@dataclass
class Lab:
    """An exchange, a store, and a way to run an asset.

    Attributes:
        now: our present, an ISO instant in Tokyo; the exchange has its own clock.
        sources: the tables that there are, the calendar apart.
        by_file: whether months come by file; most tests count requests by day.
    """

    exchange: TinyExchange
    server: ScriptedServer
    root: Path
    now: str = LATER
    plan: Plan = Plan.STANDARD
    start: date = START
    end: date | None = END
    max_retries: int = 0
    sources: tuple[Source, ...] = SOURCES
    by_file: str = "never"

    def run(self, asset: str, first: str = "", last: str = "", **config) -> dg.ExecuteInProcessResult:
        """Materialize an asset for a month, or for the months from `first` to `last`."""
        settings = Settings(
            base_url=self.server.base_url, plan=self.plan, data_root=str(self.root), start=self.start, end=self.end
        )
        made = definitions(settings, [0.0] * self.max_retries, sources=self.sources)
        chosen = [one for one in made.assets or [] if one.key.to_user_string() == asset]
        if asset != "trading_calendar":
            config = {"files": self.by_file, **config}
        selection: dict = {"partition_key": first} if first and not last else {}
        if last:
            span = "dagster/asset_partition_range_"
            selection["tags"] = {f"{span}start": first, f"{span}end": last}
        return dg.materialize(
            chosen, resources=self.resources(), raise_on_error=False, **selection,
            run_config={"ops": {asset: {"config": config}}} if config else None,
        )  # fmt: skip

    def resources(self) -> dict:
        jquants = JQuantsResource(
            api_key="key-for-tests", base_url=self.server.base_url, plan=self.plan.value, now=self.now,
            requests_per_minute=0, attempts=12, first_wait=0.001, first_freeze=0.01, next_freeze=0.02, read_timeout=2,
        )  # fmt: skip
        return {"store": Store(root=str(self.root)), "jquants": jquants}

    def table(self, name: str) -> Table:
        return Store(root=str(self.root)).table("raw", name)

    def read(self, name: str, *keys: str) -> pl.DataFrame:
        return self.table(name).read(list(keys) or None)

    def files(self, name: str) -> dict[str, bytes]:
        """Every file of a table but the manifest (it holds instants) and the lock."""
        folder = self.root / "raw" / name
        keep = (path for path in folder.glob("*") if path.name not in ("manifest.json", ".lock"))
        return {path.name: path.read_bytes() for path in keep} if folder.exists() else {}

    def asked(self) -> list[str]:
        """What was asked since the last call: the day, or path and range, once a listing."""
        with self.server.lock:
            requests, self.server.requests = self.server.requests, []
        first_pages = [request for request in requests if "pagination_key" not in request.query]
        return [
            request.query.get("date") or " ".join([request.path, *request.query.values()]) for request in first_pages
        ]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    exchange = TinyExchange()
    with scripted(exchange) as server:
        yield Lab(exchange, server, tmp_path / "data")


def failed_rules(result: dg.ExecuteInProcessResult) -> dict[str, dict]:
    """Column -> record of the failed contract check; the run must have failed and recorded no materialization."""
    assert not result.success
    assert not result.get_asset_materialization_events()
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == CONTRACT_CHECK and not check.passed
    return {record.data["column"]: dict(record.data) for record in check.metadata["failures"].value.records}


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """The sentence of the failed step."""
    assert not result.success
    (event,) = [event for event in result.all_node_events if event.event_type_value == "STEP_FAILURE"]
    data = event.step_failure_data
    return (data.user_failure_data.description if data.user_failure_data else "") or data.error.message


def materialized(result: dg.ExecuteInProcessResult) -> dict:
    """Metadata of the (last) materialization as plain values."""
    assert result.success
    event = result.get_asset_materialization_events()[-1]
    return {name: value.value for name, value in event.materialization.metadata.items()}
