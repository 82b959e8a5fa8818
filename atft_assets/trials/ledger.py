"""`trials/trials.jsonl`: a line for every configuration whose validation or out-of-sample result somebody saw.

Trials of a search (the pruned ones too: they were given up because of what was seen), trainings, baselines, blends,
models without a family of features or with one more, back-tests of portfolio rules. A recipe stands there once, with
the study that saw it first: seen again, on newer days or by another study, it is no further try. So the number of lines
is the N of a deflated Sharpe ratio.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from atft_assets.store import Store
from atft_assets.store.lines import extend_lines, read_lines
from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.records import entry, from_plain, to_plain

FOLDER, FILE = "trials", "trials.jsonl"
TRAININGS, BASELINES, BLENDS, BACKTESTS = "trainings", "baselines", "blends", "backtests"
ABLATIONS = "ablations"

State = Literal["complete", "pruned"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried."""

    study: str = entry("Who saw it: the name of a search, or trainings, baselines, blends, ablations, backtests")
    number: str = entry("Its number or name within the study")
    recipe: str = entry("Hash of what was chosen; see `recipes`")
    state: State = entry("complete, or pruned: given up because of what was seen", "complete")
    params: Mapping[str, Any] = entry("What was chosen, as far as a person would ask", factory=dict)
    values: Mapping[str, float] = entry("What was seen: figures by fold or by name", factory=dict)
    sharpe: float | None = entry("Sharpe ratio a day, not annualised, of a back-test", None)
    days: int | None = entry("Days of that ratio", None)
    at: str = entry("When it was first seen, UTC", factory=_now)


@dataclass(frozen=True)
class Count:
    """How much was tried.

    Attributes:
        trials: distinct recipes: the N of a deflated Sharpe ratio.
        by_study: how many of them each study saw first.
        sharpes: Sharpe ratios a day of those that have one; V is their variance.
    """

    trials: int
    by_study: Mapping[str, int]
    sharpes: tuple[float, ...]


def root_of(store: Store) -> Path:
    """The data root as `seen` takes it; of a bucket the ledger alone is fetched."""
    return store.local(FOLDER).parent


def seen(root: Path, trials: Iterable[Trial]) -> int:
    """Set down what was tried, before anybody reads its figures; how many recipes are new.

    Args:
        root: the data root.

    Raises:
        RunError: the ledger is damaged.
    """
    given = list(trials)

    def new(entries: list[dict[str, Any]]) -> Iterable[Mapping[str, Any]]:
        known = {one.get("recipe") for one in entries}
        for trial in given:
            if trial.recipe not in known:
                known.add(trial.recipe)
                yield to_plain(trial)

    return len(extend_lines(root / FOLDER / FILE, new)) if given else 0


def all_trials(root: Path) -> list[Trial]:
    """Every trial, the oldest first.

    Raises:
        RunError: the ledger is damaged.
    """
    path = root / FOLDER / FILE
    try:
        return [
            from_plain(Trial, one, f"{path}: line {place + 1}", RunError) for place, one in enumerate(read_lines(path))
        ]
    except RunError as error:
        raise error if str(error).startswith(f"{path} is damaged") else RunError(damaged(path, error)) from error


def count(root: Path) -> Count:
    """How much was tried so far.

    Raises:
        RunError: the ledger is damaged.
    """
    trials = all_trials(root)
    sharpes = tuple(trial.sharpe for trial in trials if trial.sharpe is not None)
    return Count(len(trials), dict(Counter(trial.study for trial in trials)), sharpes)
