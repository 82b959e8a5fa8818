"""What single columns say, family by family: the figures of `feature_report`, how many values there are, the best."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import polars as pl

from atft_assets.calendar import month_key, months_between
from atft_assets.features.feature import Feature
from atft_assets.store.tables import Table
from atft_model.interchange.horizons import HORIZONS

RANK_IC = [f"rank_ic_{h}d" for h in HORIZONS]
COLUMNS = ("feature", "family", "coverage", "days", *RANK_IC, "t_newey_west", "p", "p_holm")


def coverage(table: Table, columns: Sequence[str], first: date, last: date) -> dict[str, float]:
    """Share of the rows of some days that have a value, by column; a column that the table lacks is left out.

    Args:
        table: `all_features`, whose rows are those of the universe.
        first, last: days, both included.

    Raises:
        MissingTable: no month of these days has been published.
    """
    months = months_between(month_key(first), month_key(last))
    published = set(table.keys())
    read = [key for key in months if key in published] or months  # of none the store says what to run
    rows, values = 0, dict.fromkeys(columns, 0)
    for key in read:  # a month in memory at a time
        frame = table.read([key]).filter(pl.col("date").is_between(first, last))
        values = {name: count + frame[name].count() for name, count in values.items() if name in frame.columns}
        rows += frame.height
    return {name: count / rows for name, count in values.items()} if rows else {}


def by_column(report: pl.DataFrame, features: Iterable[Feature], covered: dict[str, float]) -> pl.DataFrame:
    """A line a column that has values.

    Args:
        report: the table `feature_report`; a column that it lacks is equal for all names of a day, and ranks nothing.
        features: model inputs, in order.
        covered: as `coverage` gives it.

    Returns:
        feature, family, coverage, days, rank_ic_<h>d, and of the shortest horizon t_newey_west, p, p_holm; in the order
        of the features.
    """
    known = [f for f in features if f.name in covered]
    frame = pl.DataFrame(
        {
            "feature": [f.name for f in known],
            "family": [f.family for f in known],
            "coverage": [covered[f.name] for f in known],
        },
        schema={"feature": pl.String, "family": pl.String, "coverage": pl.Float64},
    )
    for h in HORIZONS:
        of_horizon = report.filter(pl.col("horizon") == h)
        more = ("days", "t_newey_west", "p", "p_holm") if h == HORIZONS[0] else ()
        frame = frame.join(
            of_horizon.select("feature", pl.col("rank_ic").alias(f"rank_ic_{h}d"), *more),
            on="feature",
            how="left",
            maintain_order="left",
        )
    return frame.select(COLUMNS)


def by_family(columns: pl.DataFrame, level: float) -> list[dict[str, Any]]:
    """A line a family, in the order of the columns.

    Args:
        columns: as `by_column` gives it.
        level: of the p after Holm below which a column is beyond chance.

    Returns:
        family, columns, ranking (those that have a RankIC), coverage (mean of its columns), beyond_chance (columns),
        mean_abs_rank_ic at the shortest horizon, and of the column with the largest |t| there (a large RankIC of few
        names is chance more often) `best`, `best_rank_ic`, `best_t`, `best_p_holm`, `best_coverage`; None where no
        column ranks.
    """
    ic, lines = RANK_IC[0], []
    for part in columns.partition_by("family", maintain_order=True):
        ranking = part.filter(pl.col(ic).is_not_null()).sort(
            pl.col("t_newey_west").abs(), pl.col(ic).abs(), descending=True, nulls_last=True, maintain_order=True
        )
        best: dict[str, Any] = ranking.row(0, named=True) if ranking.height else {}
        lines.append(
            {
                "family": part["family"][0],
                "columns": part.height,
                "ranking": ranking.height,
                "coverage": part["coverage"].mean(),
                "beyond_chance": int((part["p_holm"] < level).sum()),
                "mean_abs_rank_ic": ranking[ic].abs().mean(),
                "best": best.get("feature"),
                "best_rank_ic": best.get(ic),
                "best_t": best.get("t_newey_west"),
                "best_p_holm": best.get("p_holm"),
                "best_coverage": best.get("coverage"),
            }
        )
    return lines
