"""Many trainings on a Ray cluster: the driver of one job, `python -m atft_model fanout --spec batch.json`.

Each training is a task, and each try of it an attempt with a directory of its own (`interchange.attempts`): a host that
lost the network goes on for minutes after Ray has begun again elsewhere. A task starts the trainer as a process that
the kernel kills with it, and hears what it says. The driver alone publishes; told to stop (SIGTERM, or the file `ended`
beside the batch) it cancels the tasks, whose trainers get SIGTERM and time to save, and waits for them.

Ray is imported where it is used: the trainer itself needs none.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from atft_model.interchange.attempts import begin, publish, settle
from atft_model.interchange.batch import (
    ENDED,
    MESSAGES,
    Batch,
    Ending,
    Outcome,
    Task,
    read_batch,
    write_outcome,
)
from atft_model.interchange.child import STDERR_LINES, copy_stderr, signal_group
from atft_model.interchange.devices import gpu_lock, gpus, lock_folder
from atft_model.interchange.errors import RequestError, RunError
from atft_model.interchange.exits import Exit
from atft_model.interchange.hashes import SIDECAR
from atft_model.interchange.records import from_plain, to_plain
from atft_model.interchange.request import (
    PredictRequest,
    Scoring,
    predict_request,
    read_document,
    train_request,
    write_request,
)
from atft_model.interchange.run import REQUEST, STATE
from atft_model.interchange.withheld import passed_on

POLL_SECONDS = 0.5
CONTEXT, MESSAGES_TO = "DAGSTER_PIPES_CONTEXT", "DAGSTER_PIPES_MESSAGES"


def fanout(spec: Path) -> Exit:
    """Carry out a batch; how each task ended stands in `outcome.json` beside it.

    Returns:
        FINISHED when every task has come to an end, good or bad; INTERRUPTED when it was told to stop.

    Raises:
        RequestError: the batch is malformed, Ray is missing, or no host of the cluster has room for a task.
    """
    batch = read_batch(spec)
    ray = _ray()
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=True)
    stopped = _stop_flag()  # after Ray, which has a handler of its own
    try:
        _require_room(ray, batch)
        return _Driver(ray, spec, batch, lambda: stopped() or (spec.parent / ENDED).exists()).run()
    finally:
        ray.shutdown()


class _Driver:
    """The tasks of one batch under way."""

    def __init__(self, ray: Any, spec: Path, batch: Batch, should_stop: Callable[[], bool]):
        self.ray, self.folder, self.batch, self.should_stop = ray, spec.parent, batch, should_stop
        self.endings: list[Ending | None] = [None] * len(batch.tasks)
        options = {"num_cpus": batch.cpus, "num_gpus": batch.gpus, "max_retries": batch.retries}
        task = ray.remote(**options)(attempt)
        self.waiting = {task.remote(str(spec), number): number for number in range(len(batch.tasks))}

    def run(self) -> Exit:
        write_outcome(self.folder, Outcome(tuple(self.endings)))
        while self.waiting:
            self._take_in(POLL_SECONDS)
            if self.should_stop():
                self._cancel()
                return Exit.INTERRUPTED
        return Exit.FINISHED

    def _take_in(self, seconds: float) -> None:
        """Publish what has ended by now."""
        done, _ = self.ray.wait(list(self.waiting), num_returns=len(self.waiting), timeout=seconds)
        for ref in done:
            number = self.waiting.pop(ref)
            self.endings[number] = self._ending(ref, self.batch.tasks[number])
        if done:
            write_outcome(self.folder, Outcome(tuple(self.endings)))

    def _ending(self, ref: Any, task: Task) -> Ending:
        """How a task ended; its files are where the request wants them."""
        try:
            ending = from_plain(Ending, self.ray.get(ref), "the ending of a task")
        except self.ray.exceptions.TaskCancelledError:
            ending = Ending(Exit.INTERRUPTED, why="it was cancelled")
        except self.ray.exceptions.RayError as error:  # its host was lost once too often, or its process was killed
            ending = Ending(why=" ".join(str(error).split())[:500])
        withdrawn = self.folder / ENDED
        if task.verb == "predict":
            if ending.code == Exit.FINISHED and not withdrawn.exists():
                _publish_scores(task, ending)
        elif ending.attempt:
            publish(task.out, task.out / ending.attempt / task.out.name, unless=withdrawn)
        elif not withdrawn.exists():
            with suppress(RunError):  # an attempt that still lives is left to the one who resumes
                settle(task.out)
        return ending

    def _cancel(self) -> None:
        """Have every trainer save and stop, and wait until that is done."""
        print(f"fanout: told to stop; {len(self.waiting)} trainings are told to save", file=sys.stderr, flush=True)
        for ref in self.waiting:
            self.ray.cancel(ref, force=False, recursive=False)
        end = time.monotonic() + self.batch.stop_seconds + 5
        while self.waiting and time.monotonic() < end:
            self._take_in(POLL_SECONDS)


def attempt(spec: str, number: int) -> dict[str, Any]:
    """One attempt at a task, on the host that Ray chose; returns its `Ending` as plain values.

    Whatever ends it ends the trainer: cancelled, it tells the trainer to save and stop.
    """
    batch = read_batch(Path(spec))
    task = batch.tasks[number]
    if (Path(spec).parent / ENDED).exists():
        return to_plain(Ending(Exit.INTERRUPTED, host=platform.node(), why="the batch was withdrawn"))
    folder = begin(task.out)
    name = folder.parent.name
    command = [sys.executable, "-m", batch.module, task.verb, str(_own_request(task, folder))]
    command += ["--threads", str(batch.threads), "--die-with-parent", *_lock(batch)]
    process = subprocess.Popen(
        command, env=_environment(task, name), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    tail: deque[str] = deque(maxlen=STDERR_LINES)
    reader = Thread(target=copy_stderr, args=(process.stderr, tail), daemon=True)
    reader.start()
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                break
    except BaseException:  # Ray cancels by KeyboardInterrupt, and ends a worker by SystemExit
        signal_group(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(batch.stop_seconds)
        raise
    finally:
        signal_group(process.pid, signal.SIGKILL)  # whatever the leader left behind
        process.wait()
        reader.join(timeout=5)
    return to_plain(Ending(process.returncode, tuple(tail), platform.node(), name))


def _own_request(task: Task, folder: Path) -> Path:
    """The request of one attempt: the task's, written into and going on in the attempt's own directory."""
    document = read_document(task.request, [])
    own = folder / REQUEST
    if task.verb == "train":
        asked = train_request(document)
        write_request(own, replace(asked, out=folder, resume=(folder / STATE).exists()))
    else:
        wanted = predict_request(document)
        outs = [folder / f"{place}.parquet" for place in range(len(wanted.scorings))]
        also = tuple(Scoring(one.run, out) for one, out in zip(wanted.also, outs[1:], strict=True))
        write_request(own, replace(wanted, out=outs[0], also=also))
    return own


def _publish_scores(task: Task, ending: Ending) -> None:
    """Move the scores of an attempt to where the request wants them, each with its hash."""
    wanted: PredictRequest = predict_request(read_document(task.request, []))
    folder = task.out / ending.attempt / task.out.name
    for place, one in enumerate(wanted.scorings):
        made = folder / f"{place}.parquet"
        one.out.parent.mkdir(parents=True, exist_ok=True)
        for ending_of_name in ("", SIDECAR):
            os.replace(f"{made}{ending_of_name}", f"{one.out}{ending_of_name}")


def _environment(task: Task, name: str) -> dict[str, str]:
    """What the trainer inherits; its messages go into a file of this attempt alone."""
    variables: dict[str, str] = {**passed_on(os.environ), "PYTHONUNBUFFERED": "1", **task.pipes}
    if task.messages is not None and CONTEXT in variables:
        from dagster_pipes import decode_param, encode_param

        told: Mapping[str, Any] = decode_param(variables[MESSAGES_TO])
        variables[MESSAGES_TO] = encode_param({**told, "path": str(task.messages / f"{name}{MESSAGES}")})
    return variables


def _lock(batch: Batch) -> list[str]:
    """The lock of the GPU that Ray gave; of shares of a GPU, and of CPUs, Ray itself keeps the account."""
    found = gpus() if batch.gpus >= 1 else []
    return ["--lock", str(lock_folder(batch.lock_folder) / gpu_lock(found[0]))] if found else []


def _require_room(ray: Any, batch: Batch) -> None:
    """Refuse a batch whose tasks would wait for ever."""
    hosts = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(host.get("CPU", 0) >= batch.cpus and host.get("GPU", 0) >= batch.gpus for host in hosts):
        most = ", ".join(f"{host.get('CPU', 0):g} CPU and {host.get('GPU', 0):g} GPU" for host in hosts) or "nothing"
        raise RequestError(
            f"no host of the cluster has {batch.cpus:g} CPU and {batch.gpus:g} GPU for a training; they have {most}: "
            "ask for less (ATFT_RAY_TASK), or start a larger host"
        )


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise RequestError(
            "Ray is not installed on this host: pip install -c constraints.txt '.[train,ray]'"
        ) from error
    return ray


def _stop_flag() -> Callable[[], bool]:
    """Turns SIGTERM and SIGINT into a request to stop."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    return lambda: bool(asked)
