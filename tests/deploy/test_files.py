"""The files of deploy/: the instance file is the canonical one with another storage, every variable is explained."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from atft_assets.host import VARIABLE as HOST_VARIABLE
from tests.test_readme import variables_read

pytestmark = pytest.mark.deploy

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
EXAMPLE = DEPLOY / "atft.env.example"
NAME = re.compile(r"\b(?:(?:ATFT|JQUANTS|DAGSTER|AWS)_[A-Z0-9_]*[A-Z0-9]|PG[A-Z]+)\b")

SET_THERE = {"DAGSTER_DISABLE_TELEMETRY"}  # that a file of deploy/ sets itself, to one value
READ_BY_PROGRAMS = {HOST_VARIABLE, "PGPASSFILE"}  # by ours (not through settings), by PostgreSQL's library
READ_BY_CLIENTS_OF_BUCKETS = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP",
}  # fmt: skip
TAKEN_AWAY = {"AWS_SESSION_TOKEN"}  # that nobody sets here, and a service must not have
# A container is given secrets as files, by compose.yaml; what the entrypoint makes of them is in no environment file.
OF_CONTAINERS = {"JQUANTS_API_KEY_FILE", "ATFT_ALERT_URLS_FILE", "PGPASSWORD_FILE", "PGPASSWORD"}
OF_TRIALS = {"deploy/image_test.sh", "deploy/ray/netns.sh"}  # try things out; their first lines say what they read


def assigned() -> dict[str, str]:
    """Variables of the example, commented out or not, and their values."""
    lines = EXAMPLE.read_text().splitlines()
    return {m[1]: m[2].strip('"') for line in lines if (m := re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line))}


def used() -> dict[str, set[str]]:
    """Variables that the files of deploy/ name, and where."""
    found: dict[str, set[str]] = {}
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and path != EXAMPLE and path.suffix != ".md" and path.name != "atft.env":
            for name in NAME.findall(path.read_text()):
                found.setdefault(name, set()).add(str(path.relative_to(REPOSITORY)))
    return found


def without_storage(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return {name: value for name, value in document.items() if name != "storage"}


def test_the_instance_file_differs_from_the_canonical_one_in_its_storage_alone() -> None:
    ours = yaml.safe_load((DEPLOY / "dagster.postgres.yaml").read_text())
    assert without_storage(DEPLOY / "dagster.postgres.yaml") == without_storage(REPOSITORY / "dagster.yaml")
    assert ours["storage"] == {
        "custom": {
            "module": "atft_assets.postgres",
            "class": "PatientPostgresStorage",
            "config": {"postgres_url": {"env": "ATFT_PG_URL"}},
        }
    }


def test_every_variable_that_is_used_is_in_the_example() -> None:
    elsewhere = {*SET_THERE, *TAKEN_AWAY, *OF_CONTAINERS}
    lacking = {
        name: where for name, where in used().items() if name not in {*assigned(), *elsewhere} and where - OF_TRIALS
    }
    assert lacking == {}, f"write them into {EXAMPLE.name}, with what they mean"
    assert variables_read() - set(assigned()) == set(), "what the platform reads can be set on a server too"


def test_every_variable_of_the_example_is_used() -> None:
    read = {*used(), *variables_read(), *READ_BY_PROGRAMS, *READ_BY_CLIENTS_OF_BUCKETS}
    assert set(assigned()) - read == set()


def test_what_is_not_in_the_example_is_told_where_it_is_read() -> None:
    compose, entrypoint = (DEPLOY / name for name in ("compose.yaml", "entrypoint.sh"))
    for name in OF_CONTAINERS:
        assert name.removesuffix("_FILE") in entrypoint.read_text() and name in compose.read_text(), name
    for name, where in used().items():
        if where <= OF_TRIALS and name not in assigned():
            for file in where:
                head = (REPOSITORY / file).read_text().partition("\nset -euo pipefail")[0]
                assert re.search(rf"^# {name} ", head, re.M), f"{file} does not say what {name} is"


def test_keys_are_not_exported_empty() -> None:
    """An empty key reads as one that did not arrive, and the source warns of it at every run."""
    uncommented = re.findall(r"^([A-Z_]+)=$", EXAMPLE.read_text(), re.M)
    assert uncommented == []


def test_the_example_holds_no_secret() -> None:
    values = assigned()
    assert {name: values[name] for name in ("JQUANTS_API_KEY", "ATFT_ALERT_URLS", "ATFT_SANDBOX_KEY")} == {
        "JQUANTS_API_KEY": "",
        "ATFT_ALERT_URLS": "",
        "ATFT_SANDBOX_KEY": "",
    }
    assert re.fullmatch(r"postgresql\+psycopg2://[^:@/]+@.*", values["ATFT_PG_URL"])  # a role, no password
    assert "/deploy/atft.env" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_a_shell_reads_the_example_as_it_is_meant() -> None:
    printed = subprocess.run(
        ["bash", "-c", f"set -a; . {EXAMPLE}; printf %s \"$ATFT_PG_URL\""], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert printed.stdout == assigned()["ATFT_PG_URL"] and printed.stderr == ""


@pytest.mark.parametrize("script", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_can_be_run_and_parsed(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def postgres_sh(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [DEPLOY / "postgres.sh", *words]
    return subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environ}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        ((), {}, "say what to do: init, start, stop, status or url"),
        (("drop",), {}, "say what to do"),
        (("init",), {}, "ATFT_PG_CLUSTER is not set"),
        (("init",), {"ATFT_PG_CLUSTER": "here"}, "give the whole path"),
        (("init",), {"ATFT_PG_CLUSTER": "/x" * 50}, "has 100 characters"),
    ],
)
def test_the_clusters_script_says_what_is_missing(words: tuple[str, ...], environ: dict[str, str], said: str) -> None:
    done = postgres_sh(*words, **environ)
    assert done.returncode == 2 and said in done.stderr


def test_a_cluster_that_is_there_is_not_made_again_and_none_is_not_started(tmp_path: Path) -> None:
    if shutil.which("initdb") is None and not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("no PostgreSQL here: apt-get install --no-install-recommends postgresql-15")
    place = {"ATFT_PG_CLUSTER": str(tmp_path)}
    assert "there is no cluster" in postgres_sh("start", **place).stderr
    (tmp_path / "data").mkdir()
    done = postgres_sh("init", **place)
    assert done.returncode == 2 and "is there already; nothing was changed" in done.stderr
    assert list((tmp_path / "data").iterdir()) == []


def proxy_sh(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [DEPLOY / "nginx" / "install.sh", "--root", root, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_proxy_is_installed_and_its_logins_stay(tmp_path: Path) -> None:
    nginx, pair = tmp_path / "root/etc/nginx", [tmp_path / "crt", tmp_path / "key"]
    for path in pair:
        path.write_text(path.name)
    words = ("atft.example.com", *map(str, pair))
    assert "apt-get install nginx-light" in proxy_sh(tmp_path / "root", *words).stderr
    (nginx / "conf.d").mkdir(parents=True)
    (nginx / "sites-enabled").mkdir()
    (nginx / "sites-enabled/default").touch()
    for logins in ("", "taro:$2y$05$x"):
        done = proxy_sh(tmp_path / "root", *words)
        assert done.returncode == 0, done.stderr
        assert (nginx / "atft/operators").read_text() == logins
        (nginx / "atft/operators").write_text("taro:$2y$05$x")
    text = (nginx / "atft/atft.conf").read_text()
    assert text.count("server_name atft.example.com;") == 1 and "example.org" not in text
    named = set(re.findall(r"/etc/nginx/(atft/\w[\w.]*)", text)) | {"atft/atft.conf"}
    modes = {name: (nginx / name).stat().st_mode & 0o777 for name in named - {"atft/atft.conf"}}
    secret = {"atft/tls.key": 0o600, "atft/operators": 0o640, "atft/viewers": 0o640}
    assert modes == {"atft/proxy_params.conf": 0o644, "atft/tls.crt": 0o644, **secret}
    assert os.readlink(nginx / "conf.d/atft.conf") == "/etc/nginx/atft/atft.conf"
    assert list((nginx / "sites-enabled").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [(("x",), "give a name"), (("a/b", "c", "k"), "a/b is no name"), (("a", "absent", "k"), "absent cannot be read")],
)
def test_the_proxys_script_says_what_is_missing(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = proxy_sh(tmp_path, *words)
    assert done.returncode == 2 and said in done.stderr


def test_the_daemon_begins_when_the_code_answers(tmp_path: Path) -> None:
    """A python that answers the third time stands for the code server that is being loaded."""
    python, asked = tmp_path / "python", tmp_path / "asked"
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ "$(wc -l < {asked})" -ge 3 ]\n')
    python.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "ATFT_PYTHON": str(python), "ATFT_CODE_PORT": "4270"}
    done = subprocess.run(
        [DEPLOY / "await_code.sh", "echo", "begun"], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "begun\n")
    assert asked.read_text().splitlines() == ["-m dagster api grpc-health-check --host 127.0.0.1 --port 4270"] * 3
    for name in ("stack.sh", "entrypoint.sh", "systemd/atft-daemon.service"):
        assert re.search(r"await_code\.sh\S* \S+ -m dagster\._daemon run", (DEPLOY / name).read_text()), name
