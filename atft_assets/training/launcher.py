"""How a training process is started, watched and ended.

The network lives in another process, started here through Dagster Pipes. Dagster's own subprocess client leaves that
process running when it ignores an interrupt or when the run's worker is killed; a device would then be held by nobody.
So: a process group of its own; on any way out SIGINT, then SIGTERM, then SIGKILL to the whole group; the process asks
the kernel to kill it when its parent dies (`--die-with-parent`) and itself holds the device's file lock (`--lock`),
which no orphan can give away. What is to be done is one file, `request.json` (`atft_model.interchange.request`).

*Where* training runs is this one resource: `TrainingLauncher` says what it must do, `LocalLauncher` does it here.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

import dagster as dg
from pydantic import Field

from atft_assets.closing_words import note_interrupt
from atft_assets.training.runs import how_to_resume
from atft_model.interchange.disk import size_of
from atft_model.interchange.errors import RunError
from atft_model.interchange.exits import Exit
from atft_model.interchange.request import PredictRequest, TrainRequest, write_request
from atft_model.interchange.run import REQUEST, STATE, Status, end_record

POLL_SECONDS = 0.2
MAX_THREADS = 8  # more do not make these matrices faster
STDERR_LINES = 40
SCORING_LOCK = ".scoring.lock"
GOES_ON = (Exit.INTERRUPTED, Exit.DISK_FULL)  # the state is saved, so that the run is interrupted rather than failed

# Secrets of other rooms: a training needs none, so its process gets none.
WITHHELD = ("JQUANTS_API_KEY", "ATFT_ALERT_URLS", "ATFT_SANDBOX_KEY")


class TrainingFailed(Exception):
    """The process ended without success.

    Attributes:
        exit_code: as the process gave it; negative is the signal that killed it.
        stderr: its last lines.
    """

    def __init__(self, message: str, exit_code: int, stderr: str):
        super().__init__(message)
        self.exit_code, self.stderr = exit_code, stderr


class TrainingLauncher(dg.ConfigurableResource, ABC):
    """Where training runs: what any place must do for the assets."""

    @abstractmethod
    def train(
        self,
        context: dg.AssetExecutionContext,
        request: TrainRequest,
        on_message: Callable[[Mapping[str, Any]], None] = lambda message: None,
    ) -> None:
        """Train one phase; returns when `request.out` holds a finished run.

        Args:
            on_message: given each custom message (an epoch's metrics) while the training goes on.

        Raises:
            TrainingFailed: it ended otherwise; the text says why and what to do.
        """

    @abstractmethod
    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None:
        """Score days of a panel with the request's finished runs; returns when every `out` holds the scores.

        Raises:
            TrainingFailed: it did not work out.
        """


class LocalLauncher(TrainingLauncher):
    """Runs `python -m <module>` on this machine."""

    module: str = Field(default="atft_model", description="The trainer; tests give a small one")
    threads: int = Field(
        default=0, description="CPU threads of the process; 0: as many as this process may use, eight at most"
    )
    lock: str = Field(
        default="",
        description="File whose lock stands for the device; empty: one for the machine's GPU, and one for the data "
        "root where there is no GPU",
    )
    interrupt_seconds: float = Field(default=6.0, description="From SIGINT to SIGTERM: time to save the state")
    terminate_seconds: float = Field(default=1.0, description="From SIGTERM to SIGKILL")

    def train(
        self,
        context: dg.AssetExecutionContext,
        request: TrainRequest,
        on_message: Callable[[Mapping[str, Any]], None] = lambda message: None,
    ) -> None:
        """See `TrainingLauncher`; the request is written into the run directory."""
        runs = runs_of(request.out)
        lock, document = self.lock_path(request.device, runs), request.out / REQUEST
        write_request(document, request)
        command = self._command("train", document, lock)
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesTempFileContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            seen = 0

            def forward() -> None:
                nonlocal seen
                messages = session.get_custom_messages()
                for message in messages[seen:]:
                    on_message(message)
                seen = len(messages)

            try:
                code, tail = self._run(context, command, session.get_bootstrap_env_vars(), forward)
            except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
                asset, said = context.asset_key.path[-1], interrupted(request.out)
                note_interrupt(asset, said.rpartition(". ")[2])
                context.log.warning(f"{asset}: {said}")
                raise
        if code != Exit.FINISHED:
            close(request.out, "interrupted" if code < 0 or code in GOES_ON else "failed")
            raise TrainingFailed(explain(code, tail, out=request.out, runs=runs, lock=lock), code, "\n".join(tail))
        forward()  # what came while the session closed

    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None:
        """See `TrainingLauncher`; the request lies beside the scores while they are made."""
        runs = runs_of(request.run)
        # on the processor an evening's scores do not wait for a training: they take its cores for seconds, no device
        lock = runs / SCORING_LOCK if request.device == "cpu" else self.lock_path(request.device, runs)
        document = request.out.with_name(f".{request.out.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.staged")
        write_request(document, request)
        try:
            code, tail = self._run(context, self._command("predict", document, lock), {}, lambda: None)
        finally:
            document.unlink()
        if code != Exit.FINISHED:
            raise TrainingFailed(explain(code, tail, out=request.out, runs=runs, lock=lock), code, "\n".join(tail))

    def lock_path(self, device: str, runs: Path) -> Path:
        """The file whose lock stands for a device.

        Args:
            device: auto, cpu or cuda.
            runs: folder of the runs of all folds and phases.
        """
        if self.lock:
            lock = Path(self.lock)
        else:
            cpu, gpu = device_locks(runs)
            lock = gpu if device != "cpu" and Path("/proc/driver/nvidia").exists() else cpu
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock

    def _command(self, verb: str, document: Path, lock: Path) -> list[str]:
        guards = ["--threads", str(self.thread_count()), "--lock", str(lock), "--die-with-parent"]
        return [sys.executable, "-m", self.module, verb, str(document), *guards]

    def thread_count(self) -> int:
        """Threads that the trainer computes with."""
        return self.threads or min(len(os.sched_getaffinity(0)), MAX_THREADS)

    def _run(
        self,
        context: dg.AssetExecutionContext,
        command: Sequence[str],
        pipes_env: Mapping[str, str],
        while_waiting: Callable[[], None],
    ) -> tuple[int, list[str]]:
        """Run to the end; returns the exit code and the last lines of stderr. No way out leaves the process behind."""
        context.log.info(shlex.join(command))
        process = subprocess.Popen(
            command,
            env=self._environment(pipes_env),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        tail: deque[str] = deque(maxlen=STDERR_LINES)
        reader = Thread(target=_copy_stderr, args=(process.stderr, tail), daemon=True)
        reader.start()
        try:
            while True:
                try:
                    process.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    while_waiting()
        except BaseException:  # an interrupt above all: Dagster's is no Exception
            context.log.warning("the run is ending: the training process is told to save and stop")
            self._stop(process)
            raise
        finally:
            _signal_group(process.pid, signal.SIGKILL)  # whatever the leader left behind
            process.wait()
            reader.join(timeout=5)
        return process.returncode, list(tail)

    def _environment(self, pipes_env: Mapping[str, str]) -> dict[str, str]:
        """What the process inherits, with thread limits: they count only if set before torch is imported."""
        threads = str(self.thread_count())
        inherited = {name: value for name, value in os.environ.items() if name not in WITHHELD}
        limits = {f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
        # waiting threads that spin take the cores of everybody else
        return {**inherited, **limits, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", **pipes_env}

    def _stop(self, process: subprocess.Popen) -> None:
        """SIGINT, SIGTERM, SIGKILL; a second interrupt while waiting skips to the last."""
        try:
            for number, seconds in (
                (signal.SIGINT, self.interrupt_seconds),
                (signal.SIGTERM, self.terminate_seconds),
            ):
                _signal_group(process.pid, number)
                try:
                    process.wait(seconds)
                    return
                except subprocess.TimeoutExpired:
                    continue
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


def device_locks(runs: Path) -> tuple[Path, Path]:
    """The files whose locks stand for this machine's processor (those of one data root) and for its GPU (everybody's).

    Args:
        runs: folder of the runs of all folds and phases.
    """
    return runs / ".cpu.lock", Path(tempfile.gettempdir()) / "atft-gpu0.lock"


def runs_of(run: Path) -> Path:
    """The folder of all runs, of a run directory `runs/<fold>/<phase>/<run_id>`."""
    return run.parents[2]


def close(out: Path, status: Status) -> None:
    """See to it that no record says "running" of a process that has ended; what never began leaves nothing behind."""
    if [path.name for path in out.iterdir()] == [REQUEST]:
        shutil.rmtree(out)
        return
    with suppress(RunError):  # no record yet, or a damaged one
        end_record(out, status)


def interrupted(out: Path) -> str:
    """Close the run directory of a training that was told to stop; returns how to go on."""
    close(out, "interrupted")
    return _was_interrupted(out)


def _was_interrupted(out: Path) -> str:
    return f"the training was interrupted and nothing was published. {_how_to_go_on(out)}"


def _how_to_go_on(out: Path) -> str:
    if (out / STATE).exists():
        return how_to_resume(out)
    return "No epoch of it had ended; start it again"


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # everybody has gone


def _copy_stderr(stream: IO[bytes], tail: deque[str]) -> None:
    """Pass stderr on, to where Dagster collects compute logs, and remember its end."""
    for line in stream:
        os.write(2, line)
        tail.append(line.decode(errors="replace").rstrip())


def explain(code: int, stderr: Iterable[str], *, out: Path, runs: Path, lock: Path) -> str:
    """One sentence for an exit code: what happened and what to do."""
    said = last_words(stderr)
    if code == Exit.BAD_INPUT:
        return f"the trainer refused what it was given: {said}"
    if code == Exit.GUARD:
        return f"a guard was violated, so no checkpoint is published: {said}"
    if code == Exit.DISK_FULL:
        return (
            f"the disk or quota under {out.parent} is full ({_free(out)} free); the last good checkpoint is intact. "
            f"Free space ({_what_to_free(runs)}; `python -m atft_assets.tools.retention` lists what may go). {said}. "
            f"{_how_to_go_on(out)}"
        )
    if code == Exit.LOCK_BUSY:
        return f"the device is in use by {lock_holder(lock)}: wait for it or end it (lock {lock})"
    if code == Exit.INTERRUPTED:
        return _was_interrupted(out)
    if code == -signal.SIGKILL:
        return (
            "the training process was killed (SIGKILL), by hand or because the machine ran out of memory. "
            f"{_how_to_go_on(out)}"
        )
    if code < 0:
        return f"the training process died of signal {-code} ({_signal_name(-code)}): {said}. {_how_to_go_on(out)}"
    return f"the training process ended with exit code {code}: {said}"


def last_words(stderr: Iterable[str]) -> str:
    """The trainer's closing message: from the last line that does not continue the one before (by an indent)."""
    words: list[str] = []
    for line in filter(str.strip, stderr):
        words = [*words, line.strip()] if line[0].isspace() and words else [line.strip()]
    return " ".join(words).removeprefix("atft_model: ") or "it said nothing"


def lock_holder(lock: Path) -> str:
    """Who holds a file lock, as the kernel tells it."""
    try:
        inode = lock.stat().st_ino
        held = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return "another process"
    for words in map(str.split, held):
        # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF"
        if "->" not in words and len(words) > 5 and words[5].rpartition(":")[2] == str(inode):
            return f"process {words[4]} ({_command_line(words[4])})"
    return "another process"


def _command_line(pid: str) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone by now"
    return " ".join(words).strip()[:200] or "unnamed"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else "unknown"


def _free(out: Path) -> str:
    folder = next(p for p in (out, *out.parents) if p.exists())
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"


def _what_to_free(runs: Path) -> str:
    """Sizes of what may be deleted: other runs of all phases, and panels."""
    sizes = {folder: size_of(folder) for folder in (runs, runs.parent / "panel") if folder.is_dir()}
    return ", ".join(f"{size / 1e9:.1f} GB in {folder}" for folder, size in sizes.items()) or "old runs and panels"
