"""The table `daily_scores`: what it must be, and how an evening's scores become its rows. Pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandera.polars as pa
import polars as pl
from numpy.typing import NDArray

from atft_assets.contracts import Contract
from atft_assets.contracts.contract import Failure
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.horizons import HORIZONS, horizon_weights

NAME, GROUP = "daily_scores", "trading"  # GROUP: its folder in the store
PUBLISHED, WITHHELD = "published", "withheld"
STATUS = pl.Enum([PUBLISHED, WITHHELD])
BY_HORIZON = tuple(f"score_{h}d" for h in HORIZONS)
OF_A_DAY = ("trade_date", "model_run", "panel_id", "catalogue_hash", "status")  # one value a day

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "date": pl.Date,
    "trade_date": pl.Date,
    "code": pl.String,
    "name": pl.String,
    **dict.fromkeys(BY_HORIZON, pl.Float32),
    "score": pl.Float32,
    "rank": pl.UInt16,
    "percentile": pl.Float32,
    "eligible": pl.Boolean,
    "liquid": pl.Boolean,
    "shortable": pl.Boolean,
    "sector33": pl.String,
    "segment": pl.String,
    "model_run": pl.String,
    "panel_id": pl.String,
    "catalogue_hash": pl.String,
    "status": STATUS,
}


def _column(description: str, *checks: pa.Check, dtype: pl.DataType | type[pl.DataType] = pl.String) -> pa.Column:
    return pa.Column(dtype, list(checks), nullable=False, description=description)


CONTRACT = Contract(
    table=NAME,
    schema=pa.DataFrameSchema(
        {
            "date": DATE,
            "trade_date": _column("The next open day: orders of the evening are filled at its open", dtype=pl.Date),
            "code": CODE,
            "name": _column("Japanese name, as of the evening"),
            **{
                f"score_{h}d": _column(f"Score of the horizon of {h} days, z-score of its day", dtype=pl.Float32)
                for h in HORIZONS
            },
            "score": _column("Weighted mean of these, standardised again within the day", dtype=pl.Float32),
            "rank": _column("By score, 1 the best; equal scores by code", pa.Check.ge(1), dtype=pl.UInt16),
            "percentile": _column("(rank - 1/2) / names, 0 the best", pa.Check.in_range(0, 1), dtype=pl.Float32),
            "eligible": _column("In the universe by the master that the evening knows", dtype=pl.Boolean),
            "liquid": _column(
                "Median turnover of the last 20 days, the day's included, at or above the median of the day's names",
                dtype=pl.Boolean,
            ),
            "shortable": _column("A loan issue (Mrgn 2) by the master that the evening knows", dtype=pl.Boolean),
            "sector33": _column("33-sector code as of the evening"),
            "segment": _column("Market segment as of the evening"),
            "model_run": _column("The champion that scored; one a day"),
            "panel_id": _column("The panel of the last days that it read; one a day"),
            "catalogue_hash": _column("Of the features, their code included; one a day"),
            "status": _column("published, or withheld: nothing downstream reads it", dtype=STATUS),
        },
        strict=True,
        unique=["date", "code"],
        ordered=True,
    ),
    constant_ok=frozenset(SCHEMA),
    empty_ok=True,  # a month before there was a champion
)


@dataclass(frozen=True)
class Provenance:
    """Of what an evening's scores are."""

    model_run: str
    panel_id: str
    catalogue_hash: str


def day_z(values: Floats) -> NDArray[np.float64]:
    """Standard scores along the last axis, over its finite values; NaN elsewhere, 0 throughout if they do not vary."""
    known = np.isfinite(values)
    wide = np.where(known, values, 0).astype(np.float64)
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    apart = np.where(known, wide - wide.sum(axis=-1, keepdims=True) / count, 0)
    deviation = np.sqrt((apart**2).sum(axis=-1, keepdims=True) / count)
    # a constant leaves round-off behind, which must not be blown up to a score
    varies = deviation > 1e-9 * np.maximum(np.abs(wide).max(axis=-1, keepdims=True), 1e-30)
    return np.where(known, np.where(varies, apart / np.where(varies, deviation, 1), 0), np.nan)


