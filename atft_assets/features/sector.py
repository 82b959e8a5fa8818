"""Sector features: what a stock's sector of the day did, and the stock against it.

Sector series live on a sector-date table and roll there (over panel rows, a window of 20 "days" would be 20
stocks). The sector of a row is that of its date, so a name that moves between sectors moves on the day the master
says so.
"""

from __future__ import annotations

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import DAILY_QUOTES, SECTOR, STOCK, UNIVERSE, Columns, adjusted, of
from atft_assets.features.rolling import (
    ANNUAL,
    ENGINE,
    TINY,
    beta,
    by_stock,
    depth,
    ema,
    finish,
    mean,
    own,
    ratio,
    with_moments,
)
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.features.target_encoding import (
    ENCODING_HORIZON,
    ENCODING_WINDOW,
    UNKNOWN_SECTOR,
    fold,
    target_encoding,
)

LOOKBACK_MONTHS = 15  # as the market's: 252 days of z-scores over 20 days of volatility
Z_WINDOW = 252
MIN_MEMBERS = 3

# What is standardised within the sector, with its own look-back
WITHIN = {
    "returns_5d": 5,
    "returns_20d": 20,
    "ma_gap_5_20": 60,
    "volatility_20d": 20,
    "volume_ratio_20": 19,
    "rsi_14": 71,
    "ret_intraday": 1,
}
STOCK_COLUMNS = ("date", "code", "is_traded", "returns_1d", *WITHIN)
UNIVERSE_COLUMNS = ("date", "code", "s33", "s17")

# the members of a day are the traded names of a sector with a return; windows run over traded rows
MEMBERS = (*of(STOCK, "is_traded"), *of(UNIVERSE, "s33"))
R1 = (*MEMBERS, *of(STOCK, "returns_1d"))

_feature = family("sector", kind="cross_section", source="daily_quotes, listed_info", reads=R1)
_sector = family("sector", kind="sector", source="daily_quotes, listed_info", reads=R1)


def _column(name: str) -> Columns:
    """What the members' values of another column of theirs are computed from."""
    return (*MEMBERS, *of(STOCK, name))


