"""Sector features: what a stock's sector of the day did, and the stock against it.

Sector series live on a sector-date table and roll there (over panel rows, a window of 20 "days" would be 20
stocks). The sector of a row is that of its date, so a name that moves between sectors moves on the day the master
says so.
"""

from __future__ import annotations

import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.contracts import require_columns
from atft_assets.features.feature import Feature
from atft_assets.features.labels import first_and_last, forward_returns
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

LOOKBACK_MONTHS = 15  # as the market's: 252 days of z-scores over 20 days of volatility
Z_WINDOW = 252
MIN_MEMBERS = 3
UNKNOWN_SECTOR = "9999"

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
PHASE1_COLUMNS = ("date", "code", "is_traded", "returns_1d", *WITHIN)
UNIVERSE_COLUMNS = ("date", "code", "s33", "s17")

ENCODING_FOLDS = 5
ENCODING_HORIZON = 5
ENCODING_WINDOW = 60
ENCODING_PRIOR = 100.0


def _feature(name: str, formula: str, window: int, lookback: int, kind="cross_section", **more) -> Feature:
    return Feature(
        name,
        more.pop("family", "sector"),
        formula,
        window,
        lookback,
        kind,
        source="daily_quotes, listed_info",
        table="sector_features",
        **more,
    )


def _sector(name: str, formula: str, window: int, lookback: int, **more) -> Feature:
    return _feature(name, formula, window, lookback, kind=more.pop("kind", "sector"), **more)


