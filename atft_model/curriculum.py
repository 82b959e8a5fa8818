"""The curriculum as data: what each stage switches on, what it freezes, how fast each part learns, and what it
optimises.

Stage k starts from the best weights of stage k-1. `train.py` reads this table and nothing else decides what a stage
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from atft_model.config import Switches
from atft_model.losses import LossWeights
from atft_model.model import MODULES


@dataclass(frozen=True)
class Stage:
    """One phase of training.

    rates multiply the preset's learning rate per module group (absent: `rate`); a group at 0 is frozen. `thaw` holds
    groups that stay frozen for the given number of first epochs.
    """

    phase: int
    name: str
    on: Switches
    epochs: int
    rate: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)
    thaw: Mapping[str, int] = field(default_factory=dict)
    patience: int | None = None  # epochs without a better validation RankIC; None: all epochs are run
    warmup: float = 0.1  # share of the planned steps with a rising learning rate
    clip: float = 1.0  # largest gradient norm
    ema: float | None = None  # decay per step of the averaged weights that are evaluated and kept
    # the parent's weights count as epoch 0: for a stage whose new modules, if any, start as identities
    keep_parent: bool = False
    losses: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        if unknown := (set(self.rates) | set(self.thaw)) - set(MODULES):
            raise ValueError(f"stage {self.name}: no such module group: {', '.join(sorted(unknown))}")

    def rate_of(self, module: str, epoch: int) -> float:
        """Multiplier of the learning rate of a module group in an epoch (1-based); 0 is frozen."""
        return 0.0 if epoch <= self.thaw.get(module, 0) else self.rates.get(module, self.rate)

    def frozen(self, epoch: int) -> tuple[str, ...]:
        return tuple(m for m in MODULES if self.rate_of(m, epoch) == 0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


STAGES: tuple[Stage, ...] = (
    Stage(
        phase=0, name="Baseline", on=Switches(fan=False, san=False, gat=False), epochs=3,
        losses=LossWeights(anchor=0.2),
    ),
    Stage(
        phase=1, name="Adaptive Norm", on=Switches(fan=True, san=True, gat=False), epochs=7, patience=5,
        rate=0.3, rates={"fan": 10.0, "san": 0.5}, keep_parent=True,
    ),
    Stage(
        phase=2, name="GAT", on=Switches(fan=True, san=True, gat=True), epochs=6, patience=5,
        rate=0.2, rates={"gat": 3.0, "fusion": 2.0, "head": 1.0}, thaw={"fan": 1, "vsn": 1, "lstm": 1, "attention": 1},
    ),
    Stage(
        phase=3, name="Fine-tuning", on=Switches(fan=True, san=True, gat=True), epochs=5, patience=5,
        rate=0.1, warmup=0.0, clip=0.5, ema=0.98, keep_parent=True,
    ),
)  # fmt: skip

WHOLE = Stage(
    phase=-1, name="Whole network", on=Switches(fan=True, san=True, gat=True), epochs=3, losses=LossWeights(anchor=0.2)
)
"""Everything on from the first step: what the comparison of sizes trains."""


def stage(phase: int) -> Stage:
    """The stage of a phase 0..3; ValueError names the phases that exist."""
    for candidate in STAGES:
        if candidate.phase == phase:
            return candidate
    raise ValueError(f"there is no phase {phase}; the phases are {', '.join(f'{s.phase} ({s.name})' for s in STAGES)}")
