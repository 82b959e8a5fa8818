"""What a name's daily margin balances say, each from what was known when it came: for `daily_margin`."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.events import KNOWN_AT, numbered
from atft_assets.features.histories import CHAIN, PLACE, STATE, back, histories, placed, states, z_of
from atft_assets.features.raw_text import number_of, said
from atft_assets.features.rolling import ratio
from atft_assets.features.share_basis import on_basis

REACH = timedelta(days=75)
LONGEST_STAY = 40  # trading days
COLUMNS = (
    "date",
    "code",
    "AppDate",
    "PubReason",
    "ShrtOut",
    "LongOut",
    "ShrtStdOut",
    "LongStdOut",
    "ShrtOutRatio",
    "LongOutRatio",
    "TSEMrgnRegCls",
    AVAILABLE_AT,
)
REASONS = {
    "restricted": "Restricted",
    "daily_publication": "DailyPublication",
    "monitoring": "Monitoring",
    "restricted_by_jsf": "RestrictedByJSF",
    "precaution_by_jsf": "PrecautionByJSF",
    "unclear_or_on_alert": "UnclearOrSecOnAlert",
}
RESTRICTED = ("003", "004", "005", "006")  # TSEMrgnRegCls, which is no scale: restriction, second to fourth stage
LIFTED = "101"


def balances(alerts: pl.DataFrame, traded: pl.DataFrame) -> pl.DataFrame:
    """What each state of a name's balances says, with windows over the state's history.

    Args:
        alerts: COLUMNS of margin_alert, `AppDate` as Date.
        traded: as `share_basis.with_basis` makes it.

    Returns:
        A row a state: AppDate (the newest balance), code, available_at, `_known_at`; `_l`, `_s`, `_dl`, `_ds`: long and
        short positions and their changes on the basis of the first day; columns dmi_*.
    """
    numbers = numbered(alerts["AppDate"]).rename({"date": "AppDate"})
    chains = histories(alerts.join(numbers, on="AppDate"), by="AppDate", keys=["code"], reach=REACH)
    long, short = pl.col("_l"), pl.col("_s")
    run = (pl.col(PLACE) != pl.col(PLACE).shift(1) + 1).fill_null(True).cum_sum()
    frame = (
        on_basis(placed(chains, "_day"), traded, "AppDate")
        .sort(PLACE)
        .with_columns(
            (pl.col("LongOut") / pl.col("_basis")).alias("_l"),
            (pl.col("ShrtOut") / pl.col("_basis")).alias("_s"),
            run.alias("_run"),
        )
        .with_columns(
            ratio(long - short, long + short).alias("dmi_imbalance"),
            (long - back("_l", 1)).alias("_dl"),
            (short - back("_s", 1)).alias("_ds"),
            (pl.col(PLACE) - pl.col(PLACE).first().over("_run") + 1)
            .clip(upper_bound=LONGEST_STAY)
            .alias("dmi_days_on_list"),
        )
        .with_columns(
            *(_grown(side).alias(f"dmi_d_{name}_1d") for name, side in (("long", "_l"), ("short", "_s"))),
            (pl.col("dmi_imbalance") - back("dmi_imbalance", 1)).alias("dmi_d_imbalance_1d"),
            *(
                z_of(column, 26, 6).alias(f"dmi_{name}_z26")
                for name, column in (("long", "_l"), ("short", "_s"), ("imbalance", "dmi_imbalance"))
            ),
            ratio(pl.col("LongStdOut"), pl.col("LongOut")).alias("dmi_std_share_long"),
            ratio(pl.col("ShrtStdOut"), pl.col("ShrtOut")).alias("dmi_std_share_short"),
            (number_of("LongOutRatio") / 100).alias("dmi_long_to_shares"),
            (number_of("ShrtOutRatio") / 100).alias("dmi_short_to_shares"),
            *(said("PubReason", flag).alias(f"dmi_reason_{name}") for name, flag in REASONS.items()),
            pl.col("TSEMrgnRegCls").is_in(RESTRICTED).alias("dmi_reg_restricted"),
            (pl.col("TSEMrgnRegCls") == LIFTED).alias("dmi_reg_lifted"),
        )
        .with_columns(
            pl.sum_horizontal(
                *(pl.col(f"dmi_reason_{name}").cast(pl.Int32) for name in REASONS), ignore_nulls=False
            ).alias("dmi_reason_count")
        )
    )
    names = ("AppDate", "code", AVAILABLE_AT, KNOWN_AT, CHAIN, STATE, "_l", "_s", "_dl", "_ds")
    return states(frame.select(*names, pl.col("^dmi_.*$")))


def _grown(side: str) -> pl.Expr:
    """ln((x + 1)/(x[-1] + 1)) in shares of the newest balance's day."""
    return ((pl.col(side) * pl.col("_basis") + 1) / (back(side, 1) * pl.col("_basis") + 1)).log()
