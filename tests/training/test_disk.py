"""Every asset from the panel on says in one sentence that the disk is full, at once, and leaves what was there."""

import errno
import os
import stat

import dagster as dg
import pytest

from atft_assets.baselines.config import BaselineConfig
from atft_assets.panel.asset import NAME as PANEL
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.evaluation import evaluation_asset
from atft_assets.training.folds import folds_asset
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.runs import latest_run
from tests.training.small_market import FOLDS, World

from .test_phases import failure

pytestmark = pytest.mark.usefixtures("trainer_on_path")


def materialize(world: World, instance: dg.DagsterInstance, *names: str) -> dg.ExecuteInProcessResult:
    quick = BaselineConfig(trees=2, threads=1).model_dump()
    ops = {"train_phase0": {"allow_ephemeral_instance": True}, "baselines": quick}
    judges = [baselines_asset(world.settings), evaluation_asset(world.settings)]
    return dg.materialize(
        [world.panel_asset(), folds_asset(FOLDS), *world.phase_assets(), *judges],
        selection=list(names),
        resources={"store": world.store, "launcher": LocalLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": {name: {"config": config} for name, config in ops.items() if name in names}},
        instance=instance,
        raise_on_error=False,
    )


def test_a_disk_that_fills_and_whom_the_files_are_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o022)
    real = os.fsync

    def full(descriptor: int) -> None:
        """Every file that is flushed to the disk meets a full one, but for the try before the work."""
        if ".probe." in os.readlink(f"/proc/self/fd/{descriptor}"):
            return real(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    try:
        with dg.instance_for_test() as instance:
            for name in (PANEL, "folds", "train_phase0", "baselines", "evaluation"):
                with monkeypatch.context() as filled:
                    filled.setattr(os, "fsync", full)
                    result = materialize(world, instance, name)
                said = failure(result)
                assert said.startswith(f"{name} cannot "), said
                assert "cannot be written: the disk is full (" in said and "Free space there" in said
                assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
                if name in ("train_phase0", "evaluation"):
                    assert materialize(world, instance, name).success, "with room again it goes on"
    finally:
        os.umask(before)
    assert not [*world.root.rglob("*.staged"), *(world.root / "runs" / "main" / "baselines").glob("*")]
    run = latest_run(world.runs(0))
    assert run is not None
    made = [run.folder, *run.folder.iterdir(), *(world.root / "evaluation").rglob("*")]
    assert {stat.S_IMODE(one.stat().st_mode) & 0o077 for one in made} == {0}
