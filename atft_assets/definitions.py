"""The code location that Dagster loads (`DAGSTER_MODULE_NAME=atft_assets.definitions`)."""

from atft_assets.build import build_defs
from atft_assets.closing_words import refused_at_load
from atft_assets.dagster_private import rest_while_pools_are_full
from atft_assets.home import check_home
from atft_assets.settings import Settings

rest_while_pools_are_full()
with refused_at_load():
    settings = Settings.from_env()
    check_home(settings.data_root)
defs = build_defs(settings)
