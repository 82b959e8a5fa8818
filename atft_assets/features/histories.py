"""Windows over records as they were known: each state of knowledge is a chain of records, and a window runs along it.

Records come late, out of order, and again with other figures. What a window of the last 52 weeks held on an evening
are the newest versions that this evening knew, and no later one. Where records come in order and once, which is nearly
always, all states of a name lie on one chain: each record with those before it. Around a correction or a late record
every state gets a chain of its own, a copy of what was known then. The expressions are the same for both.

Windows and steps count places (weeks, trading days), not rows: a record that is missing leaves a hole, so that a value
does not depend on how much history was read, nor spans a gap unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.events import KNOWN_AT
from atft_assets.features.rolling import TINY

CHAIN, STATE, PLACE = "_chain", "_state", "_place"
STEP = 1_000_000  # places between chains: more than any window reaches


def histories(records: pl.DataFrame, *, by: str, keys: Sequence[str], reach: timedelta) -> pl.DataFrame:
    """The chains of all states of knowledge.

    Args:
        records: the keys, `by` (Date), `available_at` (not null), and values. Several rows of one key and `by` are
            versions.
        by: the day that a record speaks of; it lies before its `available_at`.
        reach: how long a record may count: the longest window, and the time from a day to the publication of its
            record on top.

    Returns:
        The rows of the chains sorted by chain and `by`: the records' columns; `_chain` Int64; `_state` Boolean, whether
        the row is the newest of a state (the others are but the history of one), from `available_at` on; `_known_at`,
        when its `by` was first known.
    """
    keys = list(keys)
    ordered = records.sort(*keys, by, AVAILABLE_AT, maintain_order=True)
    same = pl.all_horizontal(pl.col(key) == pl.col(key).shift(1) for key in keys)
    again = (same & (pl.col(by) == pl.col(by).shift(1))).fill_null(False)
    marked = ordered.with_columns(
        (~same).fill_null(True).cum_sum().cast(pl.Int64).alias(CHAIN), again.alias("_again")
    ).with_columns(_late())
    plain = marked.filter(~pl.col("_again") & ~pl.col("_late")).with_columns(
        pl.lit(True).alias(STATE), pl.col(AVAILABLE_AT).alias(KNOWN_AT)
    )
    odd = marked.filter(pl.col("_again") | pl.col("_late"))
    if odd.is_empty():
        return plain.drop("_again", "_late")
    instants = marked.join(odd.select(CHAIN).unique(), on=CHAIN, how="semi").select(CHAIN, AVAILABLE_AT).unique()
    touched = (
        instants.join(odd.select(CHAIN, pl.col(AVAILABLE_AT).alias("_odd")).unique(), on=CHAIN)
        .filter(pl.col(AVAILABLE_AT).is_between(pl.col("_odd"), pl.col("_odd") + reach))
        .select(CHAIN, pl.col(AVAILABLE_AT).alias("_at"))
        .unique()
        .sort(CHAIN, "_at")
        .with_row_index("_copy")
    )
    ordinary = plain.join(
        touched.select(CHAIN, pl.col("_at").alias(AVAILABLE_AT), pl.lit(False).alias("_untouched")),
        on=[CHAIN, AVAILABLE_AT],
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("_untouched").fill_null(True).alias(STATE))
    top = int(marked[CHAIN].max() or 0)  # type: ignore[arg-type]
    copies = (
        touched.join(marked, on=CHAIN)
        .filter((pl.col(AVAILABLE_AT) <= pl.col("_at")) & (pl.col(by) >= (pl.col("_at") - reach).dt.date()))
        .sort("_copy", by, AVAILABLE_AT, maintain_order=True)
        .with_columns(pl.col(AVAILABLE_AT).min().over("_copy", by).alias(KNOWN_AT))
        .unique(["_copy", by], keep="last", maintain_order=True)
        .with_columns(
            (pl.col(by) == pl.col(by).max().over("_copy")).alias(STATE),
            pl.col("_at").alias(AVAILABLE_AT),
            (pl.col("_copy").cast(pl.Int64) + top + 1).alias(CHAIN),
        )
    )
    columns = [*records.columns, CHAIN, STATE, KNOWN_AT]
    return pl.concat([ordinary.select(columns), copies.select(columns)]).sort(CHAIN, by, maintain_order=True)


def _late() -> pl.Expr:
    """Whether a record came after one that speaks of a later day."""
    earliest_after = pl.col(AVAILABLE_AT).reverse().cum_min().reverse().over(CHAIN).shift(-1)
    return (
        ((pl.col(CHAIN) == pl.col(CHAIN).shift(-1)) & (pl.col(AVAILABLE_AT) > earliest_after))
        .fill_null(False)
        .alias("_late")
    )


def placed(chains: pl.DataFrame, number: str) -> pl.DataFrame:
    """The chains with `_place`, by which windows and steps count.

    Args:
        number: column of whole numbers: of weeks, or of trading days; it grows along each chain.
    """
    return chains.with_columns((pl.col(CHAIN) * STEP + pl.col(number).cast(pl.Int64)).alias(PLACE)).sort(PLACE)


def back(column: str | pl.Expr, steps: int) -> pl.Expr:
    """The value `steps` places earlier on the same chain; null where there is no record."""
    x = pl.col(column) if isinstance(column, str) else column
    place = pl.col(PLACE)
    return pl.coalesce(pl.when(place.shift(k) == place - steps).then(x.shift(k)) for k in range(1, steps + 1))


def mean_of(column: str, places: int, least: int) -> pl.Expr:
    """Mean over the last places, this one included, of which `least` must be there."""
    return pl.col(column).rolling_mean_by(PLACE, f"{places}i", min_samples=least)


def z_of(column: str, places: int, least: int) -> pl.Expr:
    """(x - mean)/std over the last places, this one included; null where too few are there or none moves."""
    x = pl.col(column)
    mean, std = mean_of(column, places, least), x.rolling_std_by(PLACE, f"{places}i", min_samples=least)
    return pl.when(std > TINY * (1 + mean.abs())).then((x - mean) / std)


def states(chains: pl.DataFrame) -> pl.DataFrame:
    """The newest record of each state, once the windows are computed."""
    return chains.filter(STATE).drop(CHAIN, STATE, PLACE, strict=False)
