"""The asset `hpo` with the small trainer: it finds what is planted, goes on, and keeps off the last fold."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import optuna
import pytest
import yaml

from atft_assets.hpo.asset import BEST, NoDevelopmentFold, development_folds, hpo_asset
from atft_assets.hpo.page import FOLDS
from atft_assets.hpo.study import DATABASE, WHY
from atft_assets.hpo.trial import RECIPE
from atft_assets.training.folds import FoldRow
from atft_assets.training.launcher import LocalLauncher
from atft_assets.trials.ledger import all_trials, count
from atft_model.interchange.fold import write_fold
from atft_model.interchange.phases import PHASES
from atft_model.interchange.run import read_record
from tests.patience import PATIENCE, until
from tests.training.small_market import World
from tests.training.test_phases import failure, train

pytestmark = pytest.mark.usefixtures("trainer_on_path")

RATE = "training.learning_rate"
SPACE = {RATE: {"low": 1e-4, "high": 1e-1, "log": True}}
WORKER = """
import sys
from pathlib import Path
import dagster as dg
import atft_assets.hpo.study as study
from atft_assets.hpo.asset import hpo_asset
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.launcher import LocalLauncher
from datetime import date

study.HEARTBEAT_SECONDS = 1
root = sys.argv[1]
span = {"start": date(2019, 1, 4), "end": date(2020, 6, 30)}
settings = Settings(base_url="http://127.0.0.1:9/v2", plan=Plan.STANDARD, data_root=root, **span)
at_a_time = int(sys.argv[2])
config = {"study": "s", "trials": 4, "through_phase": 0, "startup_trials": 2, "trials_at_a_time": at_a_time,
          "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}}
done = dg.materialize(
    [hpo_asset(settings), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")], selection=["hpo"],
    resources={"store": Store(root=root), 
               "launcher": LocalLauncher(module="fake_trainer", threads=1, trainings=at_a_time)},
    run_config={"ops": {"hpo": {"config": config}}},
)
"""
TWO = LocalLauncher(module="fake_trainer", threads=1, trainings=2)


def search(world: World, instance: dg.DagsterInstance, launcher: dg.ConfigurableResource | None = None, **config: Any):
    config = {"study": "s", "through_phase": 0, "startup_trials": 3, "space": SPACE, **config}
    return dg.materialize(
        [hpo_asset(world.settings), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")],
        selection=["hpo"],
        resources={"store": world.store, "launcher": launcher or LocalLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": {"hpo": {"config": config}}},
        instance=instance,
        raise_on_error=False,
    )


def study_of(world: World) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{world.root / 'hpo' / 's' / DATABASE}")


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_the_planted_optimum_is_found_and_can_be_trained_with(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "frail")
    result = search(world, instance, trials=10, through_phase=1)
    assert result.success
    study = study_of(world)
    best = study.best_trial
    assert 3e-4 < best.params[RATE] < 3e-3  # planted at .001
    assert best.user_attrs[FOLDS] == {"previous": pytest.approx(best.value)}
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert failed and all("the loss is not finite" in trial.user_attrs[WHY] for trial in failed)
    assert all(trial.params[RATE] > 3e-3 and trial.value is None for trial in failed)
    # whatever came to a figure counts as tried, and a configuration once
    figured = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert count(world.root).by_study == {"hpo/s": len({trial.params[RATE] for trial in figured})}
    assert {one.recipe for one in all_trials(world.root)} == {trial.user_attrs[RECIPE] for trial in figured}
    shown = metadata(result)
    assert shown["trials_fail"] == len(failed) and len(shown["trials"].records) == 10 == len(study.trials)
    assert shown["best_objective"] == best.value and "image/png" in shown["history_and_importances"]
    # what was not the best is gone from disk
    runs = {path.name for path in (world.root / "hpo" / "s").glob("*/*/trial*")}
    assert runs == {f"trial{best.number:04d}"}
    # the config that it leaves trains the phases
    config = yaml.safe_load((world.root / "hpo" / "s" / BEST).read_text())["ops"]
    assert list(config) == ["train_phase0", "train_phase1"]
    assert train(world, instance, "train_phase0", **config["train_phase0"]["config"]).success


def test_a_study_goes_on_until_it_has_the_trials_that_are_asked_for(world: World, instance: dg.DagsterInstance) -> None:
    assert search(world, instance, trials=2, keep_runs=True).success
    first = [trial.params for trial in study_of(world).trials]
    assert search(world, instance, trials=4, keep_runs=True).success
    trials = study_of(world).trials
    assert len(trials) == 4 and [trial.params for trial in trials[:2]] == first
    written = {path: path.stat().st_mtime_ns for path in (world.root / "hpo" / "s").rglob("run.json")}
    assert len(written) == 4
    assert search(world, instance, trials=4, keep_runs=True).success  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in written} == written


class Interrupting(LocalLauncher):
    """Is interrupted in the training of one trial."""

    at: str

    def train(self, context, request, on_message=lambda message: None) -> None:
        if request.out.name == self.at:
            raise KeyboardInterrupt
        super().train(context, request, on_message)


def test_an_interrupted_trial_is_tried_again_first(world: World, instance: dg.DagsterInstance) -> None:
    launcher = Interrupting(module="fake_trainer", threads=1, at="trial0001")
    with suppress(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        assert not search(world, instance, launcher, trials=3).success
    before = study_of(world).trials
    assert [trial.state.name for trial in before] == ["COMPLETE", "FAIL", "WAITING"] and WHY not in before[1].user_attrs
    assert search(world, instance, trials=3).success
    after = study_of(world).trials
    assert after[2].params == before[1].params and after[2].state.name == "COMPLETE"
    assert [trial.state.name for trial in after].count("COMPLETE") == 3


def test_two_trials_run_side_by_side(world: World, instance: dg.DagsterInstance, monkeypatch) -> None:
    """The first training ends only if a second one has begun beside it."""
    monkeypatch.setenv("FAKE_TRAINER", "meet")
    result = search(world, instance, TWO, trials=3, trials_at_a_time=2, through_phase=1, keep_runs=True)
    assert result.success, failure(result)
    trials = study_of(world).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert trials[0].datetime_complete > trials[1].datetime_start
    for number in range(3):  # each trial is a chain of its own
        first, second = (
            world.root / "hpo" / "s" / "previous" / phase.key / f"trial{number:04d}" for phase in PHASES[:2]
        )
        assert read_record(second).parent.run_id == first.name == read_record(first).run_id
    assert metadata(result)["trials_complete"] == 3


def test_side_by_side_a_trial_fails_or_is_pruned_alone(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of one, the others go on, as they do one at a time; one fold is its last, so none is pruned."""
    monkeypatch.setenv("FAKE_TRAINER", "frail")
    assert search(world, instance, TWO, trials=6, trials_at_a_time=3).success
    trials = study_of(world).trials
    assert len(trials) == 6 and all(trial.state.is_finished() for trial in trials)
    for trial in trials:
        assert (trial.state.name == "FAIL") == (trial.params[RATE] > 3e-3) == (WHY in trial.user_attrs)
    assert {"FAIL", "COMPLETE"} == {trial.state.name for trial in trials}
    runs = {path.name for path in (world.root / "hpo" / "s").glob("*/*/trial*")}
    assert runs == {f"trial{study_of(world).best_trial.number:04d}"}


def test_one_at_a_time_draws_what_it_always_drew(world: World, instance: dg.DagsterInstance) -> None:
    """The sampler's view of trials under way changes nothing for a worker that is alone."""
    assert search(world, instance, trials=6).success
    theirs = study_of(world)
    plain = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(n_startup_trials=3, seed=0))
    plain.enqueue_trial(theirs.trials[0].params)
    for trial in theirs.trials:
        again = plain.ask()
        assert {RATE: again.suggest_float(RATE, 1e-4, 1e-1, log=True)} == trial.params
        plain.tell(again, trial.value)


class InterruptingAll(LocalLauncher):
    """Is interrupted in the second training of one trial, and of what runs beside it."""

    at: str

    def fan_out(self, context, requests, on_message=lambda request, message: None):
        if any((request.out.name, request.phase) == (self.at, 1) for request in requests):
            raise KeyboardInterrupt
        return super().fan_out(context, requests, on_message)


def test_interrupted_trials_are_tried_again_first(world: World, instance: dg.DagsterInstance) -> None:
    config = {"trials": 4, "trials_at_a_time": 2, "through_phase": 1}
    launcher = InterruptingAll(module="fake_trainer", threads=1, trainings=2, at="trial0002")
    with suppress(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        assert not search(world, instance, launcher, **config).success
    before = study_of(world).trials
    assert [trial.state.name for trial in before] == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "WAITING", "WAITING"]
    assert not any(WHY in trial.user_attrs for trial in before)
    assert search(world, instance, TWO, **config).success
    after = study_of(world).trials
    assert [trial.params for trial in after[4:]] == [trial.params for trial in before[2:4]]
    assert [trial.state.name for trial in after].count("COMPLETE") == 4


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"folds": ["main"]}, "are kept for what is judged at the end: choose other folds (previous)"),
        ({"folds": ["nowhere"]}, "the fold nowhere has not been cut"),
        ({"study": "../s"}, "a study cannot be called '../s'"),
        ({"space": {"network.dropuot": {"low": 0.1, "high": 0.2}}}, "there is no knob 'network.dropuot' to search"),
        ({"space": {"network.dropout": {"low": 0.1}}}, "give either low and high, or choices"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    world: World, instance: dg.DagsterInstance, config: dict[str, Any], said: str
) -> None:
    assert said in failure(search(world, instance, trials=1, **config))
    assert not list(world.root.glob("hpo/*/*/*"))


