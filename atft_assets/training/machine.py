"""What this machine has for a training: GPUs, memory, disk and quota, cores. Read here, judged in `readiness`."""

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from atft_model.interchange import devices
from atft_model.interchange.gpus import HOW_TO_INSTALL, Gpu, Gpus, NoGpu

CGROUP = Path("/sys/fs/cgroup")
MIB, KIB = 1 << 20, 1 << 10
SMI = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.used,memory.total", "--format=csv,noheader,nounits")
QUOTA = ("quota", "-w", "-p", "-f")
ASKED_SECONDS = 20
DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class Machine:
    """This machine now.

    Attributes:
        gpus: that the driver shows, and that a trainer may use.
        why_unread: why nothing is known of a GPU that may be there; empty where all is known.
        ram_free: bytes that a new process may take, by the system and by the control group that holds this one.
        disk_free: bytes free on the volume of the run directory.
        quota_free: bytes that this user may still write there; None: no quota, or none that is told.
        cores: that this process may use.
        load: processes that wanted a core over the last minute.
    """

    gpus: tuple[Gpu, ...]
    why_unread: str
    ram_free: int
    disk_free: int
    quota_free: int | None
    cores: int
    load: float


def this_machine(place: Path) -> Machine:
    """What is there for a run directory below a place, which need not exist yet."""
    while not place.exists():
        place = place.parent
    gpus, why = visible_gpus()
    return Machine(
        gpus=usable(gpus),
        why_unread=why,
        ram_free=free_ram(),
        disk_free=shutil.disk_usage(place).free,
        quota_free=quota_left(place),
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
    )


def visible_gpus(driver: Path = DRIVER, command: Sequence[str] = SMI) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs, and why nothing is known of them: by NVIDIA's library, else by its command."""
    try:
        gpus = Gpus(importlib.import_module("pynvml"))
    except ImportError:
        why = HOW_TO_INSTALL
    except NoGpu as error:
        why = str(error)
    else:
        try:
            return tuple(gpus.read()), ""
        except NoGpu as error:
            why = str(error)
        finally:
            gpus.close()
    if shutil.which(command[0]) is None:
        return (), why if driver.exists() else ""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASKED_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        return (), f"{why}; {command[0]} failed too: {error}"
    return tuple(gpus_of(answer.stdout)), ""


def usable(gpus: Sequence[Gpu], environ: Mapping[str, str] | None = None, driver: Path = DRIVER) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves to a trainer; all of them where it names a slice of a card.

    Args:
        environ: a trainer's environment; default: this process's, which it inherits.
    """
    if (os.environ if environ is None else environ).get(devices.VISIBLE) is None:
        return tuple(gpus)
    named = devices.gpus(environ, driver)
    if any(name.startswith("MIG-") for name in named):
        return tuple(gpus)
    return tuple(gpu for gpu in gpus if gpu.uuid in named or str(gpu.index) in named)


def gpus_of(text: str) -> list[Gpu]:
    """The GPUs in the answer of `nvidia-smi` to `SMI`; numbers that it does not tell are None."""
    found = []
    for line in filter(str.strip, text.splitlines()):
        index, uuid, name, used, total = (word.strip() for word in line.split(","))
        found.append(Gpu(int(index), uuid, name, None, _mib(used), _mib(total), None, None))
    return found


def _mib(word: str) -> int | None:
    return int(word) * MIB if word.isdigit() else None


def free_ram(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that a new process may take: of the machine, and no more than a container allows."""
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            allowed, taken = (cgroup / limit).read_text().strip(), int((cgroup / used).read_text())
        except (OSError, ValueError):
            continue
        if allowed.isdigit():  # "max" is no limit
            free = min(free, max(0, int(allowed) - taken))
    return free


def quota_left(place: Path, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> int | None:
    """Bytes that this user's quota still leaves at a place; None where there is none, or nobody tells it.

    Args:
        run: as `subprocess.run`; it asks the command `quota` (package quota), which needs no root.
    """
    if run is subprocess.run and shutil.which(QUOTA[0]) is None:
        return None
    try:
        answer = run([*QUOTA, str(place)], capture_output=True, text=True, timeout=ASKED_SECONDS, check=False)
    except (subprocess.SubprocessError, OSError):
        return None
    return least_left(answer.stdout)


def least_left(text: str) -> int | None:
    """The least that any line of `quota -w -p` leaves, in bytes; a limit of 0 is none."""
    left = []
    for line in text.splitlines():
        # file system, blocks of 1 KiB in use (starred when over), soft limit, hard limit, grace …
        if found := re.match(r"\s*\S+\s+(\d+)\*?\s+(\d+)\s+(\d+)\s+\d+", line):
            used, soft, hard = map(int, found.groups())
            if limits := [limit for limit in (soft, hard) if limit]:
                left.append(max(0, min(limits) - used) * KIB)
    return min(left, default=None)