SERIES = (
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
    _sector("sec_breadth_20", "share of the members with returns_20d > 0", 20, 20, low=0.0, high=1.0),
)
AGAINST = (
    *(
        _feature(f"sec_ret_{h}d_eq_loo", f"mean of returns_{h}d over the other members", h, h, low=-1.0, core=h == 1)
        for h in (1, 5, 20)
    ),
    _feature("rel_to_sec_5d", "returns_5d - sec_ret_5d_eq", 5, 5, core=True),
    _feature("rel_to_sec_20d", "returns_20d - sec_ret_20d_eq", 20, 20),
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
    _feature("sec17_daily_freq", "share of the day's names in the sector17", 1, 1, kind="sector", low=0.0, high=1.0),
    _feature("beta_to_sec_60", "cov(r1, s1; 60)/var(s1; 60), s1 = sec_ret_1d_eq_loo", 60, 60, kind="time_series"),
    _feature("alpha_vs_sec_1d", "r1 - beta_to_sec_60 s1", 60, 60, kind="time_series"),
    _feature(
        "te33_sec_target_5d",
        "mean of y_cc_5d of the sector's names outside the stock's own fold (5 folds by code) over the last 60 days on "
        "which labels were realised, shrunk with 100 to the mean of all sectors",
        ENCODING_WINDOW,
        ENCODING_WINDOW + ENCODING_HORIZON,
        kind="sector",
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
    phase1: pl.DataFrame, members: pl.DataFrame, bars: pl.DataFrame, partition: str = "-"
) -> pl.DataFrame:
    """The sector columns.

    Args:
        phase1: PHASE1_COLUMNS of phase1_features, history included.
        members: UNIVERSE_COLUMNS of universe, the same days.
        bars: adjusted bars of the same days, for the realised labels of the target encoding.

    Returns:
        date, code and the features for traded rows, in the order of `phase1`; null where the sector is unknown.
    """
    require_columns(phase1, PHASE1_COLUMNS, table="phase1_features", partition=partition)
    require_columns(members, UNIVERSE_COLUMNS, table="universe", partition=partition)
    require_columns(bars, ("date", "code", "o", "c"), table="daily_quotes", partition=partition)
    sectors = pl.Enum(members["s33"].filter(members["s33"] != UNKNOWN_SECTOR).unique().sort())
    rows = _rows(phase1, members, sectors)
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


def _rows(phase1: pl.DataFrame, members: pl.DataFrame, sectors: pl.Enum) -> pl.DataFrame:
    """Traded rows with their sectors of the day, null where unknown, in the order of `phase1`; cell, fold."""
    keys = ["date", "code"]
    phase1, members = phase1.select(*PHASE1_COLUMNS), members.select(*UNIVERSE_COLUMNS)
    if phase1.select(keys).equals(members.select(keys)):
        both = phase1.hstack(members.drop(keys))
    else:
        both = phase1.join(members, on=keys, maintain_order="left")
    return (
        both.lazy()
        .filter(pl.col("is_traded") == 1)
        .with_columns(
            pl.col(pl.Float32).cast(pl.Float64),
            pl.col("s33").cast(sectors, strict=False),
            pl.col("s17").replace({UNKNOWN_SECTOR: None}).cast(pl.Categorical),
            _fold().alias("fold"),
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


def target_encoding(bars: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """date, s33, fold, te33_sec_target_5d: the mean of realised labels of the sector's other folds.

    A label of day u is known at the close of u + 5 trading days and is dated there, so a row of t averages labels
    with u + 5 <= t and nothing newer.
    """
    empty = pl.DataFrame(schema={"date": pl.Date, "s33": pl.String, "fold": pl.Int64, "te33_sec_target_5d": pl.Float64})
    if bars.is_empty():
        return empty
    days = trading_days(*first_and_last(bars))
    realised = pl.DataFrame(
        {"date": days[:-ENCODING_HORIZON], "realised": days[ENCODING_HORIZON:]},
        schema={"date": pl.Date, "realised": pl.Date},
    )
    label = f"y_cc_{ENCODING_HORIZON}d"
    names = pl.Enum(members["code"].unique().sort())
    sectors = members.lazy().filter(pl.col("s33").is_not_null() & (pl.col("s33") != UNKNOWN_SECTOR))
    day = (
        forward_returns(bars, (ENCODING_HORIZON,))
        .lazy()
        .filter(pl.col(label).is_not_null())
        .with_columns(_row(names))
        .join(sectors.select(_row(names), pl.col("s33").cast(pl.Categorical)), on="row")
        .group_by("date", "s33", _fold().alias("fold"))
        .agg(pl.col(label).cast(pl.Float64).sum().alias("sum"), pl.len().cast(pl.Float64).alias("n"))
        .join(realised.lazy(), on="date")
        .select(pl.col("realised").alias("date"), pl.col("s33").cast(pl.String), "fold", "sum", "n")
        .collect(engine=ENGINE)
    )
    if day.is_empty():
        return empty
    grid = (
        pl.DataFrame({"date": days})
        .join(day.select("s33").unique(), how="cross")
        .join(pl.DataFrame({"fold": range(ENCODING_FOLDS)}, schema={"fold": pl.Int64}), how="cross")
    )
    rolled = (
        grid.join(day, on=["date", "s33", "fold"], how="left")
        .with_columns(pl.col("sum", "n").fill_null(0.0))
        .sort("s33", "fold", "date")
        .with_columns(
            pl.col("sum", "n").rolling_sum(ENCODING_WINDOW).over("s33", "fold"),
            # the first labels are realised after 5 days; before the window is full of them there is no encoding
            (pl.col("date").cum_count().over("s33", "fold") >= ENCODING_WINDOW + ENCODING_HORIZON).alias("full"),
        )
        .with_columns((pl.col(c).sum().over("date", "s33") - pl.col(c)).alias(f"sector_{c}") for c in ("sum", "n"))
        .with_columns(
            (pl.col(c).sum().over("date") - pl.col(c).sum().over("date", "fold")).alias(f"all_{c}")
            for c in ("sum", "n")
        )
    )
    prior = pl.col("all_sum") / pl.col("all_n")
    encoded = (pl.col("sector_sum") + ENCODING_PRIOR * prior) / (pl.col("sector_n") + ENCODING_PRIOR)
    known = pl.col("full") & (pl.col("all_n") > 0.5)
    return rolled.select("date", "s33", "fold", pl.when(known).then(encoded).alias("te33_sec_target_5d"))


def _row(names: pl.Enum) -> pl.Expr:
    """One number for a name and a day, null for other names: see `_cell`."""
    code = pl.col("code").cast(names, strict=False).to_physical().cast(pl.Int64)
    return (code * 2**32 + pl.col("date").to_physical()).alias("row")


def _fold() -> pl.Expr:
    """Fold of a code, 0 to 4: the four leading characters read in base 36, modulo 5 (letters occur)."""
    return pl.col("code").str.head(4).str.to_integer(base=36, strict=True) % ENCODING_FOLDS


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
