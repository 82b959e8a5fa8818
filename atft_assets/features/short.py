"""Short selling: twenty-four columns of a sector's short sales and of the positions that holders have reported of a name.

Sectors: turnover of each day, out at 16:30 of it. The market is the sum of all 34 rows, 9999 among them. Positions: of each
holder the newest report that was disclosed by the evening, carried until the next one. A report below 0.5 % is an exit: from
then on the holder counts as out, for below the threshold nobody knows. Individuals are all called 個人, so their reports are
told apart by their size: each adds to a group of its own day and leaves after a year at the latest, as any holder does who has been
silent that long. Positions are fractions of the shares outstanding, which no split changes.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT, decision
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import DAILY_QUOTES, SHORT, SHORT_RATIO, SHORT_SALE_REPORT, STOCK, UNIVERSE, of
from atft_assets.features.rolling import TINY, ratio
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15
THRESHOLD = 0.005
SILENT = timedelta(days=365)  # after which a holder counts as out
SECTOR_COLUMNS = ("date", "S33", "SellExShortVa", "ShrtWithResVa", "ShrtNoResVa")
REPORT_COLUMNS = ("date", "code", "CalcDate", "SSName", "ShrtPosToSO", "ShrtPosShares", AVAILABLE_AT)
QUOTES = ("date", "code", "Vo", "AdjFactor")

SALES = (*of(SHORT_RATIO, "date", "S33", "SellExShortVa", "ShrtWithResVa", "ShrtNoResVa"), *of(UNIVERSE, "s33"))
REPORTS = of(SHORT_SALE_REPORT, "date", "code", "CalcDate", "SSName", "ShrtPosToSO", AVAILABLE_AT)
_sector = family(
    "short", kind="sector", source="short_ratio, listed_info", reads=SALES, valid_from=date(2008, 11, 5), coverage=0.9
)
_market = family("short", kind="market", source="short_ratio", reads=of(SHORT_RATIO, *SECTOR_COLUMNS[:1], *SECTOR_COLUMNS[2:]),
                 valid_from=date(2008, 11, 5), coverage=0.9)  # fmt: skip
_position = family("short", kind="event", source="short_sale_report", reads=REPORTS, valid_from=date(2013, 11, 7), coverage=0.0,
                   availability="evening of the disclosure", may_be_constant=True)  # fmt: skip
_SHARE = "short over all sales"

FEATURES: tuple[Feature, ...] = (
    _sector("ss_sec_short_share", f"{_SHARE}, sector of the day", low=0.0, high=1.0),
    _sector("ss_sec_restrict_share", "short sales under the price restriction over all short sales", low=0.0, high=1.0),
    _sector("ss_sec_short_share_d1", "ss_sec_short_share - ss_sec_short_share[-1]", 2, 1, low=-1.0, high=1.0),
    _sector("ss_sec_short_mom5", "ss_sec_short_share - mean(ss_sec_short_share, 5)", 5, 4, low=-1.0, high=1.0),
    _sector("ss_sec_short_accel", "second difference of ss_sec_short_share", 3, 2, low=-4.0, high=4.0),
    _sector("ss_sec_short_share_z60", "(ss_sec_short_share - mean)/std over 60 days", 60, 59),
    _sector("ss_sec_short_turnover_z252", "(ln short turnover - mean)/std over 252 days", 252, 251),
    _sector("ss_rel_short_share", "ss_sec_short_share - ss_mkt_short_share", low=-1.0, high=1.0),
    _sector("ss_rel_restrict_share", "ss_sec_restrict_share - ss_mkt_restrict_share", low=-1.0, high=1.0),
    _market("ss_mkt_short_share", f"{_SHARE}, all sectors", low=0.0, high=1.0),
    _market("ss_mkt_restrict_share", "short sales under the restriction over all, all sectors", low=0.0, high=1.0),
    _market("ss_mkt_short_share_z60", "(ss_mkt_short_share - mean)/std over 60 days", 60, 59),
    _sector("ss_cond_pressure", "1 where the name fell today and its sector's z60 is above 1", 60, 59, kind="flag", low=0, high=1,
            source="short_ratio, listed_info, daily_quotes", reads=(*SALES, *of(STOCK, "returns_1d"))),
    _sector("ss_squeeze_setup", "1 where the name rose over 5 days and its sector's z60 is above 1", 60, 59, kind="flag", low=0, high=1,
            source="short_ratio, listed_info, daily_quotes", reads=(*SALES, *of(STOCK, "returns_5d"))),
    _position("ss_pos_ratio", "sum over holders of the newest reported position over the shares outstanding; 0 where all have left", low=0.0),
    _position("ss_pos_chg_5d", "ss_pos_ratio - ss_pos_ratio[-5 trading days]", 5, 5),
    _position("ss_pos_chg_20d", "ss_pos_ratio - ss_pos_ratio[-20 trading days]", 20, 20),
    _position("ss_pos_holders", "holders of a reported position", low=0.0),
    _position("ss_pos_max_share", "the largest reported position over their sum", low=0.0, high=1.0),
    _position("ss_pos_days_to_cover", "reported shares over mean(Vo, 20), both of their day", 20, 20, low=0.0,
              source="short_sale_report, daily_quotes", reads=(*REPORTS, *of(SHORT_SALE_REPORT, "ShrtPosShares"), *of(DAILY_QUOTES, "Vo", "AdjFactor"))),
    _position("ss_pos_days_since", "calendar days since the newest disclosure of the name", low=0.0),
    _position("ss_pos_new_5d", "holders that came in over 5 trading days", 5, 5, low=0.0),
    _position("ss_pos_left_5d", "holders that left over 5 trading days", 5, 5, low=0.0),
)  # fmt: skip
VALIDITY = (
    _position("is_ss_pos_valid", "1 where a report of the name was disclosed within a year", kind="flag", low=0, high=1,
              model_input=False, family="validity"),
)  # fmt: skip


def sector_shorts(sales: pl.DataFrame) -> pl.DataFrame:
    """Sector and market columns by day and sector.

    Args:
        sales: SECTOR_COLUMNS of short_ratio, history included.

    Returns:
        date, s33 and the columns, Float64.
    """
    short = pl.col("ShrtWithResVa") + pl.col("ShrtNoResVa")
    sums = sales.group_by("date").agg(pl.col(SECTOR_COLUMNS[2:]).sum()).sort("date")
    market = sums.select(
        "date",
        ratio(short, short + pl.col("SellExShortVa")).alias("ss_mkt_short_share"),
        ratio(pl.col("ShrtWithResVa"), short).alias("ss_mkt_restrict_share"),
    ).with_columns(_z(pl.col("ss_mkt_short_share"), 60).alias("ss_mkt_short_share_z60"))
    share = pl.col("ss_sec_short_share")
    return (
        sales.sort("S33", "date")
        .with_columns(
            ratio(short, short + pl.col("SellExShortVa")).alias("ss_sec_short_share"),
            ratio(pl.col("ShrtWithResVa"), short).alias("ss_sec_restrict_share"),
            pl.when(short > 0).then(short.log()).alias("_ln"),
        )
        .with_columns(
            (share - share.shift(1)).over("S33").alias("ss_sec_short_share_d1"),
            (share - share.rolling_mean(5)).over("S33").alias("ss_sec_short_mom5"),
            (share - 2 * share.shift(1) + share.shift(2)).over("S33").alias("ss_sec_short_accel"),
            _z(share, 60).over("S33").alias("ss_sec_short_share_z60"),
            _z(pl.col("_ln"), 252).over("S33").alias("ss_sec_short_turnover_z252"),
        )
        .join(market, on="date", how="left", maintain_order="left")
        .with_columns(
            (share - pl.col("ss_mkt_short_share")).alias("ss_rel_short_share"),
            (pl.col("ss_sec_restrict_share") - pl.col("ss_mkt_restrict_share")).alias("ss_rel_restrict_share"),
        )
        .select("date", pl.col("S33").alias("s33"), pl.col("^ss_.*$"))
    )


def position_steps(reports: pl.DataFrame, days: pl.Series) -> pl.DataFrame:
    """What each report changes, on the first evening that knows it.

    Args:
        reports: REPORT_COLUMNS of short_sale_report, history included.
        days: the trading days of the block and its look-back, sorted.

    Returns:
        date (a trading day), code, and sums of changes: `_ratio`, `_shares`, `_holders`, `_came`, `_left`.
    """
    person = pl.col("SSName").is_in(["個人", "個人投資家"])
    holder = (
        pl.when(person)
        .then(pl.col("SSName") + pl.col("CalcDate") + pl.int_range(pl.len()).cast(pl.String))
        .otherwise("SSName")
    )
    position = pl.when(pl.col("ShrtPosToSO") >= THRESHOLD).then(pl.col("ShrtPosToSO")).otherwise(0.0)
    shares = pl.when(pl.col("ShrtPosToSO") >= THRESHOLD).then(pl.col("ShrtPosShares")).otherwise(0.0)
    by = ["code", "_holder"]
    stated = (
        reports.select(REPORT_COLUMNS)
        .sort(AVAILABLE_AT, "CalcDate", "ShrtPosToSO", maintain_order=True)
        .with_columns(holder.alias("_holder"), position.alias("_now"), shares.fill_null(0.0).alias("_held"))
        # of one disclosure the newest position of a holder counts
        .unique([*by, "date"], keep="last", maintain_order=True)
        .with_columns(pl.col("date").shift(-1).over(by).alias("_next"))
    )
    silent = stated.filter(
        (pl.col("_now") > 0) & ((pl.col("_next") - pl.col("date") > SILENT) | pl.col("_next").is_null())
    ).with_columns(
        (pl.col("date") + SILENT).alias("date"),
        pl.lit(0.0).alias("_now"),
        pl.lit(0.0).alias("_held"),
        (pl.col(AVAILABLE_AT) + SILENT).alias(AVAILABLE_AT),
    )
    before, held = pl.col("_now").shift(1).over(by).fill_null(0.0), pl.col("_held").shift(1).over(by).fill_null(0.0)
    changes = (
        pl.concat([stated, silent], how="diagonal")
        .sort(*by, AVAILABLE_AT, maintain_order=True)
        .with_columns(
            (pl.col("_now") - before).alias("_ratio"),
            (pl.col("_held") - held).alias("_shares"),
            ((pl.col("_now") > 0).cast(pl.Int32) - (before > 0).cast(pl.Int32)).alias("_holders"),
        )
    )
    evenings = pl.DataFrame({"_day": days}).with_columns(decision("_day").alias("_evening"))
    return (
        changes.sort(AVAILABLE_AT)
        .join_asof(evenings, left_on=AVAILABLE_AT, right_on="_evening", strategy="forward", check_sortedness=False)
        .filter(pl.col("_day").is_not_null())
        .group_by(pl.col("_day").alias("date"), "code")
        .agg(
            pl.col("_ratio", "_shares", "_holders").sum(),
            (pl.col("_holders") > 0).sum().cast(pl.Int32).alias("_came"),
            (pl.col("_holders") < 0).sum().cast(pl.Int32).alias("_left"),
            pl.col("date").max().alias("_disclosed"),
            pl.col("_now").max().alias("_largest"),
        )
        .sort("code", "date")
    )


def _z(x: pl.Expr, window: int) -> pl.Expr:
    spread = x.rolling_std(window)
    return pl.when(spread > TINY).then((x - x.rolling_mean(window)) / spread)