SERIES: tuple[Feature, ...] = (
    *(
        _sector(
            f"sec_ret_{h}d_eq",
            f"median over the sector33's traded members of returns_{h}d"
            + ("; not a model input: close to sec_mom_20" if h == 20 else ""),
            h,
            h,
            low=-1.0,
            core=h == 5,
            model_input=h != 20,
            reads=(*R1, *of(STOCK, f"returns_{h}d")),
        )
        for h in (1, 5, 20)
    ),
    _sector("sec_mom_20", "sum(sec_ret_1d_eq, 20)", 20, 20, core=True),
    _sector("sec_mom_60", "sum(sec_ret_1d_eq, 60)", 60, 60),
    *(
        _sector(
            f"sec_price_to_ema_{w}",
            f"S/EMA(S, {w}) - 1, S the cumulated sec_ret_1d_eq (sec_ema_{w} as a ratio)",
            m,
            m + 1,
        )
        for w, m in ((5, 15), (20, 60))
    ),
    _sector("sec_gap_5_20", "EMA(S, 5)/EMA(S, 20) - 1", 60, 61),
    _sector("sec_vol_20", "std(sec_ret_1d_eq, 20) * sqrt(252)", 20, 20, low=0.0),
    _sector("sec_vol_20_z", "(sec_vol_20 - mean)/std over 252 days", Z_WINDOW, Z_WINDOW + 19),
    _sector("sec_member_cnt", "traded members with a return on t", 1, 1, low=0, may_be_constant=True),
    _sector(
        "sec_small_flag",
        "1 where the sector has fewer than 5 members",
        1,
        1,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
    ),
    _sector(
        "sec_dispersion_20", "mean over 20 days of the members' standard deviation (ddof 0) of r1", 20, 20, low=0.0
    ),
    _sector(
        "sec_breadth_20",
        "share of the members with returns_20d > 0",
        20,
        20,
        low=0.0,
        high=1.0,
        reads=(*R1, *of(STOCK, "returns_20d")),
    ),
)
AGAINST: tuple[Feature, ...] = (
    *(
        _feature(
            f"sec_ret_{h}d_eq_loo",
            f"mean of returns_{h}d over the other members",
            h,
            h,
            low=-1.0,
            core=h == 1,
            sequence=h == 1,
            reads=_column(f"returns_{h}d"),
        )
        for h in (1, 5, 20)
    ),
    _feature(
        "rel_to_sec_5d",
        "returns_5d - sec_ret_5d_eq",
        5,
        5,
        core=True,
        reads=("sec_ret_5d_eq", *of(STOCK, "returns_5d")),
    ),
    _feature(
        "rel_to_sec_20d", "returns_20d - sec_ret_20d_eq", 20, 20, reads=("sec_ret_20d_eq", *of(STOCK, "returns_20d"))
    ),
    _feature("ret_1d_demeaned", "r1 - mean of r1 over the sector", 1, 1, core=True),
    *(
        _feature(
            f"z_in_sec_{x}",
            f"(x - mean)/std (ddof 0) of {x} over the sector's members, of which there are 3 or more"
            + ("; not a model input: volatility_20d says nearly the same" if x == "volatility_20d" else ""),
            max(reach, 1),
            max(reach, 1),
            low=-100,
            high=100,
            core=x == "returns_20d",
            model_input=x != "volatility_20d",
            reads=_column(x),
        )
        for x, reach in WITHIN.items()
    ),
    _feature(
        "sec33_daily_freq",
        "members/all names; not a model input: ranks of a day equal those of sec_member_cnt",
        1,
        1,
        kind="sector",
        low=0.0,
        high=1.0,
        model_input=False,
    ),
    _feature(
        "sec17_daily_freq",
        "share of the day's names in the sector17",
        1,
        1,
        kind="sector",
        low=0.0,
        high=1.0,
        reads=(*of(STOCK, "is_traded", "returns_1d"), *of(UNIVERSE, "s17")),
    ),
    _feature("beta_to_sec_60", "cov(r1, s1; 60)/var(s1; 60), s1 = sec_ret_1d_eq_loo", 60, 60, kind="time_series"),
    _feature("alpha_vs_sec_1d", "r1 - beta_to_sec_60 s1", 60, 60, kind="time_series"),
    _feature(
        "te33_sec_target_5d",
        "mean of y_cc_5d of the sector's names outside the stock's own fold (5 folds by code) over the last 60 days on "
        "which labels were realised, shrunk with 100 to the mean of all sectors",
        ENCODING_WINDOW,
        ENCODING_WINDOW + ENCODING_HORIZON,
        kind="sector",
        reads=(*MEMBERS, *adjusted("C"), *of(UNIVERSE, "code")),
    ),
)
FEATURES = (*SERIES, *AGAINST)
VALIDITY = (
    _feature(
        "is_sector_valid",
        "1 where the sector has 3 members or more",
        1,
        1,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
    ),
)


def sector_features(
    stock: pl.DataFrame, members: pl.DataFrame, bars: pl.DataFrame, partition: str = "-"
) -> pl.DataFrame:
    """The sector columns.

    Args:
        stock: STOCK_COLUMNS of stock_features, history included.
        members: UNIVERSE_COLUMNS of universe, the same days.
        bars: adjusted bars of the same days, for the realised labels of the target encoding.

    Returns:
        date, code and the features for traded rows, in the order of `stock`; null where the sector is unknown.
    """
    require_columns(stock, STOCK_COLUMNS, table="stock_features", partition=partition)
    require_columns(members, UNIVERSE_COLUMNS, table="universe", partition=partition)
    require_columns(bars, ("date", "code", "o", "c"), table="daily_quotes", partition=partition)
    sectors = pl.Enum(members["s33"].filter(members["s33"] != UNKNOWN_SECTOR).unique().sort())
    rows = _rows(stock, members, sectors)
    cells = _moments(rows)
    series = sector_series(cells)
    cells = cells.drop(set(series.columns) - {"cell"}, strict=False)
    cells = cells.join(series, on="cell", how="left").join(_names(rows), on="date", how="left")
    encoding = target_encoding(bars, members).select(
        _cell(pl.col("s33").cast(sectors)).alias("cell"), "fold", "te33_sec_target_5d"
    )
    frame = (
        rows.lazy()
        .join(cells.drop("date", "s33").lazy(), on="cell", how="left", maintain_order="left")
        .join(_sizes_17(rows).lazy(), on=["date", "s17"], how="left", maintain_order="left")
        .join(encoding.lazy(), on=["cell", "fold"], how="left", maintain_order="left")
        .with_columns(_leave_one_out(f"returns_{h}d").alias(f"sec_ret_{h}d_eq_loo") for h in (1, 5, 20))
        .collect(engine=ENGINE)
    )
    r1 = pl.col("returns_1d")
    columns = {
        "rel_to_sec_5d": pl.col("returns_5d") - pl.col("sec_ret_5d_eq"),
        "rel_to_sec_20d": pl.col("returns_20d") - pl.col("sec_ret_20d_eq"),
        "ret_1d_demeaned": r1 - pl.col("_mean_returns_1d"),
        **{f"z_in_sec_{x}": _within_z(x) for x in WITHIN},
        "sec33_daily_freq": pl.col("sec_member_cnt") / pl.col("_names"),
        "sec17_daily_freq": pl.col("_n17") / pl.col("_names"),
        "alpha_vs_sec_1d": r1 - pl.col("beta_to_sec_60") * pl.col("sec_ret_1d_eq_loo"),
        "is_sector_valid": (pl.col("sec_member_cnt") >= MIN_MEMBERS).fill_null(False),
    }
    frame = frame.hstack(_beta_to_the_others(frame))
    return finish(frame.lazy(), (*FEATURES, *VALIDITY), columns).collect(engine=ENGINE)


