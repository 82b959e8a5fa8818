"""The curriculum's assets with a small trainer in the network's place: lineage, checks, refusals."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.reports.spark import INLINE_LIMIT
from atft_assets.settings import (
    ALERT_URLS_VARIABLE,
    KEY_VARIABLE,
    PG_URL_VARIABLE,
    PLAIN_SECRETS,
    SANDBOX_KEY_VARIABLE,
)
from atft_assets.training.lanes import MAIN_LANE
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.runs import latest_run
from atft_model.interchange.panel import point_latest, write_description
from atft_model.interchange.phases import PHASES
from atft_model.interchange.request import TrainRequest, read_document, train_request
from atft_model.interchange.run import read_record, write_record
from atft_model.interchange.withheld import WITHHELD
from tests.training.small_market import World, catalogue

pytestmark = pytest.mark.usefixtures("trainer_on_path")


def request_of(folder: Path) -> TrainRequest:
    return train_request(read_document(folder / "request.json", []))


def train(world: World, instance, *phases: str, allow: bool = True, **config):
    config = {"allow_ephemeral_instance": allow, **config}
    return dg.materialize(
        [*world.phase_assets(), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")],
        selection=list(phases),
        resources={"store": world.store, "launcher": LocalLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": {phase: {"config": config} for phase in phases}},
        instance=instance,
        raise_on_error=False,
    )


def failure(result) -> str:
    return next(e for e in result.all_node_events if e.is_step_failure).step_failure_data.user_failure_data.description


def checks(result) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {(e.asset_key.path[0], e.check_name): e for e in result.get_asset_check_evaluations()}


def test_the_four_phases_in_one_run(world: World, instance) -> None:
    phases = [MAIN_LANE.phase(phase) for phase in PHASES]
    result = train(world, instance, *phases, seed=3)
    assert result.success
    verdicts = checks(result)
    assert len(verdicts) == 16 and all(e.passed for (_, name), e in verdicts.items() if name != "gain")
    # the fake gets better by phase, beyond chance
    assert verdicts["train_phase1", "gain"].passed and verdicts["train_phase1", "gain"].metadata["mean"].value > 0
    runs = [latest_run(world.runs(phase.index)) for phase in PHASES]
    for before, run in pairwise(runs):
        assert request_of(run.folder).init == before.folder
        assert run.record.parent.run_id == before.run_id
    assert request_of(runs[0].folder).preset == "small"
    assert request_of(runs[1].folder).preset is None  # the parent's
    assert request_of(runs[1].folder).fold == world.fold()

    event = result.asset_materializations_for_node("train_phase2")[0]
    metadata = event.metadata
    record = runs[2].record
    assert metadata["rank_ic"].value == round(record.validation["rank_ic"], 4)
    assert list(metadata)[:3] == ["outcome", "rank_ic_by_epoch", "curves"]  # what a person wants comes first
    assert "epoch 3 of 3 kept" in metadata["outcome"].value
    assert len(metadata["rank_ic_by_epoch"].value) < INLINE_LIMIT
    assert metadata["mode"].value == "safe" and metadata["n_seeds"].value == 1
    floats = [entry.value for entry in metadata.values() if isinstance(entry.value, float)]
    assert floats and all(len(f"{value!r}") <= 10 for value in floats)
    assert metadata["t_20d"].value == pytest.approx(record.validation["t_newey_west_by_horizon"]["20"])
    assert metadata["parent_run"].value == f"train_phase1/{runs[1].run_id}" and metadata["alpha"].value == 0.5
    assert metadata["grad_norm_lstm"].value == 0.2 and metadata["seed"].value == 3
    assert (
        metadata["curves"].value.startswith("![train_phase2")
        and "data:image/png;base64,iVBOR" in metadata["curves"].value
    )
    assert event.tags["dagster/data_version"] == record.checkpoint_sha256
    observed = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    assert len(observed) == 3 * 4  # every epoch, live
    by_epoch = {name for e in observed for name in e.asset_observation_data.asset_observation.metadata}
    assert by_epoch == {"epoch_loss", "epoch_rank_ic", "epoch_rank_ic_1d"} and not by_epoch & set(metadata)


def test_trainer_gets_threads_but_no_secrets(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WITHHELD:
        monkeypatch.setenv(name, f"very-secret-{name}")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what is inherited does not count
    assert train(world, instance, "train_phase0").success
    run = latest_run(world.runs(0))
    environ = json.loads((run.folder / "environ").read_text())
    assert environ["OMP_NUM_THREADS"] == "1" and environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "very-secret" not in json.dumps(environ) and not set(WITHHELD) & set(environ)
    assert {KEY_VARIABLE, SANDBOX_KEY_VARIABLE, ALERT_URLS_VARIABLE, PG_URL_VARIABLE, *PLAIN_SECRETS} <= set(WITHHELD)


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
    assert latest_run(world.runs(0)) is None
    # and the next phase refuses to start
    assert "has no finished run" in failure(train(world, instance, "train_phase1"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "the trainer refused what it was given: the reason and its second line"),
        (74, "the disk or quota under"),
        (130, "It goes on with the config `resume_run: "),
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
    assert ("resume_run" in data.metadata) is ("resume_run" in data.description)
    assert "something harmless" in data.metadata["stderr"].value
    if code == 74:
        assert "GB in " in data.description and "free)" in data.description


def test_a_tampered_checkpoint_is_refused(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "tampered")
    assert "checkpoint.safetensors is damaged (it is not the file that its record describes)" in failure(
        train(world, instance, "train_phase0")
    )


def test_resume_goes_on_in_the_same_directory(world: World, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "exit=130")
    train(world, instance, "train_phase0")
    (interrupted,) = world.runs(0).iterdir()
    assert read_record(interrupted).status == "interrupted"
    monkeypatch.setenv("FAKE_TRAINER", "")
    assert train(world, instance, "train_phase0", resume_run=interrupted.name).success
    assert latest_run(interrupted.parent).folder == interrupted
    assert request_of(interrupted).resume
    assert "is finished" in failure(train(world, instance, "train_phase0", resume_run=interrupted.name))
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
            "train_phase2 cannot start: it starts from train_phase1, which has no finished run under "
            f"{world.root}/runs/main/phase1; run: dagster asset materialize --select train_phase1"
        )

    def test_a_partition_did_not_pass(self, world: World, instance) -> None:
        path = world.root / "features" / "all_features" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["entries"]["2020-02"]["contract_passed"] = False
        path.write_text(json.dumps(manifest))
        said = failure(train(world, instance, "train_phase0"))
        assert "all_features 2020-02 did not pass" in said and "--partition 2020-02" in said

    def test_catalogue_changed(self, world: World, instance) -> None:
        path = next(world.store.local("panel").glob("*/panel.json"))
        document = json.loads(path.read_text().replace(catalogue("full")[1], "0123456789abcdef"))
        write_description(path.parent, document)
        said = failure(train(world, instance, "train_phase0"))
        assert "the features have changed since panel" in said and "--select training_panel" in said

    def test_no_fold(self, world: World, instance) -> None:
        """Folds of another panel do not count: they were not judged on this one."""
        point_latest(world.store.local("panel"), world.panel(warm_up_days=9).panel.panel_id)
        said = failure(train(world, instance, "train_phase0"))
        assert f"the fold main has not been cut on the newest panel, {world.newest().panel_id}" in said
        assert said.endswith("run: dagster asset materialize --select folds")

    def test_parent_that_has_learned_from_later_days(self, world: World, instance) -> None:
        assert train(world, instance, "train_phase0", "train_phase1").success
        learned = world.fold().train[1]
        world.cut(world.panel(end="2020-05-29").panel)
        allowed = world.fold().train[1]
        assert learned > allowed
        said = failure(train(world, instance, "train_phase2"))
        assert f"has learned from days up to {learned}" in said and f"of the fold main ends on {allowed}" in said
        assert said.endswith("--select train_phase0,train_phase1")
        assert train(world, instance, "train_phase0").success
        assert failure(train(world, instance, "train_phase2")).endswith("--select train_phase1")
        assert train(world, instance, "train_phase1", "train_phase2").success

    def test_parent_of_a_panel_that_was_built_anew(self, world: World, instance) -> None:
        """Corrected data and a later end make another panel, on which earlier weights may go on."""
        world.cut(world.panel(end="2020-05-29").panel)
        assert train(world, instance, "train_phase0").success
        before = world.newest().panel_id
        world.cut(world.panel().panel)
        assert world.newest().panel_id != before
        result = train(world, instance, "train_phase1")
        assert result.success
        run = latest_run(world.runs(1))
        assert run.record.panel_id == world.newest().panel_id and run.record.parent.phase == 0
        # compared on the days that both have scored, which are fewer than the block has
        gain = checks(result)["train_phase1", "gain"]
        theirs = latest_run(world.runs(0)).scores()["date"].unique()
        ours = run.scores()["date"].unique()
        common = set(theirs.to_list()) & set(ours.to_list())
        assert gain.metadata["days"].value == len(common) < len(ours)

    def test_parent_of_other_features_or_horizons(self, world: World, instance) -> None:
        assert train(world, instance, "train_phase0").success
        folder = latest_run(world.runs(0)).folder
        record = read_record(folder)
        for change, said in (
            ({"catalogue_hash": "0" * 16}, "was trained on other features (catalogue 0000000000000000, panel "),
            ({"horizons": (1, 5)}, "forecasts other horizons (1, 5; panel "),
        ):
            write_record(folder, replace(record, **change))
            refused = failure(train(world, instance, "train_phase1"))
            assert said in refused and refused.endswith("--select train_phase0")
        write_record(folder, replace(record, status="running"))
        assert "whose latest run is not whole" in failure(train(world, instance, "train_phase1"))

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
                dg.AssetCheckEvaluation(dg.AssetKey("all_features"), "contract", False, broken)
            )
            assert failure(train(world, instance, "train_phase0")).endswith("all_features --partition 2020-02")

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


def test_another_size_than_the_parents_names_the_phases_to_train(world: World, instance) -> None:
    network = {"network": {"hidden_size": 16}}
    assert train(world, instance, "train_phase0", **network).success
    said = failure(train(world, instance, "train_phase1", network={"hidden_size": 32}))
    assert said.startswith("train_phase1 cannot start: it starts from train_phase0 ")
    assert "hidden_size 16, not 32" in said
    assert "dagster asset materialize --select train_phase0,train_phase1 --config FILE" in said
    assert latest_run(world.runs(1)) is None
