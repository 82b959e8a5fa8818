"""Stock against market: betas and what they leave, on a stock's own traded rows.

The market return that a stock's return is held against spans the same days: over a row that follows an untraded
day, TOPIX counts from the stock's previous row too. Same-day pairs always; a lagged market (a fault of the seed
system) is what the tests look for.
"""

from __future__ import annotations

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import MARKET, STOCK, STOCK_MARKET, TOPIX, UNIVERSE, of
from atft_assets.features.rolling import (
    ENGINE,
    TINY,
    beta,
    by_stock,
    correlation,
    depth,
    finish,
    lag,
    mean,
    own,
    ratio,
    with_moments,
)
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.partitions import LOOKBACK_MONTHS
from atft_assets.settings import Plan

STOCK_COLUMNS = ("date", "code", "is_traded", "returns_1d", "returns_5d", "volatility_20d", "ma_gap_5_20")
MARKET_COLUMNS = ("date", "mkt_ret_5d", "mkt_vol_20d", "mkt_gap_5_20", "mkt_bull_200")


# windows run over a stock's traded rows
TRADED = of(STOCK, "is_traded")
PAIR = (*TRADED, *of(STOCK, "returns_1d"), *of(TOPIX, "C"))

_feature = family("stock_market", source="daily_quotes, topix", reads=PAIR)

_SAME_RANK = "; not a model input: ranks of a day equal those of {}"

FEATURES: tuple[Feature, ...] = (
    _feature("beta_60d", "cov(r1, m1; 60)/var(m1; 60)", 60, 60, core=True),
    _feature("alpha_1d", "r1 - beta_60d m1", 60, 60, core=True, sequence=True),
    _feature(
        "alpha_5d",
        "returns_5d - beta_60d m5",
        60,
        60,
        core=True,
        reads=("beta_60d", *of(STOCK, "returns_5d"), *of(TOPIX, "C")),
    ),
    _feature(
        "rel_strength_5d",
        "returns_5d - mkt_ret_5d" + _SAME_RANK.format("returns_5d"),
        5,
        5,
        model_input=False,
        reads=(*TRADED, *of(STOCK, "returns_5d"), *of(MARKET, "mkt_ret_5d")),
    ),
    _feature(
        "idio_vol_ratio",
        "volatility_20d/mkt_vol_20d" + _SAME_RANK.format("volatility_20d"),
        20,
        20,
        low=0.0,
        model_input=False,
        reads=(*TRADED, *of(STOCK, "volatility_20d"), *of(MARKET, "mkt_vol_20d")),
    ),
    _feature("beta_stability_60d", "-ln std(beta_60d, 20)", 60, 79),
    _feature(
        "trend_align_mkt",
        "1 where ma_gap_5_20 and mkt_gap_5_20 have one sign",
        60,
        60,
        kind="flag",
        low=0,
        high=1,
        reads=(*TRADED, *of(STOCK, "ma_gap_5_20"), *of(MARKET, "mkt_gap_5_20")),
    ),
    _feature(
        "alpha_vs_regime",
        "alpha_1d where the market is above its EMA(200), else 0" + _SAME_RANK.format("alpha_1d, or all zero"),
        240,
        240,
        model_input=False,
        may_be_constant=True,
        reads=("alpha_1d", *of(MARKET, "mkt_bull_200")),
    ),
    _feature("idio_share_60", "1 - correlation(r1, m1; 60)^2", 60, 60, low=-1e-6, high=1 + 1e-6, core=True),
    _feature("alpha_mom_20", "sum(alpha_1d, 20)", 60, 79),
)
VALIDITY = (
    _feature(
        "is_beta_valid",
        "1 where beta_60d exists and lies in [-3, 3]",
        60,
        60,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
    ),
)


