"""The curriculum's assets with a small trainer in the network's place: lineage, checks, refusals."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.training.launcher import TrainingLauncher
from atft_assets.training.phases import PHASES
from atft_assets.training.runs import latest_run

from .small_market import World, catalogue

HERE = Path(__file__).parent
TABLES = ("phase2_features", "universe", "labels", "correlation_graph", "daily_quotes")


@pytest.fixture(autouse=True)
def _trainer_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))


@pytest.fixture(scope="module")
def instance():
    with dg.instance_for_test() as instance:
        yield instance


def train(world: World, instance, *stages: str, allow: bool = True, **config):
    config = {"allow_ephemeral_instance": allow, **config}
    return dg.materialize(
        [*world.train_assets(), dg.AssetSpec("training_panel")],
        selection=list(stages),
        resources={"store": world.store, "launcher": TrainingLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": {stage: {"config": config} for stage in stages}},
        instance=instance,
        raise_on_error=False,
    )


def failure(result) -> str:
    return next(e for e in result.all_node_events if e.is_step_failure).step_failure_data.user_failure_data.description


def checks(result) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {(e.asset_key.path[0], e.check_name): e for e in result.get_asset_check_evaluations()}


def test_the_four_stages_in_one_run(world: World, instance) -> None:
    stages = [spec.asset for spec in PHASES]
    result = train(world, instance, *stages, seed=3)
    assert result.success
    verdicts = checks(result)
    assert len(verdicts) == 12 and all(e.passed for (_, name), e in verdicts.items() if name != "gain")
    # the fake gets better by phase, beyond chance
    assert verdicts["train_phase1", "gain"].passed and verdicts["train_phase1", "gain"].metadata["mean"].value > 0
    runs = [latest_run(world.store.local("runs", stage)) for stage in stages]
    for before, run in pairwise(runs):
        assert f"--init {before.folder}" in (run.folder / "argv").read_text()
    assert "--preset small" in (runs[0].folder / "argv").read_text()
    assert "--preset" not in (runs[1].folder / "argv").read_text()  # the parent's

    event = result.asset_materializations_for_node("train_phase2")[0]
    metadata = event.metadata
    record = runs[2].record
    assert metadata["rank_ic"].value == pytest.approx(record["validation"]["rank_ic"])
    assert metadata["t_20d"].value == pytest.approx(record["validation"]["t_newey_west_by_horizon"]["20"])
    assert metadata["parent_run"].value == f"train_phase1/{runs[1].run_id}" and metadata["alpha"].value == 0.5
    assert metadata["grad_norm_lstm"].value == 0.2 and metadata["seed"].value == 3
    assert (
        metadata["curves"].value.startswith("![train_phase2")
        and "data:image/png;base64,iVBOR" in metadata["curves"].value
    )
    assert event.tags["dagster/data_version"] == record["checkpoint_sha256"]
    observed = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    assert len(observed) == 3 * 4  # every epoch, live


def test_trainer_gets_threads_but_no_secrets(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JQUANTS_API_KEY", "very-secret")
    assert train(world, instance, "train_phase0").success
    run = latest_run(world.store.local("runs", "train_phase0"))
    environ = json.loads((run.folder / "environ").read_text())
    assert environ["OMP_NUM_THREADS"] == "1" and environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "very-secret" not in json.dumps(environ)


@pytest.mark.parametrize(
    ("words", "check", "said"),
    [
        ("starved", "gradient_flow", "no gradient reaches lstm (norm 1.0e-09)"),
        ("degenerate", "no_degeneracy", "scores have almost no spread"),
        ("exit=3", "no_degeneracy", "a guard was violated"),
    ],
)
def test_a_bad_network_is_not_published(
    world: World, instance, monkeypatch: pytest.MonkeyPatch, words: str, check: str, said: str
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", words)
    result = train(world, instance, "train_phase0")
    assert not result.success and said in failure(result)
    assert not checks(result)["train_phase0", check].passed
    assert not result.asset_materializations_for_node("train_phase0")
    assert latest_run(world.store.local("runs", "train_phase0")) is None
    # and the next stage refuses to start
    assert "has no finished run" in failure(train(world, instance, "train_phase1"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "the trainer refused what it was given: the reason and its second line"),
        (74, "the disk or quota under"),
        (130, "continue with the config `resume_run: "),
        (9, "ended with exit code 9: the reason and its second line"),
    ],
)
def test_exit_codes_are_sentences(
    world: World, instance, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", f"exit={code}")
    result = train(world, instance, "train_phase0")
    event = next(e for e in result.all_node_events if e.is_step_failure)
    data = event.step_failure_data.user_failure_data
    assert said in data.description and data.metadata["exit_code"].value == code
    assert "something harmless" in data.metadata["stderr"].value
    if code == 74:
        assert "GB in " in data.description and "free)" in data.description


def test_a_tampered_checkpoint_is_refused(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "tampered")
    assert "is not the checkpoint that its run.json describes" in failure(train(world, instance, "train_phase0"))


def test_resume_goes_on_in_the_same_directory(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "exit=130")
    train(world, instance, "train_phase0")
    (interrupted,) = world.store.local("runs", "train_phase0").iterdir()
    monkeypatch.setenv("FAKE_TRAINER", "")
    assert train(world, instance, "train_phase0", resume_run=interrupted.name).success
    assert latest_run(interrupted.parent).folder == interrupted
    assert "--resume" in (interrupted / "argv").read_text()
    assert "there is no run nothing to resume" in failure(train(world, instance, "train_phase0", resume_run="nothing"))


class TestPreflight:
    """One clear sentence each, before anything is launched."""

    def test_nothing_built(self, world: World, instance) -> None:
        shutil.rmtree(world.root)
        assert failure(train(world, instance, "train_phase2")).endswith(
            f"nothing has been built under {world.root} yet; run: make road"
        )

    def test_a_table_is_missing(self, world: World, instance) -> None:
        shutil.rmtree(world.root / "features" / "labels")
        assert "the table labels has not been built" in failure(train(world, instance, "train_phase0"))

    def test_no_panel(self, world: World, instance) -> None:
        shutil.rmtree(world.root / "panel")
        assert "run: dagster asset materialize --select training_panel" in failure(
            train(world, instance, "train_phase0")
        )

    def test_no_parent(self, world: World, instance) -> None:
        said = failure(train(world, instance, "train_phase2"))
        assert said == (
            "train_phase2 starts from train_phase1, which has no finished run under "
            f"{world.root}/runs/train_phase1; run: dagster asset materialize --select train_phase1"
        )

    def test_a_partition_did_not_pass(self, world: World, instance) -> None:
        path = world.root / "features" / "phase2_features" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["entries"]["2020-02"]["contract_passed"] = False
        path.write_text(json.dumps(manifest))
        said = failure(train(world, instance, "train_phase0"))
        assert "phase2_features 2020-02 did not pass" in said and "--partition 2020-02" in said

    def test_catalogue_changed(self, world: World, instance) -> None:
        path = next(world.store.local("panel").glob("*/panel.json"))
        path.write_text(path.read_text().replace(catalogue("phase2")[1], "0123456789abcdef"))
        said = failure(train(world, instance, "train_phase0"))
        assert "the features have changed since panel" in said and "--select training_panel" in said

    def test_parent_of_another_panel(self, world: World, instance) -> None:
        from atft_assets.training.panel_file import point_latest

        assert train(world, instance, "train_phase0", "train_phase1").success
        point_latest(world.store.local("panel"), world.panel(purge_days=25).panel.panel_id)
        assert failure(train(world, instance, "train_phase2")).endswith("--select train_phase0,train_phase1")
        assert train(world, instance, "train_phase0").success
        assert failure(train(world, instance, "train_phase2")).endswith("--select train_phase1")

    def test_latest_check_failed(self, world: World) -> None:
        with dg.instance_for_test() as instance:
            for passed in (True, False):
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        dg.AssetKey("labels"), "contract", passed, {}, description="column y_cc_1d: not null"
                    )
                )
            said = failure(train(world, instance, "train_phase0"))
            assert "contract of labels is a failure (column y_cc_1d: not null)" in said
            assert said.endswith("run: dagster asset materialize --select labels")
            instance.report_runless_asset_event(dg.AssetCheckEvaluation(dg.AssetKey("labels"), "contract", True, {}))
            assert train(world, instance, "train_phase0").success

    def test_latest_check_of_a_month_failed(self, world: World) -> None:
        with dg.instance_for_test() as instance:
            broken = {"partition": dg.MetadataValue.text("2020-02")}
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(dg.AssetKey("phase2_features"), "contract", False, broken)
            )
            assert failure(train(world, instance, "train_phase0")).endswith("phase2_features --partition 2020-02")

    def test_gain_is_a_warning_only(self, world: World, instance) -> None:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(dg.AssetKey("train_phase0"), "gain", False, {}, severity=dg.AssetCheckSeverity.WARN)
        )
        assert train(world, instance, "train_phase0", "train_phase1").success

    def test_forgetful_instances(self, world: World, instance, tmp_path: Path) -> None:
        with dg.DagsterInstance.ephemeral() as ephemeral:
            assert "temporary Dagster instance" in failure(train(world, ephemeral, "train_phase0", allow=False))
        home = tmp_path / ".tmp_dagster_home_abc"
        home.mkdir()
        with dg.DagsterInstance.local_temp(str(home)) as temporary:
            assert ". ./env.sh" in failure(train(world, temporary, "train_phase0", allow=False))
