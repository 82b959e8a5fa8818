"""What a person may say about a panel; Dagster's launchpad shows it with these descriptions."""

from datetime import date
from enum import StrEnum

import dagster as dg
from pydantic import Field

from atft_assets.failures import Refusal
from atft_assets.settings import Settings

# Three simulated years must hold three blocks and two gaps; waiting for the longest look-back would take one of them.
SANDBOX_WARM_UP_DAYS = 63

# Yen a day, beyond the sandbox. Below it the price at which a name can be had is not the price that a label is made of.
TURNOVER_FLOOR = 10_000_000


class NoDate(Refusal):
    """A config that should name a day does not."""


class FeatureSet(StrEnum):
    """Named sets of the catalogue."""

    core = "core"
    stock = "stock"
    full = "full"


class Label(StrEnum):
    """Which return is learned and judged."""

    y_cc = "y_cc"
    y_oo = "y_oo"


class Target(StrEnum):
    """What models are fitted to."""

    raw = "raw"
    neutral = "neutral"


class PanelConfig(dg.Config):
    """What goes into a panel. Which of its days are learned from is no matter of the panel: see the asset `folds`."""

    feature_set: FeatureSet | None = Field(
        None,
        description="core: few columns of every family; stock: a stock's own columns and the calendar; full: all. By "
        "default core on the sandbox, full elsewhere.",
    )
    start: str | None = Field(None, description="First day, YYYY-MM-DD; by default the first after the warm-up.")
    end: str | None = Field(None, description="Last day, YYYY-MM-DD; by default the newest of the universe.")
    warm_up_days: int | None = Field(
        None,
        description="Trading days from the first row of data to the panel's first day; by default the longest "
        f"look-back of the features, and on the sandbox {SANDBOX_WARM_UP_DAYS}. A feature that looks back further is "
        "missing (0) until it can.",
    )
    min_history: int = Field(60, description="Rows of a name in the universe before it is eligible.")
    most_liquid: int | None = Field(
        None,
        description="Only so many names are eligible in a calendar year: those whose median daily trading value was "
        "largest in the year before, as an index is reconstituted; by default all.",
    )
    turnover_floor: int | None = Field(
        None,
        ge=0,
        description="Yen: a name is eligible on a day only if it traded so much a day or more on average over its last "
        f"60 rows, that day's included. 0: no floor. By default 0 on the sandbox, {TURNOVER_FLOOR:,} elsewhere. It "
        "decides what is learned from and judged, not what a look-back window holds.",
    )
    label: Label | None = Field(
        None,
        description="Which return is learned and judged: from the close of the evening (y_cc, as in most papers), or "
        "from the next open to the open h days after it (y_oo), which somebody who reads the scores that evening can "
        "still have. By default y_cc on the sandbox, y_oo elsewhere.",
    )
    target: Target | None = Field(
        None,
        description="What models are fitted to: raw returns, or what is left of them (neutral) once sector and 20-day "
        "volatility are taken out of each day, which is what the neutral figures of the evaluation judge. By default "
        "raw on the sandbox, neutral elsewhere.",
    )
    min_names: int = Field(20, description="Least number of eligible names on half of the days.")


def with_defaults(config: PanelConfig, settings: Settings) -> PanelConfig:
    """The config with what depends on the source filled in: small and soon on the sandbox, everything that can be
    traded elsewhere.
    """
    changes: dict[str, object] = {}
    if config.feature_set is None:
        changes["feature_set"] = FeatureSet.core if settings.sandbox else FeatureSet.full
    if config.warm_up_days is None and settings.sandbox:
        changes["warm_up_days"] = SANDBOX_WARM_UP_DAYS
    if config.turnover_floor is None:
        changes["turnover_floor"] = 0 if settings.sandbox else TURNOVER_FLOOR
    if config.label is None:
        changes["label"] = Label.y_cc if settings.sandbox else Label.y_oo
    if config.target is None:
        changes["target"] = Target.raw if settings.sandbox else Target.neutral
    return config.model_copy(update=changes)


def day_setting(text: str | None, name: str) -> date | None:
    """The day that a config names; None where it names none.

    Raises:
        NoDate: it is no date.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NoDate(f"the config `{name}` is {text!r}: use YYYY-MM-DD") from None
