"""From features to judged checkpoints: graph, panel, the four training stages, baselines, evaluation.

Here belongs what prepares a training, starts it, judges it and compares it. Not here: the network and its training loop
(`atft_model`, another process), the computation of features (`features`), what is done with scores afterwards.
"""

import dagster as dg

from atft_assets.settings import Settings
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.graph import graph_asset
from atft_assets.training.launcher import TrainingLauncher
from atft_assets.training.panel import panel_asset
from atft_assets.training.phases import PHASES, train_asset
from atft_assets.training.scoreboard import evaluation_asset, test_evaluation_asset


def definitions(settings: Settings) -> dg.Definitions:
    """The room's assets, and the resource `launcher` that says where training runs."""
    return dg.Definitions(
        assets=[
            graph_asset(settings),
            panel_asset(settings),
            *(train_asset(spec, settings) for spec in PHASES),
            baselines_asset(),
            evaluation_asset(settings),
            test_evaluation_asset(settings),
        ],
        resources={"launcher": TrainingLauncher()},
    )
