"""Regimes: what options and indices say of the market, through each name's own exposure to it.

What is equal for all names of a day ranks none of them. Here it meets what differs: the beta, the volatility, the place
within the bands, and the slope of a name's return beyond the market on the spread of small against large and of cheap
against dear names over 60 of its own rows.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from atft_assets.features.feature import Feature, family
from atft_assets.features.indices import INDEX, INDICES
from atft_assets.features.names import OPTION, OPTIONS_225, STOCK, STOCK_MARKET, UNIVERSE, of
from atft_assets.features.options import FILLED
from atft_assets.features.rolling import ENGINE, beta, by_stock, depth, finish, with_moments
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.partitions import LOOKBACK_MONTHS
from atft_assets.settings import Plan

REGIME = "regime_features"
WINDOW = 60
SPREADS = {"size": "small less large", "value": "cheap less dear"}
STOCK_COLUMNS = ("date", "code", "is_traded", "volatility_60d", "bb_pct_b", "returns_5d")
PAIR_COLUMNS = ("date", "code", "beta_60d", "alpha_1d")
OPTION_COLUMNS = ("date", "opt_iv_shock", "opt_term_slope_30_60", "opt_vrp", "opt_pcr_mom5")
INDEX_COLUMNS = ("date", *(f"idx_{name}_{h}d" for name in SPREADS for h in (1, 5)))

TRADED = of(STOCK, "is_traded")
_common: dict[str, Any] = {"coverage": 0.5}
_option = family("regimes", source=f"daily_quotes, topix, {OPTIONS_225}", valid_from=FILLED, **_common)
_index = family("regimes", source=f"daily_quotes, topix, {INDICES}", **_common)


def _exposure(name: str) -> tuple[str, ...]:
    return (*TRADED, *of(STOCK_MARKET, "alpha_1d"), *of(INDEX, f"idx_{name}_1d"))


FEATURES: tuple[Feature, ...] = (
    _option(
        "x_iv_beta", "beta_60d opt_iv_shock", 60, 60,
        reads=(*TRADED, *of(STOCK_MARKET, "beta_60d"), *of(OPTION, "opt_iv_shock")),
    ),
    _option(
        "x_term_vol", "volatility_60d opt_term_slope_30_60", 60, 60,
        reads=(*TRADED, *of(STOCK, "volatility_60d"), *of(OPTION, "opt_term_slope_30_60")),
    ),
    _option(
        "x_vrp_rev", "(1/2 - bb_pct_b) opt_vrp", 20, 22,
        reads=(*TRADED, *of(STOCK, "bb_pct_b"), *of(OPTION, "opt_vrp")),
    ),
    _option(
        "x_pcr_mom", "returns_5d opt_pcr_mom5", 5, 6,
        reads=(*TRADED, *of(STOCK, "returns_5d"), *of(OPTION, "opt_pcr_mom5")),
    ),
    *(
        _index(
            f"x_{name}_beta", f"cov(alpha_1d, s; {WINDOW})/var(s; {WINDOW}), s = idx_{name}_1d, {what}", WINDOW, 120,
            reads=_exposure(name),
        )
        for name, what in SPREADS.items()
    ),
    *(
        _index(
            f"x_{name}_push", f"x_{name}_beta idx_{name}_5d", WINDOW, 120,
            reads=(f"x_{name}_beta", *of(INDEX, f"idx_{name}_5d")),
        )
        for name in SPREADS
    ),
)  # fmt: skip


def regime_features(
    stock: pl.DataFrame, pair: pl.DataFrame, options: pl.DataFrame, indices: pl.DataFrame
) -> pl.DataFrame:
    """The products and exposures.

    Args:
        stock: STOCK_COLUMNS of stock_features, history included.
        pair: PAIR_COLUMNS of stock_market_features, likewise.
        options: OPTION_COLUMNS of option_features, indices: INDEX_COLUMNS of index_features.

    Returns:
        date, code and the features for the traded rows of `stock`, Float32, sorted by code and date.
    """
    frame = (
        by_stock(
            stock.select(STOCK_COLUMNS)
            .filter(pl.col("is_traded") == 1)
            .join(pair.select(PAIR_COLUMNS), on=["date", "code"], how="left", maintain_order="left")
        )
        .lazy()
        .with_columns(depth())
        .join(options.lazy().select(OPTION_COLUMNS), on="date", how="left", maintain_order="left")
        .join(indices.lazy().select(INDEX_COLUMNS), on="date", how="left", maintain_order="left")
        .with_columns(pl.col(pl.Float32).cast(pl.Float64))
    )
    for name in SPREADS:
        frame = with_moments(frame, f"_{name}", "alpha_1d", f"idx_{name}_1d", WINDOW)
        frame = frame.with_columns(beta(f"_{name}").alias(f"x_{name}_beta"))
    products = {
        "x_iv_beta": pl.col("beta_60d") * pl.col("opt_iv_shock"),
        "x_term_vol": pl.col("volatility_60d") * pl.col("opt_term_slope_30_60"),
        "x_vrp_rev": (0.5 - pl.col("bb_pct_b")) * pl.col("opt_vrp"),
        "x_pcr_mom": pl.col("returns_5d") * pl.col("opt_pcr_mom5"),
        **{f"x_{name}_push": pl.col(f"x_{name}_beta") * pl.col(f"idx_{name}_5d") for name in SPREADS},
    }
    return finish(frame, FEATURES, products).collect(engine=ENGINE)


def build(inputs: Reader) -> pl.DataFrame:
    """The products of a block's traded rows."""
    frame = regime_features(
        inputs.read(STOCK, STOCK_COLUMNS),
        inputs.read(STOCK_MARKET, PAIR_COLUMNS),
        inputs.read(OPTION, OPTION_COLUMNS),
        inputs.read(INDEX, INDEX_COLUMNS),
    )
    return frame.filter(pl.col("date") >= inputs.since)


TABLE = FeatureTable(
    name=REGIME,
    description="What options and indices say of the market, by each name's exposure to it. Needs the plan Standard.",
    build=build,
    features=FEATURES,
    reads={
        STOCK: LOOKBACK_MONTHS,
        STOCK_MARKET: LOOKBACK_MONTHS,
        OPTION: LOOKBACK_MONTHS,
        INDEX: LOOKBACK_MONTHS,
        UNIVERSE: 0,
    },
    plan=Plan.STANDARD,
    needs="the Nikkei 225 options and the indices",
)
