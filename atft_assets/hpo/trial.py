"""One trial: the curriculum on each fold, up to a phase, with the trial's knobs; the last phase is judged."""

import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from atft_assets.hpo.page import FOLDS, RAW, SECONDS
from atft_assets.hpo.space import PARTS, Dimension, Knobs, knobs_of
from atft_assets.hpo.study import WHY, best_of, objective_of
from atft_assets.scoring.block import Block
from atft_assets.training.protocol import TrainingFailed, TrainingLauncher
from atft_assets.training.runs import open_run
from atft_assets.trials.recipes import recipe_of_run
from atft_model.interchange.config import PhaseChanges
from atft_model.interchange.errors import RunError
from atft_model.interchange.exits import Exit
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel
from atft_model.interchange.phases import Phase
from atft_model.interchange.request import TrainRequest

if TYPE_CHECKING:
    import optuna

BLOCK = "validation"
RECIPE = "recipe"  # user attribute of a trial: what of its runs would be the same in any training
LOCK_POLL_SECONDS = 5.0

Trainings = Generator[TrainRequest, None, float]  # those of a trial, one after another, and its objective


class TrialFailed(Exception):
    """A trial came to no figure: its knobs, not the machine, are the reason."""


@dataclass(frozen=True)
class Plan:
    """What all trials of a study have in common.

    Attributes:
        folder: of the study; runs are written below it, as `<fold>/<phase>/trial<number>`.
        phases: of the curriculum, in order; the last one's scores are judged.
        request: fields of every `TrainRequest` that are not searched.
    """

    folder: Path
    panel: Panel
    folds: Sequence[Fold]
    phases: Sequence[Phase]
    space: Mapping[str, Dimension]
    request: Mapping[str, Any]
    spread_penalty: float

    @cached_property
    def blocks(self) -> dict[str, Block]:
        """The validation block of each fold."""
        return {fold.name: Block.of(self.panel, fold, BLOCK) for fold in self.folds}

    def out(self, fold: str, phase: Phase, number: int) -> Path:
        return self.folder / fold / phase.key / f"trial{number:04d}"

    def folders(self, number: int) -> Iterator[Path]:
        """Run directories of a trial that are there."""
        yield from self.folder.glob(f"*/*/trial{number:04d}")

    def requests(self, fold: Fold, number: int, knobs: Knobs) -> Iterator[TrainRequest]:
        """The trainings of a trial on one fold, each from the run before it.

        A network's size is chosen by the first and comes with its weights to the others.
        """
        given = {part: {**_plain(self.request.get(part, {})), **knobs[part]} for part in PARTS}
        fixed = {name: value for name, value in self.request.items() if name not in PARTS}
        before: Path | None = None
        for phase in self.phases:
            out = self.out(fold.name, phase, number)
            yield TrainRequest(
                panel=self.panel.folder,
                fold=fold,
                phase=phase.index,
                out=out,
                init=before,
                network=given["network"],
                training=given["training"],
                curriculum=PhaseChanges(**given["curriculum"]),
                **fixed,
            )
            before = out


def of_trial(trial: "optuna.Trial", plan: Plan) -> Trainings:
    """Judge fold after fold; a trial whose mean so far is below the median of the others is given up.

    Yields each training in its turn; whoever carries it out throws its failure in.

    Raises:
        TrialFailed: a training ended without a checkpoint, or its scores have no figure.
        optuna.TrialPruned: it was given up.
    """
    import optuna

    began = time.monotonic()
    values = {name: dimension.suggest(trial, name) for name, dimension in plan.space.items()}
    neutral: dict[str, float] = {}
    raw: dict[str, float] = {}
    try:
        for place, fold in enumerate(plan.folds):
            for request in plan.requests(fold, trial.number, knobs_of(values)):
                yield request
            run = open_run(request.out)
            trial.set_user_attr(RECIPE, recipe_of_run(run.folder))
            if run.record.guards and not run.record.guards["passed"]:
                raise TrialFailed("; ".join(run.record.guards["messages"]))
            score = plan.blocks[fold.name].score(run.scores())
            if score.neutral_rank_ic != score.neutral_rank_ic:
                raise TrialFailed(f"the scores on {fold.name} do not vary within a day")
            neutral[fold.name], raw[fold.name] = float(score.neutral_rank_ic), float(score.rank_ic)
            trial.report(objective_of(neutral, plan.spread_penalty), place)
            if place + 1 < len(plan.folds) and trial.should_prune():
                raise optuna.TrialPruned
    except (TrialFailed, TrainingFailed, RunError) as error:
        trial.set_user_attr(WHY, " ".join(str(error).split()))
        raise TrialFailed(str(error)) from error
    finally:
        trial.set_user_attr(FOLDS, neutral)
        trial.set_user_attr(RAW, raw)
        trial.set_user_attr(SECONDS, round(time.monotonic() - began, 1))
    return objective_of(neutral, plan.spread_penalty)


def run_trial(
    trial: "optuna.Trial", plan: Plan, context: dg.AssetExecutionContext, launcher: TrainingLauncher
) -> float:
    """One trial by itself, training after training; see `of_trial`."""
    trainings = of_trial(trial, plan)
    with closing(trainings):  # an interrupt ends it, too
        try:
            request = next(trainings)
            while True:
                try:
                    _train(context, launcher, request)
                except TrainingFailed as failure:
                    request = trainings.throw(failure)
                else:
                    request = next(trainings)
        except StopIteration as over:
            return float(over.value)


def _train(context: dg.AssetExecutionContext, launcher: TrainingLauncher, request: TrainRequest) -> None:
    """One training; while another process has the device, as a second worker of the study does, it waits its turn."""
    said = False
    while True:
        try:
            return launcher.train(context, request)
        except TrainingFailed as failure:
            if failure.exit_code != Exit.LOCK_BUSY:
                raise
            if not said:
                context.log.info(f"waiting: {failure}")
                said = True
            time.sleep(LOCK_POLL_SECONDS)


def tidy(study: "optuna.Study", plan: Plan) -> None:
    """Remove the run directories of ended trials, but those of the best."""
    best = best_of(study)
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and (best is None or trial.number != best.number):
            for folder in plan.folders(trial.number):
                shutil.rmtree(folder, ignore_errors=True)


def _plain(part: Any) -> dict[str, Any]:
    """The knobs that a part of the request sets."""
    if isinstance(part, PhaseChanges):
        return {name: value for name, value in vars(part).items() if value is not None}
    return dict(part)
