"""Several folds of the walk-forward in one run, their trainings side by side: each with its own record and verdicts."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.training import machine
from atft_assets.training.lanes import MAIN_LANE, Lane
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.preflight import latest_evaluation
from atft_assets.training.runs import latest_run
from atft_assets.training.seeds import latest_ensemble
from atft_model.interchange.attempts import attempts
from atft_model.interchange.run import read_record
from tests.training.ordering import bits
from tests.training.small_market import World
from tests.training.test_phases import failure
from tests.training.test_walk_forward import LANE, ROWS

pytestmark = pytest.mark.usefixtures("trainer_on_path")

RANGE = {"dagster/asset_partition_range_start": "winter", "dagster/asset_partition_range_end": "summer"}
FOLDS = ["winter", "spring", "summer"]
LAUNCHER = LocalLauncher(module="fake_trainer", threads=1, trainings=3)


@pytest.fixture
def cut(world: World) -> World:
    world.cut(world.newest(), ROWS)
    return world


def train(
    world: World, instance: dg.DagsterInstance, *phases: str, launcher=LAUNCHER, fold: str | None = None, **config
):
    """Materialize phases of all folds in one run, or of one."""
    settings = world.settings.model_copy(update={"trainings": 3})
    assets = World(world.root, world.store, settings, world.days, world.codes, world.returns).phase_assets(LANE)
    return dg.materialize(
        [*assets, dg.AssetSpec("training_panel"), dg.AssetSpec("folds")],
        selection=list(phases),
        resources={"store": world.store, "launcher": launcher},
        run_config={"ops": {name: {"config": {"allow_ephemeral_instance": True, **config}} for name in phases}},
        partition_key=fold,
        tags=None if fold else RANGE,
        instance=instance,
        raise_on_error=False,
    )


def materialized(instance: dg.DagsterInstance, asset: str) -> dict[str, dg.AssetMaterialization]:
    """The newest of each fold."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    newest = {str(record.partition_key): record.asset_materialization for record in reversed(records)}
    return {name: event for name, event in newest.items() if event is not None}


