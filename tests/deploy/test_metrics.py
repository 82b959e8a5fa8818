"""What Prometheus is told, by a real server: runs, checks and volumes as they are; rules and dashboard that fit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from atft_assets.settings import Plan, Settings
from atft_assets.tools.metrics import METRICS, Readings, serve
from tests.patience import until
from tests.ports import free_port

prometheus = pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "atft.json").read_text())


class Wanted(dg.Config):
    passes: bool = True
    ends: bool = True


@dg.asset(check_specs=[dg.AssetCheckSpec("contract", asset="quotes")])
def quotes(config: Wanted) -> dg.MaterializeResult[None]:
    if not config.ends:
        raise RuntimeError("the run fails")
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=config.passes, check_name="contract")])


def run(instance: dg.DagsterInstance, **wanted: bool) -> None:
    config = {"ops": {"quotes": {"config": wanted}}}
    dg.materialize([quotes], instance=instance, run_config=config, raise_on_error=False)


CONTRACT = dg.AssetCheckKey(dg.AssetKey("quotes"), "contract")
SETTINGS = Settings(base_url=None, plan=Plan.STANDARD, data_root="/", start=date(2024, 1, 4), end=date(2024, 12, 30))


def scraped(url: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample of a scrape: its name and the values of its labels."""
    from prometheus_client.parser import text_string_to_metric_families

    text = urllib.request.urlopen(url, timeout=60).read().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def url(request: pytest.FixtureRequest, instance: dg.DagsterInstance) -> Any:
    server = serve(Readings(instance, SETTINGS, [CONTRACT]), 0)
    request.addfinalizer(server.shutdown)
    return f"http://127.0.0.1:{server.server_port}/metrics"


@pytest.fixture
def instance() -> Any:
    with dg.instance_for_test() as instance:
        yield instance


def test_runs_checks_and_volumes_are_told_as_they_are(instance: dg.DagsterInstance, url: str) -> None:
    before = scraped(url)
    assert before["atft_up", ()] == 1 and before["atft_runs", ("SUCCESS",)] == 0
    assert ("atft_check_failed", ("quotes", "contract")) not in before
    began = datetime.now(UTC).timestamp()
    run(instance)
    run(instance, passes=False)
    run(instance, ends=False)
    instance.create_run_for_job(dg.job(name="waits")(lambda: None), status=dg.DagsterRunStatus.QUEUED)
    found = scraped(url)
    assert found["atft_runs", ("SUCCESS",)] == 2 and found["atft_runs", ("FAILURE",)] == 1
    assert found["atft_runs", ("QUEUED",)] == 1 and found["atft_oldest_queued_seconds", ()] >= 0
    assert found["atft_longest_running_seconds", ()] == 0
    assert found["atft_check_failed", ("quotes", "contract")] == 1
    assert began <= found["atft_asset_last_success_timestamp_seconds", ("quotes",)] <= datetime.now(UTC).timestamp()
    free, size = shutil.disk_usage("/").free, found["atft_disk_size_bytes", ("ATFT_DATA",)]
    assert found["atft_disk_free_bytes", ("ATFT_DATA",)] == pytest.approx(free, rel=0.05) and size > free
    run(instance)
    assert scraped(url)["atft_check_failed", ("quotes", "contract")] == 0


def test_ages_are_of_the_oldest_and_what_ended_long_ago_is_not_counted(instance: dg.DagsterInstance) -> None:
    run(instance)
    instance.create_run_for_job(dg.job(name="waits")(lambda: None), status=dg.DagsterRunStatus.QUEUED)
    later = Readings(instance, SETTINGS, [], clock=lambda: datetime.now(UTC) + timedelta(hours=30))
    values = {(name, labels): value for name, labels, value in later._dagster()}
    assert values["atft_oldest_queued_seconds", ()] == pytest.approx(30 * 3600, abs=60)
    assert values["atft_runs", ("SUCCESS",)] == 0


def test_an_instance_that_does_not_answer_is_down_and_the_rest_is_told(
    instance: dg.DagsterInstance, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("postgresql://user:secret@host")

    monkeypatch.setattr(instance, "get_runs_count", away)
    found = scraped(url)
    assert found["atft_up", ()] == 0 and ("atft_disk_free_bytes", ("ATFT_DATA",)) in found


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    port, environ = free_port(), {name: value for name, value in os.environ.items() if not name.startswith("ATFT")}
    environ |= {"DAGSTER_HOME": str(tmp_path), "ATFT_DATA": str(tmp_path / "data")}
    command = [sys.executable, "-m", "atft_assets.tools.metrics", "--port", str(port)]
    with subprocess.Popen(command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:

        def answers() -> bool:
            try:
                return scraped(f"http://127.0.0.1:{port}/metrics")["atft_up", ()] == 1
            except OSError:
                return False

        until(answers, "the metrics", process=process)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.splitlines()[-1] == f"metrics on http://127.0.0.1:{port}/metrics"


def test_without_a_history_it_says_what_to_do() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "atft_assets.tools.metrics"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.strip().startswith("DAGSTER_HOME is not set: source env.sh")


def named(text: str) -> set[str]:
    return set(re.findall(r"\batft_\w+", text))


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    rules = {name for rule in RULES for name in named(rule["expr"])}
    panels = {name for panel in DASHBOARD["panels"] for one in panel["targets"] for name in named(one["expr"])}
    assert rules <= set(METRICS) and panels <= set(METRICS)
    assert set(METRICS) - {"atft_up"} - panels == {"atft_longest_running_seconds", "atft_disk_size_bytes"} - panels
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical") and set(rule["annotations"]) == {"summary", "todo"}


def test_the_rules_are_read_by_prometheus() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool here: apt-get install --no-install-recommends prometheus")
    path = str(DEPLOY / "prometheus" / "rules.yml")
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{len(RULES)} rules found" in done.stdout, done.stdout + done.stderr
