"""Metrics for Prometheus, of a real instance and store, over HTTP; rules, dashboard and runbook fit them."""

import ast
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml

from atft_assets.dagster_private import job_origin
from atft_assets.operations import metrics
from atft_assets.operations.alerts import Alert, alerts_resource
from atft_assets.operations.metrics import METRICS, Sample, readers, scrape
from atft_assets.store import Store
from atft_model.interchange.gpus import Gpu
from tests.operations.helpers import live_settings
from tests.patience import PATIENCE, until

REPOSITORY = Path(__file__).parents[2]
RULES = REPOSITORY / "deploy" / "prometheus" / "rules.yml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "atft.json"
RUNBOOK = REPOSITORY / "docs" / "runbook.md"
CHECK = dg.AssetCheckKey(dg.AssetKey("labels"), "contract")
NOW = datetime(2026, 1, 9, 12, 0, tzinfo=UTC)  # a Friday, 21:00 in Tokyo


@dg.asset
def well() -> None:
    """Ends well."""


@dg.asset
def ill() -> None:
    """Fails."""
    raise dg.Failure("on purpose")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An instance with runs and verdicts, quotes up to a Wednesday, an alert that was told."""
    root = tmp_path_factory.mktemp("data")
    table = Store(root=str(root)).table("raw", "daily_quotes")
    table.publish([table.stage("2026-01", pl.DataFrame({"date": [date(2026, 1, 7)]}), code_version="t")])
    with dg.instance_for_test() as instance:
        assert dg.materialize([well], instance=instance).success
        assert not dg.materialize([ill], instance=instance, raise_on_error=False).success
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(CHECK.asset_key, CHECK.name, False, {}))
        alerts = alerts_resource(False, str(root))
        alerts.setup_for_execution(dg.build_init_resource_context(instance=instance))
        alerts.send(Alert("withheld", "f", "what", {}, "why", "todo"), NOW - timedelta(hours=2))
        yield instance, live_settings(root)


def value(samples: list[Sample], metric: str, **labels: str) -> float:
    (found,) = [one.value for one in samples if one.name == metric and labels.items() <= dict(one.labels).items()]
    return found


class FullOfGpus:
    def read(self) -> list[Gpu]:
        return [Gpu(0, "GPU-a", "Card", 0.5, 1 << 30, 8 << 30, None, 44.0, ("power (Not Supported)",))]


def test_everything_is_read(world) -> None:
    instance, settings = world
    found = scrape(readers(instance, settings, [CHECK], FullOfGpus(), clock=lambda: NOW))
    assert value(found, "atft_runs", status="success") == 1 and value(found, "atft_runs", status="failure") == 1
    assert value(found, "atft_queued_run_age_seconds") == 0
    assert value(found, "atft_asset_last_success_timestamp_seconds", asset="well") == pytest.approx(
        time.time(), abs=3600
    )
    assert value(found, "atft_check_failed", asset="labels", check="contract", severity="error") == 1
    assert value(found, "atft_trading_days_behind") == 2, "Thursday and, after 20:00, Friday"
    assert value(found, "atft_table_through_timestamp_seconds", table="daily_quotes") == 1767711600
    assert 0 < value(found, "atft_disk_used_ratio", volume="data") < 1
    assert math.isinf(value(found, "atft_disk_full_in_seconds", volume="data"))
    told = value(found, "atft_alert_last_told_timestamp_seconds", kind="withheld", severity="failure")
    assert told == (NOW - timedelta(hours=2)).timestamp()
    assert value(found, "atft_gpu_temperature_celsius", gpu="0", name="Card") == 44
    assert not [one for one in found if one.name == "atft_gpu_power_watts"], "what is not told has no sample"
    sources = {"runs", "assets", "checks", "daemons", "tables", "disks", "alerts", "gpus"}
    assert {one.labels["source"] for one in found if one.name == "atft_source_up" and one.value == 1} == sources
    for one in found:
        assert set(one.labels) == set(METRICS[one.name].labels), one


def test_a_run_that_waits_has_an_age(world) -> None:
    _, settings = world
    graph = dg.Definitions([well]).resolve_asset_graph()
    with dg.instance_for_test() as other:
        job = dg.define_asset_job("waiting").resolve(asset_graph=graph)
        origin = job_origin("waiting", "127.0.0.1", 9)
        other.create_run_for_job(job, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
        later = datetime.now(UTC) + timedelta(hours=2)
        found = scrape(readers(other, settings, [], clock=lambda: later))
        assert value(found, "atft_queued_run_age_seconds") >= 7200


def test_recent_failures_are_those_of_an_hour(world) -> None:
    instance, settings = world
    assert value(scrape(readers(instance, settings, [])), "atft_runs_failed_recently") == 1
    later = datetime.now(UTC) + timedelta(hours=2)
    assert value(scrape(readers(instance, settings, [], clock=lambda: later)), "atft_runs_failed_recently") == 0


def test_a_source_that_is_away_leaves_the_others(world, tmp_path: Path) -> None:
    instance, settings = world
    broken = tmp_path / "data"
    shutil.copytree(settings.data_root, broken)
    (broken / "raw" / "daily_quotes" / "manifest.json").write_text("{")
    found = scrape(readers(instance, settings.model_copy(update={"data_root": str(broken)}), [CHECK]))
    assert value(found, "atft_source_up", source="tables") == 0
    assert value(found, "atft_source_up", source="runs") == 1 and value(found, "atft_runs", status="failure") == 1


def test_a_database_that_is_away_is_said(world) -> None:
    instance, settings = world

    def away() -> list[Sample]:
        import sqlalchemy as sa

        with sa.create_engine("sqlite:////nowhere/at/all.db").connect():
            return []

    found = scrape({"runs": away, "disks": readers(instance, settings, [])["disks"]})
    assert value(found, "atft_source_up", source="runs") == 0 and value(found, "atft_source_up", source="disks") == 1


class TestTheProcess:
    """`python -m atft_assets.operations.metrics`, scraped over HTTP."""

    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")

    def start(self, tmp_path: Path, *arguments: str, **environ: str) -> tuple[subprocess.Popen[str], Path]:
        home, log = tmp_path / "home", tmp_path / "log"
        home.mkdir(exist_ok=True)
        known = {**os.environ, "DAGSTER_HOME": str(home), "ATFT_DATA": str(tmp_path / "data"), **environ}
        with log.open("w") as file:
            # code of two lines: the platform's own is another five seconds of processor
            words = ["atft_assets.operations.metrics", "--code", "tests.deploy.tiny", *arguments]
            command = [sys.executable, "-W", "ignore", "-m", *words]
            process = subprocess.Popen(
                command, env=known, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT, text=True
            )
            return process, log

    @pytest.mark.slow
    def test_it_is_scraped_and_ends_by_a_signal(self, tmp_path: Path) -> None:
        broken = tmp_path / "data" / "raw" / "daily_quotes" / "manifest.json"
        broken.parent.mkdir(parents=True)
        broken.write_text("{")
        process, log = self.start(tmp_path, ATFT_METRICS_PORT="0", ATFT_LOG_FORMAT="json")
        try:
            line = until(lambda: re.search(r"http://\S+", log.read_text()), "the address", process=process, log=log)
            text = urllib.request.urlopen(line[0], timeout=PATIENCE).read().decode()
            assert 'atft_runs{status="failure"} 0.0' in text and 'atft_source_up{source="runs"} 1.0' in text
            assert "# TYPE atft_disk_used_ratio gauge" in text and 'atft_source_up{source="tables"} 0.0' in text
            said = json.loads(log.read_text().splitlines()[-1])
            assert said["level"] == "warning" and said["event"].startswith("tables cannot be read: ")
            assert set(re.findall(r"^# TYPE (atft_\w+)", text, re.M)) <= METRICS.keys()
            if promtool := shutil.which("promtool"):
                done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
                assert done.returncode == 0 and not done.stderr.strip(), done.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()

    def test_a_taken_port_is_a_sentence(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            process, log = self.start(tmp_path, "--port", str(taken.getsockname()[1]))
            assert process.wait(PATIENCE) == 1
        assert "cannot be listened on (Address already in use): give --port" in log.read_text()

    @pytest.mark.parametrize(("words", "port"), [(["--port", "web"], ""), ([], "70000"), (["--port=-1"], "9464")])
    def test_what_is_no_port_is_a_sentence(self, words: list[str], port: str, capsys) -> None:
        assert metrics.main(words, {"ATFT_METRICS_PORT": port}) == 1
        assert "give --port, or ATFT_METRICS_PORT, from 0 to 65535" in capsys.readouterr().err

    def test_without_a_home_it_says_so(self, tmp_path: Path) -> None:
        process, log = self.start(tmp_path, DAGSTER_HOME="")
        assert process.wait(PATIENCE) == 1 and ". ./env.sh" in log.read_text()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    assert metrics.main([]) == 1
    assert "pip install -c constraints.txt '.[metrics]'" in capsys.readouterr().err


# -- rules, dashboard, runbook ---------------------------------------------------------------------------------------


def kinds() -> set[str]:
    """Every kind of alert that the code tells, read from its source."""
    found = set()
    for path in (REPOSITORY / "atft_assets").rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Alert":
                (kind,) = [word.value for word in node.keywords if word.arg == "kind"]
                found.add(kind.value if isinstance(kind, ast.Constant) else names[kind.id])
    return found


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_the_kinds_are_found() -> None:
    assert {"schema_failure", "run_failure", "service_failure", "test"} <= kinds()


def test_every_kind_of_alert_has_a_section_that_says_what_where_and_what_to_do() -> None:
    parts = re.split(r"^## ", RUNBOOK.read_text(), flags=re.M)[1:]
    sections = {part.partition("\n")[0]: part for part in parts}
    assert kinds() == set(sections)
    for kind, text in sections.items():
        assert [word for word in ("**Means.**", "**Look.**", "**Do.**") if word not in text] == [], kind


def test_every_kind_has_a_rule_and_every_rule_a_section() -> None:
    named = {rule["labels"]["kind"] for rule in rules()}
    assert named == kinds() - {"test"}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['labels']['kind']}", rule["alert"]


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert all(re.search(r"atft_\w+", query) for query in queries)
    used = {
        name for query in [*queries, *(rule["expr"] for rule in rules())] for name in re.findall(r"atft_\w+", query)
    }
    assert used - METRICS.keys() == set()
    assert METRICS.keys() - used == set(), "a metric that nobody looks at"
    for query in [*queries, *(rule["expr"] for rule in rules())]:
        for name, labels in re.findall(r"(atft_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)[!=]~?\"", labels)) <= set(METRICS[name].labels), query
    legends = [target["legendFormat"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert all(legends)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


FIRES = {  # series that make an alert fire, one that must not
    "AtftContractBroken": 'atft_check_failed{asset="labels", check="contract", severity="error"} 1',
    "AtftDataOdd": 'atft_check_failed{asset="labels", check="odd", severity="warn"} 1',
    "AtftScoresWithheld": 'atft_alert_last_told_timestamp_seconds{kind="withheld", severity="failure"} 1',
    "AtftTableLate": 'atft_alert_last_told_timestamp_seconds{kind="late_table", severity="info"} 1',
    "AtftRunFailed": "atft_runs_failed_recently 2",
    "AtftQueueStuck": "atft_queued_run_age_seconds 4000",
    "AtftRunTooLong": "atft_started_run_age_seconds 50000",
    "AtftDataLate": "atft_trading_days_behind 1",
    "AtftDiskFilling": 'atft_disk_full_in_seconds{volume="data"} 259200',
    "AtftDiskFull": 'atft_disk_used_ratio{volume="data"} 0.96',
    "AtftDaemonSilent": 'atft_daemon_heartbeat_age_seconds{daemon="SENSOR"} 900',
    "AtftSourceUnread": 'atft_source_up{source="runs"} 0',
    "AtftMetricsAway": "other 1",
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def test_the_rules_are_well_formed(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_each_rule_fires(promtool: str, tmp_path: Path, alert: str) -> None:
    series, _, number = FIRES[alert].rpartition(" ")
    rule = next(one for one in rules() if one["alert"] == alert)
    labels = dict(re.findall(r'(\w+)="(\w+)"', series))
    by = re.search(r"by \(([\w, ]+)\)", rule["expr"])
    if by:
        labels = {name: labels[name] for name in by[1].split(", ")}
    elif "max(" in rule["expr"] or "absent" in rule["expr"]:
        labels = {}
    fired = {"alertname": alert, "alertstate": "firing", **labels, **rule["labels"]}
    shown = ", ".join(f'{name}="{text}"' for name, text in fired.items())
    quiet = "absent" in rule["expr"]
    case = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": f"{number}x60"}],
                "promql_expr_test": [
                    {
                        "expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}',
                        "eval_time": "30m",
                        "exp_samples": [{"labels": f"ALERTS{{{shown}}}", "value": 1}],
                    }
                ],
            },
            {
                "interval": "1m",
                "input_series": [{"series": 'atft_source_up{source="runs"}' if quiet else "other", "values": "1x60"}],
                "promql_expr_test": [
                    {"expr": f'count(ALERTS{{alertname="{alert}"}}) or vector(0)', "eval_time": "30m",
                     "exp_samples": [{"labels": "{}", "value": 0}]}
                ],
            },
        ],
    }  # fmt: skip
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(case))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
