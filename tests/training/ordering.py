"""Trainings ordered from a launcher by a step of Dagster, as an asset orders them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets.training.protocol import TrainingFailed, TrainingLauncher
from atft_model.interchange.fold import MAIN
from atft_model.interchange.hashes import file_sha256
from atft_model.interchange.request import TrainRequest
from atft_model.interchange.run import CHECKPOINT, SCORES
from tests.training.small_market import World


@dataclass
class Order:
    """What became of some trainings.

    Attributes:
        ends: what the launcher gave back.
        heard: run and message, in the order in which they came.
    """

    ends: list[TrainingFailed | None] = field(default_factory=list)
    heard: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    run_id: str = ""

    @property
    def names(self) -> list[str]:
        """Runs in the order of their first message."""
        return list(dict.fromkeys(name for name, _ in self.heard))


def requests_of(world: World, *seeds: int, tag: str = "r", **knobs: Any) -> list[TrainRequest]:
    """A training of phase 0 a seed."""
    return [
        TrainRequest(
            panel=world.newest().folder,
            fold=world.fold(MAIN),
            phase=0,
            out=world.runs(0) / f"{tag}{seed}",
            seed=seed,
            device="cpu",
            **knobs,
        )
        for seed in seeds
    ]


def fan_out(
    launcher: TrainingLauncher,
    requests: Sequence[TrainRequest],
    instance: dg.DagsterInstance,
    order: Order | None = None,
) -> Order:
    """Have them trained at once."""
    order = order or Order()

    @dg.asset
    def ordered(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        order.run_id = context.run.run_id
        order.ends += launcher.fan_out(
            context, requests, lambda one, message: order.heard.append((one.out.name, message))
        )
        return dg.MaterializeResult()

    assert dg.materialize([ordered], instance=instance).success
    return order


def one_by_one(launcher: TrainingLauncher, requests: Sequence[TrainRequest], instance: dg.DagsterInstance) -> None:
    """Have them trained one after another, each by itself."""

    @dg.asset
    def ordered(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for request in requests:
            launcher.train(context, request)
        return dg.MaterializeResult()

    assert dg.materialize([ordered], instance=instance).success


def bits(run: Path) -> tuple[str, str]:
    """Hashes of checkpoint and scores."""
    return file_sha256(run / CHECKPOINT), file_sha256(run / SCORES)
