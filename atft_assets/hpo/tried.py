"""What a search adds to the ledger of trials: whatever came to a figure, the trials that were given up for it too."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atft_assets.hpo.page import FOLDS
from atft_assets.hpo.study import IDENTITY
from atft_assets.hpo.trial import RECIPE
from atft_assets.trials.ledger import Trial
from atft_assets.trials.recipes import recipe_of

if TYPE_CHECKING:
    import optuna


def tried(study: "optuna.Study") -> Iterator[Trial]:
    """The complete and the pruned trials of a study, by whatever worker.

    Of an earlier version a trial does not say its recipe: its values within the study stand for it.
    """
    made_for = study.user_attrs.get(IDENTITY)
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name in ("COMPLETE", "PRUNED"):
            yield Trial(
                study=f"hpo/{study.study_name}",
                number=str(trial.number),
                recipe=trial.user_attrs.get(RECIPE) or recipe_of([made_for, trial.params]),
                state="complete" if trial.state.name == "COMPLETE" else "pruned",
                params=dict(trial.params),
                values=dict(trial.user_attrs.get(FOLDS, {})),
            )
