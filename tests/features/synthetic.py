"""Small random markets as raw frames, and the same numbers as NumPy arrays for the oracles."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.features.bars import adjusted_bars

FIRST = date(2019, 1, 4)


def sessions(n: int, first: date = FIRST) -> list[date]:
    return trading_days(first, date(2024, 12, 30))[:n]


def raw_quotes(
    names: int = 1,
    days: int = 300,
    seed: int = 0,
    untraded: float = 0.0,
    splits: bool = False,
    first: date = FIRST,
) -> pl.DataFrame:
    """daily_quotes of a random market: date, code, O, H, L, C, Vo, Va, AdjFactor."""
    rng = np.random.default_rng(seed)
    known = sessions(days, first)
    frames = []
    for i in range(names):
        close = 1000 * np.exp(np.cumsum(rng.normal(0, 0.02, days)))
        open_ = close * np.exp(rng.normal(0, 0.01, days))
        high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.008, days)))
        low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.008, days)))
        volume = np.exp(rng.normal(10, 0.5, days)).round()
        factor = np.ones(days)
        if splits and days > 40:
            factor[int(rng.integers(20, days - 10))] = rng.choice([0.5, 1 / 3, 5.0])
        level = np.cumprod(factor)  # prices fall on the ex-date, volumes rise
        prices = {k: v * level for k, v in zip("OHLC", (open_, high, low, close), strict=True)}
        frame = pl.DataFrame(
            {
                "date": known,
                "code": [f"{1301 + i}0"] * days,
                **prices,
                "Vo": volume / level,
                "Va": volume * close,
                "AdjFactor": factor,
            }
        )
        if untraded:
            gone = pl.Series(rng.random(days) < untraded)
            values = ("O", "H", "L", "C", "Vo", "Va")
            frame = frame.with_columns(pl.when(~gone).then(pl.col(c)).alias(c) for c in values)
        frames.append(frame)
    return pl.concat(frames).sort("date", "code")


def bars_of(quotes: pl.DataFrame) -> pl.LazyFrame:
    return adjusted_bars(quotes).lazy()


def members_of(quotes: pl.DataFrame, sectors: int = 2) -> pl.DataFrame:
    """A universe of all bars, sectors given out in turn."""
    codes = quotes.select(pl.col("code").unique().sort()).with_row_index("i")
    sector = codes.select("code", (pl.col("i") % sectors).cast(pl.String).alias("s33"))
    return (
        quotes.select("date", "code")
        .join(sector, on="code")
        .with_columns(pl.col("s33").alias("s17"), pl.lit("0111").alias("mkt"), pl.lit("-").alias("scale_cat"))
    )


def topix(days: int = 400, seed: int = 1, first: date = FIRST) -> pl.DataFrame:
    frame = raw_quotes(1, days, seed, first=first)
    return frame.select("date", "O", "H", "L", "C")


def column(frame: pl.DataFrame, name: str) -> np.ndarray:
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def rolling(x: np.ndarray, w: int, f) -> np.ndarray:
    """f of every window of w values; NaN before the first."""
    out = np.full(len(x), np.nan)
    for i in range(w - 1, len(x)):
        out[i] = f(x[i - w + 1 : i + 1])
    return out


def lagged(x: np.ndarray, n: int) -> np.ndarray:
    out = np.full(len(x), np.nan)
    out[n:] = x[: len(x) - n]
    return out


def ema(x: np.ndarray, alpha: float, memory: int) -> np.ndarray:
    """The finite-memory average from its weights, term by term."""
    weights = (1 - alpha) ** np.arange(memory)[::-1]
    out = rolling(x, memory, lambda v: float(v @ weights / weights.sum()))
    out[: memory + int(np.isnan(x).sum())] = np.nan  # one row more than the memory
    return out
