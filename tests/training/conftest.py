"""Each test gets a copy of the small market, so that it may break it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.store import Store
from tests.training.small_market import World, make_world


@pytest.fixture(scope="session")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("market"))
    world.cut(world.panel().panel)
    return world


@pytest.fixture
def world(_world: World, tmp_path: Path) -> World:
    """The market with its panel built."""
    root = tmp_path / "data"
    shutil.copytree(_world.root, root)
    settings = _world.settings.model_copy(update={"data_root": str(root)})
    return World(root, Store(root=str(root)), settings, _world.days, _world.codes, _world.returns)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """One for the tests of a module."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def trainer_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the small trainer in the network's place."""
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parents[1])]))
