"""Many trainings as one order to a cluster: what is to be done (`batch.json`), and how each ended (`outcome.json`).

Both lie in a folder that the side that orders and all hosts of the cluster see under the same path, as they must see
panels and runs. The file `ended` in it withdraws the order: a driver that still lives publishes nothing from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atft_model.interchange.errors import RequestError
from atft_model.interchange.records import entry, from_plain, read_json, write_json

SPEC, OUTCOME, ENDED = "batch.json", "outcome.json", "ended"
MESSAGES = ".jsonl"  # ending of the files into which attempts write their messages, one each


@dataclass(frozen=True)
class Task:
    """One process of the trainer."""

    verb: Literal["train", "predict"] = entry("What it does")
    request: Path = entry("The request that it carries out")
    out: Path = entry("Run directory, or the folder into which the scores' attempts go")
    pipes: Mapping[str, str] = entry("Variables by which the process finds Dagster Pipes", factory=dict)
    messages: Path | None = entry("Folder for the messages of its attempts, a file each", None)


@dataclass(frozen=True)
class Batch:
    """What one job of the cluster does."""

    tasks: tuple[Task, ...] = entry("Independent of each other; they begin in this order")
    module: str = entry("The trainer, as `python -m` runs it", "atft_model")
    threads: int = entry("CPU threads of each process", 1)
    cpus: float = entry("CPUs that each takes of a host", 1.0)
    gpus: float = entry("GPUs that each takes of a host", 0.0)
    retries: int = entry("How often one begins again elsewhere when its host is lost", 3)
    stop_seconds: float = entry("From SIGTERM to SIGKILL: time to save the state", 15.0)
    lock_folder: str = entry("Folder of the locks of GPUs on each host; empty: the temporary one", "")


@dataclass(frozen=True)
class Ending:
    """How one task ended."""

    code: int | None = entry("Exit code; negative: the signal that killed it; null: it never ran to an end", None)
    stderr: tuple[str, ...] = entry("Last lines of its error output", ())
    host: str = entry("Where its last attempt ran", "")
    attempt: str = entry("Name of that attempt's directory", "")
    why: str = entry("What the cluster says, where the process said nothing", "")


@dataclass(frozen=True)
class Outcome:
    """How a batch ended; a task that is still under way has null."""

    endings: tuple[Ending | None, ...] = entry("In the order of the tasks")


def read_batch(path: Path) -> Batch:
    """The order in a file.

    Raises:
        RequestError: there is none, or it is malformed.
    """
    return from_plain(Batch, read_json(path, "give the file of a batch", RequestError), str(path), RequestError)


def read_outcome(folder: Path) -> Outcome | None:
    """How the batch of a folder ended, as far as its driver wrote it down; None if it wrote nothing.

    Raises:
        RequestError: the file is malformed.
    """
    path = folder / OUTCOME
    if not path.exists():
        return None
    return from_plain(Outcome, read_json(path, "run the batch", RequestError), str(path), RequestError)


def write_batch(folder: Path, batch: Batch) -> Path:
    """Write `batch.json`; returns its path."""
    write_json(folder / SPEC, batch)
    return folder / SPEC


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Replace `outcome.json`."""
    write_json(folder / OUTCOME, outcome)
