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
NAMES = ("ATFT_DATA", "DAGSTER_HOME", "DAGSTER_MODULE_NAME", "DAGSTER_DISABLE_TELEMETRY", "VIRTUAL_ENV")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a blank in its path, and an environment that only marks that it was activated."""
    root = tmp_path / "a repository"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / "bin").mkdir()
    for name in ("env.sh", "dagster.yaml", "workspace.yaml", "bin/dagster"):
        shutil.copy(REPOSITORY / name, root / name)
    (root / ".venv" / "bin" / "activate").write_text(
        f'VIRTUAL_ENV="{root}/.venv"; export VIRTUAL_ENV; PATH="$VIRTUAL_ENV/bin:$PATH"; export PATH\n'
    )
    scripts = {
        "dagster": 'echo "dagster $* [${DAGSTER_MODULE_NAME-unset}] in $(pwd -P)"',
        "python": 'echo "python $* for $DAGSTER_HOME" >> "$HOME/asked"; exit "${ANSWER:-0}"',
    }
    for name, line in scripts.items():
        (root / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (root / ".venv" / "bin" / name).chmod(0o755)
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
            "ATFT_DATA": f"{repository}/data",
            "DAGSTER_HOME": f"{repository}/data/.dagster_home",
            "DAGSTER_MODULE_NAME": "atft_assets.definitions",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "VIRTUAL_ENV": f"{repository}/.venv",
        }
    linked = repository / "data" / ".dagster_home" / "dagster.yaml"
    (repository / "dagster.yaml").write_text("changed: true\n")
    assert linked.read_text() == "changed: true\n"  # an edit counts at once


@pytest.mark.parametrize("shell", SHELLS)
def test_it_prints_nothing_and_keeps_what_is_exported(shell: str, repository: Path, tmp_path: Path) -> None:
    given = {
        "ATFT_DATA": str(tmp_path / "data"),
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
@pytest.mark.parametrize(
    ("data", "home"),
    [
        ("/tmp/x/", "/tmp/x/.dagster_home"),
        ("there/data", "{cwd}/there/data/.dagster_home"),
        ("~/data", "{root}/data/.dagster_home"),
        ("file:///tmp/x", "/tmp/x/.dagster_home"),
        ("s3://bucket/a b", "{root}/.dagster_homes/s3___bucket_a_b"),
    ],
)
def test_the_home_is_the_data_root_s(shell: str, repository: Path, tmp_path: Path, data: str, home: str) -> None:
    shown = show(shell, repository, tmp_path, {"ATFT_DATA": data.replace("/tmp", str(tmp_path))})
    expected = home.replace("/tmp", str(tmp_path), 1).format(cwd=tmp_path, root=repository)
    assert shown["DAGSTER_HOME"] == expected
    assert Path(expected).stat().st_mode & 0o777 == 0o700 and Path(expected, "dagster.yaml").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_derived_home_follows_the_data_root_and_an_exported_one_stays(shell: str, repository: Path) -> None:
    again = f'. "{repository}/env.sh"; echo "$DAGSTER_HOME"'
    then = f'ATFT_DATA="{repository}/b"; {again}; DAGSTER_HOME="{repository}/mine"; ATFT_DATA="{repository}/c"; {again}'
    _, out, err = source(shell, repository, then, repository, {"ATFT_DATA": f"{repository}/a"})
    assert out.splitlines() == [f"{repository}/b/.dagster_home", f"{repository}/mine"] and err == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("answer", ["0", "3"])
def test_the_home_of_before_is_asked_for_once_and_used_where_it_must_stay(
    shell: str, repository: Path, answer: str
) -> None:
    before = repository / ".dagster_home"
    (before / "history").mkdir(parents=True)
    given = {"ANSWER": answer, "DAGSTER_HOME": str(before)}  # as the env.sh of before exported it
    new = f"{repository}/data/.dagster_home"
    assert show(shell, repository, repository, given)["DAGSTER_HOME"] == (new if answer == "0" else str(before))
    asked = repository / "asked"
    assert asked.read_text() == f"python -m atft_assets.tools.home --adopt {before} for {new}\n"
    show(shell, repository, repository, given)
    assert len(asked.read_text().splitlines()) == (1 if answer == "0" else 2)


@pytest.mark.parametrize("shell", SHELLS)
def test_where_no_home_can_be_made_the_data_can_still_be_read(shell: str, repository: Path) -> None:
    (repository / "file").write_text("")
    given = {"ATFT_DATA": f"{repository}/file"}
    assert source(shell, repository, "echo reached", repository, given) == (0, "reached\n", "")


WORDS = {  # a command, and what Dagster is given
    "dagster dev -p 1": "dagster dev -p 1 --workspace {root}/workspace.yaml [unset] in {root}/data/.dagster_home",
    "dagster dev -w mine": "dagster dev -w mine [unset] in {root}",
    "dagster asset list": "dagster asset list [atft_assets.definitions] in {root}",
    "dagster asset list -f defs.py": "dagster asset list -f defs.py [unset] in {root}",
    "touch .env; dagster dev": "dagster dev --workspace {root}/workspace.yaml [unset] in {root}",
    "cd data; dagster dev": "dagster dev --workspace {root}/workspace.yaml [unset] in {root}/data",
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("command", "given"), WORDS.items())
def test_dagster_sees_the_module_unless_code_is_named(shell: str, repository: Path, command: str, given: str) -> None:
    code, out, err = source(shell, repository, command, repository)
    assert (code, out, err) == (0, given.format(root=repository) + "\n", "")
    assert (
        repository / "asked"
    ).read_text() == f"python -m atft_assets.tools.home for {repository}/data/.dagster_home\n"


@pytest.mark.parametrize("words", [["nice", "-n", "5"], ["nohup"], ["env", "-i", "HOME={root}", "PATH=/usr/bin:/bin"]])
def test_dagster_needs_no_shell_that_was_prepared(repository: Path, tmp_path: Path, words: list[str]) -> None:
    """As a unit file, cron, or a link in a folder on PATH calls it."""
    link = tmp_path / "link"
    link.symlink_to(repository / "bin" / "dagster")
    for path in (repository / "bin" / "dagster", link):
        line = [*(word.format(root=repository) for word in words), str(path), "dev"]
        inherited = {"PATH": os.environ["PATH"], "HOME": str(repository)}
        out = subprocess.run(line, cwd="/", env=inherited, capture_output=True, text=True, check=True).stdout
        assert out == f"dagster dev --workspace {repository}/workspace.yaml [unset] in /\n"


def test_a_home_that_cannot_be_used_stops_the_command(repository: Path) -> None:
    code, out, _ = source("bash", repository, "dagster asset list", repository, {"ANSWER": "2"})
    assert (code, out) == (2, "")


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
