"""All baselines, a row each; a further one is a function and its row."""

from collections.abc import Mapping

from atft_assets.baselines.config import BaselineConfig
from atft_assets.baselines.fitted import Fit, Fitted
from atft_assets.baselines.ridge import ridge, ridge_liquid
from atft_assets.baselines.rules import low_volatility, momentum, reversal
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel

LIGHTGBM = "lightgbm"


def lightgbm(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """`trees.lightgbm`."""
    from atft_assets.baselines import trees  # 1 s to import

    return trees.lightgbm(panel, fold, config)


def lambdarank(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """`trees.lambdarank`; left out unless the config asks for it."""
    from atft_assets.baselines import trees

    return trees.lambdarank(panel, fold, config)


BASELINES: Mapping[str, Fit] = {
    "ridge": ridge,
    "ridge_liquid": ridge_liquid,
    LIGHTGBM: lightgbm,
    "reversal_5d": reversal,
    "low_volatility": low_volatility,
    "momentum_12_1": momentum,
}
OPTIONAL: Mapping[str, Fit] = {"lambdarank": lambdarank}


def chosen(config: BaselineConfig) -> dict[str, Fit]:
    """The baselines that a config asks for, in the order of the table."""
    return {**BASELINES, **({name: fit for name, fit in OPTIONAL.items() if getattr(config, name)})}
