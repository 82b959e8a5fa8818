"""The worked example of a feature works, and keeps the rules it speaks of; docs/data.md names what exists."""

import re
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.features.assets import definitions
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from tests.features.synthetic import bars_of, column, raw_quotes

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "data.md").read_text()
EXAMPLE = (DOCS / "how-to" / "adding-a-feature.md").read_text()


def test_the_worked_example_of_a_family():
    """Its module and its oracle, as docs/how-to/adding-a-feature.md has them; then the rules that it speaks of."""
    module, oracle = re.findall(r"```python\n(.*?)```", EXAMPLE, re.S)
    made = ModuleType("atft_assets.features.breakout")
    exec(compile(module, "adding-a-feature.md", "exec"), made.__dict__)
    test: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, made.__name__, made)
        exec(compile(oracle, "adding-a-feature.md", "exec"), test)
    test["test_the_oracle_agrees"]()

    quotes = raw_quotes(2, 120, seed=6, splits=True, untraded=0.05)
    got = made.breakout_features(bars_of(quotes)).collect()
    mine = got.filter(pl.col("code") == "13010")
    for feature in made.FEATURES:
        assert feature.core
        assert int(np.argmin(np.isnan(column(mine, feature.name)))) == feature.lookback
    day = quotes["date"].unique().sort()[80]
    cut = made.breakout_features(bars_of(quotes.filter(pl.col("date") <= day))).collect()
    assert cut.equals(got.filter(pl.col("date") <= day))


def test_every_check_and_table_that_the_page_names_exists():
    settings = Settings.from_env({}).model_copy(update={"plan": Plan.PREMIUM})
    store = dg.Definitions(resources={"store": Store(root=settings.data_root)})
    defs = dg.Definitions.merge(definitions(settings), store)
    graph = defs.resolve_asset_graph()
    checks = {key.name for key in graph.asset_check_keys} - {"contract"}
    named = set(re.findall(r"^\| `(\w+)` \| `\w+` \|", PAGE, re.M))
    assert named == checks
    tables = {key.to_user_string() for key in graph.materializable_asset_keys}
    assert set(re.findall(r"^\| `features/(\w+)` \|", PAGE, re.M)) == tables
