"""The systemd units: nothing that systemd warns of, hardened, pointing at what exists; install.sh may run twice."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SYSTEMD = REPOSITORY / "deploy" / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.iterdir() if path.suffix in (".service", ".timer", ".target"))
SERVICES = [name for name in UNITS if name.endswith(".service")]
EXPOSED = 3.0  # of 10; systemd calls up to 4.9 "medium"; seen: 2.3
# what the units name of systemd's own, empty: a whole /usr/lib/systemd would be verified along
OTHERS = (
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "multi-user.target",
    "network-online.target",
    "timers.target",
    "time-set.target",
    "time-sync.target",
    "postgresql.service",
)

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(
        not (shutil.which("systemd-analyze") and shutil.which("systemd-sysusers")),
        reason="no systemd-analyze on this machine (Debian: apt-get install systemd)",
    ),
]


def install(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SYSTEMD / "install.sh"), "--root", str(root), "--prefix", "/opt/atft", *options],
        capture_output=True,
        text=True,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A machine's tree with the units installed, and stand-ins of the programs that they start."""
    root, environment = tmp_path / "root", tmp_path / "atft.env"
    environment.write_text("ATFT_DATA=/srv/market\nDAGSTER_HOME='/var/lib/atft/home'\n")
    done = install(root, "--env", str(environment))
    assert done.returncode == 0, done.stderr
    programs = {Path(words[0]) for name in SERVICES for words in commands(name)}
    for program in programs:
        path = root / program.relative_to("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    for name in OTHERS:
        text = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
        more = "[Service]\nExecStart=/opt/atft/.venv/bin/python\n" if name.endswith(".service") else ""
        (root / "etc/systemd/system" / name).write_text(text + more)
    return root


def commands(name: str) -> Iterator[list[str]]:
    """Words of what a unit starts."""
    text = (SYSTEMD / name).read_text().replace("\\\n", " ")
    for line in re.findall(r"^Exec\w+=(.*)$", text, re.M):
        yield shlex.split(line)


def verified(root: Path, name: str) -> str:
    """All that systemd says of a unit; its exit code tells nothing, for a misspelt key is only a line of output."""
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", "--man=no", name], capture_output=True, text=True
    )
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say(tree: Path, name: str) -> None:
    assert verified(tree, name) == ""


