"""The space that is searched: knobs of network, training and curriculum, each with bounds or choices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from atft_model.interchange.config import ModelConfig, PhaseChanges, Preset, TrainConfig, changed
from atft_model.interchange.errors import ConfigError
from atft_model.interchange.records import from_plain

if TYPE_CHECKING:
    import optuna

PARTS: Mapping[str, type] = {"network": ModelConfig, "training": TrainConfig, "curriculum": PhaseChanges}
Knobs = dict[str, dict[str, Any]]  # part -> knob -> value


@dataclass(frozen=True)
class Dimension:
    """One knob that is searched: an interval, or a list of choices.

    Attributes:
        low, high: ends of the interval, both included; whole numbers where both are.
        log: whether factors count rather than differences.
        choices: values to choose from, in place of an interval.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.choices) == (self.low is not None and self.high is not None) or (self.low is None) != (
            self.high is None
        ):
            raise ConfigError("give either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low is None or self.low <= 0):
            raise ConfigError("log needs an interval above 0")

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values at which the knob is tried before the search begins."""
        return self.choices or (self._typed(self.low), self._typed(self.high))

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the dimension."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high  # type: ignore[operator]

    def suggest(self, trial: "optuna.Trial", name: str) -> Any:
        """The trial's value."""
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        assert self.low is not None and self.high is not None
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, float(self.low), float(self.high), log=self.log)

    def as_json(self) -> dict[str, Any]:
        """What a study remembers of it."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log}

    def _typed(self, value: float | None) -> Any:
        return value if value is None or self.whole else float(value)


# The knobs that decide most in networks of this kind; a space of one's own goes into the config `space`.
DEFAULT: Mapping[str, Dimension] = {
    "training.learning_rate": Dimension(3e-4, 1e-2, log=True),
    "training.weight_decay": Dimension(1e-3, 3e-1, log=True),
    "network.dropout": Dimension(0.05, 0.5),
    "network.hidden_size": Dimension(choices=(16, 32, 64)),
}


def value_of(text: str) -> Any:
    """A choice as the launchpad gives it, a text: what is JSON is taken as such."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def knobs_of(values: Mapping[str, Any]) -> Knobs:
    """Values by dotted name, sorted into the parts of a request."""
    knobs: Knobs = {part: {} for part in PARTS}
    for name, value in values.items():
        part, _, knob = name.partition(".")
        knobs[part][knob] = value
    return knobs


def check_space(space: Mapping[str, Dimension], base: Preset) -> None:
    """Refuse a knob that does not exist, and ends that no network can have.

    Raises:
        ConfigError: it names the knob and what there is.
    """
    if not space:
        raise ConfigError("the space has no knob: leave it out for the default one")
    for name, dimension in space.items():
        part, _, knob = name.partition(".")
        known = {field.name for field in fields(PARTS[part])} if part in PARTS else set()
        if knob not in known:
            there = f"{part} has {', '.join(sorted(known))}" if known else f"begin with one of {', '.join(PARTS)}"
            raise ConfigError(f"there is no knob {name!r} to search: {there}")
        for value in dimension.ends:
            knobs = knobs_of({name: value})
            try:
                changed(base, knobs["network"], knobs["training"])
                from_plain(PhaseChanges, knobs["curriculum"], "the curriculum", ConfigError)
            except ConfigError as error:
                raise ConfigError(f"{name} cannot be {value}: {error}") from error


def starting_point(space: Mapping[str, Dimension], base: Preset) -> dict[str, Any] | None:
    """What the preset itself has of the searched knobs; None if it lies outside, or leaves a knob to the curriculum."""
    values = {}
    for name, dimension in space.items():
        part, _, knob = name.partition(".")
        if part == "curriculum":
            return None
        value = getattr(base.model if part == "network" else base.train, knob)
        if not dimension.contains(value):
            return None
        values[name] = value
    return values
