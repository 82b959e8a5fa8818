"""A code location for the kill tests: one stage, the fake trainer, on the store that ATFT_DATA names."""

import os

import dagster as dg
from small_market import END, START, catalogue

from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.launcher import TrainingLauncher
from atft_assets.training.phases import PHASES, train_asset

root = os.environ["ATFT_DATA"]
settings = Settings(base_url="http://127.0.0.1:9/v2", plan=Plan.STANDARD, data_root=root, start=START, end=END)
defs = dg.Definitions(
    [train_asset(PHASES[0], settings, lambda name: catalogue(name)[1])],
    resources={
        "store": Store(root=root),
        "launcher": TrainingLauncher(module="fake_trainer", threads=1, interrupt_seconds=1.5, terminate_seconds=0.5),
    },
    executor=dg.in_process_executor,
)