def combined(scores: Floats, horizons: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The z-scores of the heads of each day, and their weighted mean, standardised again.

    Args:
        scores: as the model gives them [H,D,N]; NaN where it gives none.

    Returns:
        [H,D,N] and [D,N]; NaN where a head has no score: a name is scored by all of them or not at all.
    """
    whole = np.isfinite(scores).all(axis=0)
    heads = day_z(np.where(whole, scores, np.nan))
    # heads that cancel leave round-off behind, which must not be blown up to a score
    mean = np.round(np.einsum("h,hdn->dn", horizon_weights(horizons), heads), 12)
    return heads.astype(np.float32), day_z(mean).astype(np.float32)


def places(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ranks [n] of scores [n] in the order of their codes: 1 the best, equal ones as they come."""
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(scores), np.int64)
    ranks[order] = np.arange(1, len(scores) + 1)
    return ranks


def rows_of(
    day: date,
    trade_date: date,
    codes: Sequence[str],
    heads: NDArray[np.float32],
    score: NDArray[np.float32],
    facts: pl.DataFrame,
    provenance: Provenance,
    status: str,
) -> pl.DataFrame:
    """The rows of an evening, sorted by code; a name without a score has none.

    Args:
        codes: of the N names, ascending.
        heads: z-scores [H,N].
        score: [N].
        facts: code, name, eligible, liquid, shortable, sector33, segment; a row for every name with a score.
    """
    kept = np.flatnonzero(np.isfinite(score)).tolist()
    ranks = places(score[kept])
    scored = pl.DataFrame(
        {
            "code": [codes[n] for n in kept],
            **{name: heads[h, kept] for h, name in enumerate(BY_HORIZON)},
            "score": score[kept],
            "rank": ranks.astype(np.uint16),
            "percentile": ((ranks - 0.5) / max(len(kept), 1)).astype(np.float32),
        },
        schema_overrides={"code": pl.String},
    )
    of_the_day = {
        "date": pl.lit(day),
        "trade_date": pl.lit(trade_date),
        "model_run": pl.lit(provenance.model_run),
        "panel_id": pl.lit(provenance.panel_id),
        "catalogue_hash": pl.lit(provenance.catalogue_hash),
        "status": pl.lit(status, STATUS),
    }
    return scored.join(facts, on="code", how="left", maintain_order="left").with_columns(**of_the_day).select(*SCHEMA)


def broken_days(frame: pl.DataFrame) -> Iterator[Failure]:
    """What a column by itself cannot show: days of two provenances, ranks that are not 1 … n in the scores' order."""
    days = frame.group_by("date").agg(pl.col(OF_A_DAY).n_unique()).sort("date")
    for column in OF_A_DAY:
        mixed = days.filter(pl.col(column) > 1)["date"]
        if len(mixed):
            yield column, "one value a day", len(mixed), ", ".join(map(str, mixed.head(5)))
    placed = pl.col("score").rank("ordinal", descending=True).over("date", order_by="code")
    wrong = frame.sort("date", "code").filter(placed != pl.col("rank"))
    if wrong.height:
        sample = ", ".join(f"{row['date']} {row['code']}" for row in wrong.head(5).iter_rows(named=True))
        yield "rank", "1 … n by score, equal scores by code", wrong.height, sample


def with_days(frame: pl.DataFrame, evenings: Sequence[pl.DataFrame], days: Sequence[date]) -> pl.DataFrame:
    """A month with the rows of some days replaced.

    Args:
        frame: the month as it stands.
        evenings: new rows; a day may have none.
        days: the days that they are of.
    """
    kept = frame.filter(~pl.col("date").is_in(list(days)))
    return pl.concat([kept, *evenings]).sort("date", "code")


def empty() -> pl.DataFrame:
    """A month without rows."""
    return pl.DataFrame(schema=SCHEMA)
