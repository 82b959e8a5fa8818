"""One study: what Optuna remembers between commands, and by how many workers it may be continued at once.

`hpo/<study>/study.db` is an Optuna database (SQLite). A worker that is killed leaves a trial behind that still says
"running"; its heartbeat stops, and the next worker marks it as failed and tries its values again. Whatever is compared
must be comparable, so a study belongs to one panel, one list of folds, one space and one measure, and refuses others.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from atft_assets.failures import Refusal
from atft_model.interchange.records import to_plain

if TYPE_CHECKING:
    import optuna

DATABASE = "study.db"
IDENTITY = "made for"  # user attribute of a study
WHY = "why"  # user attribute of a trial that failed
HEARTBEAT_SECONDS = 30
BUSY_SECONDS = 120.0  # how long a worker waits for another one that writes


class OtherStudy(Refusal):
    """A study of this name was made for something else."""


def objective_of(by_fold: Mapping[str, float], spread_penalty: float) -> float:
    """Mean over the folds minus `spread_penalty` times their standard deviation (ddof 0; none with one fold)."""
    values = list(by_fold.values())
    return fmean(values) - spread_penalty * pstdev(values)


def open_study(
    folder: Path, name: str, identity: Mapping[str, Any], *, seed: int, startup_trials: int
) -> "optuna.Study":
    """A study, made or gone on with.

    Args:
        folder: of the study.
        identity: what its trials have in common.
        seed: of the sampler; trials that a study has already count, lest the draws be repeated.
        startup_trials: that are drawn at random before the sampler learns, and before any is pruned.

    Raises:
        OtherStudy: there is one of that name with another identity.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), warnings.catch_warnings():  # two first workers would both make the tables
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder / DATABASE}",
            engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}},
            heartbeat_interval=HEARTBEAT_SECONDS,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2),
        )
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup_trials),
        )
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=startup_trials, seed=seed + len(study.trials))
        ours, theirs = to_plain(dict(identity)), study.user_attrs.get(IDENTITY)
        if theirs is None:
            study.set_user_attr(IDENTITY, ours)
    if theirs not in (None, ours):
        apart = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        was = "; ".join(f"{key} is {ours.get(key)}, there {theirs.get(key)}" for key in apart)
        raise OtherStudy(f"the study {name} was made for something else ({was}): give this one another name")
    return study


def counted(study: "optuna.Study") -> int:
    """Trials that have come to an end of their own: complete, pruned, or failed for a reason."""
    return sum(
        trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and WHY in trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    )


def best_of(study: "optuna.Study") -> "optuna.trial.FrozenTrial | None":
    """The complete trial with the highest objective; None if there is none."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)