def test_only_the_last_fold_is_no_ground_for_a_choice(world: World, instance: dg.DagsterInstance) -> None:
    world.store.local("fold", world.newest().panel_id, "previous.json").unlink()
    said = failure(search(world, instance, trials=1))
    assert "has no fold beside main" in said and "take a longer range of dates" in said


def test_folds_that_reach_into_a_final_test_block_are_none_to_choose_by(world: World) -> None:
    """`previous` is tested on the days of main's validation block: once it is final, those days are shut as well."""
    panel, rows = world.newest(), (FoldRow("main"), FoldRow("previous"))
    assert [fold.name for fold in development_folds(world.store, panel, [], rows)] == ["previous"]
    later = replace(world.fold("previous"), name="later", validation=world.fold().validation, test=world.fold().test)
    write_fold(world.store.local("fold", panel.panel_id, "later.json"), later)
    assert [fold.name for fold in development_folds(world.store, panel, [], rows)] == ["previous", "later"]
    final = (FoldRow("main"), FoldRow("previous", final=True), FoldRow("later"))
    assert [fold.name for fold in development_folds(world.store, panel, [], final)] == ["previous"]
    with pytest.raises(NoDevelopmentFold, match=r"block of later ends on .* choose other folds \(previous\)"):
        development_folds(world.store, panel, ["later"], final)


