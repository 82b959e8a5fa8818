"""The worked example of docs/data.md works, and keeps the rules it speaks of."""

import re
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from atft_assets.features.assets import definitions
from atft_assets.settings import Settings
from atft_assets.store import Store
from tests.features.synthetic import bars_of, column, lagged, raw_quotes, rolling

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def example() -> dict:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    namespace: dict = {}
    exec(compile(code, "docs/data.md", "exec"), namespace)
    return namespace


def test_the_worked_example_of_a_family():
    namespace = example()
    quotes = raw_quotes(2, 120, seed=6, splits=True, untraded=0.05)
    bars = bars_of(quotes).collect()
    got = namespace["breakout_features"](bars.lazy()).collect()
    one, mine = (frame.filter(pl.col("code") == "13010") for frame in (bars, got))
    h, low = column(one, "h"), column(one, "l")
    expected = np.maximum(h - lagged(h, 1), 0) / (h - low)
    np.testing.assert_allclose(column(mine, "range_above"), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        column(mine, "range_above_20")[20:], rolling(expected, 20, np.mean)[20:], rtol=1e-4, atol=1e-6
    )
    for feature in namespace["FEATURES"]:
        assert int(np.argmin(np.isnan(column(mine, feature.name)))) == feature.lookback
    day = quotes["date"].unique().sort()[80]
    cut = namespace["breakout_features"](bars_of(quotes.filter(pl.col("date") <= day))).collect()
    assert cut.equals(got.filter(pl.col("date") <= day))


def test_every_check_and_table_that_the_page_names_exists():
    settings = Settings.from_env({})
    store = dg.Definitions(resources={"store": Store(root=settings.data_root)})
    defs = dg.Definitions.merge(definitions(settings), store)
    graph = defs.resolve_asset_graph()
    checks = {key.name for key in graph.asset_check_keys} - {"contract"}
    named = set(re.findall(r"^\| `(\w+)` \| `\w+` \|", PAGE, re.M))
    assert named == checks
    tables = {key.to_user_string() for key in graph.materializable_asset_keys}
    assert set(re.findall(r"^\| `features/(\w+)` \|", PAGE, re.M)) == tables
