"""How training processes are started, watched and ended on this machine.

The network lives in another process, started here through Dagster Pipes. Dagster's own subprocess client leaves that
process running when it ignores an interrupt or when the run's worker is killed; a device would then be held by nobody.
So: a process group of its own; on any way out SIGINT, then SIGTERM, then SIGKILL to the whole group; the process asks
the kernel to kill it when its parent dies (`--die-with-parent`) and itself holds the device's file lock (`--lock`),
which no orphan can give away. What is to be done is one file, `request.json` (`atft_model.interchange.request`).
"""

import os
import shlex
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg
from pydantic import Field

from atft_assets.closing_words import note_interrupt
from atft_assets.training.endings import explain, failed, interrupted
from atft_assets.training.protocol import Message, Share, TrainingFailed, unheard
from atft_assets.training.trainer_process import (
    MAX_THREADS,
    POLL_SECONDS,
    STARTED_BY,
    TrainerProcess,
    command_of,
    ended,
    environment,
    staged_sibling,
    started_by,
    stop,
)
from atft_model.interchange.attempts import begin, publish, settle
from atft_model.interchange.child import signal_group
from atft_model.interchange.devices import Place, places
from atft_model.interchange.exits import Exit
from atft_model.interchange.request import PredictRequest, TrainRequest, write_request
from atft_model.interchange.run import REQUEST, STATE

SCORING_LOCK = ".scoring.lock"


@dataclass
class _Training:
    """One of several trainings that are under way."""

    number: int
    request: TrainRequest
    attempt: Path
    place: Place
    process: TrainerProcess
    session: dg.PipesSession
    stack: ExitStack
    heard: int = field(default=0)


