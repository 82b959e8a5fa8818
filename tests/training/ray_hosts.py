"""Two hosts of a Ray cluster on this machine, by `deploy/ray/netns.sh`: network namespaces that are there for a block.

Whatever ends the block, or the process, ends the hosts: the script watches whoever asked for them.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parents[2]
PATIENT = Path(__file__).parent / "patient_ray.py"
SCRIPT = REPOSITORY / "deploy" / "ray" / "netns.sh"
NETNS = 0x40000000  # CLONE_NEWNET
SECONDS = 600  # that Ray may take to come up; on two idle cores it takes a quarter of a minute a host
URL = "http://10.77.0.1:8265"
MISSING = [program for program in ("ip", "unshare", "setsid") if shutil.which(program) is None]


def why_not() -> str:
    """Why there can be no such hosts here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root alone"
    return f"{', '.join(MISSING)} missing: install iproute2 and util-linux" if MISSING else ""


class Hosts:
    """Host a, the head, and host b.

    Args:
        folder: for programs and logs of ours.
        seen: folders that both hosts see as they are, although they may lie under /tmp.
        variables: environment of everything on the hosts.
    """

    def __init__(self, folder: Path, seen: list[Path], variables: Mapping[str, str]):
        self.folder = folder
        self.state = Path(tempfile.mkdtemp(prefix="atft-", dir="/var/tmp"))
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (programs / "ray").write_text(f'#!/bin/sh\nexec {sys.executable} {PATIENT} "$@"\n')
        (programs / "ray").chmod(0o755)
        paths = [REPOSITORY, *seen, *(Path(p).resolve() for p in sys.path if p)]
        shared = sorted({path for path in paths if path.is_dir() and path.is_relative_to("/tmp")})
        whole = [path for path in shared if not any(path != other and path.is_relative_to(other) for other in shared)]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
            ),
            "ATFT_NETNS": str(self.state),
            "ATFT_NETNS_SHARED": ":".join(map(str, whole)),
            "ATFT_NETNS_SECONDS": str(SECONDS),
            "ATFT_NETNS_OWNER": str(os.getpid()),
            **variables,
        }

    @property
    def token_path(self) -> str:
        return str(self.state / "token")

    def space(self, host: str) -> str:
        """Name of a host's network namespace."""
        return f"{self.state.name}-{host}"

    def do(self, *command: str) -> str:
        """Carry out a command of netns.sh; what it says goes to a file, for Ray's processes keep what they inherit."""
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(
                [SCRIPT, *command], env=self.environment, stdout=said, stderr=said, timeout=3 * SECONDS
            )
            said.seek(0)
            text = said.read()
        assert done.returncode == 0, f"{command}: {text}"
        return text

    def processes(self, host: str, word: str) -> list[int]:
        """Processes that live on a host and have a word in their command line."""
        found = []
        for pid in map(int, self.do("pids", host).split()):
            try:
                process = psutil.Process(pid)
                if any(word in one for one in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
            except psutil.NoSuchProcess:
                continue
        return found


@contextmanager
def two_hosts(folder: Path, seen: list[Path], variables: Mapping[str, str]) -> Iterator[Hosts]:
    """Both hosts, up; see `Hosts`."""
    made = Hosts(folder, seen, variables)
    try:
        made.do("up")
        yield made
    finally:
        made.do("down")


@contextmanager
def network_of(hosts: Hosts, host: str) -> Iterator[None]:
    """This thread, and those that it starts, stand in a host's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before, open(f"/run/netns/{hosts.space(host)}") as there:
        assert libc.setns(there.fileno(), NETNS) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), NETNS) == 0
