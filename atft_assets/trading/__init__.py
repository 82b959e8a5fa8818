"""From scores to orders: exchange rules, market arrays, targets, fills, the ledger, and what a book earned.

Here belongs what is done with scores: the champion's scores of every evening and their gates, promotion, portfolio,
orders, back-test. Pure functions on NumPy arrays and Polars frames; assets wire them. No pandas, no torch. Money is
JPY, returns are decimals, a trading year has `TRADING_DAYS` days. Not here: how models are trained and judged
(`training`, `scoring`); `training` and this room know each other only through tables and runs.
"""

import dagster as dg

from atft_assets.settings import Settings

TRADING_DAYS = 245  # of a year of the Tokyo exchange; the one constant that annualises


def definitions(settings: Settings) -> dg.Definitions:
    """The room's assets; they need the resources `store` and `launcher`."""
    from atft_assets.trading.scores_asset import daily_scores_asset

    return dg.Definitions(assets=[daily_scores_asset(settings)])
