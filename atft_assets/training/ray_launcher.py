"""Trainings on a Ray cluster, ordered over HTTP: one job for many trainings, never one a training.

A job costs half a minute to start, a task in it nothing; so a fan-out is one job, whose driver (`atft_model.fanout`)
has a task for each training. What passes between here and there is files in a folder that both see under the same path,
beside the runs: the order, messages, the outcome. Ray itself is not needed here.

Every wait is bounded. The end is a terminal state of the job, or a head that has not answered for a minute; then the
order is withdrawn by a file, so that a driver that lives on, cut off, publishes nothing any more.
"""

import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from pydantic import Field

from atft_assets.closing_words import note_interrupt
from atft_assets.training.endings import close, explain, failed, interrupted, lost
from atft_assets.training.folder_messages import FolderMessageReader
from atft_assets.training.launcher import runs_of
from atft_assets.training.protocol import Message, TrainingFailed, unheard
from atft_assets.training.ray_jobs import RUN_ID, Job, JobsApi, Late, NoAnswer, Refused
from atft_assets.training.trainer_process import STARTED_BY
from atft_model.interchange.attempts import settle
from atft_model.interchange.batch import ENDED, Batch, Ending, Task, read_outcome, write_batch
from atft_model.interchange.errors import RequestError
from atft_model.interchange.exits import Exit
from atft_model.interchange.request import PredictRequest, TrainRequest, write_request
from atft_model.interchange.run import REQUEST

FOLDER = ".fanout"  # of the jobs' folders, beside the runs


@dataclass(frozen=True)
class _Carried:
    """What is known of a job when nobody waits for it any longer.

    Attributes:
        why: it did not end well, or nobody knows how it ended; empty where all is well.
        over: it has ended.
    """

    why: str
    endings: Sequence[Ending | None]
    over: bool

    def tidy(self, folder: Path) -> None:
        """Remove its folder, once its messages are read; one that may live on must find that it is withdrawn."""
        if self.over:
            shutil.rmtree(folder, ignore_errors=True)


