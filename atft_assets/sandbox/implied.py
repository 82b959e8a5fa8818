"""The state of implied volatility: it turns within weeks and months, and follows nothing that prices show."""

from datetime import date

import numpy as np

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.draws import F64, I64, turning

SCALES = (12, 30)  # trading days
PERSISTENCE = 0.96
DEVIATION = 0.85  # of the state over long times
USUAL = 20.0  # % a year
SPREAD = 0.28  # of its logarithm


def state(config: MarketConfig, places: I64) -> F64:
    """State on days given by their places in the trading calendar, about standard normal."""
    return turning(config.seed, "implied volatility", places, SCALES)


def level(config: MarketConfig, places: I64) -> F64:
    """Volatility at the money in thirty days, % a year."""
    out: F64 = USUAL * np.exp(SPREAD * state(config, places))
    return out


def known_state(config: MarketConfig, days: list[date]) -> F64:
    """[days] the state that the evening knows: that of the trading day before, whose options are out at 03:00."""
    return state(config, ordinals.place([day.toordinal() for day in days]) - 1) / DEVIATION
