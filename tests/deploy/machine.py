"""A machine to try the services on: a Debian with systemd and PostgreSQL that boots in a container (systemd-nspawn).

It shares the network of this machine, so that a test reaches its ports; nothing else. Making it takes minutes; with
ATFT_MACHINE a folder keeps it for the next time.
"""

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import until
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = ("systemd-nspawn", "debootstrap", "nsenter", "systemd-sysusers", "tar", "chroot")
PYTHON_OF_DEBIAN = (3, 11)
PACKAGES = ("systemd", "systemd-sysv", "dbus", "postgresql-15", "procps", "libgomp1")
SERVICES = ("atft-code", "atft-webserver", "atft-view", "atft-daemon")
METRICS = "atft-metrics"
PATIENCE = 600.0  # seconds; beside a busy suite the start of the code server alone has taken two minutes
LEFT_OUT = ("torch", "torch-*", "torchgen", "sympy", "nvidia", "triton", "__pycache__", "__editable__*")
OURS = ("atft_assets", "atft_model", "deploy", "pyproject.toml", "dagster.yaml", "workspace.yaml")


def require_machine() -> None:
    """Skip, with the reason, where no machine can be booted."""
    if os.getuid() != 0:
        pytest.skip("only root boots a machine")
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)} (Debian: apt-get install systemd-container debootstrap)")
    if sys.version_info[:2] != PYTHON_OF_DEBIAN:
        pytest.skip("the machine takes the packages of this Python, which must be a 3.11 as Debian's is")
    pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")


