"""What a single column is worth: daily rank correlations with the labels, their mean, whether it is chance, and decay.

A first look and a leak alarm, not a selection: the newest part of the history is left out, so that no feature is
chosen on the days on which models are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from atft_assets.features.feature import Feature
from atft_model.interchange.horizons import MIN_NAMES
from atft_model.interchange.statistics import finite, holm, information_ratio, mean, mean_verdict

# Twice the least of the evaluation (interchange.horizons.MIN_NAMES): hundreds of columns are looked at here, and of so
# many correlations of ten names some are large by chance alone.
LEAST_NAMES = 2 * MIN_NAMES


def daily_rank_ic(frame: pl.DataFrame, features: Sequence[str], labels: Sequence[str]) -> pl.DataFrame:
    """Spearman's rank correlation of every feature with every label, by day.

    Args:
        frame: date, the features and the labels of some days. Ranks are taken among the names that have the value; the
            correlation over those that have both.

    Returns:
        date, label, one Float64 column a feature; null on days with fewer than 20 names, or without variation.
    """
    ranks = frame.select(
        "date",
        *(_rank(f).over("date").alias(f) for f in features),
        *(_rank(y).over("date").alias(y) for y in labels),
    )
    parts = []
    for label in labels:
        enough = [pl.col(f).is_not_null() & pl.col(label).is_not_null() for f in features]
        parts.append(
            ranks.group_by("date").agg(
                pl.lit(label).alias("label"),
                *(
                    pl.when(both.sum() >= LEAST_NAMES).then(_correlation(f, label)).alias(f)
                    for f, both in zip(features, enough, strict=True)
                ),
            )
        )
    return pl.concat(parts).sort("label", "date")


def _rank(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64).rank("average")


def _correlation(x: str, y: str) -> pl.Expr:
    value = pl.corr(x, y)
    return pl.when(value.is_finite()).then(value)


def summary(daily: pl.DataFrame, features: Iterable[Feature], horizons: Sequence[int]) -> pl.DataFrame:
    """Mean, t, p and information ratio by feature and horizon.

    Hundreds of columns are looked at, and one in twenty has a p below 5 % by chance: `p_holm` counts them all, of one
    horizon.

    Args:
        daily: what `daily_rank_ic` gives, all days, in any order.

    Returns:
        feature, family, horizon, rank_ic, t_newey_west, p, p_holm, icir (mean/std of days), days, kept (|IC| over |IC|
        at 1 day); sorted by the size of the one-day IC. What the days do not suffice for is null.
    """
    rows: list[dict[str, Any]] = []
    of_label = {h: daily.filter(pl.col("label") == f"y_cc_{h}d").sort("date") for h in horizons}
    for feature in features:
        series = {h: finite(of_label[h][feature.name].cast(pl.Float64).fill_null(float("nan"))) for h in horizons}
        first = mean(series[horizons[0]])
        for h, x in series.items():
            verdict = mean_verdict(x, h)
            rows.append(
                {
                    "feature": feature.name,
                    "family": feature.family,
                    "horizon": h,
                    "rank_ic": verdict.mean,
                    "t_newey_west": verdict.t,
                    "p": verdict.p,
                    "icir": information_ratio(x),
                    "days": verdict.days,
                    "kept": abs(verdict.mean / first) if first else float("nan"),
                }
            )
    for h in horizons:
        family = [row for row in rows if row["horizon"] == h]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    frame = pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))
    order = frame.filter(pl.col("horizon") == horizons[0]).select("feature", pl.col("rank_ic").abs().alias("_order"))
    return (
        frame.join(order, on="feature")
        .sort("_order", "feature", "horizon", descending=[True, False, False], nulls_last=True)
        .drop("_order")
    )
