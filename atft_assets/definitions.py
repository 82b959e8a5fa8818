"""The code location that Dagster loads (`DAGSTER_MODULE_NAME=atft_assets.definitions`)."""

from atft_assets.build import build_defs

defs = build_defs()
