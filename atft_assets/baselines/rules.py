"""One-line rules: nothing is fitted, each reads returns that were known on the day."""

from collections.abc import Callable

import numpy as np

from atft_assets.baselines.config import BaselineConfig
from atft_assets.baselines.fitted import Fitted
from atft_assets.scoring.trailing import Floats, trailing_return, trailing_volatility
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel

REVERSAL_DAYS = 5
VOLATILITY_DAYS = 20
MOMENTUM_DAYS, MOMENTUM_SKIPPED = 240, 20  # a year, without its last month


def reversal(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """Buy what fell over the last week (Lehmann 1990); the same score for every horizon."""
    return _rule(lambda returns, days: -trailing_return(returns, days, REVERSAL_DAYS), days=REVERSAL_DAYS)


def low_volatility(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """Buy what moves least (Ang, Hodrick, Xing & Zhang 2006); the same score for every horizon."""
    return _rule(lambda returns, days: -trailing_volatility(returns, days, VOLATILITY_DAYS), days=VOLATILITY_DAYS)


def momentum(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """Buy what rose over the year before the last month (Jegadeesh & Titman 1993); the same score for every horizon."""
    return _rule(momentum_return, days=MOMENTUM_DAYS, skipped=MOMENTUM_SKIPPED)


def momentum_return(one_day_returns: Floats, days: range) -> Floats:
    """Compound return from 240 to 20 days ago.

    Args:
        one_day_returns: [T,N]; row t is the return from t to t+1, known on day t+1. NaN: the name did not trade, and
            that day's move is left out.
        days: rows of the answer.

    Returns:
        [len(days),N]; NaN where less than half of the returns are known, or the panel begins later.
    """
    first = max(days.start - MOMENTUM_DAYS, 0)
    past = one_day_returns[first : days.stop].astype(np.float64)
    known = np.isfinite(past) & (past > -1)
    start = np.zeros((1, past.shape[1]))
    total = np.vstack([start, np.cumsum(np.log1p(np.where(known, past, 0)), axis=0)])
    count = np.vstack([start, np.cumsum(known, axis=0)])
    rows = []
    for t in days:
        a, b = t - MOMENTUM_DAYS - first, t - MOMENTUM_SKIPPED - first
        enough = (count[b] - count[a] >= (b - a) / 2) if a >= 0 else np.zeros(past.shape[1], bool)
        rows.append(np.where(enough, np.expm1(total[b] - total[max(a, 0)]), np.nan))
    return np.stack(rows)


def _rule(score: Callable[[Floats, range], Floats], **facts: int) -> Fitted:
    def predict(panel: Panel, days: range) -> Floats:
        one = score(panel.one_day_returns, days)
        # a name without enough history is judged like the day's middle, so that all are judged on the same rows
        known = np.where(np.isfinite(one), one, np.nan)
        middle = np.array([np.nanmedian(row) if np.isfinite(row).any() else 0.0 for row in known])
        one = np.where(np.isfinite(one), one, middle[:, None])
        return np.broadcast_to(one, (len(panel.horizons), *one.shape)).astype(np.float32)

    return Fitted(predict, dict(facts))
