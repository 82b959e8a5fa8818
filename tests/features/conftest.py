"""A small simulated market whose raw months are published once for the room's asset tests."""

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from atft_assets.benches.features import build_tables
from atft_assets.benches.features_raw import fill_prices
from atft_assets.sandbox import MarketConfig, simulate
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from tests.features import raw_tables, synthetic_records

START, END = date(2020, 3, 2), date(2020, 11, 13)


@dataclass
class Fixture:
    root: Path
    keys: list[str]

    @property
    def raw(self) -> list[str]:
        """Names of the raw tables."""
        return sorted(folder.name for folder in (self.root / "raw").iterdir())

    @property
    def store(self) -> Store:
        return Store(root=str(self.root))

    def settings(self, **changes) -> Settings:
        given = {"base_url": None, "plan": Plan.PREMIUM, "data_root": str(self.root), "start": START, "end": END}
        return Settings(**(given | changes))


def publish_records(store: Store, keys: list[str]) -> None:
    """The raw months that the simulated market does not hold, of its days and names."""
    quotes, listed = (store.table("raw", name).read(keys) for name in ("daily_quotes", "listed_info"))
    made = {**raw_tables.of_market(quotes), **synthetic_records.of_market(quotes, listed)}
    for name, frame in made.items():
        table = store.table("raw", name)
        month = pl.col("date").dt.strftime("%Y-%m")
        table.publish(table.stage_all([(key, frame.filter(month == key)) for key in keys], code_version="test"))


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Fixture:
    """Raw months of 100 names over 9 months, and every feature table of them; tests must not write to it."""
    root = tmp_path_factory.mktemp("features")
    store = Store(root=str(root))
    market = simulate(MarketConfig(n_names=100, start=START, end=END, seed=3))
    keys = fill_prices(store, market)
    publish_records(store, keys)
    build_tables(store, keys, START)
    return Fixture(root, keys)


@pytest.fixture
def workspace(published, tmp_path) -> Fixture:
    """A copy that a test may change."""
    root = tmp_path / "data"
    shutil.copytree(published.root, root)
    return Fixture(root, published.keys)
