"""`. ./env.sh` in every shell at hand, from any folder; and the root files that it points Dagster to."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
SHELLS = [shell for shell in ("bash", "sh", "dash", "zsh") if shutil.which(shell)]
NAMES = ("DAGSTER_HOME", "DAGSTER_MODULE_NAME", "DAGSTER_DISABLE_TELEMETRY", "VIRTUAL_ENV")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a blank in its path, and an environment that only marks that it was activated."""
    root = tmp_path / "a repository"
    (root / ".venv" / "bin").mkdir(parents=True)
    for name in ("env.sh", "dagster.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    (root / ".venv" / "bin" / "activate").write_text(
        f'VIRTUAL_ENV="{root}/.venv"; export VIRTUAL_ENV; PATH="$VIRTUAL_ENV/bin:$PATH"; export PATH\n'
    )
    (root / ".venv" / "bin" / "dagster").write_text('#!/bin/sh\necho "dagster $* [${DAGSTER_MODULE_NAME-unset}]"\n')
    (root / ".venv" / "bin" / "dagster").chmod(0o755)
    return root


def source(
    shell: str, root: Path, then: str, cwd: Path, environ: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    inherited = {"PATH": os.environ["PATH"], "HOME": str(root), **(environ or {})}
    script = f'set -eu; . "{root}/env.sh"; {then}'
    done = subprocess.run([shell, "-c", script], cwd=cwd, env=inherited, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def show(shell: str, root: Path, cwd: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    code, out, err = source(shell, root, "env", cwd, environ)
    assert (code, err) == (0, "")
    return {name: value for name, _, value in (line.partition("=") for line in out.splitlines()) if name in NAMES}


@pytest.mark.parametrize("shell", SHELLS)
def test_it_exports_what_dagster_needs_from_any_folder(shell: str, repository: Path, tmp_path: Path) -> None:
    for cwd in (repository, tmp_path, Path("/")):
        assert show(shell, repository, cwd) == {
            "DAGSTER_HOME": f"{repository}/.dagster_home",
            "DAGSTER_MODULE_NAME": "atft_assets.definitions",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "VIRTUAL_ENV": f"{repository}/.venv",
        }
    linked = repository / ".dagster_home" / "dagster.yaml"
    (repository / "dagster.yaml").write_text("changed: true\n")
    assert linked.read_text() == "changed: true\n"  # an edit counts at once


@pytest.mark.parametrize("shell", SHELLS)
def test_it_prints_nothing_and_keeps_what_is_exported(shell: str, repository: Path, tmp_path: Path) -> None:
    given = {
        "DAGSTER_HOME": str(tmp_path / "mine"),
        "DAGSTER_MODULE_NAME": "my.module",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dagster.yaml").write_text("mine: true\n")
    assert source(shell, repository, ":", tmp_path, given) == (0, "", "")
    shown = show(shell, repository, tmp_path, given)
    assert {name: shown[name] for name in given} == given
    assert (tmp_path / "mine" / "dagster.yaml").read_text() == "mine: true\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_twice_is_as_good_as_once(shell: str, repository: Path) -> None:
    _, once, _ = source(shell, repository, 'echo "$PATH"', repository)
    _, twice, _ = source(shell, repository, f'. "{repository}/env.sh"; echo "$PATH"', repository)
    assert once == twice


@pytest.mark.parametrize("shell", SHELLS)
def test_dagster_dev_does_not_see_the_module_and_the_other_commands_do(shell: str, repository: Path) -> None:
    _, out, _ = source(shell, repository, "dagster dev -p 1; dagster asset list", repository)
    assert out.splitlines() == ["dagster dev -p 1 [unset]", "dagster asset list [atft_assets.definitions]"]


@pytest.mark.parametrize("shell", SHELLS)
def test_without_an_environment_it_says_what_to_run(shell: str, repository: Path) -> None:
    shutil.rmtree(repository / ".venv")
    code, out, err = source(shell, repository, "echo reached", repository)
    assert code != 0 and "make setup" in err and "reached" not in out


def test_the_instance_is_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled and not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 60
        assert instance.event_log_storage.get_concurrency_info("gpu").limit == 1
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert {"key": "atft/kind", "value": "training", "limit": 1} in queue.tag_concurrency_limits
        assert instance.run_retries_enabled and not instance.run_retries_max_retries
    assert (tmp_path / "history").is_dir()


def test_without_a_home_nothing_runs_on_a_forgetful_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster reads `dagster.yaml` of the current folder even without DAGSTER_HOME; it refuses, naming the variable."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    with pytest.raises(dg.DagsterError, match="DAGSTER_HOME"):  # noqa: SIM117
        with dg.DagsterInstance.from_config(str(tmp_path)):
            pass


def test_the_workspace_names_the_code_location() -> None:
    (entry,) = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"] == {"module_name": "atft_assets.definitions", "location_name": "atft"}
