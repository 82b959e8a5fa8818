"""What the device did while a network was trained: `telemetry.jsonl` in the run directory.

A line is a JSON object with one field. `meter` says what is read and where; each process that worked on the run, which
may have been resumed, writes one first. `reading` covers the seconds since the line before. Short runs have a line a
second, longer ones a line for each 500th of their time so far: 500 lines after eight minutes, 2,700 after twelve hours.
The file is written while the training goes on and never flushed to the disk, so a line that a killed process left half
is passed over. No figure of a training depends on it, and no record has its hash.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atft_model.interchange.errors import RunError
from atft_model.interchange.records import entry, from_plain, read_text

TELEMETRY = "telemetry.jsonl"
FORMAT = 1


@dataclass(frozen=True)
class Meter:
    """What is read."""

    format: int = entry("Version of the lines")
    device: Literal["cpu", "cuda"] = entry("What the network is trained on")
    source: Literal["nvml", "psutil"] = entry("Who tells of the device")
    name: str = entry("Name of the GPU, or of the kind of processor")
    threads: int = entry("Threads that the trainer computes with")
    memory_total: int | None = entry("Bytes of the GPU's memory, or of the machine's", None)
    unread: tuple[str, ...] = entry("What is not told, with the reason", ())


@dataclass(frozen=True)
class Reading:
    """What was read over some seconds."""

    at: float = entry("When they ended, seconds since 1970")
    seconds: float = entry("How many")
    utilisation: float | None = entry(
        "Share of them in which the device worked, 0 to 1: of a GPU as its driver tells; of a processor the time that "
        "the process used of its threads' time; null: not told"
    )
    memory_used: int | None = entry("Most bytes in use: of the GPU by all processes; on a processor by this one")
    watts: float | None = entry("Mean power of the GPU; null: not told, as of a processor")
    celsius: float | None = entry("Highest temperature; null: not told")
    cores: float = entry("Cores that the process kept busy, on a GPU too")
    rss: int = entry("Resident memory of the process at their end, bytes")


@dataclass(frozen=True)
class Summary:
    """A run's readings in a few figures: `telemetry` of run.json."""

    source: str = entry("Who told of the device")
    device: str = entry("Its name")
    seconds: float = entry("That were covered")
    idle_share: float | None = entry("Share of them in which the device did not work; null: not told")
    peak_memory: int | None = entry("Most bytes in use on the device; on a processor by the process")
    watts: float | None = entry("Mean power; null: not told")
    celsius: float | None = entry("Highest temperature; null: not told")
    cores: float = entry("Mean of the cores that the process kept busy")
    unread: tuple[str, ...] = entry("What was not told, with the reason", ())

    def __str__(self) -> str:
        """The idle share in a clause."""
        if self.idle_share is None:
            return f"device idle: unknown ({'; '.join(self.unread) or 'not told'})"
        return f"device idle {self.idle_share:.0%} of the time"


@dataclass(frozen=True)
class Telemetry:
    """The lines of a file."""

    meters: tuple[Meter, ...]
    readings: tuple[Reading, ...]

    def summary(self) -> Summary | None:
        """The readings in a few figures; None where there are none."""
        if not self.meters or not self.readings:
            return None
        busy, meter = _mean(self.readings, lambda one: one.utilisation), self.meters[-1]
        return Summary(
            source=meter.source,
            device=meter.name,
            seconds=round(sum(one.seconds for one in self.readings), 1),
            idle_share=None if busy is None else round(1 - busy, 4),
            peak_memory=max((one.memory_used for one in self.readings if one.memory_used is not None), default=None),
            watts=_mean(self.readings, lambda one: one.watts),
            celsius=max((one.celsius for one in self.readings if one.celsius is not None), default=None),
            cores=round(_mean(self.readings, lambda one: one.cores) or 0.0, 2),
            unread=meter.unread,
        )


def read_telemetry(folder: Path) -> Telemetry | None:
    """The telemetry of a run directory; None where none was taken.

    Raises:
        RunError: the file cannot be read, or is of another version.
    """
    path = Path(folder) / TELEMETRY
    text = read_text(path, RunError)
    if text is None:
        return None
    meters: list[Meter] = []
    readings: list[Reading] = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # cut short by the end of its process
        if "meter" in found:
            if (version := found["meter"].get("format")) != FORMAT:
                raise RunError(f"{path} has format {version!r}, this version reads {FORMAT}")
            meters.append(from_plain(Meter, found["meter"], str(path), RunError))
        elif "reading" in found:
            readings.append(from_plain(Reading, found["reading"], str(path), RunError))
    return Telemetry(tuple(meters), tuple(readings))


def _mean(readings: Iterable[Reading], value: Callable[[Reading], Any]) -> float | None:
    """Mean over time of what was told; None where nothing was."""
    told = [(found, one.seconds) for one in readings if (found := value(one)) is not None]
    seconds = sum(weight for _, weight in told)
    return sum(found * weight for found, weight in told) / seconds if seconds else None
