"""Names of this machine's devices, and of the files whose locks stand for them.

A GPU is named by its UUID, as the driver tells it under /proc: the same in every process, whatever it may see of the
machine and in whatever order. `CUDA_VISIBLE_DEVICES` narrows it down, by UUID or by place in the order of the bus.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia")
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
CPU_LOCK = ".cpu.lock"


@dataclass(frozen=True)
class Place:
    """Where one of several trainings of a machine runs.

    Attributes:
        lock: file whose lock stands for it.
        environment: variables by which the process sees its device alone.
    """

    lock: Path
    environment: Mapping[str, str]


def gpus(environ: Mapping[str, str] | None = None, driver: Path = DRIVER) -> list[str]:
    """The GPUs that a process may use, in its order: UUIDs, or the exported places where no driver tells more.

    Args:
        environ: its environment; default: this process's.
        driver: where the driver tells of its devices.
    """
    known = _known(driver)
    visible = (os.environ if environ is None else environ).get(VISIBLE)
    if visible is None:
        return known or (["0"] if driver.exists() else [])
    found: list[str] = []
    for text in map(str.strip, visible.split(",")):
        if text.isdigit():
            found.append(known[int(text)] if int(text) < len(known) else text)
        elif text.startswith(("GPU-", "MIG-")):
            same = [uuid for uuid in known if uuid.startswith(text)]
            found.append(same[0] if len(same) == 1 else text)
        else:
            break  # as CUDA does: what it does not understand ends the list
    return found


def _known(driver: Path) -> list[str]:
    """UUIDs of all GPUs of the machine, in the order of the bus."""
    texts = [path.read_text(errors="replace") for path in sorted(driver.glob("gpus/*/information"))]
    found = [re.search(r"GPU UUID:\s*(GPU-\S+)", text) for text in texts]
    return [match[1] for match in found if match]


def lock_folder(folder: str | Path | None) -> Path:
    """Where the locks of GPUs stand: a folder that all users of the machine share."""
    return Path(folder) if folder else Path(tempfile.gettempdir())


def places(
    device: str, runs: Path, count: int = 1, folder: str | Path | None = None, driver: Path = DRIVER
) -> list[Place]:
    """Places for some trainings at a time: GPU after GPU, in turn; without one, the processor, shared.

    Args:
        device: auto, cpu or cuda.
        runs: folder of the runs; the processor's locks stand there, for they are those of one data root.
        folder: of the locks of GPUs; default: the machine's temporary folder.
        driver: see `gpus`.
    """
    found = [] if device == "cpu" else gpus(driver=driver)
    made = []
    for number in range(count):
        if found:
            gpu, turn = found[number % len(found)], number // len(found)
            lock = lock_folder(folder) / gpu_lock(gpu, turn)
            made.append(Place(lock, {VISIBLE: gpu, ORDER: "PCI_BUS_ID"}))
        else:
            made.append(Place(runs / (CPU_LOCK if not number else f".cpu.{number}.lock"), {}))
    return made


def gpu_lock(gpu: str, turn: int = 0) -> str:
    """Name of the file whose lock stands for a GPU.

    Args:
        turn: which of several trainings that share it.
    """
    name = f"gpu{gpu}" if gpu.isdigit() else re.sub(r"[^A-Za-z0-9-]", "-", gpu)
    return f"atft-{name}{f'.{turn}' if turn else ''}.lock"


def locks_of(runs: Path, folder: str | Path | None = None) -> list[Path]:
    """The locks of this machine's devices that were ever taken: those of one data root's processor, and the GPUs'."""
    return [*sorted(runs.glob(".cpu*.lock")), *sorted(lock_folder(folder).glob("atft-*.lock"))]
