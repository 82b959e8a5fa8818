"""Rank correlations against SciPy, the t-value against its textbook sum, the report on a small market."""

import dagster as dg
import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from atft_assets.reports.feature_report import LEAK_CHECK, NAME, ReportConfig, leak_alarm, ranking_features
from atft_assets.reports.univariate import daily_rank_ic, summary
from atft_model.interchange.statistics import mean_verdict
from tests.features.synthetic import sessions
from tests.features.test_assets import materialize


def panel(days: int = 6, names: int = 60, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    date = np.repeat(np.array(sessions(days), dtype="datetime64[D]"), names)
    y = rng.normal(size=days * names)
    x = (0.5 * y + rng.normal(size=days * names)).round(1)  # ties
    return pl.DataFrame({"date": pl.Series(date), "x": x, "flat": 1.0, "y": y})


def test_rank_correlations_are_scipys():
    frame = panel()
    got = daily_rank_ic(frame, ["x", "flat"], ["y"])
    for row in got.iter_rows(named=True):
        day = frame.filter(pl.col("date") == row["date"])
        assert row["x"] == pytest.approx(spearmanr(day["x"], day["y"]).statistic)
        assert row["flat"] is None  # no variation, no correlation


def test_a_day_with_few_names_has_no_correlation():
    frame = panel(1).with_columns(pl.when(pl.int_range(pl.len()) < 19).then("x").alias("x"))
    assert daily_rank_ic(frame, ["x"], ["y"])["x"].to_list() == [None]


def test_a_column_is_judged_by_sorted_days_and_among_all_columns():
    """In any order of the days; one good column among nineteen of noise stays good, a lucky one does not."""
    rng = np.random.default_rng(0)
    days = sessions(300)
    features = ranking_features()[:20]
    series = {f.name: rng.normal(0, 0.1, 300) for f in features}
    series[features[0].name] += 0.05
    daily = pl.DataFrame({"date": days, "label": "y_cc_1d", **series})
    got = summary(daily.sample(fraction=1.0, shuffle=True, seed=1), features, (1,))
    assert got.equals(summary(daily, features, (1,)))
    best = got.row(0, named=True)
    assert best["feature"] == features[0].name and best["p_holm"] < 0.001 and best["days"] == 300
    for row in got.iter_rows(named=True):
        verdict = mean_verdict(series[row["feature"]], 1)
        assert row["p"] == pytest.approx(verdict.p) and row["t_newey_west"] == pytest.approx(verdict.t)
        assert row["p_holm"] >= row["p"]
    assert (got["p_holm"] < 0.05).sum() == 1


def test_the_report_shows_every_input_up_to_the_days_of_the_test(workspace):
    result, _ = materialize(workspace, ["labels", NAME])
    assert result.success
    frame = workspace.store.table("features", NAME).read(["all"])
    ranking = [f.name for f in ranking_features()]
    assert set(frame["feature"]) == set(ranking)
    assert frame.filter(pl.col("feature") == "returns_1d")["rank_ic"].null_count() == 0
    assert not set(frame["family"]) & {"market", "calendar"}
    page = (workspace.root / "reports" / f"{NAME}.html").read_text()
    assert all(f">{name}<" in page for name in ranking)
    assert "data:image/png;base64," in page
    checks = {e.check_name: e for e in result.get_asset_check_evaluations() if e.asset_key == dg.AssetKey(NAME)}
    assert checks["contract"].passed
    assert checks[LEAK_CHECK].metadata["largest_abs_rank_ic"].value < 0.5
    days = workspace.store.table("features", "labels").read(["all"], ["date"])["date"].n_unique()
    assert frame["days"].max() <= days * (1 - ReportConfig().left_out)  # the newest days are not looked at


def test_a_column_that_knows_tomorrow_rings_the_alarm():
    honest = {"feature": ["a", "b"], "horizon": [1, 1], "rank_ic": [0.03, -0.05]}
    assert leak_alarm(pl.DataFrame(honest)).passed
    leaky = leak_alarm(pl.DataFrame(honest | {"rank_ic": [0.9, 0.01]}))
    assert not leaky.passed
    assert "a rank tomorrow" in (leaky.description or "")
