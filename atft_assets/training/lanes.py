"""The same assets twice: for the fold `main`, unpartitioned, and for all other folds, a partition each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from atft_model.interchange.fold import MAIN
from atft_model.interchange.phases import Phase

BASELINES, EVALUATION, FOLD_SCORES, WALK_FORWARD = "baselines", "evaluation", "fold_scores", "walk_forward"


@dataclass(frozen=True)
class Lane:
    """Names and partitions of the assets of some folds.

    Attributes:
        folds: names of the folds, each a partition; empty for the lane of `main`.
    """

    folds: tuple[str, ...] = ()

    def phase(self, phase: Phase) -> str:
        """Asset of a phase: `train_phase2`, or `fold_phase2`."""
        return f"{'fold' if self.folds else 'train'}_{phase.key}"

    def asset(self, name: str) -> str:
        """Asset of baselines or evaluation."""
        return f"fold_{name}" if self.folds else name

    @property
    def partitioning(self) -> dict[str, Any]:
        """What `dg.asset` is told of partitions: a run a fold, for a run trains one network after the other."""
        if not self.folds:
            return {}
        return {
            "partitions_def": dg.StaticPartitionsDefinition(list(self.folds)),
            "backfill_policy": dg.BackfillPolicy.multi_run(1),
        }

    def trained_together(self, together: bool) -> dict[str, Any]:
        """What `dg.asset` is told of partitions where one run may train several folds at a time, as a fan-out.

        Args:
            together: the launcher has room for more than one training.
        """
        told = self.partitioning
        return {**told, "backfill_policy": dg.BackfillPolicy.single_run()} if told and together else told

    def fold_names(self, context: dg.AssetExecutionContext) -> list[str]:
        """Names of the folds of the running step: more than one only in a run over a range of partitions."""
        return list(context.partition_keys) if self.folds else [MAIN]

    def fold(self, context: dg.AssetExecutionContext) -> str:
        """Name of the fold of the running step."""
        return context.partition_key if self.folds else MAIN

    def command(self, assets: Sequence[str], fold: str) -> str:
        """The command that materializes assets of this lane."""
        partition = f" --partition {fold}" if self.folds else ""
        return f"dagster asset materialize --select {','.join(assets)}{partition}"


MAIN_LANE = Lane()


def lane_of(fold: str) -> Lane:
    """The lane in which a fold is trained."""
    return MAIN_LANE if fold == MAIN else Lane((fold,))


def in_partition(check: dg.AssetCheckResult, lane: Lane, fold: str) -> dg.AssetCheckResult:
    """The verdict with the partition that it is of: Dagster itself keeps one verdict for all partitions of an asset."""
    return check.with_metadata({**(check.metadata or {}), "partition": fold}) if lane.folds else check
