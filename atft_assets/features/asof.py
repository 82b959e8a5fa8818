"""The one way to join a table that lags: what was known on the evening of each day.

A record enters a row of day t only if it could be had by 18:30 JST of t. That is a question to its `available_at`,
never to its date: a weekly figure dated Friday that comes out on Tuesday belongs into rows from Tuesday on.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from atft_assets.calendar import DECISION_TIME

AVAILABLE_AT = "available_at"


def decision(day: str = "date") -> pl.Expr:
    """The evening of a day at which a value must be known: 18:30 in Tokyo, Datetime[us, Asia/Tokyo]."""
    return pl.col(day).dt.combine(DECISION_TIME).dt.replace_time_zone("Asia/Tokyo")


def as_known(records: pl.DataFrame, days: pl.DataFrame, *, by: str = "date", keys: Sequence[str] = ()) -> pl.DataFrame:
    """The newest record of each day (and key) that was known on its evening.

    Newest is what `by` orders last among the records that are known; of several versions of it, corrections, the one
    that came last. A correction of an older record that comes after a newer record does not displace the newer one.

    Args:
        records: `by`, the keys, `available_at` (not null) and what is wanted.
        days: date and the keys, one row for each row wanted.
        by: the records' own order, such as the period that they speak of.
        keys: columns that records and days share, such as code.

    Returns:
        The rows of `days` in their order, and the records' columns, null where nothing was known; a column `date` of
        the records is called `record_date`.
    """
    keys = list(keys)
    renamed = {"date": "record_date"} if "date" in records.columns else {}
    order = renamed.get(by, by)
    newest = pl.col(order).to_physical().cum_max()
    known = (
        records.rename(renamed)
        .sort(AVAILABLE_AT, order, maintain_order=True)
        .filter(pl.col(order).to_physical() == (newest.over(keys) if keys else newest))
    )
    asked = days.with_row_index("_row").with_columns(decision().cast(known.schema[AVAILABLE_AT]).alias("_decision"))
    in_order = days["date"].is_sorted()  # as a rule: two sorts less
    found = (asked if in_order else asked.sort("_decision")).join_asof(
        known, left_on="_decision", right_on=AVAILABLE_AT, by=keys or None, check_sortedness=False
    )
    return (found if in_order else found.sort("_row")).drop("_row", "_decision", AVAILABLE_AT, strict=False)