class Machine:
    """A tree that boots.

    Attributes:
        ports: of the UI, the view, the code server, PostgreSQL and the metrics.
    """

    def __init__(self, root: Path):
        self.root = root
        self.ports = {name: free_port() for name in ("ui", "view", "code", "postgres", "metrics")}
        self.log = root.parent / "boot.log"
        self.nspawn: subprocess.Popen[bytes] | None = None

    # ── making it ──

    def make(self) -> None:
        """Debian, packages, our code and units, a database; what is there already is left."""
        if not (self.root / "usr/lib/postgresql").is_dir():
            self.debian()
        self.code()
        self.settings()

    def debian(self) -> None:
        sources = Path("/etc/apt/sources.list.d/debian.sources")
        mirrors = [line.split()[1] for line in sources.read_text().splitlines() if line.startswith("URIs:")]
        first = "--include=ca-certificates,python3,python3-venv"
        self.here("debootstrap", "--variant=minbase", first, "bookworm", str(self.root), mirrors[0])
        shutil.copytree("/etc/apt/apt.conf.d", self.root / "etc/apt/apt.conf.d", dirs_exist_ok=True)
        quiet = self.root / "usr/sbin/policy-rc.d"
        quiet.write_text("#!/bin/sh\nexit 101\n")  # nothing starts while it is being made
        quiet.chmod(0o755)
        install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES)
        self.here("chroot", str(self.root), "env", "DEBIAN_FRONTEND=noninteractive", *install)
        quiet.unlink()

    def code(self) -> None:
        home = self.root / "opt/atft"
        packages = home / ".venv/lib/python3.11/site-packages"
        home.mkdir(parents=True, exist_ok=True)
        if not packages.is_dir():
            self.here("chroot", str(self.root), "python3", "-m", "venv", "--without-pip", "/opt/atft/.venv")
            without = [f"--exclude={pattern}" for pattern in LEFT_OUT]
            unpack = 'tar -C "$1" "${@:3}" -cf - . | tar -C "$2" -xf -'
            folders = dict.fromkeys(path for path in [*sys.path, *site.getsitepackages()] if "site-packages" in path)
            for folder in reversed(folders):  # what Python finds first comes last, over the others
                self.here("bash", "-c", unpack, "-", folder, str(packages), *without)
        (packages / "atft.pth").write_text("/opt/atft\n")
        for name in OURS:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.rmtree(home / name, ignore_errors=True)
                shutil.copytree(
                    source, home / name, ignore=shutil.ignore_patterns("__pycache__", "atft.env", "secrets")
                )
            else:
                shutil.copy(source, home / name)

    def settings(self) -> None:
        environment = self.root.parent / "atft.env"
        environment.write_text(
            "DAGSTER_HOME=/var/lib/atft/home\n"  # pragma: allowlist secret
            "ATFT_DATA=/var/lib/atft/data\n"
            "ATFT_PG_PATIENCE=900\n"
            f'ATFT_PG_URL="postgresql+psycopg2:///atft?host=/run/postgresql&port={self.ports["postgres"]}"\n'
            f"ATFT_UI_PORT={self.ports['ui']}\nATFT_VIEW_PORT={self.ports['view']}\n"
            f"ATFT_CODE_PORT={self.ports['code']}\nATFT_METRICS_PORT={self.ports['metrics']}\n"
            "AWS_ACCESS_KEY_ID=of-runs-alone\n"  # pragma: allowlist secret
        )
        (self.root / "etc/atft/atft.env").unlink(missing_ok=True)
        install = [str(REPOSITORY / "deploy/systemd/install.sh"), "--root", str(self.root), "--prefix", "/opt/atft"]
        self.here(*install, "--env", str(environment))
        shutil.rmtree(self.root / "var/lib/atft", ignore_errors=True)
        units = ("atft.target", f"{METRICS}.service", "postgresql.service")
        self.here("chroot", str(self.root), "systemctl", "enable", *units)
        shutil.rmtree(self.root / "var/lib/postgresql/15", ignore_errors=True)
        shutil.rmtree(self.root / "etc/postgresql/15", ignore_errors=True)
        port = str(self.ports["postgres"])
        make = ("pg_createcluster", "15", "main", "--port", port, "-o", "listen_addresses=")
        self.here("chroot", str(self.root), *make)

    def here(self, *words: str) -> None:
        """A command of this machine, that must go well."""
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1500)
        assert done.returncode == 0, f"{' '.join(words[:4])} …: {done.stdout[-1500:]}{done.stderr[-1500:]}"

    # ── using it ──

    def boot(self) -> None:
        """Switch it on; back when systemd says that everything was started."""
        with self.log.open("ab") as said:
            self.nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "-q", "-D", str(self.root), "--register=no", "--keep-unit"),
                    *("--private-users=no", "--resolv-conf=off", "--console=pipe", "--boot"),
                ],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        until(lambda: self.init(), "systemd", process=self.nspawn, log=self.log, patience=PATIENCE)
        up = ("running", "degraded")
        until(lambda: self.told("systemctl", "is-system-running") in up, "the boot", log=self.log, patience=PATIENCE)

    def init(self) -> int:
        """Number, outside, of its process 1; 0 where there is none."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.nspawn.pid).children() if self.nspawn else []:
                if child.name() == "systemd":
                    return child.pid
        return 0

    def lose_power(self) -> None:
        """Everything in it is gone at once."""
        if self.nspawn is not None:
            if init := self.init():
                os.kill(init, signal.SIGKILL)
            try:
                self.nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
            self.nspawn = None

    def told(self, *words: str) -> str:
        """What a command in it prints."""
        enter = ("nsenter", "-t", str(self.init()), "-m", "-p", "-u", "-i")
        done = subprocess.run([*enter, *words], capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.strip() or done.stderr.strip()

    def by_hand(self, *words: str) -> str:
        """What a person's command prints that runs as a service does."""
        return self.told("/opt/atft/deploy/systemd/run.sh", *words)

    def main_pid(self, unit: str) -> int:
        """The main process of a unit, as numbered inside; 0 while there is none."""
        return int(self.told("systemctl", "show", "-P", "MainPID", unit) or 0)

    def journal(self) -> str:
        return self.told("journalctl", "-b", "--no-pager", "-n", "60", "-u", "atft-*")

    def query(self, document: str, port: str = "ui", path: str = "/graphql") -> Any:
        """The UI's answer to a document of GraphQL; None while it does not serve."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[port]}{path}",
            json.dumps({"query": document}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def wait(self, condition: Any, what: str) -> Any:
        """As `until`; in vain it tells the journal."""
        try:
            return until(condition, what, patience=PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.journal()}") from error


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine that is off."""
    require_machine()
    kept = os.environ.get("ATFT_MACHINE")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="atft-machine-", dir="/var/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    one = Machine(folder / "root")
    began = time.monotonic()
    try:
        one.make()
        print(f"the machine was made in {time.monotonic() - began:.0f} s")
        yield one
    finally:
        one.lose_power()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
