"""What a back-test adds to the ledger of trials."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from atft_assets.trading.inference import moments
from atft_assets.trials.ledger import BACKTESTS, Trial
from atft_assets.trials.recipes import recipe_of


def backtest(name: str, scores: str, rule: Any, returns: ArrayLike) -> Trial:
    """A portfolio rule on some scores as a trial; give it to `trials.ledger.seen` before its figures are shown.

    The same rule at other costs, or on another capital, is the same trial: nobody chooses by those.

    Args:
        name: of the rule.
        scores: recipe of what scored, `Champion.recipe`.
        rule: the rule's fields, a record or a mapping.
        returns: daily returns at modelled cost, decimals [D].

    Raises:
        ValueError: they have no Sharpe ratio.
    """
    of = moments(returns)
    params: Mapping[str, Any] = rule if isinstance(rule, Mapping) else vars(rule)
    return Trial(
        study=BACKTESTS,
        number=name,
        recipe=recipe_of([BACKTESTS, scores, params]),
        params=dict(params),
        sharpe=of.sharpe,
        days=of.days,
    )
