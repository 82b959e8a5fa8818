"""Drift that prices do not show: one part for each family of data beside them, on when its strength is above zero.

* *revision*: after a company revises a forecast, for months; seen in its statements alone (`fiscal.revisions`).
* *covering*: after reported short positions are closed (built up: downwards), for days; seen in the reports of
  positions alone (`shorts.covering`).
* *regime*: what rose lately goes on rising while foreigners buy, and turns while they sell. On average the recent
  return says nothing; the sign stands in the published flow of the week.
* *volatility*: volatile names earn while implied volatility is high, and lose while it is low. On average volatility
  says nothing; the state stands in the options, which are out the next morning.

Each is known on the evening of the day whose row holds it, moves the next day's return, and has about unit variance
times its strength in units of the name's residual volatility. What lasts for weeks shows in the returns behind it as
well, with the square of the strength: momentum finds a strong plant, and of one below about 0.06 it finds nothing.
"""

from dataclasses import replace
from datetime import date

import numpy as np

from atft_assets.sandbox import fiscal, flow, implied, shorts
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.names import F64, Names
from atft_assets.sandbox.process import F32, Signals

RECENT = 0.8  # daily weight of older days in the recent return whose sign the regime turns


def with_planted(signals: Signals, config: MarketConfig, names: Names, days: list[date], own: F32) -> Signals:
    """The signals with what the config plants besides; as they are where it plants nothing.

    Args:
        own: residual returns without drift [days, names] (`process.residuals`).
    """
    if not config.planted:
        return signals
    parts: dict[str, F32] = {}
    persistence = dict(signals.persistence)
    member = (names.cluster >= 0).astype(np.float32)
    for name, strength in config.planted.items():
        if name == "revision":
            state, persistence[name] = fiscal.revisions(config, names, days), fiscal.PERSISTENCE
        elif name == "covering":
            state, persistence[name] = shorts.covering(config, names, days), shorts.PERSISTENCE
        elif name == "regime":
            sign = flow.known_state(config, days).astype(np.float32)[:, None]
            state, persistence[name] = sign * recent(own), RECENT
        else:
            level = implied.known_state(config, days).astype(np.float32)[:, None]
            state, persistence[name] = level * volatile(names).astype(np.float32), implied.PERSISTENCE
        parts[name] = np.float32(strength) * np.clip(state, np.float32(-4), np.float32(4)) * member
    return replace(signals, planted=parts, persistence=persistence)


def recent(own: F32) -> F32:
    """Exponentially weighted past residual return [days, names] of unit variance, today's included."""
    out = np.zeros_like(own)
    weight = np.float32(np.sqrt(1 - RECENT**2))
    for t in range(len(own)):
        out[t] = weight * own[t] + (np.float32(RECENT) * out[t - 1] if t else 0)
    return out


def volatile(names: Names) -> F64:
    """[names] log volatility in standard deviations from that of the usual name."""
    out: F64 = np.clip(np.log(names.vol / 0.018) / 0.3, -2, 2)
    return out
