"""Technical indicators on a stock's own traded rows; the formulas are TA-Lib's, with the recursions cut to a
finite memory.
"""

from __future__ import annotations

import polars as pl

from atft_assets.features.feature import family
from atft_assets.features.names import adjusted
from atft_assets.features.rolling import TINY, ema, finish, lag, mean, own, ratio, wilder

CLOSE = adjusted("C")
_technical = family("technical", reads=CLOSE)

FEATURES = (
    _technical("rsi_2", "Wilder's RSI of 2 rows, memory 10", 10, 11, low=-1e-3, high=100.001, core=True),
    _technical("rsi_14", "Wilder's RSI of 14 rows, memory 70", 70, 71, low=-1e-3, high=100.001, core=True),
    _technical("rsi_delta", "rsi_14 - rsi_14[-1]", 71, 72, low=-100, high=100),
    _technical("macd", "(EMA(C, 12) - EMA(C, 26))/C", 78, 78),
    _technical("macd_signal", "EMA(EMA(C, 12) - EMA(C, 26), 9)/C", 105, 105),
    _technical("macd_hist", "macd - macd_signal", 105, 105, core=True),
    _technical("bb_pct_b", "(C - lower)/(upper - lower), bands mean(C, 20) -+ 2 std (ddof 0)", 20, 19, core=True),
    _technical("bb_bw", "(upper - lower)/mean(C, 20)", 20, 19, low=0.0),
    _technical(
        "natr_14", "ATR(14)/C (atr_14 as a ratio), memory 70", 70, 71, low=0.0, core=True, reads=adjusted("H", "L", "C")
    ),
    _technical(
        "adx_14",
        "Wilder's ADX of 14 rows, memory 70 + 70",
        140,
        141,
        low=-1e-3,
        high=100.001,
        reads=adjusted("H", "L", "C"),
    ),
    _technical(
        "stoch_k",
        "mean of 3 of 100 (C - min(L, 14))/(max(H, 14) - min(L, 14))",
        16,
        15,
        low=-1e-3,
        high=100.001,
        core=True,
        reads=adjusted("H", "L", "C"),
    ),
)


def technical_features(bars: pl.LazyFrame) -> pl.LazyFrame:
    """date, code and the eleven indicators, Float32, rows in the order of `bars` (adjusted, sorted by code and
    date).
    """
    frame = bars.with_columns(
        (pl.col("c") - lag("c", 1)).alias("_change"),
        (pl.col("h") - lag("h", 1)).alias("_up"),
        (lag("l", 1) - pl.col("l")).alias("_down"),
        true_range().alias("tr"),
        (ema("c", 12) - ema("c", 26)).alias("_macd"),
        own(pl.col("c").rolling_std(20, ddof=0)).alias("_std"),
        mean("c", 20).alias("_mid"),
        own(pl.col("l").rolling_min(14)).alias("_lowest"),
        own(pl.col("h").rolling_max(14)).alias("_highest"),
    ).with_columns(
        # what is used twice is a column: Polars computes a repeated window again
        *(gain("_change", n).alias(f"_gain_{n}") for n in (2, 14)),
        *(loss("_change", n).alias(f"_loss_{n}") for n in (2, 14)),
        ratio(pl.col("c") - pl.col("_lowest"), pl.col("_highest") - pl.col("_lowest")).alias("_fast_k"),
        # a tie is neither: on prices adjusted to another day the rounding would decide it otherwise
        pl.when(_above("_up", "_down") & (pl.col("_up") > 0)).then("_up").otherwise(0.0).alias("_plus_dm"),
        pl.when(_above("_down", "_up") & (pl.col("_down") > 0)).then("_down").otherwise(0.0).alias("_minus_dm"),
        wilder("tr", 14).alias("_atr"),
        ema("_macd", 9).alias("_signal"),
    )
    frame = frame.with_columns(
        *(strength(pl.col(f"_gain_{n}"), pl.col(f"_loss_{n}")).alias(f"rsi_{n}") for n in (2, 14)),
        wilder("_plus_dm", 14).alias("_plus"),
        wilder("_minus_dm", 14).alias("_minus"),
    )
    frame = frame.with_columns(directional_index(pl.col("_plus"), pl.col("_minus")).alias("_dx"))
    c = pl.col("c")
    columns = {
        "adx_14": wilder("_dx", 14),
        "rsi_delta": pl.col("rsi_14") - lag("rsi_14", 1),
        "macd": pl.col("_macd") / c,
        "macd_signal": pl.col("_signal") / c,
        "macd_hist": (pl.col("_macd") - pl.col("_signal")) / c,
        "bb_pct_b": pl.when(pl.col("_std") / pl.col("_mid") > TINY).then(
            (c - pl.col("_mid")) / (4 * pl.col("_std")) + 0.5
        ),
        "bb_bw": 4 * pl.col("_std") / pl.col("_mid"),
        "natr_14": pl.col("_atr") / c,
        "stoch_k": 100 * mean("_fast_k", 3),
    }
    return finish(frame, FEATURES, columns)


def _above(x: str, y: str) -> pl.Expr:
    return pl.col(x) - pl.col(y) > TINY * pl.col("c")


def true_range() -> pl.Expr:
    """max(H, C[-1]) - min(L, C[-1]); null on a stock's first row."""
    previous = lag("c", 1)
    return pl.when(previous.is_not_null()).then(
        pl.max_horizontal(pl.col("h"), previous) - pl.min_horizontal(pl.col("l"), previous)
    )


def gain(change: str, n: int) -> pl.Expr:
    """Wilder's average of the rises."""
    return wilder(pl.col(change).clip(lower_bound=0), n).clip(lower_bound=0)


def loss(change: str, n: int) -> pl.Expr:
    """Wilder's average of the falls."""
    return wilder((-pl.col(change)).clip(lower_bound=0), n).clip(lower_bound=0)


def strength(gain: pl.Expr, loss: pl.Expr) -> pl.Expr:
    """The rises' share in percent; null where the price did not move."""
    return pl.when(gain + loss > TINY * pl.col("c")).then(100 * gain / (gain + loss))


def directional_index(plus: pl.Expr, minus: pl.Expr) -> pl.Expr:
    """100 |plus - minus|/(plus + minus); 0 where the range did not move in either direction at all."""
    return (
        pl.when(plus + minus > TINY * pl.col("c"))
        .then(100 * (plus - minus).abs() / (plus + minus))
        .when((plus + minus).is_not_null())
        .then(0.0)
    )
