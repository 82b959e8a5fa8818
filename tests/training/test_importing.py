"""Runs that were trained elsewhere: taken in as if trained here, or refused with a sentence."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.tools.import_run import main
from atft_assets.training.preflight import latest_evaluation
from atft_assets.training.runs import latest_run
from atft_model.interchange.fold import MAIN
from atft_model.interchange.hashes import file_sha256
from atft_model.interchange.phases import PHASES
from atft_model.interchange.request import TrainRequest, write_request
from atft_model.interchange.run import read_record, write_record
from tests.training.small_market import World

from .test_phases import checks, failure, train

pytestmark = [pytest.mark.usefixtures("trainer_on_path"), pytest.mark.slow]
HERE = Path(__file__).parent


def trained_elsewhere(world: World, box: Path, phase: int, name: str, init: str | None = None, **changes) -> Path:
    """A run of the small trainer in a folder of its own, on a copy of the panel."""
    panel = box / "panel"
    if not panel.exists():
        shutil.copytree(world.newest().folder, panel)
    given = {"fold": world.fold(), "seed": 7, **changes}
    request = TrainRequest(panel=panel, phase=phase, out=box / name, init=box / init if init else None, **given)
    write_request(box / "request.json", request)
    command = [sys.executable, "-m", "fake_trainer", "train", str(box / "request.json"), "--lock", str(box / "lock")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return box / name


def bring_in(world: World, instance, folder: Path, phase: int = 0, **config):
    return train(world, instance, f"train_phase{phase}", import_run=str(folder), **config)


def test_it_becomes_what_a_training_here_would_have_become(world: World, instance, tmp_path: Path) -> None:
    first = trained_elsewhere(world, tmp_path, 0, "run0")
    second = trained_elsewhere(world, tmp_path, 1, "20260102T030405-gpu", init="run0")
    record = read_record(first)
    write_record(first, replace(record, hardware={"host": "box", "gpu": "H100"}, versions={"torch": "2.9"}))
    parts = [bring_in(world, instance, first), bring_in(world, instance, second, 1)]
    assert all(part.success for part in parts)

    parent, child = latest_run(world.runs(0)), latest_run(world.runs(1))
    assert parent.run_id.endswith("-run0") and parent.run_id[8] == "T"  # by name in the order of their time
    assert child.run_id == second.name and child.record.parent.run_id == parent.run_id
    assert child.record.checkpoint_sha256 == read_record(second).checkpoint_sha256
    assert read_record(first).run_id == "run0"  # what was given is left as it was

    event = parts[0].asset_materializations_for_node("train_phase0")[0]
    assert event.metadata["imported_from"].value == f"{first}; box, H100; torch 2.9"
    assert event.metadata["trainer_code_version"].value == "fake" and event.metadata["run_id"].value == parent.run_id
    event = parts[1].asset_materializations_for_node("train_phase1")[0]
    assert event.metadata["parent_run"].value == f"train_phase0/{parent.run_id}"
    assert event.tags["dagster/data_version"] == child.record.checkpoint_sha256
    assert event.tags["dagster/input_data_version/train_phase0"] == parent.record.checkpoint_sha256
    verdicts = checks(parts[1])
    assert verdicts["train_phase1", "gain"].metadata["mean"].value > 0
    assert {name for (_, name), one in verdicts.items() if one.passed} == {
        "preflight",
        "gradient_flow",
        "no_degeneracy",
        "gain",
    }

    here = train(world, instance, "train_phase2")  # goes on from what came
    assert here.success and latest_run(world.runs(2)).record.parent.run_id == child.run_id


def test_twice_is_harmless(world: World, instance, tmp_path: Path) -> None:
    folder = trained_elsewhere(world, tmp_path, 0, "20260102T030405-gpu")
    files = []
    for _ in range(2):
        assert bring_in(world, instance, folder).success
        files.append({path: (path.stat().st_mtime_ns, file_sha256(path)) for path in world.runs(0).glob("*/*")})
    assert files[0] == files[1] and len(list(world.runs(0).glob("[!.]*/"))) == 1
    # one that lies among the runs already is published again, without a copy
    newer = train(world, instance, "train_phase0")
    assert newer.success and latest_run(world.runs(0)).run_id != folder.name
    assert bring_in(world, instance, world.runs(0) / folder.name).success
    assert latest_run(world.runs(0)).run_id == folder.name


def damaged_checkpoint(world: World, folder: Path) -> None:
    (folder / "checkpoint.safetensors").write_bytes(b"weights of another")


def damaged_metrics(world: World, folder: Path) -> None:
    (folder / "metrics.parquet").write_bytes(b"PAR1")


def unfinished(world: World, folder: Path) -> None:
    write_record(folder, replace(read_record(folder), status="interrupted"))


def other_panel(world: World, folder: Path) -> None:
    write_record(folder, replace(read_record(folder), panel_id="p0"))


def other_inputs(world: World, folder: Path) -> None:
    write_record(folder, replace(read_record(folder), features=("signal",)))


def other_phase(world: World, folder: Path) -> None:
    write_record(folder, replace(read_record(folder), phase=1, name=PHASES[1].name))


def control(world: World, folder: Path) -> None:
    write_record(folder, replace(read_record(folder), controls={"shuffle_edges": None, "permute_labels": 3}))


def other_figure(world: World, folder: Path) -> None:
    record = read_record(folder)
    write_record(
        folder, replace(record, validation={**record.validation, "rank_ic": record.validation["rank_ic"] + 0.01})
    )


def other_validation(world: World, folder: Path) -> None:
    fold = world.fold()
    first, last = fold.validation
    write_record(folder, replace(read_record(folder), fold=replace(fold, validation=(first + timedelta(days=1), last))))


def other_embargo(world: World, folder: Path) -> None:
    write_record(folder, replace(read_record(folder), fold=replace(world.fold(), embargo_days=21)))


REFUSED = {
    damaged_checkpoint: "checkpoint.safetensors is damaged",
    damaged_metrics: "metrics.parquet is damaged",
    unfinished: "says 'interrupted', not 'finished'",
    other_panel: "; the newest here is ",
    other_inputs: "has other inputs than panel",
    other_phase: "is of phase 1 (Adaptive Norm), not of phase 0",
    control: "is a control (permute_labels)",
    other_figure: "but on the panel here its scores give",
    other_validation: "was trained with the validation block",
    other_embargo: "or with other purge and embargo",
}
OTHER_PARENT = "whose checkpoint is another than that of "


@pytest.fixture(scope="module")
def elsewhere(_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can be imported, for copies that cannot."""
    return trained_elsewhere(_world, tmp_path_factory.mktemp("box"), 0, "20260102T030405-gpu")


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda one: one.__name__)
def test_what_is_refused(world: World, instance, elsewhere: Path, tmp_path: Path, spoil) -> None:
    folder = tmp_path / elsewhere.name
    shutil.copytree(elsewhere, folder)
    spoil(world, folder)
    result = bring_in(world, instance, folder)
    said = failure(result)
    assert not result.success and REFUSED[spoil] in said and said.startswith("train_phase0 cannot import a run: ")
    assert str(folder) in said
    assert latest_run(world.runs(0)) is None and not list(world.root.glob("runs/*/*/*"))
    assert not result.asset_materializations_for_node("train_phase0")


