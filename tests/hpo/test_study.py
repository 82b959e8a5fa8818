"""What a study remembers: its identity, what counts as a trial, and its figure."""

from pathlib import Path

import dagster as dg
import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.failures import Refusal
from atft_assets.hpo.page import FOLDS, best_config, importances, picture, render, trials_table
from atft_assets.hpo.study import WHY, OtherStudy, best_of, counted, database_of, objective_of, open_study
from atft_assets.hpo.tried import tried
from tests.reports.page import checked

IDENTITY = {"panel": "p1", "folds": {"a": ["2019-01-04"]}}


def opened(folder: Path, **identity: object) -> optuna.Study:
    return open_study(folder, "s", {**IDENTITY, **identity}, seed=0, startup_trials=4)


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=6), st.floats(0, 2))
def test_the_objective_is_the_mean_less_its_spread(values: list[float], penalty: float) -> None:
    by_fold = {str(place): value for place, value in enumerate(values)}
    assert objective_of(by_fold, penalty) == pytest.approx(np.mean(values) - penalty * np.std(values))
    assert objective_of(by_fold, penalty) <= np.mean(values) + 1e-12
    shifted = {name: value + 0.01 for name, value in by_fold.items()}
    assert objective_of(shifted, penalty) == pytest.approx(objective_of(by_fold, penalty) + 0.01)


def test_a_study_is_gone_on_with_and_refuses_what_is_not_comparable(tmp_path: Path) -> None:
    opened(tmp_path).optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    again = opened(tmp_path)
    assert counted(again) == 2
    first = [trial.params["x"] for trial in again.trials]
    again.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert not set(first) & {trial.params["x"] for trial in again.trials[2:]}, "the same draws again"
    with pytest.raises(OtherStudy, match=r"panel is p2, there p1.*another name"):
        opened(tmp_path, panel="p2")


def test_in_a_bucket_a_study_needs_the_platforms_database() -> None:
    """Nobody loses trials to another machine's file."""
    with dg.DagsterInstance.ephemeral() as instance:
        assert database_of(instance, bucket=False) is None
        with pytest.raises(Refusal, match=r"a bucket holds none: let Dagster write its history to PostgreSQL"):
            database_of(instance, bucket=True)
        setattr(instance.event_log_storage, "postgres_url", "postgresql:///atft")  # noqa: B010
        assert database_of(instance, bucket=True) == "postgresql:///atft"


def test_what_failed_by_itself_counts_and_what_was_killed_does_not(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for state, why in (("FAIL", "the loss is not finite"), ("FAIL", None), ("PRUNED", None), ("RUNNING", None)):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        if why:
            trial.set_user_attr(WHY, why)
        if state != "RUNNING":
            study.tell(trial, state=optuna.trial.TrialState[state])
    assert counted(study) == 2 and best_of(study) is None
    done = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    study.tell(done, 0.5)
    assert counted(study) == 3 and best_of(study).number == done.number
    # of another version no trial says its recipe: what was drawn within the study stands for it
    noted = list(tried(study))
    assert sorted(one.state for one in noted) == ["complete", "pruned"] and len({one.recipe for one in noted}) == 2
    assert {one.study for one in noted} == {"hpo/s"} and [one.recipe for one in tried(study)] == [
        one.recipe for one in noted
    ]
    rows = [record.data for record in trials_table(study)]
    assert [row["state"] for row in rows] == ["complete", "pruned", "fail", "fail", "running"]
    assert "the loss is not finite" in {row["why"] for row in rows}


def test_the_knob_that_decides_is_named(tmp_path: Path) -> None:
    study = opened(tmp_path)
    assert importances(study) == {} and "too few" not in picture(study)[:20]

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr(FOLDS, {"a": 0.1})
        return -((trial.suggest_float("training.learning_rate", 0, 1) - 0.5) ** 2) + 0 * trial.suggest_float(
            "network.dropout", 0, 1
        )

    study.optimize(objective, n_trials=40)
    shares = importances(study)
    assert max(shares, key=shares.__getitem__) == "training.learning_rate" and shares["training.learning_rate"] > 0.7
    assert picture(study).startswith("![s](data:image/png;base64,")
    config = yaml.safe_load(
        str(best_config(study, "demo", {"training": {"chunk_days": 4}}, ["train_phase0", "train_phase1"]))
    )
    best = best_of(study).params
    first, second = (config["ops"][name]["config"] for name in ("train_phase0", "train_phase1"))
    assert first["preset"] == "demo" and "preset" not in second
    assert first["training"] == {"chunk_days": 4, "learning_rate": best["training.learning_rate"]}
    assert first["network"] == {"dropout": best["network.dropout"]} == second["network"]
    page = checked(render(study, "trial 3 <of> 40", "ops: {}", "dagster asset materialize --config x"))
    assert "Search s: trial 3 &lt;of&gt; 40" in page and page.count(">complete<") == 40 and "ops: {}" in page
    assert f"{shares['training.learning_rate']:.1%}" in page and page.count("<img") == 1
