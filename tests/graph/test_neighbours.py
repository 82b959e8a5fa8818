"""Neighbours of names: against NumPy's own correlation, before the month only, and as an asset."""

from datetime import date

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.calendar import days_of_month, shift_trading_days
from atft_assets.graph.asset import GraphConfig, contract, graph_asset, month_graphs
from atft_assets.graph.neighbours import residual_returns, split_adjusted_returns, strongest_neighbours
from tests.features.synthetic import raw_quotes

PLAIN = GraphConfig(k=5, half_life=1e9, shrinkage=0.0, threshold=0.0, sector_bonus=0.0, min_observations=10)


def test_neighbours_are_those_of_numpys_correlation_of_residuals() -> None:
    returns = np.random.default_rng(0).normal(size=(60, 30)) * 0.02
    found = strongest_neighbours(returns, np.arange(30), PLAIN)
    centred = returns - returns.mean(axis=0)
    market = centred.mean(axis=1)
    beta = centred.T @ market / (market @ market)
    expected = np.corrcoef((centred - beta * market[:, None]).T)
    np.fill_diagonal(expected, 0)
    np.testing.assert_array_equal(found.index, np.argsort(-np.abs(expected), axis=1)[:, :5])
    np.testing.assert_allclose(found.correlation, np.take_along_axis(expected, found.index, axis=1), atol=1e-5)


def test_half_life_shrinkage_and_missing_days() -> None:
    rng = np.random.default_rng(1)
    returns = rng.normal(size=(60, 12)) * 0.02
    returns[:25, 3], returns[50:, 4] = np.nan, np.nan
    config = GraphConfig(k=11, half_life=15, shrinkage=0.1, threshold=0.0, sector_bonus=0.0, min_observations=26)
    found = strongest_neighbours(returns, np.arange(12), config)
    weights = 0.5 ** (np.arange(59, -1, -1) / 15)
    x = residual_returns(returns, weights)
    for i, j in ((0, 3), (3, 7), (1, 2)):
        both = np.isfinite(returns[:, i]) & np.isfinite(returns[:, j])
        w, a, b = weights[both], x[both, i], x[both, j]
        expected = 0.9 * (w * a) @ b / np.sqrt(((w * a) @ a) * ((w * b) @ b))
        assert found.correlation[i, found.index[i] == j] == pytest.approx(expected, abs=1e-5)
    # names 3 and 4 share 25 days only: no edge
    assert not found.mask[3, found.index[3] == 4].any()


def test_threshold_and_sector_bonus() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(size=(60, 200)) * 0.02
    sectors = np.arange(200) % 10
    found = strongest_neighbours(returns, sectors, PLAIN.model_copy(update={"threshold": 0.25}))
    assert (np.abs(found.correlation[found.mask]) >= 0.25).all() and not found.mask.all()
    same = [
        (sectors[:, None] == sectors[strongest_neighbours(returns, sectors, config).index]).mean()
        for config in (PLAIN, PLAIN.model_copy(update={"sector_bonus": 0.1}))
    ]
    assert same[1] > 2 * same[0]


@pytest.mark.parametrize("names", [0, 1, 2, 5])
def test_fewer_names_than_neighbours(names: int) -> None:
    returns = np.random.default_rng(3).normal(size=(60, names))
    found = strongest_neighbours(returns, np.zeros(names, int), PLAIN)
    assert found.index.shape == (names, min(5, max(names - 1, 0)))


def test_a_split_is_no_return() -> None:
    days = days_of_month("2020-01")[:4]
    quotes = pl.DataFrame(
        {
            "date": days * 2,
            "code": ["10000"] * 4 + ["20000"] * 4,
            "C": [100.0, 51.0, 52.0, 53.0, 10.0, None, 10.0, 11.0],
            "AdjFactor": [1.0, 0.5, 1.0, 1.0, 1.0, None, 1.0, 1.0],
        }
    ).with_columns(pl.col("C").alias(x) for x in ("O", "H", "L", "Vo", "Va"))
    returns = split_adjusted_returns(quotes, days, ["10000", "20000"])
    np.testing.assert_allclose(returns[:, 0], [0.02, 52 / 51 - 1, 53 / 52 - 1])
    np.testing.assert_allclose(returns[:, 1], [np.nan, np.nan, 0.1])


