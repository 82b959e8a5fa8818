"""Market features: twenty-six columns of the TOPIX, one row a day.

They cannot rank stocks by themselves (they are equal for all names of a day); they condition the model and enter
products with a stock's own columns. Index levels enter as ratios.
"""

from __future__ import annotations

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import MARKET, TOPIX, of
from atft_assets.features.rolling import ANNUAL, TINY, ema, wilder
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

# 252 days of z-scores over 20 days of volatility: fifteen months back, where the stocks' windows need thirteen.
LOOKBACK_MONTHS = 15
TOPIX_COLUMNS = ("date", "O", "H", "L", "C")
Z_WINDOW = 252
Z_PEAK = 40  # the drawdown that is standardised: from the peak of 40 days, for that of 252 would need two years
SPANS = (5, 20, 60, 200)


INDEX = of(TOPIX, "C")
_feature = family("market", kind="market", source="topix", coverage=0.9, reads=INDEX)
RANGE = of(TOPIX, "H", "L", "C")


def _flag(name: str, formula: str, window: int, lookback: int) -> Feature:
    note = "; not a model input: it follows from a continuous column"
    return _feature(name, formula + note, window, lookback, kind="flag", low=0, high=1, model_input=False)


_BETWEEN = "; not a model input: its neighbours among the columns say nearly the same"

FEATURES: tuple[Feature, ...] = (
    *(
        _feature(
            f"mkt_ret_{h}d",
            f"M/M[-{h}] - 1, M the TOPIX close" + (_BETWEEN if h == 10 else ""),
            h,
            h,
            low=-1.0,
            core=h in (1, 20),
            model_input=h != 10,
            sequence=h == 1,
        )
        for h in (1, 5, 10, 20)
    ),
    *(
        _feature(
            f"mkt_price_to_ema_{w}",
            f"M/EMA(M, {w}) - 1 (mkt_ema_{w} as a ratio)" + (_BETWEEN if w == 60 else ""),
            m,
            m,
            low=-1.0,
            model_input=w != 60,
        )
        for w, m in ((5, 15), (60, 180), (200, 240))
    ),
    _feature("mkt_gap_20_60", "EMA(M, 20)/EMA(M, 60) - 1 (in place of the level mkt_ema_20)", 180, 180, low=-1.0),
    _feature("mkt_dev_20", "M/EMA(M, 20) - 1", 60, 60, low=-1.0),
    _feature("mkt_gap_5_20", "EMA(M, 5)/EMA(M, 20) - 1", 60, 60, low=-1.0, core=True),
    _feature("mkt_ema20_slope_3", "EMA(M, 20)/EMA(M, 20)[-3] - 1" + _BETWEEN, 63, 63, low=-1.0, model_input=False),
    _feature("mkt_vol_20d", "std(m1, 20) * sqrt(252)", 20, 20, low=0.0),
    _feature(
        "mkt_atr_14_to_60",
        "ATR(14)/mean(true range, 60) (in place of the level mkt_atr_14)",
        70,
        71,
        low=0.0,
        reads=RANGE,
    ),
    _feature(
        "mkt_natr_14",
        "ATR(14)/M; not a model input: close to mkt_vol_20d",
        70,
        71,
        low=0.0,
        model_input=False,
        reads=RANGE,
    ),
    _feature(
        "mkt_bb_pct_b",
        "(M - lower)/(upper - lower), bands mean(M, 20) -+ 2 std, clipped to [0, 1]",
        20,
        19,
        low=0,
        high=1,
    ),
    _feature("mkt_bb_bw", "(upper - lower)/mean(M, 20)", 20, 19, low=0.0),
    _feature("mkt_dd_from_peak", "M/max(M, 252) - 1", 252, 251, low=-1.0, high=0.0, core=True),
    _flag("mkt_big_move_flag", "1 where |m1| >= 2 std(m1, 60)", 60, 60),
    *(
        _feature(
            f"{name}_z", f"({name} - mean)/std over 252 days", Z_WINDOW, Z_WINDOW - 1 + more, core=name == "mkt_vol_20d"
        )
        for name, more in (("mkt_ret_1d", 1), ("mkt_vol_20d", 20), ("mkt_bb_bw", 19))
    ),
    _feature(
        "mkt_dd_from_peak_z", "(x - mean)/std over 252 days, x = M/max(M, 40) - 1", Z_WINDOW, Z_WINDOW - 1 + Z_PEAK - 1
    ),
    _flag("mkt_bull_200", "1 where M > EMA(M, 200)", 240, 240),
    _flag("mkt_trend_up", "1 where mkt_gap_5_20 > 0", 60, 60),
    _flag("mkt_high_vol", "1 where mkt_vol_20d_z > 1", 252, 271),
    _flag("mkt_squeeze", "1 where mkt_bb_bw_z < -1", 252, 270),
)
VALIDITY = (
    _feature(
        "is_mkt_z_valid",
        "1 where the 252-day z-scores exist",
        252,
        271,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
    ),
)


