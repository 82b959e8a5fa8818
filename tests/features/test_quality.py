"""Each quality check finds what was planted, and nothing in a clean market."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from atft_assets.calendar import SYSTEM_HALTS
from atft_assets.features import oddities
from atft_assets.features.catalogue import feature_set
from atft_assets.features.quality import CHECKS
from atft_assets.store import Store
from tests.features.synthetic import bars_of, members_of, raw_quotes
from tests.features.test_assets import materialize
from tests.features.test_universe import snapshot


def test_missing_names():
    quotes = raw_quotes(20, 10, seed=1)
    first = quotes["date"].min()
    listed = snapshot(first, [(c, "0101", "0050") for c in quotes["code"].unique().sort()])
    assert oddities.missing_names(quotes, listed).is_empty()
    day = first + timedelta(days=4)
    holed = quotes.filter((pl.col("date") != day) | ~pl.col("code").is_in(["13020", "13030"]))
    found = oddities.missing_names(holed, listed)
    assert found.row(0) == (day, 20, 2, "13020 13030")


def test_stale_prices():
    quotes = raw_quotes(3, 40, seed=2)
    assert oddities.stale_prices(bars_of(quotes).collect()).is_empty()
    days = quotes["date"].unique().sort()
    frozen = (pl.col("code") == "13020") & pl.col("date").is_between(days[10], days[24])
    columns = ("O", "H", "L", "C", "Vo")
    stale = quotes.with_columns(pl.when(frozen).then(pl.lit(500.0)).otherwise(pl.col(c)).alias(c) for c in columns)
    assert oddities.stale_prices(bars_of(stale).collect()).rows() == [("13020", days[19], 500.0)]


def test_a_split_without_its_factor_is_an_unexplained_return():
    quotes = raw_quotes(2, 100, seed=3, splits=True)
    assert oddities.unexplained_returns(quotes).is_empty()
    forgotten = quotes.with_columns(pl.lit(1.0).alias("AdjFactor"))
    found = oddities.unexplained_returns(forgotten)
    planted = quotes.filter((pl.col("AdjFactor") < 0.55) | (pl.col("AdjFactor") > 2.5))
    assert set(found.select("date", "code").rows()) == set(planted.select("date", "code").rows())


def test_a_split_on_a_day_without_a_trade_is_explained():
    quotes = raw_quotes(1, 100, seed=3, splits=True)
    day = quotes.filter(pl.col("AdjFactor") != 1)["date"][0]
    quotes = quotes.with_columns(pl.when(pl.col("date") != day).then("C").alias("C"))
    assert oddities.unexplained_returns(quotes).is_empty()


def test_sector_jumps():
    members = members_of(raw_quotes(60, 10, seed=4))
    day = members["date"].unique().sort()[5]

    def moved(n):
        codes = members["code"].unique().sort()[:n].to_list()
        there = pl.col("code").is_in(codes) & (pl.col("date") >= day)
        return members.with_columns(pl.when(there).then(pl.lit("9")).otherwise("s33").alias("s33"))

    assert oddities.sector_jumps(members).is_empty()
    assert oddities.sector_jumps(moved(1)).is_empty()  # one reclassification is ordinary
    assert oddities.sector_jumps(moved(10)).height == 10


def test_an_index_that_is_a_day_off():
    rows = raw_quotes(1, 41, seed=5)["C"]
    r = (rows / rows.shift(1) - 1)[1:]
    days = raw_quotes(1, 41)["date"].unique().sort()[1:]
    rows = pl.DataFrame({"date": days, "returns_1d": r, "log_turnover": [10.0] * 40})
    right = pl.DataFrame({"date": days, "mkt_ret_1d": r})

    def found(index: pl.DataFrame) -> list[str]:
        return oddities.market_against_names(rows, index)["finding"].to_list()

    assert found(right) == []
    assert found(right.with_columns(pl.col("mkt_ret_1d").shift(1))) == ["apart", "a day late"]
    assert found(right.with_columns(pl.col("mkt_ret_1d").shift(-1))) == ["apart", "a day early"]
    last_month = pl.int_range(pl.len()) >= 20  # only the newer half: two months together still go well
    half = pl.when(last_month).then(pl.col("mkt_ret_1d").shift(1)).otherwise("mkt_ret_1d").alias("mkt_ret_1d")
    assert "a day late" in found(right.with_columns(half))
    assert found(right.head(10)) == []  # too few to say


def test_one_name_times_1000_is_an_unexplained_return_and_so_is_a_factor_without_a_split():
    quotes = raw_quotes(30, 20, seed=6)
    day = quotes["date"].unique().sort()[9]
    one = (pl.col("date") == day) & (pl.col("code") == "13050")
    wrong = quotes.with_columns(pl.when(one).then(pl.col("C") * 1000).otherwise("C").alias("C"))
    assert oddities.unexplained_returns(wrong).select("code", "date").rows()[0] == ("13050", day)
    assert oddities.unexplained_returns(wrong).height == 2  # up, and down again
    factor = quotes.with_columns(pl.when(one).then(0.4).otherwise("AdjFactor").alias("AdjFactor"))
    assert oddities.unexplained_returns(factor).select("date", "code", "adj_factor").rows() == [(day, "13050", 0.4)]


def test_days_on_which_many_names_did_not_trade():
    quotes = raw_quotes(40, 10, seed=7, untraded=0.05)
    assert oddities.untraded_days(quotes).is_empty()
    days = quotes["date"].unique().sort()
    third = (pl.col("date") == days[4]) & (pl.col("code") < "13150")
    wrong = quotes.with_columns(pl.when(~third).then("C").alias("C"))
    assert oddities.untraded_days(wrong)["date"].to_list() == [days[4]]
    nobody = quotes.with_columns(pl.when(pl.col("date") != days[4]).then("C").alias("C"))
    assert oddities.untraded_days(nobody).row(0) == (days[4], 40, 40)
    (halt,) = SYSTEM_HALTS
    assert oddities.untraded_days(nobody.filter(pl.col("date") == days[4]).with_columns(date=pl.lit(halt))).is_empty()


def test_drift():
    rng = np.random.default_rng(0)
    year = pl.DataFrame({"a": rng.normal(size=20_000), "b": rng.normal(size=20_000)})
    month = pl.DataFrame({"a": rng.normal(size=2_000), "b": rng.normal(2, 1, size=2_000)})
    assert oddities.drift(month, year, ["a", "b"])["column"].to_list() == ["b"]


@pytest.mark.parametrize(("moved_days", "found"), [(1, False), (20, True)])
def test_drift_is_judged_of_twenty_days_on_the_first_of_a_month_too(tmp_path, moved_days, found):
    """A day is no sample of a year: its names all move with what happened on it."""
    (check,) = (one for one in CHECKS if one.name == "drift")
    names = [f.name for f in feature_set("full") if f.kind == "time_series" and f.lookback <= 20]
    rng, frames = np.random.default_rng(0), {}
    days = [day for month in range(1, 8) for day in (date(2024, month, n) for n in range(1, 21))] + [date(2024, 8, 1)]
    for place, day in enumerate(days):
        values = rng.normal(size=(40, len(names))) * (5 if place >= len(days) - moved_days else 1)
        frames.setdefault(f"{day:%Y-%m}", []).append(pl.DataFrame(values, schema=names).with_columns(date=pl.lit(day)))
    others = [f.name for f in feature_set("full") if f.name not in names]
    store = Store(root=str(tmp_path))
    table = store.table("features", "all_features")
    months = [
        (key, pl.concat(m).with_columns(pl.lit(None, pl.Float64).alias(o) for o in others)) for key, m in frames.items()
    ]
    table.publish(table.stage_all(months, code_version="test"))
    assert check.find(store, "2024-08", [key for key, _ in months]).is_empty() != found


def test_the_checks_run_with_their_assets_and_pass_on_the_simulated_market(workspace):
    result, checks = materialize(workspace, ["all_features", "universe"], workspace.keys[-1])
    assert result.success
    for check in CHECKS:
        if check.asset != "daily_quotes":
            assert checks[check.name].passed, checks[check.name].description


@pytest.mark.parametrize("check", [c for c in CHECKS if c.asset == "daily_quotes"], ids=lambda c: c.name)
def test_the_checks_of_raw_bars_read_the_store(workspace, check):
    assert check.find(workspace.store, workspace.keys[-1], workspace.keys).is_empty()
