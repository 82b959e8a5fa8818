"""Presets and knobs: what can be changed, and what is refused."""

import pytest

from atft_model.interchange.config import PRESETS, ModelConfig, TrainConfig, changed, preset, replace_fields
from atft_model.interchange.errors import ConfigError


def test_knobs_are_changed_by_name_over_a_preset() -> None:
    base = PRESETS["small"]
    new = changed(base, {"hidden_size": 32, "gat_heads": [4]}, {"learning_rate": 1})
    assert (new.model.hidden_size, new.model.gat_heads, new.train.learning_rate) == (32, (4,), 1.0)
    assert new.model.lookback == base.model.lookback and new.train.betas == base.train.betas
    assert changed(base, {}, {}) == base


@pytest.mark.parametrize(
    ("model", "train", "said"),
    [
        ({"hiden_size": 32}, {}, "the network's configuration has unknown fields: hiden_size"),
        ({"fusion": "both"}, {}, "fusion is 'both': use one of seed, highway"),
        ({"temporal_size": 30}, {}, "temporal_size 30 is not a multiple of attention_heads 4"),
        ({"hidden_size": 30}, {}, "hidden_size 30 is not a multiple of the GAT head count 4"),
        ({"newest_size": 0}, {}, "newest_size is 0: it must be at least 1"),
        ({"lookback": 1}, {}, "lookback 1 must be at least 2"),
        ({"quantiles": [0.9, 0.1]}, {}, "must increase strictly"),
        ({}, {"chunk_days": 0}, "chunk_days is 0: it must be at least 1"),
        ({}, {"learning_rate": 0}, "learning_rate is 0.0: it must be above 0"),
        ({}, {"names": -1}, "names is -1: it must be at least 0"),
        ({}, {"ema": 1.0}, "ema is 1.0: it must be at least 0 and below 1"),
        ({}, {"schedule": "linear"}, "schedule is 'linear': use one of constant, cosine"),
        ({}, {"keep": "first"}, "keep is 'first': use one of last, best"),
        ({}, {"horizon_weights": "all"}, "horizon_weights is 'all': use one of equal, project"),
        ({}, {"betas": [0.9]}, "betas must have 2 items"),
    ],
)
def test_what_cannot_be_built_is_refused(model: dict, train: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        changed(PRESETS["small"], model, train)


def test_fields_of_either_record_by_name() -> None:
    new = preset("demo", hidden_size=32, chunk_days=4)
    assert isinstance(new.model, ModelConfig) and isinstance(new.train, TrainConfig)
    assert (new.model.hidden_size, new.train.chunk_days) == (32, 4)
    with pytest.raises(ConfigError, match="no such configuration field: width"):
        replace_fields(new, width=3)
    with pytest.raises(ConfigError, match="there is no preset 'huge'"):
        preset("huge")
