"""Two machines and a bucket: one builds panel and a phase, the other goes on from there, and each sees all of it."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atft_assets.store import Store
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.evaluation import evaluation_asset
from atft_assets.training.folds import folds_asset
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.runs import open_run
from atft_model.interchange.run import LATEST, STATE, read_record
from tests.patience import until
from tests.store.bucket import ROOT, bucket, server  # noqa: F401
from tests.training.small_market import FOLDS, World
from tests.training.test_phases import failure

pytestmark = [pytest.mark.usefixtures("trainer_on_path"), pytest.mark.slow]
FAST = {"trees": 10, "settings": 1, "threads": 1}


@pytest.fixture
def shared(_world: World, bucket: Store) -> World:  # noqa: F811
    """The market's tables in a bucket; no panel, no fold, no run."""
    for group in ("raw", "features", "graph"):
        for path in (_world.root / group).rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                target = bucket.mirror().root / path.relative_to(_world.root).as_posix()
                target.fs.put_file(str(path), target.path)
    settings = _world.settings.model_copy(update={"data_root": ROOT})
    return World(Path("/nowhere"), bucket, settings, _world.days, _world.codes, _world.returns)


def run(
    world: World, instance: dg.DagsterInstance, *names: str, module: str = "fake_trainer", **config: dict[str, object]
) -> None:
    """Some assets, on whichever machine ATFT_CACHE says this is; `module` trains."""
    ops: dict[str, object] = {
        name: {"config": {"allow_ephemeral_instance": True, **config.get(name, {})}}
        for name in names
        if name.startswith("train_")
    }
    if "baselines" in names:
        ops["baselines"] = {"config": FAST}
    assets = [
        world.panel_asset(), folds_asset(FOLDS), *world.phase_assets(), baselines_asset(world.settings),
        evaluation_asset(world.settings),
    ]  # fmt: skip
    made = {key for one in assets for key in one.keys}
    needed = {key for one in assets for keys in one.asset_deps.values() for key in keys} - made
    result = dg.materialize(
        [*assets, *(dg.AssetSpec(key) for key in needed)],
        selection=list(names),
        resources={"store": world.store, "launcher": LocalLauncher(module=module, threads=1)},
        run_config={"ops": ops},
        instance=instance,
        raise_on_error=False,
    )
    assert result.success, failure(result)


def test_what_one_machine_began_the_other_goes_on_with(
    shared: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "first"))
    run(shared, instance, "training_panel", "folds", "train_phase0")
    first = shared.store.mirror().folder
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "second"))
    run(shared, instance, "train_phase1", "baselines", "evaluation")
    second = shared.store.mirror().folder
    assert first != second
    newest = {phase: (second / "runs" / "main" / phase / LATEST).read_text() for phase in ("phase0", "phase1")}
    assert (first / "runs" / "main" / "phase0" / LATEST).read_text() == newest["phase0"]
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "first"))
    board = shared.store.local("evaluation", "main") / "validation.json"
    assert board.read_bytes() == (second / "evaluation" / "main" / "validation.json").read_bytes()
    assert (shared.store.local("runs", "main", "phase1") / LATEST).read_text() == newest["phase1"]
    lines = (shared.store.local("trials") / "trials.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == len((second / "trials" / "trials.jsonl").read_text().splitlines()) > 3


def test_a_machine_that_lost_its_disk_fetches_what_it_needs(
    shared: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "only"))
    run(shared, instance, "training_panel", "folds", "train_phase0")
    shutil.rmtree(tmp_path / "only")
    run(shared, instance, "train_phase1")
    assert (shared.store.mirror().folder / "runs" / "main" / "phase1" / LATEST).exists()


NETWORK = "atft_model"  # the trainer itself
EPOCHS: dict[str, Any] = {"curriculum": {"epochs": 6}}
MACHINE = """
import pickle, sys
from pathlib import Path
import dagster as dg
from atft_assets.store import Store
from tests.store.bucket import ROOT
from tests.training.small_market import World
from tests.training.test_bucket import EPOCHS, NETWORK, run

with dg.instance_for_test() as instance:
    world = World(Path("/nowhere"), Store(root=ROOT), *pickle.loads(Path(sys.argv[1]).read_bytes()))
    run(world, instance, "train_phase0", module=NETWORK, train_phase0=EPOCHS)
"""


@pytest.mark.machine
@pytest.mark.deploy
def test_a_training_that_one_machine_lost_power_over_ends_on_another_as_if_nothing_had_been(
    shared: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The network itself. The first machine is killed with all its processes after an epoch, and its disk is lost."""
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "first"))
    run(shared, instance, "training_panel", "folds")
    facts, phase = tmp_path / "market", shared.store.place / "runs" / "main" / "phase0"
    facts.write_bytes(pickle.dumps((shared.settings, shared.days, shared.codes, shared.returns)))
    first = subprocess.Popen([sys.executable, "-c", MACHINE, str(facts)], stderr=(tmp_path / "said").open("wb"))
    state = until(lambda: [*phase.glob(f"*/{STATE}")], "an epoch", process=first, log=tmp_path / "said")
    first.kill()  # its trainer dies with it
    first.wait()
    shutil.rmtree(tmp_path / "first")
    begun = state[0].parent.name
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "second"))
    there = shared.store.local("runs", "main", "phase0", begun)
    assert read_record(there).status == "running"
    said = (there / "log.jsonl").read_text()
    run(shared, instance, "train_phase0", module=NETWORK, train_phase0={**EPOCHS, "resume_run": begun})
    ended = open_run(there)
    assert (there / "log.jsonl").read_text().startswith(said) and '"epoch": 1,' in said, "it began anew"
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "third"))
    run(shared, instance, "train_phase0", module=NETWORK, train_phase0=EPOCHS)
    phase0 = shared.store.local("runs", "main", "phase0")
    whole = open_run(phase0 / (phase0 / LATEST).read_text().strip())
    assert whole.run_id != begun and whole.record.checkpoint_sha256 == ended.record.checkpoint_sha256
    assert whole.record.scores_sha256 == ended.record.scores_sha256
