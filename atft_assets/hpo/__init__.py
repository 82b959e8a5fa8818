"""The search for knobs: many short curricula on development folds, remembered in one Optuna study.

What belongs here: the space, the study, one trial, the page of a study. Not here: how a phase is trained
(`training`), and any look at the test block of a fold: the search sees validation blocks that end before the last test
block begins.
"""

import dagster as dg

from atft_assets.hpo.asset import hpo_asset
from atft_assets.settings import Settings


def definitions(settings: Settings) -> dg.Definitions:
    """The asset `hpo`."""
    return dg.Definitions(assets=[hpo_asset(settings)])
