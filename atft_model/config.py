"""Sizes and switches of the network and of one training run, as typed dataclasses, and the presets that name them.

A preset is the only way sizes get into a run; the resolved configuration is stored in `run.json`. `hidden_size` is
the one knob for capacity; `feature_size` (width of each feature's own embedding) is the second, which decides the
cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

HORIZON_WEIGHTS: Mapping[int, float] = {1: 1.0, 5: 0.8, 10: 0.6, 20: 0.4}
"""Weight of a horizon (trading days) in the losses and in the headline RankIC; normalised over the horizons in use."""


class ConfigError(ValueError):
    """A configuration that cannot be built: the message says which field and what is allowed."""


def horizon_weights(horizons: tuple[int, ...]) -> list[float]:
    """Normalised weights of `horizons`; a horizon that the table does not name gets the smallest weight."""
    raw = [HORIZON_WEIGHTS.get(h, min(HORIZON_WEIGHTS.values())) for h in horizons]
    return [w / sum(raw) for w in raw]


@dataclass(frozen=True)
class Switches:
    """Which optional modules take part in the computation. A module that is off is not computed at all."""

    fan: bool = True
    san: bool = True
    gat: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one network; together with the number of features and of horizons it fixes every shape."""

    hidden_size: int = 64  # H, width of every state after variable selection
    feature_size: int = 8  # d, width of each feature's own embedding
    context_size: int = 64  # width of the gated network that weighs the features
    lookback: int = 60  # L, days that a day's attention can see
    lstm_layers: int = 1
    attention_blocks: int = 1
    attention_heads: int = 4
    feed_forward: int = 4  # hidden width of the feed-forward block in multiples of H
    fan_windows: tuple[int, ...] = (5, 10, 20)
    san_slices: int = 3
    san_rank: int = 16
    gat_heads: tuple[int, ...] = (4, 2)
    gat_backend: Literal["dense", "pyg"] = "dense"
    fusion: Literal["seed", "highway"] = "seed"
    head_rank: int = 16
    quantiles: tuple[float, ...] = ()
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of attention_heads {self.attention_heads}"
            )
        for heads in self.gat_heads:
            if self.hidden_size % heads:
                raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of the GAT head count {heads}")
        if self.lookback < 2 or self.san_slices > self.lookback:
            raise ConfigError(f"lookback {self.lookback} must be at least 2 and at least san_slices {self.san_slices}")
        if self.gat_backend not in ("dense", "pyg"):
            raise ConfigError(f"gat_backend {self.gat_backend!r} is neither 'dense' nor 'pyg'")
        if self.fusion not in ("seed", "highway"):
            raise ConfigError(f"fusion {self.fusion!r} is neither 'seed' nor 'highway'")
        if list(self.quantiles) != sorted(set(self.quantiles)) or any(not 0 < q < 1 for q in self.quantiles):
            raise ConfigError(f"quantiles {self.quantiles} must increase strictly and lie inside (0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """How the days are grouped and optimised; the same in every mode, so that a mode never changes what is learned."""

    chunk_days: int = 8  # B, consecutive days that share one encoding; 1 is the exact mode
    chunks_per_step: int = 2  # G
    learning_rate: float = 1.0e-3  # of the first stage; stages multiply it
    weight_decay: float = 1.0e-2
    betas: tuple[float, float] = (0.9, 0.99)
    check_every: int = 25  # steps between two looks at the on-device flags


@dataclass(frozen=True)
class Preset:
    model: ModelConfig
    train: TrainConfig


PRESETS: Mapping[str, Preset] = {
    "demo": Preset(
        ModelConfig(hidden_size=16, feature_size=4, context_size=16, lookback=20, head_rank=8, dropout=0.3),
        TrainConfig(chunk_days=8, chunks_per_step=2, learning_rate=3.0e-3, weight_decay=0.1),
    ),
    # some hundreds of liquid names over ten years, all features: minutes an epoch on two cores
    "cpu": Preset(
        ModelConfig(hidden_size=16, feature_size=4, context_size=16, lookback=20, head_rank=8, dropout=0.4),
        TrainConfig(chunk_days=16, chunks_per_step=1, learning_rate=3.0e-3, weight_decay=0.1),
    ),
    "small": Preset(ModelConfig(), TrainConfig()),
    "seed64": Preset(ModelConfig(feature_size=64, lookback=20), TrainConfig()),
    "base": Preset(ModelConfig(hidden_size=128, feature_size=16), TrainConfig(learning_rate=7.0e-4)),
    "wide256": Preset(
        ModelConfig(hidden_size=256, feature_size=24, context_size=256, lstm_layers=2, attention_blocks=2),
        TrainConfig(learning_rate=5.0e-4),
    ),
}


def replace_fields(base: Preset, **overrides: Any) -> Preset:
    """`base` with fields of its two dataclasses replaced by name; an unknown field is an error."""
    of_model = {f.name for f in fields(ModelConfig)}
    of_train = {f.name for f in fields(TrainConfig)}
    if unknown := sorted(set(overrides) - of_model - of_train):
        raise ConfigError(f"no such configuration field: {', '.join(unknown)}")
    return Preset(
        replace(base.model, **{k: v for k, v in overrides.items() if k in of_model}),
        replace(base.train, **{k: v for k, v in overrides.items() if k in of_train}),
    )


def preset(name: str, **overrides: Any) -> Preset:
    """The preset `name`, with fields replaced."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return replace_fields(PRESETS[name], **overrides)


def to_json(config: Preset) -> dict[str, Any]:
    """A preset as plain JSON values (tuples become lists)."""
    return {part: {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
            for part, values in asdict(config).items()}  # fmt: skip


def from_json(document: Mapping[str, Any]) -> Preset:
    """Inverse of `to_json`; a field that this version does not know is an error, never ignored."""
    parts: dict[str, dict[str, Any]] = {}
    for part, cls in (("model", ModelConfig), ("train", TrainConfig)):
        values = dict(document[part])
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ConfigError(f"the stored {part} configuration has unknown fields: {', '.join(unknown)}")
        parts[part] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Preset(ModelConfig(**parts["model"]), TrainConfig(**parts["train"]))
