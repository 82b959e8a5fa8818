"""What a perfect forecaster of the planted signals attains on a simulated market.

The drift is known in closed form: each component is a first-order autoregression times the name's volatility, so the
expected return over the next h days is its value today times (1 - phi^h) / (1 - phi).
"""

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from atft_assets.sandbox.market import Market
from atft_assets.sandbox.names import F64, ORDINARY
from atft_assets.sandbox.process import Bools


def expected_return(market: Market, horizon: int, component: str | None = None) -> F64:
    """Expected log return [days, names] over the next `horizon` trading days given the day's signals.

    Args:
        component: one of the market's `signals.components`; None for their sum.
    """
    total = np.zeros(market.alive.shape)
    for name in (component,) if component else market.signals.components:
        phi = market.signals.persistence[name]
        total += market.signals.of(name) * ((1 - phi**horizon) / (1 - phi))
    return total * market.names.vol


def oracle(market: Market, horizon: int) -> pl.DataFrame:
    """The oracle's scores: date, code, score, and the score of each component; one row for each traded bar."""
    scorable = _scorable(market)
    rows, columns = np.nonzero(scorable)
    scores = {"score": expected_return(market, horizon)}
    scores |= {name: expected_return(market, horizon, name) for name in market.signals.components}
    return pl.DataFrame(
        {"date": np.array(market.days, dtype="datetime64[D]")[rows], "code": np.array(market.names.code)[columns]}
        | {name: values[rows, columns] for name, values in scores.items()}
    ).sort("date", "code")


def oracle_scores(market: Market, horizons: Sequence[int], component: str | None = None) -> pl.DataFrame:
    """The oracle's scores, or those of one component, as every model's are stored: date, code, score_<h>d."""
    rows, columns = np.nonzero(_scorable(market))
    expected = {f"score_{h}d": expected_return(market, h, component)[rows, columns] for h in horizons}
    days = np.array(market.days, dtype="datetime64[D]")[rows]
    return (
        pl.DataFrame({"date": days, "code": np.array(market.names.code)[columns], **expected})
        .with_columns(pl.col("date").cast(pl.Date), pl.col("^score_.*$").cast(pl.Float32))
        .sort("date", "code")
    )


def forward_returns(market: Market, horizon: int) -> F64:
    """Close-to-close returns [days, names] over the next `horizon` trading days from the served prices; NaN unknown."""
    close = np.where(market.traded, market.ohlc[3], np.nan)
    cumulative = np.ones(close.shape)
    for day, name, factor in zip(market.event_day, market.event_name, market.event_factor, strict=True):
        cumulative[day:, name] *= factor
    close = close / cumulative
    out = np.full(close.shape, np.nan)
    if horizon < len(close):
        out[:-horizon] = close[horizon:] / close[:-horizon] - 1
    return out


def daily_rank_ic(scores: F64, returns: F64, where: Bools) -> F64:
    """Spearman correlation within each day [days]; NaN with fewer than 10 names or no variance."""
    out = np.full(len(scores), np.nan)
    for t in range(len(scores)):
        mask = where[t] & np.isfinite(returns[t]) & np.isfinite(scores[t])
        if mask.sum() >= 10 and np.ptp(scores[t, mask]) > 0 and np.ptp(returns[t, mask]) > 0:
            out[t] = np.corrcoef(_ranks(scores[t, mask]), _ranks(returns[t, mask]))[0, 1]
    return out


def oracle_rank_ic(
    market: Market, horizon: int, component: str | None = None, start: date | None = None, end: date | None = None
) -> float:
    """Mean daily rank correlation of the oracle (or of one component) with the realised returns between two dates."""
    lo, hi = market.row_range(start, end)
    ic = daily_rank_ic(expected_return(market, horizon, component), forward_returns(market, horizon), _scorable(market))
    known = ic[lo:hi][np.isfinite(ic[lo:hi])]
    return float(known.mean()) if len(known) else float("nan")


def _scorable(market: Market) -> Bools:
    return market.traded & (market.names.kind == ORDINARY)


def _ranks(values: F64) -> F64:
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values))
    return ranks
