"""Short selling: what a sector and the market sell short of a day, and the short positions reported of a name.

Sectors: the turnover of each day is out at 16:30 of it. Sector 9999 is what has none (ETF, REIT), not the total: the
market is the sum of all rows. On the day of a system halt there are none, and the evening before still stands.
Positions are in `short_positions`.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.event_feature import event_family
from atft_assets.features.events import SINCE, carried, numbered
from atft_assets.features.feature import Feature
from atft_assets.features.histories import back, histories, mean_of, placed, states, z_of
from atft_assets.features.names import DAILY_QUOTES, SHORT, SHORT_RATIO, SHORT_SALE_REPORT, STOCK, UNIVERSE, of
from atft_assets.features.rolling import ratio
from atft_assets.features.share_basis import QUOTE_COLUMNS, with_basis
from atft_assets.features.short_positions import REPORT_COLUMNS, positions
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15  # a year of sales
REPORT_MONTHS = 27  # reports of a year, with twenty days before it, each up to a year late
REACH = timedelta(days=400)
STALE = 1  # trading days: the sales of the day, or of the evening before
OTHER = "9999"
AMOUNTS = ("SellExShortVa", "ShrtWithResVa", "ShrtNoResVa")
SALES_COLUMNS = ("date", "S33", *AMOUNTS, AVAILABLE_AT)
ROW_COLUMNS = ("date", "code", "s33")
STOCK_COLUMNS = ("date", "code", "returns_1d", "returns_5d")

SALES_FLAG, POSITIONS_FLAG = "is_ss_sales_valid", "is_ss_pos_valid"
SHORTS = of(SHORT_RATIO, "ShrtWithResVa", "ShrtNoResVa")
SALES = of(SHORT_RATIO, *AMOUNTS)
PLACE_OF = (*of(SHORT_RATIO, "S33"), *of(UNIVERSE, "s33"))
REPORTS = of(
    SHORT_SALE_REPORT, "CalcDate", "SSName", "DICName", "FundName", "ShrtPosToSO", "PrevRptDate", "PrevRptRatio"
)
_sector = event_family(
    "short",
    kind="sector",
    source="short_ratio, listed_info",
    reads=(*SALES, *PLACE_OF),
    valid_from=date(2008, 11, 5),
    coverage=0.9,
    among=SALES_FLAG,
)
_market = event_family(
    "short",
    kind="market",
    source="short_ratio",
    reads=SALES,
    valid_from=date(2008, 11, 5),
    coverage=0.9,
)
_setup = event_family(
    "short",
    kind="flag",
    source="short_ratio, listed_info, daily_quotes",
    valid_from=date(2008, 11, 5),
    low=0,
    high=1,
    among=SALES_FLAG,
)
_position = event_family(
    "short",
    kind="event",
    source="short_sale_report",
    reads=REPORTS,
    valid_from=date(2013, 11, 7),
    coverage=0.9,
    availability="evening of the disclosure",
    among=POSITIONS_FLAG,
)
_YEAR = 250

FEATURES: tuple[Feature, ...] = (
    _sector("ss_sec_short_share", "short sales over all sales of the sector", low=0.0, high=1.0),
    _sector(
        "ss_sec_restrict_share",
        "short sales under the price restriction over all short sales",
        low=0.0,
        high=1.0,
        reads=(*SHORTS, *PLACE_OF),
    ),
    _sector(
        "ss_sec_short_share_d1", "ss_sec_short_share - ss_sec_short_share[-1]", 2, 2, low=-1.0, high=1.0, coverage=0.5
    ),
    _sector(
        "ss_sec_restrict_share_d1",
        "ss_sec_restrict_share - ss_sec_restrict_share[-1]",
        2,
        2,
        low=-1.0,
        high=1.0,
        coverage=0.5,
        reads=(*SHORTS, *PLACE_OF),
    ),
    _sector(
        "ss_sec_short_mom5", "ss_sec_short_share - mean(ss_sec_short_share, 5), 4 at least", 5, 5, low=-1.0, high=1.0
    ),
    _sector("ss_sec_short_accel", "second difference of ss_sec_short_share", 3, 3, low=-4.0, high=4.0, coverage=0.5),
    _sector("ss_sec_short_share_z60", "(ss_sec_short_share - mean)/std over 60 days, 50 at least", 60, 60),
    _sector(
        "ss_sec_short_turnover_z252",
        "(ln short sales - mean)/std over 252 days, 200 at least",
        252,
        252,
        reads=(*SHORTS, *PLACE_OF),
    ),
    _sector(
        "ss_rel_short_share",
        "ss_sec_short_share - ss_mkt_short_share; not a model input: ranks of a day equal those of ss_sec_short_share",
        low=-1.0,
        high=1.0,
        model_input=False,
        reads=("ss_sec_short_share", "ss_mkt_short_share"),
    ),
    _market("ss_mkt_short_share", "short sales over all sales, all sectors", low=0.0, high=1.0),
    _market(
        "ss_mkt_restrict_share",
        "short sales under the restriction over all short sales, all sectors",
        low=0.0,
        high=1.0,
        reads=SHORTS,
    ),
    _market(
        "ss_mkt_short_mom5", "ss_mkt_short_share - mean(ss_mkt_short_share, 5), 4 at least", 5, 5, low=-1.0, high=1.0
    ),
    _market("ss_mkt_short_share_z60", "(ss_mkt_short_share - mean)/std over 60 days, 50 at least", 60, 60),
    _setup(
        "ss_cond_pressure",
        "1 where the name fell today and its sector's ss_sec_short_share_z60 is above 1",
        60,
        60,
        reads=("ss_sec_short_share_z60", *of(STOCK, "returns_1d")),
    ),
    _setup(
        "ss_squeeze_setup",
        "1 where the name rose over 5 days and its sector's ss_sec_short_share_z60 is above 1",
        60,
        60,
        reads=("ss_sec_short_share_z60", *of(STOCK, "returns_5d")),
    ),
    _position(
        "ss_pos_ratio",
        "sum over holders of their newest reported position over the shares outstanding; 0 where nobody holds 0.5 %",
        1,
        _YEAR,
        low=0.0,
    ),
    _position("ss_pos_chg_5d", "ss_pos_ratio - ss_pos_ratio[-5 trading days]", 5, _YEAR, may_be_constant=True),
    _position("ss_pos_chg_20d", "ss_pos_ratio - ss_pos_ratio[-20 trading days]", 20, _YEAR, may_be_constant=True),
    _position("ss_pos_holders", "holders of a reported position", 1, _YEAR, low=0.0, may_be_constant=True),
    _position(
        "ss_pos_concentration",
        "Herfindahl index of the reported positions",
        1,
        _YEAR,
        low=0.0,
        high=1.0,
        coverage=0.0,
        may_be_constant=True,
    ),
    _position(
        "ss_pos_days_to_cover",
        "reported shares over mean(Vo, 20), on one basis of shares",
        20,
        _YEAR,
        low=0.0,
        coverage=0.8,
        source="short_sale_report, daily_quotes",
        reads=(*REPORTS, *of(SHORT_SALE_REPORT, "ShrtPosShares"), *of(DAILY_QUOTES, "Vo", "AdjFactor")),
    ),
    _position("ss_pos_new_5d", "holders that came over 5 trading days", 5, _YEAR, low=0.0, may_be_constant=True),
    _position("ss_pos_left_5d", "holders that left over 5 trading days", 5, _YEAR, low=0.0, may_be_constant=True),
    _position(
        "ss_pos_squeeze_risk",
        "mean of the day's percentile ranks of ss_pos_ratio, ss_pos_days_to_cover and "
        "ss_pos_chg_5d, among the names with a position",
        20,
        _YEAR,
        low=0.0,
        high=1.0,
        coverage=0.0,
        may_be_constant=True,
        source="short_sale_report, daily_quotes",
        reads=("ss_pos_ratio", "ss_pos_days_to_cover", "ss_pos_chg_5d"),
    ),
    _position(
        "ss_pos_days_since",
        "trading days since the newest disclosure of the name, a year's at most",
        1,
        _YEAR,
        low=0.0,
        coverage=0.0,
        may_be_constant=True,
        reads=of(SHORT_SALE_REPORT, "date", AVAILABLE_AT),
    ),
)
VALIDITY = (
    _sector(
        SALES_FLAG,
        "1 where the sector's sales of the day, or of the evening before, are known",
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
        among="",
        coverage=0.8,
        reads=(*PLACE_OF, *of(SHORT_RATIO, AVAILABLE_AT)),
    ),
    _position(
        POSITIONS_FLAG,
        "1 where the reports of a whole year are known",
        1,
        _YEAR + 15,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
        among="",
        reads=of(SHORT_SALE_REPORT, "date"),
    ),
)


def short_features(
    sales: pl.DataFrame,
    reports: pl.DataFrame,
    quotes: pl.DataFrame,
    stock: pl.DataFrame,
    rows: pl.DataFrame,
    partition: str = "-",
) -> pl.DataFrame:
    """The columns of short selling.

    Args:
        sales: SALES_COLUMNS of short_ratio, history included; JPY.
        reports: REPORT_COLUMNS of short_sale_report, history included; `date` is the disclosure's.
        quotes: QUOTE_COLUMNS of daily_quotes, history included; volumes unadjusted.
        stock: STOCK_COLUMNS of stock_features, of the rows.
        rows: ROW_COLUMNS of the universe, for which they are wanted.

    Returns:
        date, code and the features; those of sectors null where the sector is unknown or its sales are not known, those
        of positions where there is less than a year of reports.

    Raises:
        ContractViolation: an input lacks a column, or a bar came after the decision of its day.
    """
    for frame, columns, table in (
        (sales, SALES_COLUMNS, SHORT_RATIO),
        (reports, REPORT_COLUMNS, SHORT_SALE_REPORT),
        (stock, STOCK_COLUMNS, STOCK),
        (rows, ROW_COLUMNS, UNIVERSE),
    ):
        require_columns(frame, columns, table=table, partition=partition)
    days = rows.select(pl.col("date").unique().sort())
    cells = rows.select("date", "s33").unique().sort("date", "s33").filter(pl.col("s33") != OTHER)
    high = pl.col("ss_sec_short_share_z60") > 1
    frame = (
        rows.select(ROW_COLUMNS)
        .join(_of_sectors(sales, cells), on=["date", "s33"], how="left", maintain_order="left")
        .join(_of_the_market(sales, days), on="date", how="left", maintain_order="left")
        .join(stock.select(STOCK_COLUMNS), on=["date", "code"], how="left", maintain_order="left")
        .with_columns(
            (pl.col("ss_sec_short_share") - pl.col("ss_mkt_short_share")).alias("ss_rel_short_share"),
            _both(pl.col("returns_1d") < 0, high).alias("ss_cond_pressure"),
            _both(pl.col("returns_5d") > 0, high).alias("ss_squeeze_setup"),
            pl.col("ss_sec_short_share").is_not_null().alias(SALES_FLAG),
        )
        .hstack(positions(reports, with_basis(quotes, partition=partition), rows).drop("date", "code"))
    )
    stored = (pl.col(f.name).cast(pl.UInt8 if f.kind == "flag" else pl.Float32) for f in (*FEATURES, *VALIDITY))
    return frame.select("date", "code", *stored)


def _of_sectors(sales: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Columns by day and sector: date, s33, ss_sec_*."""
    records = sales.select(SALES_COLUMNS).rename({"S33": "s33"})
    chains = histories(records, by="date", keys=["s33"], reach=REACH).join(numbered(records["date"]), on="date")
    shared = _shares(placed(chains, "_day"), "ss_sec")
    share = pl.col("ss_sec_short_share")
    made = shared.with_columns(
        (share - back(share, 1)).alias("ss_sec_short_share_d1"),
        (pl.col("ss_sec_restrict_share") - back("ss_sec_restrict_share", 1)).alias("ss_sec_restrict_share_d1"),
        (share - mean_of("ss_sec_short_share", 5, 4)).alias("ss_sec_short_mom5"),
        (share - 2 * back(share, 1) + back(share, 2)).alias("ss_sec_short_accel"),
        z_of("ss_sec_short_share", 60, 50).alias("ss_sec_short_share_z60"),
        z_of("_ln", 252, 200).alias("ss_sec_short_turnover_z252"),
    )
    return _fresh(carried(states(made), cells, by="date", keys=["s33"])).select("date", "s33", pl.col("^ss_sec_.*$"))


