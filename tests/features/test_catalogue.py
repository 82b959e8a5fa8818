"""The catalogue: names, sets, hash."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from atft_assets.features.catalogue import CATALOGUE, SETS, catalogue_hash, feature_set, features_of, render
from atft_assets.features.feature import Feature
from atft_assets.features.labels import CLOSE_LABELS, OPEN_LABELS


def test_names_are_unique_and_none_is_a_label():
    names = [f.name for f in CATALOGUE]
    assert len(names) == len(set(names))
    assert not set(names) & {*CLOSE_LABELS, *OPEN_LABELS}
    with pytest.raises(ValueError, match="labels"):
        Feature("y_cc_1d", "price", "C[1]/C - 1", 1, 0)


def test_the_families_have_their_columns():
    families = Counter(f.family for f in CATALOGUE)
    assert families["technical"] == 11
    assert families["market"] == 26
    assert families["stock_market"] >= 8
    assert families["sector"] >= 30


def test_the_sets_have_the_sizes_that_models_are_planned_for():
    core, stock, full = (feature_set(name) for name in SETS)
    assert 45 <= len(core) <= 60
    assert 95 <= len(stock) <= 105
    assert len(full) >= 240
    assert full[: len(stock)] == stock
    assert set(core) <= set(full)
    assert {f.family for f in core} >= {
        "price",
        "shape",
        "volume",
        "volatility",
        "technical",
        "market",
        "stock_market",
        "sector",
    }
    with pytest.raises(ValueError, match="core, stock or full"):
        feature_set("phase3")


def test_intraday_shape_is_in_the_core():
    core = {f.name for f in feature_set("core")}
    assert core >= {
        "ret_overnight", "ret_intraday", "close_to_high", "close_to_low", "high_low_ratio",
        "high_to_prev_close", "low_to_prev_close", "returns_1d", "log_turnover",
    }  # fmt: skip


def test_sequences_are_few_daily_and_in_every_set():
    """What the encoder reads over the look-back: the same of `core` and `full`; of `stock` what needs no other name."""
    marked = [f.name for f in CATALOGUE if f.sequence]
    assert marked == [f.name for f in feature_set("full") if f.sequence] and len(marked) == 13
    assert {f.name for f in feature_set("core") if f.sequence} == set(marked)
    assert set(marked) - {f.name for f in feature_set("stock")} == {"mkt_ret_1d", "alpha_1d", "sec_ret_1d_eq_loo"}
    smoothed = {f.name for f in CATALOGUE if f.sequence and f.window > 1}
    assert smoothed == {"volume_ratio_20", "alpha_1d"}, "a day's value over a slow scale; all others are of one day"
    with pytest.raises(ValueError, match="no model input cannot be read as a sequence"):
        Feature("level", "price", "C", 1, 0, model_input=False, sequence=True)


def test_the_hash_tells_order_names_formulas_kinds_and_sequences_apart():
    some = feature_set("core")
    reference = catalogue_hash(some)
    assert len(reference) == 16 and int(reference, 16) >= 0
    assert catalogue_hash(some) == reference
    first = some[0]
    others = [
        some[1:], (*some[1:], first), (replace(first, name="x"), *some[1:]),
        (replace(first, formula="x"), *some[1:]), (replace(first, kind="sector"), *some[1:]),
        (replace(first, sequence=not first.sequence), *some[1:]),
    ]  # fmt: skip
    assert len({reference, *(catalogue_hash(o) for o in others)}) == 7


def test_every_column_says_what_it_is():
    for f in CATALOGUE:
        assert f.formula and f.source and f.availability, f.name
        assert f.lookback >= 0 and f.window >= 1, f.name
        if not f.model_input:
            assert f.kind == "flag" or "not a model input" in f.formula, f.name
    assert max(f.lookback for f in CATALOGUE if f.kind == "time_series") <= 252
    assert [f.name for f in features_of("all_features")] == [f.name for f in CATALOGUE]


def test_the_rendered_catalogue_is_current():
    page = Path(__file__).parents[2] / "docs" / "features.md"
    assert page.read_text() == render(), "run: python -m atft_assets.features.catalogue > docs/features.md"
