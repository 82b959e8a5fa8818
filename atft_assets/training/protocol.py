"""What any place must do where trainings run: `TrainingLauncher`, of which the resource `launcher` is one.

`LocalLauncher` does it on this machine, `RayLauncher` on a cluster. The assets know neither: they take whatever stands
under the key `launcher`, and say in a request what is to be done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

from atft_model.interchange.request import PredictRequest, TrainRequest

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """How trainings share this machine: so many run at a time, each with so many CPU threads."""

    at_a_time: int
    threads: int


class TrainingFailed(Exception):
    """The process ended without success.

    Attributes:
        exit_code: as the process gave it; negative is the signal that killed it.
        stderr: its last lines.
    """

    def __init__(self, message: str, exit_code: int, stderr: str):
        super().__init__(message)
        self.exit_code, self.stderr = exit_code, stderr


def unheard(*_: Any) -> None:
    """Listens to no message."""


class TrainingLauncher(Protocol):
    """Where training runs."""

    def train(
        self,
        context: dg.AssetExecutionContext,
        request: TrainRequest,
        on_message: Callable[[Message], None] = unheard,
    ) -> None:
        """Train one phase; returns when `request.out` holds a finished run.

        Args:
            on_message: given each custom message (an epoch's metrics) while the training goes on.

        Raises:
            TrainingFailed: it ended otherwise; the text says why and what to do.
        """
        ...

    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None:
        """Score days of a panel with the request's finished runs; returns when every `out` holds the scores.

        Raises:
            TrainingFailed: it did not work out.
        """
        ...

    def fan_out(
        self,
        context: dg.AssetExecutionContext,
        requests: Sequence[TrainRequest],
        on_message: Callable[[TrainRequest, Message], None] = unheard,
    ) -> list[TrainingFailed | None]:
        """Train many phases that do not wait for each other, as many at a time as the place has room for.

        Each attempt writes a directory of its own, and what it wrote moves into `request.out` when it has ended. One
        that fails leaves the others alone.

        Args:
            requests: they begin in this order; no two have the same `out`.
            on_message: given each custom message with the request that it is of.

        Returns:
            In the order of the requests: None where `out` holds a finished run, else why not.
        """
        ...

    def cancel(self, dagster_run_id: str) -> list[str]:
        """End every training that a Dagster run has started and left behind; a sentence for each that was told to stop.

        From any process: the one that started them may be gone.
        """
        ...

    def share(self, count: int) -> Share | None:
        """How so many trainings of one step would share this machine; None: they run elsewhere."""
        ...