def stock_market_features(
    stock: pl.DataFrame, market: pl.DataFrame, topix: pl.DataFrame, partition: str = "-"
) -> pl.DataFrame:
    """The stock x market columns.

    Args:
        stock: STOCK_COLUMNS of stock_features, history included.
        market: MARKET_COLUMNS of market_features.
        topix: date, C.

    Returns:
        date, code and the features for the traded rows of `stock`, sorted by code and date.
    """
    require_columns(stock, STOCK_COLUMNS, table="stock_features", partition=partition)
    require_columns(market, MARKET_COLUMNS, table="market_features", partition=partition)
    require_columns(topix, ("date", "C"), table="topix", partition=partition)
    frame = (
        by_stock(stock.select(*STOCK_COLUMNS).filter(pl.col("is_traded") == 1))
        .lazy()
        .with_columns(depth())
        .with_columns(pl.col(pl.Float32).cast(pl.Float64))
        .join(
            market.lazy().select(*MARKET_COLUMNS).with_columns(pl.col(pl.Float32).cast(pl.Float64)),
            on="date",
            how="left",
            maintain_order="left",
        )
        .join(
            topix.lazy().select("date", pl.col("C").cast(pl.Float64).alias("_m")),
            on="date",
            how="left",
            maintain_order="left",
        )
        .with_columns(
            # the index over the stock's own interval; where the index is missing that day, so is the return
            pl.when(pl.col("returns_1d").is_not_null()).then(pl.col("_m") / lag("_m", 1) - 1).alias("_m1"),
            (pl.col("_m") / lag("_m", 5) - 1).alias("_m5"),
        )
    )
    frame = (
        with_moments(frame, "_pair", "returns_1d", "_m1", 60)
        .with_columns(beta("_pair").alias("beta_60d"), correlation("_pair").alias("_rho"))
        .with_columns(
            (pl.col("returns_1d") - pl.col("beta_60d") * pl.col("_m1")).alias("alpha_1d"),
            own(pl.col("beta_60d").rolling_std(20)).alias("_beta_std"),
        )
        .with_columns(
            (pl.col("returns_5d") - pl.col("beta_60d") * pl.col("_m5")).alias("alpha_5d"),
            (pl.col("returns_5d") - pl.col("mkt_ret_5d")).alias("rel_strength_5d"),
            ratio(pl.col("volatility_20d"), pl.col("mkt_vol_20d"), TINY).alias("idio_vol_ratio"),
            _minus_log(pl.col("_beta_std")).alias("beta_stability_60d"),
            (pl.col("ma_gap_5_20").sign() == pl.col("mkt_gap_5_20").sign()).alias("trend_align_mkt"),
            (pl.col("alpha_1d") * pl.col("mkt_bull_200")).alias("alpha_vs_regime"),
            (1 - pl.col("_rho") ** 2).alias("idio_share_60"),
            (mean("alpha_1d", 20) * 20).alias("alpha_mom_20"),
            pl.col("beta_60d").is_between(-3, 3).fill_null(False).alias("is_beta_valid"),
        )
    )
    return finish(frame, (*FEATURES, *VALIDITY)).collect(engine=ENGINE)


def _minus_log(expression: pl.Expr) -> pl.Expr:
    return pl.when(expression > TINY).then(-expression.log())


def build(inputs: Reader) -> pl.DataFrame:
    """The stock x market columns of a block's traded rows."""
    stock = inputs.read(STOCK, STOCK_COLUMNS)
    market = inputs.read(MARKET, MARKET_COLUMNS)
    return stock_market_features(stock, market, inputs.read(TOPIX, ("date", "C")), inputs.span)


TABLE = FeatureTable(
    name=STOCK_MARKET,
    description="A stock against the market: betas and what they leave. Needs the plan Light.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={STOCK: LOOKBACK_MONTHS, MARKET: LOOKBACK_MONTHS, TOPIX: LOOKBACK_MONTHS, UNIVERSE: 0},
    plan=Plan.LIGHT,
    needs="the TOPIX",
)
