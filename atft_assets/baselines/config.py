"""What a person may say about the baselines; Dagster's launchpad shows it with these descriptions."""

import dagster as dg
from pydantic import Field

from atft_assets.settings import Settings

TREES, SANDBOX_TREES = 800, 60
SANDBOX_SETTINGS = 1


class BaselineConfig(dg.Config):
    """How the baselines are fitted."""

    seed: int = Field(0, description="Seed of LightGBM's sampling of rows and columns.")
    trees: int | None = Field(
        None,
        ge=1,
        description="Trees at most of LightGBM, a horizon. How many are grown is chosen on the newest part of the "
        f"train block. By default {TREES}, on the sandbox {SANDBOX_TREES}.",
    )
    settings: int | None = Field(
        None,
        ge=0,
        description="How many of LightGBM's settings (learning rate, leaves) are tried on the newest part of the train "
        "block: the first ones of `atft_assets.baselines.trees.SETTINGS`; 0: no search, `trees` trees of the first. By "
        f"default all, on the sandbox {SANDBOX_SETTINGS}.",
    )
    rows: int = Field(
        20_000_000,
        ge=1,
        description="Rows at most that LightGBM learns from; days are thinned evenly to stay below, and the metadata "
        "say so. A row needs two bytes a feature and some beside: 2 GB for 2,450 days, 2,500 names and 149 features.",
    )
    lambdarank: bool = Field(False, description="Fit LightGBM's ranking objective as well: four to six times the time.")
    threads: int = Field(
        0,
        description="Threads of LightGBM; 0: all, or one where the data are small: threads that wait for each other on "
        "a busy machine then cost many times what they save.",
    )


def for_source(config: BaselineConfig, settings: Settings) -> BaselineConfig:
    """The config with what depends on the source filled in: a short search on the sandbox, the whole one elsewhere."""
    changes: dict[str, object] = {}
    if config.trees is None:
        changes["trees"] = SANDBOX_TREES if settings.sandbox else TREES
    if config.settings is None and settings.sandbox:
        changes["settings"] = SANDBOX_SETTINGS
    return config.model_copy(update=changes)
