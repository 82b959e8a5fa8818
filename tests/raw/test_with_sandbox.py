"""The raw road against the project's own sandbox: what its switches break must leave no trace, or be caught."""

from collections.abc import Iterator
from datetime import date, datetime, time

import pytest

from atft_assets import calendar
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.sandbox import MarketConfig, serve, simulate
from atft_assets.settings import Plan
from atft_assets.store import Store

from .conftest import Lab, failed_rules, failure_text, materialized

START, END = date(2024, 1, 4), date(2024, 2, 29)
TABLES = ("listed_info", "daily_quotes", "topix", "sector_indices")


class SandboxLab(Lab):
    """As `Lab`, against a sandbox; `server` is the sandbox.

    Attributes:
        attempts: tries of a request; the waits between them double from a millisecond, so that fifteen take sixteen
            seconds.
        read_timeout: seconds without a byte.
    """

    attempts = 15
    read_timeout = 2

    def resources(self) -> dict:
        jquants = JQuantsResource(
            api_key=self.server.api_key, base_url=self.server.base_url, plan=self.plan.value, now=self.now,
            requests_per_minute=0, attempts=self.attempts, first_wait=0.001, first_freeze=0.01, next_freeze=0.02,
            read_timeout=self.read_timeout,
        )  # fmt: skip
        return {"store": Store(root=str(self.root)), "jquants": jquants}


@pytest.fixture(scope="module")
def market():
    return simulate(MarketConfig(n_names=60, start=START, end=END, seed=3))


@pytest.fixture
def sandbox(market, tmp_path) -> Iterator[SandboxLab]:
    with serve(market, page_rows=40) as server:
        evening = datetime.combine(END, time(18, 30)).isoformat()
        yield SandboxLab(None, server, tmp_path / "data", now=evening, start=START, end=END)


def fill(lab: SandboxLab) -> dict[str, dict[str, bytes]]:
    materialized(lab.run("trading_calendar"))
    for table in TABLES:
        materialized(lab.run(table, "2024-01", "2024-02"))
    return {table: lab.files(table) for table in (*TABLES, "trading_calendar")}


def test_faults_of_every_kind_leave_no_trace(sandbox, tmp_path):
    clean = fill(sandbox)
    sandbox.server.shuffle = True
    sandbox.server.page_rows = 20  # twice the pages: some 130 requests meet a fault, in an order that threads decide
    for kind in ("500", "503", "429", "truncated", "cut", "reset", "duplicate_page", "502", "504"):
        sandbox.server.faults.add(kind, share=0.04)
    sandbox.server.faults.add("slow", share=0.01, seconds=0.3)
    sandbox.root = tmp_path / "other"
    assert fill(sandbox) == clean
    assert sum(sandbox.server.faults.struck.values()) > 80


@pytest.mark.parametrize(
    ("kind", "column", "rule"),
    [
        ("rename_column", "C", "present in the records"),
        ("drop_column", "Va", "present in the records"),
        ("text_for_number", "C", "a JSON number or null"),
        ("null_column", "Vo", "not null for every name"),
    ],
)
def test_a_broken_column_is_caught(sandbox, kind, column, rule):
    materialized(sandbox.run("daily_quotes", "2024-02"))
    before = sandbox.files("daily_quotes")
    sandbox.server.faults.add(kind, path="/equities/bars/daily", column=column)
    rules = failed_rules(sandbox.run("daily_quotes", "2024-01", "2024-02"))
    assert rule in rules[column]["rule"]
    assert sandbox.files("daily_quotes") == before


def test_a_new_column_is_kept(sandbox):
    sandbox.server.faults.add("add_column", path="/equities/bars/daily", column="Novelty")
    assert materialized(sandbox.run("daily_quotes", "2024-01"))["new_fields"] == "Novelty"
    assert set(sandbox.read("daily_quotes")["Novelty"]) == {"new"}


def test_an_empty_trading_day_is_a_failure(sandbox):
    sandbox.server.faults.add("empty", path="/equities/bars/daily", date="2024-02-14")
    assert "no records for 2024-02-14" in failure_text(sandbox.run("daily_quotes", "2024-02"))


def test_pages_without_end_are_a_failure(sandbox):
    sandbox.server.faults.add("endless_pages", path="/equities/bars/daily")
    assert "pagination key" in failure_text(sandbox.run("daily_quotes", "2024-01"))


def test_the_sandbox_of_a_smaller_plan(market, tmp_path):
    with serve(market, plan=Plan.LIGHT) as server:
        lab = SandboxLab(None, server, tmp_path, now="2024-02-29T18:30", plan=Plan.LIGHT, start=START, end=END)
        assert lab.run("sector_indices", "2024-01").success
        assert materialized(lab.run("topix", "2024-01"))["dagster/row_count"] == len(calendar.days_of_month("2024-01"))
        lab.plan = Plan.STANDARD  # what a wrong JQUANTS_PLAN does: the server refuses, and the text says so
        assert "Set JQUANTS_PLAN to the plan of your key" in failure_text(lab.run("sector_indices", "2024-01"))


def test_premium_has_session_prices(market, tmp_path):
    with serve(market, plan=Plan.PREMIUM) as server:
        lab = SandboxLab(None, server, tmp_path, now="2024-02-29T18:30", plan=Plan.PREMIUM, start=START, end=END)
        assert materialized(lab.run("daily_quotes", "2024-01"))["new_fields"] == "none"
        frame = lab.read("daily_quotes")
        assert frame["MO"].dtype.is_float() and frame["MO"].null_count() < frame.height
