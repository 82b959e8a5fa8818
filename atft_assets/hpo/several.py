"""Several trials of one study at a time: the next training of each is handed out together, as one fan-out.

A trial is a chain: each training starts from the one before, and a trial may be given up after any fold. So the chains
go side by side, link by link; one that ends makes room for a new trial at the next link. The sampler takes trials that
are under way for bad ones (`constant_liar`), so that it does not draw near them again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

import dagster as dg

from atft_assets.hpo.study import counted
from atft_assets.hpo.trial import LOCK_POLL_SECONDS, Plan, Trainings, TrialFailed, of_trial
from atft_assets.training.protocol import TrainingFailed, TrainingLauncher
from atft_model.interchange.exits import Exit
from atft_model.interchange.request import TrainRequest

if TYPE_CHECKING:
    import optuna


@dataclass
class _Live:
    """A trial that is under way, and its next training."""

    trial: "optuna.Trial"
    trainings: Trainings
    request: TrainRequest


@dataclass
class SideBySide:
    """A search whose trials run side by side.

    Attributes:
        at_a_time: trials.
        wanted: how many ended trials the study is to have; those of other workers count.
        after: told of each trial that has ended.
    """

    study: "optuna.Study"
    plan: Plan
    context: dg.AssetExecutionContext
    launcher: TrainingLauncher
    at_a_time: int
    wanted: int
    after: Callable[["optuna.trial.FrozenTrial"], None]

    def __post_init__(self) -> None:
        self.live: list[_Live] = []

    def search(self) -> None:
        """Until the study has as many trials as are wanted; an interrupt closes those that are under way, and their
        values are the first that the next worker tries.
        """
        try:
            with self._beating():
                self._fill()
                while self.live:
                    self._step()
                    self._fill()
        except BaseException as struck:
            for one in self.live:
                one.trainings.close()
                self._end(one.trial, struck)
            raise

    def _fill(self) -> None:
        """Begin trials while there is room and some are lacking."""
        import optuna

        while len(self.live) < self.at_a_time and counted(self.study) + len(self.live) < self.wanted:
            optuna.storages.fail_stale_trials(self.study)  # what a killed worker left is tried again first
            trial = self.study.ask()
            self._beat(trial)
            self._go_on(trial, of_trial(trial, self.plan), next)

    def _step(self) -> None:
        """One training of each trial."""
        live = self.live
        ends = self.launcher.fan_out(self.context, [one.request for one in live])
        busy = 0
        self.live = []
        for place, (one, end) in enumerate(zip(live, ends, strict=True)):
            if end is not None and end.exit_code == Exit.LOCK_BUSY:  # another process has its place: in the next step
                self.context.log.info(f"waiting: {end}")
                self.live.append(one)
                busy += 1
                continue
            try:
                self._go_on(one.trial, one.trainings, next if end is None else _thrown(end))
            except BaseException:
                self.live += live[place + 1 :]  # whoever closes the search must know them
                raise
        if busy == len(live):
            time.sleep(LOCK_POLL_SECONDS)

    def _go_on(self, trial: "optuna.Trial", trainings: Trainings, advance: Callable[[Trainings], TrainRequest]) -> None:
        """Take a trial to its next training, or to its end."""
        import optuna

        State = optuna.trial.TrialState
        try:
            self.live.append(_Live(trial, trainings, advance(trainings)))
        except StopIteration as over:
            self.after(self.study.tell(trial, float(over.value)))
        except TrialFailed:
            self.after(self.study.tell(trial, state=State.FAIL))
        except optuna.TrialPruned:
            self.after(self.study.tell(trial, state=State.PRUNED))
        except BaseException as struck:
            self._end(trial, struck)
            raise

    def _end(self, trial: "optuna.Trial", struck: BaseException) -> None:
        """End a trial that came to no end of its own; what was interrupted is tried again."""
        import optuna

        values = dict(trial.params)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if isinstance(struck, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
            self.study.enqueue_trial(values)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """The hearts of the trials that are under way beat, where the storage hears them, as `optimize` has them."""
        over, interval = Event(), getattr(self.study._storage, "get_heartbeat_interval", lambda: None)()

        def beat() -> None:
            while not over.wait(interval):
                for one in list(self.live):
                    with suppress(Exception):  # a database that is away for a while: the next beat may reach it
                        self._beat(one.trial)

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat(self, trial: "optuna.Trial") -> None:
        storage = self.study._storage
        if record := getattr(storage, "record_heartbeat", None):  # `study.ask` leaves it to us
            study_id = storage.get_study_id_from_name(self.study.study_name)
            record(storage.get_trial_id_from_study_id_trial_number(study_id, trial.number))


def _thrown(failure: TrainingFailed) -> Callable[[Trainings], TrainRequest]:
    return lambda trainings: trainings.throw(failure)