def _rows(stock: pl.DataFrame, members: pl.DataFrame, sectors: pl.Enum) -> pl.DataFrame:
    """Traded rows with their sectors of the day, null where unknown, in the order of `stock`; cell, fold."""
    keys = ["date", "code"]
    stock, members = stock.select(*STOCK_COLUMNS), members.select(*UNIVERSE_COLUMNS)
    if stock.select(keys).equals(members.select(keys)):
        both = stock.hstack(members.drop(keys))
    else:
        both = stock.join(members, on=keys, maintain_order="left")
    return (
        both.lazy()
        .filter(pl.col("is_traded") == 1)
        .with_columns(
            pl.col(pl.Float32).cast(pl.Float64),
            pl.col("s33").cast(sectors, strict=False),
            pl.col("s17").replace({UNKNOWN_SECTOR: None}).cast(pl.Categorical),
            fold().alias("fold"),
        )
        .with_columns(_cell(pl.col("s33")).alias("cell"))
        .collect(engine=ENGINE)
    )


def _cell(sector: pl.Expr) -> pl.Expr:
    """One number for a day and a sector (of which there are fewer than 100): quicker to group and join by than two."""
    return pl.col("date").to_physical() * 100 + sector.to_physical().cast(pl.Int32)


def _beta_to_the_others(frame: pl.DataFrame) -> pl.DataFrame:
    """depth and beta_to_sec_60 on the rows of `frame`."""
    columns = frame.select("date", "code", "returns_1d", "sec_ret_1d_eq_loo").with_row_index("row")
    return (
        with_moments(by_stock(columns).lazy(), "_pair", "returns_1d", "sec_ret_1d_eq_loo", 60)
        .select("row", depth(), beta("_pair").alias("beta_to_sec_60"))
        .collect(engine=ENGINE)
        .sort("row")
        .drop("row")
    )


def _names(rows: pl.DataFrame) -> pl.DataFrame:
    """Names of a day that have a sector and a return."""
    present = rows.lazy().filter(pl.col("cell").is_not_null() & pl.col("returns_1d").is_not_null())
    return present.group_by("date").agg(pl.len().alias("_names")).collect(engine=ENGINE)


def _sizes_17(rows: pl.DataFrame) -> pl.DataFrame:
    """Those of a day in each sector17."""
    present = rows.lazy().filter(pl.all_horizontal(pl.col("cell", "returns_1d", "s17").is_not_null()))
    return present.group_by("date", "s17").agg(pl.len().alias("_n17")).collect(engine=ENGINE)


