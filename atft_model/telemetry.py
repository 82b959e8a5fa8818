"""Looks at the device while a network is trained: a thread that sleeps, reads, and appends to `telemetry.jsonl`.

A look costs well under a millisecond. Looks are gathered into lines whose length grows with the run
(`interchange.telemetry`), so the file stays small. Whatever goes wrong here ends the telemetry, never the training.
"""

from __future__ import annotations

import importlib
import json
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil

from atft_model.interchange.errors import RunError
from atft_model.interchange.gpus import HOW_TO_INSTALL, Gpus, NoGpu, chosen
from atft_model.interchange.records import to_plain
from atft_model.interchange.telemetry import FORMAT, TELEMETRY, Meter, Reading, Summary, read_telemetry

LINES = 500  # a line covers at least this part of the time so far
CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")  # drivers that tell a processor's own temperature


class Probe(Protocol):
    """What tells of a device."""

    meter: Meter

    def look(self, cores: float) -> tuple[float | None, int | None, float | None, float | None]:
        """Utilisation, bytes in use, watts, degrees Celsius; None where it is not told.

        Args:
            cores: that the process kept busy since the look before.

        Raises:
            NoGpu: the device is gone.
        """

    def close(self) -> None:
        """Give back what was opened."""


class ProcessorProbe:
    """The processor, by psutil: time and memory of this process; also what is known of a GPU that nobody tells of."""

    def __init__(self, threads: int, device: str = "cpu", unread: tuple[str, ...] = ()) -> None:
        self._own, self._process, self._threads = device == "cpu", psutil.Process(), threads
        self.meter = Meter(
            FORMAT, "cpu" if self._own else "cuda", "psutil", platform.processor() or platform.machine(), threads,
            psutil.virtual_memory().total if self._own else None, ("power (a processor tells it to root alone)",)
            if self._own else unread,
        )  # fmt: skip

    def look(self, cores: float) -> tuple[float | None, int | None, float | None, float | None]:
        """See `Probe`."""
        if not self._own:
            return None, None, None, None
        return min(1.0, cores / self._threads), self._process.memory_info().rss, None, chip_temperature()

    def close(self) -> None:
        """Nothing was opened."""


class GpuProbe:
    """One GPU, by NVIDIA's library."""

    def __init__(self, gpus: Gpus, uuid: str | None, threads: int) -> None:
        """
        Raises:
            NoGpu: no GPU has this UUID.
        """
        self._gpus, self._uuid = gpus, uuid
        gpu = chosen(gpus.read(), uuid)
        self.meter = Meter(FORMAT, "cuda", "nvml", gpu.name, threads, gpu.memory_total, gpu.unread)

    def look(self, cores: float) -> tuple[float | None, int | None, float | None, float | None]:
        """See `Probe`."""
        gpu = chosen(self._gpus.read(), self._uuid)
        return gpu.utilisation, gpu.memory_used, gpu.watts, gpu.celsius

    def close(self) -> None:
        """Give the library back."""
        self._gpus.close()


def probe_of(device: str, uuid: str | None, threads: int) -> Probe:
    """Who tells of a device: of a GPU without NVIDIA's library nobody does, and the meter says why.

    Args:
        device: cpu or cuda.
        uuid: of the GPU, as CUDA names it.
    """
    if device == "cpu":
        return ProcessorProbe(threads)
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return ProcessorProbe(threads, device, (HOW_TO_INSTALL,))
    try:
        gpus = Gpus(nvml)
    except NoGpu as error:
        return ProcessorProbe(threads, device, (str(error),))
    try:
        return GpuProbe(gpus, uuid, threads)
    except NoGpu as error:
        gpus.close()
        return ProcessorProbe(threads, device, (str(error),))


def chip_temperature() -> float | None:
    """The processor's highest temperature in degrees Celsius; None where the machine does not tell it."""
    if not hasattr(psutil, "sensors_temperatures"):
        return None
    try:
        sensors = psutil.sensors_temperatures()
    except OSError:
        return None
    found = [one.current for chip in CHIPS for one in sensors.get(chip, []) if one.current]
    return max(found, default=None)


class Watch:
    """The looks of one process at its device, on their way into the file."""

    def __init__(self, folder: Path, probe: Probe, every: float) -> None:
        """
        Args:
            folder: the run directory.
            every: seconds between two looks.
        """
        self.folder, self._probe, self._every = folder, probe, every
        self._process, self._done = psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self.trouble = ""

    def start(self) -> None:
        """Begin to look."""
        try:
            self._thread.start()
        except RuntimeError as error:  # a machine that gives no more threads
            self.trouble = str(error)
            self._probe.close()

    def stop(self) -> None:
        """Look once more, write the last line, and end."""
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def summary(self) -> Summary | None:
        """What the run's file says so far, of earlier processes too; None if it says nothing."""
        try:
            found = read_telemetry(self.folder)
        except RunError:
            return None
        return found.summary() if found else None

    def _run(self) -> None:
        try:
            with (self.folder / TELEMETRY).open("a", encoding="utf-8") as file:

                def write(kind: str, value: Any) -> None:
                    file.write(json.dumps({kind: to_plain(value)}) + "\n")
                    file.flush()

                write("meter", self._probe.meter)
                self._look_until_done(write)
        except (OSError, NoGpu, psutil.Error) as error:  # a full disk, a GPU that fell off the bus
            self.trouble = str(error)
        finally:
            self._probe.close()

    def _look_until_done(self, write: Callable[[str, Any], None]) -> None:
        began = written = seen = time.monotonic()
        used = self._cpu_seconds()
        looks: list[tuple[float, float, tuple[Any, ...]]] = []  # seconds, cores, what the probe told
        ending = False
        while not ending:
            ending = self._done.wait(self._every)
            now, used_now = time.monotonic(), self._cpu_seconds()
            seconds = max(now - seen, 1e-6)
            cores = (used_now - used) / seconds
            looks.append((seconds, cores, self._probe.look(cores)))
            seen, used = now, used_now
            if ending or now - written >= max(self._every, (now - began) / LINES):
                write("reading", self._line(looks))
                looks, written = [], now

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _line(self, looks: list[tuple[float, float, tuple[Any, ...]]]) -> Reading:
        """Looks as one line: means of what flows, the highest of what stands."""

        def mean(place: int) -> float | None:
            told = [(seconds, found[place]) for seconds, _, found in looks if found[place] is not None]
            weight = sum(seconds for seconds, _ in told)
            return round(sum(seconds * value for seconds, value in told) / weight, 4) if told else None

        def most(place: int) -> Any:
            return max((found[place] for _, _, found in looks if found[place] is not None), default=None)

        seconds = sum(one for one, _, _ in looks)
        return Reading(
            at=round(time.time(), 3),
            seconds=round(seconds, 3),
            utilisation=mean(0),
            memory_used=most(1),
            watts=mean(2),
            celsius=most(3),
            cores=round(sum(one * cores for one, cores, _ in looks) / seconds, 3),
            rss=self._process.memory_info().rss,
        )


@contextmanager
def watching(folder: Path, every: float, device: str, uuid: str | None, threads: int) -> Iterator[Watch | None]:
    """Look at a device while the block runs.

    Args:
        folder: the run directory.
        every: seconds between two looks; 0: none are taken.
        device: cpu or cuda.
        uuid: of the GPU, as CUDA names it; None on a processor.
        threads: that the trainer computes with.

    Yields:
        The watch, whose summary is whole once the block is left; None where none are taken.
    """
    if every <= 0:
        yield None
        return
    watch = Watch(folder, probe_of(device, uuid, threads), every)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
