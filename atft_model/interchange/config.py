"""Sizes and knobs of the network and of its training, as typed records, and the presets that name them.

A preset is the only way sizes get into a run; single knobs are changed over it, and the resolved configuration is
stored in `run.json`. The same records make the form in Dagster's launchpad. `hidden_size` and `newest_size` are the
capacity of the newest row, `temporal_size` that of the sequences, which decides the cost of the phases that read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from atft_model.interchange.errors import ConfigError
from atft_model.interchange.records import entry, from_plain, to_plain

PresetName = Literal["demo", "cpu", "small", "seed64", "base", "wide256"]
Device = Literal["auto", "cpu", "cuda"]
Mode = Literal["safe", "optimized"]

DEVICE = "auto: a GPU if there is one"
MODE = "safe: deterministic, eager, float32; optimized: on a GPU compiled regions, bfloat16, TF32"


@dataclass(frozen=True)
class Switches:
    """Which optional modules take part beside the newest row. A module that is off is not computed at all."""

    temporal: bool = entry("Temporal encoder of the sequence inputs over the look-back", True)
    fan: bool = entry("Frequency-adaptive normalisation of the sequence inputs", True)
    san: bool = entry("Slice-adaptive normalisation of the encoder's newest state", True)
    gat: bool = entry("Graph attention and its fusion", True)

    def __post_init__(self) -> None:
        if not self.temporal and (self.fan or self.san):
            raise ConfigError("fan and san are parts of the temporal encoder: they are on only where `temporal` is")


NEWEST_ROW = Switches(temporal=False, fan=False, san=False, gat=False)
"""The newest row alone: neither sequences nor neighbours."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one network; together with the number of features and of horizons it fixes every shape."""

    newest_size: int = entry("Width of the first layer over the newest row, all features of the evening", 128)
    hidden_size: int = entry("Width C of a name's state: of the newest row, of the graph and of the heads", 64)
    temporal_size: int = entry("Width A of the temporal encoder", 32)
    feature_size: int = entry("Width E of each sequence input's own embedding", 8)
    context_size: int = entry("Width of the gated network that weighs the sequence inputs", 32)
    lookback: int = entry("Days L that a day's attention can see", 60)
    lstm_layers: int = entry("Layers of the LSTM", 1)
    attention_blocks: int = entry("Blocks of temporal self-attention", 1)
    attention_heads: int = entry("Heads of each; they divide temporal_size", 4)
    feed_forward: int = entry("Hidden width of the feed-forward block in multiples of temporal_size", 4)
    fan_windows: tuple[int, ...] = entry("Trailing windows of FAN, in days", (5, 10, 20))
    san_slices: int = entry("Slices into which SAN cuts the look-back", 3)
    san_rank: int = entry("Rank of SAN's map from slice statistics to scale and shift", 16)
    gat_heads: tuple[int, ...] = entry("Heads of each graph attention layer; each divides hidden_size", (4, 2))
    gat_backend: Literal["dense", "pyg"] = entry("dense: fixed tables; pyg: torch-geometric's GATv2Conv", "dense")
    fusion: Literal["seed", "highway"] = entry("How a name's own state and that of the graph are joined", "seed")
    head_rank: int = entry("Rank of the bounded path of each head", 16)
    quantiles: tuple[float, ...] = entry("Quantile levels that are forecast besides the score", ())
    dropout: float = entry("Share of values dropped in training", 0.2)

    def __post_init__(self) -> None:
        for name in ("newest_size", "hidden_size", "temporal_size", "feature_size", "context_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.temporal_size % self.attention_heads:
            raise ConfigError(
                f"temporal_size {self.temporal_size} is not a multiple of attention_heads {self.attention_heads}"
            )
        for heads in self.gat_heads:
            if self.hidden_size % heads:
                raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of the GAT head count {heads}")
        if self.lookback < 2 or self.san_slices > self.lookback:
            raise ConfigError(f"lookback {self.lookback} must be at least 2 and at least san_slices {self.san_slices}")
        for name, allowed in (("gat_backend", ("dense", "pyg")), ("fusion", ("seed", "highway"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: use one of {', '.join(allowed)}")
        if list(self.quantiles) != sorted(set(self.quantiles)) or any(not 0 < q < 1 for q in self.quantiles):
            raise ConfigError(f"quantiles {self.quantiles} must increase strictly and lie inside (0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """How the days are grouped and optimised; the same in every mode, so that a mode never changes what is learned."""

    names: int = entry("Names drawn at random of each chunk's eligible ones, anew in every step; 0: all", 1200)
    chunk_days: int = entry(
        "Consecutive days B whose sequences are encoded together; where no sequence is read a chunk is one day", 8
    )
    chunks_per_step: int = entry("Chunks G of one optimizer step", 1)
    learning_rate: float = entry("Of the first phase; phases multiply it", 1.0e-3)
    schedule: Literal["constant", "cosine"] = entry("Of the learning rate after the warm-up of each phase", "cosine")
    ema: float = entry("Decay per step of the averaged weights, which are evaluated and kept; 0: no average", 0.998)
    keep: Literal["last", "best"] = entry(
        "Epoch whose weights are kept: the last, or that with the best validation RankIC", "last"
    )
    horizon_weights: Literal["equal", "project"] = entry(
        "Weights of the horizons in the loss: equal, or those of the headline figure", "equal"
    )
    weight_decay: float = entry("Of matrices, not of gates, norms and biases", 1.0e-2)
    betas: tuple[float, float] = entry("Decay rates of AdamW's moments", (0.9, 0.99))
    check_every: int = entry("Steps between two looks at the flags on a GPU", 25)

    def __post_init__(self) -> None:
        for name, least in (("chunk_days", 1), ("chunks_per_step", 1), ("check_every", 1), ("names", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}: it must be above 0")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}: it must be at least 0 and below 1")
        choices = {
            "schedule": ("constant", "cosine"),
            "keep": ("last", "best"),
            "horizon_weights": ("equal", "project"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: use one of {', '.join(allowed)}")


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the loss; a term with weight 0 is not computed."""

    rank_ic: float = entry("1 - Pearson with the gaussianised rank of the market-excess return", 0.5)
    ic: float = entry("1 - Pearson with the winsorised robust z-score of the market-excess return", 0.3)
    sharpe: float = entry("Minus the Sharpe ratio of a long-short portfolio over the step's days", 0.1)
    anchor: float = entry("Squared error against the gaussianised rank: fixes the scale of the scores", 0.0)
    pinball: float = entry("Quantile loss, for networks that forecast quantiles", 0.0)
    turnover: float = entry("Mean |w_t - w_{t-1}|_1 inside a chunk", 0.0)


@dataclass(frozen=True)
class PhaseChanges:
    """What may be changed of a row of the curriculum; None keeps what the curriculum says."""

    epochs: int | None = entry("Epochs, at most where there is a patience", None)
    rate: float | None = entry("Multiplier of the learning rate, of modules without one of their own", None)
    patience: int | None = entry(
        "Epochs without a better validation figure that end the phase, where the best epoch is kept; 0: none does", None
    )
    warmup: float | None = entry("Share of the planned steps with a rising learning rate", None)
    clip: float | None = entry("Largest gradient norm", None)
    losses: Mapping[str, float] | None = entry("Weights of loss terms, by name (see LossWeights)", None)


@dataclass(frozen=True)
class Preset:
    """A network and how it is trained."""

    model: ModelConfig = entry("Architecture")
    train: TrainConfig = entry("Optimisation")


PRESETS: Mapping[str, Preset] = {
    # 200 simulated names, three years: one block of validation is all that can choose an epoch, and it is of the very
    # process that made the training days, so the best epoch of it is no accident of one year
    "demo": Preset(
        ModelConfig(
            newest_size=64, hidden_size=32, temporal_size=16, feature_size=4, context_size=16, lookback=20, head_rank=8
        ),
        TrainConfig(chunks_per_step=2, learning_rate=3.0e-3, weight_decay=0.1, keep="best"),
    ),
    # all names over ten years, all features, two cores: what the newest row needs, a narrow encoder beside it
    "cpu": Preset(
        ModelConfig(
            newest_size=256, temporal_size=16, feature_size=4, context_size=16, lookback=20, head_rank=8, dropout=0.1
        ),
        TrainConfig(),
    ),
    "small": Preset(ModelConfig(), TrainConfig()),
    # as many parameters as the predecessor's network, 1.55 million with its 99 features; most of them read sequences
    "seed64": Preset(ModelConfig(temporal_size=208, feature_size=64, lookback=20), TrainConfig()),
    "base": Preset(
        ModelConfig(newest_size=256, hidden_size=128, temporal_size=64, feature_size=16, context_size=64),
        TrainConfig(learning_rate=7.0e-4),
    ),
    "wide256": Preset(
        ModelConfig(
            newest_size=1024, hidden_size=256, temporal_size=288, feature_size=24, context_size=64, lstm_layers=2,
            attention_blocks=2,
        ),
        TrainConfig(learning_rate=5.0e-4),
    ),
}  # fmt: skip
assert tuple(PRESETS) == get_args(PresetName)


def changed(base: Preset, model: Mapping[str, Any], train: Mapping[str, Any]) -> Preset:
    """`base` with knobs of its two records replaced by name.

    Raises:
        ConfigError: a knob that does not exist, or a value that it cannot have.
    """
    return Preset(
        from_plain(
            ModelConfig, to_plain(base.model) | to_plain(dict(model)), "the network's configuration", ConfigError
        ),
        from_plain(
            TrainConfig, to_plain(base.train) | to_plain(dict(train)), "the training's configuration", ConfigError
        ),
    )


def replace_fields(base: Preset, **overrides: Any) -> Preset:
    """`base` with fields of either record replaced by name, for callers that need not know which one has them.

    Raises:
        ConfigError: neither has such a field.
    """
    of_model, of_train = ({f.name for f in fields(cls)} for cls in (ModelConfig, TrainConfig))
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


def knobs_apart(config: Mapping[str, Any], preset: Preset) -> list[tuple[str, str]]:
    """Knobs, as (part, knob), whose value in a resolved configuration is not the preset's, or that it lacks."""
    return [
        (part, knob)
        for part, knobs in to_plain(preset).items()
        for knob, value in knobs.items()
        if config.get(part, {}).get(knob) != value
    ]
