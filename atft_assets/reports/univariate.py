"""What a single column is worth: daily rank correlations with the labels, their mean, t-value and decay.

A first look and a leak alarm, not a selection: the newest part of the history is left out, so that no feature is
chosen on the days on which models are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from atft_assets.features.feature import Feature
from atft_model.interchange.horizons import MIN_NAMES
from atft_model.interchange.statistics import newey_west_t

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
    """Mean, t and information ratio by feature and horizon.

    Args:
        daily: what `daily_rank_ic` gives, all days.

    Returns:
        feature, family, horizon, rank_ic, t_newey_west, icir (mean/std of days), days, kept (|IC| over |IC| at 1 day);
        sorted by the size of the one-day IC.
    """
    rows = []
    for feature in features:
        first = float("nan")
        for h in horizons:
            of_label = daily.filter(pl.col("label") == f"y_cc_{h}d")
            x = of_label[feature.name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            x = x[np.isfinite(x)]
            mean = float(x.mean()) if len(x) else float("nan")
            first = mean if h == horizons[0] else first
            spread = float(x.std(ddof=1)) if len(x) > 1 else float("nan")
            rows.append(
                {
                    "feature": feature.name,
                    "family": feature.family,
                    "horizon": h,
                    "rank_ic": mean,
                    "t_newey_west": newey_west_t(x, max(h - 1, int(4 * (max(len(x), 1) / 100) ** (2 / 9)))),
                    "icir": mean / spread if spread > 0 else float("nan"),
                    "days": len(x),
                    "kept": abs(mean / first) if first else float("nan"),
                }
            )
    frame = pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))
    order = frame.filter(pl.col("horizon") == horizons[0]).select("feature", pl.col("rank_ic").abs().alias("_order"))
    return (
        frame.join(order, on="feature")
        .sort("_order", "feature", "horizon", descending=[True, False, False], nulls_last=True)
        .drop("_order")
    )