def sector_series(cells: pl.DataFrame) -> pl.DataFrame:
    """One row a sector and day that has a member with a return: the SERIES columns.

    Args:
        cells: what `_moments` says of days and sectors.
    """
    day = by_stock(cells.filter(pl.col("sec_member_cnt") > 0).rename({"s33": "code"})).lazy()
    series = (
        day.with_columns(
            depth(LOOKBACK_MONTHS), own((1 + pl.col("sec_ret_1d_eq")).log().cum_sum()).exp().alias("_index")
        )
        .with_columns(ema("_index", 5).alias("_ema_5"), ema("_index", 20).alias("_ema_20"))
        .with_columns(
            (mean("sec_ret_1d_eq", 20) * 20).alias("sec_mom_20"),
            (mean("sec_ret_1d_eq", 60) * 60).alias("sec_mom_60"),
            (pl.col("_index") / pl.col("_ema_5") - 1).alias("sec_price_to_ema_5"),
            (pl.col("_index") / pl.col("_ema_20") - 1).alias("sec_price_to_ema_20"),
            (pl.col("_ema_5") / pl.col("_ema_20") - 1).alias("sec_gap_5_20"),
            (own(pl.col("sec_ret_1d_eq").rolling_std(20)) * ANNUAL).alias("sec_vol_20"),
            (pl.col("sec_member_cnt") < 5).alias("sec_small_flag"),
            mean("_std_returns_1d", 20).alias("sec_dispersion_20"),
        )
        .with_columns(
            ratio(
                pl.col("sec_vol_20") - mean("sec_vol_20", Z_WINDOW),
                own(pl.col("sec_vol_20").rolling_std(Z_WINDOW)),
                TINY,
            ).alias("sec_vol_20_z")
        )
    )
    long = [f for f in SERIES if f.window > 20 or "ema" in f.name]
    series = series.with_columns(
        pl.when(pl.col("depth") >= f.lookback - 1).then(pl.col(f.name)).alias(f.name) for f in long
    )
    return series.select("cell", *(f.name for f in SERIES)).collect(engine=ENGINE)


def _moments(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a day and sector: date, s33, cell, and what its members' columns are together.

    Count, mean and standard deviation (ddof 0) of all of them, the medians of returns, breadth.
    """
    columns = ("returns_1d", *WITHIN)
    medians = {f"sec_ret_{h}d_eq": pl.col(f"returns_{h}d").median() for h in (1, 5, 20)}
    return (
        rows.lazy()
        .filter(pl.col("cell").is_not_null())
        .group_by("cell")
        .agg(
            pl.col("date", "s33").first(),
            *(pl.col(x).count().cast(pl.Float64).alias(f"_n_{x}") for x in columns),
            *(pl.col(x).mean().alias(f"_mean_{x}") for x in columns),
            *(pl.col(x).std(ddof=0).alias(f"_std_{x}") for x in columns),
            (pl.col("returns_20d") > 0).cast(pl.Float64).mean().alias("sec_breadth_20"),
            **medians,
        )
        .with_columns(pl.col("_n_returns_1d").alias("sec_member_cnt"))
        .collect(engine=ENGINE)
    )


def _leave_one_out(x: str) -> pl.Expr:
    n = pl.col(f"_n_{x}")
    return pl.when(pl.col(x).is_not_null() & (n > 1)).then((pl.col(f"_mean_{x}") * n - pl.col(x)) / (n - 1))


def _within_z(x: str) -> pl.Expr:
    """z-score within the sector; null below MIN_MEMBERS members or without spread."""
    spread = pl.col(f"_std_{x}")
    enough = (pl.col(f"_n_{x}") >= MIN_MEMBERS) & (spread > TINY)
    return pl.when(enough).then((pl.col(x) - pl.col(f"_mean_{x}")) / spread)


def build(inputs: Reader) -> pl.DataFrame:
    """The sector columns of a block's traded rows."""
    stock, members = inputs.read(STOCK, STOCK_COLUMNS), inputs.read(UNIVERSE, UNIVERSE_COLUMNS)
    bars = adjusted_bars(inputs.read(DAILY_QUOTES, RAW_COLUMNS), inputs.span)
    return sector_features(stock, members, bars, inputs.span)


TABLE = FeatureTable(
    name=SECTOR,
    description="What a stock's sector of the day did, and the stock against it.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={STOCK: LOOKBACK_MONTHS, UNIVERSE: LOOKBACK_MONTHS, DAILY_QUOTES: LOOKBACK_MONTHS},
    presence=of(DAILY_QUOTES, *RAW_COLUMNS),
)
