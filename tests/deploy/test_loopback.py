"""Nothing that we start is reached from another machine, unless a person says so.

What really listens is looked at in test_stack.py (the services) and tests/attack/test_secrets.py (the sandbox).
"""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.test_command_lines import parser_of

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
EVERYWHERE = re.compile(r"(?<![\w.])(?:0\.0\.0\.0|\[?::\]?)(?![\w:.])")
LISTENS = ("UI", "CODE")  # ATFT_…_HOST: where webserver, view and metrics listen; where the code server does

pytestmark = pytest.mark.deploy


@pytest.mark.parametrize("name", ["stack.sh", "entrypoint.sh"])
def test_a_script_listens_on_loopback_unless_told_otherwise(name: str) -> None:
    text = (DEPLOY / name).read_text()
    for variable in LISTENS:
        assert set(re.findall(rf"ATFT_{variable}_HOST:-([^}}]*)}}", text)) == {"127.0.0.1"}, variable
    hosts = set(re.findall(r"--(?:dashboard-)?host[ =](\S+)", text))
    assert hosts == {'"$host"', '"$ATFT_CODE_HOST"'}
    assert re.search(r"^(?:\s*)host=\$\{ATFT_UI_HOST:-127\.0\.0\.1\}", text, re.M)


def test_units_listen_on_loopback_and_rays_only_with_a_token() -> None:
    common = (DEPLOY / "systemd" / "atft-.service.d" / "atft.conf").read_text()
    for variable in LISTENS:
        assert f"ATFT_{variable}_HOST=127.0.0.1" in common
    for unit in (DEPLOY / "systemd").glob("*.service"):
        text = unit.read_text().replace("\\\n", " ")
        hosts = set(re.findall(r"--(?:dashboard-host|node-ip-address|host)[ =](\S+)", text))
        if "ray start" in text:
            assert hosts == {"${ATFT_RAY_ADDRESS}"} and "test -s ${RAY_AUTH_TOKEN_PATH}" in text, unit.name
        else:
            assert hosts <= {f"${{ATFT_{variable}_HOST}}" for variable in LISTENS}, unit.name
    assert "RAY_AUTH_MODE=token" in (DEPLOY / "ray" / "ray.env").read_text()


@pytest.mark.parametrize("module", ["atft_assets.tools.ui", "atft_assets.operations.metrics"])
def test_a_command_listens_on_loopback_unless_told_otherwise(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(module, monkeypatch)
    assert parser.get_default("host") == "127.0.0.1"


def test_a_command_that_opens_a_port_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has --port has --host: given, or required, or it listens on loopback alone."""
    without = set()
    for path in sorted((REPOSITORY / "atft_assets").rglob("*.py")):
        if "ArgumentParser(" in path.read_text() and "--port" in path.read_text():
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            if "--host" not in path.read_text():
                without.add(name)
            import_module(name)
    assert without <= {"atft_assets.sandbox.__main__"}  # tests/attack/test_secrets.py looks at its socket


def test_postgresql_has_no_port_unless_an_address_is_named() -> None:
    assert "listen_addresses='${ATFT_PG_LISTEN:-}'" in (DEPLOY / "postgres.sh").read_text()


def test_containers_are_opened_on_this_machines_loopback_alone() -> None:
    """Inside, a container listens everywhere; a network of its own is the wall."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in document["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert "network_mode" not in service, name
    assert document["networks"]["inside"] == {"internal": True}


def test_no_other_file_of_deploy_names_every_address() -> None:
    told = {
        str(path.relative_to(DEPLOY))
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.name not in ("atft.env",) and EVERYWHERE.search(path.read_text(errors="replace"))
    }
    # reload.sh asks this machine where a server was told to listen everywhere
    assert told <= {"compose.yaml", "nginx/atft.conf", "reload.sh"}
    assert EVERYWHERE.search("--host 0.0.0.0") and EVERYWHERE.search("--host ::") and not EVERYWHERE.search("a::b")
