"""Evenings are scored on the small market of `tests/training`, by the small trainer where no network is needed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.store import Store
from atft_assets.training.baselines import baselines_asset
from tests.trading.evenings import with_master
from tests.training.conftest import _world, instance, trainer_on_path, world
from tests.training.small_market import World
from tests.training.test_phases import train

__all__ = ["_world", "instance", "trainer_on_path", "world"]

QUICK = {"trees": 10, "settings": 0, "threads": 1}


@pytest.fixture(scope="session")
def _judged(_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The market with a master, two seeds of the first phase, and baselines."""
    root = tmp_path_factory.mktemp("judged") / "data"
    shutil.copytree(_world.root, root)
    settings = _world.settings.model_copy(update={"data_root": str(root)})
    world = with_master(World(root, Store(root=str(root)), settings, _world.days, _world.codes, _world.returns))
    here = Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(here / "training"), str(here.parent)]))
        assert train(world, instance, "train_phase0", seeds=[1, 2]).success
        fitted = dg.materialize(
            [baselines_asset(settings), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")],
            selection=["baselines"],
            resources={"store": world.store},
            run_config={"ops": {"baselines": {"config": QUICK}}},
            instance=instance,
        )
        assert fitted.success
    yield world


@pytest.fixture
def judged(_judged: World, tmp_path: Path) -> World:
    """A copy that a test may break: the evening can be scored by network, trees or both, once there is a champion."""
    root = tmp_path / "judged"
    shutil.copytree(_judged.root, root)
    settings = _judged.settings.model_copy(update={"data_root": str(root)})
    return World(root, Store(root=str(root)), settings, _judged.days, _judged.codes, _judged.returns)