class RayLauncher(dg.ConfigurableResource):
    """Runs trainings as tasks of a Ray cluster; see `TrainingLauncher`."""

    url: str = Field(description="Where the Jobs API answers, such as http://10.77.0.1:8265")
    token_path: str = Field(default="", description="File with the token of the API; empty: it asks for none")
    module: str = Field(default="atft_model", description="The trainer; tests give a small one")
    python: str = Field(default="python", description="The interpreter on the cluster's head")
    cpus: int = Field(default=1, description="CPUs, and threads, of a training", ge=1)
    gpus: float = Field(default=0.0, description="GPUs of a training; 0: on the processor", ge=0)
    retries: int = Field(default=3, description="How often a training begins again when its host is lost", ge=0)
    lock_folder: str = Field(
        default="", description="Folder of the locks of GPUs on each host; empty: the temporary one"
    )
    poll_seconds: float = Field(default=2.0, description="Between two looks at the job")
    silence_seconds: float = Field(default=60.0, description="Without an answer of the head, after which it is over")
    stop_seconds: float = Field(default=45.0, description="That an interrupted job may take to save and stop")

    def train(
        self,
        context: dg.AssetExecutionContext,
        request: TrainRequest,
        on_message: Callable[[Message], None] = unheard,
    ) -> None:
        """See `TrainingLauncher`: a fan-out of one."""
        (failure,) = self.fan_out(context, [request], lambda _, message: on_message(message))
        if failure is not None:
            raise failure

    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None:
        """See `TrainingLauncher`; no Pipes: scores are all that comes back."""
        job_id, folder = self._open(context, runs_of(request.run))
        write_request(folder / REQUEST, request)
        task = Task("predict", folder / REQUEST, folder / "scores")
        done = self._carry_out(context, job_id, folder, [task], lambda: None)
        done.tidy(folder)
        ending = done.endings[0]
        if ending is None or ending.code is None:
            said = done.why or (ending.why if ending else "") or "the job ended without a word"
            raise TrainingFailed(f"nothing was scored: {said}", Exit.INTERRUPTED, "")
        if ending.code != Exit.FINISHED:
            said = explain(ending.code, ending.stderr, out=request.out, runs=runs_of(request.run), lock=None)
            raise TrainingFailed(said, ending.code, "\n".join(ending.stderr))

    def fan_out(
        self,
        context: dg.AssetExecutionContext,
        requests: Sequence[TrainRequest],
        on_message: Callable[[TrainRequest, Message], None] = unheard,
    ) -> list[TrainingFailed | None]:
        """See `TrainingLauncher`; as many at a time as the cluster has room for."""
        if len({request.out for request in requests}) < len(requests):
            raise ValueError("two requests of one fan-out have the same run directory")
        if not requests:
            return []
        job_id, folder = self._open(context, runs_of(requests[0].out))
        heard = [0] * len(requests)
        with ExitStack() as stack:
            sessions, tasks = [], []
            for number, request in enumerate(requests):
                if request.resume:
                    settle(request.out)
                write_request(request.out / REQUEST, request)
                messages = folder / f"messages-{number}"
                session = stack.enter_context(
                    dg.open_pipes_session(
                        context=context,
                        context_injector=dg.PipesEnvContextInjector(),
                        message_reader=FolderMessageReader(messages),
                    )
                )
                pipes = {**session.get_bootstrap_env_vars(), STARTED_BY: context.run.run_id}
                sessions.append(session)
                tasks.append(Task("train", request.out / REQUEST, request.out, pipes, messages))

            def forward() -> None:
                for number, session in enumerate(sessions):
                    new = session.get_custom_messages()[heard[number] :]
                    heard[number] += len(new)
                    for message in new:
                        on_message(requests[number], message)

            try:
                done = self._carry_out(context, job_id, folder, tasks, forward)
            except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
                asset = context.asset_key.path[-1]
                said = [interrupted(request.out) for request in requests]
                note_interrupt(asset, said[0].rpartition(". ")[2])
                for sentence in said:
                    context.log.warning(f"{asset}: {sentence}")
                raise
            except Refused:
                for request in requests:  # what never began leaves nothing behind
                    close(request.out, "interrupted")
                raise
        forward()  # what came while the sessions closed
        done.tidy(folder)
        return [_end(done.why, request.out, ending) for request, ending in zip(requests, done.endings, strict=True)]

    def cancel(self, dagster_run_id: str) -> list[str]:
        """See `TrainingLauncher`: jobs of the cluster."""
        return [
            f"the Ray job {job.id} of the run {dagster_run_id} was told to stop"
            for job in stopped(self.api(), lambda job: job.metadata.get(RUN_ID) == dagster_run_id)
        ]

    def share(self, count: int) -> None:
        """See `TrainingLauncher`: the cluster's, of which this machine says nothing."""

    def api(self) -> JobsApi:
        """The Jobs API of the cluster."""
        return JobsApi(self.url, self.token_path)

    def _open(self, context: dg.AssetExecutionContext, runs: Path) -> tuple[str, Path]:
        """Id and folder of a new job."""
        job_id = f"atft-{context.run.run_id[:8]}-{uuid.uuid4().hex[:8]}"
        folder = runs.parent / FOLDER / job_id
        folder.mkdir(parents=True)
        return job_id, folder

    def _carry_out(
        self, context: dg.AssetExecutionContext, job_id: str, folder: Path, tasks: Sequence[Task],
        while_waiting: Callable[[], None],
    ) -> _Carried:  # fmt: skip
        """Have a job done.

        Raises:
            Refused: it could not be started.
        """
        api = self.api()
        batch = Batch(
            tuple(tasks),
            self.module,
            self.cpus,
            float(self.cpus),
            self.gpus,
            self.retries,
            lock_folder=self.lock_folder,
        )
        spec = write_batch(folder, batch)
        entrypoint = f"exec {shlex.join([self.python, '-m', 'atft_model', 'fanout', '--spec', str(spec)])}"
        metadata = {RUN_ID: context.run.run_id, "atft/asset": context.asset_key.to_user_string()}
        context.log.info(f"Ray job {job_id} at {self.url}, {len(tasks)} tasks: {entrypoint}")
        try:
            self._order(api, job_id, entrypoint, metadata)
            job, why = self._wait(api, job_id, while_waiting)
        except Refused:
            (folder / ENDED).touch()  # the order may have arrived, and its answer been lost
            raise
        except BaseException:  # an interrupt above all, be it while the order is on its way: Dagster's is no Exception
            context.log.warning(f"the run is ending: the Ray job {job_id} is told to save and stop")
            self._stop(api, job_id, folder)
            raise
        if job is None:
            (folder / ENDED).touch()
            with suppress(NoAnswer, Refused):
                api.stop(job_id)
        elif job.status != "SUCCEEDED":
            why = f"the Ray job {job_id} ended as {job.status}: {' '.join(job.message.split())[-600:] or 'no message'}"
        return _Carried(why, _endings(folder, len(tasks)), job is not None)

    def _order(self, api: JobsApi, job_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        """Submit a job. A head that has much to do may take an order and answer late, so it is asked what it knows.

        Raises:
            Refused: it could not be started, or nobody knows.
        """
        end = time.monotonic() + self.silence_seconds
        while True:
            try:
                return api.submit(job_id, entrypoint, metadata, {})
            except NoAnswer as error:
                if not isinstance(error, Late) or time.monotonic() > end:
                    raise Refused(f"{error}: is the head up, and ATFT_RAY_URL its address?") from None
            with suppress(NoAnswer, Refused):
                api.job(job_id)
                return None
            time.sleep(self.poll_seconds)

    def _wait(self, api: JobsApi, job_id: str, while_waiting: Callable[[], None]) -> tuple[Job | None, str]:
        """Wait for a job's end; without a job, the reason why nobody waits any longer."""
        answered = time.monotonic()
        while True:
            while_waiting()
            try:
                job = api.job(job_id)
                answered = time.monotonic()
                if job.over:
                    return job, ""
            except Refused as error:
                return None, f"the Ray job {job_id} is lost: {error}"
            except NoAnswer as error:
                if time.monotonic() - answered > self.silence_seconds:
                    return None, f"the Ray job {job_id} is lost: {error} for {self.silence_seconds:g} s"
            time.sleep(self.poll_seconds)

    def _stop(self, api: JobsApi, job_id: str, folder: Path) -> None:
        """Stop a job and wait for its end, so long at most; then its order is withdrawn in any case."""
        end = time.monotonic() + self.stop_seconds
        try:
            while time.monotonic() < end:
                with suppress(NoAnswer):
                    if api.job(job_id).over:
                        return
                    api.stop(job_id)
                time.sleep(min(self.poll_seconds, 1.0))
        except Refused:
            return  # it never began, or is known no more
        finally:
            (folder / ENDED).touch()


def _end(why: str, out: Path, ending: Ending | None) -> TrainingFailed | None:
    """What became of a training, by what the driver wrote down."""
    if ending is None or ending.code is None:
        return lost(why or (ending.why if ending else "") or "the job ended without a word", out)
    if ending.code == Exit.FINISHED:
        return None
    return failed(ending.code, ending.stderr, out=out, runs=runs_of(out), lock=None)


def stopped(api: JobsApi, which: Callable[[Job], bool]) -> list[Job]:
    """Tell jobs that are not over to stop; returns them.

    Raises:
        Refused, NoAnswer: the cluster cannot be asked.
    """
    found = [job for job in api.jobs() if not job.over and which(job)]
    for job in found:
        api.stop(job.id)
    return found


def _endings(folder: Path, count: int) -> list[Ending | None]:
    try:
        outcome = read_outcome(folder)
    except RequestError:  # half of a file that a lost disk left
        outcome = None
    return list(outcome.endings) if outcome and len(outcome.endings) == count else [None] * count
