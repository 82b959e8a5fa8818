"""The launchpad offers every knob of network, training and curriculum, and the trainer gets what was chosen."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from atft_assets.training.phase_config import PhaseConfig, form
from atft_model.interchange.config import PRESETS, LossWeights, ModelConfig, PhaseChanges, TrainConfig, changed
from atft_model.interchange.records import choices_of, doc_of, entry
from tests.training.small_market import World


def inner(kind: Any) -> Any:
    return getattr(kind, "inner_type", kind)


@pytest.fixture
def shown(world: World) -> dict[str, Any]:
    """The fields of the config form of `train_phase0`, as Dagster has them."""
    return dict(world.phase_assets()[0].op.config_schema.config_type.fields)


@pytest.mark.parametrize(
    ("part", "record"), [("network", ModelConfig), ("training", TrainConfig), ("curriculum", PhaseChanges)]
)
def test_every_knob_is_there_with_its_description(shown: dict[str, Any], part: str, record: type) -> None:
    columns = inner(shown[part].config_type).fields
    assert set(columns) == {field.name for field in fields(record)}
    for field in fields(record):
        assert columns[field.name].description.startswith(doc_of(field)), field.name
        assert "efault" in columns[field.name].description
        assert not columns[field.name].is_required


def test_a_description_names_the_default_of_each_preset(shown: dict[str, Any]) -> None:
    columns = inner(shown["network"].config_type).fields
    said = columns["hidden_size"].description
    assert all(f"{name} {preset.model.hidden_size}" in said for name, preset in PRESETS.items())
    assert columns["fan_windows"].description.endswith("Default: [5, 10, 20]")


def test_what_may_only_be_some_values_is_an_enum(shown: dict[str, Any]) -> None:
    def offered(field: Any) -> list[str]:
        return [value.config_value for value in inner(field.config_type).enum_values]

    assert offered(shown["preset"]) == list(PRESETS)
    assert offered(shown["device"]) == ["auto", "cpu", "cuda"] and shown["device"].default_value == "auto"
    assert offered(shown["mode"]) == ["safe", "optimized"]
    network = inner(shown["network"].config_type).fields
    hints = ModelConfig.__annotations__
    enums = [name for name, hint in hints.items() if choices_of(hint)]
    assert enums and all(offered(network[name]) == list(choices_of(hints[name])) for name in enums)
    losses = inner(inner(shown["curriculum"].config_type).fields["losses"].config_type).fields
    assert set(losses) == {field.name for field in fields(LossWeights)}


def test_the_rest_of_the_form(shown: dict[str, Any]) -> None:
    named = {
        "preset",
        "seed",
        "seeds",
        "n_seeds",
        "device",
        "mode",
        "max_seconds",
        "telemetry_seconds",
        "resume_run",
        "import_run",
        "allow_ephemeral_instance",
    }
    assert set(shown) == {*named, "network", "training", "curriculum"}
    assert all(field.description for field in shown.values())


def test_a_new_knob_appears_by_itself() -> None:
    @dataclass(frozen=True)
    class Wider(ModelConfig):
        experts: int = entry("Experts of the feed-forward block", 1)

    made = form("Wider", Wider, doc_of)
    assert made.model_fields["experts"].description == "Experts of the feed-forward block"
    assert made(experts=4).model_dump(exclude_none=True) == {"experts": 4}


def test_what_is_chosen_reaches_the_request() -> None:
    config = {
        "preset": "cpu",
        "seed": 5,
        "telemetry_seconds": 0.5,
        "network": {"dropout": 0.2, "fan_windows": [5, 20], "gat_backend": "pyg"},
        "training": {"learning_rate": 2.0e-3, "betas": [0.9, 0.95]},
        "curriculum": {"epochs": 2, "losses": {"sharpe": 0.0}},
    }
    seen = []

    @dg.asset
    def phase(config: PhaseConfig) -> None:
        seen.append(config.request())

    assert dg.materialize([phase], run_config={"ops": {"phase": {"config": config}}}).success
    (request,) = seen
    assert request.pop("curriculum") == PhaseChanges(epochs=2, losses={"sharpe": 0.0})
    assert request == {
        **{name: config[name] for name in ("preset", "seed", "network", "training")},
        "n_seeds": 1,
        "device": "auto",
        "mode": "safe",
        "telemetry_seconds": 0.5,
        "resume": False,
    }
    assert PhaseConfig().request() == {
        "seed": 0,
        "n_seeds": 1,
        "device": "auto",
        "mode": "safe",
        "network": {},
        "training": {},
        "curriculum": PhaseChanges(),
        "telemetry_seconds": 1.0,
        "resume": False,
    }


@pytest.mark.parametrize(
    "config", [{"network": {"hidden": 3}}, {"preset": "huge"}, {"curriculum": {"losses": {"mse": 1.0}}}]
)
def test_what_does_not_exist_is_refused_by_the_launchpad(config: dict[str, Any]) -> None:
    @dg.asset
    def phase(config: PhaseConfig) -> None: ...

    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.materialize([phase], run_config={"ops": {"phase": {"config": config}}})


PAGES = ("README.md", "README.ja.md", "docs/model.md")
EXAMPLES = [
    (page, asset, op["config"])
    for page in PAGES
    for block in re.findall(r"^```yaml\n(.*?)^```", (Path(__file__).parents[2] / page).read_text(), re.S | re.M)
    for asset, op in yaml.safe_load(block).get("ops", {}).items()
    if asset.startswith("train_phase")
]


def test_the_pages_have_examples() -> None:
    assert {page for page, _, _ in EXAMPLES} == set(PAGES)


@pytest.mark.parametrize(("page", "asset", "config"), EXAMPLES)
def test_an_example_of_a_page_is_accepted(shown: dict[str, Any], page: str, asset: str, config: dict[str, Any]) -> None:
    """By the form of the launchpad, and by the records that the trainer makes of it."""
    assert dg.validate_run_config(_job_of(shown), {"ops": {"phase": {"config": config}}})
    request = PhaseConfig(**config).request()
    asked = changed(PRESETS[request.get("preset", "cpu")], request.get("network", {}), request.get("training", {}))
    for knob, value in config.get("training", {}).items():
        assert getattr(asked.train, knob) == value, knob
    for name, value in config.get("curriculum", {}).items():
        assert getattr(request["curriculum"], name) == value, name


def _job_of(fields_of_form: dict[str, Any]) -> dg.JobDefinition:
    """A job whose only op has the config form of a phase."""

    @dg.op(name="phase", config_schema=fields_of_form)
    def phase(_: dg.OpExecutionContext) -> None:
        pass

    @dg.job(name="one_phase")
    def one_phase() -> None:
        phase()

    return one_phase
