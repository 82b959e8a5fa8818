"""Ctrl-C, SIGTERM and what *Terminate* sends: a waiting ingest ends at once and publishes nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from atft_assets.raw.landing import Landing
from atft_assets.raw.registry import SOURCES
from tests.jquants.scripted_server import Answer
from tests.patience import PATIENCE, until

from .conftest import Lab, materialized
from .tiny_exchange import CODES

DEFINITIONS = textwrap.dedent("""
    import dagster as dg
    from atft_assets.closing_words import refused_at_load
    from atft_assets.jquants.resource import JQuantsResource
    from atft_assets.raw import definitions
    from atft_assets.settings import Settings
    from atft_assets.store import Store

    with refused_at_load():
        settings = Settings.from_env()
    jquants = JQuantsResource(
        api_key=dg.EnvVar("JQUANTS_API_KEY"), base_url=settings.base_url, plan="standard", requests_per_minute=0,
        now="2024-12-01T12:00", attempts=2, first_wait=0.01,
    )
    defs = dg.Definitions.merge(
        definitions(settings),
        dg.Definitions(resources={"store": Store(root=settings.data_root), "jquants": jquants}),
    )
""")
ENDS_WITHIN = 10.0
SLOW_FROM = "2024-01-18"
BEFORE = 9  # trading days of January before it


def start(lab: Lab, tmp_path, *select: str) -> subprocess.Popen:
    """The command a person would type, as a process of its own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "defs.py").write_text(DEFINITIONS)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-f", str(tmp_path / "defs.py"), *select]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JQUANTS_", "ATFT_", "DAGSTER_"))} | {
        "JQUANTS_BASE_URL": lab.server.base_url, "JQUANTS_PLAN": "standard",
        "JQUANTS_API_KEY": "key-for-tests\r",  # pragma: allowlist secret
        "ATFT_DATA": str(lab.root), "ATFT_START": "2024-01-01", "ATFT_END": "2024-06-28",
        "DAGSTER_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    with (tmp_path / "out").open("w") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)


def ended(process: subprocess.Popen, signum: int) -> float:
    """Send the signal; seconds until the process has ended."""
    began = time.monotonic()
    process.send_signal(signum)
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()
    return time.monotonic() - began


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_four_requests_hang_in_a_slow_answer(lab, tmp_path, signum):
    hanging = []

    def fault(request, number):
        if request.query.get("date", "") >= SLOW_FROM:
            hanging.append(number)
            time.sleep(60)

    lab.exchange.fault = fault
    process = start(lab, tmp_path, "--select", "daily_quotes", "--partition", "2024-01")
    until(lambda: len(hanging) >= 4, "four requests", process=process, log=tmp_path / "out")
    assert ended(process, signum) < ENDS_WITHIN
    assert process.returncode != 0
    out = (tmp_path / "out").read_text()
    assert "the days that have come are kept, and the same command goes on from there" in out
    what, why, _, todo, _ = out.splitlines()[-5:]
    assert what.endswith("was interrupted") and why.endswith("nothing half-done was published")
    assert todo.endswith("run the same command again: it goes on")
    assert "tries again" not in out and "STEP_UP_FOR_RETRY" not in out
    assert lab.table("daily_quotes").keys() == []
    (source,) = [source for source in SOURCES if source.name == "daily_quotes"]
    landed = Landing(lab.table("daily_quotes"), source.code_version).load("2024-01", ["date"])
    assert landed is not None and landed.height == BEFORE * len(CODES)

    lab.exchange.fault = None
    lab.asked()
    assert materialized(lab.run("daily_quotes", "2024-01"))["dagster/row_count"] == 19 * len(CODES)
    assert min(lab.asked()) == SLOW_FROM  # what had come was not asked for again


def test_an_interrupt_ends_the_wait_before_another_try(lab, tmp_path):
    lab.exchange.fault = lambda request, number: Answer({}, 503)
    process = start(lab, tmp_path, "--select", "trading_calendar")
    out = tmp_path / "out"
    waits = "trading_calendar tries again in 2 min (1 of 2): J-Quants /markets/cal"
    until(lambda: waits in out.read_text(), "the wait", process=process, log=out)
    assert ended(process, signal.SIGTERM) < ENDS_WITHIN
    assert process.returncode != 0 and "the same command goes on" in out.read_text()
    assert len(lab.server.requests) == 2  # the client's own tries; no other came after the interrupt
