"""The four phases of the curriculum, by the names that both sides and the users call them."""

from dataclasses import dataclass, field

from atft_model.interchange.config import NEWEST_ROW, Switches


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        index: its place; a phase starts from the kept weights of the one before.
        name: for people.
        what_is_on: what the phase adds, in a sentence.
        on: the modules that take part beside the newest row.
    """

    index: int
    name: str
    what_is_on: str
    on: Switches = field(default_factory=Switches)

    @property
    def key(self) -> str:
        """Its name in paths: `runs/<fold>/<key>/<run_id>`."""
        return f"phase{self.index}"


PHASES = (
    Phase(0, "Baseline", "the newest row of all features and the heads, from random weights", NEWEST_ROW),
    Phase(
        1,
        "Adaptive Norm",
        "the temporal encoder joins, with frequency- and slice-adaptive normalisation (FAN, SAN)",
        Switches(gat=False),
    ),
    Phase(2, "GAT", "graph attention over the correlation graph joins through the residual gate alpha"),
    Phase(3, "Fine-tuning", "everything, at a low learning rate"),
)


def ancestors(phase: Phase) -> tuple[Phase, ...]:
    """The phases before one, oldest first; it starts from the weights of the last."""
    return PHASES[: phase.index]
