"""What may be searched, and what is refused with a sentence."""

from dataclasses import fields
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.hpo.space import DEFAULT, PARTS, Dimension, check_space, knobs_of, starting_point, value_of
from atft_model.interchange.config import PRESETS, changed
from atft_model.interchange.errors import ConfigError

BASE = PRESETS["demo"]


@pytest.mark.parametrize("name", PRESETS)
def test_the_default_space_fits_every_preset_and_every_point_of_it_is_a_network(name: str) -> None:
    check_space(DEFAULT, PRESETS[name])
    trial = optuna.trial.FixedTrial({knob: dimension.ends[0] for knob, dimension in DEFAULT.items()})
    knobs = knobs_of({knob: dimension.suggest(trial, knob) for knob, dimension in DEFAULT.items()})
    changed(PRESETS[name], knobs["network"], knobs["training"])


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "no knob"),
        ({"network.dropuot": Dimension(0.1, 0.2)}, r"no knob 'network\.dropuot'.*network has .*dropout"),
        ({"optimizer.rate": Dimension(0.1, 0.2)}, "begin with one of network, training, curriculum"),
        ({"network.hidden_size": Dimension(choices=(16, 30))}, r"network\.hidden_size cannot be 30"),
        ({"training.learning_rate": Dimension(-1.0, 0.2)}, r"training\.learning_rate cannot be -1\.0"),
        ({"curriculum.epochs": Dimension(choices=("many",))}, r"curriculum\.epochs cannot be many"),
    ],
)
def test_what_no_network_can_have_is_refused(space: dict[str, Dimension], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_space(space, BASE)


@pytest.mark.parametrize(
    "given",
    [{}, {"low": 1.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True},
     {"low": 0.0, "high": 1.0, "choices": (1,)}],
)  # fmt: skip
def test_a_dimension_is_an_interval_or_choices(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Dimension(**given)


def test_choices_of_the_launchpad_are_texts() -> None:
    assert [value_of(text) for text in ("16", "0.5", "[5, 10]", "true", "highway")] == [
        16,
        0.5,
        [5, 10],
        True,
        "highway",
    ]


@given(st.integers(1, 50), st.integers(1, 50))
def test_whole_numbers_stay_whole(low: int, width: int) -> None:
    dimension = Dimension(low, low + width)
    assert dimension.whole and all(isinstance(end, int) for end in dimension.ends)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    value = dimension.suggest(study.ask(), "x")
    assert isinstance(value, int) and dimension.contains(value)


def test_the_search_starts_from_the_preset_where_it_lies_in_the_space() -> None:
    space = {
        "training.learning_rate": Dimension(1e-4, 1e-2, log=True),
        "network.hidden_size": Dimension(choices=(16, 32)),
    }
    assert starting_point(space, BASE) == {
        "training.learning_rate": BASE.train.learning_rate, "network.hidden_size": BASE.model.hidden_size,
    }  # fmt: skip
    assert starting_point({**space, "network.dropout": Dimension(0.9, 0.95)}, BASE) is None
    assert starting_point({**space, "curriculum.epochs": Dimension(1, 3)}, BASE) is None


def test_knobs_go_to_the_part_that_has_them() -> None:
    assert knobs_of({"network.dropout": 0.1, "curriculum.epochs": 3}) == {
        "network": {"dropout": 0.1}, "training": {}, "curriculum": {"epochs": 3},
    }  # fmt: skip
    names = [field.name for kind in PARTS.values() for field in fields(kind)]
    assert len(names) == len(set(names)), "a knob of two parts would need its part in every table"
