"""From scores to orders: exchange rules, market arrays, targets, fills, the ledger, and what a book earned.

Here belongs what is done with scores: the champion's scores of every evening and their gates, promotion, portfolio,
orders, back-test. Pure functions on NumPy arrays and Polars frames; assets wire them. No pandas, no torch. Money is
JPY, returns are decimals, a trading year has `TRADING_DAYS` days. Not here: how models are trained and judged
(`training`, `scoring`); `training` and this room know each other only through tables and runs.
"""

from collections.abc import Sequence

import dagster as dg

from atft_assets.settings import Settings
from atft_assets.trading import backtest_asset, orders_asset, portfolio_asset
from atft_assets.trading.days import TRADING_DAYS
from atft_assets.trading.promotion import promotion_asset
from atft_assets.trading.scores_asset import daily_scores_asset

__all__ = ["TRADING_DAYS", "definitions"]


def definitions(settings: Settings, boards: Sequence[str] = ("evaluation",)) -> dg.Definitions:
    """The room's assets; they need the resources `store` and `launcher`.

    Args:
        boards: assets whose boards say who may become champion: `evaluation`, and `walk_forward` where there are folds.
    """
    return dg.Definitions(
        assets=[
            promotion_asset(boards),
            daily_scores_asset(settings),
            portfolio_asset.portfolio_asset(settings),
            orders_asset.orders_asset(settings),
            backtest_asset.backtest_asset(settings, boards),
        ]
    )
