"""The curriculum as data: what each phase freezes, how fast each part learns, what it optimises.

Phase k starts from the kept weights of phase k-1. A new phase is a row in `interchange.phases.PHASES`, which says what
is on in it, and a row in ROWS here; nothing else decides what a phase does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from atft_model.interchange.config import LossWeights, PhaseChanges, Switches, TrainConfig
from atft_model.interchange.errors import ConfigError, RequestError
from atft_model.interchange.phases import PHASES, Phase
from atft_model.model import MODULES, TEMPORAL

RANKING_TERMS = ("rank_ic", "ic", "anchor")


@dataclass(frozen=True)
class PhasePlan:
    """What one phase of training does.

    Attributes:
        rate: multiplier of the preset's learning rate for module groups that `rates` does not name; 0 freezes a group.
        thaw: groups that stay frozen for the given number of first epochs.
        patience: epochs without a better validation RankIC that end the phase, where the best epoch is kept; 0: all
            epochs are run.
        warmup: share of the planned steps with a rising learning rate.
        clip: largest gradient norm.
        keep_parent: where the best epoch is kept, the parent's weights count as epoch 0; for a phase whose new modules,
            if any, start as identities.
    """

    epochs: int
    on: Switches = field(default_factory=Switches)  # of a phase: filled in from PHASES
    rate: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)
    thaw: Mapping[str, int] = field(default_factory=dict)
    patience: int = 0
    warmup: float = 0.1
    clip: float = 1.0
    keep_parent: bool = False
    losses: LossWeights = field(default_factory=LossWeights)
    phase: int = -1  # filled in from PHASES, with the name
    name: str = "Whole network"

    def __post_init__(self) -> None:
        if unknown := (set(self.rates) | set(self.thaw)) - set(MODULES):
            raise ConfigError(f"phase {self.name}: no such module group: {', '.join(sorted(unknown))}")
        limits = {
            "epochs": self.epochs >= 1, "rate": self.rate >= 0, "patience": self.patience >= 0,
            "warmup": 0 <= self.warmup <= 1, "clip": self.clip > 0,
        }  # fmt: skip
        allowed = {
            "epochs": "at least 1", "rate": "0 or more", "patience": "0 or more", "warmup": "between 0 and 1",
            "clip": "above 0",
        }  # fmt: skip
        for name, holds in limits.items():
            if not holds:
                raise ConfigError(f"curriculum.{name} is {getattr(self, name)}: it must be {allowed[name]}")
        if not any(getattr(self.losses, term) for term in RANKING_TERMS):
            raise ConfigError(
                f"curriculum.losses has no ranking term: one of {', '.join(RANKING_TERMS)} must have a weight"
            )

    def rate_of(self, module: str, epoch: int) -> float:
        """Multiplier of the learning rate of a module group in an epoch (1-based); 0 is frozen."""
        return 0.0 if epoch <= self.thaw.get(module, 0) else self.rates.get(module, self.rate)

    def frozen(self, epoch: int) -> tuple[str, ...]:
        """The module groups that do not learn in an epoch (1-based)."""
        return tuple(m for m in MODULES if self.rate_of(m, epoch) == 0.0)


RANKS = LossWeights(rank_ic=0.5, ic=0.0, sharpe=0.0, anchor=0.5)
"""The order of a day alone: a step of the newest row holds one day, and one day has no Sharpe ratio."""

ROWS = (
    PhasePlan(epochs=10, losses=RANKS),
    PhasePlan(
        epochs=7, keep_parent=True,
        rate=1.0, rates={"newest": 0.3, "head": 0.3, "fan": 10.0},
    ),
    PhasePlan(
        epochs=6,
        rate=0.2, rates={"gat": 3.0, "fusion": 2.0, "head": 1.0}, thaw=dict.fromkeys(("newest", *TEMPORAL), 1),
    ),
    PhasePlan(epochs=5, rate=0.1, warmup=0.0, clip=0.5, keep_parent=True),
)  # fmt: skip

WHOLE = PhasePlan(epochs=3, losses=LossWeights(anchor=0.2))
"""Everything on from the first step: what the comparison of sizes trains."""


def curriculum_of(phases: Sequence[Phase], rows: Sequence[PhasePlan]) -> tuple[PhasePlan, ...]:
    """The rows with index, name and modules of their phases; a phase without a row, or a row too many: ValueError."""
    return tuple(replace(row, phase=p.index, name=p.name, on=p.on) for p, row in zip(phases, rows, strict=True))


CURRICULUM = curriculum_of(PHASES, ROWS)


def phase_plan(phase: int, changes: PhaseChanges | None = None) -> PhasePlan:
    """The plan of a phase, with what a request changes of it.

    Raises:
        RequestError: there is no such phase.
        ConfigError: a value that the field cannot have, or a loss term that does not exist.
    """
    found = {plan.phase: plan for plan in CURRICULUM}
    if phase not in found:
        names = ", ".join(f"{plan.phase} ({plan.name})" for plan in CURRICULUM)
        raise RequestError(f"there is no phase {phase}; the phases are {names}")
    return changed_plan(found[phase], changes or PhaseChanges())


def changed_plan(plan: PhasePlan, changes: PhaseChanges) -> PhasePlan:
    """A plan with the fields that `changes` names replaced; of `losses`, the terms that it names.

    Raises:
        ConfigError: a value that the field cannot have, or a loss term that does not exist.
    """
    known = [term.name for term in fields(LossWeights)]
    terms = dict(changes.losses or {})
    if unknown := sorted(set(terms) - set(known)):
        raise ConfigError(f"curriculum.losses has unknown terms: {', '.join(unknown)}; it knows {', '.join(known)}")
    given = {f.name: getattr(changes, f.name) for f in fields(changes) if f.name != "losses"}
    return replace(plan, **{k: v for k, v in given.items() if v is not None}, losses=replace(plan.losses, **terms))


def check_patience(plan: PhasePlan, train: TrainConfig) -> None:
    """Refuse a phase that would keep the epoch after which validation told it to stop.

    Raises:
        ConfigError: it has a patience and keeps its last epoch.
    """
    if plan.patience and train.keep == "last":
        raise ConfigError(
            f"curriculum.patience is {plan.patience} and training.keep is last: an epoch that ends the phase because "
            "it is no better would be the one that is kept. Set training.keep to best, or the patience to 0"
        )


def first_with_graph(plans: Sequence[PhasePlan]) -> int:
    """Place among `plans` of the first phase that uses the graph: where the graph's controls branch off.

    Raises:
        ConfigError: none does.
    """
    for place, plan in enumerate(plans):
        if plan.on.gat:
            return place
    raise ConfigError("no phase of the curriculum switches graph attention on")
