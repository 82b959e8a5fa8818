"""The form of a phase in Dagster's launchpad: every knob of network, training and curriculum, from its own definition.

The records of `atft_model.interchange.config` say what each knob is called, what it means and what it may be. The form
is made of them: a knob that is added there appears here, with no other edit. What is left empty is the trainer's
default.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import Field as RecordField
from dataclasses import fields
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import dagster as dg
from pydantic import Field, create_model

from atft_model.interchange.config import PRESETS, LossWeights, ModelConfig, PhaseChanges, TrainConfig
from atft_model.interchange.errors import ConfigError
from atft_model.interchange.records import choices_of, doc_of, from_plain
from atft_model.interchange.request import TrainRequest


def form(
    name: str,
    record: type,
    describe: Callable[[RecordField[Any]], str],
    *,
    nested: Mapping[str, type[dg.Config]] | None = None,
) -> type[dg.Config]:
    """A config class with the fields of a record, all optional and empty.

    Args:
        describe: what the launchpad says of a field.
        nested: forms of fields that are records themselves.
    """
    hints = get_type_hints(record)
    columns: dict[str, Any] = {}
    for field in fields(record):
        kind = (nested or {}).get(field.name) or _kind(field.name, hints[field.name])
        columns[field.name] = (kind | None, Field(None, description=describe(field)))
    return create_model(name, __base__=dg.Config, __doc__=record.__doc__, **columns)


def _kind(name: str, hint: Any) -> Any:
    """The type of a field in a form: Dagster knows no literals and no tuples."""
    if choices := choices_of(hint):
        return _choice(name, choices)
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = [part for part in get_args(hint) if part is not type(None)]
        return _kind(name, inner)
    if get_origin(hint) is tuple:
        return list[get_args(hint)[0]]  # type: ignore[misc]
    return hint


def _choice(name: str, values: tuple[str, ...]) -> Any:
    """An enum of a field's values; the launchpad offers them."""
    return StrEnum(name.title().replace("_", ""), {value: value for value in values})


def _by_preset(part: str) -> Callable[[RecordField[Any]], str]:
    def describe(field: RecordField[Any]) -> str:
        values = {name: _shown(getattr(getattr(preset, part), field.name)) for name, preset in PRESETS.items()}
        same = len(set(values.values())) == 1
        default = next(iter(values.values())) if same else ", ".join(f"{k} {v}" for k, v in values.items())
        return f"{doc_of(field)}. Default{'' if same else ' by preset'}: {default}"

    return describe


def _shown(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _default_of_losses(field: RecordField[Any]) -> str:
    return f"{doc_of(field)}. Default: the curriculum's, in general {field.default}"


NetworkForm = form("NetworkForm", ModelConfig, _by_preset("model"))
TrainingForm = form("TrainingForm", TrainConfig, _by_preset("train"))
CurriculumForm = form(
    "CurriculumForm",
    PhaseChanges,
    lambda field: f"{doc_of(field)}. Default: what the curriculum says of the phase",
    nested={"losses": form("LossesForm", LossWeights, _default_of_losses)},
)


def _request_columns(*names: str) -> dict[str, Any]:
    """Fields of the request itself that a person may set, with their defaults there."""
    hints, columns = get_type_hints(TrainRequest), {}
    for field in fields(TrainRequest):
        if field.name in names:
            kind = _kind(field.name, hints[field.name])
            default = (
                field.default if field.default is None or not choices_of(hints[field.name]) else kind(field.default)
            )
            columns[field.name] = (kind | None if default is None else kind, Field(default, description=doc_of(field)))
    return columns


_Knobs: Any = create_model(
    "Knobs",
    __base__=dg.Config,
    **_request_columns("preset", "seed", "n_seeds", "device", "mode", "max_seconds", "telemetry_seconds"),
    network=(NetworkForm, Field(NetworkForm(), description="Sizes of the network that differ from the preset's")),
    training=(TrainingForm, Field(TrainingForm(), description="Knobs of the training that differ from the preset's")),
    curriculum=(
        CurriculumForm,
        Field(CurriculumForm(), description="What differs from the curriculum's row of the phase, e.g. {epochs: 2}"),
    ),
)


class Knobs(_Knobs):
    """What the trainer is told; what is not given is its own default for the phase."""

    def request(self) -> dict[str, Any]:
        """The fields of a `TrainRequest` that are set here.

        Raises:
            ConfigError: a knob of the curriculum that it does not have.
        """
        chosen = self.model_dump(mode="json", exclude_none=True, include=set(Knobs.model_fields))
        changes = from_plain(PhaseChanges, chosen.pop("curriculum"), "the config `curriculum`", ConfigError)
        return {**chosen, "curriculum": changes}


class PhaseConfig(Knobs):
    """How a phase is trained."""

    seeds: list[int] = Field(
        [],
        description="Seeds to train one after another, a run each; judged and used as the mean of their daily ranks. "
        "Default: `seed` alone, and those of the phase before where it was trained with several",
    )
    resume_run: str | None = Field(
        None,
        description="Id of an interrupted run of this phase that is to go on. It stands in the last lines of the "
        "interrupted run's log, and is the newest folder in <ATFT_DATA>/runs/<fold>/<phase>/",
    )
    import_run: str | None = Field(
        None,
        description="Directory of a finished run of this phase that was trained elsewhere: it is checked, copied and "
        "published in place of a training. No other setting goes with it",
    )
    allow_ephemeral_instance: bool = Field(False, description="Train although Dagster will forget the run")

    def beside_import(self) -> list[str]:
        """Settings that are given although nothing is trained."""
        default = PhaseConfig()
        names = set(PhaseConfig.model_fields) - {"import_run", "allow_ephemeral_instance"}
        return sorted(name for name in names if getattr(self, name) != getattr(default, name))

    def request(self) -> dict[str, Any]:
        """See `Knobs`."""
        return {**super().request(), "resume": self.resume_run is not None}
