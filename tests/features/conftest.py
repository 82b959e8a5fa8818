"""A small simulated market whose raw months are published once for the room's asset tests."""

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from atft_assets.benches.features import build_tables, fill_raw
from atft_assets.sandbox import MarketConfig, simulate
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store

START, END = date(2020, 3, 2), date(2020, 11, 13)


@dataclass
class Fixture:
    root: Path
    keys: list[str]

    @property
    def store(self) -> Store:
        return Store(root=str(self.root))

    def settings(self, **changes) -> Settings:
        given = {"base_url": None, "plan": Plan.STANDARD, "data_root": str(self.root), "start": START, "end": END}
        return Settings(**(given | changes))


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Fixture:
    """Raw months of 100 names over 9 months, and every feature table of them; tests must not write to it."""
    root = tmp_path_factory.mktemp("features")
    store = Store(root=str(root))
    market = simulate(MarketConfig(n_names=100, start=START, end=END, seed=3))
    keys = fill_raw(store, market)
    build_tables(store, keys, START)
    return Fixture(root, keys)


@pytest.fixture
def workspace(published, tmp_path) -> Fixture:
    """A copy that a test may change."""
    root = tmp_path / "data"
    shutil.copytree(published.root, root)
    return Fixture(root, published.keys)