def test_a_study_whose_every_trial_fails_says_why(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "degenerate")
    said = failure(search(world, instance, trials=2))
    assert "no trial of s came to a figure" in said and "scores have almost no spread" in said
    assert [trial.state.name for trial in study_of(world).trials] == ["FAIL", "FAIL"]


def test_a_study_of_another_space_is_refused(world: World, instance: dg.DagsterInstance) -> None:
    assert search(world, instance, trials=1).success
    said = failure(search(world, instance, trials=2, space={"network.dropout": {"low": 0.1, "high": 0.2}}))
    assert "the study s was made for something else (space is" in said and "give this one another name" in said


@pytest.fixture
def worker(world: World, tmp_path: Path):
    """Starts a process that works on the study `s`; each is ended."""
    made: list[subprocess.Popen[bytes]] = []

    def start(words: str = "", at_a_time: int = 1) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "FAKE_TRAINER": words}
        with (tmp_path / f"worker{len(made)}").open("w") as log:
            command = [sys.executable, "-c", WORKER, str(world.root), str(at_a_time)]
            made.append(subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


def test_two_workers_share_a_study(world: World, tmp_path: Path, worker) -> None:
    workers = [worker(), worker()]
    for place, process in enumerate(workers):
        assert process.wait(PATIENCE) == 0, (tmp_path / f"worker{place}").read_text()[-3000:]
    trials = study_of(world).trials
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert 4 <= len(trials) <= 5  # each ends the trial that it has begun
    assert [trial.number for trial in trials] == list(range(len(trials)))


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_what_a_killed_worker_left_is_tried_again(world: World, worker, at_a_time: int) -> None:
    process = worker("hang", at_a_time)
    until(lambda: len(list(world.root.glob("hpo/s/**/ready"))) == at_a_time, "the trainings", process=process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = study_of(world).trials
    assert [trial.state.name for trial in left] == ["RUNNING"] * at_a_time
    time.sleep(2.5)  # its heart is to beat once a second, and is given two
    second = worker("", at_a_time)
    assert second.wait(PATIENCE) == 0
    trials = study_of(world).trials
    assert [trial.state.name for trial in trials[:at_a_time]] == ["FAIL"] * at_a_time
    assert [trial.params for trial in trials[:at_a_time]] == [trial.params for trial in left]
    again = [trial.params for trial in trials[at_a_time:]]
    assert all(trial.params in again for trial in left)
    assert sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials) >= 4


def test_the_phases_are_trained_one_from_the_other(world: World, instance: dg.DagsterInstance) -> None:
    assert search(world, instance, trials=1, through_phase=3, keep_runs=True).success
    runs = [world.root / "hpo" / "s" / "previous" / phase.key / "trial0000" for phase in PHASES]
    assert all((run / "run.json").is_file() for run in runs)
