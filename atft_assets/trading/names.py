"""What an evening knows of the names: name, sector, segment, whether a loan issue, how liquid, its newest bar."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import month_key, months_between, next_trading_day, shift_month
from atft_assets.failures import Refusal
from atft_assets.features.asof import AVAILABLE_AT, as_known
from atft_assets.features.universe import eligible
from atft_assets.scoring.surroundings import SEGMENTS
from atft_assets.store import Store

LIQUID_DAYS = 20
LOAN_ISSUE = "2"  # Mrgn: may be bought and sold short by standardised margin trading
UNKNOWN = "unknown"


class MasterLacks(Refusal):
    """The evening knows no master."""


def master_of(store: Store, day: date) -> pl.DataFrame:
    """The newest snapshot of the master that was available on an evening, all issues.

    Raises:
        MissingTable: there is no master.
        MasterLacks: there is none of that time.
    """
    table = store.table("raw", "listed_info")
    # a snapshot is out on the evening before its date, and there is one a week
    keys = {*months_between(shift_month(month_key(day), -1), month_key(next_trading_day(day)))}
    listed = table.read(sorted(keys & set(table.keys())) or [month_key(day)])
    snapshots = listed.group_by("date").agg(pl.col(AVAILABLE_AT).max()).with_columns(pl.col("date").alias("snapshot"))
    known = as_known(snapshots, pl.DataFrame({"date": [day]}))["snapshot"][0]
    if known is None:
        raise MasterLacks(
            f"listed_info has no snapshot that was known on the evening of {day}; run: dagster asset materialize "
            f"--select listed_info --partition {month_key(day)}"
        )
    return listed.filter(pl.col("date") == known)


def recent_bars(store: Store, day: date) -> pl.DataFrame:
    """date, code, Va of daily_quotes of the last months, up to a day.

    Raises:
        MissingTable: the day's month was not published.
    """
    table = store.table("raw", "daily_quotes")
    wanted = months_between(shift_month(month_key(day), -2), month_key(day))
    published = table.keys()
    keys = [key for key in wanted if key in published] or wanted[-1:]
    return table.read(keys, columns=["date", "code", "Va"]).filter(pl.col("date") <= day)


def turnover(bars: pl.DataFrame) -> pl.DataFrame:
    """code, adv: median turnover of the newest 20 days of the bars, yen; a day without a bar or a trade counts 0."""
    days = bars["date"].unique().sort().tail(LIQUID_DAYS)
    held = bars.filter(pl.col("date").is_in(days.to_list()))
    grid = held["code"].unique().sort().to_frame().join(days.to_frame(), how="cross")
    whole = grid.join(held, on=["date", "code"], how="left").with_columns(pl.col("Va").fill_null(0.0).fill_nan(0.0))
    return whole.group_by("code").agg(pl.col("Va").median().alias("adv")).sort("code")


def facts_of(codes: Sequence[str], master: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """What the table says of the names beside their scores.

    Args:
        codes: the names that have a score.
        master: `master_of` the evening.
        bars: `recent_bars` of it.

    Returns:
        code, name, eligible, liquid, shortable, sector33, segment; a row for each code. A name that the master does not
        list any more, delisted on the next day, is not eligible; what it was called is its code.
    """
    listed = master.select(
        "code",
        pl.col("CoName").alias("name"),
        eligible(master.columns).alias("eligible"),
        (pl.col("Mrgn") == LOAN_ISSUE).alias("shortable"),
        pl.col("S33").alias("sector33"),
        pl.col("Mkt").replace_strict(dict(SEGMENTS), default=pl.col("Mkt")).alias("segment"),
    )
    names = pl.DataFrame({"code": list(codes)}, schema={"code": pl.String})
    found = names.join(listed, on="code", how="left").join(turnover(bars), on="code", how="left")
    adv = pl.col("adv").fill_null(0.0)
    return found.select(
        "code",
        pl.col("name").fill_null(pl.col("code")),
        pl.col("eligible").fill_null(False),
        (adv >= adv.median()).alias("liquid"),
        pl.col("shortable").fill_null(False),
        pl.col("sector33").fill_null(UNKNOWN),
        pl.col("segment").fill_null(UNKNOWN),
    )


def newest_bars(master: pl.DataFrame, bars: pl.DataFrame) -> NDArray[np.datetime64]:
    """Date of the newest bar of each name that the master lists as a share of the universe, datetime64[D] [n]."""
    listed = master.filter(eligible(master.columns)).select("code").sort("code")
    newest = bars.group_by("code").agg(pl.col("date").max())
    return listed.join(newest, on="code", how="left")["date"].to_numpy().astype("datetime64[D]")
