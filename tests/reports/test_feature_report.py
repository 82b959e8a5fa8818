"""Rank correlations against SciPy, verdicts against those of the platform, the report on a small market."""

from collections.abc import Sequence

import dagster as dg
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import spearmanr

from atft_assets.features.feature import Feature
from atft_assets.reports.feature_report import (
    CONTRACT,
    LEAK_CHECK,
    NAME,
    ReportConfig,
    leak_alarm,
    ranking_features,
)
from atft_assets.reports.univariate import daily_rank_ic, summary
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.statistics import holm, mean_verdict
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


def daily_of(features: Sequence[Feature], days: int, seed: int = 0) -> pl.DataFrame:
    """Daily correlations as `daily_rank_ic` gives them: the first feature ranks, the others do not."""
    rng = np.random.default_rng(seed)
    date = pl.Series("date", np.array(sessions(days), dtype="datetime64[D]"))
    frames = []
    for h in HORIZONS:
        noise = rng.normal(scale=0.05, size=(len(features), days + h - 1))
        overlapping = np.array([np.convolve(row, np.ones(h) / np.sqrt(h), "valid") for row in noise])
        overlapping[0] += 0.1
        columns = {f.name: values for f, values in zip(features, overlapping, strict=True)}
        frames.append(pl.DataFrame({"date": date, "label": [f"y_cc_{h}d"] * days, **columns}))
    return pl.concat(frames)


def test_columns_are_judged_by_horizon_and_as_many():
    features = ranking_features()[:12]
    daily = daily_of(features, 150).with_columns(pl.lit(None, pl.Float64).alias(features[-1].name))
    found = summary(daily, features, HORIZONS)
    assert found.height == len(features) * len(HORIZONS)
    for row in found.filter(pl.col("feature") != features[-1].name).iter_rows(named=True):
        series = daily.filter(pl.col("label") == f"y_cc_{row['horizon']}d")[row["feature"]].to_numpy()
        verdict = mean_verdict(series, row["horizon"])
        assert (row["rank_ic"], row["t_newey_west"], row["p"]) == (verdict.mean, verdict.t, verdict.p)
    for h in HORIZONS:
        part = found.filter(pl.col("horizon") == h)
        assert part["p"].null_count() == part["p_holm"].null_count() == 1  # the column that has no figure
        known = part.drop_nulls("p")
        assert known["p_holm"].to_list() == holm(known["p"].to_list()) and (known["p_holm"] >= known["p"]).all()
    beyond = found.filter((pl.col("horizon") == 1) & (pl.col("p_holm") < 0.05))
    assert beyond["feature"].to_list() == [features[0].name]


def test_the_order_of_the_days_in_the_frame_does_not_matter():
    """A t reads neighbours, and Polars groups in any order."""
    features = ranking_features()[:3]
    daily = daily_of(features, 120)
    shuffled = daily.sample(fraction=1.0, shuffle=True, seed=1)
    assert_frame_equal(summary(shuffled, features, HORIZONS), summary(daily, features, HORIZONS))


def test_few_days_have_a_correlation_and_no_p():
    features = ranking_features()[:2]
    found = summary(daily_of(features, 30), features, HORIZONS).filter(pl.col("feature") == features[0].name)
    assert found["rank_ic"].null_count() == found["t_newey_west"].null_count() == 0
    assert {row["horizon"] for row in found.iter_rows(named=True) if row["p"] is None} == {10, 20}
    assert not CONTRACT.audit(found.drop("p_holm"), "all").passed  # a table of an earlier version is none of today's


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
    starred = frame.filter(pl.col("p_holm") < 0.05).height
    assert page.count("*</td>") == starred
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