def test_one_run_trains_all_folds_and_seeds_side_by_side(cut: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.instance_for_test() as instance:
        monkeypatch.setenv("FAKE_TRAINER", "meet,seed=0")
        result = train(cut, instance, "fold_phase0", "fold_phase1", seeds=[0, 7])
        assert result.success, failure(result)
        for asset, index in (("fold_phase0", 0), ("fold_phase1", 1)):
            events = materialized(instance, asset)
            assert set(events) == set(FOLDS) == instance.get_materialized_partitions(dg.AssetKey(asset))
            for fold in FOLDS:
                ensemble = latest_ensemble(cut.runs(index, fold))
                assert ensemble is not None and ensemble.seeds == (0, 7)
                assert events[fold].tags["dagster/data_version"] == ensemble.version
                assert events[fold].metadata["fold"].value == fold
                for check in ("gradient_flow", "no_degeneracy"):
                    verdict = latest_evaluation(instance, asset, check, fold)
                    assert verdict is not None and verdict.passed and verdict.partition == fold
        child = latest_run(cut.runs(1, "spring"))
        assert child is not None and child.record.parent is not None
        assert child.record.parent.run_id == latest_run(cut.runs(0, "spring")).run_id  # type: ignore[union-attr]
        observed = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
        assert {e.asset_observation_data.asset_observation.partition for e in observed} == set(FOLDS)


def test_the_bits_are_those_of_a_run_a_fold(cut: World, instance: dg.DagsterInstance) -> None:
    assert train(cut, instance, "fold_phase0").success
    together = [bits(latest_run(cut.runs(0, fold)).folder) for fold in FOLDS]  # type: ignore[union-attr]
    for fold in FOLDS:
        assert train(cut, instance, "fold_phase0", fold=fold).success
    assert [bits(latest_run(cut.runs(0, fold)).folder) for fold in FOLDS] == together  # type: ignore[union-attr]


class Reseeding(LocalLauncher):
    """Trains one fold with the seed 99, so that the fake trainer's words can be meant for it alone."""

    fold: str

    def fan_out(self, context, requests, on_message=lambda *_: None):
        ours = [replace(one, seed=99) if one.fold.name == self.fold else one for one in requests]
        return super().fan_out(context, ours, on_message)


@pytest.mark.parametrize(("words", "said"), [("exit=3", "a guard was violated"), ("degenerate", "almost no spread")])
def test_a_fold_that_fails_leaves_the_others_alone(
    cut: World, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    launcher = Reseeding(module="fake_trainer", threads=1, trainings=2, fold="spring")
    with dg.instance_for_test() as instance:
        monkeypatch.setenv("FAKE_TRAINER", f"{words},seed=99")
        result = train(cut, instance, "fold_phase0", "fold_phase1", launcher=launcher)
        assert not result.success
        text = failure(result)
        assert text.startswith("fold_phase0: 1 of 3 folds failed, the others are published. spring: ") and said in text
        assert set(materialized(instance, "fold_phase0")) == {"winter", "summer"}
        assert latest_run(cut.runs(0, "spring")) is None and latest_run(cut.runs(0, "summer")) is not None
        verdicts = {fold: latest_evaluation(instance, "fold_phase0", "no_degeneracy", fold) for fold in FOLDS}
        assert {fold: verdict.passed for fold, verdict in verdicts.items() if verdict} == {
            "winter": True, "spring": False, "summer": True
        }  # fmt: skip
        monkeypatch.setenv("FAKE_TRAINER", "")
        assert train(cut, instance, "fold_phase0", fold="spring").success  # a backfill of what is missing
        assert train(cut, instance, "fold_phase1").success


def test_an_interrupted_range_goes_on_with_what_had_begun(cut: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.instance_for_test() as instance:
        monkeypatch.setenv("FAKE_TRAINER", "exit=130,seed=1")
        result = train(cut, instance, "fold_phase0", seeds=[1, 2])
        assert not result.success and failure(result).count("was interrupted") == 3
        begun = {fold: sorted(path for path in cut.runs(0, fold).iterdir() if path.is_dir()) for fold in FOLDS}
        assert [read_record(run).status for run in begun["winter"]] == ["interrupted", "finished"]
        monkeypatch.setenv("FAKE_TRAINER", "")
        assert train(cut, instance, "fold_phase0", seeds=[1, 2], resume_run=begun["winter"][0].name).success
        for fold in FOLDS:
            ensemble = latest_ensemble(cut.runs(0, fold))
            assert ensemble is not None and [run.folder for run in ensemble.runs] == begun[fold]
            assert (begun[fold][0] / "resumed").exists() and attempts(begun[fold][0]) == []


def test_a_fold_that_was_never_cut_is_told_and_the_others_are_trained(cut: World, instance: dg.DagsterInstance) -> None:
    cut.store.local("fold", cut.newest().panel_id, "spring.json").unlink()
    result = train(cut, instance, "fold_phase0")
    assert not result.success and "1 of 3 folds failed" in failure(result) and "spring: cannot start" in failure(result)
    assert latest_run(cut.runs(0, "winter")) is not None and latest_run(cut.runs(0, "summer")) is not None


def preflights(instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    found = {fold: latest_evaluation(instance, "fold_phase0", "preflight", fold) for fold in FOLDS}
    return {fold: verdict for fold, verdict in found.items() if verdict is not None}


def test_each_fold_has_its_preflight_and_all_share_the_machine(cut: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cut.store.local("fold", cut.newest().panel_id, "spring.json").unlink()
    with dg.instance_for_test() as instance:
        assert not train(cut, instance, "fold_phase0", seeds=[0, 7]).success
        verdicts = preflights(instance)
        assert {fold: verdict.passed for fold, verdict in verdicts.items()} == {
            "winter": True, "spring": False, "summer": True
        }  # fmt: skip
        assert "has not been cut on the newest panel" in str(verdicts["spring"].description)
        rows = {row.data["subject"]: row.data["found"] for row in verdicts["winter"].metadata["findings"].value.records}
        assert "by 3 trainings at a time" in str(rows["memory"])
        each = float(verdicts["winter"].metadata["estimated_disk_gb"].value)  # type: ignore[arg-type]
        assert f"about {4 * each:.2f} GB needed" in str(rows["disk"]), "two seeds on each of two folds"


def test_memory_for_one_training_is_not_memory_for_three(cut: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.instance_for_test() as instance:
        assert train(cut, instance, "fold_phase0", fold="winter").success
        each = float(preflights(instance)["winter"].metadata["estimated_host_gb"].value)  # type: ignore[arg-type]
        free = type("Memory", (), {"available": int(2.5e9 * each)})()
        monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: free)
        assert train(cut, instance, "fold_phase0", fold="spring").success
        result = train(cut, instance, "fold_phase0")
        said = failure(result)
        assert said.startswith(
            "fold_phase0: 3 of 3 folds failed, nothing is published. winter: cannot start: main memory"
        )
        assert "by 3 trainings at a time: too little: let fewer trainings run at a time (ATFT_TRAININGS)" in said
        assert not any(verdict.passed for verdict in preflights(instance).values())
        assert not cut.runs(0, "summer").exists(), "nothing was started"


def test_folds_with_nothing_left_to_train_say_so(cut: World, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Reseeding(module="fake_trainer", threads=1, trainings=3, fold="spring")
    with dg.instance_for_test() as instance:
        monkeypatch.setenv("FAKE_TRAINER", "exit=130,seed=99")
        assert not train(cut, instance, "fold_phase0", launcher=launcher).success
        (begun,) = (path for path in cut.runs(0, "spring").iterdir() if path.is_dir())
        ended = latest_run(cut.runs(0, "winter"))
        monkeypatch.setenv("FAKE_TRAINER", "")
        assert train(cut, instance, "fold_phase0", launcher=launcher, resume_run=begun.name).success
        verdicts = preflights(instance)
        assert verdicts["winter"].passed and "estimated_host_gb" not in verdicts["winter"].metadata
        (row,) = verdicts["winter"].metadata["findings"].value.records  # type: ignore[union-attr]
        assert row.data["found"] == "nothing is left to be trained"
        assert "estimated_host_gb" in verdicts["spring"].metadata
        assert latest_run(cut.runs(0, "winter")) == ended, "published again as it was"


def test_the_run_of_one_fold_is_not_imported_into_several(
    cut: World, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    said = failure(train(cut, instance, "fold_phase0", import_run=str(tmp_path)))
    assert said == "fold_phase0 cannot start: import_run brings the run of one fold: choose it"


def test_a_run_a_fold_where_there_is_room_for_one_training() -> None:
    assert LANE.trained_together(False)["backfill_policy"] == dg.BackfillPolicy.multi_run(1)
    assert LANE.trained_together(True)["backfill_policy"] == dg.BackfillPolicy.single_run()
    assert MAIN_LANE.trained_together(True) == {} and Lane(("a",)).folds == ("a",)