@pytest.mark.parametrize("folder", ["atft-code.service", "atft-.service.d/atft.conf"])
def test_a_misspelt_key_would_be_said(tree: Path, folder: str) -> None:
    path = tree / "etc/systemd/system" / folder
    path.write_text(path.read_text().replace("[Service]\n", "[Service]\nRestrat=always\n"))
    assert "Restrat" in verified(tree, "atft-code.service")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(tree: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--root={tree}", name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (exposure,) = re.findall(r"exposure level for \S+ ([\d.]+)", done.stdout)
    assert float(exposure) <= EXPOSED, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_starts_exists_with_its_options(name: str) -> None:
    for words in commands(name):
        program = Path(words[0])
        if program.is_relative_to("/opt/atft/deploy"):
            path = REPOSITORY / program.relative_to("/opt/atft")
            assert path.stat().st_mode & 0o111, f"{path} cannot be run"
            if program.name == "await_code.sh":  # becomes the command that it is given
                words = words[1:]
        if words[1:2] == ["-m"]:
            command = tuple(takewhile(lambda word: not word.startswith("--"), words[2:]))
            given = {word for word in words if word.startswith("--")}
            assert find_spec(command[0]), f"there is no module {command[0]}"
            assert given - (options(command) if given else set()) == set(), (
                f"{name}: {' '.join(command)} does not know them"
            )
        for path in (word for word in words[1:] if word.startswith("/opt/atft/")):
            assert path == "/opt/atft/deploy/workspace.grpc.yaml"


@cache
def options(command: tuple[str, ...]) -> set[str]:
    """Options that a command of Python tells of."""
    done = subprocess.run([sys.executable, "-m", *command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(re.findall(r"--[a-z-]+", done.stdout))


def test_only_the_code_server_is_given_the_keys() -> None:
    """Runs are its children; what answers browsers needs neither the key nor the addresses of alerts."""
    for name in SERVICES:
        unit = parsed(SYSTEMD / name)
        taken = unit.get("Service", "UnsetEnvironment", fallback="").split()
        wanted = set() if name == "atft-code.service" else {"JQUANTS_API_KEY", "ATFT_ALERT_URLS", "ATFT_PG_PATIENCE"}
        if name in ("atft-webserver.service", "atft-view.service", "atft-daemon.service"):  # read nothing of the data
            wanted |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
        assert set(taken) == wanted, name


def test_a_stop_ends_the_runs_with_their_server_and_leaves_a_training_its_time() -> None:
    common = parsed(SYSTEMD / "atft-.service.d" / "atft.conf")
    assert common.get("Service", "KillMode") == "control-group"
    assert common.getint("Service", "TimeoutStopSec") == 90
    # a lock of a GPU in a /tmp of its own would be seen by nobody
    assert "PrivateTmp" not in common["Service"] and "PrivateDevices" not in common["Service"]
    assert parsed(SYSTEMD / "atft-reaper.timer").get("Timer", "AccuracySec") == "1s"


def test_the_target_wants_what_is_always_on() -> None:
    target = set(parsed(SYSTEMD / "atft.target").get("Unit", "Wants").split())
    rest = {"atft-reaper.service", "atft-metrics.service", "atft-ray-head.service", "atft-ray-worker.service"}
    assert target == {name for name in UNITS if not name.endswith(".target")} - rest


def parsed(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text().replace("\\\n", " "))
    return parser


def test_installing_twice_changes_nothing_and_keeps_what_a_person_wrote(tree: Path, tmp_path: Path) -> None:
    environment = tree / "etc/atft/atft.env"
    assert environment.stat().st_mode & 0o777 == 0o600 and environment.parent.stat().st_mode & 0o777 == 0o711
    environment.write_text("ATFT_DATA=/srv/other\n")
    first = contents(tree)
    assert install(tree, "--env", str(tmp_path / "atft.env")).returncode == 0
    second = contents(tree)
    assert environment.read_text() == "ATFT_DATA=/srv/other\n"
    changed = {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}
    assert changed == {"etc/systemd/system/atft-.service.d/places.conf"}  # the other place that the person named
    assert "ReadWritePaths=/srv/other\n" in second[changed.pop()].decode()
    assert "\natft:" in "\n" + (tree / "etc/passwd").read_text()


def test_without_an_environment_file_the_example_is_taken_with_debians_database(tmp_path: Path) -> None:
    assert install(tmp_path).returncode == 0
    written = tmp_path / "etc/atft/atft.env"
    assert written.stat().st_mode & 0o777 == 0o600
    ours, example = (path.read_text().splitlines() for path in (written, REPOSITORY / "deploy/atft.env.example"))
    changed = [line for line, before in zip(ours, example, strict=True) if line != before]
    assert changed == ['ATFT_PG_URL="postgresql+psycopg2:///atft?host=/run/postgresql"']


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_another_place_of_the_repository_stands_in_every_unit(tmp_path: Path) -> None:
    (tmp_path / "env").touch()
    done = install(tmp_path, "--prefix", "/srv/atft", "--env", str(tmp_path / "env"))
    assert done.returncode == 0, done.stderr
    units = list((tmp_path / "etc/systemd/system").rglob("atft*.*"))
    assert len([path for path in units if path.is_file()]) == len(UNITS) + 1
    assert [path.name for path in units if path.is_file() and "/opt/atft" in path.read_text()] == []


@pytest.mark.parametrize(
    ("options", "environment", "why"),
    [
        (("--prefix", "/home/taro/atft"), "", "the services do not see /home/taro/atft"),
        (("--prefix", "/opt/a b"), "", "holds more than letters"),
        ((), "ATFT_DATA=/home/taro/data\n", "ATFT_DATA is /home/taro/data, which the services do not see"),
        ((), "DAGSTER_HOME=data/home\n", "give the whole path"),
        (("--colour", "red"), "", "--colour is unknown"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, options: tuple[str, ...], environment: str, why: str) -> None:
    (tmp_path / "env").write_text(environment)
    done = install(tmp_path / "root", "--env", str(tmp_path / "env"), *options)
    assert done.returncode == 2 and why in done.stderr
