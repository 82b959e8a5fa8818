"""The code location of the two weeks: the real one, live, whose J-Quants is the sandbox of the test.

The settings say that the real service is meant and no end, so what is on by itself for a user is on here. Waits for an
answer are short: how long they are is tested where they are made.
"""

import functools
import os
from unittest import mock

import dagster as dg

from atft_assets import raw
from atft_assets.build import build_defs
from atft_assets.dagster_private import rest_while_pools_are_full
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.settings import Settings

rest_while_pools_are_full()
settings = Settings.from_env()
jquants = JQuantsResource(
    api_key=dg.EnvVar("JQUANTS_API_KEY"), base_url=os.environ["ATFT_SERVER_OF_TESTS"], plan=settings.plan.value,
    requests_per_minute=0, attempts=3, first_wait=0.05,
)  # fmt: skip
with mock.patch.object(raw, "definitions", functools.partial(raw.definitions, waits=(0.1, 0.1))):
    defs = build_defs(settings, resource_overrides={"jquants": jquants})
