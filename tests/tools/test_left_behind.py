"""Which command lines are services that a crash may leave behind, and which processes are left alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from atft_assets.tools.left_behind import end_services, kind_of, left_behind, remove_folders
from atft_assets.tools.services import PARENT, living
from tests.patience import until

# a service in name only: argv[0] is replaced by nothing, the words behind it are what the reaper reads
STUB = "import time\ntime.sleep(300)\n"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("-m dagster_webserver --port 3000 --shutdown-pipe 5", "webserver"),
        ("/env/bin/dagster-webserver --port 3000", "webserver"),
        ("-m atft_assets.tools.webserver --workspace w --host 127.0.0.1", "webserver"),
        ("-m dagster._daemon run --log-level info", "daemon"),
        ("/env/bin/dagster-daemon run", "daemon"),
        ("-m dagster code-server start --socket s", "code server"),
        ("/env/bin/dagster api grpc --lazy-load-user-code", "code server"),
        ("/env/bin/dagster dev -p 3000", ""),
        ("/env/bin/dagster asset materialize --select labels", ""),
        ("-m atft_model train --request r.json", ""),
        ("notes-on-dagster-daemon run.txt", ""),
    ],
)
def test_services_are_known_by_their_command_lines(words: str, kind: str) -> None:
    assert kind_of(words) == kind


class Stubs:
    """Processes whose command lines read like those of Dagster's services."""

    def __init__(self, folder: Path):
        self.folder, self.made = folder, list[subprocess.Popen[bytes]]()
        for name in ("dagster-daemon", "dagster-webserver"):
            (folder / name).write_text(STUB)

    def start(self, *words: str, home: Path, **environment: str) -> psutil.Process:
        command = [sys.executable, str(self.folder / words[0]), *words[1:]]
        variables = {name: value for name, value in os.environ.items() if name != PARENT}
        self.made.append(subprocess.Popen(command, env={**variables, "DAGSTER_HOME": str(home), **environment}))
        process = psutil.Process(self.made[-1].pid)
        until(lambda: words[-1] in process.cmdline())
        return process


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    one = Stubs(tmp_path)
    yield one
    for process in one.made:
        process.kill()
        process.wait()


def test_only_what_its_starter_left_is_ended(stubs: Stubs, tmp_path: Path) -> None:
    """This test is no `dagster dev`: what carries a pipe, or another process as its watcher, has lost its starter."""
    home, other = tmp_path / "home", tmp_path / "other"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ended = [
        stubs.start("dagster-daemon", "run", "--shutdown-pipe", "5", home=home),
        stubs.start("dagster-webserver", "--shutdown-pipe", "6", home=home),
        stubs.start("dagster-daemon", "run", "--workspace", "w", home=home, **{PARENT: str(gone.pid)}),
    ]
    stays = [
        stubs.start("dagster-daemon", "run", "--workspace", "w", home=home),  # a service manager's
        stubs.start("dagster-daemon", "run", "--shutdown-pipe", "5", home=other),
        stubs.start("dagster-daemon", "run", "--workspace", "w", home=home, **{PARENT: str(os.getpid())}),
    ]
    lines = list(end_services(home))
    assert len(lines) == len(ended) and all(f"process {one.pid}:" in "\n".join(lines) for one in ended)
    assert [one.pid for one in ended if living(one)] == [] and all(living(one) for one in stays)
    assert list(left_behind(home)) == []


def test_folders_of_killed_uis_go(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        (tmp_path / f"atft-ui-{pid}-abc").mkdir()
    assert len(list(remove_folders(tmp_path))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"atft-ui-{os.getpid()}-abc"]
