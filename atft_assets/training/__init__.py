"""From a panel to judged checkpoints: folds, the four phases of the curriculum, baselines, evaluation.

Here belongs what prepares a training, starts it, judges it and compares it. Not here: the panel (`panel`), the network
and its training loop (`atft_model`, another process), how scores are judged (`scoring`), what is done with scores
afterwards.
"""

from collections.abc import Sequence

import dagster as dg

from atft_assets.settings import Settings
from atft_assets.training.ablation import ablation_asset
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.evaluation import evaluation_asset, test_evaluation_asset
from atft_assets.training.fold_scores import fold_scores_asset
from atft_assets.training.folds import FoldRow, fold_rows, folds_asset, other_folds
from atft_assets.training.lanes import MAIN_LANE
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.phases import phase_asset
from atft_assets.training.ray_launcher import RayLauncher
from atft_assets.training.runs_report import runs_report_asset
from atft_assets.training.walk_forward import walk_forward_asset
from atft_model.interchange.phases import PHASES

__all__ = ["FoldRow", "definitions"]


def launcher_of(settings: Settings) -> LocalLauncher | RayLauncher:
    """Where trainings run by these settings."""
    if settings.ray_url is None:
        return LocalLauncher(trainings=settings.trainings, lock_folder=settings.lock_folder)
    task = settings.ray_task
    return RayLauncher(
        url=settings.ray_url,
        token_path=settings.ray_token_path,
        cpus=task.cpus,
        gpus=task.gpus,
        lock_folder=settings.lock_folder,
    )


def definitions(settings: Settings, folds: Sequence[FoldRow] | None = None) -> dg.Definitions:
    """The room's assets, and the resource `launcher` that says where training runs.

    Args:
        folds: `main`, which `train_phase0` … `evaluation` are of, and further ones, of which `fold_phase0` …
            `fold_scores` have a partition each, and which `walk_forward` puts together; by default those of the
            settings.
    """
    rows = fold_rows(settings) if folds is None else folds
    others = other_folds(rows)
    return dg.Definitions(
        assets=[
            folds_asset(rows),
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
            ablation_asset(settings),
            *([fold_scores_asset(others), walk_forward_asset(settings, others, rows)] if others.folds else []),
            runs_report_asset([MAIN_LANE, *([others] if others.folds else [])]),
        ],
        resources={"launcher": launcher_of(settings)},
    )
