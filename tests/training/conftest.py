"""Each test gets a copy of the small market, so that it may break it."""

import shutil
from pathlib import Path

import pytest

from atft_assets.store import Store
from atft_assets.training.panel_file import point_latest

from .small_market import World, make_world


@pytest.fixture(scope="session")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("market"))
    point_latest(world.store.local("panel"), world.panel().panel.panel_id)
    return world


@pytest.fixture
def world(_world: World, tmp_path: Path) -> World:
    """The market with its panel built."""
    root = tmp_path / "data"
    shutil.copytree(_world.root, root)
    settings = _world.settings.model_copy(update={"data_root": str(root)})
    return World(root, Store(root=str(root)), settings, _world.days, _world.codes, _world.returns)