def test_planted_pair_is_found_and_signed(world) -> None:
    frame = world.store.table("graph", "correlation_graph").read(["2020-03"])
    edges = {(row["code"], row["neighbour"]): row for row in frame.iter_rows(named=True)}
    first, second, against = world.codes[:3]
    assert edges[first, second]["corr"] > 0.5 and edges[first, against]["corr"] < -0.5
    assert frame.filter(pl.col("code") == first).sort("rank")["neighbour"][:2].sort().to_list() == [second, against]
    assert frame["as_of"].unique().to_list() == [date(2020, 2, 28)]
    assert contract(GraphConfig(k=4)).audit(frame, "2020-03").passed


def test_a_month_depends_on_nothing_after_its_eve(world) -> None:
    """Future perturbation: every quote and membership from the month's first day on is replaced."""
    before = world.store.table("graph", "correlation_graph").read(["2020-03"])
    first_day = days_of_month("2020-03")[0]
    rng = np.random.default_rng(0)
    for group, name, change in (
        ("raw", "daily_quotes", lambda f: f.with_columns(C=pl.Series(rng.lognormal(5, 1, f.height)))),
        ("features", "universe", lambda f: f.with_columns(s33=pl.lit("9999"), mkt=pl.lit("0113"))),
    ):
        table = world.store.table(group, name)
        for key in table.manifest().entries:
            frame = table.read([key])
            if frame["date"].max() >= first_day:
                late = frame["date"] >= first_day
                world.publish(group, name, pl.concat([frame.filter(~late), change(frame.filter(late))]))
    ((_, after),) = month_graphs(world.store, world.settings.start, ["2020-03"], GraphConfig(k=4))
    assert after.equals(before)
    ((_, later),) = month_graphs(world.store, world.settings.start, ["2020-04"], GraphConfig(k=4))
    assert not later.equals(world.store.table("graph", "correlation_graph").read(["2020-04"]))


def test_first_months_warm_up_with_self_edges(world) -> None:
    table = world.store.table("graph", "correlation_graph")
    for key, warm in (("2019-01", True), ("2019-02", True), ("2019-03", True), ("2019-04", False)):
        frame = table.read([key])
        assert frame["warm_up"].unique().to_list() == [warm]
        assert (frame["code"] == frame["neighbour"]).all() == warm
        assert frame["as_of"][0] == shift_trading_days(days_of_month(key)[0], -1)
    assert contract(GraphConfig(k=4)).audit(table.read(["2019-02"]), "2019-02", history_days=18).passed
    broken = table.read(["2019-04"]).with_columns(neighbour=pl.col("code"))
    assert "own neighbour" in str(contract(GraphConfig(k=4)).audit(broken, "2019-04"))


def test_asset_publishes_months_and_records_the_contract(world) -> None:
    with dg.instance_for_test() as instance:
        universe, quotes = (
            dg.AssetSpec(name, partitions_def=graph_asset(world.settings).partitions_def)
            for name in ("universe", "daily_quotes")
        )
        result = dg.materialize(
            [graph_asset(world.settings), universe, quotes],
            selection=["correlation_graph"],
            resources={"store": world.store},
            run_config={"ops": {"correlation_graph": {"config": {"k": 3}}}},
            tags={
                "dagster/asset_partition_range_start": "2020-03",
                "dagster/asset_partition_range_end": "2020-05",
            },
            instance=instance,
        )
    assert result.success and [e.passed for e in result.get_asset_check_evaluations()] == [True]
    metadata = result.asset_materializations_for_node("correlation_graph")[-1].metadata
    assert 2 < metadata["neighbours_a_name"].value <= 3
    assert world.store.table("graph", "correlation_graph").read(["2020-05"])["rank"].max() == 2


def test_returns_are_those_of_the_features_bars() -> None:
    """On one basis with the features: closes divided by the product of the factors, those of untraded ex-dates too."""
    quotes = raw_quotes(6, 90, seed=4, untraded=0.05, splits=True)
    days = quotes["date"].unique().sort().to_list()
    codes = quotes["code"].unique().sort().to_list()
    returns = split_adjusted_returns(quotes, days, codes)
    for n, code in enumerate(codes):
        own = quotes.filter(pl.col("code") == code).sort("date")
        close = own["C"].fill_null(float("nan")).to_numpy() / np.cumprod(own["AdjFactor"].to_numpy())
        np.testing.assert_allclose(returns[:, n], close[1:] / close[:-1] - 1, rtol=1e-12)
