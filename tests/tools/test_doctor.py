"""The preflight: each finding on a machine that has the fault, and never the key."""

import socket
import stat
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atft_assets.jquants.errors import PlanGate, WrongKey
from atft_assets.operations.disk import DiskLevels
from atft_assets.settings import Plan, Settings
from atft_assets.tools import doctor
from atft_assets.tools.doctor import Finding, Level
from tests.operations.helpers import live_settings

KEY = "abcd1234-secret"


def levels(findings: list[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


def test_versions_that_do_not_fit_fail() -> None:
    assert levels(list(doctor.versions())) == [Level.OK]

    def other(package: str) -> str:
        if package == "torch":
            raise PackageNotFoundError(package)
        return "1.13.29" if package == "dagster" else "1.13.27"

    assert levels(list(doctor.versions(other))) == [Level.WARN, Level.FAIL]


def test_the_shell_is_judged(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()
    good = {"DAGSTER_HOME": str(tmp_path), "DAGSTER_MODULE_NAME": "atft_assets.definitions"}
    assert levels(list(doctor.environment(good))) == [Level.OK, Level.OK]
    assert levels(list(doctor.environment({}))) == [Level.FAIL, Level.FAIL]
    assert levels(list(doctor.environment({**good, "DAGSTER_HOME": "relative"}))) == [Level.FAIL, Level.OK]
    (tmp_path / "dagster.yaml").unlink()
    assert levels(list(doctor.environment(good))) == [Level.WARN, Level.OK]


class Service:
    """Stands for the client; answers or raises."""

    def __init__(self, *errors: Exception | None):
        self.errors, self.asked, self.given = list(errors), [], ()

    def __call__(self, *given: Any, **_: Any) -> "Service":
        self.given = given
        return self

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None: ...

    def fetch(self, endpoint: Any, query: Any) -> list[Any]:
        self.asked.append(endpoint.path)
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        return []


@pytest.mark.parametrize(
    ("errors", "expected", "said"),
    [
        ((None, None), [Level.OK, Level.OK, Level.OK], "120 requests a minute"),
        ((WrongKey("/markets/calendar", {}, "403"),), [Level.OK, Level.FAIL], "JQUANTS_API_KEY"),
        (
            (None, PlanGate("/indices/bars/daily", {}, "403")),
            [Level.OK, Level.OK, Level.FAIL],
            "JQUANTS_PLAN is standard",
        ),
    ],
)
def test_the_source_is_asked_and_the_key_never_shown(errors: Any, expected: list[Level], said: str) -> None:
    service: Any = Service(*errors)
    findings = list(doctor.source(live_settings(plan=Plan.STANDARD), KEY, client=service))
    assert levels(findings) == expected
    assert service.given[1] == KEY and len(service.asked) <= 2
    text = "\n".join(map(str, findings))
    assert said in text and "abcd1234" not in text


def test_an_unreachable_source_fails_within_seconds() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    findings = list(doctor.source(live_settings(base_url=f"http://127.0.0.1:{port}/v2"), KEY))
    assert levels(findings) == [Level.OK, Level.FAIL]
    said = str(findings[-1])
    assert "abcd1234" not in said and "see the message" not in said
    assert said.count("refuses it") == 1 and said.count("nothing listens there") == 1
    assert "nothing listens there" in findings[-1].todo


def test_a_key_that_cannot_be_sent_is_one_line_without_the_key(tmp_path: Path) -> None:
    environ = {"JQUANTS_API_KEY": f"{KEY}\r\nX: y", "DAGSTER_HOME": str(tmp_path)}
    findings = list(doctor.examine(environ))
    assert findings[-1].level is Level.FAIL and "JQUANTS_API_KEY has a line break inside it" in findings[-1].found
    assert KEY not in "\n".join(map(str, findings))


def test_a_key_that_ends_in_a_line_end_is_used_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    used: list[str] = []
    monkeypatch.setattr(doctor, "source", lambda settings, key: iter(used.append(key) or ()))
    monkeypatch.setattr(doctor, "code_location", lambda: ([], []))
    list(doctor.examine({"JQUANTS_API_KEY": f"{KEY}\r\n", "ATFT_DATA": str(tmp_path)}))
    assert used == [KEY]


def test_an_empty_key_and_a_market_too_short_for_a_panel_are_told() -> None:
    environ = {"JQUANTS_API_KEY": "", "ATFT_START": "2023-01-04", "ATFT_END": "2023-12-29"}
    empty, _, short = doctor.source(Settings.from_env(environ), "")
    assert empty.level is Level.WARN and "set but EMPTY" in empty.found
    assert short.level is Level.WARN and "shorter than two years" in short.found


def test_the_sandbox_needs_nothing() -> None:
    assert levels(list(doctor.source(Settings.from_env({}), ""))) == [Level.OK]


def test_a_full_volume_fails(tmp_path: Path) -> None:
    settings, home = live_settings(tmp_path / "data"), str(tmp_path)
    assert levels(list(doctor.disk(settings, home, DiskLevels(warning=101, critical=102)))) == [Level.OK, Level.OK]
    assert levels(list(doctor.disk(settings, home, DiskLevels(warning=0, critical=102)))) == [Level.WARN] * 2
    assert levels(list(doctor.disk(settings, home, DiskLevels(warning=0, critical=0)))) == [Level.FAIL] * 2


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert levels(list(doctor.ports(port))) == [Level.WARN]
    assert levels(list(doctor.ports(port))) == [Level.OK]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'NVIDIA X, 80000 MiB, 1'; echo 'NVIDIA Y, 80000 MiB, 1'", [Level.OK, Level.OK]),
        ("echo 'driver mismatch' >&2; exit 9", [Level.WARN]),
    ],
)
def test_cards_are_listed_by_the_driver(tmp_path: Path, script: str, expected: list[Level]) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert levels(list(doctor.gpu([str(program)]))) == expected
    assert levels(list(doctor.gpu([str(tmp_path / "absent")]))) == [Level.OK]


def test_the_instance_without_pool_limit_or_daemon_warns(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    findings = list(doctor.instance_state(instance, live_settings(tmp_path)))
    assert {finding.subject: finding.level for finding in findings} == {"pool": Level.WARN, "daemon": Level.WARN}


def test_failed_checks_are_named(instance: dg.DagsterInstance) -> None:
    @dg.asset(name="quotes", check_specs=[dg.AssetCheckSpec("contract", asset="quotes")])
    def quotes() -> Any:
        yield dg.AssetCheckResult(passed=False, asset_key="quotes", check_name="contract", description="C is null")
        raise dg.Failure("C is null")

    dg.materialize([quotes], instance=instance, raise_on_error=False)
    keys = [dg.AssetCheckKey(dg.AssetKey(name), "contract") for name in ("quotes", "never_run")]
    (finding,) = doctor.failed_checks(instance, keys)
    assert finding.level is Level.WARN and "C is null" in finding.found and "--select quotes" in finding.todo
    assert levels(list(doctor.failed_checks(instance, keys[1:]))) == [Level.OK]


def test_the_exit_code_is_that_of_the_worst_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, code in ((Level.OK, 0), (Level.WARN, 0), (Level.FAIL, 1)):
        found = Finding(level, "disk", "2 GB free", "free some")
        monkeypatch.setattr(doctor, "examine", lambda environ, found=found: iter([found]))
        assert doctor.main({}) == code
        assert "2 GB free → free some" in capsys.readouterr().out


def test_a_setting_that_cannot_be_used_ends_the_examination(tmp_path: Path) -> None:
    findings = list(doctor.examine({"JQUANTS_PLAN": "gold", "DAGSTER_HOME": str(tmp_path)}))
    assert findings[-1].level is Level.FAIL and "gold" in findings[-1].found
