"""From a panel to judged checkpoints: folds, the four phases of the curriculum, baselines, evaluation.

Here belongs what prepares a training, starts it, judges it and compares it. Not here: the panel (`panel`), the network
and its training loop (`atft_model`, another process), how scores are judged (`scoring`), what is done with scores
afterwards.
"""

from collections.abc import Sequence

import dagster as dg

from atft_assets.settings import Settings
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.evaluation import evaluation_asset, test_evaluation_asset
from atft_assets.training.folds import FOLDS, FoldRow, folds_asset, other_folds
from atft_assets.training.lanes import MAIN_LANE
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.phases import phase_asset
from atft_assets.training.runs_report import runs_report_asset
from atft_model.interchange.phases import PHASES

__all__ = ["FOLDS", "FoldRow", "definitions"]


def definitions(settings: Settings, folds: Sequence[FoldRow] = FOLDS) -> dg.Definitions:
    """The room's assets, and the resource `launcher` that says where training runs.

    Args:
        folds: `main`, which `train_phase0` … `evaluation` are of, and further ones, of which `fold_phase0` …
            `fold_evaluation` have a partition each.
    """
    others = other_folds(folds)
    return dg.Definitions(
        assets=[
            folds_asset(folds),
            *(
                asset
                for lane in (MAIN_LANE, *([others] if others.folds else []))
                for asset in (
                    *(phase_asset(phase, settings, lane=lane) for phase in PHASES),
                    baselines_asset(settings, lane),
                    evaluation_asset(settings, lane),
                )
            ),
            test_evaluation_asset(settings),
            runs_report_asset([MAIN_LANE, *([others] if others.folds else [])]),
        ],
        resources={"launcher": LocalLauncher()},
    )
