"""The curriculum: one factory over the four phases makes `train_phase0` … `train_phase3`, and the same for other folds.

A phase checks what it stands on, has its training done in another process (or takes in a run that was trained
elsewhere), judges what came back, and only then moves the pointer `latest` that the next phase starts from.
"""

from collections.abc import Callable, Iterator

import dagster as dg

from atft_assets.contracts import Event
from atft_assets.groups import TRAINING
from atft_assets.panel.asset import catalogued_on
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.lanes import MAIN_LANE, Lane
from atft_assets.training.making import Making
from atft_assets.training.phase_config import PhaseConfig
from atft_assets.training.protocol import TrainingLauncher
from atft_assets.training.verdicts import check_specs
from atft_model.interchange.phases import Phase, ancestors


def current_catalogue(plan: Plan) -> Callable[[str], str]:
    """What tells the hash of a named feature set as the code has it now, on a plan."""
    features_of = catalogued_on(plan)
    return lambda feature_set: features_of(feature_set)[1]


def phase_asset(
    phase: Phase,
    settings: Settings,
    catalogue: Callable[[str], str] | None = None,
    lane: Lane = MAIN_LANE,
) -> dg.AssetsDefinition:
    """The asset of one phase.

    Args:
        catalogue: the code's catalogue hash of a named feature set; default: that of the settings' plan.
        lane: the folds on which it is trained.
    """
    catalogue = catalogue or current_catalogue(settings.plan)
    asset = lane.phase(phase)
    parent_asset = lane.phase(ancestors(phase)[-1]) if phase.index else None
    where = "" if not lane.folds else " On a fold other than main."

    @dg.asset(
        name=asset,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET, *([parent_asset] if parent_asset else [])],
        check_specs=check_specs(asset, parent_asset),
        pool="gpu",
        op_tags={"atft/kind": "training"},
        tags={"atft/kind": "training"},
        kinds={"torch"},
        description=f"{phase.name}. Phase {phase.index} of the curriculum: {phase.what_is_on}.{where}",
        **lane.trained_together(settings.fans_out),
    )
    def train(
        context: dg.AssetExecutionContext, config: PhaseConfig, store: Store,
        launcher: dg.ResourceParam[TrainingLauncher],
    ) -> Iterator[Event]:  # fmt: skip
        making = Making(context, config, phase, lane, store, launcher, settings, catalogue)
        names = lane.fold_names(context)
        yield from making.one(names[0]) if len(names) == 1 else making.many(names)

    return train