def _of_the_market(sales: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """Columns by day: date, ss_mkt_*; the sum of the sectors that an evening knew, 9999 among them."""
    sums = (
        sales.select(SALES_COLUMNS)
        .sort("date", AVAILABLE_AT, "S33")
        .with_columns(pl.col(AMOUNTS).cum_sum().over("date"))
        .unique(["date", AVAILABLE_AT], keep="last", maintain_order=True)
        .with_columns(pl.lit("all").alias("s33"))
    )
    chains = histories(sums.drop("S33"), by="date", keys=["s33"], reach=REACH).join(numbered(sums["date"]), on="date")
    share = pl.col("ss_mkt_short_share")
    made = _shares(placed(chains, "_day"), "ss_mkt").with_columns(
        (share - mean_of("ss_mkt_short_share", 5, 4)).alias("ss_mkt_short_mom5"),
        z_of("ss_mkt_short_share", 60, 50).alias("ss_mkt_short_share_z60"),
    )
    return _fresh(carried(states(made), days, by="date", keys=[])).select("date", pl.col("^ss_mkt_.*$"))


def _shares(frame: pl.DataFrame, who: str) -> pl.DataFrame:
    """With the share of short sales in all, of those under the restriction in them, and their logarithm."""
    short = pl.col("ShrtWithResVa") + pl.col("ShrtNoResVa")
    return frame.with_columns(
        ratio(short, short + pl.col("SellExShortVa")).alias(f"{who}_short_share"),
        ratio(pl.col("ShrtWithResVa"), short).alias(f"{who}_restrict_share"),
        pl.when(short > 0).then(short.log()).alias("_ln"),
    )


def _fresh(known: pl.DataFrame) -> pl.DataFrame:
    return known.with_columns(pl.when(pl.col(SINCE) <= STALE).then(pl.col("^ss_.*$")))


def _both(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """Whether both hold; null where either is unknown."""
    return pl.when(one.is_not_null() & other.is_not_null()).then(one & other)


def build(inputs: Reader) -> pl.DataFrame:
    """The columns of short selling of a block."""
    return short_features(
        inputs.read(SHORT_RATIO, SALES_COLUMNS),
        inputs.read(SHORT_SALE_REPORT, REPORT_COLUMNS),
        inputs.read(DAILY_QUOTES, (*QUOTE_COLUMNS, AVAILABLE_AT)),
        inputs.read(STOCK, STOCK_COLUMNS),
        inputs.read(UNIVERSE, ROW_COLUMNS),
        inputs.span,
    )


TABLE = FeatureTable(
    name=SHORT,
    description="Short sales of sectors and the market, reported short positions of names. Needs the plan Standard.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={
        SHORT_RATIO: LOOKBACK_MONTHS,
        SHORT_SALE_REPORT: REPORT_MONTHS,
        DAILY_QUOTES: LOOKBACK_MONTHS,
        STOCK: 0,
        UNIVERSE: 0,
    },
    plan=Plan.STANDARD,
    needs="short selling",
)