def test_a_run_of_an_unknown_parent_is_refused_until_that_is_imported(world: World, instance, tmp_path: Path) -> None:
    here = train(world, instance, "train_phase0", seed=1)
    assert here.success
    trained_elsewhere(world, tmp_path, 0, "20260101T000000-gpu", seed=2)
    child = trained_elsewhere(world, tmp_path, 1, "20260102T000000-gpu", init="20260101T000000-gpu")
    said = failure(bring_in(world, instance, child, 1))
    assert f"started from 20260101T000000-gpu, {OTHER_PARENT}" in said
    assert "import 20260101T000000-gpu first" in said
    assert bring_in(world, instance, tmp_path / "20260101T000000-gpu").success
    assert bring_in(world, instance, child, 1).success


def test_another_run_of_that_name_stays(world: World, instance, elsewhere: Path, tmp_path: Path) -> None:
    assert bring_in(world, instance, elsewhere).success
    other = trained_elsewhere(world, tmp_path, 0, elsewhere.name, seed=8)
    before = file_sha256(world.runs(0) / elsewhere.name / "checkpoint.safetensors")
    assert "exists and holds another run" in failure(bring_in(world, instance, other))
    assert file_sha256(world.runs(0) / elsewhere.name / "checkpoint.safetensors") == before


def test_no_setting_of_a_training_goes_with_it(world: World, instance, elsewhere: Path) -> None:
    said = failure(bring_in(world, instance, elsewhere, preset="demo", network={"dropout": 0.1}))
    assert "import_run trains nothing, so leave out network, preset" in said


def test_a_starved_network_is_no_more_published_than_here(
    world: World, instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAINER", "starved")
    result = bring_in(world, instance, trained_elsewhere(world, tmp_path, 0, "20260102T030405-gpu"))
    assert not result.success and not checks(result)["train_phase0", "gradient_flow"].passed
    assert latest_run(world.runs(0)) is None


def test_the_command_imports_parent_and_child_in_a_real_home(world: World, tmp_path: Path) -> None:
    box, home = tmp_path / "box", tmp_path / "home"
    box.mkdir()
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    first = trained_elsewhere(world, box, 0, "20260101T000000-gpu")
    second = trained_elsewhere(world, box, 1, "20260102T000000-gpu", init=first.name)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "DAGSTER_MODULE_NAME": "worker_defs",
        "ATFT_DATA": str(world.root),
    }
    command = [sys.executable, "-m", "atft_assets.tools.import_run", str(second), str(first)]  # order does not count
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=560)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "--select train_phase0,train_phase1" in done.stdout
    assert latest_run(world.runs(1)).record.parent.run_id == first.name
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for phase in (0, 1):
            key = dg.AssetKey(f"train_phase{phase}")
            event = instance.get_latest_materialization_event(key).asset_materialization
            assert str(box) in event.metadata["imported_from"].value
            assert latest_evaluation(instance, key.path[0], "no_degeneracy").passed

    damaged_checkpoint(world, second)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=560)
    assert done.returncode == 1 and "train_phase1 cannot import a run" in done.stderr.rpartition("what:")[2]


def test_what_the_command_can_see_it_says_at_once(
    world: World, elsewhere: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(tmp_path)]) == 2 and "give the directory of a finished run" in capsys.readouterr().err
    other = tmp_path / "20260103T000000-gpu"
    shutil.copytree(elsewhere, other)
    assert main([str(elsewhere), str(other)]) == 2 and "import the other one first" in capsys.readouterr().err
    monkeypatch.delenv("DAGSTER_MODULE_NAME", raising=False)
    write_record(other, replace(read_record(other), fold=replace(read_record(other).fold, name="previous")))
    assert main(["--print-commands", str(elsewhere), str(other)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "--select train_phase0 --module-name atft_assets.definitions" in first and MAIN not in first.split("json")[0]
    assert "--select fold_phase0 --partition previous" in second
    assert json.dumps({"ops": {"fold_phase0": {"config": {"import_run": str(other)}}}}) in second
