"""Each quality check finds what was planted, and nothing in a clean market."""

from datetime import timedelta

import polars as pl
import pytest

from atft_assets.features import quality
from atft_assets.features.quality import CHECKS
from tests.features.synthetic import bars_of, members_of, raw_quotes
from tests.features.test_assets import materialize
from tests.features.test_universe import snapshot


def test_missing_names():
    quotes = raw_quotes(20, 10, seed=1)
    first = quotes["date"].min()
    listed = snapshot(first, [(c, "0101", "0050") for c in quotes["code"].unique().sort()])
    assert quality.missing_names(quotes, listed).is_empty()
    day = first + timedelta(days=4)
    holed = quotes.filter((pl.col("date") != day) | ~pl.col("code").is_in(["13020", "13030"]))
    found = quality.missing_names(holed, listed)
    assert found.row(0) == (day, 20, 2, "13020 13030")


def test_stale_prices():
    quotes = raw_quotes(3, 40, seed=2)
    assert quality.stale_prices(bars_of(quotes).collect()).is_empty()
    days = quotes["date"].unique().sort()
    frozen = (pl.col("code") == "13020") & pl.col("date").is_between(days[10], days[24])
    columns = ("O", "H", "L", "C", "Vo")
    stale = quotes.with_columns(pl.when(frozen).then(pl.lit(500.0)).otherwise(pl.col(c)).alias(c) for c in columns)
    assert quality.stale_prices(bars_of(stale).collect()).rows() == [("13020", days[19], 500.0)]


def test_a_split_without_its_factor_is_an_unexplained_return():
    quotes = raw_quotes(2, 100, seed=3, splits=True)
    assert quality.unexplained_returns(quotes).is_empty()
    forgotten = quotes.with_columns(pl.lit(1.0).alias("AdjFactor"))
    found = quality.unexplained_returns(forgotten)
    planted = quotes.filter((pl.col("AdjFactor") != 1) & ((pl.col("AdjFactor") - 1).abs() > 0.6))
    assert set(found.select("date", "code").rows()) == set(planted.select("date", "code").rows())


def test_sector_jumps():
    members = members_of(raw_quotes(60, 10, seed=4))
    day = members["date"].unique().sort()[5]

    def moved(n):
        codes = members["code"].unique().sort()[:n].to_list()
        there = pl.col("code").is_in(codes) & (pl.col("date") >= day)
        return members.with_columns(pl.when(there).then(pl.lit("9")).otherwise("s33").alias("s33"))

    assert quality.sector_jumps(members).is_empty()
    assert quality.sector_jumps(moved(1)).is_empty()  # one reclassification is ordinary
    assert quality.sector_jumps(moved(10)).height == 10


def test_an_index_that_is_a_day_off():
    rows = raw_quotes(1, 41, seed=5)["C"]
    r = (rows / rows.shift(1) - 1)[1:]
    days = raw_quotes(1, 41)["date"].unique().sort()[1:]
    phase1 = pl.DataFrame({"date": days, "returns_1d": r, "log_turnover": [10.0] * 40})
    right = pl.DataFrame({"date": days, "mkt_ret_1d": r})
    assert quality.market_against_names(phase1, right).is_empty()
    assert quality.market_against_names(phase1, right.with_columns(pl.col("mkt_ret_1d").shift(1))).height == 1


def test_drift():
    import numpy as np

    rng = np.random.default_rng(0)
    year = pl.DataFrame({"a": rng.normal(size=20_000), "b": rng.normal(size=20_000)})
    month = pl.DataFrame({"a": rng.normal(size=2_000), "b": rng.normal(2, 1, size=2_000)})
    assert quality.drift(month, year, ["a", "b"])["column"].to_list() == ["b"]


def test_the_checks_run_with_their_assets_and_pass_on_the_simulated_market(workspace):
    result, checks = materialize(workspace, ["phase2_features", "universe"], workspace.keys[-1])
    assert result.success
    for check in CHECKS:
        if check.asset != "daily_quotes":
            assert checks[check.name].passed, checks[check.name].description


@pytest.mark.parametrize("check", [c for c in CHECKS if c.asset == "daily_quotes"], ids=lambda c: c.name)
def test_the_checks_of_raw_bars_read_the_store(workspace, check):
    assert check.find(workspace.store, workspace.keys[-1], workspace.keys).is_empty()
