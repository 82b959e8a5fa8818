"""A code location for the kill tests: one phase, the fake trainer, on the store that ATFT_DATA names."""

import os
import sys

import dagster as dg
from small_market import END, START, catalogue

from atft_assets.closing_words import refused_at_load
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.phases import phase_asset
from atft_assets.training.ray_launcher import RayLauncher
from atft_model.interchange.phases import PHASES

root = os.environ["ATFT_DATA"]
with refused_at_load():
    settings = Settings(base_url="http://127.0.0.1:9/v2", plan=Plan.STANDARD, data_root=root, start=START, end=END)
defs = dg.Definitions(
    [phase_asset(phase, settings, lambda name: catalogue(name)[1]) for phase in PHASES],
    resources={
        "store": Store(root=root),
        "launcher": RayLauncher(
            url=os.environ["ATFT_RAY_URL"],
            token_path=os.environ.get("ATFT_RAY_TOKEN_PATH", ""),
            module="fake_trainer",
            python=sys.executable,
            poll_seconds=0.2,
        )
        if "ATFT_RAY_URL" in os.environ
        else LocalLauncher(
            module="fake_trainer",
            threads=1,
            trainings=int(os.environ.get("ATFT_TRAININGS", "1")),
            interrupt_seconds=1.5,
            terminate_seconds=0.5,
        ),
    },
    executor=dg.in_process_executor,
)