def market_features(topix: pl.DataFrame, partition: str = "-") -> pl.DataFrame:
    """The market columns.

    Args:
        topix: date, O, H, L, C of the TOPIX. Days on which the index has no price are left out.

    Returns:
        date and the features, Float32 (flags UInt8, null until they are known), sorted by date.
    """
    require_columns(topix, TOPIX_COLUMNS, table="topix", partition=partition)
    m = pl.col("C")
    frame = (
        topix.lazy()
        .select(*TOPIX_COLUMNS)
        .with_columns(pl.col("O", "H", "L", "C").cast(pl.Float64))
        .filter(pl.all_horizontal(pl.col("O", "H", "L", "C") > 0))
        .sort("date")
        .with_columns(
            *(ema("C", w, by=None).alias(f"_ema_{w}") for w in SPANS),
            (m / m.shift(1) - 1).alias("mkt_ret_1d"),
            pl.when(m.shift(1).is_not_null())
            .then(pl.max_horizontal(pl.col("H"), m.shift(1)) - pl.min_horizontal(pl.col("L"), m.shift(1)))
            .alias("_tr"),
            m.rolling_mean(20).alias("_mid"),
            m.rolling_std(20, ddof=0).alias("_std"),
        )
        .with_columns(
            *((m / m.shift(h) - 1).alias(f"mkt_ret_{h}d") for h in (5, 10, 20)),
            *((m / pl.col(f"_ema_{w}") - 1).alias(f"mkt_price_to_ema_{w}") for w in (5, 60, 200)),
            (pl.col("_ema_20") / pl.col("_ema_60") - 1).alias("mkt_gap_20_60"),
            (m / pl.col("_ema_20") - 1).alias("mkt_dev_20"),
            (pl.col("_ema_5") / pl.col("_ema_20") - 1).alias("mkt_gap_5_20"),
            (pl.col("_ema_20") / pl.col("_ema_20").shift(3) - 1).alias("mkt_ema20_slope_3"),
            (pl.col("mkt_ret_1d").rolling_std(20) * ANNUAL).alias("mkt_vol_20d"),
            wilder("_tr", 14, by=None).alias("_atr"),
            pl.when(pl.col("_std") > TINY * m)
            .then(((m - pl.col("_mid")) / (4 * pl.col("_std")) + 0.5).clip(0, 1))
            .alias("mkt_bb_pct_b"),
            (4 * pl.col("_std") / pl.col("_mid")).alias("mkt_bb_bw"),
            (m / m.rolling_max(Z_WINDOW) - 1).alias("mkt_dd_from_peak"),
            _as_flag(pl.col("mkt_ret_1d").abs() >= 2 * pl.col("mkt_ret_1d").rolling_std(60)).alias("mkt_big_move_flag"),
            _as_flag(m > pl.col("_ema_200")).alias("mkt_bull_200"),
        )
        .with_columns(
            (pl.col("_atr") / pl.col("_tr").rolling_mean(60)).alias("mkt_atr_14_to_60"),
            (pl.col("_atr") / m).alias("mkt_natr_14"),
            _as_flag(pl.col("mkt_gap_5_20") > 0).alias("mkt_trend_up"),
            _z(m / m.rolling_max(Z_PEAK) - 1).alias("mkt_dd_from_peak_z"),
            *(_z(pl.col(name)).alias(f"{name}_z") for name in ("mkt_ret_1d", "mkt_vol_20d", "mkt_bb_bw")),
        )
        .with_columns(
            _as_flag(pl.col("mkt_vol_20d_z") > 1).alias("mkt_high_vol"),
            _as_flag(pl.col("mkt_bb_bw_z") < -1).alias("mkt_squeeze"),
            pl.col("mkt_vol_20d_z").is_not_null().cast(pl.UInt8).alias("is_mkt_z_valid"),
        )
    )
    stored = (pl.col(f.name).cast(pl.UInt8 if f.kind == "flag" else pl.Float32) for f in (*FEATURES, *VALIDITY))
    return frame.select("date", *stored).collect()


def _z(expression: pl.Expr) -> pl.Expr:
    """Standardised over the trailing 252 days, the day itself included."""
    spread = expression.rolling_std(Z_WINDOW)
    return pl.when(spread > TINY).then((expression - expression.rolling_mean(Z_WINDOW)) / spread)


def _as_flag(condition: pl.Expr) -> pl.Expr:
    return condition.cast(pl.UInt8)


def build(inputs: Reader) -> pl.DataFrame:
    """The market columns of a block."""
    topix = inputs.read(TOPIX, TOPIX_COLUMNS)
    return market_features(topix, inputs.span)


TABLE = FeatureTable(
    name=MARKET,
    description="Twenty-six columns of the TOPIX, one row a day. Needs the plan Light.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={TOPIX: LOOKBACK_MONTHS},
    lineage={"date": of(TOPIX, "date")},
    presence=of(TOPIX, "O", "H", "L"),
    per="day",
    plan=Plan.LIGHT,
    needs="the TOPIX",
)
