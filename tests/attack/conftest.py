"""One small market, one proxy and one Dagster instance for all cases on the API."""

from collections.abc import Iterator

import dagster as dg
import pytest

from atft_assets.sandbox import MarketConfig, serve
from tests.attack.hostile import proxy
from tests.attack.lab import BEFORE, END, KEY, MONTH, START, Lab
from tests.training.conftest import _world, world  # noqa: F401

TABLES = ("listed_info", "daily_quotes", "topix", "sector_indices")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    market = MarketConfig(n_names=60, start=START, end=END, seed=5)
    with (
        serve(market, page_rows=40, api_key=KEY) as sandbox,
        proxy(sandbox) as hostile,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        lab = Lab(hostile, instance, tmp_path_factory.mktemp("attack"))
        lab.prepare({"trading_calendar": [""], **{table: [BEFORE, MONTH] for table in TABLES}})
        yield lab
