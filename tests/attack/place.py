"""The code location that is killed: the real one, which pauses where it is told to, so that a blow lands there.

`ATFT_ATTACK_PHASE` names the phase; at its point the process writes a file `struck-here` into `ATFT_DATA` and waits a
little. Nothing else differs from `atft_assets.definitions`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets.build import build_defs
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.panel import asset as panel_asset
from atft_assets.settings import Settings
from atft_assets.store import files, tables
from atft_assets.training import evaluation

MARK = "struck-here"
PAUSE_SECONDS = 2.0


def pausing(real: Callable[..., Any], applies: Callable[..., bool]) -> Callable[..., Any]:
    """The function, which waits for the blow the first time that it applies."""

    def paused(*args: Any, **kwargs: Any) -> Any:
        mark = Path(os.environ["ATFT_DATA"]) / MARK
        if applies(*args, **kwargs) and not mark.exists():
            mark.touch()
            time.sleep(PAUSE_SECONDS)
        return real(*args, **kwargs)

    return paused


def _of_features(path: object) -> bool:
    return "/features/" in str(path) or "/graph/" in str(path)


PHASE = os.environ.get("ATFT_ATTACK_PHASE", "")
if PHASE == "features":  # a month computed, and about to be staged
    tables.Table.stage = pausing(tables.Table.stage, lambda table, *_, **__: _of_features(table.folder))  # type: ignore[method-assign]
if PHASE == "publish":  # announced in the manifest, about to be renamed
    files.replace = pausing(files.replace, lambda _, target: _of_features(target) and str(target).endswith(".parquet"))
if PHASE == "panel":  # written, about to be renamed
    panel_asset.publish_panel = pausing(panel_asset.publish_panel, lambda *_: True)
if PHASE == "evaluation":  # about to gather what is judged
    evaluation.candidates = pausing(evaluation.candidates, lambda *_: True)

settings = Settings.from_env()
quick = JQuantsResource(
    api_key=dg.EnvVar("JQUANTS_API_KEY"), base_url=settings.base_url or "", plan=settings.plan.value,
    requests_per_minute=0, first_wait=0.01,
)  # fmt: skip
defs = build_defs(settings, resource_overrides={"jquants": quick})
