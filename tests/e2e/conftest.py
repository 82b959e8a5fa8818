"""The road as a person walks it: `make road` in a shell, on the embedded sandbox, two years and one epoch a phase."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "PIP_INDEX_URL")


@dataclass(frozen=True)
class Shell:
    """Runs command lines in the repository with data and Dagster's state in folders of their own."""

    data: Path
    home: Path
    exports: tuple[tuple[str, str], ...] = ()

    @property
    def environ(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {
            **inherited,
            "ATFT_DATA": str(self.data),
            "DAGSTER_HOME": str(self.home),
            "ATFT_START": "2022-01-04",
            "ATFT_END": "2023-12-29",
            **dict(self.exports),
        }

    def popen(self, line: str, **options) -> subprocess.Popen:
        return subprocess.Popen(["bash", "-c", line], cwd=REPOSITORY, env=self.environ, text=True, **options)

    def run(self, line: str, timeout: float = 560) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            cwd=REPOSITORY,
            env=self.environ,
            text=True,
            check=False,
            timeout=timeout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="session")
def new_shell(tmp_path_factory):
    """Makes shells with empty folders."""

    def make(**exports: str) -> Shell:
        root = tmp_path_factory.mktemp("atft")
        return Shell(root / "data", root / "home", tuple(exports.items()))

    return make


@dataclass(frozen=True)
class Built:
    shell: Shell
    printed: str


@pytest.fixture(scope="session")
def built(new_shell, tmp_path_factory) -> Built:
    """A walked road; session-wide, so tests must leave it as usable as they found it."""
    shell = new_shell()
    config = tmp_path_factory.mktemp("config") / "one_epoch.yaml"
    phases = "".join(f"  train_phase{k}:\n    config: {{curriculum: {{epochs: 1}}}}\n" for k in range(4))
    config.write_text(f"ops:\n{phases}")
    done = shell.run(f"make road CONFIG={config}", timeout=560)
    assert done.returncode == 0, done.stdout[-6000:]
    return Built(shell, done.stdout)