class LocalLauncher(dg.ConfigurableResource):
    """Runs `python -m <module>` on this machine; see `TrainingLauncher`."""

    module: str = Field(default="atft_model", description="The trainer; tests give a small one")
    threads: int = Field(
        default=0,
        description="CPU threads of a process; 0: as many as this process may use, eight at most, shared evenly by "
        "trainings that run at a time",
    )
    trainings: int = Field(default=1, description="Trainings of one step that run at a time", ge=1)
    lock: str = Field(
        default="",
        description="File whose lock stands for the device; empty: one for each of the machine's GPUs, and one for the "
        "data root where there is no GPU",
    )
    lock_folder: str = Field(
        default="", description="Folder of the locks of GPUs, shared by all users; empty: the temporary folder"
    )
    interrupt_seconds: float = Field(default=6.0, description="From SIGINT to SIGTERM: time to save the state")
    terminate_seconds: float = Field(default=1.0, description="From SIGTERM to SIGKILL")

    def train(
        self,
        context: dg.AssetExecutionContext,
        request: TrainRequest,
        on_message: Callable[[Message], None] = unheard,
    ) -> None:
        """See `TrainingLauncher`; the request is written into the run directory."""
        runs, document = runs_of(request.out), request.out / REQUEST
        if request.resume:
            settle(request.out)
        place = self.place(request.device, runs)
        write_request(document, request)
        command = self._command("train", document, place, self.thread_count())
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesTempFileContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            heard = 0

            def forward() -> None:
                nonlocal heard
                heard = _forward(session, heard, on_message)

            try:
                code, tail = self._run(context, command, place, session.get_bootstrap_env_vars(), forward)
            except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
                _say_interrupted(context, [request.out])
                raise
        if code != Exit.FINISHED:
            raise failed(code, tail, out=request.out, runs=runs, lock=place.lock)
        forward()  # what came while the session closed

    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None:
        """See `TrainingLauncher`; the request lies beside the scores while they are made."""
        runs = runs_of(request.run)
        # on the processor an evening's scores do not wait for a training: they take its cores for seconds, no device
        place = Place(runs / SCORING_LOCK, {}) if request.device == "cpu" else self.place(request.device, runs)
        document = staged_sibling(request.out, uuid.uuid4().hex[:8])
        write_request(document, request)
        try:
            command = self._command("predict", document, place, self.thread_count())
            code, tail = self._run(context, command, place, {}, lambda: None)
        finally:
            document.unlink()
        if code != Exit.FINISHED:
            said = explain(code, tail, out=request.out, runs=runs, lock=place.lock)
            raise TrainingFailed(said, code, "\n".join(tail))

    def fan_out(
        self,
        context: dg.AssetExecutionContext,
        requests: Sequence[TrainRequest],
        on_message: Callable[[TrainRequest, Message], None] = unheard,
    ) -> list[TrainingFailed | None]:
        """See `TrainingLauncher`; `trainings` processes at a time."""
        if len({request.out for request in requests}) < len(requests):
            raise ValueError("two requests of one fan-out have the same run directory")
        count = self.share(len(requests)).at_a_time
        waiting, running = deque(enumerate(requests)), list[_Training]()
        free = deque(self.places(requests[0].device, runs_of(requests[0].out), count) if requests else [])
        ends: list[TrainingFailed | None] = [None] * len(requests)
        try:
            while waiting or running:
                while waiting and free:
                    number, request = waiting.popleft()
                    running.append(self._start(context, number, request, free.popleft(), self.thread_count(count)))
                for one in list(running):
                    over = one.process.poll() is not None  # asked first, so that no message comes after the last look
                    one.heard = _forward(one.session, one.heard, lambda m, r=one.request: on_message(r, m))  # type: ignore[misc]
                    if over:
                        ends[one.number] = self._end(one, on_message)
                        running.remove(one)
                        free.append(one.place)
                time.sleep(POLL_SECONDS)
        except BaseException as error:  # an interrupt above all: Dagster's is no Exception
            context.log.warning(f"the run is ending: {len(running)} trainings are told to save and stop")
            try:
                stop([one.process for one in running], self.interrupt_seconds, self.terminate_seconds)
            finally:
                for one in running:
                    one.stack.close()
                if isinstance(error, KeyboardInterrupt | dg.DagsterExecutionInterruptedError) and running:
                    _say_interrupted(context, [one.request.out for one in running])
            raise
        return ends

    def cancel(self, dagster_run_id: str) -> list[str]:
        """See `TrainingLauncher`: trainers of this machine."""
        found = started_by(dagster_run_id)
        said = [f"the training process {one.pid} ({command_of(one)}) of the run {dagster_run_id}" for one in found]
        for number, seconds in (
            (signal.SIGINT, self.interrupt_seconds),
            (signal.SIGTERM, self.terminate_seconds),
            (signal.SIGKILL, 0.0),
        ):
            for one in found:
                signal_group(one.pid, number)
            end = time.monotonic() + seconds
            while found := [one for one in found if not ended(one)]:
                if time.monotonic() > end:
                    break
                time.sleep(POLL_SECONDS)
        return [f"{what} was told to stop" for what in said]

    def place(self, device: str, runs: Path) -> Place:
        """Where a training that is alone runs; see `places`."""
        return self.places(device, runs, 1)[0]

    def places(self, device: str, runs: Path, count: int) -> list[Place]:
        """Where trainings run that go on at a time: the device that each sees, and the file whose lock stands for it.

        Args:
            device: auto, cpu or cuda.
            runs: folder of the runs of all folds and phases.
        """
        found = places(device, runs, count, self.lock_folder or None)
        if self.lock:
            names = [Path(self.lock), *(Path(f"{self.lock}.{number}") for number in range(1, count))]
            found = [replace(place, lock=lock) for place, lock in zip(found, names, strict=True)]
        for place in found:
            place.lock.parent.mkdir(parents=True, exist_ok=True)
        return found

    def _start(
        self, context: dg.AssetExecutionContext, number: int, request: TrainRequest, place: Place, threads: int
    ) -> _Training:
        """Begin an attempt at a training."""
        if request.resume:
            settle(request.out)
        write_request(request.out / REQUEST, request)
        attempt = begin(request.out)
        document = attempt / REQUEST
        write_request(document, replace(request, out=attempt, resume=(attempt / STATE).exists()))
        with ExitStack() as stack:
            session = stack.enter_context(
                dg.open_pipes_session(
                    context=context,
                    context_injector=dg.PipesTempFileContextInjector(),
                    message_reader=dg.PipesTempFileMessageReader(),
                )
            )
            command = self._command("train", document, place, threads)
            context.log.info(shlex.join(command))
            process = TrainerProcess(command, self._environment(context, place, session, threads))
            return _Training(number, request, attempt, place, process, session, stack.pop_all())

    def _end(self, one: _Training, on_message: Callable[[TrainRequest, Message], None]) -> TrainingFailed | None:
        """What became of a training whose process has ended; its files move into the run directory."""
        code = one.process.end()
        one.stack.close()
        _forward(one.session, one.heard, lambda message: on_message(one.request, message))
        publish(one.request.out, one.attempt)
        if code == Exit.FINISHED:
            return None
        out = one.request.out
        return failed(code, one.process.tail, out=out, runs=runs_of(out), lock=one.place.lock)

    def _command(self, verb: str, document: Path, place: Place, threads: int) -> list[str]:
        guards = ["--threads", str(threads), "--lock", str(place.lock), "--die-with-parent"]
        return [sys.executable, "-m", self.module, verb, str(document), *guards]

    def share(self, count: int) -> Share:
        """See `TrainingLauncher`; `trainings` at a time."""
        at_a_time = max(1, min(self.trainings, count))
        return Share(at_a_time, self.thread_count(at_a_time))

    def thread_count(self, at_a_time: int = 1) -> int:
        """CPU threads of each of so many trainings that run at a time."""
        return self.threads or max(1, min(len(os.sched_getaffinity(0)) // at_a_time, MAX_THREADS))

    def _environment(
        self, context: dg.AssetExecutionContext, place: Place, session: dg.PipesSession, threads: int
    ) -> dict[str, str]:
        return environment(
            threads, place.environment, {STARTED_BY: context.run.run_id}, session.get_bootstrap_env_vars()
        )

    def _run(
        self,
        context: dg.AssetExecutionContext,
        command: Sequence[str],
        place: Place,
        pipes: Mapping[str, str],
        while_waiting: Callable[[], None],
    ) -> tuple[int, list[str]]:
        """Run to the end; returns the exit code and the last lines of stderr. No way out leaves the process behind."""
        context.log.info(shlex.join(command))
        started = {STARTED_BY: context.run.run_id}
        process = TrainerProcess(command, environment(self.thread_count(), place.environment, started, pipes))
        try:
            while not process.wait(POLL_SECONDS):
                while_waiting()
        except BaseException:  # an interrupt above all: Dagster's is no Exception
            context.log.warning("the run is ending: the training process is told to save and stop")
            stop([process], self.interrupt_seconds, self.terminate_seconds)
            raise
        finally:
            code = process.end()  # and whatever the leader left behind
        return code, list(process.tail)


def runs_of(run: Path) -> Path:
    """The folder of all runs, of a run directory `runs/<fold>/<phase>/<run_id>`."""
    return run.parents[2]


def _forward(session: dg.PipesSession, heard: int, on_message: Callable[[Message], None]) -> int:
    """Hand on the custom messages that are new; returns how many there are now."""
    messages = session.get_custom_messages()
    for message in messages[heard:]:
        on_message(message)
    return len(messages)


def _say_interrupted(context: dg.AssetExecutionContext, outs: Sequence[Path]) -> None:
    """Close the run directories of trainings that were told to stop, and say how they go on."""
    asset = context.asset_key.path[-1]
    said = [interrupted(out) for out in outs]
    note_interrupt(asset, said[0].rpartition(". ")[2])
    for sentence in said:
        context.log.warning(f"{asset}: {sentence}")
